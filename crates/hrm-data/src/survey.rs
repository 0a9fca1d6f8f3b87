//! What a set of puzzles is like: how large the group of symmetries, and how hard each puzzle, in numbers that suit its task.

use crate::arc;
use crate::maze::{self, solvers::Method};
use crate::sudoku::{self, Geometry, Solver};
use crate::task::{Shape, Task};
use crate::variants::killer::KillerTask;
use crate::variants::samurai::SamuraiTask;

/// Nodes of a search after which its work is not told.
const MAX_NODES: u64 = 100_000;

/// How many symmetries puzzles of a shape have, and what they are.
pub fn symmetries(shape: Shape) -> (f64, &'static str) {
    let rectangle = |rows: usize, cols: usize| if rows == cols { 8.0 } else { 4.0 };
    let factorial = |n: usize| (1..=n).map(|i| i as f64).product::<f64>();
    match shape {
        Shape::Sudoku(geometry) => {
            let (bands, stacks) = (geometry.bands(), geometry.stacks());
            let lines = factorial(geometry.box_rows()).powi(bands as i32)
                * factorial(geometry.box_cols()).powi(stacks as i32);
            let transpose = if geometry.is_square() { 2.0 } else { 1.0 };
            let all = transpose * lines * factorial(bands) * factorial(stacks) * factorial(geometry.side());
            (
                all,
                "values relabelled; rows, columns, bands and stacks exchanged; transposed if boxes are square",
            )
        }
        Shape::Maze { rows, cols } => (rectangle(rows, cols), "turned and mirrored"),
        Shape::Arc => {
            (8.0 * factorial(9), "turned and mirrored, colours but black exchanged; then translated")
        }
        Shape::Killer(geometry) => (if geometry.is_square() { 8.0 } else { 4.0 }, "turned and mirrored"),
        Shape::Samurai => (
            8.0 * (factorial(3).powi(7) * 4.0).powi(2) * factorial(9),
            "digits relabelled; lines exchanged within their strips, outer strips exchanged; turned and mirrored",
        ),
        Shape::Queens(side) => (rectangle(side, side), "turned and mirrored"),
    }
}

/// Numbers that say how hard an example is, with their names: the same ones for each example of a shape, less those that
/// cannot be told. Input and label are `[seq_len]`; tokens that are no puzzle have none.
pub fn measures(shape: Shape, input: &[u8], label: &[u8]) -> Vec<(&'static str, f64)> {
    match shape {
        Shape::Sudoku(geometry) => sudoku_measures(geometry, input),
        Shape::Maze { rows, cols } => {
            let Ok(maze) = maze::decode_tokens(rows, cols, input) else { return Vec::new() };
            let free = input.iter().filter(|&&token| token != 1).count();
            let mut found = vec![("free cells, %", 100.0 * free as f64 / input.len().max(1) as f64)];
            let run = Method::Bfs.solve(&maze);
            found.extend(run.path.map(|path| ("moves of a shortest path", (path.len() - 1) as f64)));
            found.push(("cells searched breadth-first", run.steps as f64));
            found
        }
        Shape::Arc => {
            let cells = |tokens: &[u8]| arc::decode(tokens).map(|(grid, _)| grid);
            let mut found = Vec::new();
            if let Some(grid) = cells(input) {
                let mut colours = grid.cells().to_vec();
                colours.sort_unstable();
                colours.dedup();
                found.push(("cells of the input", grid.cells().len() as f64));
                found.push(("colours of the input", colours.len() as f64));
            }
            found.extend(cells(label).map(|grid| ("cells of the output", grid.cells().len() as f64)));
            found
        }
        Shape::Killer(geometry) => {
            let puzzle = KillerTask::new(geometry).ok().and_then(|task| task.decode(input).ok());
            let Some(puzzle) = puzzle else { return Vec::new() };
            let search = puzzle.search(2, MAX_NODES);
            let mut found = vec![("cages", puzzle.cages().len() as f64)];
            found.extend(search.is_unique().map(|_| ("nodes of an exact search", search.work.nodes as f64)));
            found
        }
        Shape::Samurai => {
            let Ok(puzzle) = SamuraiTask.decode(input) else { return Vec::new() };
            let search = puzzle.search(2, MAX_NODES);
            let mut found = vec![("givens", puzzle.clues() as f64)];
            found.extend(search.is_unique().map(|_| ("nodes of an exact search", search.work.nodes as f64)));
            found
        }
        Shape::Queens(_) => {
            vec![("queens given", input.iter().filter(|&&token| token == 2).count() as f64)]
        }
    }
}

fn sudoku_measures(geometry: Geometry, input: &[u8]) -> Vec<(&'static str, f64)> {
    let Ok(board) = sudoku::decode_tokens(input) else { return Vec::new() };
    let mut found = vec![("givens", board.clues() as f64)];
    // Larger boards may take for ever.
    let mut solver = Solver::with_node_limit(MAX_NODES);
    if geometry.side() <= 9 {
        found.push(("rating (guesses to the solution)", sudoku::rating(&mut solver, &board) as f64));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::queens::Queens;
    use crate::variants::{killer, samurai};

    #[test]
    fn groups_have_their_published_sizes() {
        assert_eq!(symmetries(Shape::Sudoku(Geometry::S9)).0, 2.0 * 6f64.powi(8) * 362_880.0);
        assert_eq!(symmetries(Shape::Sudoku(Geometry::S4)).0, 2.0 * 8f64.powi(2) * 24.0);
        assert_eq!(symmetries(Shape::Maze { rows: 4, cols: 7 }).0, 4.0);
        assert_eq!(symmetries(Shape::Arc).0, 2_903_040.0);
    }

    #[test]
    fn every_task_is_measured() {
        let names = |shape, input: &[u8], label: &[u8]| {
            measures(shape, input, label).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let board = "1....3...2....4.".parse().unwrap();
        let tokens = sudoku::encode_tokens(&board);
        assert_eq!(measures(Shape::Sudoku(Geometry::S4), &tokens, &[])[0], ("givens", 4.0));
        let maze: maze::Maze = "S   #   G".parse().unwrap();
        let found = measures(Shape::Maze { rows: 3, cols: 3 }, maze.tokens(), &[]);
        assert!(found.contains(&("moves of a shortest path", 4.0)), "{found:?}");
        let task = KillerTask::new(Geometry::S4).unwrap();
        let made = killer::Generator::new(Geometry::S4, 1).unwrap().generate(0);
        let input = task.encode(&made.puzzle);
        assert_eq!(names(Shape::Killer(Geometry::S4), &input, &[]), ["cages", "nodes of an exact search"]);
        let made = samurai::Generator::new(1).with_clues(200, 200).generate(0);
        let input = SamuraiTask.encode(&made.puzzle);
        assert_eq!(names(Shape::Samurai, &input, &[]), ["givens", "nodes of an exact search"]);
        let queens = Queens::new(6).unwrap();
        let (puzzle, _) = queens.generate(1, 0);
        assert_eq!(names(Shape::Queens(6), &queens.encode(&puzzle), &[]), ["queens given"]);
        let mut canvas = [0u8; arc::SEQ_LEN];
        arc::encode(&crate::grid::Grid::new(1, 3, vec![1, 1, 0]).unwrap(), (2, 3), &mut canvas);
        let found = measures(Shape::Arc, &canvas, &[]);
        assert_eq!(found, [("cells of the input", 3.0), ("colours of the input", 2.0)]);
        assert!(measures(Shape::Samurai, &[1; 5], &[]).is_empty());
    }
}
