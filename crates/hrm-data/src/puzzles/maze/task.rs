//! Mazes as rows of tokens: 0 is padding, the others stand for [`SYMBOLS`].

use std::fmt;

use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::board::{Direction, parse_tokens};
use super::solvers::{Method, Outcome, Run};
use super::{Kind, Maze, MazeError, PathError, SYMBOLS, draw, split};
use crate::dataset::{Dataset, widen};
use crate::grid::{Dihedral, Grid};
use crate::groups::{Groups, Kind as GroupKind};
use crate::render::{Picture, Style};
use crate::task::{
    Beliefs, Exact, GenerateOptions, Leaks, Record, Size, Solutions, Split, Task, TokenSymmetry, Worked, told,
};

/// Mazes of one shape. The solution is a path, start and goal included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mazes {
    rows: usize,
    cols: usize,
    /// Whether labels are canonical paths. The canonical path depends on the order of directions, so the image of a label is a
    /// shortest path but not the canonical one: with images alone one maze has up to eight right answers.
    canonical: bool,
}

/// The maze of a row of input tokens of `rows` x `cols`.
///
/// # Errors
/// [`MazeError`] if they are no maze; [`MazeError::NotSquare`] if their number is not `rows * cols`.
pub fn decode_tokens(rows: usize, cols: usize, tokens: &[u8]) -> Result<Maze, MazeError> {
    let got = tokens.len();
    Maze::from_tokens(Grid::new(rows, cols, tokens.to_vec()).ok_or(MazeError::NotSquare { got })?)
}

impl Mazes {
    /// Mazes of so many rows and columns, whose labels are canonical paths.
    pub const fn new(rows: usize, cols: usize) -> Self {
        Self { rows, cols, canonical: true }
    }

    /// The symmetries of the shape.
    const fn images(self) -> &'static [Dihedral] {
        if self.rows == self.cols { &Dihedral::ALL } else { &Dihedral::OF_RECTANGLE }
    }

    fn apply(self, symmetry: Dihedral, tokens: &[u8], out: &mut [i32]) {
        symmetry.apply_cells((self.rows, self.cols), tokens, out, i32::from);
    }

    /// Cells as characters, free ones as `free`, `?` for tokens that stand for nothing.
    fn text(self, tokens: &[u8], free: char, between: &str) -> String {
        let symbol = |token: &u8| match SYMBOLS.get(usize::from(*token).wrapping_sub(1)) {
            Some(' ') => free,
            Some(&symbol) => symbol,
            None => '?',
        };
        let row = |row: &[u8]| row.iter().map(symbol).collect::<String>();
        let lines: Vec<String> = tokens.chunks(self.cols.max(1)).map(row).collect();
        lines.join(if self.rows == self.cols { "" } else { between })
    }

    fn kind(self, options: &GenerateOptions) -> Result<Kind, String> {
        let Self { rows, cols, .. } = self;
        match options.kind.as_deref().unwrap_or("hard") {
            "hard" => Ok(Kind::Hard { rows, cols, min_distance: options.min_path.unwrap_or(109) }),
            "unique" => Ok(Kind::Unique {
                rows,
                cols,
                shortest: options.min_path.unwrap_or(100),
                longest: options.max_path.unwrap_or(140),
            }),
            kind => Err(format!("expected mazes of kind hard, unique or mixed, got {kind}")),
        }
    }
}

impl fmt::Display for Mazes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} maze", self.rows, self.cols)
    }
}

impl Task for Mazes {
    type Puzzle = Maze;
    type Solution = Vec<usize>;

