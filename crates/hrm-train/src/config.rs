//! Recipes: what a TOML file in `configs/` says, resolved with where every value came from.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use burn::tensor::backend::Backend;
use hrm_backend::MatmulPrecision;
use hrm_data::registry::Family;
use hrm_model::{
    Cycles, ForwardDtype, GatedUnit, InitState, Mixer, ModelConfig, PositionEncoding, RecurrenceKind,
    Structure, Tokens,
    loss::{LossKind, LossSettings},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

use crate::{
    optim::{AdamConfig, Decay, MuonConfig, ParamGroup, Rule},
    step::curriculum::{self, Stage},
    trainer::BestMetric,
};

/// A complete description of a training run. In every numeric field that says so, 0 means "off".
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Where puzzles come from.
    pub data: DataConfig,
    /// The architecture; vocabulary, sequence length and number of puzzles come from the data.
    pub model: ModelSection,
    /// Optimization.
    pub train: TrainConfig,
    /// Evaluation during training.
    pub eval: EvalConfig,
}

/// Where puzzles come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataSource {
    /// Made on the spot from the seed: all tasks but ARC.
    Generate,
    /// Sudoku and mazes: CSV of `source,question,answer,rating`, plain or gzipped.
    Csv,
    /// Killer, Samurai, queens: text, one puzzle a line.
    Text,
    /// ARC: a folder of JSON files, or one JSON file of tasks by name, plain or gzipped.
    Json,
    /// A folder in the reference's format.
    Dataset,
}

impl DataSource {
    /// As recipes write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Csv => "csv",
            Self::Text => "text",
            Self::Json => "json",
            Self::Dataset => "dataset",
        }
    }

    /// What a task can be read from.
    pub const fn of(task: Family) -> &'static [Self] {
        match task {
            Family::Sudoku | Family::Maze => &[Self::Generate, Self::Csv, Self::Dataset],
            Family::Killer | Family::Samurai | Family::Queens => &[Self::Generate, Self::Text, Self::Dataset],
            Family::Arc => &[Self::Json, Self::Dataset],
        }
    }
}

/// How mazes are generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MazeKind {
    /// As Maze-Hard: independent walls, ends at least `min_path` moves apart.
    Hard,
    /// As Maze-Unique: corridors with exactly one path, of `min_path` to `max_path` moves.
    Unique,
    /// Half of each.
    Mixed,
}

/// What to do about test puzzles that training puzzles give away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLeak {
    /// Stop with an error.
    Refuse,
    /// Leave the training puzzles out.
    Drop,
    /// Train on them all the same, as published results did.
    Allow,
}

/// Section `[data]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// What is trained: `sudoku`, `maze`, `arc`, `killer`, `samurai` or `queens`.
    pub task: Family,
    /// Kind of source.
    pub source: DataSource,
    /// `csv`, `text`, `json`: the training puzzles; `dataset`: the folder. ARC without one trains on the demonstrations of
    /// the evaluation tasks only.
    pub path: String,
    /// The puzzles to evaluate on; if empty, `csv` and `text` hold out `test_examples` of the training file, `dataset` takes
    /// the folder `test`. ARC needs one: the evaluation tasks.
    pub test_path: String,
    /// Further training puzzles: Sudoku CSV files of other difficulty, further ARC tasks.
    pub extra_paths: Vec<String>,
    /// The share of training rows that comes from each of `extra_paths`, above 0 and together below 1; the rest comes from
    /// `path`. Without shares, every puzzle of every file is as frequent as any other. Sudoku only.
    pub extra_shares: Vec<f64>,
    /// Sudoku: the share of training rows in which a random number of blanks, drawn uniformly, is filled in from the
    /// solution, anew each time.
    pub hint_prob: f64,
    /// Rows of a Sudoku or Killer box.
    pub box_rows: usize,
    /// Columns of a Sudoku or Killer box.
    pub box_cols: usize,
    /// Rows of a maze, of the queens' board, or of the canvas of ARC: at most 30, no grid may be larger.
    pub grid_rows: usize,
    /// Columns of a maze, of the queens' board, or of the canvas of ARC, which has as many as rows.
    pub grid_cols: usize,
    /// Puzzles to train on; 0 for all of the file.
    pub train_examples: usize,
    /// Puzzles to evaluate on; 0 for all of the file.
    pub test_examples: usize,
    /// `generate`, Sudoku and Samurai: fewest givens; 0 for minimal puzzles.
    pub min_clues: usize,
    /// `generate`, Sudoku and Samurai: most givens; 0 for minimal puzzles.
    pub max_clues: usize,
    /// `generate`, mazes: their kind.
    pub maze_kind: MazeKind,
    /// `generate`, mazes: fewest moves from start to goal.
    pub min_path: usize,
    /// `generate`, mazes with one path: most moves from start to goal.
    pub max_path: usize,
    /// `csv`, Sudoku: puzzles of `path` rated lower are left out.
    pub min_rating: u32,
    /// ARC: augmentations of each task, the task itself not counted.
    pub augmentations: usize,
    /// ARC: whether the demonstrations of the evaluation tasks are trained on.
    pub evaluation_demonstrations: bool,
    /// ARC: how many augmentations of each test vote, the test itself first; 0 for all.
    pub votes: usize,
    /// What to do if training puzzles give test puzzles away: `refuse`, `drop` or `allow`.
    pub on_leak: OnLeak,
    /// Seed of generation, of subset draws, and of the list of ARC augmentations.
    pub seed: u64,
    /// Whether training applies a random symmetry to each puzzle each time. ARC always does, as `augmentations` says.
    pub augment: bool,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            task: Family::Sudoku,
            source: DataSource::Generate,
            path: String::new(),
            test_path: String::new(),
            extra_paths: Vec::new(),
            extra_shares: Vec::new(),
            hint_prob: 0.0,
            box_rows: 3,
            box_cols: 3,
            grid_rows: 30,
            grid_cols: 30,
            train_examples: 1000,
            test_examples: 500,
            min_clues: 0,
            max_clues: 0,
            maze_kind: MazeKind::Hard,
            min_path: 109,
            max_path: 140,
            min_rating: 0,
            augmentations: 1000,
            evaluation_demonstrations: true,
            votes: 0,
            on_leak: OnLeak::Refuse,
            seed: 42,
            augment: true,
        }
    }
}

