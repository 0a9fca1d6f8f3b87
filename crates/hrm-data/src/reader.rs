//! Files of puzzles of any family: the one reader, for the command line, for datasets and for training.
//!
//! A file holds puzzles on a line each, drawn puzzles, or a table: CSV `source,question,answer,rating`, with or without a header.
//! It may be gzipped. It is read as it comes, in memory that does not depend on its length, and a puzzle that is none does not
//! end it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::bounded::{Budget, MAX_RECORD, Metered, Unpacked};
use crate::registry::{Family, Shape};
use crate::table::{Row, Table, TableError, is_header};
use crate::task::{AnyTask, Record};

/// A puzzle of a file.
#[derive(Clone, Debug)]
pub struct Puzzle {
    /// What it is.
    pub shape: Shape,
    /// Its task.
    pub task: AnyTask,
    /// Its tokens, with what the file states of it.
    pub record: Record,
}

/// What stands at a place in a file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The line that it starts on, 1-based.
    pub line: u64,
    /// The text of the puzzle.
    pub text: String,
    /// The puzzle, or what is wrong with it.
    pub puzzle: Result<Puzzle, Fault>,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Fault {
    /// The column, `question` or `answer`, of a table.
    pub field: Option<&'static str>,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some(field) => write!(f, "{field}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

/// Why a file cannot be read on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It is no table, or cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// It holds something else than text.
    #[error("{}: expected text, got binary data", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
    },
    /// Its compression is damaged.
    #[error("{}: damaged gzip file: {source}", path.display())]
    Gzip {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// An entry is no puzzle; told by [`read_all`], which wants all of them.
    #[error("{}, line {line}{}{fault}", path.display(), if fault.field.is_some() { ", " } else { ": " })]
    Puzzle {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// What is wrong.
        fault: Fault,
    },
}

impl Puzzle {
    /// The puzzle of a text.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn of_text(family: Family, text: &str) -> Result<Self, String> {
        let text = &*without_colours(text);
        let shape = Shape::of_text(family, text)?;
        let task = shape.task();
        let input = task.parse(text)?;
        Ok(Self { shape, task, record: Record { input, ..Record::default() } })
    }

    fn of_row(family: Family, row: &Row<'_>) -> Result<Self, Fault> {
        let at = |field| move |why| Fault { field: Some(field), why };
        let here = |error: TableError| Fault { field: None, why: error.at_its_line() };
        let text = row.question().map_err(here)?;
        let puzzle = Self::of_text(family, text).map_err(at("question"))?;
        puzzle.task.check_givens(&puzzle.record.input).map_err(at("question"))?;
        let label = match row.answer() {
            None => None,
            Some(text) => Some(puzzle.task.parse_answer(&puzzle.record.input, text).map_err(at("answer"))?),
        };
        let (source, rating) = (row.source(), row.rating().map_err(here)?);
        Ok(Self { record: Record { source, label, rating, ..puzzle.record }, ..puzzle })
    }
}

impl Entry {
    /// An entry of its own.
    pub fn new(family: Family, line: u64, text: &str) -> Self {
        let puzzle = Puzzle::of_text(family, text).and_then(|puzzle| {
            puzzle.task.check_givens(&puzzle.record.input)?;
            Ok(puzzle)
        });
        let puzzle = puzzle.map_err(|why| Fault { field: None, why });
        Self { line, text: text.to_owned(), puzzle }
    }
}

/// Reads the entries of a file or stream; see the [module](self).
pub struct Reader {
    family: Family,
    path: PathBuf,
    source: Source,
    failed: bool,
}

enum Source {
    /// Not known yet.
    Unread(Box<dyn Read + Send>, Budget),
    Table(Table),
    Text(Text),
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("family", &self.family)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// [`TableError::Io`] if it cannot be opened.
    pub fn open(family: Family, path: &Path) -> Result<Self, ReadError> {
        let fail = |source| TableError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.is_dir() {
            let what = "expected a file, got a directory";
            return Err(fail(io::Error::new(io::ErrorKind::IsADirectory, what)).into());
        }
        Ok(Self::new(family, file, path))
    }

    /// Reads from any stream; `name` stands for the file in messages.
    pub fn new(family: Family, reader: impl Read + Send + 'static, name: &Path) -> Self {
        let source = Source::Unread(Box::new(reader), Budget::default());
        Self { family, path: name.to_owned(), source, failed: false }
    }

