//! What a puzzle tells a model about itself: which tokens are values, and which cells belong together.

use std::sync::Arc;

use hrm_backend::Groups;
use serde::{Deserialize, Serialize};

/// The structure of a puzzle, for models that mix by groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Structure {
    /// The first token that is a value: those before it (padding, a blank) say that a cell's value is not given.
    pub first_value: usize,
    /// Tokens after the values that are none either: no value can be in such a cell, like those outside of the boards of a Samurai.
    #[serde(default, skip_serializing_if = "is_none")]
    pub after_values: usize,
    /// So many of the values, the first ones, are told apart in the input; the others could change places.
    #[serde(default, skip_serializing_if = "is_none")]
    pub distinct_values: usize,
    /// The kinds of groups of cells.
    pub groups: Vec<GroupKind>,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

/// One kind of groups of cells: the rows of a Sudoku, or the neighbourhoods of a maze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupKind {
    /// Its name: weights of one puzzle fit another one whose kinds have the same names.
    pub name: String,
    /// The cells of each group.
    pub groups: Vec<Vec<u32>>,
    /// Whether group `i` is that of cell `i` alone, as neighbourhoods are; else a cell takes the mean of all groups that it lies in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}

impl Structure {
    /// What is known of a cell from the view of a node: a token that is no value, this value, another one, one of those that are
    /// told apart.
    pub(crate) fn seen(&self) -> usize {
        self.first_value + 2 + self.distinct_values
    }

    /// Vectors of a lattice's input: what is known of a cell, from the view of a value that may change places and of each that may not.
    pub(crate) fn node_types(&self) -> usize {
        (1 + self.distinct_values) * self.seen()
    }

    /// The groups as the backends take them.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) fn groups(&self, cells: usize, values: usize) -> Result<Arc<Groups>, String> {
        let kinds = self.groups.iter().map(|kind| {
            let readers = if kind.own {
                (0..kind.groups.len() as u32).map(|cell| vec![cell]).collect()
            } else {
                let mut readers = vec![Vec::new(); cells];
                for (group, members) in kind.groups.iter().enumerate() {
                    for &cell in members {
                        // A cell that does not exist is told by `Groups::new`.
                        readers
                            .get_mut(cell as usize)
                            .into_iter()
                            .for_each(|of_cell| of_cell.push(group as u32));
                    }
                }
                readers
            };
            (kind.groups.clone(), readers)
        });
        Groups::new(cells, values, kinds).map(Arc::new)
    }
}