impl DataConfig {
    /// The key at fault, its value, and what would be valid. Options that the task would ignore are at fault too.
    fn validate(&self) -> Result<(), (&'static str, String, String)> {
        let Self { task, source, .. } = *self;
        let fail = |key, got: &dyn ToString, expected: &str| Err((key, got.to_string(), expected.to_owned()));
        let sources = DataSource::of(task);
        if !sources.contains(&source) {
            let names: Vec<&str> = sources.iter().map(|source| source.name()).collect();
            return fail("data.source", &source.name(), &format!("one of {} for {task}", names.join(", ")));
        }
        let quoted = |text: &str| format!("{text:?}");
        let path_is_optional = source == DataSource::Generate || source == DataSource::Json;
        if self.path.is_empty() && !path_is_optional {
            return fail("data.path", &"\"\"", "the file or folder with the training puzzles");
        }
        if source == DataSource::Generate && !(self.path.is_empty() && self.test_path.is_empty()) {
            let (key, path) = if self.path.is_empty() {
                ("data.test_path", &self.test_path)
            } else {
                ("data.path", &self.path)
            };
            return fail(
                key,
                &quoted(path),
                "no file with data.source = \"generate\"; another source reads one",
            );
        }
        if source == DataSource::Json {
            if self.test_path.is_empty() {
                return fail("data.test_path", &"\"\"", "the file or folder with the evaluation tasks");
            }
            let trains =
                !self.path.is_empty() || !self.extra_paths.is_empty() || self.evaluation_demonstrations;
            if !trains {
                let expected =
                    "the training tasks, or data.evaluation_demonstrations = true to train on those alone";
                return fail("data.path", &"\"\"", expected);
            }
        }
        let extra_is_read = source == DataSource::Json || (task, source) == (Family::Sudoku, DataSource::Csv);
        if !self.extra_paths.is_empty() && !extra_is_read {
            let got = format!("{:?}", self.extra_paths);
            return fail("data.extra_paths", &got, "none but for Sudoku from csv and ARC from json");
        }
        let shares = &self.extra_shares;
        if !shares.is_empty() {
            let sum: f64 = shares.iter().sum();
            let in_range = shares.iter().all(|share| *share > 0.0 && *share < 1.0) && sum < 1.0;
            if task != Family::Sudoku || shares.len() != self.extra_paths.len() || !in_range {
                let files = self.extra_paths.len();
                let expected = format!(
                    "for Sudoku, one share for each of data.extra_paths ({files}), above 0 and together below 1"
                );
                return fail("data.extra_shares", &format!("{shares:?}"), &expected);
            }
        }
        if !(0.0..=1.0).contains(&self.hint_prob) || (self.hint_prob > 0.0 && task != Family::Sudoku) {
            return fail(
                "data.hint_prob",
                &self.hint_prob,
                "a probability from 0 to 1, and 0 but for Sudoku",
            );
        }
        if task == Family::Queens && self.grid_rows != self.grid_cols {
            return fail(
                "data.grid_cols",
                &self.grid_cols,
                "as many columns as rows (data.grid_rows) for queens",
            );
        }
        if source == DataSource::Generate && self.min_clues > self.max_clues {
            let expected = format!("at most data.max_clues ({})", self.max_clues);
            return fail("data.min_clues", &self.min_clues, &expected);
        }
        if source == DataSource::Generate && self.train_examples == 0 {
            return fail("data.train_examples", &0, "at least 1 with data.source = \"generate\"");
        }
        if source == DataSource::Generate && self.test_examples == 0 {
            return fail("data.test_examples", &0, "at least 1 with data.source = \"generate\"");
        }
        Ok(())
    }
}

/// Section `[model]`: a [`ModelConfig`] without what the data determines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Width.
    pub hidden_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Relative width of the SwiGLU.
    pub expansion: f64,
    /// How the modules take turns: `hrm`, `trm` or `transformer`.
    pub recurrence: RecurrenceKind,
    /// Blocks of the high-level module; 0 where one module does everything.
    pub h_layers: usize,
    /// Blocks of the low-level module.
    pub l_layers: usize,
    /// High-level updates per segment.
    pub h_cycles: usize,
    /// Low-level updates per high-level update.
    pub l_cycles: usize,
    /// Width of the puzzle embedding, by default `hidden_size`; 0 for none.
    pub puzzle_emb_ndim: usize,
    /// Prefix tokens that hold a row of the puzzle embedding; 0 for as many as it needs.
    pub puzzle_emb_len: usize,
    /// What has a state: `cells`, or `lattice` for each value in each cell.
    pub tokens: Tokens,
    /// How blocks mix tokens: `attention`, `mlp` along the sequence, or `groups` of the puzzle.
    pub mixer: Mixer,
    /// `groups`: width of what is averaged over a group.
    pub group_width: usize,
    /// Between the projections of a feed-forward layer: `swiglu`, or `normed_swiglu` (SiC).
    pub gated_unit: GatedUnit,
    /// Positions.
    pub pos_encodings: PositionEncoding,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Where the states of a new sequence start: `fixed` or `random`.
    pub init_state: InitState,
    /// Segments after which every sequence halts.
    pub halt_max_steps: usize,
    /// Probability of a random minimum number of segments.
    pub halt_exploration_prob: f64,
    /// No value of going on: halting where `q_halt > 0`, no second forward pass.
    pub no_act_continue: bool,
    /// Float type of activations: `f32`, `bf16`, or `auto` for `bf16` where the backend's matrix units have it and `f32`
    /// elsewhere.
    pub forward_dtype: ForwardChoice,
}

/// `model.forward_dtype`; weights are fp32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardChoice {
    /// The backend's choice, see [`ResolvedRecipe::on_backend`].
    Auto,
    /// Single precision.
    #[serde(alias = "float32")]
    F32,
    /// bfloat16.
    #[serde(alias = "bfloat16")]
    Bf16,
}

impl From<ForwardChoice> for ForwardDtype {
    /// A choice that is still open counts as single precision.
    fn from(choice: ForwardChoice) -> Self {
        match choice {
            ForwardChoice::Auto | ForwardChoice::F32 => Self::F32,
            ForwardChoice::Bf16 => Self::Bf16,
        }
    }
}

