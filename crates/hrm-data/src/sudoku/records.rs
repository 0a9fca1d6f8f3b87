//! Reading puzzle files: `source,question,answer,rating` CSV (plain or gzip), with or without a header, or simply
//! one puzzle a line.

use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::board::{Board, BoardError};
use super::parse::Notation;
use crate::table::{self, Layout, Row, Table, TableError};

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
    /// A file that is no table of puzzles.
    #[error(transparent)]
    Table(#[from] TableError),
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
/// [`TableError::Io`] if the file cannot be written.
pub fn write_records(path: &Path, records: &[Record]) -> Result<(), TableError> {
    let row = |record: &Record| {
        let answer = record.solution.as_ref().map(Board::to_line).unwrap_or_default();
        [record.source.clone(), record.puzzle.to_line(), answer, table::rating_text(record.rating)]
    };
    table::write(path, records.iter().map(row))
}

const LAYOUT: Layout =
    Layout { loose: true, is_puzzle: |field| field.len() >= 16 && field.parse::<Board>().is_ok() };

/// Reads a puzzle file row by row, in memory independent of its length.
///
/// Columns are found by their header (`question`, `puzzle` or `quizzes`; `answer`, `solution` or `solutions`; `rating`,
/// `difficulty` or any name ending in `_rating`; `source` or `id`) or, without one, by what stands in the first row:
/// the first field that is a board is the puzzle, the next field the answer, the one after that the rating. Lines that
/// start with `#` are comments. Every puzzle is checked against the rules and every answer against its puzzle.
pub struct RecordReader {
    table: Table<'static>,
    failed: bool,
}

impl std::fmt::Debug for RecordReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordReader").field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl RecordReader {
    /// Opens a file; gzip is recognised by its first bytes.
    ///
    /// # Errors
    /// [`TableError::Io`] if the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        Ok(Self { table: Table::open(path, LAYOUT)?, failed: false })
    }

    /// Reads from any stream; `name` stands for the file in messages.
    ///
    /// # Errors
    /// [`TableError::Io`] if the first bytes cannot be read.
    pub fn from_reader(reader: impl Read + Send + 'static, name: &Path) -> Result<Self, RecordError> {
        Ok(Self { table: Table::from_reader(reader, name, LAYOUT)?, failed: false })
    }
}

fn record(row: &Row<'_>) -> Result<Record, RecordError> {
    let (path, line) = (|| row.path(), row.line());
    let board_error = |field| move |source| RecordError::Board { path: path(), line, field, source };
    let puzzle: Board = row.question()?.parse().map_err(board_error("question"))?;
    puzzle.validate().map_err(board_error("question"))?;
    let solution = match row.answer() {
        None => None,
        Some(text) => {
            let answer =
                Board::parse(text, Notation::Auto, Some(puzzle.geometry())).map_err(board_error("answer"))?;
            answer.validate().map_err(board_error("answer"))?;
            if let Some(why) = wrong(&puzzle, &answer) {
                return Err(RecordError::WrongAnswer { path: path(), line, why });
            }
            Some(answer)
        }
    };
    Ok(Record { source: row.source(), puzzle, solution, rating: row.rating()? })
}

/// Why a board that keeps the rules does not solve a puzzle.
fn wrong(puzzle: &Board, answer: &Board) -> Option<String> {
    if !answer.is_full() {
        return Some("it has blank cells".to_owned());
    }
    let (givens, cells) = (puzzle.cells(), answer.cells());
    let cell = (0..cells.len()).find(|&cell| givens[cell] != 0 && givens[cell] != cells[cell])?;
    let (row, column) = (cell / answer.side() + 1, cell % answer.side() + 1);
    Some(format!("the given {} in row {row}, column {column} became {}", givens[cell], cells[cell]))
}

impl Iterator for RecordReader {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = match self.table.next_row() {
            Ok(row) => row.map(|row| record(&row)),
            Err(error) => Some(Err(error.into())),
        };
        self.failed = matches!(next, Some(Err(_)) | None);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::{Cursor, Write as _};

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
