//! Sudoku and mazes as tasks.

use rand_chacha::ChaCha8Rng;

use super::{Beliefs, Exact, Solutions, Task, TokenSymmetry};
use crate::dataset::Augmentation;
use crate::grid::Dihedral;
use crate::groups::Groups;
use crate::maze::{self, Maze, MazeError, PathError};
use crate::render::{self, Picture, Style};
use crate::sudoku::{
    self, Board, BoardError, ClassKey, Classifier, Geometry, Search, Solver, Symmetry, Verdict,
};

/// Search states after which an exact search gives up: only large and very open boards take more.
pub(crate) const MAX_NODES: u64 = 300_000;

/// Sudoku of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Sudoku {
    /// The shape.
    pub geometry: Geometry,
}

impl Task for Sudoku {
    type Puzzle = Board;
    type Solution = Board;
    type Error = SudokuError;

    fn name(&self) -> &str {
        "sudoku"
    }

    fn seq_len(&self) -> usize {
        self.geometry.cells()
    }

    fn vocab_size(&self) -> usize {
        self.geometry.side() + 2
    }

    fn encode(&self, puzzle: &Board) -> Vec<u8> {
        sudoku::encode_tokens(puzzle)
    }

    fn encode_solution(&self, _: &Board, solution: &Board) -> Vec<u8> {
        sudoku::encode_tokens(solution)
    }

    fn decode(&self, input: &[u8]) -> Result<Board, SudokuError> {
        Ok(Board::from_cells(self.geometry, input.iter().map(|t| t.saturating_sub(1)).collect())?)
    }

    fn symmetry(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        let symmetry = Symmetry::random(self.geometry, rng);
        // Where cells come from is read off an image of their numbers; digits follow blank (1) and padding (0).
        let sources = symmetry.sources();
        let digits = symmetry.digits().iter().map(|digit| digit + 1);
        let tokens: Vec<u8> = [0, 1].into_iter().chain(digits).collect();
        TokenSymmetry::new(sources, &tokens).unwrap_or_else(|_| TokenSymmetry::identity(self.seq_len()))
    }

    fn augmentation(&self) -> Augmentation {
        Augmentation::SudokuSymmetry { geometry: self.geometry }
    }

    fn groups(&self) -> Option<Groups> {
        Some(Groups { first_value: 2, kinds: sudoku::group_kinds(self.geometry) })
    }

    fn parse(&self, text: &str) -> Result<Board, SudokuError> {
        Ok(text.parse()?)
    }

    fn line(&self, puzzle: &Board) -> String {
        puzzle.to_line()
    }

    fn answer_line(&self, puzzle: &Board, answer: &[u8]) -> String {
        self.decode(answer).as_ref().unwrap_or(puzzle).to_line()
    }

    fn solutions(&self, puzzle: &Board) -> Solutions<Board> {
        match Solver::with_node_limit(MAX_NODES).classify(puzzle) {
            Verdict::Unique(solution) => Solutions::Unique(solution),
            Verdict::Multiple(one, other) => Solutions::Several(one, other),
            Verdict::None => Solutions::None,
            Verdict::Unknown => Solutions::Unknown,
        }
    }

    fn class(&self, puzzle: &Board) -> Vec<u8> {
        match Classifier::new().key(puzzle) {
            ClassKey::Exact(cells) => cells.into_vec(),
            ClassKey::Fingerprint(fingerprint) => fingerprint.0.to_le_bytes().to_vec(),
        }
    }

    fn verify(&self, puzzle: &Board, answer: &[u8]) -> Result<(), SudokuError> {
        let answer = self.decode(answer)?;
        answer.validate()?;
        match answer.is_solution_of(puzzle) {
            true => Ok(()),
            false => Err(SudokuError::NoSolution),
        }
    }

    fn search(&self, puzzle: &Board, beliefs: Option<&Beliefs>, max_nodes: u64) -> Option<Exact> {
        let mut solver = Solver::with_node_limit(max_nodes);
        let Search { first, work, .. } = match beliefs {
            None => solver.search(puzzle, 1),
            Some(beliefs) => {
                solver.search_preferring(puzzle, 1, &|cell, value| beliefs.weight(cell, value + 1))
            }
        };
        first.map(|board| Exact {
            answer: sudoku::encode_tokens(&board),
            guesses: work.guesses,
            nodes: work.nodes,
        })
    }

    fn render(&self, puzzle: &Board, answer: Option<&[u8]>, style: Style) -> String {
        let answer = answer.and_then(|tokens| self.decode(tokens).ok());
        render::attempt(puzzle, None, answer.as_ref().unwrap_or(puzzle), style)
    }

    fn picture(&self, puzzle: &Board, answer: Option<&[u8]>, label: Option<&[u8]>) -> Picture {
        let board = |tokens: Option<&[u8]>| tokens.and_then(|tokens| self.decode(tokens).ok());
        render::sudoku_picture(puzzle, board(answer).as_ref(), board(label).as_ref())
    }
}

