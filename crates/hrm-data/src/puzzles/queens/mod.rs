//! n-queens completion, as the example of a [`Task`](crate::task::Task): some queens stand on the board, find places for the
//! others so that no two attack each other.
//!
//! This folder is all there is to it. To add a puzzle: say what a puzzle and a solution are and search for solutions (this
//! file), turn both into tokens (0 is padding) and text and back, name the symmetries, judge an answer (`task`), make puzzles
//! (`generate`), draw them (`draw`).
//!
//! As text, a board is `.` (or `-`, as where a given queen leaves no place) for an empty cell and `Q` for a queen, row by row, on
//! one line or on several.

mod draw;
mod generate;
mod task;

use crate::task::Beliefs;

const EMPTY: u8 = 1;
const QUEEN: u8 = 2;

/// The puzzle on a board of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queens {
    side: usize,
}

/// Queens on a board: the column of the queen in each row, if one stands there. `[side]`
pub type Placement = Vec<Option<u8>>;

impl Queens {
    /// The puzzle on a board of `side` x `side`.
    ///
    /// # Errors
    /// Unless it is 4 to 24.
    pub fn new(side: usize) -> Result<Self, String> {
        let fits = (4..=24).contains(&side);
        fits.then_some(Self { side }).ok_or_else(|| format!("expected a side of 4 to 24, got {side}"))
    }

    /// Number of ways to complete a placement, counted up to `limit`.
    pub fn completions(&self, puzzle: &Placement, limit: u64) -> u64 {
        let mut found = 0;
        self.complete_with(puzzle, None, u64::MAX, &mut |_| {
            found += 1;
            found < limit
        });
        found
    }

    /// Shows every completion until `go_on` says to stop, or `max_nodes` boards were looked at; gives the guesses and the boards.
    pub(super) fn complete_with(
        &self,
        puzzle: &Placement,
        beliefs: Option<&Beliefs>,
        max_nodes: u64,
        go_on: &mut dyn FnMut(&Placement) -> bool,
    ) -> (u64, u64) {
        let mut board = puzzle.clone();
        board.resize(self.side, None);
        let mut completion = Completion { beliefs, max_nodes, guesses: 0, nodes: 0, go_on };
        if attack(&board).is_none() {
            completion.descend(&mut board);
        }
        (completion.guesses, completion.nodes)
    }
}

fn safe(board: &Placement, row: usize, col: u8) -> bool {
    board.iter().enumerate().all(|(other, queen)| {
        let Some(queen) = queen else { return true };
        other == row || (*queen != col && other.abs_diff(row) != usize::from(queen.abs_diff(col)))
    })
}

fn attack(board: &Placement) -> Option<(usize, usize)> {
    let clash = |row: usize| {
        let col = board[row]?;
        let other = (0..row)
            .find(|&r| board[r].is_some_and(|c| c == col || row - r == usize::from(c.abs_diff(col))))?;
        Some((other + 1, row + 1))
    };
    (0..board.len()).find_map(clash)
}

/// A search for the completions of a board.
struct Completion<'a> {
    beliefs: Option<&'a Beliefs>,
    max_nodes: u64,
    guesses: u64,
    nodes: u64,
    go_on: &'a mut dyn FnMut(&Placement) -> bool,
}