impl Default for ModelSection {
    fn default() -> Self {
        let config = ModelConfig::hrm_sudoku_extreme();
        Self {
            hidden_size: config.hidden_size,
            num_heads: config.num_heads,
            expansion: config.expansion,
            recurrence: config.recurrence,
            h_layers: config.h_layers,
            l_layers: config.l_layers,
            h_cycles: config.h_cycles,
            l_cycles: config.l_cycles,
            puzzle_emb_ndim: config.puzzle_emb_ndim,
            puzzle_emb_len: config.puzzle_emb_len,
            tokens: config.tokens,
            mixer: config.mixer,
            group_width: config.group_width,
            gated_unit: config.gated_unit,
            pos_encodings: config.pos_encodings,
            rope_theta: config.rope_theta,
            rms_norm_eps: config.rms_norm_eps,
            init_state: config.init_state,
            halt_max_steps: config.halt_max_steps,
            halt_exploration_prob: config.halt_exploration_prob,
            no_act_continue: config.no_act_continue,
            forward_dtype: ForwardChoice::Auto,
        }
    }
}

impl ModelSection {
    /// The model for data of these sizes and this structure.
    pub fn resolve(
        &self,
        vocab_size: usize,
        seq_len: usize,
        num_puzzle_identifiers: usize,
        structure: Option<Structure>,
    ) -> ModelConfig {
        ModelConfig {
            vocab_size,
            seq_len,
            num_puzzle_identifiers,
            hidden_size: self.hidden_size,
            num_heads: self.num_heads,
            expansion: self.expansion,
            recurrence: self.recurrence,
            h_layers: self.h_layers,
            l_layers: self.l_layers,
            h_cycles: self.h_cycles,
            l_cycles: self.l_cycles,
            puzzle_emb_ndim: self.puzzle_emb_ndim,
            puzzle_emb_len: self.puzzle_emb_len,
            tokens: self.tokens,
            mixer: self.mixer,
            group_width: self.group_width,
            structure: (self.mixer == Mixer::Groups).then_some(structure).flatten(),
            gated_unit: self.gated_unit,
            pos_encodings: self.pos_encodings,
            rope_theta: self.rope_theta,
            rms_norm_eps: self.rms_norm_eps,
            init_state: self.init_state,
            halt_max_steps: self.halt_max_steps,
            halt_exploration_prob: self.halt_exploration_prob,
            no_act_continue: self.no_act_continue,
            forward_dtype: self.forward_dtype.into(),
        }
    }
}

/// Which update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// The paper's, see [`AdamConfig::adam_atan2`].
    AdamAtan2,
    /// See [`AdamConfig::adam_w`].
    Adamw,
    /// See [`MuonConfig`]: for the matrices of the blocks; everything else is updated by AdamW.
    Muon,
}

/// An entry of `train.groups`: `{ params = "lm_head.*", lr = 1e-4, weight_decay = 0.0 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Names of parameters as `hrm inspect params` prints them; `*` stands for any text.
    pub params: String,
    /// By default that of the recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerKind>,
    /// Base learning rate, by default that of the recipe for this optimizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// By default that of the recipe for this optimizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

/// Names of the matrices that `train.optimizer = "muon"` means.
const BLOCK_MATRICES: &str = "*_level.layers.*.weight";

impl TrainConfig {
    /// The groups that the optimizer works with, in order of precedence; the last one fits every parameter.
    pub fn param_groups(&self) -> Vec<ParamGroup> {
        let fallback = match self.optimizer {
            OptimizerKind::Muon => OptimizerKind::Adamw,
            kind => kind,
        };
        let mut groups: Vec<ParamGroup> = self.groups.iter().map(|group| self.group(group)).collect();
        let whole = |params: &str, optimizer| GroupConfig {
            params: params.to_owned(),
            optimizer: Some(optimizer),
            lr: None,
            weight_decay: None,
        };
        if self.optimizer == OptimizerKind::Muon {
            groups.push(self.group(&whole(BLOCK_MATRICES, OptimizerKind::Muon)));
        }
        groups.push(self.group(&whole("*", fallback)));
        groups
    }

    fn group(&self, group: &GroupConfig) -> ParamGroup {
        let kind = group.optimizer.unwrap_or(self.optimizer);
        let adam = AdamConfig {
            beta1: self.beta1,
            beta2: self.beta2,
            weight_decay: group.weight_decay.unwrap_or(self.weight_decay),
        };
        let (rule, base) = match kind {
            OptimizerKind::AdamAtan2 => (Rule::AdamAtan2(adam), self.lr),
            OptimizerKind::Adamw => (Rule::AdamW(adam), self.lr),
            OptimizerKind::Muon => {
                let muon = MuonConfig {
                    momentum: self.muon_momentum,
                    ns_steps: self.muon_ns_steps,
                    weight_decay: group.weight_decay.unwrap_or(self.muon_weight_decay),
                };
                (Rule::Muon(muon), self.muon_lr)
            }
        };
        let lr = group.lr.unwrap_or(base);
        // A base rate of 0 switches training off, whatever the groups say.
        let lr_scale = if self.lr > 0.0 { lr / self.lr } else { 0.0 };
        ParamGroup { params: group.params.clone(), rule, lr_scale }
    }
}

