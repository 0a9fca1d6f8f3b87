//! Making puzzles: what to make, and training and test puzzles that are disjoint up to symmetry.

use std::collections::HashSet;
use std::hash::Hash;

use rayon::prelude::*;
use thiserror::Error;

/// How large a puzzle is. Each family looks at what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Rows and columns of a box, where that is known; else the usual box of the side.
    pub boxes: Option<(usize, usize)>,
}

impl Size {
    /// A rectangle.
    pub const fn new(rows: usize, cols: usize) -> Self {
        Self { rows, cols, boxes: None }
    }
}

/// What to make. A family takes of it what it has, and its own usual value where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerateOptions {
    /// The kind of puzzle, by a name of the family.
    pub kind: Option<String>,
    /// Fewest and most givens.
    pub givens: Option<(usize, usize)>,
    /// Fewest moves of a solution.
    pub min_path: Option<usize>,
    /// Most moves of a solution.
    pub max_path: Option<usize>,
    /// Cells of the largest region.
    pub largest: Option<usize>,
    /// How hard puzzles must be at least, as their family rates them.
    pub min_rating: Option<u64>,
    /// Steps of the search for hard puzzles.
    pub effort: Option<usize>,
    /// Never put images of the puzzles of this repository's test sets on the training side, nor on large boards their solution
    /// grids. Recipes ask for it. Without, the commands of `datasets/README.md` make what they made.
    pub spare_bundled: bool,
}

/// Puzzles with their solutions, for training and for testing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split<E> {
    /// For training.
    pub train: Vec<E>,
    /// For testing.
    pub test: Vec<E>,
}

/// Why there is no such split.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "found no new puzzle in {tries} tries, with {found} of {wanted} found; ask for fewer, larger or more open puzzles"
)]
pub struct SplitError {
    /// Puzzles in a row that were known.
    pub tries: u64,
    /// Puzzles found.
    pub found: usize,
    /// Puzzles wanted.
    pub wanted: usize,
}

/// Puzzles made between two looks at the quotas, at most.
const WAVE: u64 = 256;

/// Generates puzzles number 0, 1, 2, ... and keeps those whose `class` is new, until there are enough: no two of them, on
/// either side, have the same class (the smallest image under the symmetries of the task, say). They are dealt out evenly. The
/// same on any number of threads. A number may stand for no puzzle.
///
/// # Errors
/// [`SplitError`] if nothing new is found for long.
pub fn split<E: Send, C: Hash + Eq + Send>(
    generate: impl Fn(u64) -> Option<E> + Sync,
    class: impl Fn(&E) -> C + Sync,
    train: usize,
    test: usize,
) -> Result<Split<E>, SplitError> {
    let wanted = train.saturating_add(test);
    let patience = (wanted as u64).saturating_mul(20).saturating_add(4 * WAVE);
    let mut split = Split { train: Vec::new(), test: Vec::new() };
    let (mut known, mut misses) = (HashSet::new(), 0);
    let mut next = 0u64;
    loop {
        let found = split.train.len() + split.test.len();
        if found == wanted {
            break;
        }
        if misses >= patience {
            return Err(SplitError { tries: misses, found, wanted });
        }
        let end = next + ((wanted - found) as u64).clamp(16, WAVE);
        let with_class = |example: E| (class(&example), example);
        let made: Vec<Option<(C, E)>> =
            (next..end).into_par_iter().map(|index| generate(index).map(with_class)).collect();
        next = end;
        for made in made {
            if split.train.len() + split.test.len() == wanted {
                break;
            }
            let new = made.and_then(|(class, example)| known.insert(class).then_some(example));
            let Some(example) = new else {
                misses += 1;
                continue;
            };
            misses = 0;
            // Whoever is further from the share that he should have.
            let (of_train, of_test) = (split.train.len() as u128, split.test.len() as u128);
            if of_train * test as u128 <= of_test * train as u128 && split.train.len() < train {
                split.train.push(example);
            } else {
                split.test.push(example);
            }
        }
    }
    Ok(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_disjoint_and_filled() {
        for (train, test) in [(30, 10), (0, 5), (7, 0), (1, 1)] {
            let made = split(|index| Some(index / 3), |value| *value, train, test).unwrap();
            assert_eq!((made.train.len(), made.test.len()), (train, test));
            let all: HashSet<u64> = made.train.iter().chain(&made.test).copied().collect();
            assert_eq!(all.len(), train + test);
        }
        let error = split(|index| Some(index % 4), |value| *value, 4, 1).unwrap_err();
        assert_eq!((error.found, error.wanted), (4, 5));
    }
}
