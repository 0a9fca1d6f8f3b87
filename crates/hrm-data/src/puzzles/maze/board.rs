//! A maze and its paths.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::grid::{Dihedral, Grid};

/// The characters of a maze; token `i + 1` stands for the character at `i`, token 0 is padding.
pub const SYMBOLS: [char; 5] = ['#', ' ', 'S', 'G', 'o'];

pub(super) const WALL: u8 = 1;
pub(super) const FREE: u8 = 2;
pub(super) const START: u8 = 3;
pub(super) const GOAL: u8 = 4;
pub(super) const PATH: u8 = 5;

/// A maze: walls and free cells, one start and one goal.
///
/// As text: `#` wall, space or `.` free, `S` start, `G` goal, either one line per row (or `/` between rows) or, for square mazes,
/// all cells on one line. Other usual characters are read as well: [`Maze::WALLS`], [`Maze::FREE`], [`Maze::STARTS`],
/// [`Maze::GOALS`], and lines that boxes are drawn with for walls. Rows may also be lists, as in JSON, or have commas between their cells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Maze {
    grid: Grid,
    start: usize,
    goal: usize,
}

/// Why a text or a row of tokens is no maze.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MazeError {
    /// A character or token that stands for nothing.
    #[error("cell {cell}: expected one of `#`, space or `.`, `S`, `G`{}, got {got}", if *with_path { ", `o`" } else { "" })]
    Symbol {
        /// Position, 1-based.
        cell: usize,
        /// Whether the path would be allowed here.
        with_path: bool,
        /// What stands there.
        got: String,
    },
    /// A single line of cells that is no square.
    #[error(
        "expected a square number of cells on one line (900 for 30 x 30), or one line per row; got {got} cells"
    )]
    NotSquare {
        /// Cells found.
        got: usize,
    },
    /// Brackets that are no list of rows.
    #[error("expected a list of rows, [[\"#\", \"S\", ...], ...] or [\"#S...\", ...]: {why}")]
    List {
        /// What is wrong with it.
        why: String,
    },
    /// Lines of different lengths.
    #[error("line {line}: expected {expected} cells as in line 1, got {got}")]
    Ragged {
        /// Line, 1-based.
        line: usize,
        /// Cells of the first line.
        expected: usize,
        /// Cells of this one.
        got: usize,
    },
    /// More or fewer than one start or goal.
    #[error("expected exactly one {what}, got {got}")]
    Ends {
        /// `S` or `G`.
        what: char,
        /// How many there are.
        got: usize,
    },
}

/// Why an answer is no path through a maze.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PathError {
    /// The answer has another number of cells.
    #[error("expected {expected} cells, got {got}")]
    Length {
        /// Cells of the maze.
        expected: usize,
        /// Cells of the answer.
        got: usize,
    },
    /// The answer changes the maze.
    #[error("row {row}, column {col}: expected {expected}, got {got}")]
    Changed {
        /// Row, 1-based.
        row: usize,
        /// Column, 1-based.
        col: usize,
        /// What may stand there.
        expected: String,
        /// What stands there.
        got: String,
    },
    /// The marked cells do not join start and goal.
    #[error("the {marked} marked cells do not connect S and G")]
    Disconnected {
        /// Number of marked cells.
        marked: usize,
    },
    /// The marked cells join start and goal, but some are not needed for it.
    #[error("{marked} cells are marked, but the shortest way through them needs {needed}")]
    Stray {
        /// Number of marked cells.
        marked: usize,
        /// Cells between S and G on the shortest way through marked cells.
        needed: usize,
    },
    /// A path that is not the shortest.
    #[error("the path takes {got} moves, the shortest {shortest}")]
    Longer {
        /// Moves of the path.
        got: usize,
        /// Moves of a shortest path.
        shortest: usize,
    },
    /// There is no path.
    #[error("the maze has no path from S to G")]
    NoPath,
}

