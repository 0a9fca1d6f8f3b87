//! Reading puzzle files: `source,question,answer,rating` CSV (plain or gzip), with or without a header, or simply
//! one puzzle a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use thiserror::Error;

use super::board::{Board, BoardError};
use super::parse::Notation;
use crate::bounded::{Budget, Metered, Unpacked};

/// One row of a puzzle file.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where the puzzle comes from; empty if the file does not say.
    pub source: String,
    /// The puzzle; keeps the rules.
    pub puzzle: Board,
    /// The stated answer; a solution of the puzzle.
    pub solution: Option<Board>,
    /// The stated difficulty. In Sudoku-Extreme: the number of guesses of the solver tdoku in this orientation.
    pub rating: Option<f64>,
}

/// Why a puzzle file cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
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
    /// A puzzle or answer that is no board, or breaks the rules.
    #[error("{}, line {line}, {field}: {source}", path.display())]
    Board {
        /// The file.
        path: PathBuf,
        /// Line, 1-based.
        line: u64,
        /// `question` or `answer`.
        field: &'static str,
        /// What is wrong with it.
        source: BoardError,
    },
    /// An answer that does not answer the question.
    #[error("{}, line {line}: the answer is no solution of the question ({why})", path.display())]
    WrongAnswer {
        /// The file.
        path: PathBuf,
        /// Line, 1-based.
        line: u64,
        /// What gives it away.
        why: String,
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

/// Reads every row of a file; see [`RecordReader`].
///
/// # Errors
/// The first [`RecordError`] met.
pub fn read_records(path: &Path) -> Result<Vec<Record>, RecordError> {
    RecordReader::open(path)?.collect()
}

/// Writes `source,question,answer,rating` with a header, gzip if the name ends in `.gz`. The bytes depend on the records only.
///
/// # Errors
/// [`RecordError::Io`] if the file cannot be written.
pub fn write_records(path: &Path, records: &[Record]) -> Result<(), RecordError> {
    let fail = |source| RecordError::Io { path: path.to_owned(), source };
    let file = BufWriter::new(File::create(path).map_err(fail)?);
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut file = GzEncoder::new(file, Compression::best());
        write_rows(&mut file, records).map_err(fail)?;
        file.finish().and_then(|mut file| file.flush()).map_err(fail)
    } else {
        let mut file = file;
        write_rows(&mut file, records).and_then(|()| file.flush()).map_err(fail)
    }
}

fn write_rows(writer: &mut impl Write, records: &[Record]) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(writer);
    writer.write_record(["source", "question", "answer", "rating"])?;
    for record in records {
        let answer = record.solution.as_ref().map(Board::to_line).unwrap_or_default();
        let rating = record.rating.map(|rating| rating.to_string()).unwrap_or_default();
        writer.write_record([&record.source, &record.puzzle.to_line(), &answer, &rating])?;
    }
    writer.flush()
}

/// Reads a puzzle file row by row, in memory independent of its length.
///
/// Columns are found by their header (`question`, `puzzle` or `quizzes`; `answer`, `solution` or `solutions`; `rating`,
/// `difficulty` or any name ending in `_rating`; `source` or `id`) or, without one, by what stands in the first row:
/// the first field that is a board is the puzzle, the next field the answer, the one after that the rating. Lines that
/// start with `#` are comments. Every puzzle is checked against the rules and every answer against its puzzle.
#[derive(Debug)]
pub struct RecordReader {
    path: PathBuf,
    reader: csv::Reader<Input>,
    columns: Option<Columns>,
    row: csv::StringRecord,
    budget: Budget,
    failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Columns {
    source: Option<usize>,
    puzzle: usize,
    answer: Option<usize>,
    rating: Option<usize>,
}

/// A plain or gzip stream.
struct Input(Box<dyn Read + Send>);

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Input")
    }
}