    /// What is read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the beginning: whether it is packed, and a table.
    fn start(&mut self) -> Result<(), ReadError> {
        let Source::Unread(reader, budget) = &mut self.source else { return Ok(()) };
        let reader = std::mem::replace(reader, Box::new(io::empty()));
        let budget = budget.clone();
        let (start, rest) = beginning(reader).map_err(|source| self.failure(source))?;
        let whole = Cursor::new(start.clone()).chain(rest);
        let input: Box<dyn Read + Send> = match start.starts_with(&[0x1f, 0x8b]) {
            true => Box::new(Unpacked::new(BufReader::new(whole))),
            false => Box::new(whole),
        };
        let mut text = Text::new(Box::new(Metered::new(input, &budget)), budget, self.family);
        let first = text.first_line();
        self.source = match first.is_some_and(|line| is_table(self.family, &line)) {
            true => {
                let family = self.family;
                let is_puzzle = move |field: &str| is_field(family, field);
                let (input, budget) = text.into_input();
                Source::Table(Table::new(&self.path, input, budget, family.is_loose(), Box::new(is_puzzle)))
            }
            false => Source::Text(text),
        };
        Ok(())
    }

    fn failure(&self, source: io::Error) -> ReadError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => ReadError::Gzip { path, source },
            _ => ReadError::Table(TableError::Io { path, source }),
        }
    }

    fn read(&mut self) -> Result<Option<Entry>, ReadError> {
        self.start()?;
        let family = self.family;
        let path = self.path.clone();
        match &mut self.source {
            Source::Unread(..) => Ok(None),
            Source::Table(table) => {
                let Some(row) = table.next_row()? else { return Ok(None) };
                let text = row.question().unwrap_or_default().to_owned();
                Ok(Some(Entry { line: row.line(), text, puzzle: Puzzle::of_row(family, &row) }))
            }
            Source::Text(text) => match text.next_entry() {
                Ok(entry) => Ok(entry),
                Err(error) if error.kind() == io::ErrorKind::InvalidData && is_utf8_error(&error) => {
                    Err(ReadError::Binary { path })
                }
                Err(error) => Err(self.failure(error)),
            },
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read().transpose();
        self.failed = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Every puzzle of a file, each with its shape.
///
/// # Errors
/// [`ReadError`] at the first entry that is no puzzle.
pub fn read_all(family: Family, path: &Path) -> Result<Vec<Puzzle>, ReadError> {
    puzzles(Reader::open(family, path)?).collect()
}

/// The puzzles of a file; an entry that is none is an error.
pub fn puzzles(reader: Reader) -> impl Iterator<Item = Result<Puzzle, ReadError>> {
    let path = reader.path.clone();
    reader.map(move |entry| {
        let Entry { line, puzzle, .. } = entry?;
        puzzle.map_err(|fault| ReadError::Puzzle { path: path.clone(), line, fault })
    })
}

/// A text without the sequences by which terminals colour it, which come along where output is copied.
fn without_colours(text: &str) -> Cow<'_, str> {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default();
    if first.len() == text.len() {
        return Cow::Borrowed(text);
    }
    // Numbers, then a letter that ends the sequence.
    let rest = parts.map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit() || ";:?".contains(c)));
    let rest = rest.map(|part| part.strip_prefix(|c: char| c.is_ascii_alphabetic()).unwrap_or(part));
    Cow::Owned([first].into_iter().chain(rest).collect())
}