pub(super) fn symbol(token: u8) -> String {
    match usize::from(token).checked_sub(1).and_then(|i| SYMBOLS.get(i)) {
        Some(symbol) => format!("{symbol:?}"),
        None => format!("token {token}"),
    }
}

/// Characters of a maze or an answer as a grid of tokens.
pub(super) fn parse_tokens(text: &str, shape: Option<(usize, usize)>) -> Result<Grid, MazeError> {
    let known = [Maze::WALLS, Maze::FREE, Maze::STARTS, Maze::GOALS, "o"];
    let token = |(index, symbol): (usize, char)| match known.iter().position(|all| all.contains(symbol)) {
        Some(token) => Ok(token as u8 + 1),
        None if ('\u{2500}'..='\u{257f}').contains(&symbol) => Ok(WALL),
        None => Err(MazeError::Symbol { cell: index + 1, with_path: true, got: format!("{symbol:?}") }),
    };
    let text = text.trim_end_matches(['\n', '\r']).trim_start_matches('\u{feff}');
    let listed = of_lists(text)?;
    let text = listed.as_deref().unwrap_or(text);
    let lines: Vec<&str> = match text.contains('/') {
        true => text.split('/').collect(),
        false => text.lines().collect(),
    };
    let mut cells = Vec::with_capacity(text.len());
    let (rows, cols) = match (lines.as_slice(), shape) {
        ([] | [_], _) => {
            for symbol in text.chars().enumerate() {
                cells.push(token(symbol)?);
            }
            let side = cells.len().isqrt();
            match shape {
                Some((rows, cols)) if rows.checked_mul(cols) == Some(cells.len()) => (rows, cols),
                _ if side * side == cells.len() => (side, side),
                _ => return Err(MazeError::NotSquare { got: cells.len() }),
            }
        }
        (lines, _) => {
            let expected = lines[0].chars().count();
            for (index, line) in lines.iter().enumerate() {
                let before = cells.len();
                for (offset, symbol) in line.chars().enumerate() {
                    cells.push(token((before + offset, symbol))?);
                }
                let got = cells.len() - before;
                if got != expected {
                    return Err(MazeError::Ragged { line: index + 1, expected, got });
                }
            }
            (lines.len(), expected)
        }
    };
    let got = cells.len();
    Grid::new(rows, cols, cells).ok_or(MazeError::NotSquare { got })
}

/// The rows of a maze that is given as lists (`[["#","S"],[..` or `["#S", ..`, as JSON or Python) or with commas between its cells,
/// a line each; `None` if it is neither.
fn of_lists(text: &str) -> Result<Option<String>, MazeError> {
    let cell = |field: &str| match field.trim() {
        "" => Some(' '),
        one if one.chars().count() == 1 => one.chars().next(),
        _ => None,
    };
    if !text.trim_start().starts_with('[') {
        // Cells with commas between them.
        if !text.contains(',') {
            return Ok(None);
        }
        let row = |line: &str| line.split(',').map(cell).collect::<Option<String>>();
        return Ok(text.lines().map(row).collect::<Option<Vec<String>>>().map(|rows| rows.join("\n")));
    }
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Item {
        Text(String),
        Number(u8),
        Row(Vec<Item>),
    }
    fn spell(item: &Item) -> String {
        match item {
            Item::Text(text) if text.is_empty() => " ".to_owned(),
            Item::Text(text) => text.clone(),
            Item::Number(number) => number.to_string(),
            Item::Row(items) => items.iter().map(spell).collect(),
        }
    }
    let told = |error: serde_json::Error| MazeError::List { why: error.to_string() };
    let rows: Vec<Item> = serde_json::from_str(&text.replace('\'', "\"")).map_err(told)?;
    Ok(Some(rows.iter().map(spell).collect::<Vec<_>>().join("\n")))
}

impl FromStr for Maze {
    type Err = MazeError;