impl Completion<'_> {
    /// Whether to go on.
    fn descend(&mut self, board: &mut Placement) -> bool {
        if self.nodes >= self.max_nodes {
            return false;
        }
        self.nodes += 1;
        // The free row with the fewest places comes first.
        let side = board.len() as u8;
        let places = |row: usize| (0..side).filter(|&col| safe(board, row, col)).collect::<Vec<u8>>();
        let free = (0..board.len()).filter(|&row| board[row].is_none());
        let Some((row, mut places)) =
            free.map(|row| (row, places(row))).min_by_key(|(_, places)| places.len())
        else {
            return (self.go_on)(board);
        };
        self.guesses += u64::from(places.len() > 1);
        if let Some(beliefs) = self.beliefs {
            let weight = |col: u8| beliefs.weight(row * board.len() + usize::from(col), QUEEN);
            places.sort_by(|&a, &b| weight(b).total_cmp(&weight(a)));
        }
        for col in places {
            board[row] = Some(col);
            let more = self.descend(board);
            board[row] = None;
            if !more {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Style;
    use crate::task::Task as _;

    #[test]
    fn the_known_numbers_of_solutions() {
        for (side, count) in [(4, 2), (5, 10), (6, 4), (7, 40), (8, 92)] {
            assert_eq!(Queens::new(side).unwrap().completions(&vec![None; side], u64::MAX), count);
        }
        assert!(Queens::new(3).is_err() && Queens::new(25).is_err());
    }

    #[test]
    fn generated_puzzles_have_one_completion() {
        for side in [4, 6, 8, 10, 12] {
            let queens = Queens::new(side).unwrap();
            for index in 0..5 {
                let (puzzle, solution) = queens.make(1, index);
                assert_eq!(queens.completions(&puzzle, 2), 1);
                assert_eq!(queens.verify(&puzzle, &queens.encode(&solution)), Ok(()));
                assert_eq!(queens.make(1, index), (puzzle, solution));
            }
        }
    }

    #[test]
    fn beliefs_save_guesses() {
        let queens = Queens::new(12).unwrap();
        let (mut without, mut right, mut wrong) = (0, 0, 0);
        for index in 0..20 {
            let (puzzle, solution) = queens.make(1, index);
            let answer = queens.encode(&solution);
            let weights = |of: &dyn Fn(u8) -> f32| {
                Beliefs::new(3, answer.iter().flat_map(|&token| [0.0, 0.0, of(token)]).collect())
            };
            let search =
                |beliefs: Option<&Beliefs>| queens.search(&puzzle, beliefs, u64::MAX).expect("an answer");
            let (plain, knowing, misled) = (
                search(None),
                search(Some(&weights(&|token| f32::from(u8::from(token == QUEEN))))),
                search(Some(&weights(&|token| f32::from(u8::from(token != QUEEN))))),
            );
            assert!([&plain, &knowing, &misled].iter().all(|found| found.answer == answer));
            assert!(knowing.guesses <= plain.guesses && knowing.nodes <= plain.nodes);
            without += plain.nodes;
            right += knowing.nodes;
            wrong += misled.nodes;
            assert_eq!(queens.search(&puzzle, None, 1).is_some(), plain.nodes == 1);
        }
        // Who knows the answer needs a node for each queen.
        assert!(right <= 20 * 13 && right < without && without < wrong, "{right}, {without}, {wrong}");
    }

    #[test]
    fn answers_are_judged() {
        let queens = Queens::new(4).unwrap();
        let puzzle = vec![Some(1), None, None, None];
        let error = |columns: [u8; 4]| {
            let answer: Placement = columns.into_iter().map(Some).collect();
            queens.verify(&puzzle, &queens.encode(&answer)).map_err(|e| e.to_string())
        };
        assert_eq!(error([1, 3, 0, 2]), Ok(()));
        assert_eq!(error([2, 0, 3, 1]).unwrap_err(), "row 1: the given queen in column 2 is gone");
        assert_eq!(error([1, 3, 0, 0]).unwrap_err(), "the queens in rows 3 and 4 attack each other");
        let input = queens.encode(&puzzle);
        assert_eq!(
            queens.verify(&puzzle, &input).unwrap_err().to_string(),
            "row 2: expected a queen, got 0 queens"
        );
        assert_eq!(
            queens.decode(&[2; 16]).unwrap_err().to_string(),
            "row 1: expected at most one, got 4 queens"
        );
        assert_eq!(
            queens.decode(&[0; 16]).unwrap_err().to_string(),
            "row 1, column 1: expected 1 (empty) or 2 (queen), got 0"
        );
        assert_eq!(queens.decode(&[1; 3]).unwrap_err().to_string(), "expected 16 cells, got 3");
        let answer = queens.encode(&vec![Some(1), Some(3), Some(0), Some(2)]);
        assert_eq!(queens.render(&puzzle, Some(&answer), Style::Plain), ". Q . .\n. . . q\nq . . .\n. . q .");
        assert_eq!(queens.render(&puzzle, None, Style::Plain), "- Q - -\n- - - .\n. - . -\n. - . .");
        // The given queen is gone, and two attack each other.
        let wrong = queens.encode(&vec![None, Some(3), Some(0), Some(0)]);
        assert_eq!(queens.render(&puzzle, Some(&wrong), Style::Plain), ". .!. .\n. . . q\nq!. . .\nq!. . .");
        let svg = queens.picture(&puzzle, Some(&answer), Some(&answer)).svg();
        // One given and three that are right, on 16 cells and the ground.
        assert_eq!((svg.matches(">Q<").count(), svg.matches("fill=\"#14823c\">Q<").count()), (4, 3));
        assert_eq!(svg.matches("<rect").count(), 17);
    }
}