/// Section `[train]`. Defaults are the paper's for Sudoku-Extreme.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Seed of the weights, the sampler, augmentation and exploration.
    pub seed: u64,
    /// Weights to start from instead of random ones: a run, a checkpoint, or a file of the original's; empty for none. The
    /// averaged weights are taken where there are any. Optimizers and schedule start afresh.
    pub init_from: String,
    /// Sequences per step.
    pub global_batch_size: usize,
    /// Parts that a step computes the batch in, one after the other: less memory for the same step.
    pub accumulate: usize,
    /// Passes over the training puzzles.
    pub epochs: u64,
    /// Steps; 0 for as many as the epochs give.
    pub max_steps: u64,
    /// Stop cleanly, with a checkpoint, after this step; 0 for not at all. The schedule is unaffected.
    pub stop_after: u64,
    /// Whether every puzzle runs `model.halt_max_steps` segments in training, whatever the model prefers: no adaptive
    /// computation.
    pub fixed_steps: bool,
    /// Base learning rate.
    pub lr: f64,
    /// How the learning rate goes on after the warm-up: `cosine`, `linear` or `constant`.
    pub lr_schedule: Decay,
    /// Final learning rate relative to the base.
    pub lr_min_ratio: f64,
    /// Steps of linear warm-up.
    pub lr_warmup_steps: u64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// How parameters are updated, but for those that `groups` name.
    pub optimizer: OptimizerKind,
    /// `muon`: base learning rate of the blocks' matrices.
    pub muon_lr: f64,
    /// `muon`: decay of the momentum.
    pub muon_momentum: f64,
    /// `muon`: Newton-Schulz iterations.
    pub muon_ns_steps: usize,
    /// `muon`: decoupled weight decay of the blocks' matrices.
    pub muon_weight_decay: f64,
    /// Parameters that are updated in another way, by name; the first entry that fits counts.
    pub groups: Vec<GroupConfig>,
    /// Base learning rate of the puzzle embedding.
    pub puzzle_emb_lr: f64,
    /// Weight decay of the puzzle embedding.
    pub puzzle_emb_weight_decay: f64,
    /// Which cross-entropy.
    pub loss: LossKind,
    /// Share of the target that is spread evenly over the vocabulary; 0 for none.
    pub label_smoothing: f64,
    /// Weight of the losses of the Q values beside the cross-entropy.
    pub halt_loss_weight: f64,
    /// Segment `t` of a sequence, counted from 1, weighs `supervision_decay^(t - 1)` in the loss; 1 for all the same.
    pub supervision_decay: f64,
    /// Whether the cross-entropy asks only for cells that the puzzle does not give.
    pub blanks_only: bool,
    /// Depth by the progress of training: `[{ from = 0.0, h_cycles = 1, l_cycles = 2 }, ...]`; empty for the model's
    /// depth throughout. The last stage has the model's cycles.
    pub curriculum: Vec<Stage>,
    /// Standard deviation of the noise in the state before each segment (EqR); 0 for none.
    pub state_noise: f64,
    /// Chains from different initial states for each puzzle, of which the one with the lowest loss is trained (winner takes
    /// all, SiC); 1 for none of that.
    pub chains: usize,
    /// Largest global gradient norm; 0 for no clipping.
    pub grad_clip: f64,
    /// Rate of the moving average of the weights that evaluation uses, for example 0.999; 0 for none.
    pub ema: f64,
    /// The step whose weights are the first average; 0 for the initial weights.
    pub ema_start: u64,
    /// Steps in a row with a loss or gradients that are not finite, each of which is skipped, after which the run stops; 0
    /// for never.
    pub max_bad_steps: u64,
    /// Evaluations in a row that are no better than the best, by `eval.best_metric`, after which the run stops; 0 for never.
    pub early_stop_patience: u64,
    /// Operands of matrix products on the CPU: exact, or rounded to bfloat16, which is several times faster on
    /// processors with AMX.
    pub matmul_precision: MatmulPrecision,
    /// Steps between two rows written and shown; metrics stay on the device in between.
    pub log_interval: u64,
    /// Steps between two checkpoints; 0 for only the last.
    pub checkpoint_interval: u64,
    /// Checkpoints kept, the newest ones; the best one is kept besides.
    pub keep_checkpoints: usize,
    /// Checkpoints of steps that are a multiple of this are kept for good; 0 for none.
    pub keep_every: u64,
    /// Float type of the optimizer's moments in checkpoints: `f32` resumes bit for bit, `bf16` takes half the space
    /// and changes the steps after a resumption a little.
    pub checkpoint_moments: ForwardDtype,
    /// Whether checkpoints hold the carry, which grows with the batch. Without it a resumed run begins its next step with new
    /// puzzles in all slots: those at hand are given up.
    pub checkpoint_carry: bool,
}

impl TrainConfig {
    /// How the loss is made up.
    pub fn loss_settings(&self) -> LossSettings {
        LossSettings {
            kind: self.loss,
            label_smoothing: self.label_smoothing,
            halt_weight: self.halt_loss_weight,
            supervision_decay: self.supervision_decay,
            blanks_only: self.blanks_only,
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            init_from: String::new(),
            global_batch_size: 384,
            accumulate: 1,
            epochs: 20_000,
            max_steps: 0,
            stop_after: 0,
            fixed_steps: false,
            lr: 7e-5,
            lr_schedule: Decay::Cosine,
            lr_min_ratio: 1.0,
            lr_warmup_steps: 2000,
            beta1: 0.9,
            beta2: 0.95,
            weight_decay: 1.0,
            optimizer: OptimizerKind::AdamAtan2,
            muon_lr: 0.02,
            muon_momentum: 0.95,
            muon_ns_steps: 5,
            muon_weight_decay: 0.0,
            groups: Vec::new(),
            puzzle_emb_lr: 7e-5,
            puzzle_emb_weight_decay: 1.0,
            loss: LossKind::Stablemax,
            label_smoothing: 0.0,
            halt_loss_weight: 0.5,
            supervision_decay: 1.0,
            blanks_only: false,
            curriculum: Vec::new(),
            state_noise: 0.0,
            chains: 1,
            grad_clip: 0.0,
            ema: 0.0,
            ema_start: 0,
            max_bad_steps: 10,
            early_stop_patience: 0,
            matmul_precision: MatmulPrecision::F32,
            log_interval: 1,
            checkpoint_interval: 1000,
            keep_checkpoints: 2,
            keep_every: 0,
            checkpoint_moments: ForwardDtype::F32,
            checkpoint_carry: true,
        }
    }
}

/// Section `[eval]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// Steps between two evaluations; 0 for only the last.
    pub interval: u64,
    /// Sequences per batch.
    pub batch_size: usize,
    /// Whether training goes on while an evaluation runs on the weights of its step, in a thread of its own. They share the
    /// processor: on a CPU both become slower.
    pub background: bool,
    /// Held-out puzzles to evaluate on during training; 0 for all.
    pub limit: usize,
    /// Training puzzles to evaluate on as well, as they stand in the data; 0 for none.
    pub train_limit: usize,
    /// Numbers of segments after which exact accuracy is reported as well, for example [1, 2, 4, 8, 16].
    pub steps: Vec<usize>,
    /// What makes a checkpoint the best: `exact_accuracy`, `token_accuracy` or `lm_loss` of an evaluation, `any_optimal` for
    /// mazes, `valid` for puzzles with rules, `pass_2` for ARC.
    pub best_metric: BestMetric,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            interval: 1000,
            batch_size: 64,
            background: false,
            limit: 0,
            train_limit: 0,
            steps: Vec::new(),
            best_metric: BestMetric::ExactAccuracy,
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// This file.
    File(PathBuf),
    /// `--set` on the command line.
    Flag,
    /// `--set` when the run was resumed after this step.
    Resumed(u64),
    /// The choice of this backend in place of `auto`.
    Backend(String),
}

