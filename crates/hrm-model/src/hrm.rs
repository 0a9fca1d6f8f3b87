//! The model: embeddings, two reasoning modules, the cycles of a segment, the heads.

use burn::{
    module::{AutodiffModule, Module, ModuleMapper, Param},
    tensor::{DType, Int, Tensor, backend::Backend},
};
use hrm_backend::{HrmAutodiffBackend, HrmBackend, ops};

use crate::{
    ForwardDtype, Mixer, ModelConfig, ModelError, PositionEncoding, PuzzleEmbedding, Structure, Tokens,
    act::{Carry, PuzzleBatch},
    init::{Initializer, buffer},
    layers::{Embedding, Linear, ReasoningModule, RotaryTables},
    puzzle_embedding::prefix_tokens,
    recurrence::Cell,
};

/// The Hierarchical Reasoning Model (arXiv 2506.21734, section 2), and the models that share its parts: TRM
/// (arXiv 2510.04871), which has one module for both levels, and a plain transformer; see
/// [`RecurrenceKind`](crate::RecurrenceKind).
///
/// Fields carry the original's names, so a parameter's path is its key in the original's state dict but for
/// the capital letters of `H_level`, `L_level`, `H_init` and `L_init`.
#[derive(Module, Debug)]
pub struct Hrm<B: Backend> {
    /// `[vocab_size, hidden]`; of a lattice `[first_value + 2, hidden]`: each token that is no value, this value is given, another one
    /// is; where values are told apart, as many vectors as there are pairs of what a node stands for and what its cell holds.
    pub embed_tokens: Embedding<B>,
    /// `[total_len, hidden]`, with learned positions only.
    pub embed_pos: Option<Embedding<B>>,
    /// `[num_puzzle_identifiers, puzzle_emb_ndim]`, unless the width is 0.
    pub puzzle_emb: Option<PuzzleEmbedding<B>>,
    /// The slow module: plans. Absent where one module does everything (TRM).
    pub h_level: Option<ReasoningModule<B>>,
    /// The fast module: computes.
    pub l_level: ReasoningModule<B>,
    /// `[vocab_size, hidden]`; of a lattice `[1, hidden]`
    pub lm_head: Linear<B>,
    /// `[2, hidden]`: halt, continue.
    pub q_head: Linear<B>,
    /// Where `z_h` starts, `[hidden]`; untrained.
    pub h_init: Param<Tensor<B, 1>>,
    /// Where `z_l` starts, `[hidden]`; untrained.
    pub l_init: Param<Tensor<B, 1>>,
    /// The positions of all blocks, with rotary positions only; untrained.
    pub(crate) rotary: Option<RotaryTables<B>>,
    #[module(skip)]
    config: ModelConfig,
}

/// Converts parameters.
struct Converter(DType);

impl<B: HrmBackend> ModuleMapper<B> for Converter {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|tensor| ops::convert(tensor, self.0))
    }
}

/// The two states that the recurrence updates.
#[derive(Debug, Clone)]
pub struct State<B: Backend> {
    /// State of the high-level module, `[batch, total_len, hidden]`.
    pub z_h: Tensor<B, 3>,
    /// State of the low-level module, `[batch, total_len, hidden]`.
    pub z_l: Tensor<B, 3>,
}

/// How deep a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cycles {
    /// High-level updates per segment.
    pub h_cycles: usize,
    /// Low-level updates per high-level update.
    pub l_cycles: usize,
}

/// What the heads read from a segment's last `z_h`.
#[derive(Debug, Clone)]
pub struct SegmentOutput<B: Backend> {
    /// `[batch, seq_len, vocab_size]`, in the forward type.
    pub logits: Tensor<B, 3>,
    /// Value of halting now (a logit), `[batch]`, fp32.
    pub q_halt: Tensor<B, 1>,
    /// Value of going on, or with `conflict` that the givens contradict each other (a logit), `[batch]`, fp32.
    pub q_continue: Tensor<B, 1>,
}

impl<B: Backend> SegmentOutput<B> {
    /// The most likely token of each cell.
    ///
    /// # Shapes
    /// - output: `[batch, seq_len]`
    pub fn predictions(&self) -> Tensor<B, 2, Int> {
        self.logits.clone().argmax(2).squeeze_dim(2)
    }
}

