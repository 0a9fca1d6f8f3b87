//! A model at work on a puzzle, one segment at a time.

use burn::tensor::{DType, Int, Tensor, TensorData, activation};
use hrm_backend::Cpu;
use hrm_data::task::{AnyTask, Beliefs};
use hrm_infer::{Guesses, SURE, of_shape, sigmoid, structure};
use hrm_model::{Hrm, State, act::Carry};
use serde::Serialize;

use crate::Puzzle;

/// The models that come with the page, by the folders of `checkpoints/`.
pub const BUNDLED: [&str; 5] = ["sudoku-9x9", "sudoku-4x4", "sudoku-6x6", "sudoku", "maze"];

/// Which of the [`BUNDLED`] models works on a puzzle: that of its size, otherwise one whose weights belong to no place: that of all
/// mazes, or that of all Sudokus.
///
/// # Errors
/// If the puzzle is none.
pub fn model_name(puzzle: &Puzzle) -> Result<&'static str, String> {
    let folder = puzzle.shape()?.folder();
    let of_size = BUNDLED.into_iter().find(|name| **name == *folder);
    Ok(of_size.unwrap_or(if folder.starts_with("maze") { "maze" } else { "sudoku" }))
}

/// A model from the bytes of a checkpoint.
#[derive(Debug)]
pub struct Model(Hrm<Cpu>);

impl Model {
    /// The model of a file `model.safetensors` with these bytes; errors call it `name`.
    ///
    /// # Errors
    /// If the bytes are no model.
    pub fn new(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let model =
            Hrm::decode(name.as_ref(), bytes, &Default::default()).map_err(|error| error.to_string())?;
        Ok(Self(model))
    }

    /// Starts on a puzzle.
    ///
    /// # Errors
    /// If it is none, or not one for this model.
    pub fn start(&self, puzzle: &Puzzle) -> Result<Thinker, String> {
        let (shape, task) = (puzzle.shape()?, puzzle.task()?);
        let model = self.0.clone().on_puzzle(task.vocab_size(), task.seq_len(), structure(shape));
        let model = model.map_err(|error| error.to_string())?.with_converted_blocks();
        let carry = fresh(&model, &puzzle.tokens);
        let last = Thought { tokens: puzzle.tokens.clone(), attempt: 1, ..Thought::default() };
        let blank = of_shape(Some(shape), 1, 0).blank().filter(|_| model.config().conflict);
        Ok(Thinker {
            model,
            task,
            puzzle: puzzle.clone(),
            carry,
            last,
            logits: Vec::new(),
            chances: None,
            blank,
            guesses: Guesses::default(),
            steps: 0,
            doubt: 0.0,
        })
    }
}

/// A carry at step 0.
fn fresh(model: &Hrm<Cpu>, tokens: &[u8]) -> Carry<Cpu> {
    let device = model.device();
    let shape = [1, tokens.len()];
    let tokens: Vec<i32> = tokens.iter().map(|&token| i32::from(token)).collect();
    let tokens = Tensor::<Cpu, 2, Int>::from_data(TensorData::new(tokens, shape), &device);
    Carry::fresh(model, tokens, Tensor::zeros([1], &device))
}

/// What one segment made of a puzzle.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Thought {
    /// Which segment, from 1.
    pub step: usize,
    /// Which attempt, from 1; those after the first take values as given.
    pub attempt: usize,
    /// The cells whose values the attempt has guessed.
    pub guessed: Vec<usize>,
    /// The most likely token of each cell.
    pub tokens: Vec<u8>,
    /// How sure the model is of it, from 0 to 1.
    pub certainty: Vec<f32>,
    /// Cells that were something else a segment ago.
    pub changed: Vec<usize>,
    /// Cells that break the rules by themselves, see [`Puzzle::conflicts`].
    pub conflicts: Vec<usize>,
    /// What is wrong with the answer, in words; `None` if it is right.
    pub fault: Option<String>,
    /// Value of halting, a logit.
    pub q_halt: f32,
    /// The model's estimate of the chance that its answer is right, from 0 to 1.
    pub halt_probability: f32,
    /// Whether the model would stop here.
    pub halts: bool,
    /// Whether it may stop here: it would, and its answer is right. An answer that breaks the rules is no reason to stop, whatever
    /// the model thinks of it.
    pub settled: bool,
}