impl RecordReader {
    /// Opens a file; gzip is recognised by its first bytes.
    ///
    /// # Errors
    /// [`RecordError::Io`] if the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let fail = |source| RecordError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.is_dir() {
            return Err(fail(io::Error::new(
                io::ErrorKind::IsADirectory,
                "expected a file, got a directory",
            )));
        }
        Self::from_reader(file, path)
    }

    /// Reads from any stream; `name` stands for the file in messages.
    ///
    /// # Errors
    /// [`RecordError::Io`] if the first bytes cannot be read.
    pub fn from_reader(reader: impl Read + Send + 'static, name: &Path) -> Result<Self, RecordError> {
        let path = name.to_owned();
        let mut reader = BufReader::new(reader);
        let start = reader.fill_buf().map_err(|source| RecordError::Io { path: path.clone(), source })?;
        let input: Box<dyn Read + Send> =
            if start.starts_with(&[0x1f, 0x8b]) { Box::new(Unpacked::new(reader)) } else { Box::new(reader) };
        let budget = Budget::default();
        let input = Box::new(Metered::new(input, &budget));
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .comment(Some(b'#'))
            .from_reader(Input(input));
        Ok(Self { path, reader, columns: None, row: csv::StringRecord::new(), budget, failed: false })
    }

    fn next_record(&mut self) -> Result<Option<Record>, RecordError> {
        let csv_error = |source| RecordError::Csv { path: self.path.clone(), source };
        if !self.reader.read_record(&mut self.row).map_err(csv_error)? {
            return Ok(None);
        }
        self.budget.renew();
        let columns = match self.columns {
            Some(columns) => columns,
            None => {
                let (columns, is_header) = self.find_columns()?;
                self.columns = Some(columns);
                if is_header {
                    return self.next_record();
                }
                columns
            }
        };
        self.record(columns).map(Some)
    }

    /// Finds the columns in the first row, and whether it is a header.
    fn find_columns(&self) -> Result<(Columns, bool), RecordError> {
        let is_board = |field: &str| field.len() >= 16 && field.parse::<Board>().is_ok();
        let by_position = |puzzle: usize| Columns {
            source: (puzzle > 0).then(|| puzzle - 1),
            puzzle,
            answer: Some(puzzle + 1),
            rating: Some(puzzle + 2),
        };
        if let Some(puzzle) = self.row.iter().position(is_board) {
            return Ok((by_position(puzzle), false));
        }
        let names: Vec<String> =
            self.row.iter().map(|n| n.trim_start_matches('\u{feff}').to_ascii_lowercase()).collect();
        let find = |wanted: &[&str]| names.iter().position(|n| wanted.contains(&n.as_str()));
        if let Some(puzzle) = find(&["question", "puzzle", "quizzes"]) {
            let columns = Columns {
                source: find(&["source", "id"]),
                puzzle,
                answer: find(&["answer", "solution", "solutions"]),
                rating: find(&["rating", "difficulty"])
                    .or_else(|| names.iter().position(|n| n.ends_with("_rating"))),
            };
            return Ok((columns, true));
        }
        // No header and no board: a header would have names only. A row with a long field that is no name is a
        // malformed puzzle, and its own error says more.
        if let Some(puzzle) =
            self.row.iter().position(|f| f.chars().any(|c| !c.is_ascii_alphabetic() && c != '_'))
        {
            return Ok((by_position(puzzle), false));
        }
        Err(RecordError::NoPuzzleColumn { path: self.path.clone(), columns: names })
    }

    fn record(&self, columns: Columns) -> Result<Record, RecordError> {
        let path = || self.path.clone();
        let line = self.row.position().map_or(0, csv::Position::line);
        let field = |column: Option<usize>| column.and_then(|c| self.row.get(c)).filter(|f| !f.is_empty());
        let Some(text) = field(Some(columns.puzzle)) else {
            let (expected, got) = (columns.puzzle + 1, self.row.len());
            return Err(RecordError::MissingField { path: path(), line, expected, got });
        };
        let board_error = |field| move |source| RecordError::Board { path: path(), line, field, source };
        let puzzle: Board = text.parse().map_err(board_error("question"))?;
        puzzle.validate().map_err(board_error("question"))?;
        let solution = match field(columns.answer) {
            None => None,
            Some(text) => {
                let answer = Board::parse(text, Notation::Auto, Some(puzzle.geometry()))
                    .map_err(board_error("answer"))?;
                answer.validate().map_err(board_error("answer"))?;
                let why = if !answer.is_full() {
                    "it has blank cells".to_owned()
                } else if let Some(cell) = (0..answer.cells().len())
                    .find(|&c| !matches!(puzzle.cells()[c], 0) && puzzle.cells()[c] != answer.cells()[c])
                {
                    let (row, column) = (cell / answer.side() + 1, cell % answer.side() + 1);
                    format!(
                        "the given {} in row {row}, column {column} became {}",
                        puzzle.cells()[cell],
                        answer.cells()[cell]
                    )
                } else {
                    String::new()
                };
                if !why.is_empty() {
                    return Err(RecordError::WrongAnswer { path: path(), line, why });
                }
                Some(answer)
            }
        };
        let rating = match field(columns.rating) {
            None => None,
            Some(text) => match text.parse::<f64>() {
                Ok(rating) if rating.is_finite() => Some(rating),
                _ => {
                    return Err(RecordError::Rating { path: path(), line, got: text.to_owned() });
                }
            },
        };
        Ok(Record { source: field(columns.source).unwrap_or_default().to_owned(), puzzle, solution, rating })
    }
}

impl Iterator for RecordReader {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_record().transpose();
        self.failed = matches!(next, Some(Err(_)) | None);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    const Q: &str = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79";
    const A: &str = "534678912672195348198342567859761423426853791713924856961537284287419635345286179";

