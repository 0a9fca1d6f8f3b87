//! The two measures of an answer: equal to the canonical label, or any shortest path.

use super::board::Maze;
use crate::grid::Grid;

/// How many of a number of answers are right, in each of the senses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// Answers judged.
    pub rows: usize,
    /// Equal to the label, token for token: the published measure.
    pub exact: usize,
    /// A shortest path, canonical or not. Each Maze-Hard maze has very many (median 3.8 million).
    pub any_optimal: usize,
    /// A simple path of any length from start to goal.
    pub valid: usize,
}

impl Scores {
    /// The sum of two counts.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            exact: self.exact + other.exact,
            any_optimal: self.any_optimal + other.any_optimal,
            valid: self.valid + other.valid,
        }
    }
}

/// Judges one answer of a model: `input` and `label` tokens of a maze of `rows` x `cols`, and the predicted tokens. Label
/// tokens that are negative ([`IGNORE_LABEL`](crate::dataset::IGNORE_LABEL)) are not compared. An input that is no maze
/// can only be exact.
pub fn score(rows: usize, cols: usize, input: &[u8], label: &[i32], answer: &[i32]) -> Scores {
    let exact = label.len() == answer.len() && label.iter().zip(answer).all(|(l, a)| *l < 0 || l == a);
    let maze = Grid::new(rows, cols, input.to_vec()).ok().and_then(|grid| Maze::from_tokens(grid).ok());
    let path = maze.as_ref().and_then(|maze| maze.check(answer).ok());
    let optimal = path.as_ref().is_some_and(|path| maze.and_then(|m| m.distance()) == Some(path.len() - 1));
    Scores {
        rows: 1,
        exact: usize::from(exact),
        any_optimal: usize::from(optimal),
        valid: usize::from(path.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_and_any_optimal() {
        let maze: Maze = "S  \n # \n  G".parse().unwrap();
        let label: Vec<i32> = maze.label().unwrap().iter().map(|&t| i32::from(t)).collect();
        let of = |answer: &[i32]| {
            let s = score(3, 3, maze.tokens(), &label, answer);
            (s.exact, s.any_optimal, s.valid)
        };
        assert_eq!(of(&label), (1, 1, 1));
        assert_eq!(of(&[3, 5, 5, 2, 1, 5, 2, 2, 4]), (0, 1, 1));
        assert_eq!(of(&[3, 2, 2, 2, 1, 2, 2, 2, 4]), (0, 0, 0));
        assert_eq!(of(&[]), (0, 0, 0));
        let loose: Maze = "S G\n   ".parse().unwrap();
        let all = score(2, 3, loose.tokens(), &[-100; 6], &[3, 2, 4, 5, 5, 5]);
        assert_eq!(all.plus(all), Scores { rows: 2, exact: 2, any_optimal: 0, valid: 2 });
        assert_eq!(score(2, 3, &[9; 6], &[9; 6], &[9; 6]), Scores { rows: 1, exact: 1, ..Scores::default() });
    }
}
