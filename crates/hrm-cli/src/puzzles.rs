//! Puzzles to solve: from the command line, standard input or a file, checked before a model sees them, one after the other as
//! they come.

use std::{
    ffi::OsString,
    io::{self, Cursor, IsTerminal, Read},
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use hrm_data::{
    reader::{self, Fault, Reader},
    registry::{Family, Shape},
    task::{AnyTask, Record},
};

/// How long implicit standard input may stay silent.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the second puzzle may take to come until the first counts as one of several.
const A_MOMENT: Duration = Duration::from_millis(300);
/// Puzzles that are read ahead.
const AHEAD: usize = 1024;
/// Bytes that are kept of a text that is no puzzle.
const FAULTY: usize = 4096;

/// The values of `--task`.
pub fn families() -> impl TypedValueParser<Value = Family> {
    PossibleValuesParser::new(Family::ALL.iter().map(|family| family.name()))
        .try_map(|name| name.parse::<Family>())
}

/// Where puzzles come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// One puzzle on the command line, or the name of a file.
    Argument(OsString),
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
    /// The puzzle, or why a model cannot work on it.
    pub puzzle: Result<Puzzle, String>,
}

/// What messages call it.
const STDIN: &str = "standard input";

/// A puzzle that keeps the rules and has one solution.
#[derive(Debug, Clone)]
pub struct Puzzle {
    /// What it is.
    pub shape: Shape,
    /// Its task.
    pub task: AnyTask,
    /// Its tokens, and the answer that the file states.
    pub record: Record,
    /// The tokens of its solution by exact search; `None` if it is too open to search it all.
    pub solution: Option<Vec<u8>>,
}

impl Entry {
    fn new(entry: reader::Entry) -> Self {
        let puzzle = entry.puzzle.map_err(|fault: Fault| fault.to_string());
        let puzzle = puzzle.and_then(|reader::Puzzle { shape, task, record }| {
            let solution = task.proper(&record.input)?;
            Ok(Puzzle { shape, task, record, solution })
        });
        let mut text = entry.text;
        if puzzle.is_err() {
            text.truncate(text.floor_char_boundary(FAULTY));
        }
        Self { place: format!("line {}", entry.line), text, puzzle }
    }

    /// The only puzzle there is.
    fn alone(family: Family, text: &str) -> Self {
        Self { place: String::new(), ..Self::new(reader::Entry::new(family, 1, text)) }
    }

    /// Where it stood, for the beginning of a message: `line 3: `, or nothing if there is only one.
    pub fn prefix(&self) -> String {
        if self.place.is_empty() { String::new() } else { format!("{}: ", self.place) }
    }
}

/// Opens a file of puzzles; `-` is standard input.
pub fn open(family: Family, path: &Path) -> Result<Reader> {
    match path == Path::new("-") {
        true => Ok(Reader::new(family, io::stdin(), Path::new(STDIN))),
        false => Ok(Reader::open(family, path)?),
    }
}

/// The puzzles of a source. A thread reads and checks them while others are solved.
pub struct Stream {
    ready: Vec<Entry>,
    rest: Option<Receiver<Result<Entry>>>,
    several: bool,
}

impl Stream {
    /// Opens a source; `built_in` is the puzzle to take where there is none.
    pub fn open(family: Family, source: Source, built_in: impl FnOnce() -> Option<String>) -> Result<Self> {
        let built_in = || {
            let text = built_in().with_context(|| {
                format!("expected {family} puzzles: a file, a puzzle, or `-` for standard input")
            })?;
            Ok(Self { ready: vec![Entry::alone(family, &text)], rest: None, several: false })
        };
        let standard = Path::new(STDIN);
        let reader = match source {
            Source::Argument(text) => match Path::new(&text) {
                path if path.is_file() || is_name_of_file(path) => Reader::open(family, path)?,
                _ => {
                    let ready = vec![Entry::alone(family, &text.to_string_lossy())];
                    return Ok(Self { ready, rest: None, several: false });
                }
            },
            Source::File(path) => Reader::open(family, &path)?,
            Source::Stdin => Reader::new(family, io::stdin(), standard),
            Source::Unsaid if io::stdin().is_terminal() => return built_in(),
            Source::Unsaid => match stdin_if_any() {
                Some(first) => Reader::new(family, Cursor::new([first]).chain(io::stdin()), standard),
                None => return built_in(),
            },
        };
        Self::new(family, reader)
    }

