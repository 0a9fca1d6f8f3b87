//! Batches, and the sequential batches of an evaluation.

use std::ops::Range;
use std::sync::Arc;

use super::format::{Dataset, Metadata, PuzzleSet};

/// The label of a token that is not scored.
pub const IGNORE_LABEL: i32 = -100;

/// Rows of tokens ready for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Tokens of a row.
    pub seq_len: usize,
    /// Input tokens, `[rows, seq_len]`.
    pub inputs: Vec<i32>,
    /// Label tokens, `[rows, seq_len]`, [`IGNORE_LABEL`] where not scored.
    pub labels: Vec<i32>,
    /// Puzzle identifier of each row, `[rows]`.
    pub puzzle_identifiers: Vec<i32>,
}

impl Batch {
    /// A batch in which every row is padding: pad tokens, no label scored, the blank identifier.
    pub(crate) fn padding(metadata: &Metadata, rows: usize) -> Self {
        let seq_len = metadata.seq_len;
        Self {
            rows,
            seq_len,
            inputs: vec![metadata.pad_id as i32; rows * seq_len],
            labels: vec![IGNORE_LABEL; rows * seq_len],
            puzzle_identifiers: vec![metadata.blank_identifier_id as i32; rows],
        }
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If there are not that many rows.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let cells = rows.start * self.seq_len..rows.end * self.seq_len;
        Self {
            rows: rows.len(),
            seq_len: self.seq_len,
            inputs: self.inputs[cells.clone()].to_vec(),
            labels: self.labels[cells].to_vec(),
            puzzle_identifiers: self.puzzle_identifiers[rows].to_vec(),
        }
    }

    /// The input tokens of a row; empty if there is no such row.
    pub fn input(&self, row: usize) -> &[i32] {
        self.inputs.chunks_exact(self.seq_len.max(1)).nth(row).unwrap_or_default()
    }

    /// The labels of a row; empty if there is no such row.
    pub fn label(&self, row: usize) -> &[i32] {
        self.labels.chunks_exact(self.seq_len.max(1)).nth(row).unwrap_or_default()
    }
}

/// Tokens as a batch has them.
pub(crate) fn widen(tokens: &[u8], out: &mut [i32]) {
    for (slot, &token) in out.iter_mut().zip(tokens) {
        *slot = i32::from(token);
    }
}

/// Replaces the dataset's ignored label token by [`IGNORE_LABEL`].
pub(crate) fn mask_labels(labels: &mut [i32], ignored: Option<u32>) {
    if let Some(ignored) = ignored {
        for label in labels.iter_mut().filter(|l| **l == ignored as i32) {
            *label = IGNORE_LABEL;
        }
    }
}

/// One batch of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalBatch {
    /// The rows; those from `valid_rows` on are padding.
    pub batch: Batch,
    /// Rows that stand for an example.
    pub valid_rows: usize,
    /// Index of the set the rows come from.
    pub set: usize,
    /// Example (within the set) of the first row; the others follow in order.
    pub first_example: usize,
}

/// All examples of a dataset in order, set by set, the last batch of each set padded to the full size.
#[derive(Clone, Debug)]
pub struct EvalBatches {
    dataset: Arc<Dataset>,
    batch_size: usize,
    set: usize,
    example: usize,
}

impl EvalBatches {
    /// Batches of `batch_size` rows, but of no more than the largest set has examples, and of at least one. All batches have
    /// the same number of rows.
    pub fn new(dataset: Arc<Dataset>, batch_size: usize) -> Self {
        let largest = dataset.sets().iter().map(PuzzleSet::examples).max().unwrap_or(0);
        Self { batch_size: batch_size.min(largest).max(1), dataset, set: 0, example: 0 }
    }

    /// Number of batches from the start to the end.
    pub fn total(&self) -> usize {
        self.dataset.sets().iter().map(|set| set.examples().div_ceil(self.batch_size)).sum()
    }
}

impl Iterator for EvalBatches {
    type Item = EvalBatch;

    fn next(&mut self) -> Option<EvalBatch> {
        let metadata = self.dataset.metadata();
        let set = loop {
            let set = self.dataset.sets().get(self.set)?;
            if self.example < set.examples() {
                break set;
            }
            self.set += 1;
            self.example = 0;
        };
        let first_example = self.example;
        let valid_rows = self.batch_size.min(set.examples() - first_example);
        self.example += valid_rows;
        let mut batch = Batch::padding(metadata, self.batch_size);
        let tokens = first_example * set.seq_len()..(first_example + valid_rows) * set.seq_len();
        widen(&set.inputs()[tokens.clone()], &mut batch.inputs);
        widen(&set.labels()[tokens.clone()], &mut batch.labels);
        mask_labels(&mut batch.labels[..tokens.len()], metadata.ignore_label_id);
        for (row, id) in batch.puzzle_identifiers[..valid_rows].iter_mut().enumerate() {
            *id = set.puzzle_identifiers()[set.puzzle_of(first_example + row)] as i32;
        }
        Some(EvalBatch { batch, valid_rows, set: self.set, first_example })
    }
}