/// Why an answer to a Sudoku is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SudokuError {
    /// No board, or one that breaks the rules.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// A board that keeps the rules but has blanks or other givens.
    #[error("the board has blank cells, or changes a given")]
    NoSolution,
}

/// Mazes of one shape. The solution is a path, start and goal included.
#[derive(Clone, Copy, Debug)]
pub struct Mazes {
    /// Rows of the grid.
    pub rows: usize,
    /// Columns of the grid.
    pub cols: usize,
}

/// Why tokens are no maze, or an answer is no shortest path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MazeTaskError {
    /// No maze.
    #[error(transparent)]
    Maze(#[from] MazeError),
    /// No shortest path.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl Task for Mazes {
    type Puzzle = Maze;
    type Solution = Vec<usize>;
    type Error = MazeTaskError;

    fn name(&self) -> &str {
        "maze"
    }

    fn seq_len(&self) -> usize {
        self.rows.saturating_mul(self.cols)
    }

    fn vocab_size(&self) -> usize {
        maze::SYMBOLS.len() + 1
    }

    fn encode(&self, puzzle: &Maze) -> Vec<u8> {
        puzzle.tokens().to_vec()
    }

    fn encode_solution(&self, puzzle: &Maze, path: &Vec<usize>) -> Vec<u8> {
        puzzle.mark(path)
    }

    fn decode(&self, input: &[u8]) -> Result<Maze, MazeTaskError> {
        Ok(maze::decode_tokens(self.rows, self.cols, input)?)
    }

    fn symmetry(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        dihedral_symmetry(self.rows, self.cols, rng)
    }

    fn augmentation(&self) -> Augmentation {
        Augmentation::MazeSymmetry { rows: self.rows, cols: self.cols }
    }

    fn parse(&self, text: &str) -> Result<Maze, MazeTaskError> {
        Ok(text.parse()?)
    }

    fn line(&self, puzzle: &Maze) -> String {
        text_line(puzzle.cols(), puzzle.rows(), puzzle.tokens())
    }

    fn answer_line(&self, puzzle: &Maze, answer: &[u8]) -> String {
        text_line(puzzle.cols(), puzzle.rows(), answer)
    }

    fn solutions(&self, puzzle: &Maze) -> Solutions<Vec<usize>> {
        puzzle.shortest_path().map_or(Solutions::None, Solutions::Unique)
    }

    fn class(&self, puzzle: &Maze) -> Vec<u8> {
        puzzle.canonical().tokens().to_vec()
    }

    fn verify(&self, puzzle: &Maze, answer: &[u8]) -> Result<(), MazeTaskError> {
        puzzle.check_optimal(answer)?;
        Ok(())
    }

    /// By breadth-first search, which never guesses; a node is a cell looked at.
    fn search(&self, puzzle: &Maze, _: Option<&Beliefs>, _: u64) -> Option<Exact> {
        let run = maze::solvers::Method::Bfs.solve(puzzle);
        Some(Exact { answer: puzzle.mark(&run.path?), guesses: 0, nodes: run.steps as u64 })
    }

    fn render(&self, puzzle: &Maze, answer: Option<&[u8]>, style: Style) -> String {
        render::maze_answer(puzzle, answer.unwrap_or_default(), style)
    }

    fn picture(&self, puzzle: &Maze, answer: Option<&[u8]>, _: Option<&[u8]>) -> Picture {
        render::maze_picture(puzzle, answer.unwrap_or_default())
    }
}

/// Cells as characters, `?` for tokens that stand for nothing: square mazes without line ends, others with them, as mazes are
/// read.
fn text_line(cols: usize, rows: usize, tokens: &[u8]) -> String {
    let symbol = |token: &u8| maze::SYMBOLS.get(usize::from(*token).wrapping_sub(1)).copied().unwrap_or('?');
    let lines: Vec<String> =
        tokens.chunks(cols.max(1)).map(|row| row.iter().map(symbol).collect::<String>()).collect();
    lines.join(if rows == cols { "" } else { "\n" })
}

/// A random symmetry of a grid of `rows` x `cols`.
pub(super) fn dihedral_symmetry(rows: usize, cols: usize, rng: &mut ChaCha8Rng) -> TokenSymmetry {
    let cells: Vec<u32> = (0..rows.saturating_mul(cols) as u32).collect();
    let mut sources = vec![0; cells.len()];
    Dihedral::random(rows, cols, rng).apply_cells((rows, cols), &cells, &mut sources, |cell| cell);
    TokenSymmetry::new(sources, &[]).unwrap_or_else(|_| TokenSymmetry::identity(cells.len()))
}

#[cfg(test)]
mod tests {
    use super::super::{dataset, score};
    use super::*;
    use crate::dataset::{SamplerConfig, TrainSampler};
    use crate::maze::{GenerateOptions, Kind, generate_split};
    use crate::sudoku::Generator;
    use crate::variants::{killer, samurai};

