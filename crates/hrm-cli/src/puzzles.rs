//! Puzzles to solve: from the command line, standard input or a file, checked before a model sees them.

use std::{
    fs,
    io::{self, Cursor, IsTerminal, Read},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use hrm_data::{
    TableError,
    sudoku::{Board, Generator, Geometry, RecordError, RecordReader, Solver, Verdict},
};

/// Search states after which the exact solver gives up on a puzzle: only large and very open boards take more.
const MAX_NODES: u64 = 300_000;
/// How long implicit standard input may stay silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// The puzzle to show when none is given.
fn built_in(geometry: Geometry) -> String {
    match geometry {
        // Within reach of the bundled model, whose card says how far that goes.
        Geometry::S9 => {
            "..38..2.9.....1.....8...7.68.6.......9.....41.5...93.....61...3....9....4...3..5.".to_owned()
        }
        Geometry::S4 => "1....3...2....4.".to_owned(),
        // No other size has a classic; a moderately open generated one does.
        other => Generator::new(other, 1)
            .with_clues(other.cells() / 2, other.cells() / 2)
            .generate(0)
            .puzzle
            .to_line(),
    }
}

/// Where puzzles come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// One puzzle on the command line.
    Argument(String),
    /// Standard input, asked for with `-`.
    Stdin,
    /// Standard input if something comes, a built-in puzzle otherwise.
    Unsaid,
    /// A file.
    File(PathBuf),
}

/// A puzzle as it was given.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it stood, `line 3`; empty if there is only one.
    pub place: String,
    /// The text as it was given.
    pub text: String,
    /// The puzzle, or why the model cannot work on it.
    pub puzzle: Result<Puzzle, String>,
}

impl Entry {
    /// Where it stood, for the beginning of a message: `line 3: `, or nothing if there is only one.
    pub fn prefix(&self) -> String {
        if self.place.is_empty() { String::new() } else { format!("{}: ", self.place) }
    }
}

/// A puzzle that keeps the rules and has one solution.
#[derive(Debug, Clone)]
pub struct Puzzle {
    /// The givens.
    pub board: Board,
    /// The solution by exact search; `None` if the board is too open to search it all.
    pub solution: Option<Board>,
    /// The answer that the file states.
    pub answer: Option<Board>,
}

impl Puzzle {
    /// Checks the rules and that there is exactly one solution.
    fn new(board: Board, answer: Option<Board>, solver: &mut Solver) -> Result<Self, String> {
        board.validate().map_err(|e| e.to_string())?;
        let solution = match solver.classify(&board) {
            Verdict::Unique(solution) => Some(solution),
            Verdict::Unknown => None,
            Verdict::None => return Err("the puzzle has no solution".to_owned()),
            Verdict::Multiple(a, b) => {
                let cell = (0..a.cells().len()).find(|&cell| a.cells()[cell] != b.cells()[cell]);
                let cell = cell.unwrap_or_default();
                let (row, column) = (cell / a.side() + 1, cell % a.side() + 1);
                return Err(format!(
                    "the puzzle has more than one solution: row {row}, column {column} can be {} or {}",
                    a.cells()[cell],
                    b.cells()[cell]
                ));
            }
        };
        Ok(Self { board, solution, answer })
    }
}

/// Reads and checks all puzzles of a source; `geometry` is that of the built-in puzzle.
pub fn read(source: &Source, geometry: Geometry) -> Result<Vec<Entry>> {
    let (text, name) = match source {
        Source::Argument(text) => return Ok(vec![one(text)]),
        Source::File(path) => (read_file(path)?, path.clone()),
        Source::Stdin => (read_stdin()?, PathBuf::from("standard input")),
        Source::Unsaid if io::stdin().is_terminal() => return Ok(vec![one(&built_in(geometry))]),
        Source::Unsaid => match read_stdin_if_any()? {
            Some(text) => (text, PathBuf::from("standard input")),
            None => return Ok(vec![one(&built_in(geometry))]),
        },
    };
    let entries = parse(&text, &name);
    if entries.is_empty() {
        bail!("{}: no puzzle in it; expected one a line, or CSV with a column `question`", name.display());
    }
    Ok(entries)
}

/// The text of a file, unpacked if it is gzipped.
pub fn read_file(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read the puzzles in {}", path.display()))?;
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        MultiGzDecoder::new(bytes.as_slice())
            .read_to_end(&mut plain)
            .with_context(|| format!("{}: damaged gzip file", path.display()))?;
        plain
    } else {
        bytes
    };
    String::from_utf8(bytes)
        .ok()
        .with_context(|| format!("{}: expected text, got binary data", path.display()))
}

/// The text on standard input.
pub fn read_stdin() -> Result<String> {
    io::read_to_string(io::stdin()).context("cannot read puzzles from standard input")
}

/// Standard input that is no terminal may be a pipe that nobody ever writes to, in a script or a container: after
/// a moment without a byte it counts as empty.
fn read_stdin_if_any() -> Result<Option<String>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut first = [0];
        let start = io::stdin().read(&mut first);
        let _ = sender.send(start.map(|n| first[..n].to_vec()));
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(Ok(start)) if !start.is_empty() => {
            let mut bytes = start;
            io::stdin().read_to_end(&mut bytes).context("cannot read puzzles from standard input")?;
            let text =
                String::from_utf8(bytes).ok().context("standard input: expected text, got binary data")?;
            Ok(Some(text).filter(|text| !text.trim().is_empty()))
        }
        Ok(_) => Ok(None),
        Err(_) => {
            eprintln!(
                "note: nothing came on standard input, solving a built-in puzzle (`hrm solve -` waits for input)"
            );
            Ok(None)
        }
    }
}