    fn new(family: Family, reader: Reader) -> Result<Self> {
        let name = reader.path().display().to_string();
        let (sender, rest) = mpsc::sync_channel(AHEAD);
        thread::spawn(move || {
            for entry in reader {
                // Whoever stopped listening needs no more.
                if sender.send(entry.map(Entry::new).map_err(Into::into)).is_err() {
                    return;
                }
            }
        });
        let Ok(first) = rest.recv() else {
            bail!(
                "{name}: no puzzle in it; expected {family} puzzles, one a line, drawn, or CSV with a column `question` (--task \
                 names another kind)"
            );
        };
        let mut first = first?;
        let second = rest.recv_timeout(A_MOMENT);
        let several = !matches!(second, Err(RecvTimeoutError::Disconnected));
        if !several {
            first.place.clear();
        }
        let second = second.ok().transpose()?;
        Ok(Self { ready: [first].into_iter().chain(second).collect(), rest: Some(rest), several })
    }

    /// Whether there is, or may be, more than one puzzle.
    pub const fn several(&self) -> bool {
        self.several
    }

    /// The puzzles that are there, at least one and at most `most`; none at the end.
    pub fn next(&mut self, most: usize) -> Result<Vec<Entry>> {
        let mut found = std::mem::take(&mut self.ready);
        let Some(rest) = &self.rest else { return Ok(found) };
        if found.is_empty() {
            match rest.recv() {
                Ok(entry) => found.push(entry?),
                Err(_) => return Ok(found),
            }
        }
        while found.len() < most
            && let Ok(entry) = rest.try_recv()
        {
            found.push(entry?);
        }
        Ok(found)
    }
}

/// Whether a text is rather the name of a file than a puzzle.
fn is_name_of_file(path: &Path) -> bool {
    let extensions = ["csv", "gz", "json", "sdk", "tsv", "txt"];
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|e| extensions.contains(&e))
}

/// The first byte of standard input. Standard input that is no terminal may be a pipe that nobody ever writes to, in a script or
/// a container: after a moment without a byte it counts as empty.
fn stdin_if_any() -> Option<u8> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut first = [0];
        let read = io::stdin().read(&mut first);
        let _ = sender.send(read.is_ok_and(|read| read > 0).then_some(first[0]));
    });
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        note!(
            "note: nothing came on standard input, solving a built-in puzzle (`hrm solve -` waits for input)"
        );
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solved(family: Family, text: &str) -> Vec<Result<bool, String>> {
        let reader = Reader::new(family, Cursor::new(text.as_bytes().to_vec()), Path::new("in"));
        let mut stream = Stream::new(family, reader).unwrap();
        let mut found = Vec::new();
        loop {
            let next = stream.next(2).unwrap();
            if next.is_empty() {
                return found;
            }
            assert!(next.len() <= 2);
            found.extend(next.into_iter().map(|entry| entry.puzzle.map(|puzzle| puzzle.solution.is_some())));
        }
    }

    #[test]
    fn puzzles_without_exactly_one_solution_are_told() {
        let found = solved(Family::Maze, "S   #   G\nS##G\nS#\n");
        assert_eq!(found[..2], [Ok(true), Err("the maze has no path from S to G".to_owned())]);
        assert!(found[2].is_err(), "{found:?}");
        assert_eq!(
            solved(Family::Queens, "................\n"),
            [Err("the puzzle has more than one solution".to_owned())]
        );
        let found =
            solved(Family::Sudoku, &format!("1....3...2....4.\n{}\n123....4........\n", ".".repeat(16)));
        assert_eq!(found[0], Ok(true));
        assert!(found[1].as_ref().is_err_and(|why| why.contains("more than one solution: row")), "{found:?}");
        assert!(found[2].as_ref().is_err_and(|why| why.contains("no solution")), "{found:?}");
    }

    #[test]
    fn built_in_puzzles_are_proper() {
        for side in [4, 6, 9, 16] {
            let shape = Shape::of_size(Family::Sudoku, hrm_data::task::Size::new(side, side)).unwrap();
            let entry = Entry::alone(Family::Sudoku, &shape.task().example().unwrap());
            assert!(entry.puzzle.is_ok_and(|p| p.solution.is_some() && p.shape == shape), "{side}");
        }
    }

    #[test]
    fn one_puzzle_has_no_place_and_several_have() {
        let stream = |text: &str| {
            let reader = Reader::new(Family::Sudoku, Cursor::new(text.as_bytes().to_vec()), Path::new("in"));
            Stream::new(Family::Sudoku, reader)
                .map(|mut stream| (stream.several(), stream.next(9).unwrap()[0].place.clone()))
        };
        assert_eq!(stream("1....3...2....4.\n").unwrap(), (false, String::new()));
        assert_eq!(stream("1....3...2....4.\n11..............").unwrap(), (true, "line 1".to_owned()));
        assert!(stream("# nothing\n").is_err());
    }
}