    fn from_str(text: &str) -> Result<Self, MazeError> {
        Self::from_tokens(parse_tokens(text, None)?)
    }
}

/// One line of text per row.
impl fmt::Display for Maze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, row) in self.grid.iter_rows().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&row.iter().map(|&t| SYMBOLS[usize::from(t) - 1]).collect::<String>())?;
        }
        Ok(())
    }
}

impl Maze {
    /// Characters of walls.
    pub const WALLS: &'static str = "#XxWw1%@+|-█▓■⬛🧱";
    /// Characters of free cells.
    pub const FREE: &'static str = " ._0·□⬜";
    /// Characters of the start.
    pub const STARTS: &'static str = "SsAa";
    /// Characters of the goal.
    pub const GOALS: &'static str = "GgEeBbFf";

    /// A maze from a grid of tokens: 1 wall, 2 free, 3 start, 4 goal.
    ///
    /// # Errors
    /// [`MazeError`] if another token occurs, or not exactly one start and one goal.
    pub fn from_tokens(grid: Grid) -> Result<Self, MazeError> {
        let cells = grid.cells();
        if let Some(cell) = cells.iter().position(|t| !(WALL..=GOAL).contains(t)) {
            return Err(MazeError::Symbol { cell: cell + 1, with_path: false, got: symbol(cells[cell]) });
        }
        let only = |token: u8, what: char| {
            let mut found = cells.iter().enumerate().filter(|&(_, &t)| t == token).map(|(cell, _)| cell);
            match (found.next(), found.count()) {
                (Some(cell), 0) => Ok(cell),
                (first, more) => Err(MazeError::Ends { what, got: more + usize::from(first.is_some()) }),
            }
        };
        let (start, goal) = (only(START, 'S')?, only(GOAL, 'G')?);
        Ok(Self { grid, start, goal })
    }

    /// A maze of `rows` x `cols` whose walls are given by a predicate on cells; start and goal are always free.
    pub(super) fn build(
        (rows, cols): (usize, usize),
        (start, goal): (usize, usize),
        is_wall: impl Fn(usize) -> bool,
    ) -> Self {
        let token = |cell| match cell {
            cell if cell == start => START,
            cell if cell == goal => GOAL,
            cell if is_wall(cell) => WALL,
            _ => FREE,
        };
        let cells = (0..rows * cols).map(token).collect();
        Self { grid: Grid::new(rows, cols, cells).unwrap_or_default(), start, goal }
    }

    /// Number of rows.
    pub const fn rows(&self) -> usize {
        self.grid.rows()
    }

    /// Number of columns.
    pub const fn cols(&self) -> usize {
        self.grid.cols()
    }

    /// The tokens: 1 wall, 2 free, 3 start, 4 goal. `[rows * cols]`
    pub fn tokens(&self) -> &[u8] {
        self.grid.cells()
    }

    /// The cell of the start, counted row by row.
    pub const fn start(&self) -> usize {
        self.start
    }

    /// The cell of the goal, counted row by row.
    pub const fn goal(&self) -> usize {
        self.goal
    }

    /// Whether a cell is a wall; cells outside of the maze are.
    pub fn is_wall(&self, cell: usize) -> bool {
        self.grid.cells().get(cell).is_none_or(|&t| t == WALL)
    }

    /// All cells on one line, as in a CSV file.
    pub fn to_line(&self) -> String {
        self.tokens().iter().map(|&t| SYMBOLS[usize::from(t) - 1]).collect()
    }

    /// The cell next to `cell` in a direction, unless it is a wall or outside.
    #[inline]
    pub fn step(&self, cell: usize, direction: Direction) -> Option<usize> {
        direction.next((self.rows(), self.cols()), cell).filter(|&next| !self.is_wall(next))
    }

