//! Mazes as text and as pictures.

use std::fmt::Write as _;

use super::{Maze, SYMBOLS};
use crate::render::{Anchor, Colour, Picture, Style, WHITE};

const CELL: f32 = 16.0;
const MARGIN: f32 = 8.0;
const WALL: Colour = (58, 60, 70);
const FREE: Colour = (244, 244, 240);
const START: Colour = (46, 160, 67);
const GOAL: Colour = (214, 48, 49);
const PATH: Colour = (245, 190, 40);
const FAULT: Colour = (240, 18, 190);

/// Draws a maze, with the cells of a path marked, one line of text per row.
///
/// Plain: `#` wall, `S`, `G`, `o` path, `.` free. Colour: two columns a cell, walls grey, start green, goal red, path yellow.
pub fn path(maze: &Maze, path: Option<&[usize]>, style: Style) -> String {
    self::answer(maze, &maze.mark(path.unwrap_or_default()), style)
}

/// Draws an answer of a model to a maze: tokens `[rows * cols]`. Cells where the answer changes the maze are marked `!` (in
/// colour: magenta); cells that the answer lacks are drawn as in the maze.
pub fn answer(maze: &Maze, answer: &[u8], style: Style) -> String {
    let mut out = String::new();
    for (cell, &token) in maze.tokens().iter().enumerate() {
        if cell > 0 && cell.is_multiple_of(maze.cols()) {
            out.push('\n');
        }
        let (symbol, colour) = match drawn(token, answer.get(cell)) {
            '#' => ('#', (70, 70, 78)),
            '.' => ('.', (236, 236, 232)),
            'S' => ('S', START),
            'G' => ('G', GOAL),
            'o' => ('o', PATH),
            _ => ('!', FAULT),
        };
        match style {
            Style::Plain => out.push(symbol),
            Style::Ansi => {
                let (r, g, b) = colour;
                let text = if matches!(symbol, 'S' | 'G' | '!') { symbol } else { ' ' };
                // Writing to a String cannot fail.
                let _ = write!(out, "\x1b[1;97;48;2;{r};{g};{b}m{text} \x1b[0m");
            }
        }
    }
    out
}

/// What stands in a cell: a symbol, or `!` where the answer changes the maze.
fn drawn(token: u8, answered: Option<&u8>) -> char {
    match (token, *answered.unwrap_or(&token)) {
        (2, 5) => 'o',
        (2, 2) => '.',
        (1..=4, answered) if answered == token => SYMBOLS[usize::from(token) - 1],
        _ => '!',
    }
}

/// Draws a maze with an answer to it, tokens `[rows * cols]`: marked cells yellow, and joined by a line where they are
/// neighbours; cells where the answer changes the maze magenta with a `!`. Cells that the answer lacks are drawn as in the maze.
pub fn picture(maze: &Maze, answer: &[u8]) -> Picture {
    let (rows, cols) = (maze.rows(), maze.cols());
    let mut picture =
        Picture::new((cols as f32).mul_add(CELL, 2.0 * MARGIN), (rows as f32).mul_add(CELL, 2.0 * MARGIN));
    let frame = 2.0;
    picture.rectangle(
        (MARGIN - frame, MARGIN - frame),
        ((cols as f32).mul_add(CELL, 2.0 * frame), (rows as f32).mul_add(CELL, 2.0 * frame)),
        WALL,
    );
    let corner = |cell: usize| {
        (((cell % cols) as f32).mul_add(CELL, MARGIN), ((cell / cols) as f32).mul_add(CELL, MARGIN))
    };
    let centre = |cell: usize| {
        let (x, y) = corner(cell);
        (x + CELL / 2.0, y + CELL / 2.0)
    };
    let mut marked = vec![false; maze.tokens().len()];
    for (cell, &token) in maze.tokens().iter().enumerate() {
        let (ground, letter) = match drawn(token, answer.get(cell)) {
            '#' => (WALL, None),
            '.' => (FREE, None),
            'o' => (PATH, None),
            'S' => (START, Some('S')),
            'G' => (GOAL, Some('G')),
            _ => (FAULT, Some('!')),
        };
        marked[cell] = matches!(ground, PATH | START | GOAL);
        picture.rectangle(corner(cell), (CELL, CELL), ground);
        if let Some(letter) = letter {
            picture.text(centre(cell), Anchor::Middle, 0.62 * CELL, true, WHITE, letter);
        }
    }
    // Every step of the path, from the start and to the goal too; a start beside the goal is no path.
    let path = |cell: usize| marked[cell] && maze.tokens()[cell] == 2;
    for cell in (0..marked.len()).filter(|&cell| marked[cell]) {
        for next in
            [(cell + 1 < marked.len() && (cell + 1) % cols != 0).then_some(cell + 1), Some(cell + cols)]
        {
            let Some(next) = next.filter(|&next| next < marked.len() && marked[next]) else { continue };
            if path(cell) || path(next) {
                picture.line(&[centre(cell), centre(next)], 2.4, (150, 95, 0));
            }
        }
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_faults_are_drawn() {
        let board: Maze = "S  \n # \n  G".parse().unwrap();
        assert_eq!(self::path(&board, None, Style::Plain), "S..\n.#.\n..G");
        let path = board.shortest_path().unwrap();
        assert_eq!(self::path(&board, Some(&path), Style::Plain), "S..\no#.\nooG");
        assert_eq!(answer(&board, &[3u8, 5, 9, 2, 2], Style::Plain), "So!\n.!.\n..G");
        let colour = self::path(&board, Some(&path), Style::Ansi);
        assert_eq!(colour.lines().count(), 3);
        assert_eq!(colour.matches("48;2;245;190;40").count(), 3);
        assert!(colour.lines().all(|line| line.ends_with("\x1b[0m")));
    }

    #[test]
    fn path_and_faults_are_pictured() {
        let maze: Maze = "S  \n # \n  G".parse().unwrap();
        let count = |picture: &Picture, text: &str| picture.svg().matches(text).count();
        let label = maze.label().unwrap();
        let drawn = picture(&maze, &label);
        assert_eq!((count(&drawn, "#f5be28"), count(&drawn, "<polyline")), (3, 4));
        assert_eq!((count(&drawn, ">S<"), count(&drawn, ">G<"), count(&drawn, ">!<")), (1, 1, 0));
        let faulty = picture(&maze, &[3u8, 5, 9, 2, 2]);
        assert_eq!((count(&faulty, ">!<"), count(&faulty, "#f5be28")), (2, 1));
        assert!(picture(&maze, &[]).png(1.0).is_ok());
    }
}
