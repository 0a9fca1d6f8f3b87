//! Inference: segments until each sequence prefers to halt.

use std::time::{Duration, Instant};

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use hrm_backend::HrmBackend;
use hrm_model::{
    Hrm, State,
    act::{Carry, PuzzleBatch},
};
use thiserror::Error;

/// When inference stops working on a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Halting {
    /// After the first segment whose `q_halt` exceeds its `q_continue` (0 for a model without one), as in training
    /// without exploration.
    #[default]
    Learned,
    /// After the last step only, as the original evaluates.
    AtLastStep,
}

/// How inference runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InferOptions {
    /// Segments at most; `None` for the model's `halt_max_steps`. More than that is allowed: the network is
    /// recurrent, and thinking longer can help.
    pub max_steps: Option<usize>,
    /// When a sequence is done.
    pub halting: Halting,
}

/// What can be wrong with a batch.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InferError {
    /// A row of another length than the model's sequences.
    #[error("sequence {row}: expected {expected} tokens, got {got}")]
    Length {
        /// Which row of the batch, from 0.
        row: usize,
        /// The model's sequence length.
        expected: usize,
        /// Tokens in the row.
        got: usize,
    },
    /// A token that the model does not know.
    #[error("sequence {row}, token {position}: expected a token below {vocab_size}, got {got}")]
    Token {
        /// Which row of the batch, from 0.
        row: usize,
        /// Where in the row, from 0.
        position: usize,
        /// The token.
        got: u8,
        /// The model's vocabulary.
        vocab_size: usize,
    },
    /// A puzzle without a row in the puzzle embedding.
    #[error("sequence {row}: expected a puzzle identifier below {known}, got {got}")]
    Identifier {
        /// Which row of the batch, from 0.
        row: usize,
        /// The identifier.
        got: u32,
        /// Rows of the table.
        known: usize,
    },
    /// No step to run.
    #[error("expected at least 1 step, got 0")]
    NoSteps,
    /// The device cannot compute in the model's type.
    #[error("this backend does not compute in the model's forward_dtype ({0}); use another backend")]
    Dtype(String),
}

/// A sequence to infer: tokens and the row of the puzzle embedding (0 where puzzles have no identity).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// `seq_len` tokens.
    pub tokens: Vec<u8>,
    /// Row of the puzzle embedding.
    pub identifier: u32,
}

impl From<Vec<u8>> for Query {
    fn from(tokens: Vec<u8>) -> Self {
        Self { tokens, identifier: 0 }
    }
}

/// What one segment made of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Thought {
    /// The most likely token of each cell.
    pub tokens: Vec<u8>,
    /// Value of halting, as a logit.
    pub q_halt: f32,
    /// Value of going on, as a logit.
    pub q_continue: f32,
}

impl Thought {
    /// The model's estimate of the chance that its answer is right, from 0 to 1.
    pub fn halt_probability(&self) -> f32 {
        sigmoid(self.q_halt)
    }

    /// The model's estimate of the chance that it gets there by going on, from 0 to 1.
    pub fn continue_probability(&self) -> f32 {
        sigmoid(self.q_continue)
    }
}

/// The work on one sequence, from the first segment to the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// One entry for each segment, at least one.
    pub thoughts: Vec<Thought>,
    /// Whether the model chose to halt; `false` if it was stopped at the last step.
    pub halted: bool,
    /// From the start of the batch to the end of the sequence's last segment.
    pub elapsed: Duration,
}

impl Trace {
    /// Segments run.
    pub fn steps(&self) -> usize {
        self.thoughts.len()
    }

    /// The final prediction.
    pub fn answer(&self) -> &[u8] {
        self.thoughts.last().map_or(&[], |last| &last.tokens)
    }
}

/// Runs a model on batches of sequences.
///
/// Sequences are independent: those that are done leave the batch once they are at least half of it, so easy
/// ones do not pay for hard ones.
#[derive(Debug)]
pub struct Solver<'a, B: Backend> {
    model: &'a Hrm<B>,
    max_steps: usize,
    halting: Halting,
}

impl<'a, B: HrmBackend> Solver<'a, B> {
    /// # Errors
    /// If the options or the model's type cannot be used.
    pub fn new(model: &'a Hrm<B>, options: InferOptions) -> Result<Self, InferError> {
        let max_steps = options.max_steps.unwrap_or(model.config().halt_max_steps);
        if max_steps == 0 {
            return Err(InferError::NoSteps);
        }
        if !model.config().runs_on::<B>(&model.device()) {
            return Err(InferError::Dtype(format!("{:?}", model.config().forward_dtype)));
        }
        Ok(Self { model, max_steps, halting: options.halting })
    }