impl<B: Backend> Hrm<B> {
    pub(crate) fn with_init(config: &ModelConfig, init: &mut Initializer<'_>, device: &B::Device) -> Self {
        let hidden = config.hidden_size;
        // What is wrong with them is told by `ModelConfig::validate`.
        let groups = config.groups().ok().flatten();
        let groups = groups.as_ref();
        let (embeddings, logits) = match (config.tokens, &config.structure) {
            (Tokens::Lattice, Some(structure)) => (structure.node_types(), 1),
            _ => (config.vocab_size, config.vocab_size),
        };
        Self {
            embed_tokens: Embedding::new(init, embeddings, hidden, device),
            embed_pos: (config.pos_encodings == PositionEncoding::Learned)
                .then(|| Embedding::new(init, config.total_len(), hidden, device)),
            puzzle_emb: (config.puzzle_emb_ndim > 0)
                .then(|| PuzzleEmbedding::new(config.num_puzzle_identifiers, config.puzzle_emb_ndim, device)),
            h_level: config
                .has_h_level()
                .then(|| ReasoningModule::new(config, groups, config.h_layers, init, device)),
            l_level: ReasoningModule::new(config, groups, config.l_layers, init, device),
            lm_head: Linear::new(init, hidden, logits, device),
            // Almost zero Q values at first: sigmoid(-5), as if nothing were solved.
            q_head: Linear::constant(hidden, 2, -5.0, device),
            h_init: buffer(init.trunc_normal(1.0, hidden), [hidden], device),
            l_init: buffer(init.trunc_normal(1.0, hidden), [hidden], device),
            rotary: (config.pos_encodings == PositionEncoding::Rope)
                .then(|| RotaryTables::new(config.total_len(), config.head_dim(), config.rope_theta, device)),
            config: config.clone(),
        }
    }

    /// A model of zeros, to load weights into.
    pub fn untrained(config: &ModelConfig, device: &B::Device) -> Self {
        Self::with_init(config, &mut Initializer::zeros(), device)
    }

    /// The configuration that the model was built from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The same model with other numbers of cycles.
    pub fn with_cycles(mut self, cycles: Cycles) -> Self {
        (self.config.h_cycles, self.config.l_cycles) = (cycles.h_cycles, cycles.l_cycles);
        self
    }

    /// The same model with another type of activations.
    pub fn with_forward_dtype(mut self, dtype: ForwardDtype) -> Self {
        self.config.forward_dtype = dtype.into();
        self
    }

    /// The same weights on a puzzle of another size: for models that mix by groups, whose weights belong to no place.
    ///
    /// # Errors
    /// [`ModelError::Size`] if the model mixes tokens by their places, or was trained on other kinds of groups than the puzzle has.
    pub fn on_puzzle(
        self,
        vocab_size: usize,
        seq_len: usize,
        structure: Option<Structure>,
    ) -> Result<Self, ModelError> {
        let config = self.config.on_puzzle(vocab_size, seq_len, structure)?;
        let groups = config.groups()?;
        let device = self.device();
        let refit = |module: ReasoningModule<B>| module.with_groups(groups.as_ref(), &device);
        Ok(Self { h_level: self.h_level.map(refit), l_level: refit(self.l_level), config, ..self })
    }

    /// The device that holds the weights.
    pub fn device(&self) -> B::Device {
        self.h_init.device()
    }

    /// The fixed initial states for a batch.
    pub fn initial_state(&self, batch: usize) -> State<B> {
        let shape = [batch, self.config.total_len(), self.config.hidden_size];
        let spread =
            |init: &Param<Tensor<B, 1>>| init.val().cast(self.forward_dtype()).unsqueeze::<3>().expand(shape);
        State { z_h: spread(&self.h_init), z_l: spread(&self.l_init) }
    }

    /// The rows of the puzzle embedding that a batch uses; `None` for a model without one.
    ///
    /// # Shapes
    /// - `identifiers`: `[batch]`; output: `[batch, puzzle_emb_ndim]`
    pub fn puzzle_rows(&self, identifiers: Tensor<B, 1, Int>) -> Option<Tensor<B, 2>> {
        self.puzzle_emb.as_ref().map(|table| table.lookup(identifiers))
    }

    /// What the embedding is asked for: the tokens, or of a lattice for each node whether its value is given, another one is, which of
    /// those that are told apart is, or the token that stands for none; counted anew for each value that is told apart.
    ///
    /// # Shapes
    /// - `inputs`: `[batch, seq_len]`; output: `[batch, seq_len]`, of a lattice `[batch, seq_len * values]`
    fn node_types(&self, inputs: Tensor<B, 2, Int>) -> Tensor<B, 2, Int> {
        let (Tokens::Lattice, Some(structure)) = (self.config.tokens, &self.config.structure) else {
            return inputs;
        };
        let (first, values) = (structure.first_value as i64, self.config.values());
        let (distinct, seen) = (structure.distinct_values as i64, structure.seen() as i64);
        let [batch, cells] = inputs.dims();
        let shape = [batch, cells, values];
        let inputs = inputs.unsqueeze_dim::<3>(2).expand(shape);
        let of_node = Tensor::arange(first..first + values as i64, &inputs.device())
            .reshape([1, 1, values])
            .expand(shape);
        let other = inputs.clone().greater_equal_elem(first + distinct);
        let no_value = inputs.clone().lower_elem(first);
        let this = inputs.clone().equal(of_node.clone());
        let types = (inputs.clone() + 2)
            .mask_fill(other, first + 1)
            .mask_where(no_value, inputs)
            .mask_fill(this, first);
        // Types of the values that may change places come first.
        let offset = (of_node.clone() - first + 1) * seen;
        let offset = offset.mask_fill(of_node.greater_equal_elem(first + distinct), 0);
        (types + offset).reshape([batch, cells * values])
    }

