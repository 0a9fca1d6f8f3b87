//! What a model is made of: its [`Architecture`], and [`ModelConfig`], which adds the sizes of its data.

use std::ops::{Deref, DerefMut};

use burn::tensor::{
    Bool, DType, Int, Tensor,
    backend::{Backend, DTypeUsage},
};
use hrm_backend::HrmBackend;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{Hrm, ModelError, Structure, init::Initializer, loss::IGNORE_LABEL, settings::Range};

/// How a token's place in the sequence reaches the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PositionEncoding {
    /// Rotary embeddings in every attention (RoPE, half-split layout).
    Rope,
    /// A learned vector per position, added to the input embedding.
    Learned,
    /// None: for models that mix tokens by their place in the sequence, or by groups.
    None,
}

/// How the modules take turns in a segment; see [`crate::recurrence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RecurrenceKind {
    /// Two modules; only the last update of each gets a gradient (HRM, arXiv 2506.21734).
    #[default]
    Hrm,
    /// One module in both roles; the whole last cycle gets a gradient (TRM, arXiv 2510.04871).
    Trm,
    /// One module, applied once a segment: a plain transformer under the same outer loop.
    Transformer,
}

/// How a block mixes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mixer {
    /// Multi-head attention (HRM).
    #[default]
    Attention,
    /// A SwiGLU over the sequence axis (TRM's MLP variant, arXiv 2510.04871).
    Mlp,
    /// Means over the groups of the puzzle, see [`GroupMixer`](crate::layers::GroupMixer).
    Groups,
}

impl Mixer {
    /// Reads a mixer, or the flag `mlp_t` of older files and of the original.
    fn or_flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            MlpT(bool),
            Mixer(Mixer),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::MlpT(true) => Self::Mlp,
            Either::MlpT(false) => Self::Attention,
            Either::Mixer(mixer) => mixer,
        })
    }
}

/// What has a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Tokens {
    /// Each cell.
    #[default]
    Cells,
    /// Each value in each cell: a lattice of candidates.
    Lattice,
}

/// What stands between the projections of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GatedUnit {
    /// `silu(gate) * up`.
    #[default]
    Swiglu,
    /// `sigmoid(gate) * rms_norm(gate * up)` (SiC, arXiv 2601.19085).
    NormedSwiglu,
}

/// Where the states of a new sequence start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum InitState {
    /// At two fixed vectors, saved with the weights (HRM, TRM).
    #[default]
    Fixed,
    /// At random values, other ones for each sequence (EqR, arXiv 2605.21488). Whoever runs the model draws them; a
    /// model left alone starts at its fixed vectors.
    Random,
}

/// The float type of activations. Weights are always fp32 and are cast in the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ForwardDtype {
    /// Single precision.
    #[serde(rename = "f32", alias = "float32")]
    F32,
    /// bfloat16; norms, rotary positions, softmax, q head and loss stay in fp32.
    #[serde(rename = "bf16", alias = "bfloat16")]
    Bf16,
}

impl ForwardDtype {
    /// The type that a device is fastest with: bf16 where the backend computes with it and has matrix units for it (tensor
    /// cores), fp32 elsewhere.
    pub fn fastest<B: Backend>(device: &B::Device) -> Self {
        let fast = DTypeUsage::general() | DTypeUsage::Accelerated;
        if B::dtype_usage(device, DType::BF16).is_superset(fast) { Self::Bf16 } else { Self::F32 }
    }
}

impl From<ForwardDtype> for DType {
    fn from(dtype: ForwardDtype) -> Self {
        match dtype {
            ForwardDtype::F32 => DType::F32,
            ForwardDtype::Bf16 => DType::BF16,
        }
    }
}

/// `forward_dtype`, which may be left to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ForwardChoice {
    /// [`ForwardDtype::fastest`], to be asked before training; fp32 until then.
    Auto,
    /// Single precision.
    #[serde(alias = "float32")]
    F32,
    /// bfloat16.
    #[serde(alias = "bfloat16")]
    Bf16,
}

impl From<ForwardDtype> for ForwardChoice {
    fn from(dtype: ForwardDtype) -> Self {
        match dtype {
            ForwardDtype::F32 => Self::F32,
            ForwardDtype::Bf16 => Self::Bf16,
        }
    }
}