    /// The free neighbours of a cell in the canonical order: down, left, right, up.
    pub fn neighbours(&self, cell: usize) -> impl Iterator<Item = usize> + '_ {
        Direction::CANONICAL.into_iter().filter_map(move |direction| self.step(cell, direction))
    }

    /// The image under a symmetry of the square.
    #[must_use]
    pub fn transformed(&self, symmetry: Dihedral) -> Self {
        let place = |cell: usize| {
            let (row, col) =
                symmetry.destination(self.rows(), self.cols(), cell / self.cols(), cell % self.cols());
            row * symmetry.shape(self.rows(), self.cols()).1 + col
        };
        Self { grid: symmetry.apply(&self.grid), start: place(self.start), goal: place(self.goal) }
    }

    /// The smallest of the eight images: equal for two mazes exactly if one is an image of the other.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let images = Dihedral::ALL.map(|symmetry| self.transformed(symmetry));
        images.into_iter().min().unwrap_or_else(|| self.clone())
    }

    /// The canonical shortest path, start and goal included: breadth-first from the start, neighbours in the order down,
    /// left, right, up, the first to discover a cell is its parent, traced back from the goal. It reproduces every label
    /// of Maze-Hard. `None` if there is no path.
    pub fn shortest_path(&self) -> Option<Vec<usize>> {
        self.shortest_path_within(|_| true).0
    }

    /// As [`Maze::shortest_path`] through cells that satisfy `allowed` (start and goal always do), and the number of cells
    /// taken from the queue.
    pub(super) fn shortest_path_within(
        &self,
        allowed: impl Fn(usize) -> bool,
    ) -> (Option<Vec<usize>>, Vec<usize>) {
        let mut parent = vec![usize::MAX; self.tokens().len()];
        parent[self.start] = self.start;
        let mut queue = VecDeque::from([self.start]);
        let mut visited = Vec::new();
        while let Some(cell) = queue.pop_front() {
            visited.push(cell);
            if cell == self.goal {
                return (Some(self.path_by(&parent)), visited);
            }
            for next in self.neighbours(cell) {
                if parent[next] == usize::MAX && (next == self.goal || allowed(next)) {
                    parent[next] = cell;
                    queue.push_back(next);
                }
            }
        }
        (None, visited)
    }

    /// The path to the goal, by the cell before each.
    pub(super) fn path_by(&self, parent: &[usize]) -> Vec<usize> {
        let mut path = vec![self.goal];
        while let Some(&at) = path.last().filter(|at| **at != self.start) {
            path.push(parent[at]);
        }
        path.reverse();
        path
    }

    /// Moves of a shortest path; `None` if there is none.
    pub fn distance(&self) -> Option<usize> {
        self.shortest_path().map(|path| path.len() - 1)
    }

    /// The tokens with a path marked: cells between start and goal become 5. `[rows * cols]`
    pub fn mark(&self, path: &[usize]) -> Vec<u8> {
        let mut tokens = self.tokens().to_vec();
        for &cell in path {
            if let Some(token) = tokens.get_mut(cell).filter(|t| **t == FREE) {
                *token = PATH;
            }
        }
        tokens
    }

    /// The canonical label: [`Maze::shortest_path`] marked. `None` if there is no path.
    pub fn label(&self) -> Option<Vec<u8>> {
        self.shortest_path().map(|path| self.mark(&path))
    }

    /// Checks an answer (the maze with a path marked by token 5) and returns its path. Any simple path from start to goal
    /// is accepted, however long; see [`Maze::check_optimal`].
    ///
    /// # Errors
    /// [`PathError`] with the first thing that is wrong.
    pub fn check(&self, answer: &[u8]) -> Result<Vec<usize>, PathError> {
        let (expected, got) = (self.tokens().len(), answer.len());
        if got != expected {
            return Err(PathError::Length { expected, got });
        }
        let mut marked = 0;
        for (cell, (&token, &answer)) in self.tokens().iter().zip(answer).enumerate() {
            if token == FREE && answer == PATH {
                marked += 1;
            } else if answer != token {
                let expected = match token {
                    FREE => format!("{} or {}", symbol(FREE), symbol(PATH)),
                    token => symbol(token),
                };
                let got = symbol(answer);
                let (row, col) = (cell / self.cols() + 1, cell % self.cols() + 1);
                return Err(PathError::Changed { row, col, expected, got });
            }
        }
        let path = self.shortest_path_within(|cell| answer[cell] == PATH).0;
        match path {
            None => Err(PathError::Disconnected { marked }),
            Some(path) if path.len() - 2 < marked => Err(PathError::Stray { marked, needed: path.len() - 2 }),
            Some(path) => Ok(path),
        }
    }

    /// Checks that an answer marks a shortest path, not necessarily the canonical one, and returns it.
    ///
    /// # Errors
    /// [`PathError`] with the first thing that is wrong.
    pub fn check_optimal(&self, answer: &[u8]) -> Result<Vec<usize>, PathError> {
        let path = self.check(answer)?;
        match self.distance() {
            None => Err(PathError::NoPath),
            Some(shortest) if shortest < path.len() - 1 => {
                Err(PathError::Longer { got: path.len() - 1, shortest })
            }
            Some(_) => Ok(path),
        }
    }
}

