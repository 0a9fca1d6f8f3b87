//! Reading maze files: `source,question,answer,rating` CSV, plain or gzip. Spaces are cells, so nothing is trimmed.

use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::board::{Maze, MazeError, PathError, SYMBOLS, parse_tokens};
use crate::table::{self, Layout, Row, Table, TableError};

/// One row of a maze file.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where the maze comes from; empty if the file does not say.
    pub source: String,
    /// The maze.
    pub maze: Maze,
    /// The stated answer, as tokens: a path through the maze. `[rows * cols]`
    pub answer: Option<Vec<u8>>,
    /// The stated difficulty. In Maze-Hard: the number of cells of a shortest path, without the start.
    pub rating: Option<f64>,
}

/// Why a maze file cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A file that is no table of mazes.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A question that is no maze, or an answer with other symbols.
    #[error("{}, line {line}, {field}: {source}", path.display())]
    Maze {
        /// The file.
        path: PathBuf,
        /// Line, 1-based.
        line: u64,
        /// `question` or `answer`.
        field: &'static str,
        /// What is wrong with it.
        source: MazeError,
    },
    /// An answer that is no path through its maze.
    #[error("{}, line {line}: the answer is no path through the maze: {source}", path.display())]
    WrongAnswer {
        /// The file.
        path: PathBuf,
        /// Line, 1-based.
        line: u64,
        /// What gives it away.
        source: PathError,
    },
}

const LAYOUT: Layout = Layout {
    loose: false,
    is_puzzle: |field| {
        field.contains('S') && field.contains('G') && field.chars().all(|c| " #SGo\n\r".contains(c))
    },
};

/// Reads a maze file; gzip is recognised by its first bytes.
///
/// # Errors
/// The first [`RecordError`] met.
pub fn read_records(path: &Path) -> Result<Vec<Record>, RecordError> {
    read_table(Table::open(path, LAYOUT)?)
}

/// Reads mazes from any stream; `name` stands for the file in messages.
///
/// Columns are found by their header (`source`, `question`, `answer`, `rating`). A file without a header has the question in
/// the first field that holds an `S` and a `G`; the answer and the rating follow it.
///
/// # Errors
/// The first [`RecordError`] met.
pub fn read_records_from(reader: impl Read + Send, name: &Path) -> Result<Vec<Record>, RecordError> {
    read_table(Table::from_reader(reader, name, LAYOUT)?)
}

fn read_table(mut table: Table<'_>) -> Result<Vec<Record>, RecordError> {
    let mut records = Vec::new();
    while let Some(row) = table.next_row()? {
        records.push(record(&row)?);
    }
    Ok(records)
}

/// Writes mazes as CSV in the form of the published sets, gzip if the name ends in `.gz`; [`read_records`] reads it back.
/// Square mazes stand on one line, others keep their rows.
///
/// # Errors
/// [`TableError::Io`] if it cannot be written.
pub fn write_records(path: &Path, records: &[Record]) -> Result<(), TableError> {
    let row = |Record { source, maze, answer, rating }: &Record| {
        let text = |tokens: &[u8]| {
            let row = |cells: &[u8]| {
                cells.iter().filter_map(|&t| SYMBOLS.get(usize::from(t).wrapping_sub(1))).collect::<String>()
            };
            let lines: Vec<String> = tokens.chunks(maze.cols().max(1)).map(row).collect();
            lines.join(if maze.rows() == maze.cols() { "" } else { "\n" })
        };
        let answer = answer.as_deref().map(text).unwrap_or_default();
        [source.clone(), text(maze.tokens()), answer, table::rating_text(*rating)]
    };
    table::write(path, records.iter().map(row))
}