impl From<ForwardChoice> for DType {
    fn from(choice: ForwardChoice) -> Self {
        match choice {
            ForwardChoice::Auto | ForwardChoice::F32 => DType::F32,
            ForwardChoice::Bf16 => DType::BF16,
        }
    }
}

/// Entries of a vocabulary and widths at most: far beyond any model, and so small that no sum or product of sizes overflows.
const MAX_SIZE: u64 = 1 << 20;
/// Tokens of a sequence at most: tables of positions, and of groups, are made before a puzzle is seen.
const MAX_TOKENS: u64 = 1 << 16;
/// Groups times cells of a puzzle at most.
const MAX_MEMBERS: usize = 1 << 24;
/// Segments of a sequence at most.
const MAX_SEGMENTS: u64 = 1 << 16;
/// Blocks of a module, and cycles, at most.
const MAX_LAYERS: u64 = 1000;
/// Relative width of a feed-forward layer at most.
const MAX_EXPANSION: f64 = 65_536.0;

crate::settings! {
    /// Everything about a model but what its data determine: section `[model]` of a recipe. Defaults are those of the paper's
    /// Sudoku model. The aliases are the original's names, so that the sections of its `all_config.yaml` and exported JSON
    /// configurations read directly.
    pub struct Architecture {
        /// Width.
        hidden_size: usize = 512 => Range::count(1, MAX_SIZE);
        /// Attention heads; divides `hidden_size`.
        num_heads: usize = 8 => Range::count(1, MAX_SIZE);
        /// Width of the SwiGLU relative to `hidden_size`, before the 2/3 of gated units.
        expansion: f64 = 4.0 => Range::above(0.0, "a positive number, at most 65536").to(MAX_EXPANSION);
        /// How the modules take turns: `hrm`, `trm` or `transformer`.
        recurrence: RecurrenceKind = RecurrenceKind::Hrm;
        /// Blocks of the high-level module; 0 where one module does everything.
        #[serde(alias = "H_layers")]
        h_layers: usize = 4 => Range::count(0, MAX_LAYERS);
        /// Blocks of the low-level module, or of the only one.
        #[serde(alias = "L_layers")]
        l_layers: usize = 4 => Range::count(1, MAX_LAYERS);
        /// High-level updates per segment.
        #[serde(alias = "H_cycles")]
        h_cycles: usize = 2 => Range::count(1, MAX_LAYERS);
        /// Low-level updates per high-level update.
        #[serde(alias = "L_cycles")]
        l_cycles: usize = 2 => Range::count(1, MAX_LAYERS);
        /// Width of a row of the puzzle embedding; 0 for none. In a recipe that does not say it, `hidden_size`. With `mixer = "groups"` a
        /// row is one vector for all cells, or in a lattice one for each value.
        puzzle_emb_ndim: usize = 512 => Range::count(0, MAX_SIZE);
        /// Prefix tokens that hold a row of the puzzle embedding; 0 for as many as it needs.
        puzzle_emb_len: usize = 0 => Range::count(0, MAX_TOKENS);
        /// What has a state: `cells`, or `lattice` for each value in each cell.
        tokens: Tokens = Tokens::Cells;
        /// How blocks mix tokens: `attention`, `mlp` along the sequence, or `groups` of the puzzle.
        #[serde(alias = "mlp_t", deserialize_with = "Mixer::or_flag")]
        mixer: Mixer = Mixer::Attention;
        /// `groups`: width of what is averaged over a group.
        group_width: usize = 16 => Range::count(0, MAX_SIZE);
        /// Between the projections of a feed-forward layer: `swiglu`, or `normed_swiglu` (SiC).
        gated_unit: GatedUnit = GatedUnit::Swiglu;
        /// Positions.
        pos_encodings: PositionEncoding = PositionEncoding::Rope;
        /// Base of the rotary frequencies.
        rope_theta: f64 = 10000.0 => Range::above(0.0, "a positive number");
        /// Added to the mean square in RMSNorm.
        rms_norm_eps: f64 = 1e-5 => Range::above(0.0, "a positive number");
        /// Where the states of a new sequence start: `fixed` or `random`.
        init_state: InitState = InitState::Fixed;
        /// Segments after which every sequence halts.
        halt_max_steps: usize = 16 => Range::count(1, MAX_SEGMENTS);
        /// Probability that a sequence draws a minimum number of segments in training.
        halt_exploration_prob: f64 = 0.1 => Range::from(0.0, "0 to 1").to(1.0);
        /// No value of going on: a sequence halts where `q_halt > 0`, and training needs no second forward pass.
        #[serde(alias = "no_ACT_continue")]
        no_act_continue: bool = false;
        /// The second halting value says that the givens contradict each other, for trial and error: a lattice without a value of
        /// going on learns it from wrong givens (`data.wrong_hint_prob`).
        conflict: bool = false;
        /// Float type of activations: `f32`, `bf16`, or `auto` for `bf16` where the backend's matrix units have it and `f32`
        /// elsewhere. Weights are fp32 in any case.
        forward_dtype: ForwardChoice = ForwardChoice::Auto;
    }
}