    fn read(bytes: impl Into<Vec<u8>>) -> Result<Vec<Record>, String> {
        let reader = RecordReader::from_reader(Cursor::new(bytes.into()), Path::new("in.csv"));
        reader.and_then(Iterator::collect).map_err(|e| e.to_string())
    }

    #[test]
    fn every_layout() {
        let full = read(format!("source,question,answer,rating\nforum,{Q},{A},12\n")).unwrap();
        assert_eq!(full[0].source, "forum");
        assert_eq!((full[0].puzzle.to_line(), full[0].rating), (Q.to_owned(), Some(12.0)));
        assert_eq!(full[0].solution.as_ref().map(Board::to_line), Some(A.to_owned()));
        assert_eq!(read(format!("forum,{Q},{A},12")).unwrap(), full, "without a header");
        assert_eq!(
            read(format!("\u{feff}rating,answer,question,source\r\n12,{A},{Q},forum\r\n")).unwrap(),
            full
        );
        assert_eq!(
            read(format!("id,question,answer,sukaku_explainer_rating\nforum,{Q},{A},12")).unwrap(),
            full
        );
        let bare = read(format!("# easy\n{Q}\n\n{Q}\n")).unwrap();
        assert_eq!((bare.len(), &bare[0].solution, bare[1].rating), (2, &None, None));
        assert_eq!(read(format!("{Q},{A}")).unwrap()[0].solution, full[0].solution);
        assert_eq!(
            read(format!("quizzes,solutions\n{},{A}", Q.replace('.', "0"))).unwrap()[0].puzzle,
            full[0].puzzle
        );
        assert!(read("").unwrap().is_empty());
        let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
        zip.write_all(format!("forum,{Q},{A},12").as_bytes()).unwrap();
        let zipped = zip.finish().unwrap();
        assert_eq!(read(zipped.clone()).unwrap(), full);
        assert!(read(&zipped[..zipped.len() / 2]).is_err(), "a cut-off gzip file");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut records =
            read(format!("source,question,answer,rating\n\"a, b\",{Q},{A},12.5\nc,{Q},,")).unwrap();
        records[1].puzzle = Board::empty(crate::sudoku::Geometry::S16);
        for name in ["x.csv", "x.csv.gz"] {
            let path = dir.path().join(name);
            write_records(&path, &records).unwrap();
            assert_eq!(read_records(&path).unwrap(), records, "{name}");
            assert_eq!(std::fs::read(&path).unwrap().starts_with(&[0x1f, 0x8b]), name.ends_with("gz"));
        }
        let error = write_records(&dir.path().join("no/x.csv"), &records).unwrap_err().to_string();
        assert!(error.starts_with("cannot read or write "), "{error}");
    }

    #[test]
    fn errors_say_where_and_what() {
        let error = |text: String| read(text).unwrap_err();
        assert_eq!(
            error("name,value\na,b".to_owned()),
            "in.csv: expected a column named `question`, `puzzle` or `quizzes`, or a puzzle in the first row; got columns name, value"
        );
        assert!(
            error(format!("question\n{Q}\n{}", &Q[1..])).starts_with("in.csv, line 3, question: expected 81")
        );
        let twice = Q.replacen("53.", "55.", 1);
        assert_eq!(
            error(format!("{Q}\n{twice}")),
            "in.csv, line 2, question: the board breaks the rules: value 5 stands twice in row 1 (columns 1 and 2); value 5 stands twice in box 1 (row 1 column 1 and row 1 column 2)"
        );
        assert!(error(format!("question,answer\n{Q},{Q}")).ends_with("(it has blank cells)"));
        let other: String =
            A.chars().map(|c| c.to_digit(10).map_or(c, |d| char::from(b'1' + (d % 9) as u8))).collect();
        assert!(
            error(format!("question,answer\n{Q},{other}"))
                .ends_with("(the given 5 in row 1, column 1 became 6)")
        );
        assert_eq!(
            error(format!("question,rating\n{Q},hard")),
            "in.csv, line 2: expected a number as rating, got \"hard\""
        );
        assert!(
            error(format!("source,question\nforum,{Q}\nforum"))
                .contains("line 3: expected at least 2 fields, got 1")
        );
        assert!(error("12345".to_owned()).contains("line 1, question"));
        assert!(
            RecordReader::open(Path::new("/nonexistent/x.csv"))
                .is_err_and(|e| e.to_string().contains("/nonexistent/x.csv"))
        );
        assert!(RecordReader::open(Path::new("/")).is_err());
        assert!(read(vec![b'1', 0xff, 0xfe, b'\n']).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(bytes);
        }

        #[test]
        fn arbitrary_rows_never_panic(text in "[0-9.,\n\"a-h]{0,300}") {
            let _ = read(text);
        }
    }
}