/// A model at work on a puzzle.
#[derive(Debug)]
pub struct Thinker {
    model: Hrm<Cpu>,
    task: AnyTask,
    puzzle: Puzzle,
    carry: Carry<Cpu>,
    last: Thought,
    logits: Vec<f32>,
    /// The chance of each token, `[1, cells, tokens]`.
    chances: Option<Tensor<Cpu, 3>>,
    /// What a guess may fill in, for a model that has learned to guess.
    blank: Option<u8>,
    guesses: Guesses<State<Cpu>>,
    /// Segments of the attempt.
    steps: usize,
    /// The chance of a contradiction that the model sees in its guesses.
    doubt: f32,
}

impl Thinker {
    /// Starts the next attempt, with other guesses, if the model has learned trial and error and the last one is over, as
    /// [`Solver`](hrm_infer::Solver) does.
    fn guess(&mut self) {
        let config = self.model.config();
        let over = self.steps >= config.halt_max_steps || self.last.attempt > 1 && self.doubt > SURE;
        let (Some(blank), Some(chances), true) = (self.blank, &self.chances, over) else { return };
        let beliefs = Beliefs::new(config.vocab_size, chances.to_data().iter().collect());
        let state = || Some(self.carry.state.clone());
        let mut tokens = self.puzzle.tokens.clone();
        if !self.guesses.go_on(self.doubt, state, &beliefs, &tokens, blank) {
            return;
        }
        self.guesses.give(&mut tokens);
        self.carry = fresh(&self.model, &tokens);
        if let Some(state) = self.guesses.from() {
            self.carry.state = state.clone();
        }
        (self.steps, self.doubt) = (0, 0.0);
        self.last.attempt += 1;
        self.last.guessed = self.guesses.current().iter().map(|(cell, _)| *cell).collect();
    }

    /// Runs one segment.
    pub fn think(&mut self) -> &Thought {
        self.guess();
        let (carry, output) = self.model.segment(self.carry.clone());
        self.carry = carry;
        let logits = output.logits.clone().cast(DType::F32);
        let [_, cells, vocab] = logits.dims();
        let chances = activation::softmax(logits.clone(), 2);
        let best = chances.clone().max_dim(2).reshape([cells]);
        self.chances = Some(chances);
        let tokens = output.predictions().float().cast(DType::F32).reshape([cells]);
        // One read of everything.
        let parts = vec![tokens, best, output.q_halt, output.q_continue, logits.reshape([cells * vocab])];
        let values = Tensor::<Cpu, 1>::cat(parts, 0).into_data();
        let mut values = values.iter::<f32>();
        // Tokens are below the vocabulary size, which is at most 27.
        let tokens: Vec<u8> = values.by_ref().take(cells).map(|token| token as u8).collect();
        let certainty = values.by_ref().take(cells).collect();
        let (q_halt, q_continue) = (values.next().unwrap_or_default(), values.next().unwrap_or_default());
        self.logits = values.collect();
        let halts = self.model.config().halts(q_halt, q_continue);
        let fault = self.task.verify(&self.puzzle.tokens, &tokens).err();
        let before = self.last.tokens.iter().zip(&tokens).enumerate();
        self.steps += 1;
        self.doubt = if self.model.config().conflict { sigmoid(q_continue) } else { 0.0 };
        self.last = Thought {
            step: self.last.step + 1,
            attempt: self.last.attempt,
            guessed: std::mem::take(&mut self.last.guessed),
            certainty,
            changed: before.filter(|(_, (old, new))| old != new).map(|(cell, _)| cell).collect(),
            conflicts: self.puzzle.conflicts(&tokens),
            settled: halts && fault.is_none(),
            fault,
            q_halt,
            halt_probability: sigmoid(q_halt),
            halts,
            tokens,
        };
        &self.last
    }

    /// What the last segment made of the puzzle; before the first one, the puzzle.
    pub fn last(&self) -> &Thought {
        &self.last
    }

    /// The logits of the last segment. `[cells * vocabulary]`
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }
}