/// A model: the sizes of its data and its architecture, whose fields can be read as if they were its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Number of different tokens, padding included.
    pub vocab_size: usize,
    /// Tokens per puzzle, without the puzzle embedding's prefix.
    pub seq_len: usize,
    /// Rows of the puzzle embedding table.
    #[serde(default = "one")]
    pub num_puzzle_identifiers: usize,
    /// `groups`: what belongs together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structure: Option<Structure>,
    /// All that the data do not determine.
    #[serde(flatten)]
    pub architecture: Architecture,
}

const fn one() -> usize {
    1
}

impl Deref for ModelConfig {
    type Target = Architecture;

    fn deref(&self) -> &Architecture {
        &self.architecture
    }
}

impl DerefMut for ModelConfig {
    fn deref_mut(&mut self) -> &mut Architecture {
        &mut self.architecture
    }
}

impl Architecture {
    /// TRM as published: one module of two blocks, 3 x 6 cycles, 16 prefix tokens, no value of going on.
    pub fn trm() -> Self {
        Self {
            recurrence: RecurrenceKind::Trm,
            h_layers: 0,
            l_layers: 2,
            h_cycles: 3,
            l_cycles: 6,
            puzzle_emb_len: 16,
            no_act_continue: true,
            ..Self::default()
        }
    }

    /// The model of this architecture for data of these sizes and this structure, which only a model that mixes by groups takes.
    pub fn on(
        &self,
        vocab_size: usize,
        seq_len: usize,
        num_puzzle_identifiers: usize,
        structure: Option<Structure>,
    ) -> ModelConfig {
        let structure = structure.filter(|_| self.mixer == Mixer::Groups);
        let mut architecture = self.clone();
        if architecture.forward_dtype == ForwardChoice::Auto {
            architecture.forward_dtype = ForwardChoice::F32;
        }
        ModelConfig { vocab_size, seq_len, num_puzzle_identifiers, structure, architecture }
    }

