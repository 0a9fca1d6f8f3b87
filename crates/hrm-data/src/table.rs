//! Puzzle files as tables: `source,question,answer,rating` CSV, plain or gzip, with or without a header.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use thiserror::Error;

use crate::bounded::Budget;

/// Why a file is no table of puzzles, whatever the puzzles are.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TableError {
    /// The file cannot be opened, read or written.
    #[error("cannot read or write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The file is not CSV, is not UTF-8, or its compression is damaged.
    #[error("{}: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What went wrong, with its position.
        source: csv::Error,
    },
    /// The header names no puzzle column.
    #[error("{}: expected a column named `question`, `puzzle` or `quizzes`, or a puzzle in the first row; got columns {}", path.display(), columns.join(", "))]
    NoPuzzleColumn {
        /// The file.
        path: PathBuf,
        /// The columns of its first row.
        columns: Vec<String>,
    },
    /// A row without the puzzle's field.
    #[error("{}, line {line}: expected at least {expected} fields, got {got}", path.display())]
    MissingField {
        /// The file.
        path: PathBuf,
        /// Line, 1-based.
        line: u64,
        /// Fields needed.
        expected: usize,
        /// Fields found.
        got: usize,
    },
    /// A rating that is no number.
    #[error("{}, line {line}: expected a number as rating, got {got:?}", path.display())]
    Rating {
        /// The file.
        path: PathBuf,
        /// Line, 1-based.
        line: u64,
        /// The field.
        got: String,
    },
}

impl TableError {
    /// What is wrong, without the file and the line.
    pub(crate) fn at_its_line(&self) -> String {
        match self {
            Self::Rating { got, .. } => format!("expected a number as rating, got {got:?}"),
            Self::MissingField { expected, got, .. } => {
                format!("expected at least {expected} fields, got {got}")
            }
            other => other.to_string(),
        }
    }
}

/// Reads a table row by row, in memory independent of its length.
///
/// Columns are found by their header (`question`, `puzzle` or `quizzes`; `answer`, `solution` or `solutions`; `rating`,
/// `difficulty` or any name ending in `_rating`; `source` or `id`) or, without one, by what stands in the first row: the
/// first field that is a puzzle is the question, the field before it the source, the next the answer, the one after that the
/// rating.
pub(crate) struct Table {
    path: PathBuf,
    is_puzzle: Box<dyn Fn(&str) -> bool + Send>,
    reader: csv::Reader<Box<dyn Read + Send>>,
    columns: Option<Columns>,
    row: csv::StringRecord,
    budget: Budget,
}

#[derive(Clone, Copy, Debug)]
struct Columns {
    source: Option<usize>,
    question: usize,
    answer: Option<usize>,
    rating: Option<usize>,
}

impl Table {
    /// Reads a table; `path` stands for it in messages. In a `loose` one spaces around fields mean nothing, and lines that
    /// start with `#` are comments. `is_puzzle` tells rows from a header.
    pub(crate) fn new(
        path: &Path,
        input: Box<dyn Read + Send>,
        budget: Budget,
        loose: bool,
        is_puzzle: Box<dyn Fn(&str) -> bool + Send>,
    ) -> Self {
        let mut csv = csv::ReaderBuilder::new();
        csv.has_headers(false).flexible(true);
        if loose {
            csv.trim(csv::Trim::All).comment(Some(b'#'));
        }
        let (path, reader) = (path.to_owned(), csv.from_reader(input));
        Self { path, is_puzzle, reader, columns: None, row: csv::StringRecord::new(), budget }
    }