    fn forward_dtype(&self) -> DType {
        self.config.forward_dtype.into()
    }
}

impl<B: HrmBackend> Hrm<B> {
    /// The same with the weights of its blocks in the type that it computes in, for passes without gradients: a segment would
    /// convert them again at every use.
    pub fn with_converted_blocks(mut self) -> Self {
        let mut converter = Converter(self.forward_dtype());
        self.h_level = self.h_level.map(|module| module.map(&mut converter));
        self.l_level = self.l_level.map(&mut converter);
        self
    }

    /// What is injected at every low-level update: prefix and token embeddings, positions if learned, scaled. Where tokens are mixed by
    /// groups there is no prefix: a row of the puzzle embedding is added to every node, or each of its vectors to the nodes of one value.
    ///
    /// # Shapes
    /// - `inputs`: `[batch, seq_len]`; `puzzle_rows`: `[batch, puzzle_emb_ndim]`
    /// - output: `[batch, total_len, hidden]`
    pub fn input_embeddings(
        &self,
        inputs: Tensor<B, 2, Int>,
        puzzle_rows: Option<Tensor<B, 2>>,
    ) -> Tensor<B, 3> {
        let (hidden, dtype) = (self.config.hidden_size, self.forward_dtype());
        let mut embedding = self.embed_tokens.forward(self.node_types(inputs), dtype);
        if let Some(rows) = puzzle_rows {
            let vectors = prefix_tokens(rows.cast(dtype), self.config.puzzle_emb_vectors(), hidden);
            embedding = match self.config.mixer {
                Mixer::Groups => {
                    let [batch, nodes, _] = embedding.dims();
                    let shape = [batch, self.config.seq_len, self.config.values(), hidden];
                    embedding + vectors.unsqueeze_dim::<4>(1).expand(shape).reshape([batch, nodes, hidden])
                }
                _ => Tensor::cat(vec![vectors, embedding], 1),
            };
        }
        if let Some(positions) = &self.embed_pos {
            // 1/sqrt(2) keeps the variance of the sum.
            let positions = positions.embedding_weight.val().cast(dtype).unsqueeze::<3>();
            embedding = (embedding + positions) * std::f64::consts::FRAC_1_SQRT_2;
        }
        embedding * (hidden as f64).sqrt()
    }

    /// One segment: the updates of the [`recurrence`](crate::recurrence), then the heads.
    ///
    /// # Shapes
    /// - `input`: `[batch, total_len, hidden]`, from [`input_embeddings`](Self::input_embeddings)
    pub fn forward(&self, state: State<B>, input: Tensor<B, 3>) -> (State<B>, SegmentOutput<B>) {
        let recurrence = self.config.recurrence.of::<B>();
        let cell = Cell::new(self, input);
        let state = recurrence.early_updates(&cell, state);
        let state = recurrence.last_updates(&cell, state);
        let output = self.heads(state.z_h.clone());
        (state, output)
    }

    /// One segment on a carry whose halted rows have been replaced: evaluation and inference, where every
    /// sequence runs `halt_max_steps` segments.
    pub fn segment(&self, carry: Carry<B>) -> (Carry<B>, SegmentOutput<B>) {
        let rows = self.puzzle_rows(carry.batch.puzzle_identifiers.clone());
        let input = self.input_embeddings(carry.batch.inputs.clone(), rows);
        let (state, output) = self.forward(carry.state, input);
        let steps = carry.steps + 1;
        let halted = steps.clone().greater_equal_elem(self.config.halt_max_steps as i64);
        (Carry { state, steps, halted, batch: carry.batch }, output)
    }

    pub(crate) fn heads(&self, z_h: Tensor<B, 3>) -> SegmentOutput<B> {
        let (logits, q) = match self.config.tokens {
            Tokens::Cells => self.heads_of_cells(z_h),
            Tokens::Lattice => self.heads_of_nodes(z_h),
        };
        let q = q.cast(DType::F32);
        SegmentOutput {
            logits,
            q_halt: q.clone().narrow(1, 0, 1).squeeze_dim(1),
            q_continue: q.narrow(1, 1, 1).squeeze_dim(1),
        }
    }