    /// Whether there is a high-level module beside the low-level one.
    pub fn has_h_level(&self) -> bool {
        self.recurrence == RecurrenceKind::Hrm
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the first value that cannot be used.
    pub fn validate(&self) -> Result<(), ModelError> {
        let error = |field, got: String, expected: &str| {
            Err(ModelError::Config { field, got, expected: expected.to_owned() })
        };
        if let Err((field, got, expected)) = self.check_ranges() {
            return error(field, got, &expected);
        }
        match (self.has_h_level(), self.h_layers) {
            (true, 0) => return error("h_layers", "0".to_owned(), "at least 1 for recurrence = \"hrm\""),
            (false, 1..) => {
                let expected = "0: this recurrence has one module, of l_layers blocks";
                return error("h_layers", self.h_layers.to_string(), expected);
            }
            _ => {}
        }
        if self.tokens == Tokens::Lattice && self.mixer != Mixer::Groups {
            return error("tokens", "lattice".to_owned(), "cells, or model.mixer = \"groups\"");
        }
        if self.conflict && (self.tokens != Tokens::Lattice || !self.no_act_continue) {
            let expected = "false, or model.tokens = \"lattice\" and model.no_act_continue = true";
            return error("conflict", "true".to_owned(), expected);
        }
        if self.mixer == Mixer::Groups {
            if self.group_width == 0 {
                return error("group_width", "0".to_owned(), "at least 1");
            }
            if self.pos_encodings != PositionEncoding::None {
                let expected = "none for model.mixer = \"groups\", which knows places by their groups";
                return error("pos_encodings", format!("{:?}", self.pos_encodings).to_lowercase(), expected);
            }
            if self.puzzle_emb_ndim > 0 && self.puzzle_emb_len > 0 {
                let expected = "0 for model.mixer = \"groups\": a prefix belongs to no group";
                return error("puzzle_emb_len", self.puzzle_emb_len.to_string(), expected);
            }
        }
        if self.puzzle_emb_len > 0 && self.puzzle_emb_ndim > self.puzzle_emb_len * self.hidden_size {
            let expected = format!(
                "0, or at least {}: a row of the puzzle embedding has {} values, a token {}",
                self.puzzle_emb_ndim.div_ceil(self.hidden_size),
                self.puzzle_emb_ndim,
                self.hidden_size
            );
            return error("puzzle_emb_len", self.puzzle_emb_len.to_string(), &expected);
        }
        if !self.hidden_size.is_multiple_of(self.num_heads) {
            let expected = format!("a divisor of hidden_size ({})", self.hidden_size);
            return error("num_heads", self.num_heads.to_string(), &expected);
        }
        if self.pos_encodings == PositionEncoding::Rope && !self.head_dim().is_multiple_of(2) {
            let expected = format!(
                "hidden_size / num_heads even for rotary positions, got {} / {}",
                self.hidden_size, self.num_heads
            );
            return error("num_heads", self.num_heads.to_string(), &expected);
        }
        Ok(())
    }
}

impl ModelConfig {
    /// The paper's architecture for a vocabulary and a sequence length.
    pub fn new(vocab_size: usize, seq_len: usize) -> Self {
        Architecture::default().on(vocab_size, seq_len, 1, None)
    }

    /// TRM as published, see [`Architecture::trm`].
    pub fn trm(vocab_size: usize, seq_len: usize) -> Self {
        Architecture::trm().on(vocab_size, seq_len, 1, None)
    }

    /// The 27M-parameter model of the paper for 9x9 Sudoku.
    pub fn hrm_sudoku_extreme() -> Self {
        Self::new(11, 81)
    }

    /// With some values changed.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Sets the width, and the puzzle embedding's to the same.
    pub fn with_hidden_size(mut self, hidden_size: usize) -> Self {
        self.hidden_size = hidden_size;
        if self.puzzle_emb_ndim > 0 {
            self.puzzle_emb_ndim = hidden_size;
        }
        self
    }

    /// Sets the number of attention heads.
    pub fn with_num_heads(mut self, num_heads: usize) -> Self {
        self.num_heads = num_heads;
        self
    }

    /// Sets the number of blocks of both modules.
    pub fn with_layers(mut self, h_layers: usize, l_layers: usize) -> Self {
        (self.h_layers, self.l_layers) = (h_layers, l_layers);
        self
    }

    /// Sets the number of cycles.
    pub fn with_cycles(mut self, h_cycles: usize, l_cycles: usize) -> Self {
        (self.h_cycles, self.l_cycles) = (h_cycles, l_cycles);
        self
    }

    /// Sets the width of a puzzle embedding; 0 for none.
    pub fn with_puzzle_emb_ndim(mut self, puzzle_emb_ndim: usize) -> Self {
        self.puzzle_emb_ndim = puzzle_emb_ndim;
        self
    }

    /// Sets the float type of activations.
    pub fn with_forward_dtype(mut self, forward_dtype: ForwardDtype) -> Self {
        self.forward_dtype = forward_dtype.into();
        self
    }

    /// Width of the SwiGLU: `round(expansion * hidden * 2 / 3)`, rounded up to a multiple of 256, and not 0.
    pub fn intermediate_size(&self) -> usize {
        self.swiglu_width(self.hidden_size)
    }

    /// Width between the projections of a SwiGLU on vectors of `width`.
    pub(crate) fn swiglu_width(&self, width: usize) -> usize {
        let width = (self.expansion * width as f64 * 2.0 / 3.0).round() as usize;
        width.max(1).div_ceil(256) * 256
    }