impl Origin {
    /// Reads what [`Display`](fmt::Display) writes.
    fn parse(text: &str) -> Option<Self> {
        if text == Self::Flag.to_string() {
            return Some(Self::Flag);
        }
        let file = text.strip_prefix("file ").map(|path| Self::File(path.into()));
        let resumed = || text.strip_prefix("flag --set after step ")?.parse().ok().map(Self::Resumed);
        let backend = || text.strip_prefix("auto on ").map(|name| Self::Backend(name.to_owned()));
        file.or_else(resumed).or_else(backend)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Flag => write!(f, "flag --set"),
            Self::Resumed(step) => write!(f, "flag --set after step {step}"),
            Self::Backend(name) => write!(f, "auto on {name}"),
        }
    }
}

/// One value of a resolved recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRow {
    /// Dotted name, `train.lr`.
    pub key: String,
    /// As TOML writes it.
    pub value: String,
    /// Who set it.
    pub origin: Origin,
}

/// What can be wrong with a recipe.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}: {source}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A key that no recipe has.
    #[error("{origin}: unknown key `{key}`{}", suggestion.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
    UnknownKey {
        /// Who set it.
        origin: Origin,
        /// Its dotted name.
        key: String,
        /// The nearest known key.
        suggestion: Option<String>,
    },
    /// A value of the wrong type or outside its range.
    #[error("{origin}: {key} = {got}: expected {expected}")]
    Value {
        /// Who set it.
        origin: Origin,
        /// Its dotted name.
        key: String,
        /// What was given.
        got: String,
        /// What would be valid.
        expected: String,
    },
    /// `--set` without `=`.
    #[error("--set {0}: expected key=value, for example --set train.seed=3")]
    Flag(String),
}

/// A recipe and the origin of every value that is not a default.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedRecipe {
    /// The values.
    pub recipe: Recipe,
    origins: BTreeMap<String, Origin>,
}

impl ResolvedRecipe {
    /// Defaults, then the file's values, then those of `sets` (`train.seed=3`).
    ///
    /// # Errors
    /// If the file is absent or no TOML, a key is unknown, or a value cannot be used.
    pub fn load(file: Option<&Path>, sets: &[String]) -> Result<Self, ConfigError> {
        let text = file.map(|path| Ok((path, read(path)?))).transpose()?;
        Self::resolve(text.as_ref().map(|(path, text)| (*path, text.as_str())), sets)
    }

