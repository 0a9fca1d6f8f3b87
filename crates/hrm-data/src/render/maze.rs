//! Mazes as text.

use std::fmt::Write as _;

use super::Style;
use crate::maze::Maze;

/// Draws a maze, with the cells of a path marked, one line of text per row.
///
/// Plain: `#` wall, `S`, `G`, `o` path, `.` free. Colour: two columns a cell, walls grey, start green, goal red, path yellow.
pub fn maze(maze: &Maze, path: Option<&[usize]>, style: Style) -> String {
    maze_answer(maze, &maze.mark(path.unwrap_or_default()), style)
}

/// Draws an answer of a model to a maze: tokens `[rows * cols]`. Cells where the answer changes the maze are marked `!` (in
/// colour: magenta); cells that the answer lacks are drawn as in the maze.
pub fn maze_answer<T: Copy + Into<i64>>(maze: &Maze, answer: &[T], style: Style) -> String {
    let mut out = String::new();
    for (cell, &token) in maze.tokens().iter().enumerate() {
        if cell > 0 && cell.is_multiple_of(maze.cols()) {
            out.push('\n');
        }
        let answered = answer.get(cell).map_or(i64::from(token), |&t| t.into());
        let kind = match (token, answered) {
            (1..=4, a) if a == i64::from(token) => token,
            (2, 5) => 5,
            _ => 6,
        };
        let (symbol, colour) = match kind {
            1 => ('#', (70, 70, 78)),
            2 => ('.', (236, 236, 232)),
            3 => ('S', (46, 160, 67)),
            4 => ('G', (214, 48, 49)),
            5 => ('o', (245, 190, 40)),
            _ => ('!', (240, 18, 190)),
        };
        match style {
            Style::Plain => out.push(symbol),
            Style::Ansi => {
                let (r, g, b) = colour;
                let text = if matches!(kind, 3 | 4 | 6) { symbol } else { ' ' };
                // Writing to a String cannot fail.
                let _ = write!(out, "\x1b[1;97;48;2;{r};{g};{b}m{text} \x1b[0m");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_faults_are_drawn() {
        let board: Maze = "S  \n # \n  G".parse().unwrap();
        assert_eq!(maze(&board, None, Style::Plain), "S..\n.#.\n..G");
        let path = board.shortest_path().unwrap();
        assert_eq!(maze(&board, Some(&path), Style::Plain), "S..\no#.\nooG");
        assert_eq!(maze_answer(&board, &[3u8, 5, 9, 2, 2], Style::Plain), "So!\n.!.\n..G");
        let colour = maze(&board, Some(&path), Style::Ansi);
        assert_eq!(colour.lines().count(), 3);
        assert_eq!(colour.matches("48;2;245;190;40").count(), 3);
        assert!(colour.lines().all(|line| line.ends_with("\x1b[0m")));
    }
}