    /// Width of the gated unit of a block that mixes by groups: `expansion * hidden * 2 / 3`, rounded up to a multiple of
    /// 16, and not 0.
    pub fn group_inter(&self) -> usize {
        let width = (self.expansion * self.hidden_size as f64 * 2.0 / 3.0).round() as usize;
        width.max(1).div_ceil(16) * 16
    }

    /// States of a cell: one, or in a lattice one for each value.
    pub fn values(&self) -> usize {
        match (self.tokens, &self.structure) {
            (Tokens::Lattice, Some(structure)) => {
                self.vocab_size.saturating_sub(structure.first_value.saturating_add(structure.after_values))
            }
            _ => 1,
        }
    }

    /// The configuration of the same weights on a puzzle of another size.
    ///
    /// # Errors
    /// [`ModelError::Size`] if they do not fit it.
    pub fn on_puzzle(
        &self,
        vocab_size: usize,
        seq_len: usize,
        structure: Option<Structure>,
    ) -> Result<Self, ModelError> {
        if (vocab_size, seq_len) == (self.vocab_size, self.seq_len) {
            return Ok(self.clone());
        }
        let error = |reason: String| Err(ModelError::Size { seq_len, vocab_size, reason });
        let Some(of_model) = &self.structure else {
            return error(format!(
                "the model is for {} tokens of {} kinds only",
                self.seq_len, self.vocab_size
            ));
        };
        let Some(of_puzzle) = structure else {
            return error("the puzzle names no groups of cells, and the model mixes by groups".to_owned());
        };
        let names = |structure: &Structure| {
            let names: Vec<&str> = structure.groups.iter().map(|kind| kind.name.as_str()).collect();
            names.join(", ")
        };
        let (got, expected) = (names(&of_puzzle), names(of_model));
        let tokens = |structure: &Structure| (structure.first_value, structure.distinct_values);
        if (got.as_str(), tokens(&of_puzzle)) != (expected.as_str(), tokens(of_model)) {
            return error(format!("the model knows groups by {expected}, the puzzle has groups by {got}"));
        }
        if self.tokens == Tokens::Cells && vocab_size != self.vocab_size {
            return error(format!("the model knows {} kinds of tokens", self.vocab_size));
        }
        let config = Self { vocab_size, seq_len, structure: Some(of_puzzle), ..self.clone() };
        config.validate()?;
        Ok(config)
    }

    /// Vectors that hold a puzzle's embedding; none without one.
    pub(crate) fn puzzle_emb_vectors(&self) -> usize {
        match (self.puzzle_emb_ndim, self.puzzle_emb_len) {
            (0, _) => 0,
            (ndim, 0) => ndim.div_ceil(self.hidden_size),
            (_, len) => len,
        }
    }

    /// Prefix tokens that hold a puzzle's embedding; none without one, or where tokens are mixed by groups.
    pub fn prefix_len(&self) -> usize {
        if self.mixer == Mixer::Groups { 0 } else { self.puzzle_emb_vectors() }
    }

    /// Everything that has a state: prefix and sequence, or the nodes of a lattice.
    pub fn total_len(&self) -> usize {
        self.prefix_len() + self.seq_len * self.values()
    }

    /// The groups of a model that mixes by them.
    ///
    /// # Errors
    /// If the puzzle has none, or they do not fit its sizes.
    pub(crate) fn groups(&self) -> Result<Option<std::sync::Arc<hrm_backend::Groups>>, ModelError> {
        if self.mixer != Mixer::Groups {
            return Ok(None);
        }
        let error = |got: &str, expected: String| {
            Err(ModelError::Config { field: "mixer", got: format!("groups, {got}"), expected })
        };
        let Some(structure) = &self.structure else {
            return error(
                "but the puzzle names no groups",
                "attention or mlp: groups are for puzzles whose cells form groups, as the rows of a Sudoku"
                    .to_owned(),
            );
        };
        if self.tokens == Tokens::Lattice && self.values() == 0 {
            return error(
                &format!("values from token {} on", structure.first_value),
                format!("a value among the {} tokens", self.vocab_size),
            );
        }
        match structure.groups(self.seq_len, self.values()) {
            Ok(groups) => Ok(Some(groups)),
            Err(problem) => error(&problem, format!("groups of {} cells", self.seq_len)),
        }
    }