    /// The recipe that [`to_toml`](Self::to_toml) wrote to a file, with the origins noted there, then the values of `sets`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_saved(file: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        Self::saved(file, &read(file)?, sets)
    }

    /// As [`load_saved`](Self::load_saved), from text that came from `file`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn saved(file: &Path, text: &str, sets: &[String]) -> Result<Self, ConfigError> {
        let mut resolved = Self::resolve(Some((file, text)), sets)?;
        let mut noted = noted_origins(text);
        let origins = std::mem::take(&mut resolved.origins).into_iter();
        resolved.origins = origins
            .filter_map(|(key, origin)| match origin {
                Origin::File(_) => noted.remove_entry(&key),
                _ => Some((key, origin)),
            })
            .collect();
        Ok(resolved)
    }

    fn resolve(file: Option<(&Path, &str)>, sets: &[String]) -> Result<Self, ConfigError> {
        let mut values = flatten(&to_table(&Recipe::default()));
        let known: Vec<String> = values.keys().cloned().collect();
        let mut origins = BTreeMap::new();
        let mut set = |values: &mut BTreeMap<String, Value>, key: String, value: Value, origin: Origin| {
            let (key, value) = current(key, value);
            let Some(old) = values.get_mut(&key) else {
                let suggestion = nearest(&key, &known);
                return Err(ConfigError::UnknownKey { origin, key, suggestion });
            };
            *old = like(old, value, &key, &origin)?;
            origins.insert(key, origin);
            Ok(())
        };
        if let Some((path, text)) = file {
            let table: Table = text
                .parse()
                .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
            for (key, value) in flatten(&table) {
                set(&mut values, key, value, Origin::File(path.to_owned()))?;
            }
        }
        for flag in sets {
            let (key, value) = flag.split_once('=').ok_or_else(|| ConfigError::Flag(flag.clone()))?;
            let value = value.trim();
            // A bare word is a string: --set train.loss=softmax
            let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
            let value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
            set(&mut values, key.trim().to_owned(), value, Origin::Flag)?;
        }
        // As in the original's `puzzle_emb_ndim: ${.hidden_size}`.
        if !origins.contains_key("model.puzzle_emb_ndim") {
            values.insert("model.puzzle_emb_ndim".to_owned(), values["model.hidden_size"].clone());
        }
        let recipe = deserialize(&values, &origins)?;
        let resolved = Self { recipe, origins };
        resolved.validate()?;
        Ok(resolved)
    }

    /// A recipe made in code.
    pub fn from_recipe(recipe: Recipe) -> Self {
        Self { recipe, origins: BTreeMap::new() }
    }

    /// The recipe with the backend's own choice, [`ForwardDtype::fastest`], in the place of `model.forward_dtype = "auto"`.
    pub fn on_backend<B: Backend>(mut self, device: &B::Device) -> Self {
        if self.recipe.model.forward_dtype == ForwardChoice::Auto {
            self.recipe.model.forward_dtype = match ForwardDtype::fastest::<B>(device) {
                ForwardDtype::Bf16 => ForwardChoice::Bf16,
                ForwardDtype::F32 => ForwardChoice::F32,
            };
            self.origins.insert("model.forward_dtype".to_owned(), Origin::Backend(B::name(device)));
        }
        self
    }

    /// Notes which values were changed when a run was resumed after a step.
    pub fn changed_after<'a>(&mut self, step: u64, keys: impl IntoIterator<Item = &'a str>) {
        let changed = keys.into_iter().map(|key| (key.to_owned(), Origin::Resumed(step)));
        self.origins.extend(changed);
    }

    /// Takes a default's place for a value that says nothing about the rest of a run.
    pub(crate) fn forget_stop(&mut self) {
        self.recipe.train.stop_after = 0;
        self.origins.remove("train.stop_after");
    }

    /// The origin of a value.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Every value with its origin, in the order of the sections.
    pub fn rows(&self) -> Vec<ConfigRow> {
        let mut rows = Vec::new();
        for (section, table) in to_table(&self.recipe) {
            let Value::Table(table) = table else { continue };
            for (name, value) in table {
                let key = format!("{section}.{name}");
                let origin = self.origin(&key);
                rows.push(ConfigRow { key, value: value.to_string(), origin });
            }
        }
        rows
    }

    /// As a TOML file, with the origin of each value that is no default as a comment.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        let rows = self.rows();
        for row in &rows {
            let (head, name) = row.key.split_once('.').unwrap_or(("", &row.key));
            if head != section {
                text.push_str(&format!("{}[{head}]\n", if section.is_empty() { "" } else { "\n" }));
                section = head;
            }
            text.push_str(&format!("{name} = {}", row.value));
            if row.origin != Origin::Default {
                text.push_str(&format!("  # {}", row.origin));
            }
            text.push('\n');
        }
        text
    }

    /// Keys whose values differ in `other`, with both values.
    pub fn differences(&self, other: &Self) -> Vec<(String, String, String)> {
        let (ours, theirs) = (flatten(&to_table(&self.recipe)), flatten(&to_table(&other.recipe)));
        ours.into_iter()
            .filter_map(|(key, ours)| {
                let theirs = theirs.get(&key)?;
                (ours != *theirs).then(|| (key, ours.to_string(), theirs.to_string()))
            })
            .collect()
    }

    /// The first whole number beyond a limit, but for seeds, which may be any.
    fn beyond(&self, most: u64) -> Option<(String, u64)> {
        fn find(prefix: &str, value: &serde_json::Value, most: u64) -> Option<(String, u64)> {
            match value {
                serde_json::Value::Object(fields) => fields.iter().find_map(|(name, value)| {
                    let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    find(&key, value, most)
                }),
                serde_json::Value::Array(items) => items.iter().find_map(|item| find(prefix, item, most)),
                value => {
                    let value = value.as_u64().filter(|value| *value > most)?;
                    (!prefix.ends_with("seed")).then(|| (prefix.to_owned(), value))
                }
            }
        }
        find("", &serde_json::to_value(&self.recipe).unwrap_or_default(), most)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let error = |key: &str, got: String, expected: &str| {
            Err(ConfigError::Value {
                origin: self.origin(key),
                key: key.to_owned(),
                got,
                expected: expected.to_owned(),
            })
        };
        let Recipe { data, train, eval, model } = &self.recipe;
        for (key, value) in [
            ("train.global_batch_size", train.global_batch_size as u64),
            ("train.accumulate", train.accumulate as u64),
            ("train.chains", train.chains as u64),
            ("train.log_interval", train.log_interval),
            ("train.keep_checkpoints", train.keep_checkpoints as u64),
            ("eval.batch_size", eval.batch_size as u64),
            ("data.box_rows", data.box_rows as u64),
            ("data.box_cols", data.box_cols as u64),
            ("data.grid_rows", data.grid_rows as u64),
            ("data.grid_cols", data.grid_cols as u64),
        ] {
            if value == 0 {
                return error(key, value.to_string(), "at least 1");
            }
        }
        // What is allocated, or done before the first step.
        for (key, value, most) in [
            ("train.global_batch_size", train.global_batch_size, 1 << 20),
            ("train.accumulate", train.accumulate, 1 << 20),
            ("eval.batch_size", eval.batch_size, 1 << 20),
            ("eval.steps", eval.steps.iter().copied().max().unwrap_or(0), 1 << 16),
            ("data.train_examples", data.train_examples, 10_000_000),
            ("data.test_examples", data.test_examples, 10_000_000),
            ("data.grid_rows", data.grid_rows, 1000),
            ("data.grid_cols", data.grid_cols, 1000),
            ("data.box_rows", data.box_rows, 1000),
            ("data.box_cols", data.box_cols, 1000),
        ] {
            if value > most {
                return error(key, value.to_string(), &format!("at most {most}"));
            }
        }
        // The rest only has to be so small that no sum or product of them wraps.
        if let Some((key, value)) = self.beyond(1 << 40) {
            return error(&key, value.to_string(), &format!("at most {}", 1u64 << 40));
        }
        for (key, value) in [
            ("train.lr", train.lr),
            ("train.puzzle_emb_lr", train.puzzle_emb_lr),
            ("train.muon_lr", train.muon_lr),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return error(key, value.to_string(), "a learning rate of 0 or more");
            }
        }
        for (key, value) in [
            ("train.beta1", train.beta1),
            ("train.beta2", train.beta2),
            ("train.muon_momentum", train.muon_momentum),
            ("train.ema", train.ema),
        ] {
            if !(0.0..1.0).contains(&value) {
                return error(key, value.to_string(), "a decay from 0 to below 1");
            }
        }
        if !train.global_batch_size.is_multiple_of(train.accumulate) {
            let expected = format!(
                "a divisor of train.global_batch_size ({}): parts of one size",
                train.global_batch_size
            );
            return error("train.accumulate", train.accumulate.to_string(), &expected);
        }
        if !(0.0..=1.0).contains(&train.lr_min_ratio) {
            return error("train.lr_min_ratio", train.lr_min_ratio.to_string(), "0 to 1");
        }
        let (ratio, decays) = (train.lr_min_ratio.to_string(), train.lr_min_ratio < 1.0);
        match train.lr_schedule {
            Decay::Linear if !decays => {
                let expected = "less than 1: how far train.lr_schedule = \"linear\" goes down";
                return error("train.lr_min_ratio", ratio, expected);
            }
            Decay::Constant if decays => {
                let expected = "1, as train.lr_schedule = \"constant\" does not go down";
                return error("train.lr_min_ratio", ratio, expected);
            }
            _ => {}
        }
        if !(0.0..1.0).contains(&train.label_smoothing) {
            let expected = "a share from 0 to below 1";
            return error("train.label_smoothing", train.label_smoothing.to_string(), expected);
        }
        if !(train.halt_loss_weight >= 0.0 && train.halt_loss_weight.is_finite()) {
            return error(
                "train.halt_loss_weight",
                train.halt_loss_weight.to_string(),
                "a weight of 0 or more",
            );
        }
        if !(train.supervision_decay > 0.0 && train.supervision_decay <= 1.0) {
            return error(
                "train.supervision_decay",
                train.supervision_decay.to_string(),
                "above 0, at most 1",
            );
        }
        if train.chains > 64 {
            return error("train.chains", train.chains.to_string(), "1 to 64 chains for each puzzle");
        }
        if !(train.state_noise >= 0.0 && train.state_noise.is_finite()) {
            let expected = "a standard deviation of 0 or more";
            return error("train.state_noise", train.state_noise.to_string(), expected);
        }
        if !(train.grad_clip >= 0.0 && train.grad_clip.is_finite()) {
            return error(
                "train.grad_clip",
                train.grad_clip.to_string(),
                "a norm above 0, or 0 for no clipping",
            );
        }
        if train.ema_start > 0 && train.ema == 0.0 {
            let expected = "0, or a rate in train.ema";
            return error("train.ema_start", train.ema_start.to_string(), expected);
        }
        if !eval.best_metric.is_of(data.task) {
            let expected = "a score of the task: exact_accuracy, token_accuracy or lm_loss; any_optimal for mazes, valid for \
                            other puzzles with rules, pass_2 for ARC";
            return error("eval.best_metric", format!("{:?}", eval.best_metric.name()), expected);
        }
        if train.early_stop_patience > 0 && eval.interval == 0 {
            let expected = "0, or an eval.interval: only evaluations can tell";
            return error("train.early_stop_patience", train.early_stop_patience.to_string(), expected);
        }
        let curriculum = || format!("{:?}", train.curriculum);
        if !train.curriculum.is_empty() && model.recurrence == RecurrenceKind::Transformer {
            let expected = "[]: model.recurrence = \"transformer\" has no cycles";
            return error("train.curriculum", curriculum(), expected);
        }
        let full = Cycles { h_cycles: model.h_cycles, l_cycles: model.l_cycles };
        if let Some(expected) = curriculum::problem(&train.curriculum, full) {
            return error("train.curriculum", curriculum(), &expected);
        }
        for group in &train.groups {
            let lr = group.lr.unwrap_or_default();
            if !(lr >= 0.0 && lr.is_finite()) {
                let expected = "a learning rate of 0 or more";
                return error(
                    "train.groups",
                    format!("{{ params = {:?}, lr = {lr} }}", group.params),
                    expected,
                );
            }
        }
        if eval.train_limit > 0 && data.task == Family::Arc {
            let expected = "0 for ARC: its training pairs have no vote";
            return error("eval.train_limit", eval.train_limit.to_string(), expected);
        }
        if eval.steps.contains(&0) {
            return error("eval.steps", format!("{:?}", eval.steps), "numbers of segments, each at least 1");
        }
        if train.max_steps == 0 && train.epochs == 0 {
            return error("train.epochs", "0".to_owned(), "at least 1, or train.max_steps");
        }
        if let Err((key, got, expected)) = data.validate() {
            return error(key, got, &expected);
        }
        // Sizes and groups of any puzzle: those of the data are checked when they are there.
        let structure = Some(Structure { first_value: 1, after_values: 0, groups: Vec::new() });
        if let Err(hrm_model::ModelError::Config { field, got, expected }) =
            model.resolve(2, 1, 1, structure).validate()
        {
            return error(&format!("model.{field}"), got, &expected);
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.to_owned(), source })
}