/// A single puzzle, in any notation.
fn one(text: &str) -> Entry {
    let mut solver = Solver::with_node_limit(MAX_NODES);
    let board = text.parse::<Board>().map_err(|e| e.to_string());
    Entry {
        place: String::new(),
        text: text.to_owned(),
        puzzle: board.and_then(|board| Puzzle::new(board, None, &mut solver)),
    }
}

/// The puzzles of a text: one a line, CSV, or a single drawn grid.
fn parse(text: &str, name: &Path) -> Vec<Entry> {
    let text = text.trim_start_matches('\u{feff}');
    let lines: Vec<(usize, &str)> = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let alone = lines.iter().filter(|(_, line)| line.parse::<Board>().is_ok()).count();
    if lines.len() > 1 && 2 * alone < lines.len() && text.parse::<Board>().is_ok() {
        return vec![one(text)];
    }
    let mut solver = Solver::with_node_limit(MAX_NODES);
    let is_csv = lines.first().is_some_and(|(_, line)| line.contains(',') && line.parse::<Board>().is_err())
        || lines.first().is_some_and(|(_, line)| ["question", "puzzle", "quizzes"].contains(line));
    if !is_csv {
        let entry = |(number, line): &(usize, &str)| {
            let board = line.parse::<Board>().map_err(|e| e.to_string());
            Entry {
                place: format!("line {number}"),
                text: (*line).to_owned(),
                puzzle: board.and_then(|board| Puzzle::new(board, None, &mut solver)),
            }
        };
        return lines.iter().map(entry).collect();
    }
    // A header has no board in it. Rows are read one by one, so that a bad one does not end the file.
    let has_board =
        |line: &str| line.split(',').any(|field| field.len() >= 16 && field.trim().parse::<Board>().is_ok());
    let (header, rows) = match lines.split_first() {
        Some(((_, first), rest)) if !has_board(first) && first.chars().any(char::is_alphabetic) => {
            (*first, rest)
        }
        _ => ("", lines.as_slice()),
    };
    let entry = |(number, line): &(usize, &str)| Entry {
        place: format!("line {number}"),
        text: (*line).to_owned(),
        puzzle: row(header, line, name).and_then(|(board, answer)| Puzzle::new(board, answer, &mut solver)),
    };
    rows.iter().map(entry).collect()
}

/// The puzzle and the stated answer of a CSV row.
fn row(header: &str, line: &str, name: &Path) -> Result<(Board, Option<Board>), String> {
    let text = if header.is_empty() { line.to_owned() } else { format!("{header}\n{line}") };
    let told = |error: RecordError| match error {
        RecordError::Board { field, source, .. } => format!("{field}: {source}"),
        RecordError::WrongAnswer { why, .. } => {
            format!("the stated answer is no solution of the puzzle ({why})")
        }
        RecordError::Table(TableError::Rating { got, .. }) => {
            format!("expected a number as rating, got {got:?}")
        }
        RecordError::Table(TableError::MissingField { expected, got, .. }) => {
            format!("expected at least {expected} fields, got {got}")
        }
        other => other.to_string(),
    };
    let mut reader = RecordReader::from_reader(Cursor::new(text.into_bytes()), name).map_err(told)?;
    match reader.next() {
        Some(Ok(record)) => Ok((record.puzzle, record.solution)),
        Some(Err(error)) => Err(told(error)),
        None => Err("expected a puzzle, got an empty row".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: &str = "1....3...2....4.";

    fn all(text: &str) -> Vec<Result<String, String>> {
        parse(text, Path::new("in"))
            .into_iter()
            .map(|entry| entry.puzzle.map(|puzzle| puzzle.board.to_line()))
            .collect()
    }

    #[test]
    fn built_in_puzzles_are_proper() {
        for geometry in [Geometry::S4, Geometry::S6, Geometry::S9, Geometry::S16] {
            let text = built_in(geometry);
            let puzzle = one(&text).puzzle;
            assert!(puzzle.is_ok_and(|p| p.solution.is_some() && p.board.geometry() == geometry), "{text}");
        }
    }

    #[test]
    fn lines_csv_and_grids() {
        let four = FOUR;
        let ok = |text: &str| Ok::<_, String>(text.to_owned());
        assert_eq!(all(&format!("{four}\n\n# a comment\n{four}\n")), [ok(four), ok(four)]);
        let answer = parse(&format!("source,question,answer,rating\nx,{four},,3\n"), Path::new("in"));
        assert!(answer[0].puzzle.is_ok());
        assert_eq!(answer[0].place, "line 2");
        assert_eq!(all(&format!("x,{four}\nx,{four}")), [ok(four), ok(four)]);
        let grid = "+---+---+\n|1 .|. .|\n|. 3|. .|\n+---+---+\n|. 2|. .|\n|. .|4 .|\n+---+---+";
        assert_eq!(all(grid), [ok(four)]);
    }

    #[test]
    fn a_bad_line_does_not_end_the_file() {
        let four = FOUR;
        let found =
            all(&format!("{four}\n11..............\n1...\n{}\n1....3...2....4x\n{four}", ".".repeat(16)));
        assert_eq!(found.len(), 6);
        let error = |i: usize| found[i].as_ref().err().cloned().unwrap_or_default();
        assert!(error(1).contains("value 1 stands twice in row 1 (columns 1 and 2)"), "{}", error(1));
        assert!(error(2).contains("expected"), "{}", error(2));
        assert!(error(3).contains("more than one solution"), "{}", error(3));
        assert!(error(4).contains('x'), "{}", error(4));
        assert!(found[0].is_ok() && found[5].is_ok());
        let csv = all(&format!("question,answer\n{four},{four}\n{four},"));
        assert!(csv[0].as_ref().is_err_and(|e| e.contains("answer")), "{csv:?}");
        assert!(csv[1].is_ok());
    }
}