    /// The next row of puzzles, if there is one.
    pub(crate) fn next_row(&mut self) -> Result<Option<Row<'_>>, TableError> {
        let columns = loop {
            let csv_error = |source| TableError::Csv { path: self.path.clone(), source };
            if !self.reader.read_record(&mut self.row).map_err(csv_error)? {
                return Ok(None);
            }
            self.budget.renew();
            if let Some(columns) = self.columns {
                break columns;
            }
            let (columns, is_header) = self.find_columns()?;
            self.columns = Some(columns);
            if !is_header {
                break columns;
            }
        };
        Ok(Some(Row { path: &self.path, fields: &self.row, columns }))
    }

    /// Finds the columns in the first row, and whether it is a header.
    fn find_columns(&self) -> Result<(Columns, bool), TableError> {
        let by_position = |question: usize| Columns {
            source: question.checked_sub(1),
            question,
            answer: Some(question + 1),
            rating: Some(question + 2),
        };
        if let Some(question) = self.row.iter().position(&self.is_puzzle) {
            return Ok((by_position(question), false));
        }
        let names: Vec<String> = self.row.iter().map(name).collect();
        let find = |wanted: &[&str]| names.iter().position(|n| wanted.contains(&n.as_str()));
        if let Some(question) = find(&QUESTIONS) {
            let columns = Columns {
                source: find(&["source", "id"]),
                question,
                answer: find(&["answer", "solution", "solutions"]),
                rating: find(&["rating", "difficulty"])
                    .or_else(|| names.iter().position(|n| n.ends_with("_rating"))),
            };
            return Ok((columns, true));
        }
        // No header and no puzzle: a header would have names only. A row with a field that is no name is a malformed puzzle,
        // and its own error says more.
        let is_name = |field: &str| field.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
        match names.iter().position(|field| !is_name(field)) {
            Some(question) => Ok((by_position(question), false)),
            None => Err(TableError::NoPuzzleColumn { path: self.path.clone(), columns: names }),
        }
    }
}

/// Names of the column with the puzzles.
const QUESTIONS: [&str; 3] = ["question", "puzzle", "quizzes"];

fn name(field: &str) -> String {
    field.trim().trim_start_matches('\u{feff}').trim_matches('"').to_ascii_lowercase()
}

/// Whether a line names the columns of a table.
pub(crate) fn is_header(line: &str) -> bool {
    line.split(',').any(|field| QUESTIONS.contains(&name(field).as_str()))
}

/// A row of a table.
pub(crate) struct Row<'t> {
    path: &'t Path,
    fields: &'t csv::StringRecord,
    columns: Columns,
}

impl<'t> Row<'t> {
    /// The file.
    pub(crate) fn path(&self) -> PathBuf {
        self.path.to_owned()
    }

    /// The line that the row starts on, 1-based.
    pub(crate) fn line(&self) -> u64 {
        self.fields.position().map_or(0, csv::Position::line)
    }

    fn field(&self, column: Option<usize>) -> Option<&'t str> {
        column.and_then(|column| self.fields.get(column)).filter(|field| !field.is_empty())
    }

    /// The puzzle.
    pub(crate) fn question(&self) -> Result<&'t str, TableError> {
        self.field(Some(self.columns.question)).ok_or_else(|| {
            let (expected, got) = (self.columns.question + 1, self.fields.len());
            TableError::MissingField { path: self.path(), line: self.line(), expected, got }
        })
    }

    /// The stated answer.
    pub(crate) fn answer(&self) -> Option<&'t str> {
        self.field(self.columns.answer)
    }

    /// Where the puzzle comes from; empty if the file does not say.
    pub(crate) fn source(&self) -> String {
        self.field(self.columns.source).unwrap_or_default().to_owned()
    }

    /// The stated difficulty.
    pub(crate) fn rating(&self) -> Result<Option<f64>, TableError> {
        let Some(text) = self.field(self.columns.rating) else { return Ok(None) };
        match text.trim().parse::<f64>() {
            Ok(rating) if rating.is_finite() => Ok(Some(rating)),
            _ => Err(TableError::Rating { path: self.path(), line: self.line(), got: text.to_owned() }),
        }
    }
}

/// Writes `source,question,answer,rating` with a header, gzip if the name ends in `.gz`. The bytes depend on the rows only.
pub(crate) fn write(path: &Path, rows: impl IntoIterator<Item = [String; 4]>) -> Result<(), TableError> {
    let fail = |source| TableError::Io { path: path.to_owned(), source };
    let file = BufWriter::new(File::create(path).map_err(fail)?);
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut file = GzEncoder::new(file, Compression::best());
        write_rows(&mut file, rows).map_err(fail)?;
        file.finish().and_then(|mut file| file.flush()).map_err(fail)
    } else {
        let mut file = file;
        write_rows(&mut file, rows).and_then(|()| file.flush()).map_err(fail)
    }
}

fn write_rows(writer: &mut impl Write, rows: impl IntoIterator<Item = [String; 4]>) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(writer);
    writer.write_record(["source", "question", "answer", "rating"])?;
    for row in rows {
        writer.write_record(row)?;
    }
    writer.flush()
}