    /// Logits of the cells; the halting values read the first token, of a puzzle without positions the mean of all.
    fn heads_of_cells(&self, z_h: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let [batch, _, hidden] = z_h.dims();
        let ModelConfig { seq_len, vocab_size, .. } = self.config;
        let read = match self.config.mixer {
            Mixer::Groups => mean_of_nodes(z_h.clone()),
            _ => z_h.clone().narrow(1, 0, 1),
        };
        let cells = z_h.narrow(1, self.config.prefix_len(), seq_len).reshape([batch * seq_len, hidden]);
        let logits = self.lm_head.forward(cells).reshape([batch, seq_len, vocab_size]);
        (logits, self.q_head.forward(read.reshape([batch, hidden])))
    }

    /// Logits of a lattice, one of each node, laid out as tokens: those that are no value cannot be. The halting values read the mean of
    /// all nodes.
    fn heads_of_nodes(&self, z_h: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let [batch, nodes, hidden] = z_h.dims();
        let ModelConfig { seq_len, vocab_size, .. } = self.config;
        let values = self.config.values();
        let q = self.q_head.forward(mean_of_nodes(z_h.clone()).reshape([batch, hidden]));
        let logits =
            self.lm_head.forward(z_h.reshape([batch * nodes, hidden])).reshape([batch, seq_len, values]);
        let never = |count: usize| {
            let logits = || Tensor::full([batch, seq_len, count], NEVER, (&logits.device(), logits.dtype()));
            (count > 0).then(logits)
        };
        let after = self.config.structure.as_ref().map_or(0, |structure| structure.after_values);
        let parts = [never(vocab_size - values - after), Some(logits.clone()), never(after)];
        (Tensor::cat(parts.into_iter().flatten().collect(), 2), q)
    }
}

/// The mean over all nodes, as a product: its gradient is one too, where that of Burn's mean walks over every element by strides.
///
/// # Shapes
/// - `z_h`: `[batch, nodes, hidden]`; output: `[batch, 1, hidden]`
fn mean_of_nodes<B: HrmBackend>(z_h: Tensor<B, 3>) -> Tensor<B, 3> {
    let [batch, nodes, _] = z_h.dims();
    let ones = Tensor::ones([batch, 1, nodes], (&z_h.device(), z_h.dtype()));
    ops::product(ones, z_h) / nodes as f64
}

/// The logit of a token that cannot be an answer.
const NEVER: f64 = -1e4;

impl<B: HrmAutodiffBackend> Hrm<B> {
    /// One segment for training (section 2, "approximate gradient"): the early updates run on `inner`, the model
    /// without automatic differentiation, so no graph is kept for them. The new state has no graph either.
    ///
    /// # Shapes
    /// - `input`: `[batch, total_len, hidden]`, from [`input_embeddings`](Self::input_embeddings)
    pub fn forward_truncated(
        &self,
        inner: &Hrm<B::InnerBackend>,
        state: State<B::InnerBackend>,
        input: Tensor<B, 3>,
    ) -> (State<B::InnerBackend>, SegmentOutput<B>) {
        let kind = self.config.recurrence;
        let cell = Cell::new(inner, input.clone().inner());
        let state = kind.of::<B::InnerBackend>().early_updates(&cell, state);
        let state = State { z_h: Tensor::from_inner(state.z_h), z_l: Tensor::from_inner(state.z_l) };
        let state = kind.of::<B>().last_updates(&Cell::new(self, input), state);
        let output = self.heads(state.z_h.clone());
        (State { z_h: state.z_h.inner(), z_l: state.z_l.inner() }, output)
    }

    /// The model without automatic differentiation; shares the weights.
    pub fn inner(&self) -> Hrm<B::InnerBackend> {
        self.valid()
    }
}

impl<B: Backend> Hrm<B> {
    /// A carry of `batch` halted slots that takes its first puzzles at the first [`Carry::admit`].
    pub fn empty_carry(&self, batch: usize) -> Carry<B> {
        let device = self.device();
        Carry {
            state: self.initial_state(batch),
            steps: Tensor::zeros([batch], &device),
            halted: Tensor::<B, 1, Int>::ones([batch], &device).bool(),
            batch: PuzzleBatch {
                inputs: Tensor::zeros([batch, self.config.seq_len], &device),
                labels: Tensor::zeros([batch, self.config.seq_len], &device),
                puzzle_identifiers: Tensor::zeros([batch], &device),
            },
        }
    }
}