fn record(row: &Row<'_>) -> Result<Record, RecordError> {
    let (path, line) = (|| row.path(), row.line());
    let fail = |field| move |source| RecordError::Maze { path: path(), line, field, source };
    let maze: Maze = row.question()?.parse().map_err(fail("question"))?;
    let answer = match row.answer() {
        None => None,
        Some(text) => {
            let tokens = parse_tokens(text, Some((maze.rows(), maze.cols()))).map_err(fail("answer"))?;
            let tokens = tokens.cells().to_vec();
            maze.check(&tokens).map_err(|source| RecordError::WrongAnswer { path: path(), line, source })?;
            Some(tokens)
        }
    };
    Ok(Record { source: row.source(), maze, answer, rating: row.rating()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Dataset;
    use crate::testdata::data_dir;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<Record>, String> {
        read_records_from(text.as_bytes(), Path::new("in.csv")).map_err(|e| e.to_string())
    }

    #[test]
    fn every_layout() {
        let full = read("source,question,answer,rating\nx, S#G  #  , S#Goo#oo,6\n");
        assert!(full.unwrap_err().starts_with("in.csv, line 2: the answer is no path"));
        let full = read("source,question,answer,rating\nx,S# # G  ,S#ooo G  ,4\n").unwrap_err();
        assert!(full.contains("question: expected a square number"), "{full}");
        let full = read("source,question,answer,rating\nx, S# #  G ,oS# #  G ,4\n").unwrap_err();
        assert!(full.contains("the 1 marked cells do not connect"), "{full}");
        let good = read("source,question,answer,rating\nx, S# #  G , S# #  G ,4\n");
        assert!(good.unwrap_err().contains("do not connect"));
        let good = read("source,question,answer,rating\nx,S   # G  ,Soo # G  ,\n");
        assert!(good.is_err());
        let good = read("source,question,answer,rating\nx,S   #   G,Soo #o  G,4\n").unwrap();
        assert_eq!((good[0].source.as_str(), good[0].rating), ("x", Some(4.0)));
        assert_eq!(good[0].answer.as_deref(), Some([3, 5, 5, 2, 1, 5, 2, 2, 4].as_slice()));
        assert_eq!(read("x,S   #   G,Soo #o  G,4").unwrap(), good, "without a header");
        let bare = read("S   #   G\n").unwrap();
        assert_eq!((&bare[0].answer, bare[0].rating), (&None, None));
        assert!(read("").unwrap().is_empty());
        assert_eq!(
            read("a,b\nc,d").unwrap_err(),
            "in.csv: expected a column named `question`, `puzzle` or `quizzes`, or a puzzle in the first row; got columns a, b"
        );
        assert_eq!(
            read("question,rating\nS   #   G,hard").unwrap_err(),
            "in.csv, line 2: expected a number as rating, got \"hard\""
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mazes.csv");
        for text in ["S   #   G", "S  #\n   G"] {
            let maze: Maze = text.parse().unwrap();
            let with = Record { source: "a, b".to_owned(), answer: maze.label(), rating: Some(4.0), maze };
            let records = vec![with.clone(), Record { answer: None, rating: None, ..with }];
            write_records(&path, &records).unwrap();
            assert_eq!(read_records(&path).unwrap(), records);
        }
        assert!(write_records(&dir.path().join("no/mazes.csv"), &[]).is_err());
    }

    #[test]
    fn all_real_labels_are_reproduced() {
        let Some(dir) = data_dir() else { return };
        let mut train = Vec::new();
        for (file, count) in [("maze-30x30-hard-1k-train", 1000), ("maze-30x30-hard-test-500", 500)] {
            let records = read_records(&dir.join(format!("maze/{file}.csv.gz"))).unwrap();
            assert_eq!(records.len(), count);
            for record in &records {
                assert_eq!(record.maze.label(), record.answer);
                assert!(record.maze.distance().unwrap() >= 109);
                assert!(record.maze.check_optimal(record.answer.as_deref().unwrap()).is_ok());
            }
            if count == 1000 {
                train = records;
            }
        }
        let original = Dataset::load(&dir.join("maze/npy-train")).unwrap();
        let set = &original.sets()[0];
        for (index, record) in train.iter().enumerate() {
            assert_eq!(set.input(index), record.maze.tokens());
            assert_eq!(Some(set.label(index)), record.answer.as_deref());
        }
        let (ours, _) = super::super::from_records(&train, 0).unwrap();
        assert_eq!(ours.sets(), original.sets());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_records_from(bytes.as_slice(), Path::new("in.csv"));
        }

        #[test]
        fn any_csv_is_read_or_refused(text in "(question\n)?[#SGo ,\n\"]{0,60}") {
            let _ = read(&text);
        }
    }
}
