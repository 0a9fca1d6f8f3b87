//! Tasks and the files they come in.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde_json::Value;
use thiserror::Error;

use super::canvas::CANVAS;
use crate::grid::Grid;

/// A demonstration or a test: an input and, unless it is withheld, its output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The input; 1 to 30 rows and columns of colours 0 to 9.
    pub input: Grid,
    /// The output; `None` in the challenges of a competition.
    pub output: Option<Grid>,
}

/// A task: demonstrations and tests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArcTask {
    /// Its name: the key in a single file, the file's name in a folder.
    pub id: String,
    /// Demonstrations; their outputs are always there.
    pub train: Vec<Pair>,
    /// Tests.
    pub test: Vec<Pair>,
}

/// Which half of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The input.
    Input,
    /// The output.
    Output,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// Why a task is malformed. Pairs and rows are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TaskError {
    /// A list that is missing, no list, or empty.
    #[error("expected a list {field:?} of at least one pair, got {got}")]
    Pairs {
        /// `train` or `test`.
        field: &'static str,
        /// What is there.
        got: String,
    },
    /// A pair without its input or output.
    #[error("{field} pair {pair}: expected an {side}, got none")]
    Missing {
        /// `train` or `test`.
        field: &'static str,
        /// Which pair.
        pair: usize,
        /// Which half.
        side: Side,
    },
    /// A grid that is none.
    #[error("{field} pair {pair}, {side}: expected 1 to {CANVAS} rows, got {got}")]
    Rows {
        /// `train` or `test`.
        field: &'static str,
        /// Which pair.
        pair: usize,
        /// Which half.
        side: Side,
        /// What is there.
        got: String,
    },
    /// A row that is none.
    #[error("{field} pair {pair}, {side}, row {row}: expected {expected}, got {got}")]
    Row {
        /// `train` or `test`.
        field: &'static str,
        /// Which pair.
        pair: usize,
        /// Which half.
        side: Side,
        /// Which row.
        row: usize,
        /// What should be there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// The solutions have another number of outputs than the task has tests.
    #[error("expected {expected} solutions, one for each test, got {got}")]
    Solutions {
        /// Tests of the task.
        expected: usize,
        /// What is there.
        got: String,
    },
}

/// Why a file of tasks cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArcError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A file that is not JSON.
    #[error("{}: {source}{}", path.display(), if source.is_eof() { "; the file is cut off" } else { "" })]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its position.
        source: serde_json::Error,
    },
    /// A file beyond any sensible size.
    #[error("{}: expected at most {limit} bytes of JSON", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// JSON of another kind.
    #[error("{}: expected a task (an object with `train` and `test`) or an object of tasks by name, got {got}", path.display())]
    NotTasks {
        /// The file.
        path: PathBuf,
        /// What it is.
        got: String,
    },
    /// A folder without folders.
    #[error("{}: expected folders of JSON files in it (training, evaluation, ...), got none", path.display())]
    NoFolders {
        /// The folder.
        path: PathBuf,
    },
    /// No task.
    #[error("{}: expected at least one task, got none", path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },
    /// A malformed task.
    #[error("{}, task {task}: {source}", path.display())]
    Task {
        /// The file.
        path: PathBuf,
        /// The task.
        task: String,
        /// What is wrong with it.
        source: Box<TaskError>,
    },
    /// A task without solutions.
    #[error("{}: expected solutions of task {task}, got none", path.display())]
    NoSolution {
        /// The file of the solutions.
        path: PathBuf,
        /// The task.
        task: String,
    },
}

/// The largest file that is read, unpacked: ten times the largest real one. Values take up to 16 times its memory.
const LIMIT: u64 = 1 << 26;

/// Loads tasks, in the order of their names, from a folder of JSON files (one task each), from a JSON file of one task, or
/// from a JSON file of tasks by name. Files may be gzipped. Fields other than `train` and `test` are ignored. A file
/// `X_challenges.json` takes the outputs of its tests from `X_solutions.json` beside it, if that is there.
///
/// # Errors
/// [`ArcError`] with the file, the task, the pair and the row.
pub fn load(path: &Path) -> Result<Vec<ArcTask>, ArcError> {
    match solutions_beside(path) {
        Some(solutions) => load_kaggle(path, &solutions),
        None => load_as_is(path),
    }
}

fn solutions_beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let name = name.replacen("challenges.json", "solutions.json", 1);
    let beside = path.with_file_name(name);
    (beside != path && beside.is_file()).then_some(beside)
}

