//! Section `[train]`.

use hrm_backend::MatmulPrecision;
use hrm_model::{
    ForwardDtype,
    loss::{LossKind, LossSettings},
    settings::Range,
};
use serde::{Deserialize, Serialize};

use super::{BATCH, MOST};
use crate::{
    optim::{AdamConfig, Decay, MuonConfig, ParamGroup, Rule},
    step::curriculum::Stage,
};

const RATE: Range = Range::from(0.0, "a learning rate of 0 or more");
const DECAY: Range = Range::from(0.0, "a decay from 0 to below 1").below(1.0);

hrm_model::settings! {
    /// Section `[train]`. Defaults are the paper's for Sudoku-Extreme.
    pub struct TrainConfig {
        /// Seed of the weights, the sampler, augmentation and exploration.
        seed: u64 = 0;
        /// Weights to start from instead of random ones: a run, a checkpoint, or a file of the original's; empty for none. The
        /// averaged weights are taken where there are any. Those of a narrower model that mixes by groups are widened without
        /// changing what it computes. Optimizers and schedule start afresh.
        init_from: String = String::new();
        /// Sequences per step.
        global_batch_size: usize = 384 => BATCH;
        /// Batches that take turns, a step each. With one, a puzzle is trained on for up to `model.halt_max_steps` steps on end, and a small
        /// model at a high rate learns a batch by heart in that time; with several, other puzzles come in between.
        batches_in_turn: usize = 1 => BATCH;
        /// Parts that a step computes the batch in, one after the other: less memory for the same step.
        accumulate: usize = 1 => BATCH;
        /// Passes over the training puzzles.
        epochs: u64 = 20_000;
        /// Steps; 0 for as many as the epochs give.
        max_steps: u64 = 0;
        /// Stop cleanly, with a checkpoint, after this step; 0 for not at all. The schedule is unaffected.
        stop_after: u64 = 0, resumable;
        /// Whether every puzzle runs `model.halt_max_steps` segments in training, whatever the model prefers: no adaptive
        /// computation.
        fixed_steps: bool = false;
        /// Base learning rate.
        lr: f64 = 7e-5 => RATE;
        /// How the learning rate goes on after the warm-up: `cosine`, `linear` or `constant`.
        lr_schedule: Decay = Decay::Cosine;
        /// Final learning rate relative to the base.
        lr_min_ratio: f64 = 1.0 => Range::from(0.0, "0 to 1").to(1.0);
        /// Steps of linear warm-up.
        lr_warmup_steps: u64 = 2000;
        /// Decay of the first moment.
        beta1: f64 = 0.9 => DECAY;
        /// Decay of the second moment.
        beta2: f64 = 0.95 => DECAY;
        /// Decoupled weight decay.
        weight_decay: f64 = 1.0;
        /// How parameters are updated, but for those that `groups` name.
        optimizer: OptimizerKind = OptimizerKind::AdamAtan2;
        /// `muon`: base learning rate of the blocks' matrices.
        muon_lr: f64 = 0.02 => RATE;
        /// `muon`: decay of the momentum.
        muon_momentum: f64 = 0.95 => DECAY;
        /// `muon`: Newton-Schulz iterations.
        muon_ns_steps: usize = 5;
        /// `muon`: decoupled weight decay of the blocks' matrices.
        muon_weight_decay: f64 = 0.0;
        /// Parameters that are updated in another way, by name; the first entry that fits counts.
        groups: Vec<GroupConfig> = Vec::new();
        /// Base learning rate of the puzzle embedding.
        puzzle_emb_lr: f64 = 7e-5 => RATE;
        /// Weight decay of the puzzle embedding.
        puzzle_emb_weight_decay: f64 = 1.0;
        /// Which cross-entropy.
        loss: LossKind = LossKind::Stablemax;
        /// Share of the target that is spread evenly over the vocabulary; 0 for none.
        label_smoothing: f64 = 0.0 => Range::from(0.0, "a share from 0 to below 1").below(1.0);
        /// Weight of the losses of the Q values beside the cross-entropy.
        halt_loss_weight: f64 = 0.5 => Range::from(0.0, "a weight of 0 or more");
        /// Segment `t` of a sequence, counted from 1, weighs `supervision_decay^(t - 1)` in the loss; 1 for all the same.
        supervision_decay: f64 = 1.0 => Range::above(0.0, "above 0, at most 1").to(1.0);
        /// Whether the cross-entropy asks only for cells that the puzzle does not give.
        blanks_only: bool = false;
        /// Depth by the progress of training: `[{ from = 0.0, h_cycles = 1, l_cycles = 2 }, ...]`; empty for the model's
        /// depth throughout. The last stage has the model's cycles.
        curriculum: Vec<Stage> = Vec::new();
        /// Standard deviation of the noise in the state before each segment (EqR); 0 for none.
        state_noise: f64 = 0.0 => Range::from(0.0, "a standard deviation of 0 or more");
        /// Chains from different initial states for each puzzle, of which the one with the lowest loss is trained (winner takes
        /// all, SiC); 1 for none of that.
        chains: usize = 1 => Range::count(1, 64);
        /// The share of steps in which a puzzle that ends unsolved does not make room for another one, but goes on with a value for the cell
        /// that the model is least sure of: as often the right one as a wrong one that it finds likely. That is what `hrm solve --guesses`
        /// does; needs `model.conflict`.
        commit_prob: f64 = 0.0 => Range::from(0.0, "a probability from 0 to 1").to(1.0);
        /// Largest global gradient norm; 0 for no clipping.
        grad_clip: f64 = 0.0 => Range::from(0.0, "a norm above 0, or 0 for no clipping");
        /// Rate of the moving average of the weights that evaluation uses, for example 0.999; 0 for none.
        ema: f64 = 0.0 => DECAY;
        /// The step whose weights are the first average; 0 for the initial weights.
        ema_start: u64 = 0;
        /// Steps in a row with a loss or gradients that are not finite, each of which is skipped, after which the run stops; 0
        /// for never.
        max_bad_steps: u64 = 10, resumable;
        /// Evaluations in a row that are no better than the best, by `eval.best_metric`, after which the run stops; 0 for never.
        early_stop_patience: u64 = 0, resumable;
        /// Operands of matrix products on the CPU: exact, or rounded to bfloat16, which is several times faster on
        /// processors with AMX.
        matmul_precision: MatmulPrecision = MatmulPrecision::F32;
        /// Steps between two rows written and shown; metrics stay on the device in between.
        log_interval: u64 = 1 => Range::count(1, MOST), resumable;
        /// Steps between two checkpoints; 0 for only the last.
        checkpoint_interval: u64 = 1000, resumable;
        /// Checkpoints kept, the newest ones; the best one is kept besides.
        keep_checkpoints: usize = 2 => Range::count(1, MOST), resumable;
        /// Checkpoints of steps that are a multiple of this are kept for good; 0 for none.
        keep_every: u64 = 0, resumable;
        /// Float type of the optimizer's moments in checkpoints: `f32` resumes bit for bit, `bf16` takes half the space
        /// and changes the steps after a resumption a little.
        checkpoint_moments: ForwardDtype = ForwardDtype::F32, resumable;
        /// Whether checkpoints hold the carry, which grows with the batch. Without it a resumed run begins its next step with new
        /// puzzles in all slots: those at hand are given up.
        checkpoint_carry: bool = true, resumable;
    }
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

/// Which update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
