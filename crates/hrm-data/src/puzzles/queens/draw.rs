//! Boards of queens as text and as pictures.

use super::{Placement, QUEEN, Queens};
use crate::render::{Mark, Picture, Style};
use crate::task::Task as _;

impl Queens {
    /// For each cell: whether a queen stands there, and where she comes from. Without an answer, cells that a given queen attacks
    /// are closed.
    fn marks(&self, puzzle: &Placement, answer: Option<&[u8]>, label: Option<&[u8]>) -> Vec<(bool, Mark)> {
        let side = self.side;
        let given = self.encode(puzzle);
        let fits = |tokens: &&[u8]| tokens.len() == given.len();
        let (answer, label) = (answer.filter(fits), label.filter(fits));
        let board = answer.unwrap_or(&given);
        let attacked = |cell: usize, board: &[u8]| {
            let (row, col) = (cell / side, cell % side);
            board.iter().enumerate().any(|(other, &token)| {
                let (r, c) = (other / side, other % side);
                let in_line = r == row || c == col || r.abs_diff(row) == c.abs_diff(col);
                token == QUEEN && other != cell && in_line
            })
        };
        let mark = |cell: usize| {
            let queen = |board: &[u8]| board[cell] == QUEEN;
            let [here, before] = [board, &given].map(|board| u8::from(queen(board)));
            let conflict = queen(board) && attacked(cell, board);
            match Mark::new(here, before, label.map(|label| u8::from(queen(label))), conflict) {
                Mark::Blank if answer.is_none() && attacked(cell, &given) => Mark::Closed,
                mark => mark,
            }
        };
        (0..given.len()).map(|cell| (board[cell] == QUEEN, mark(cell))).collect()
    }

    pub(super) fn text(&self, puzzle: &Placement, answer: Option<&[u8]>, style: Style) -> String {
        // Plain: `Q` given, `q` added, `!` after a queen that attacks another or for a given one that is gone, `-` where a
        // given queen leaves no place.
        let cell = |(queen, mark): &(bool, Mark)| match (style, queen, mark) {
            (Style::Plain, true, Mark::Given) => "Q ",
            (Style::Plain, true, Mark::Wrong) => "q!",
            (Style::Plain, true, _) => "q ",
            (Style::Plain, false, Mark::Wrong) => ".!",
            (Style::Plain, false, Mark::Closed) => "- ",
            (Style::Ansi, true, Mark::Given) => "\x1b[1mQ\x1b[0m ",
            (Style::Ansi, true, Mark::Wrong) => "\x1b[1;31mQ\x1b[0m ",
            (Style::Ansi, true, _) => "\x1b[34mQ\x1b[0m ",
            (Style::Ansi, false, Mark::Wrong) => "\x1b[1;31m.\x1b[0m ",
            (Style::Ansi, false, Mark::Closed) => "\x1b[2m-\x1b[0m ",
            _ => ". ",
        };
        let marks = self.marks(puzzle, answer, None);
        let lines = marks.chunks_exact(self.side);
        let lines = lines.map(|line| line.iter().map(cell).collect::<String>().trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(super) fn pictured(
        &self,
        puzzle: &Placement,
        answer: Option<&[u8]>,
        label: Option<&[u8]>,
    ) -> Picture {
        let marks = self.marks(puzzle, answer, label);
        Picture::of_cells(self.side, self.side, |row, col| {
            let (queen, mark) = marks[row * self.side + col];
            (queen.then_some('Q'), mark)
        })
    }
}
