//! Augmentation on the fly: the sample of (seed, epoch, example) is the same on any machine and any number of threads.

use serde::{Deserialize, Serialize};

use super::format::Metadata;
use crate::random::{Purpose, stream};
use crate::sudoku::{Geometry, Symmetry};

/// How examples are varied in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Augmentation {
    /// Examples as they are.
    #[default]
    None,
    /// Puzzle and solution go through the same random element of the Sudoku symmetry group.
    SudokuSymmetry {
        /// The board; its cells must be the dataset's `seq_len`.
        geometry: Geometry,
    },
}

impl Augmentation {
    /// What keeps this augmentation from being applied to a dataset, in words.
    pub(super) fn obstacle(self, metadata: &Metadata) -> Option<String> {
        let Self::SudokuSymmetry { geometry } = self else {
            return None;
        };
        let (cells, tokens) = (geometry.cells(), geometry.side() + 2);
        if metadata.seq_len != cells {
            return Some(format!(
                "Sudoku symmetry of {geometry} needs seq_len {cells}, the dataset has {}",
                metadata.seq_len
            ));
        }
        if metadata.vocab_size < tokens {
            return Some(format!(
                "Sudoku symmetry of {geometry} needs vocab_size {tokens}, the dataset has {}",
                metadata.vocab_size
            ));
        }
        None
    }

    /// Writes the sample (`seed`, `epoch`, `example`) of an input and its label. All slices have the same length.
    pub(super) fn apply(
        self,
        (seed, epoch, example): (u64, u64, u64),
        (input, label): (&[u8], &[u8]),
        (input_out, label_out): (&mut [i32], &mut [i32]),
    ) {
        match self {
            Self::None => {
                widen(input, input_out);
                widen(label, label_out);
            }
            Self::SudokuSymmetry { geometry } => {
                let mut rng = stream(seed, Purpose::Augmentation, epoch, example);
                let symmetry = Symmetry::random(geometry, &mut rng);
                symmetry.apply_tokens(input, input_out);
                symmetry.apply_tokens(label, label_out);
            }
        }
    }
}

pub(super) fn widen(tokens: &[u8], out: &mut [i32]) {
    for (slot, &token) in out.iter_mut().zip(tokens) {
        *slot = i32::from(token);
    }
}