fn load_as_is(path: &Path) -> Result<Vec<ArcTask>, ArcError> {
    let io = |source| ArcError::Io { path: path.to_owned(), source };
    let mut tasks = Vec::new();
    if fs::metadata(path).map_err(io)?.is_dir() {
        let is_json = |p: &PathBuf| {
            let name = p.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
            name.ends_with(".json") || name.ends_with(".json.gz")
        };
        let entries = fs::read_dir(path).map_err(io)?.map(|entry| entry.map(|e| e.path()));
        let mut files: Vec<PathBuf> = entries.collect::<io::Result<_>>().map_err(io)?;
        files.retain(is_json);
        files.sort();
        for file in &files {
            // A pipe would be waited for without end.
            if !file.is_file() {
                let source =
                    io::Error::new(io::ErrorKind::InvalidInput, "not a file; remove it from the folder");
                return Err(ArcError::Io { path: file.clone(), source });
            }
            tasks.extend(tasks_of(file, &read_json(file)?)?);
        }
    } else {
        tasks = tasks_of(path, &read_json(path)?)?;
    }
    if tasks.is_empty() {
        return Err(ArcError::Empty { path: path.to_owned() });
    }
    Ok(tasks)
}

/// Loads the two files of a competition: the challenges, whose tests have no outputs, and the solutions.
///
/// # Errors
/// As [`load`]; [`ArcError::NoSolution`] if a task has no solutions.
pub fn load_kaggle(challenges: &Path, solutions: &Path) -> Result<Vec<ArcTask>, ArcError> {
    let mut tasks = load_as_is(challenges)?;
    let all = read_json(solutions)?;
    for task in &mut tasks {
        let missing = || ArcError::NoSolution { path: solutions.to_owned(), task: task.id.clone() };
        let outputs = all.get(&task.id).ok_or_else(missing)?;
        let fail = |source| {
            let source = Box::new(source);
            ArcError::Task { path: solutions.to_owned(), task: task.id.clone(), source }
        };
        let expected = task.test.len();
        let outputs = outputs
            .as_array()
            .filter(|list| list.len() == expected)
            .ok_or_else(|| fail(TaskError::Solutions { expected, got: describe(outputs) }))?;
        let grids = outputs.iter().enumerate().map(|(i, value)| grid(value, "test", i + 1, Side::Output));
        let grids: Vec<Grid> = grids.collect::<Result<_, _>>().map_err(fail)?;
        for (pair, output) in task.test.iter_mut().zip(grids) {
            pair.output = Some(output);
        }
    }
    Ok(tasks)
}

pub(super) fn read_json(path: &Path) -> Result<Value, ArcError> {
    let io = |source| ArcError::Io { path: path.to_owned(), source };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let start = reader.fill_buf().map_err(io)?;
    let input: Box<dyn Read> = match start.starts_with(&[0x1f, 0x8b]) {
        true => Box::new(MultiGzDecoder::new(reader)),
        false => Box::new(reader),
    };
    let mut bytes = Vec::new();
    input.take(LIMIT + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > LIMIT {
        return Err(ArcError::TooLarge { path: path.to_owned(), limit: LIMIT });
    }
    serde_json::from_slice(&bytes).map_err(|source| ArcError::Json { path: path.to_owned(), source })
}

fn tasks_of(path: &Path, json: &Value) -> Result<Vec<ArcTask>, ArcError> {
    let task = |id: &str, value: &Value| {
        let fail = |source| {
            let source = Box::new(source);
            ArcError::Task { path: path.to_owned(), task: id.to_owned(), source }
        };
        ArcTask::from_json(id, value).map_err(fail)
    };
    match json.as_object() {
        Some(object) if ["train", "test"].iter().any(|key| object.get(*key).is_some_and(Value::is_array)) => {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let id = name.trim_end_matches(".gz").trim_end_matches(".json");
            Ok(vec![task(id, json)?])
        }
        Some(object) if object.values().all(Value::is_object) => {
            object.iter().map(|(id, value)| task(id, value)).collect()
        }
        _ => Err(ArcError::NotTasks { path: path.to_owned(), got: describe(json) }),
    }
}

/// A value in a few words.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(fields) => {
            let keys: Vec<&str> = fields.keys().take(4).map(String::as_str).collect();
            format!(
                "an object of {} fields ({}{})",
                fields.len(),
                keys.join(", "),
                if fields.len() > 4 { ", ..." } else { "" }
            )
        }
        Value::String(text) if text.chars().count() > 20 => "a text".to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn grid(value: &Value, field: &'static str, pair: usize, side: Side) -> Result<Grid, TaskError> {
    let rows = value
        .as_array()
        .filter(|rows| (1..=CANVAS).contains(&rows.len()))
        .ok_or_else(|| TaskError::Rows { field, pair, side, got: describe(value) })?;
    let mut cols = 0;
    let mut cells = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let fail = |expected: String, got: String| TaskError::Row {
            field,
            pair,
            side,
            row: index + 1,
            expected,
            got,
        };
        let list = row
            .as_array()
            .filter(|list| (1..=CANVAS).contains(&list.len()))
            .ok_or_else(|| fail(format!("1 to {CANVAS} colours"), describe(row)))?;
        if index == 0 {
            cols = list.len();
        } else if list.len() != cols {
            return Err(fail(format!("{cols} colours as in row 1"), list.len().to_string()));
        }
        for colour in list {
            match colour.as_u64() {
                Some(colour @ 0..=9) => cells.push(colour as u8),
                _ => return Err(fail("colours from 0 to 9".to_owned(), describe(colour))),
            }
        }
    }
    let got = describe(value);
    Grid::new(rows.len(), cols, cells).ok_or(TaskError::Rows { field, pair, side, got })
}