/// A direction on the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To a lower row on the page.
    Down,
    /// To the column before.
    Left,
    /// To the next column.
    Right,
    /// To a higher row on the page.
    Up,
}

impl Direction {
    /// The order in which the canonical search looks at neighbours.
    pub const CANONICAL: [Self; 4] = [Self::Down, Self::Left, Self::Right, Self::Up];

    /// The cell next to `cell` on a grid of `rows` x `cols`, unless that is outside.
    #[inline]
    pub fn next(self, (rows, cols): (usize, usize), cell: usize) -> Option<usize> {
        match self {
            Self::Down => (cell + cols < rows * cols).then(|| cell + cols),
            Self::Up => cell.checked_sub(cols),
            Self::Left => (!cell.is_multiple_of(cols)).then(|| cell - 1),
            Self::Right => (cell % cols + 1 < cols).then(|| cell + 1),
        }
    }

    /// The direction after a quarter turn to the right.
    #[must_use]
    pub const fn turned_right(self) -> Self {
        match self {
            Self::Up => Self::Right,
            Self::Right => Self::Down,
            Self::Down => Self::Left,
            Self::Left => Self::Up,
        }
    }

    /// The direction after a quarter turn to the left.
    #[must_use]
    pub const fn turned_left(self) -> Self {
        self.turned_right().turned_right().turned_right()
    }