    const NAME: &'static str = "maze";
    const ABOUT: &'static str = "mazes";
    const SIZE: Option<(usize, usize)> = Some((30, 30));
    const OPTIONS: &'static [&'static str] = &["kind", "min_path", "max_path"];
    const LOOSE: bool = false;
    const OPTIMAL: bool = true;

    fn of_size(Size { rows, cols, .. }: Size) -> Result<Self, String> {
        Ok(Self::new(rows, cols))
    }

    /// Mazes count as square.
    fn of_tokens(seq_len: usize, vocab_size: usize) -> Option<Self> {
        let side = seq_len.isqrt();
        (side * side == seq_len && vocab_size == SYMBOLS.len() + 1).then(|| Self::new(side, side))
    }

    fn of_text(text: &str) -> Result<Self, String> {
        let maze: Maze = text.parse().map_err(told)?;
        Ok(Self::new(maze.rows(), maze.cols()))
    }

    /// 10 x 40 and 20 x 20 cells are as many: the first example must be a maze, and its label a path through it.
    fn of_dataset(self, dataset: &Dataset) -> Result<Self, String> {
        let mut examples = dataset
            .sets()
            .iter()
            .flat_map(|set| (0..set.examples()).map(move |i| (set.input(i), set.label(i))))
            .peekable();
        if let Some((input, label)) = examples.peek() {
            let maze = self.decode(input).map_err(|error| format!("example 1: {error}"))?;
            maze.check(label)
                .map_err(|error| format!("example 1: the label is no path through the maze: {error}"))?;
        }
        let canonical = examples.all(|(input, label)| {
            self.decode(input).is_ok_and(|maze| maze.label().as_deref() == Some(label))
        });
        Ok(Self { canonical, ..self })
    }

    fn seq_len(&self) -> usize {
        self.rows.saturating_mul(self.cols)
    }

    fn vocab_size(&self) -> usize {
        SYMBOLS.len() + 1
    }

    fn size(&self) -> Option<(usize, usize)> {
        Some((self.rows, self.cols))
    }

    fn encode(&self, puzzle: &Maze) -> Vec<u8> {
        puzzle.tokens().to_vec()
    }

    fn encode_solution(&self, puzzle: &Maze, path: &Vec<usize>) -> Vec<u8> {
        puzzle.mark(path)
    }

    fn decode(&self, input: &[u8]) -> Result<Maze, String> {
        decode_tokens(self.rows, self.cols, input).map_err(told)
    }

    /// The neighbour of each cell in each of the four directions: a model that mixes by them treats all places alike, so its weights run on
    /// mazes of every size. The directions are told apart, since a canonical path prefers some. Free, wall and path are not values that
    /// could change places, so there is no lattice of them.
    fn groups(&self) -> Option<Groups> {
        let kinds = Direction::CANONICAL.map(|direction| {
            let next = |cell| direction.next((self.rows, self.cols), cell).map(|next| next as u32);
            let groups = (0..self.seq_len()).map(|cell| Vec::from_iter(next(cell))).collect();
            let name = match direction {
                Direction::Down => "below",
                Direction::Left => "left",
                Direction::Right => "right",
                Direction::Up => "above",
            };
            GroupKind { name, groups, own: true }
        });
        let kinds = kinds.to_vec();
        Some(Groups { first_value: Task::vocab_size(self), after_values: 0, distinct_values: 0, kinds })
    }

    fn symmetry(&self, rng: &mut ChaCha8Rng) -> TokenSymmetry {
        TokenSymmetry::dihedral(self.rows, self.cols, rng)
    }

    fn augmentation(&self) -> Option<Value> {
        let kind = if self.canonical { "maze_symmetry" } else { "dihedral" };
        Some(json!({ "kind": kind, "rows": self.rows, "cols": self.cols }))
    }

    /// Canonical labels stay canonical; labels of another convention go through the symmetry with their maze.
    fn augment(
        &self,
        rng: &mut ChaCha8Rng,
        (input, label): (&[u8], &[u8]),
        (input_out, label_out): (&mut [i32], &mut [i32]),
    ) {
        let symmetry = Dihedral::random(self.rows, self.cols, rng);
        self.apply(symmetry, input, input_out);
        let image = self.decode(input).ok().filter(|_| self.canonical);
        // A maze without a path keeps its label, whatever that is.
        match image.and_then(|maze| maze.transformed(symmetry).label()) {
            Some(canonical) => widen(&canonical, label_out),
            None => self.apply(symmetry, label, label_out),
        }
    }

    fn copy(&self, number: usize, _: &mut ChaCha8Rng) -> TokenSymmetry {
        let symmetry = self.images().get(number).copied().unwrap_or(Dihedral::IDENTITY);
        TokenSymmetry::of_dihedral(self.rows, self.cols, symmetry)
    }

    fn most_copies(&self) -> Option<usize> {
        Some(self.images().len() - 1)
    }

    fn symmetries(&self) -> (f64, &'static str) {
        (self.images().len() as f64, "turned and mirrored")
    }

    fn parse(&self, text: &str) -> Result<Maze, String> {
        text.parse().map_err(told)
    }

    /// Any simple path, also one that is not the shortest.
    fn parse_answer(&self, puzzle: &Maze, text: &str) -> Result<Vec<u8>, String> {
        let tokens = parse_tokens(text, Some((puzzle.rows(), puzzle.cols()))).map_err(told)?;
        puzzle.check(tokens.cells()).map_err(|error| format!("no path through the maze: {error}"))?;
        Ok(tokens.cells().to_vec())
    }

    /// Square mazes without line ends, others with a `/` after each row but the last.
    fn line(&self, puzzle: &Maze) -> String {
        self.text(puzzle.tokens(), '.', "/")
    }

    fn answer_line(&self, _: &Maze, answer: &[u8]) -> String {
        self.text(answer, '.', "/")
    }

    /// As in the published sets: spaces for free cells. Mazes that are no squares keep their rows.
    fn table_text(&self, puzzle: &Maze, answer: Option<&[u8]>) -> String {
        self.text(answer.unwrap_or_else(|| puzzle.tokens()), ' ', "\n")
    }

    fn solutions(&self, puzzle: &Maze) -> Solutions<Vec<usize>> {
        puzzle.shortest_path().map_or(Solutions::None, Solutions::Unique)
    }

    fn proper(&self, puzzle: &Maze) -> Result<Option<Vec<usize>>, String> {
        puzzle.shortest_path().map(Some).ok_or_else(|| told(PathError::NoPath))
    }

    fn class(&self, puzzle: &Maze) -> Vec<u8> {
        puzzle.canonical().tokens().to_vec()
    }

    fn leaks(&self, train: &[Record], test: &[Record]) -> Result<Leaks, String> {
        let class = |record: &Record| self.decode(&record.input).map(|maze| maze.canonical());
        let mut leaks = Leaks::by_class(train, test, |record| class(record))?;
        for leak in &mut leaks.0 {
            leak.told = "mazes of the test set, turned or mirrored";
        }
        Ok(leaks)
    }

    fn verify(&self, puzzle: &Maze, answer: &[u8]) -> Result<(), String> {
        puzzle.check_optimal(answer).map(|_| ()).map_err(told)
    }

    fn praise(&self, puzzle: &Maze, _: &[u8]) -> String {
        match puzzle.distance().unwrap_or_default() {
            1 => "a shortest path of 1 move".to_owned(),
            moves => format!("a shortest path of {moves} moves"),
        }
    }

    /// By breadth-first search, which never guesses; a node is a cell looked at.
    fn search(&self, puzzle: &Maze, _: Option<&Beliefs>, _: u64) -> Option<Exact> {
        let run = Method::Bfs.solve(puzzle);
        Some(Exact { answer: puzzle.mark(&run.path?), guesses: 0, nodes: run.steps as u64 })
    }

    fn methods() -> Vec<&'static str> {
        Method::ALL.map(Method::name).to_vec()
    }

    fn work(&self, puzzle: &Maze, method: &str, trace: bool) -> Result<Worked, String> {
        let method: Method = method.parse().map_err(told)?;
        let run: Run = method.solve(puzzle);
        let moves = run.path.as_ref().map(|path| path.len() - 1);
        let count = |moves: usize| if moves == 1 { "1 move".to_owned() } else { format!("{moves} moves") };
        let outcome = match (run.outcome, moves.unwrap_or_default()) {
            (Outcome::Shortest, moves) => format!("a shortest path of {}", count(moves)),
            (Outcome::Longer { shortest }, moves) => {
                format!("a path of {} (shortest: {shortest})", count(moves))
            }
            (Outcome::Loop, _) => "walks in circles, no path".to_owned(),
            (Outcome::NoPath, _) => "there is no path".to_owned(),
            (Outcome::Undecided { remaining }, _) => format!("undecided, {remaining} cells are left"),
        };
        let mut details = match json!(run.outcome) {
            Value::Object(details) => details,
            _ => Map::new(),
        };
        details.insert("moves".to_owned(), json!(moves));
        let place = |cell: &usize| format!("r{}c{}", cell / self.cols + 1, cell % self.cols + 1);
        let steps = || run.trace.iter().map(place).collect::<Vec<_>>().join(" ");
        Ok(Worked {
            answer: run.path.as_ref().map(|path| puzzle.mark(path)),
            outcome: Some(outcome),
            work: vec![("step", run.steps as u64)],
            details,
            trace: trace.then(|| (steps(), json!(run.trace))),
        })
    }

    /// The first maze of a block of candidates that has one, from that numbered `index << 32` on.
    fn generate(
        &self,
        options: &GenerateOptions,
        seed: u64,
        index: u64,
    ) -> Result<(Maze, Vec<usize>), String> {
        let generator = self.kind(options)?.generator(seed).map_err(told)?;
        let blocks = index << 32..index.saturating_add(1) << 32;
        let maze = blocks.into_iter().find_map(|block| generator.block(block).into_iter().next());
        maze.and_then(|maze| Some((maze.shortest_path()?, maze)))
            .map(|(path, maze)| (maze, path))
            .ok_or_else(|| format!("found no {self}"))
    }

    /// The kind `mixed` is hard and unique mazes, half and half.
    fn split(
        &self,
        options: &GenerateOptions,
        seed: u64,
        (train, test): (usize, usize),
    ) -> Result<Split<Record>, String> {
        let of_kind = |kind: &str, wanted| {
            let options = GenerateOptions { kind: Some(kind.to_owned()), ..options.clone() };
            let kind = self.kind(&options)?;
            split::generate_split(self, kind, seed, wanted, options.spare_bundled).map_err(told)
        };
        if options.kind.as_deref() != Some("mixed") {
            return of_kind(options.kind.as_deref().unwrap_or("hard"), (train, test));
        }
        let mut made = of_kind("hard", (train - train / 2, test - test / 2))?;
        let unique = of_kind("unique", (train / 2, test / 2))?;
        made.train.extend(unique.train);
        made.test.extend(unique.test);
        // Each part is disjoint in itself; a maze of one part could in principle be of the other kind as well.
        self.leaks(&made.train, &made.test)?.drop_from(&mut made.train);
        Ok(made)
    }

    fn measures(&self, puzzle: &Maze, _: &[u8]) -> Vec<(&'static str, f64)> {
        let tokens = puzzle.tokens();
        let free = tokens.iter().filter(|&&token| token != 1).count();
        let mut found = vec![("free cells, %", 100.0 * free as f64 / tokens.len().max(1) as f64)];
        let run = Method::Bfs.solve(puzzle);
        found.extend(run.path.map(|path| ("moves of a shortest path", (path.len() - 1) as f64)));
        found.push(("cells searched breadth-first", run.steps as f64));
        found
    }

    fn render(&self, puzzle: &Maze, answer: Option<&[u8]>, style: Style) -> String {
        draw::answer(puzzle, answer.unwrap_or_default(), style)
    }

    fn picture(&self, puzzle: &Maze, answer: Option<&[u8]>, _: Option<&[u8]>) -> Picture {
        draw::picture(puzzle, answer.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_the_neighbours_inside() {
        let kinds = Mazes::new(2, 3).groups().unwrap().kinds;
        assert_eq!(
            kinds.iter().map(|kind| kind.name).collect::<Vec<_>>(),
            ["below", "left", "right", "above"]
        );
        assert!(kinds.iter().all(|kind| kind.own && kind.groups.len() == 6));
        let neighbours = |cell: usize| kinds.iter().map(|kind| kind.groups[cell].clone()).collect::<Vec<_>>();
        assert_eq!(neighbours(0), [vec![3], vec![], vec![1], vec![]]);
        assert_eq!(neighbours(4), [vec![], vec![3], vec![5], vec![1]]);
    }
}