impl ArcTask {
    /// A task from its JSON object.
    ///
    /// # Errors
    /// [`TaskError`] with the pair and the row.
    pub fn from_json(id: &str, json: &Value) -> Result<Self, TaskError> {
        let pairs = |field: &'static str| {
            let value = json.get(field).unwrap_or(&Value::Null);
            let list = value
                .as_array()
                .filter(|list| !list.is_empty())
                .ok_or_else(|| TaskError::Pairs { field, got: describe(value) })?;
            let pair = |(index, value): (usize, &Value)| {
                let pair = index + 1;
                let half = |key: &str, side| value.get(key).map(|v| grid(v, field, pair, side)).transpose();
                let input = half("input", Side::Input)?;
                let output = half("output", Side::Output)?;
                let missing = |side| TaskError::Missing { field, pair, side };
                if output.is_none() && field == "train" {
                    return Err(missing(Side::Output));
                }
                Ok(Pair { input: input.ok_or_else(|| missing(Side::Input))?, output })
            };
            list.iter().enumerate().map(pair).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self { id: id.to_owned(), train: pairs("train")?, test: pairs("test")? })
    }

    /// The task as a JSON object of the official form.
    pub fn to_json(&self) -> Value {
        let pairs = |pairs: &[Pair]| {
            let pair = |pair: &Pair| {
                let mut fields = serde_json::Map::new();
                fields.insert("input".to_owned(), grid_json(&pair.input));
                if let Some(output) = &pair.output {
                    fields.insert("output".to_owned(), grid_json(output));
                }
                Value::Object(fields)
            };
            Value::Array(pairs.iter().map(pair).collect())
        };
        serde_json::json!({ "train": pairs(&self.train), "test": pairs(&self.test) })
    }

    /// Demonstrations and tests, in this order.
    pub fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.train.iter().chain(&self.test)
    }

    /// All grids that are there.
    pub fn grids(&self) -> impl Iterator<Item = &Grid> {
        self.pairs().flat_map(|pair| std::iter::once(&pair.input).chain(&pair.output))
    }

    /// The pairs in a canonical order: equal for two tasks exactly if they hold the same pairs, whatever their roles.
    pub fn content(&self) -> Vec<(&Grid, Option<&Grid>)> {
        let mut pairs: Vec<_> = self.pairs().map(|pair| (&pair.input, pair.output.as_ref())).collect();
        pairs.sort();
        pairs
    }
}