/// The origins in the comments that [`ResolvedRecipe::to_toml`] writes, by dotted name.
fn noted_origins(text: &str) -> BTreeMap<String, Origin> {
    let mut section = "";
    let mut origins = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        // A string may contain the mark as well: the comment begins after a whole value.
        let comment = line.match_indices("  # ").find(|(at, _)| line[..*at].parse::<Table>().is_ok());
        let origin = comment.and_then(|(at, mark)| Origin::parse(&line[at + mark.len()..]));
        if let (Some(origin), Some((name, _))) = (origin, line.split_once(" = ")) {
            origins.insert(format!("{section}.{name}"), origin);
        }
    }
    origins
}

fn to_table(recipe: &Recipe) -> Table {
    match Value::try_from(recipe) {
        Ok(Value::Table(table)) => table,
        // A recipe is made of plain numbers, strings and flags only.
        _ => Table::new(),
    }
}

/// Leaves of a table by dotted name.
fn flatten(table: &Table) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, table: &Table, out: &mut BTreeMap<String, Value>) {
        for (key, value) in table {
            let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Table(inner) => walk(&key, inner, out),
                leaf => {
                    out.insert(key, leaf.clone());
                }
            }
        }
    }
    let mut out = BTreeMap::new();
    walk("", table, &mut out);
    out
}

/// `new` in the type of `old`: an integer is accepted where a float is expected.
fn like(old: &Value, new: Value, key: &str, origin: &Origin) -> Result<Value, ConfigError> {
    match (old, new) {
        (Value::Float(_), Value::Integer(n)) => Ok(Value::Float(n as f64)),
        (old, new) if old.same_type(&new) => Ok(new),
        (old, new) => Err(ConfigError::Value {
            origin: origin.clone(),
            key: key.to_owned(),
            got: new.to_string(),
            expected: format!("{} {}, like {old}", article(old.type_str()), old.type_str()),
        }),
    }
}