    /// Works on a batch until every sequence is done; traces come in the order of `queries`.
    ///
    /// # Errors
    /// If a query does not fit the model.
    pub fn solve(&self, queries: &[Query]) -> Result<Vec<Trace>, InferError> {
        self.check(queries)?;
        let start = Instant::now();
        let mut traces =
            vec![Trace { thoughts: Vec::new(), halted: false, elapsed: Duration::ZERO }; queries.len()];
        if queries.is_empty() {
            return Ok(traces);
        }
        let mut carry = self.carry(queries);
        // Which query each slot of the carry works on; done ones stay until the batch is compacted.
        let mut slots: Vec<usize> = (0..queries.len()).collect();
        let mut done = vec![false; queries.len()];
        for step in 1..=self.max_steps {
            let (next, output) = self.model.segment(carry);
            carry = next;
            let tokens = values(output.predictions().into_data());
            let q_halt: Vec<f32> = output.q_halt.into_data().iter().collect();
            let q_continue: Vec<f32> = output.q_continue.into_data().iter().collect();
            let elapsed = start.elapsed();
            let rows = tokens.chunks_exact(self.model.config().seq_len);
            for (((&query, tokens), &q_halt), &q_continue) in
                slots.iter().zip(rows).zip(&q_halt).zip(&q_continue)
            {
                if done[query] {
                    continue;
                }
                let trace = &mut traces[query];
                trace.elapsed = elapsed;
                trace.halted = self.model.config().halts(q_halt, q_continue);
                trace.thoughts.push(Thought { tokens: tokens.to_vec(), q_halt, q_continue });
                done[query] = step == self.max_steps || (self.halting == Halting::Learned && trace.halted);
            }
            let running: Vec<usize> = (0..slots.len()).filter(|&slot| !done[slots[slot]]).collect();
            if running.is_empty() {
                break;
            }
            if 2 * running.len() <= slots.len() {
                carry = keep(carry, &running);
                slots = running.iter().map(|&slot| slots[slot]).collect();
            }
        }
        Ok(traces)
    }

    fn check(&self, queries: &[Query]) -> Result<(), InferError> {
        let config = self.model.config();
        for (row, query) in queries.iter().enumerate() {
            if query.tokens.len() != config.seq_len {
                return Err(InferError::Length { row, expected: config.seq_len, got: query.tokens.len() });
            }
            let unknown = |token: &u8| usize::from(*token) >= config.vocab_size;
            if let Some(position) = query.tokens.iter().position(unknown) {
                return Err(InferError::Token {
                    row,
                    position,
                    got: query.tokens[position],
                    vocab_size: config.vocab_size,
                });
            }
            if config.puzzle_emb_ndim > 0 && query.identifier as usize >= config.num_puzzle_identifiers {
                return Err(InferError::Identifier {
                    row,
                    got: query.identifier,
                    known: config.num_puzzle_identifiers,
                });
            }
        }
        Ok(())
    }

    fn carry(&self, queries: &[Query]) -> Carry<B> {
        let device = self.model.device();
        let tokens: Vec<i32> = queries.iter().flat_map(|q| &q.tokens).map(|&t| i32::from(t)).collect();
        let identifiers: Vec<i32> = queries.iter().map(|q| q.identifier as i32).collect();
        let shape = [queries.len(), self.model.config().seq_len];
        Carry::fresh(
            self.model,
            Tensor::from_data(TensorData::new(tokens, shape), &device),
            Tensor::from_data(TensorData::new(identifiers, [queries.len()]), &device),
        )
    }
}

/// The slots of a carry at some positions.
fn keep<B: Backend>(carry: Carry<B>, slots: &[usize]) -> Carry<B> {
    let index: Vec<i32> = slots.iter().map(|&slot| slot as i32).collect();
    let index = Tensor::<B, 1, Int>::from_data(TensorData::new(index, [slots.len()]), &carry.steps.device());
    Carry {
        state: State {
            z_h: carry.state.z_h.select(0, index.clone()),
            z_l: carry.state.z_l.select(0, index.clone()),
        },
        steps: carry.steps.select(0, index.clone()),
        halted: carry.halted.int().select(0, index.clone()).bool(),
        batch: PuzzleBatch {
            inputs: carry.batch.inputs.select(0, index.clone()),
            labels: carry.batch.labels.select(0, index.clone()),
            puzzle_identifiers: carry.batch.puzzle_identifiers.select(0, index),
        },
    }
}