    /// The direction after a half turn.
    #[must_use]
    pub const fn reversed(self) -> Self {
        self.turned_right().turned_right()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn maze(text: &str) -> Maze {
        text.parse().unwrap()
    }

    #[test]
    fn text_forms() {
        let square = maze("S  # #  G");
        assert_eq!(square, maze("S  \n# #\n  G"));
        assert_eq!(square.to_string(), "S  \n# #\n  G");
        assert_eq!(square.to_line(), "S  # #  G");
        assert_eq!((square.rows(), square.cols(), square.start(), square.goal()), (3, 3, 0, 8));
        assert_eq!(maze("S G\n   ").cols(), 3);
        let error = |text: &str| text.parse::<Maze>().unwrap_err().to_string();
        assert_eq!(error("S?G "), "cell 2: expected one of `#`, space or `.`, `S`, `G`, `o`, got '?'");
        assert_eq!(error("SoG "), "cell 2: expected one of `#`, space or `.`, `S`, `G`, got 'o'");
        // What is drawn here, and what others draw.
        for text in [
            "S..#.#..G",
            "S../#.#/..G",
            "S00\n1_1\n  g",
            "s..\r\nX.X\r\n..E\r\n",
            "A··\n█.█\n..B",
            "S⬜⬜\n⬛⬜🧱\n⬜⬜G",
            "S..\n│.─\n..G",
            "S,0,0\n1,0,1\n0,0,G",
            "S, ,\n#,,#\n , ,G",
            r##"[["S"," ",""],["#",".","#"],[0,0,"G"]]"##,
            r##"["S  ", "# #", "  G"]"##,
            "[['S', 0, 0],\n [1, 0, 1],\n [0, 0, 'G']]\n",
        ] {
            assert_eq!(maze(text), square, "{text}");
        }
        assert_eq!(error("SSG "), "expected exactly one S, got 2");
        assert_eq!(error("S   "), "expected exactly one G, got 0");
        assert_eq!(error("S G\n  "), "line 2: expected 3 cells as in line 1, got 2");
        assert!(error("S G").contains("square number"));
        assert!(error("[[1,0,").starts_with("expected a list of rows"), "{}", error("[[1,0,"));
        assert_eq!(
            error("[[1,0],[2,3]]"),
            "cell 3: expected one of `#`, space or `.`, `S`, `G`, `o`, got '2'"
        );
        assert!(error("").contains("exactly one S"));
    }

    #[test]
    fn canonical_label_and_checks() {
        // Two shortest ways; down comes first.
        let open = maze("S  \n # \n  G");
        assert_eq!(open.shortest_path().unwrap(), [0, 3, 6, 7, 8]);
        let label = open.label().unwrap();
        assert_eq!(label, [3, 2, 2, 5, 1, 2, 5, 5, 4]);
        assert_eq!(open.check_optimal(&label).unwrap().len(), 5);
        let other = [3u8, 5, 5, 2, 1, 5, 2, 2, 4];
        assert_eq!(open.check_optimal(&other).unwrap(), [0, 1, 2, 5, 8], "any shortest path counts");
        let error = |answer: &[u8]| open.check_optimal(answer).unwrap_err().to_string();
        assert_eq!(error(&[3, 5, 5, 2, 1, 2, 2, 2, 4]), "the 2 marked cells do not connect S and G");
        assert_eq!(
            error(&[3, 5, 5, 5, 1, 5, 2, 2, 4]),
            "4 cells are marked, but the shortest way through them needs 3"
        );
        assert_eq!(error(&[3, 5, 5, 2, 5, 5, 2, 2, 4]), "row 2, column 2: expected '#', got 'o'");
        assert_eq!(error(&[3, 5]), "expected 9 cells, got 2");
        let detour = maze("S G\n   ");
        let long = [3u8, 2, 4, 5, 5, 5];
        assert_eq!(detour.check(&long).unwrap().len(), 5);
        assert_eq!(
            detour.check_optimal(&long).unwrap_err().to_string(),
            "the path takes 4 moves, the shortest 2"
        );
        assert_eq!(maze("S#\n#G").shortest_path(), None);
        assert_eq!(maze("SG\n##").label().unwrap(), [3, 4, 1, 1]);
        let error = maze("SG\n##").check(&[3, 4, 1, 100]).unwrap_err();
        assert!(error.to_string().ends_with("got token 100"));
    }

    #[test]
    fn images_are_equivalent() {
        let maze = maze("S # \n # G\n    ");
        for symmetry in Dihedral::ALL {
            let image = maze.transformed(symmetry);
            assert_eq!(Maze::from_tokens(image.grid.clone()).unwrap(), image, "start and goal move along");
            assert_eq!(image.canonical(), maze.canonical());
            assert_eq!(image.distance(), maze.distance());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[#SGo \n.x]{0,40}") {
            if let Ok(maze) = text.parse::<Maze>() {
                prop_assert_eq!(&maze.to_string().parse::<Maze>().unwrap_or_else(|_| maze.clone()), &maze);
                let _ = maze.label();
            }
        }

        #[test]
        fn any_answer_is_judged(answer in proptest::collection::vec(0u8..7, 0..20)) {
            let maze: Maze = "S  \n # \n  G".parse().unwrap();
            let _ = maze.check_optimal(&answer);
        }
    }
}