    /// Whether the Q values say that a sequence should halt.
    pub fn halts(&self, q_halt: f32, q_continue: f32) -> bool {
        q_halt > if self.no_act_continue { 0.0 } else { q_continue }
    }

    /// Which rows have a given that is not the answer's value, so that no answer fits their givens; `None` for a model that does not learn
    /// to tell them.
    ///
    /// # Shapes
    /// - `inputs`, `labels`: `[batch, seq_len]`; output: `[batch]`
    pub fn contradicted<B: Backend>(
        &self,
        inputs: Tensor<B, 2, Int>,
        labels: Tensor<B, 2, Int>,
    ) -> Option<Tensor<B, 1, Bool>> {
        let structure = self.structure.as_ref().filter(|_| self.conflict)?;
        let asked = labels.clone().not_equal_elem(IGNORE_LABEL);
        let given = inputs.clone().greater_equal_elem(structure.first_value as i64);
        let wrong = given.bool_and(asked).bool_and(inputs.not_equal(labels));
        Some(wrong.int().sum_dim(1).squeeze_dim::<1>(1).greater_elem(0))
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the first value that cannot be used.
    pub fn validate(&self) -> Result<(), ModelError> {
        let error = |field, got: String, expected: &str| {
            Err(ModelError::Config { field, got, expected: expected.to_owned() })
        };
        for (field, value, most) in [
            ("vocab_size", self.vocab_size, MAX_SIZE),
            ("seq_len", self.seq_len, MAX_TOKENS),
            ("num_puzzle_identifiers", self.num_puzzle_identifiers, i32::MAX as u64),
        ] {
            if let Some(expected) = Range::count(1, most).expected(value as f64) {
                return error(field, value.to_string(), &expected);
            }
        }
        self.architecture.validate()?;
        if self.mixer == Mixer::Groups {
            let groups: usize =
                self.structure.iter().flat_map(|s| &s.groups).map(|kind| kind.groups.len()).sum();
            let nodes = self.seq_len * self.vocab_size;
            if groups.saturating_mul(self.seq_len) > MAX_MEMBERS || nodes > MAX_MEMBERS {
                let got = format!("groups, {groups} of them over {} cells", self.seq_len);
                return error("mixer", got, &format!("at most {MAX_MEMBERS} groups times cells"));
            }
            self.groups()?;
            let (values, hidden) = (self.values(), self.hidden_size);
            if ![0, hidden, values * hidden].contains(&self.puzzle_emb_ndim) {
                let mut expected = format!("0, or model.hidden_size ({hidden}), a vector for all nodes");
                if values > 1 {
                    expected += &format!(", or {values} of them, one for each value");
                }
                return error("puzzle_emb_ndim", self.puzzle_emb_ndim.to_string(), &expected);
            }
            let structure = self.structure.iter().find(|_| self.tokens == Tokens::Lattice);
            if structure.is_some_and(|structure| structure.distinct_values > values) {
                return error("mixer", "groups".to_owned(), "no more values that are told apart than values");
            }
            if self.conflict && structure.is_some_and(|structure| structure.first_value == 0) {
                let expected = "false where every cell is given: an answer may be something else";
                return error("conflict", "true".to_owned(), expected);
            }
        }
        Ok(())
    }

    /// A freshly initialised model on `device`, all randomness drawn from `rng` on the host: the same seed
    /// gives the same weights on every backend.
    ///
    /// # Errors
    /// If [`validate`](Self::validate) fails.
    pub fn init<B: HrmBackend>(&self, rng: &mut dyn Rng, device: &B::Device) -> Result<Hrm<B>, ModelError> {
        self.validate()?;
        Ok(Hrm::with_init(self, &mut Initializer::random(rng), device))
    }

    /// Whether a backend can run the forward type on a device.
    pub fn runs_on<B: Backend>(&self, device: &B::Device) -> bool {
        B::supports_dtype(device, self.forward_dtype.into())
    }
}