/// Tokens are below the vocabulary size, which the dataset format bounds by 256.
fn values(data: TensorData) -> Vec<u8> {
    data.iter::<i64>().map(|token| u8::try_from(token).unwrap_or(u8::MAX)).collect()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use hrm_model::ModelConfig;
    use hrm_testing::for_each_backend;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    for_each_backend!(
        halting_is_learned_or_not,
        a_sequence_does_not_depend_on_its_batch,
        wrong_queries_are_refused,
    );

    fn fresh_model<B: HrmBackend>() -> Hrm<B> {
        let mut config = ModelConfig::new(6, 16)
            .with_hidden_size(32)
            .with_num_heads(2)
            .with_layers(1, 1)
            .with_cycles(1, 1);
        config.halt_max_steps = 5;
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        config.init(&mut rng, &B::Device::default()).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A model whose q head reads something (that of a fresh one has weight 0), biased so that half of the
    /// queries halt at the first step and the others later, if at all.
    fn model_that_halts_at_different_steps<B: HrmBackend>(queries: &[Query]) -> Hrm<B> {
        let device = B::Device::default();
        let mut model = fresh_model::<B>();
        let weight: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 / 32.0 - 1.0) * 0.3).collect();
        let weight = Tensor::<B, 2>::from_data(TensorData::new(weight, [2, 32]), &device);
        model.q_head.weight = model.q_head.weight.map(|_| weight);
        let options = InferOptions { max_steps: Some(1), halting: Halting::AtLastStep };
        let solver = Solver::new(&model, options).unwrap_or_else(|e| panic!("{e}"));
        let first = solver.solve(queries).unwrap_or_else(|e| panic!("{e}"));
        let mut lead: Vec<f32> =
            first.iter().map(|t| t.thoughts[0].q_halt - t.thoughts[0].q_continue).collect();
        lead.sort_by(f32::total_cmp);
        let middle = (lead[lead.len() / 2] + lead[lead.len() / 2 - 1]) / 2.0;
        set_q_bias(model, [-middle, 0.0])
    }

    fn set_q_bias<B: HrmBackend>(mut model: Hrm<B>, bias: [f32; 2]) -> Hrm<B> {
        let bias = Tensor::<B, 1>::from_floats(bias, &B::Device::default());
        model.q_head.bias = model.q_head.bias.map(|old| old.map(|_| bias.clone()));
        model
    }

    fn query(seed: u32) -> Query {
        let tokens: Vec<u8> = (0..16u32).map(|i| ((i * 7 + seed * 5 + i * seed) % 6) as u8).collect();
        tokens.into()
    }

    fn halting_is_learned_or_not<B: HrmBackend>() {
        let model = fresh_model::<B>();
        let run = |max_steps, halting| {
            let solver =
                Solver::new(&model, InferOptions { max_steps, halting }).unwrap_or_else(|e| panic!("{e}"));
            solver.solve(&[query(1)]).unwrap_or_else(|e| panic!("{e}")).remove(0)
        };
        // Initially q_halt equals q_continue, so nothing halts before the last step.
        let trace = run(None, Halting::Learned);
        assert_eq!((trace.steps(), trace.halted), (5, false));
        assert_eq!(run(Some(7), Halting::Learned).steps(), 7);
        assert!((trace.thoughts[0].halt_probability() - 0.0067).abs() < 1e-4);

        let eager = set_q_bias(fresh_model::<B>(), [1.0, 0.0]);
        let solver = Solver::new(&eager, InferOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        let traces = solver.solve(&[query(1), query(2)]).unwrap_or_else(|e| panic!("{e}"));
        assert!(traces.iter().all(|t| t.steps() == 1 && t.halted));
        let options = InferOptions { max_steps: None, halting: Halting::AtLastStep };
        let solver = Solver::new(&eager, options).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(solver.solve(&[query(1)]).unwrap_or_else(|e| panic!("{e}"))[0].steps(), 5);
    }

    /// Compaction must not mix rows up.
    fn a_sequence_does_not_depend_on_its_batch<B: HrmBackend>() {
        let queries: Vec<Query> = (0..12).map(query).collect();
        let model = model_that_halts_at_different_steps::<B>(&queries);
        let solver = Solver::new(&model, InferOptions { max_steps: Some(12), halting: Halting::Learned })
            .unwrap_or_else(|e| panic!("{e}"));
        let together = solver.solve(&queries).unwrap_or_else(|e| panic!("{e}"));
        let steps: Vec<usize> = together.iter().map(Trace::steps).collect();
        assert!(
            steps.iter().any(|s| *s != steps[0]),
            "the test needs sequences that halt at different steps, got {steps:?}"
        );
        for (query, trace) in queries.iter().zip(&together) {
            let alone = solver.solve(std::slice::from_ref(query)).unwrap_or_else(|e| panic!("{e}")).remove(0);
            assert_eq!(alone.steps(), trace.steps());
            for (a, b) in alone.thoughts.iter().zip(&trace.thoughts) {
                assert_eq!(a.tokens, b.tokens);
                assert!((a.q_halt - b.q_halt).abs() < 1e-4, "{} {}", a.q_halt, b.q_halt);
            }
        }
    }

    fn wrong_queries_are_refused<B: HrmBackend>() {
        let model = fresh_model::<B>();
        let solver = Solver::new(&model, InferOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        let refused = |query: Query| match solver.solve(&[self::query(0), query]) {
            Ok(_) => panic!("accepted"),
            Err(e) => e.to_string(),
        };
        assert_eq!(refused(vec![1; 15].into()), "sequence 1: expected 16 tokens, got 15");
        assert_eq!(refused(vec![6; 16].into()), "sequence 1, token 0: expected a token below 6, got 6");
        assert!(refused(Query { tokens: vec![1; 16], identifier: 1 }).contains("identifier below 1, got 1"));
        assert!(solver.solve(&[]).is_ok_and(|traces| traces.is_empty()));
        let none = InferOptions { max_steps: Some(0), ..InferOptions::default() };
        assert!(matches!(Solver::new(&model, none), Err(InferError::NoSteps)));
    }
}
