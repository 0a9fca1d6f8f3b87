use std::{ops::Range, rc::Rc};

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use hrm_infer::evaluate::Workers;
use hrm_model::{
    State,
    act::{Carry, PuzzleBatch},
};

use super::{Alone, Collective, CollectiveError};

/// A worker's view of all workers: which rows are its own, and what they do together.
#[derive(Debug, Clone)]
pub struct Team<B: Backend> {
    collective: Rc<dyn Collective<B>>,
    device: B::Device,
}

impl<B: Backend> Team<B> {
    /// The worker whose side of `collective` this is, and that computes on `device`.
    pub fn new(collective: Rc<dyn Collective<B>>, device: B::Device) -> Self {
        Self { collective, device }
    }

    /// One worker that does everything.
    pub fn alone(device: B::Device) -> Self {
        Self::new(Rc::new(Alone), device)
    }

    /// This worker, counted from 0.
    pub fn worker(&self) -> usize {
        self.collective.worker()
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.collective.workers()
    }

    /// Whether nobody else is there.
    pub fn is_alone(&self) -> bool {
        self.workers() == 1
    }

    /// Whether this worker writes the run directory and shows the progress: worker 0 does.
    pub fn leads(&self) -> bool {
        self.worker() == 0
    }

    /// Whether a batch can be shared out, and the identifiers be sent.
    ///
    /// # Errors
    /// [`CollectiveError::Batch`] and [`CollectiveError::Identifiers`].
    pub fn check(&self, batch: usize, accumulate: usize, identifiers: usize) -> Result<(), CollectiveError> {
        let workers = self.workers();
        if workers == 1 {
            return Ok(());
        }
        if !batch.is_multiple_of(workers * accumulate) {
            return Err(CollectiveError::Batch { batch, workers, accumulate });
        }
        if identifiers > 1 << f32::MANTISSA_DIGITS {
            return Err(CollectiveError::Identifiers { identifiers });
        }
        Ok(())
    }

    /// This worker's slots of a whole carry.
    pub fn own_slots(&self, carry: Carry<B>) -> Carry<B> {
        if self.is_alone() {
            return carry;
        }
        let own = self.rows(carry.steps.dims()[0]);
        carry.rows(own.start, own.len())
    }

    /// The carry of all workers, from this worker's slots. -0 becomes 0, everything else keeps its bits.
    ///
    /// # Errors
    /// If a worker is lost.
    pub fn gather_carry(&self, carry: Carry<B>) -> Result<Carry<B>, CollectiveError> {
        if self.is_alone() {
            return Ok(carry);
        }
        let Carry { state: State { z_h, z_l }, steps, halted, batch } = carry;
        let PuzzleBatch { inputs, labels, puzzle_identifiers } = batch;
        let (dtype, [slots, tokens, hidden], [_, seq_len]) = (z_h.dtype(), z_h.dims(), inputs.dims());
        let slots = slots * self.workers();
        let parts = vec![
            self.in_place(z_h, slots),
            self.in_place(z_l, slots),
            self.in_place(steps.float(), slots),
            self.in_place(halted.float(), slots),
            self.in_place(inputs.float(), slots),
            self.in_place(labels.float(), slots),
            self.in_place(puzzle_identifiers.float(), slots),
        ];
        let whole: [Tensor<B, 1>; 7] =
            self.sum(parts)?.try_into().unwrap_or_else(|_| unreachable!("as many sums as summands"));
        let [z_h, z_l, steps, halted, inputs, labels, identifiers] = whole;
        let state = |z: Tensor<B, 1>| z.reshape([slots, tokens, hidden]).cast(dtype);
        let cells = |values: Tensor<B, 1>| values.int().reshape([slots, seq_len]);
        Ok(Carry {
            state: State { z_h: state(z_h), z_l: state(z_l) },
            steps: steps.int(),
            halted: halted.greater_elem(0.5),
            batch: PuzzleBatch {
                inputs: cells(inputs),
                labels: cells(labels),
                puzzle_identifiers: identifiers.int(),
            },
        })
    }

    /// Some numbers of every worker, exactly: one list per worker. All workers give as many.
    ///
    /// # Errors
    /// If a worker is lost.
    pub fn gather_bits(&self, numbers: &[u64]) -> Result<Vec<Vec<u64>>, CollectiveError> {
        if self.is_alone() {
            return Ok(vec![numbers.to_vec()]);
        }
        // 16 bits at a time: integers that fp32 holds, in any order of summation.
        let pieces =
            numbers.iter().flat_map(|number| (0..4).map(move |i| (number >> (16 * i) & 0xffff) as f32));
        let pieces: Vec<f32> = pieces.collect();
        let count = pieces.len();
        let rows = Tensor::<B, 1>::from_data(TensorData::new(pieces, [count]), (&self.device, DType::F32));
        let sum = self.collective.sum(self.in_place(rows, self.workers() * count))?;
        let pieces: Vec<f64> = sum.into_data().iter::<f64>().collect();
        let number = |pieces: &[f64]| pieces.iter().rev().fold(0, |bits, piece| bits << 16 | *piece as u64);
        Ok(pieces.chunks(count.max(1)).map(|worker| worker.chunks(4).map(number).collect()).collect())
    }

    /// Checks that all workers have the same value of something.
    ///
    /// # Errors
    /// [`CollectiveError::Differ`] if they do not.
    pub fn agree(&self, what: &'static str, value: u64) -> Result<(), CollectiveError> {
        let all = self.gather_bits(&[value])?;
        let workers: Vec<usize> = (0..all.len()).filter(|&worker| all[worker] != all[0]).collect();
        if workers.is_empty() { Ok(()) } else { Err(CollectiveError::Differ { what, workers }) }
    }
}

impl<B: Backend> Workers<B> for Team<B> {
    type Error = CollectiveError;

    fn rows(&self, batch: usize) -> Range<usize> {
        let (worker, workers) = (self.worker(), self.workers());
        worker * batch / workers..(worker + 1) * batch / workers
    }

    fn sum(&self, tensors: Vec<Tensor<B, 1>>) -> Result<Vec<Tensor<B, 1>>, CollectiveError> {
        if self.is_alone() || tensors.is_empty() {
            return Ok(tensors);
        }
        let lengths: Vec<usize> = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
        let sum = self.collective.sum(Tensor::cat(tensors, 0))?;
        let mut start = 0;
        Ok(lengths
            .into_iter()
            .map(|length| {
                start += length;
                sum.clone().narrow(0, start - length, length)
            })
            .collect())
    }
}