/// A key and its value under today's name: `model.mlp_t` is `model.mixer` by now.
fn current(key: String, value: Value) -> (String, Value) {
    match (key.as_str(), &value) {
        ("model.mlp_t", Value::Boolean(mlp)) => {
            let mixer = if *mlp { "mlp" } else { "attention" };
            ("model.mixer".to_owned(), Value::String(mixer.to_owned()))
        }
        _ => (key, value),
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// Deserializes section by section and value by value, so that an error names the key.
fn deserialize(
    values: &BTreeMap<String, Value>,
    origins: &BTreeMap<String, Origin>,
) -> Result<Recipe, ConfigError> {
    let unflatten = |values: &BTreeMap<String, Value>| {
        let mut table = Table::new();
        for (key, value) in values {
            let (section, name) = key.split_once('.').unwrap_or(("", key));
            let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = entry {
                section.insert(name.to_owned(), value.clone());
            }
        }
        table
    };
    let error = match unflatten(values).try_into() {
        Ok(recipe) => return Ok(recipe),
        Err(error) => error,
    };
    // Find the value at fault: the one that alone breaks the defaults.
    let defaults = flatten(&to_table(&Recipe::default()));
    for (key, origin) in origins {
        let mut one = defaults.clone();
        one.insert(key.clone(), values[key].clone());
        if let Err(error) = unflatten(&one).try_into::<Recipe>() {
            return Err(ConfigError::Value {
                origin: origin.clone(),
                key: key.clone(),
                got: values[key].to_string(),
                expected: expectation(&error),
            });
        }
    }
    Err(ConfigError::Value {
        origin: Origin::Default,
        key: "recipe".to_owned(),
        got: "these values".to_owned(),
        expected: expectation(&error),
    })
}

fn expectation(error: &toml::de::Error) -> String {
    let message = error.message();
    message.split_once("expected ").map_or(message, |(_, expected)| expected).to_owned()
}

/// The known key nearest to a mistyped one.
fn nearest(key: &str, known: &[String]) -> Option<String> {
    let name = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    known
        .iter()
        .map(|k| (distance(key, k).min(distance(&name(key), &name(k)) + 1), k))
        .min_by_key(|(d, _)| *d)
        .filter(|(d, _)| *d <= 1 + key.len() / 4)
        .map(|(_, k)| k.clone())
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, sets: &[&str]) -> Result<ResolvedRecipe, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipe.toml");
        fs::write(&path, text).unwrap();
        ResolvedRecipe::load(Some(&path), &sets.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn values_know_where_they_came_from() {
        let resolved = load("[train]\nlr = 1\nseed = 5\n", &["train.seed=7", "train.loss=softmax"]).unwrap();
        assert_eq!(resolved.recipe.train.lr, 1.0);
        assert_eq!(resolved.recipe.train.seed, 7);
        assert_eq!(resolved.recipe.train.loss, LossKind::Softmax);
        assert!(matches!(resolved.origin("train.lr"), Origin::File(_)));
        assert_eq!(resolved.origin("train.seed"), Origin::Flag);
        assert_eq!(resolved.origin("train.beta1"), Origin::Default);
        let width = |sets: &[&str]| load("", sets).unwrap().recipe.model.puzzle_emb_ndim;
        assert_eq!(width(&["model.hidden_size=64"]), 64, "the puzzle embedding follows the model's width");
        assert_eq!(width(&["model.hidden_size=64", "model.puzzle_emb_ndim=0"]), 0);
        let again: Recipe = toml::from_str(&resolved.to_toml()).unwrap();
        assert_eq!(again, resolved.recipe);
        assert_eq!(resolved.rows().len(), flatten(&to_table(&Recipe::default())).len());
    }

    #[test]
    fn origins_survive_in_a_saved_recipe() {
        let mut resolved =
            load("[data]\ntask = \"arc\"\nsource = \"json\"\ntest_path = \"a  # b\"\n", &["train.seed=7"])
                .unwrap();
        resolved.changed_after(12, ["eval.limit"]);
        let resolved = resolved.on_backend::<hrm_backend::Cpu>(&Default::default());
        assert!(
            resolved.to_toml().contains("forward_dtype = \"f32\"  # auto on flex\n"),
            "{}",
            resolved.to_toml()
        );
        let file = Path::new("config.toml");
        assert_eq!(ResolvedRecipe::saved(file, &resolved.to_toml(), &[]).unwrap(), resolved);
        let changed = ResolvedRecipe::saved(file, &resolved.to_toml(), &["eval.limit=3".to_owned()]).unwrap();
        assert_eq!(changed.origin("eval.limit"), Origin::Flag);
    }

    #[test]
    fn mistakes_are_told() {
        let told = |text: &str, sets: &[&str]| load(text, sets).unwrap_err().to_string();
        assert!(told("[train]\nlearning_rat = 1.0\n", &[]).contains("unknown key `train.learning_rat`"));
        assert!(told("[train]\nwarmup_steps = 1\n", &[]).contains("unknown key"));
        assert!(told("", &["train.sed=1"]).contains("did you mean `train.seed`?"));
        assert!(told("", &["train.seed"]).contains("expected key=value"));
        assert!(told("", &["train.lr=fast"]).contains("train.lr = \"fast\": expected a float"));
        assert!(told("", &["train.loss=hinge"]).contains("train.loss"));
        assert!(told("", &["train.seed=-1"]).contains("train.seed"));
        assert!(told("", &["model.num_heads=7"]).contains("a divisor of hidden_size (512)"));
        for (set, part) in [
            ("train.accumulate=5", "a divisor of train.global_batch_size (384)"),
            ("train.lr_schedule=linear", "less than 1"),
            ("train.lr_schedule=exponential", "train.lr_schedule"),
            ("train.label_smoothing=1", "below 1"),
            ("train.halt_loss_weight=-1", "0 or more"),
            ("train.supervision_decay=0", "above 0"),
            ("train.ema_start=5", "a rate in train.ema"),
            ("train.curriculum=[{from=0,h_cycles=1,l_cycles=1}]", "h_cycles = 2"),
            ("train.curriculum=[{from=0,h_cycles=2}]", "train.curriculum"),
            ("eval.best_metric=any_optimal", "mazes"),
        ] {
            assert!(told("", &[set]).contains(part), "{set}: {}", told("", &[set]));
        }
        let constant = told("", &["train.lr_schedule=constant", "train.lr_min_ratio=0.5"]);
        assert!(constant.contains("does not go down"), "{constant}");
        let never = told("", &["train.early_stop_patience=3", "eval.interval=0"]);
        assert!(never.contains("eval.interval"), "{never}");
        assert!(told("[train\n", &[]).contains("recipe.toml"));
    }
}
