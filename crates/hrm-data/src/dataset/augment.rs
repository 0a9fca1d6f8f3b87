//! Augmentation on the fly: the sample of (seed, epoch, example) is the same on any machine and any number of threads.

use serde::{Deserialize, Serialize};

use super::format::Metadata;
use crate::grid::Dihedral;
use crate::maze::decode_tokens;
use crate::random::{Purpose, stream};
use crate::sudoku::{Geometry, Symmetry};
use crate::task::Task;
use crate::variants::killer::{KillerTask, killer_symmetry};
use crate::variants::samurai::SamuraiTask;

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
    /// Input and label, grids of `rows` x `cols`, go through the same random symmetry of their shape: one of the eight of the
    /// square, or of the four of other rectangles. For mazes.
    Dihedral {
        /// Rows of the grid.
        rows: usize,
        /// Columns of the grid; `rows * cols` must be the dataset's `seq_len`.
        cols: usize,
    },
    /// Mazes of `rows` x `cols`: the maze goes through a random symmetry of its shape, and the label is the canonical path of
    /// the image. The canonical path depends on the order of directions, so the image of a label is a shortest path but not
    /// the canonical one: with [`Augmentation::Dihedral`] one maze has up to eight right answers, here it has one. For data
    /// whose labels are canonical.
    MazeSymmetry {
        /// Rows of the grid.
        rows: usize,
        /// Columns of the grid; `rows * cols` must be the dataset's `seq_len`.
        cols: usize,
    },
    /// Killer Sudoku as [`KillerTask`](crate::variants::killer::KillerTask) encodes it: input and label are turned and mirrored.
    KillerSymmetry {
        /// The board.
        geometry: Geometry,
    },
    /// Samurai as [`SamuraiTask`](crate::variants::samurai::SamuraiTask) encodes it: lines and digits change places, and the
    /// canvas is turned and mirrored.
    SamuraiSymmetry,
}

impl Augmentation {
    /// What keeps this augmentation from being applied to a dataset, in words.
    pub(super) fn obstacle(self, metadata: &Metadata) -> Option<String> {
        let geometry = match self {
            Self::None => return None,
            Self::SudokuSymmetry { geometry } => geometry,
            Self::KillerSymmetry { geometry } => {
                return match KillerTask::new(geometry) {
                    Ok(task) => shape_obstacle(&task, metadata),
                    Err(error) => Some(error.to_string()),
                };
            }
            Self::SamuraiSymmetry => return shape_obstacle(&SamuraiTask, metadata),
            Self::Dihedral { rows, cols } | Self::MazeSymmetry { rows, cols } => {
                let seq_len = metadata.seq_len;
                return (rows.checked_mul(cols) != Some(seq_len)).then(|| {
                    let needed = rows.saturating_mul(cols);
                    format!(
                        "symmetries of {rows} x {cols} grids need seq_len {needed}, the dataset has {seq_len}"
                    )
                });
            }
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
            Self::Dihedral { rows, cols } => {
                let mut rng = stream(seed, Purpose::Augmentation, epoch, example);
                let symmetry = Dihedral::random(rows, cols, &mut rng);
                symmetry.apply_cells((rows, cols), input, input_out, i32::from);
                symmetry.apply_cells((rows, cols), label, label_out, i32::from);
            }
            Self::MazeSymmetry { rows, cols } => {
                let mut rng = stream(seed, Purpose::Augmentation, epoch, example);
                let symmetry = Dihedral::random(rows, cols, &mut rng);
                match decode_tokens(rows, cols, input).map(|maze| maze.transformed(symmetry)) {
                    Ok(image) => {
                        widen(image.tokens(), input_out);
                        // A maze without a path keeps its label, whatever that is.
                        match image.label() {
                            Some(canonical) => widen(&canonical, label_out),
                            None => symmetry.apply_cells((rows, cols), label, label_out, i32::from),
                        }
                    }
                    Err(_) => {
                        symmetry.apply_cells((rows, cols), input, input_out, i32::from);
                        symmetry.apply_cells((rows, cols), label, label_out, i32::from);
                    }
                }
            }
            Self::KillerSymmetry { geometry } => {
                let mut rng = stream(seed, Purpose::Augmentation, epoch, example);
                let symmetry = killer_symmetry(geometry, &mut rng);
                widen(&symmetry.apply(input), input_out);
                widen(&symmetry.apply(label), label_out);
            }
            Self::SamuraiSymmetry => {
                let mut rng = stream(seed, Purpose::Augmentation, epoch, example);
                let symmetry = SamuraiTask.symmetry(&mut rng);
                widen(&symmetry.apply(input), input_out);
                widen(&symmetry.apply(label), label_out);
            }
        }
    }
}

/// What keeps the symmetries of a task from being applied to a dataset, in words.
fn shape_obstacle<T: Task>(task: &T, metadata: &Metadata) -> Option<String> {
    let (seq_len, vocab) = (task.seq_len(), task.vocab_size());
    let fits = metadata.seq_len == seq_len && metadata.vocab_size >= vocab;
    (!fits).then(|| {
        format!(
            "symmetries of {} need seq_len {seq_len} and vocab_size {vocab}, the dataset has {} and {}",
            task.name(),
            metadata.seq_len,
            metadata.vocab_size
        )
    })
}

pub(super) fn widen(tokens: &[u8], out: &mut [i32]) {
    for (slot, &token) in out.iter_mut().zip(tokens) {
        *slot = i32::from(token);
    }
}