    /// Every task: what it encodes it decodes, its copies are right, and its label solves it.
    fn check<T: Task>(task: &T, examples: &[(T::Puzzle, T::Solution)]) {
        let data = dataset(task, examples, 5, 1).unwrap();
        let set = &data.sets()[0];
        assert_eq!((data.groups(), data.examples()), (examples.len(), examples.len() * 6));
        let rows = (0..set.examples()).map(|i| (set.input(i), set.label(i), set.label(i)));
        let scores = score(task, rows.clone());
        assert_eq!(
            (scores.rows, scores.exact, scores.solved),
            (set.examples(), set.examples(), set.examples())
        );
        let blank = score(task, rows.map(|(input, label, _)| (input, label, input)));
        assert_eq!(blank.solved, 0);
        for i in 0..set.examples() {
            let puzzle = task.decode(set.input(i)).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(task.encode(&puzzle), set.input(i));
            let text = task.render(&puzzle, Some(set.label(i)), Style::Plain);
            assert_ne!(text, task.render(&puzzle, None, Style::Plain));
        }
        assert!((1..6).any(|copy| set.input(0) != set.input(copy)), "copies differ");
        assert!(
            task.picture(
                &task.decode(set.input(0)).unwrap_or_else(|e| panic!("{e}")),
                Some(set.label(0)),
                None
            )
            .png(0.3)
            .is_ok()
        );
        // What the sampler draws on the fly is right too, and not always the example itself.
        let config =
            SamplerConfig { augmentation: task.augmentation(), ..SamplerConfig::new(examples.len(), 1) };
        let plain = std::sync::Arc::new(dataset(task, examples, 0, 0).unwrap());
        let batch = TrainSampler::new(std::sync::Arc::clone(&plain), config).unwrap().next_batch();
        let bytes = |row: &[i32]| row.iter().map(|&t| u8::try_from(t.max(0)).unwrap()).collect::<Vec<u8>>();
        let drawn: Vec<_> =
            (0..batch.rows).map(|row| (bytes(batch.input(row)), bytes(batch.label(row)))).collect();
        let scores = score(task, drawn.iter().map(|(input, label)| (&input[..], &label[..], &label[..])));
        assert_eq!((scores.rows, scores.solved), (examples.len(), examples.len()));
        assert!(
            drawn.iter().any(|(input, _)| (0..plain.examples()).all(|i| plain.sets()[0].input(i) != input))
        );
        assert!(dataset(task, &[], 0, 0).is_err());
        assert!(task.decode(&[1]).is_err());
    }

    #[test]
    fn sudoku_and_mazes_keep_the_contract() {
        for geometry in [Geometry::S4, Geometry::S6, Geometry::S9] {
            let mut generator = Generator::new(geometry, 3);
            let examples: Vec<_> =
                (0..10).map(|i| generator.generate(i)).map(|g| (g.puzzle, g.solution)).collect();
            check(&Sudoku { geometry }, &examples);
        }
        for (rows, cols) in [(7, 7), (5, 9)] {
            let kind = Kind::Unique { rows, cols, shortest: 6, longest: 40 };
            let split = generate_split(&GenerateOptions { kind, seed: 1, train: 10, test: 0 }).unwrap();
            let examples: Vec<_> = split
                .train
                .into_iter()
                .map(|r| (r.maze.shortest_path().unwrap(), r.maze))
                .map(|(p, m)| (m, p))
                .collect();
            check(&Mazes { rows, cols }, &examples);
        }
    }

    #[test]
    fn the_variants_keep_it() {
        for geometry in [Geometry::S4, Geometry::S6, Geometry::S9] {
            let generator = killer::Generator::new(geometry, 3).unwrap();
            let examples: Vec<_> =
                generator.generate_many(0..5).into_iter().map(|g| (g.puzzle, g.solution)).collect();
            check(&killer::KillerTask::new(geometry).unwrap(), &examples);
        }
        let generator = samurai::Generator::new(3).with_clues(180, 240);
        let examples: Vec<_> =
            generator.generate_many(0..3).into_iter().map(|g| (g.puzzle, g.solution)).collect();
        check(&samurai::SamuraiTask, &examples);
    }

    #[test]
    fn boards_of_sixteen_keep_it() {
        let mut generator = Generator::new(Geometry::S16, 3).with_clues(140, 160);
        let examples: Vec<_> =
            (0..2).map(|i| generator.generate(i)).map(|g| (g.puzzle, g.solution)).collect();
        check(&Sudoku { geometry: Geometry::S16 }, &examples);
    }

    #[test]
    fn the_queens_keep_it_too() {
        let queens = super::super::queens::Queens::new(8).unwrap();
        let examples: Vec<_> = (0..10).map(|i| queens.generate(2, i)).collect();
        check(&queens, &examples);
    }
}
