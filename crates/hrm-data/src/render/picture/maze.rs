//! Mazes as pictures.

use super::{Anchor, Colour, Picture, WHITE};
use crate::maze::Maze;

const CELL: f32 = 16.0;
const MARGIN: f32 = 8.0;
const WALL: Colour = (58, 60, 70);
const FREE: Colour = (244, 244, 240);
const START: Colour = (46, 160, 67);
const GOAL: Colour = (214, 48, 49);
const PATH: Colour = (245, 190, 40);
const FAULT: Colour = (240, 18, 190);

/// Draws a maze with an answer to it, tokens `[rows * cols]`: marked cells yellow, and joined by a line where they are
/// neighbours; cells where the answer changes the maze magenta with a `!`. Cells that the answer lacks are drawn as in the maze.
pub fn maze_picture<T: Copy + Into<i64>>(maze: &Maze, answer: &[T]) -> Picture {
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
    let answered = |cell: usize, token: u8| answer.get(cell).map_or(i64::from(token), |&t| t.into());
    let mut marked = vec![false; maze.tokens().len()];
    for (cell, &token) in maze.tokens().iter().enumerate() {
        let (ground, letter) = match (token, answered(cell, token)) {
            (1, 1) => (WALL, None),
            (2, 2) => (FREE, None),
            (2, 5) => (PATH, None),
            (3, 3) => (START, Some('S')),
            (4, 4) => (GOAL, Some('G')),
            _ => (FAULT, Some('!')),
        };
        marked[cell] = matches!(ground, PATH | START | GOAL);
        picture.rectangle(corner(cell), (CELL, CELL), ground);
        if let Some(letter) = letter {
            picture.text(centre(cell), Anchor::Middle, 0.62 * CELL, true, WHITE, letter);
        }
    }
    // Only steps onto a path cell are joined: a start beside the goal is no path.
    let path = |cell: usize| marked[cell] && maze.tokens()[cell] == 2;
    for cell in (0..marked.len()).filter(|&cell| marked[cell]) {
        for next in
            [(cell + 1 < marked.len() && (cell + 1) % cols != 0).then_some(cell + 1), Some(cell + cols)]
        {
            let Some(next) = next.filter(|&next| next < marked.len() && marked[next]) else { continue };
            if path(cell) && path(next) {
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
        let maze: Maze = "S  \n # \n  G".parse().unwrap();
        let count = |picture: &Picture, text: &str| picture.svg().matches(text).count();
        let label = maze.label().unwrap();
        let picture = maze_picture(&maze, &label);
        assert_eq!((count(&picture, "#f5be28"), count(&picture, "<polyline")), (3, 2));
        assert_eq!((count(&picture, ">S<"), count(&picture, ">G<"), count(&picture, ">!<")), (1, 1, 0));
        let faulty = maze_picture(&maze, &[3u8, 5, 9, 2, 2]);
        assert_eq!((count(&faulty, ">!<"), count(&faulty, "#f5be28")), (2, 1));
        assert!(maze_picture::<u8>(&maze, &[]).png(1.0).is_ok());
    }
}