/// The first bytes of a stream, and the rest.
fn beginning(mut reader: Box<dyn Read + Send>) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut start = vec![0; 2];
    let mut length = 0;
    while length < start.len() {
        match reader.read(&mut start[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    start.truncate(length);
    Ok((start, reader))
}

/// Whether the first line that means something begins a table.
fn is_table(family: Family, line: &str) -> bool {
    if is_header(line) {
        return true;
    }
    if is_row(family, line) {
        return false;
    }
    line.contains(',')
        && (line.split(',').any(|field| is_field(family, field.trim_matches('"'))) || !family.has_commas())
        && !is_puzzle(family, line)
}

/// Whether a line is part of one puzzle: of a list in brackets, or a row of cells with commas between them.
fn is_row(family: Family, line: &str) -> bool {
    let is_cell = |field: &str| {
        let field = field.trim().trim_matches(['"', '\'']);
        field.len() <= 2 && field.chars().all(|c| c.is_ascii_digit() || "._*?-".contains(c))
            || field.chars().count() == 1 && field != "," && !family.has_commas()
    };
    line.starts_with('[') || (line.split(',').count() >= 4 && line.split(',').all(is_cell))
}

/// Whether a field of a table is a puzzle. Short ones are numbers.
fn is_field(family: Family, field: &str) -> bool {
    field.len() >= 4 && is_puzzle(family, field)
}

fn is_puzzle(family: Family, text: &str) -> bool {
    Puzzle::of_text(family, text).is_ok()
}

/// Bytes that are no text.
#[derive(Debug, Error)]
#[error("expected text, got binary data")]
struct NoText;

fn is_utf8_error(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NoText>())
}

/// Lines that may be gathered for one drawing.
const MAX_DRAWING: usize = 1100;

/// Puzzles on lines of their own, and drawn puzzles.
struct Text {
    family: Family,
    input: Box<dyn Read + Send>,
    budget: Budget,
    /// What was read and belongs to no line yet.
    bytes: Vec<u8>,
    /// Lines that were read, and their numbers.
    lines: VecDeque<(u64, String)>,
    /// Entries that were found and not given yet.
    ready: VecDeque<Entry>,
    number: u64,
    at_end: bool,
    /// Why there is no more; told after what came before.
    failure: Option<io::Error>,
    /// All that was read before it was known to be text.
    consumed: Vec<u8>,
    keep: bool,
}

impl Text {
    fn new(input: Box<dyn Read + Send>, budget: Budget, family: Family) -> Self {
        Self {
            family,
            input,
            budget,
            bytes: Vec::new(),
            lines: VecDeque::new(),
            ready: VecDeque::new(),
            number: 0,
            at_end: false,
            failure: None,
            consumed: Vec::new(),
            keep: true,
        }
    }

    /// The first line that means something, which stays to be read.
    fn first_line(&mut self) -> Option<String> {
        loop {
            let found = self.lines.iter().find(|(_, line)| self.means_something(line));
            if let Some((_, line)) = found {
                return Some(line.trim_start_matches('\u{feff}').trim().to_owned());
            }
            if self.at_end {
                return None;
            }
            self.fill();
        }
    }

    /// All that was read, and what is still to be read.
    fn into_input(self) -> (Box<dyn Read + Send>, Budget) {
        self.budget.renew();
        (Box::new(Cursor::new(self.consumed).chain(self.input)), self.budget)
    }

    fn means_something(&self, line: &str) -> bool {
        let line = line.trim_start_matches('\u{feff}');
        match self.family.is_loose() {
            true => !line.trim().is_empty() && !line.trim_start().starts_with('#'),
            false => !line.is_empty(),
        }
    }

    /// Reads on, as far as one call gives: complete lines join the others.
    fn fill(&mut self) {
        if let Err(failure) = self.read_on() {
            (self.failure, self.at_end) = (Some(failure), true);
        }
    }

    fn read_on(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1 << 15];
        let read = loop {
            match self.input.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if self.keep {
            self.consumed.extend_from_slice(&buffer[..read]);
        }
        self.at_end = read == 0;
        let searched = self.bytes.len();
        self.bytes.extend_from_slice(&buffer[..read]);
        let mut start = 0;
        while let Some(length) = self.bytes[searched.max(start)..].iter().position(|&byte| byte == b'\n') {
            let end = searched.max(start) + length;
            self.push(start, end)?;
            start = end + 1;
        }
        if self.at_end && start < self.bytes.len() {
            self.push(start, self.bytes.len())?;
            start = self.bytes.len();
        }
        if start > 0 {
            self.bytes.drain(..start);
            // All that comes before the first puzzle is kept, and counts as one record.
            if !self.keep {
                self.budget.renew();
            }
        }
        Ok(())
    }

    fn push(&mut self, start: usize, end: usize) -> io::Result<()> {
        let no_text = |_| io::Error::new(io::ErrorKind::InvalidData, NoText);
        let line = std::str::from_utf8(&self.bytes[start..end]).map_err(no_text)?;
        let line = &*without_colours(line.trim_end_matches('\r'));
        let line = if self.number == 0 { line.trim_start_matches('\u{feff}') } else { line };
        self.number += 1;
        self.lines.push_back((self.number, line.to_owned()));
        Ok(())
    }

    fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        (self.keep, self.consumed) = (false, Vec::new());
        while self.ready.is_empty() {
            while self.lines.front().is_some_and(|(_, line)| !self.means_something(line)) {
                self.lines.pop_front();
            }
            match (self.lines.is_empty(), self.at_end) {
                (true, true) => return self.failure.take().map_or(Ok(None), Err),
                (true, false) => self.fill(),
                (false, _) => self.gather(),
            }
        }
        Ok(self.ready.pop_front())
    }

    fn is_alone(&self, line: &str) -> bool {
        is_puzzle(self.family, self.trimmed(line))
    }

    /// A line without the spaces around it, unless they are blanks of a puzzle.
    fn trimmed<'l>(&self, line: &'l str) -> &'l str {
        let trimmed = if self.family.is_loose() { line.trim() } else { line };
        let spaces_count = || !is_puzzle(self.family, trimmed) && is_puzzle(self.family, line);
        if trimmed.len() < line.len() && spaces_count() { line } else { trimmed }
    }

    /// Makes entries of the lines at the front, at least one: each line one where they are puzzles of their own, or drawings.
    fn gather(&mut self) {
        let is_loose = self.family.is_loose();
        loop {
            // A drawing ends with its block or, where spaces mean nothing, where it makes a puzzle.
            let blank =
                |(_, line): &(u64, String)| if is_loose { line.trim().is_empty() } else { line.is_empty() };
            let block = self.lines.iter().position(blank).unwrap_or(self.lines.len());
            let known = if is_loose { self.lines.len() } else { block }.min(MAX_DRAWING);
            let mut bytes = 0;
            let fits = self.lines.iter().take(known).take_while(|(_, line)| {
                bytes += line.len() as u64;
                bytes <= MAX_RECORD
            });
            let known = fits.count().max(1);
            let is_complete = known < self.lines.len() || self.at_end || known == MAX_DRAWING;
            let meaning =
                self.lines.iter().take(known.min(64)).filter(|(_, line)| self.means_something(line));
            let meaning: Vec<&str> = meaning.map(|(_, line)| line.as_str()).collect();
            let alone = meaning.iter().filter(|line| self.is_alone(line)).count();
            if 2 * alone > meaning.len() || (is_loose && alone > 0 && 2 * alone == meaning.len()) {
                self.each(known.min(64));
                return;
            }
            let mut ends = (1..known).filter(|&end| is_loose && blank(&self.lines[end])).collect::<Vec<_>>();
            if is_complete {
                ends.push(known);
            }
            if ends.into_iter().any(|end| self.is_drawing(end)) {
                return;
            }
            if is_complete {
                match is_loose || alone > 0 {
                    true => self.each(known),
                    false => self.one(known),
                }
                return;
            }
            let before = self.lines.len();
            while self.lines.len() == before && !self.at_end {
                self.fill();
            }
        }
    }

    /// Each of the first lines as an entry.
    fn each(&mut self, count: usize) {
        for (number, line) in self.lines.drain(..count).collect::<Vec<_>>() {
            if self.means_something(&line) {
                self.ready.push_back(Entry::new(self.family, number, self.trimmed(&line)));
            }
        }
    }

    fn joined(&self, count: usize) -> String {
        let lines = self.lines.iter().take(count).filter(|(_, line)| self.means_something(line));
        let lines: Vec<&str> = lines.map(|(_, line)| line.as_str()).collect();
        match lines.as_slice() {
            [only] => self.trimmed(only).to_owned(),
            lines => lines.join("\n"),
        }
    }

    /// Takes the first lines as one drawing, if they are one.
    fn is_drawing(&mut self, count: usize) -> bool {
        let found = is_puzzle(self.family, &self.joined(count));
        if found {
            self.one(count);
        }
        found
    }

    fn one(&mut self, count: usize) {
        let text = self.joined(count);
        let number = self.lines.front().map_or(0, |(number, _)| *number);
        self.lines.drain(..count);
        self.ready.push_back(Entry::new(self.family, number, &text));
    }
}

#[cfg(test)]
mod tests;