/// A grid as a list of rows.
pub(super) fn grid_json(grid: &Grid) -> Value {
    Value::Array(grid.iter_rows().map(Value::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdata::data_dir;
    use proptest::prelude::*;

    fn parse(json: Value) -> Result<ArcTask, String> {
        ArcTask::from_json("t", &json).map_err(|e| e.to_string())
    }

    #[test]
    fn malformed_tasks_are_told_by_pair_and_row() {
        let with = |input: Value| {
            parse(
                serde_json::json!({ "train": [{"input": [[1]], "output": [[2]]}, {"input": input, "output": [[2]]}], "test": [{"input": [[1]]}] }),
            )
        };
        let error = |input: Value| with(input).unwrap_err();
        use serde_json::json;
        assert!(with(json!([[1, 2], [3, 4]])).is_ok());
        assert_eq!(
            error(json!([[1, 2], [3]])),
            "train pair 2, input, row 2: expected 2 colours as in row 1, got 1"
        );
        assert_eq!(
            error(json!([[1], [10]])),
            "train pair 2, input, row 2: expected colours from 0 to 9, got 10"
        );
        assert_eq!(error(json!([[-1]])), "train pair 2, input, row 1: expected colours from 0 to 9, got -1");
        assert_eq!(
            error(json!([[1.5]])),
            "train pair 2, input, row 1: expected colours from 0 to 9, got 1.5"
        );
        assert_eq!(error(json!([])), "train pair 2, input: expected 1 to 30 rows, got a list of 0");
        assert_eq!(
            error(json!([[]])),
            "train pair 2, input, row 1: expected 1 to 30 colours, got a list of 0"
        );
        assert_eq!(
            error(json!(vec![[1]; 31])),
            "train pair 2, input: expected 1 to 30 rows, got a list of 31"
        );
        assert_eq!(error(json!("x")), "train pair 2, input: expected 1 to 30 rows, got \"x\"");
        assert_eq!(
            parse(json!({ "train": [{"input": [[1]]}], "test": [] })).unwrap_err(),
            "train pair 1: expected an output, got none"
        );
        assert_eq!(
            parse(json!({ "train": [{"input": [[1]], "output": [[1]]}], "test": [] })).unwrap_err(),
            "expected a list \"test\" of at least one pair, got a list of 0"
        );
        assert!(parse(json!([1])).unwrap_err().contains("\"train\" of at least one pair, got nothing"));
        let round = with(json!([[1, 2], [3, 4]])).unwrap();
        assert_eq!(parse(round.to_json()).unwrap(), round);
    }

    #[test]
    fn files_of_every_form() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let one =
            r#"{"name": "x", "train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]]}]}"#;
        let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
        write("b.json", one);
        write("a.json", one);
        write("notes.txt", "no task");
        let ids = |tasks: &[ArcTask]| tasks.iter().map(|t| t.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&load(dir.path()).unwrap()), ["a", "b"]);
        assert_eq!(ids(&load(&path("b.json")).unwrap()), ["b"]);
        let kaggle = tempfile::tempdir().unwrap();
        let (challenges, solutions) = (kaggle.path().join("c.json"), kaggle.path().join("s.json"));
        fs::write(&challenges, format!("{{\"p\": {one}, \"q\": {one}}}")).unwrap();
        fs::write(&solutions, r#"{"p": [[[4, 4]]], "q": [[[5]]]}"#).unwrap();
        let tasks = load_kaggle(&challenges, &solutions).unwrap();
        assert_eq!(ids(&tasks), ["p", "q"]);
        assert_eq!(tasks[0].test[0].output.as_ref().unwrap().cells(), [4, 4]);
        assert_eq!(load(&challenges).unwrap()[0].test[0].output, None);
        let fails = |text: &str| {
            fs::write(&solutions, text).unwrap();
            let error = load_kaggle(&challenges, &solutions).unwrap_err().to_string();
            error.split_once("s.json").unwrap().1.to_owned()
        };
        assert_eq!(fails(r#"{"p": [[[4]]]}"#), ": expected solutions of task q, got none");
        assert_eq!(
            fails(r#"{"p": []}"#),
            ", task p: expected 1 solutions, one for each test, got a list of 0"
        );
        assert_eq!(
            fails(r#"{"p": [[[77]]]}"#),
            ", task p: test pair 1, output, row 1: expected colours from 0 to 9, got 77"
        );
        let bad = |text: &str| {
            write("bad.json", text);
            load(&path("bad.json")).unwrap_err().to_string()
        };
        assert!(bad("[1, 2]").ends_with("got a list of 2"));
        assert!(bad("{}").ends_with("expected at least one task, got none"));
        assert!(bad("{\"a\": 1}").ends_with("got an object of 1 fields (a)"));
        assert!(bad("{\"a\":").contains("EOF"));
        assert!(load(&path("nothing")).unwrap_err().to_string().starts_with("cannot read"));
    }

    #[test]
    fn all_real_files_have_the_stated_counts() {
        let Some(dir) = data_dir() else { return };
        for (file, tasks, train, test) in [
            ("arc1-training", 400, 1302, 416),
            ("arc1-evaluation", 400, 1363, 419),
            ("arc2-training", 1000, 3232, 1076),
            ("arc2-evaluation", 120, 359, 167),
            ("conceptarc", 160, 427, 480),
            ("conceptarc-minimal", 16, 46, 48),
        ] {
            let loaded = load(&dir.join(format!("arc/{file}.json.gz"))).unwrap();
            let count = |f: fn(&ArcTask) -> usize| loaded.iter().map(f).sum::<usize>();
            assert_eq!(
                (loaded.len(), count(|t| t.train.len()), count(|t| t.test.len())),
                (tasks, train, test)
            );
        }
    }

    proptest! {
        #[test]
        fn any_json_is_read_or_refused(text in r#"[\[\]{}:,0-9a-z" ]{0,80}"#) {
            if let Ok(json) = serde_json::from_str::<Value>(&text) {
                let _ = tasks_of(Path::new("a.json"), &json);
            }
        }
    }
}
