//! What a run has measured, read back.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{METRICS, RunError, environment::Session, io_at, sessions};
use crate::{checkpoint, disk};

/// The rows of `metrics.jsonl`, in the order of their steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    rows: Vec<Row>,
}

/// One row: numbers by tag, `train/loss` or `eval/exact_accuracy`, as TensorBoard has them.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    step: u64,
    values: BTreeMap<String, f64>,
}

/// What the values of a curve are drawn over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Over {
    /// Training steps.
    #[default]
    Step,
    /// Passes over the training puzzles.
    Epoch,
    /// Hours of training, over all processes that worked on the run.
    Hours,
}

impl History {
    /// Reads a run's measurements. What cannot be read, such as a line that a kill cut short, is left
    /// out.
    ///
    /// # Errors
    /// If there is no `metrics.jsonl`, or it cannot be read.
    pub fn read(run: &Path) -> Result<Self, RunError> {
        let path = run.join(METRICS);
        let bytes = disk::read(&path).map_err(io_at(&path))?;
        let rows =
            bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        let rows = rows.filter_map(|row| {
            Some(Row { step: row["step"].as_u64()?, values: scalars(&row).into_iter().collect() })
        });
        let mut rows: Vec<Row> = rows.collect();
        // An evaluation in the background of training comes later than its step.
        rows.sort_by_key(|row| row.step);
        Ok(Self { rows })
    }

    /// Every tag with a value.
    pub fn tags(&self) -> Vec<String> {
        let mut tags: Vec<String> = self.rows.iter().flat_map(|row| row.values.keys().cloned()).collect();
        tags.sort();
        tags.dedup();
        tags
    }

    /// Steps and values of a tag.
    pub fn series(&self, tag: &str) -> Vec<(u64, f64)> {
        self.rows.iter().filter_map(|row| Some((row.step, *row.values.get(tag)?))).collect()
    }

    /// A tag's values over something.
    pub fn curve(&self, tag: &str, over: Over) -> Vec<(f64, f64)> {
        let mut place = 0.0;
        let (mut before, mut last_seconds) = (0.0, 0.0);
        let mut curve = Vec::new();
        for Row { step, values } in &self.rows {
            match over {
                Over::Step => place = *step as f64,
                // Rows of evaluation do not have them: theirs are those of the step before.
                Over::Epoch => place = values.get("train/epoch").copied().unwrap_or(place),
                Over::Hours => {
                    if let Some(&seconds) = values.get("train/seconds") {
                        // Every process counts from its own start.
                        if seconds < last_seconds {
                            before += last_seconds;
                        }
                        last_seconds = seconds;
                        place = (before + seconds) / 3600.0;
                    }
                }
            }
            curve.extend(values.get(tag).map(|value| (place, *value)));
        }
        curve
    }
}

/// The numbers of a row of `metrics.jsonl` with their tags: those at its top are `train/...`, those of an object
/// bear the object's name.
pub(super) fn scalars(row: &Value) -> Vec<(String, f64)> {
    fn walk(prefix: &str, value: &Value, out: &mut Vec<(String, f64)>) {
        let Value::Object(fields) = value else { return };
        for (name, value) in fields {
            let tag = format!("{prefix}/{name}");
            match value {
                Value::Number(number) => out.extend(number.as_f64().map(|number| (tag, number))),
                other => walk(&tag, other, out),
            }
        }
    }
    let Value::Object(fields) = row else { return Vec::new() };
    let mut out = Vec::new();
    for (name, value) in fields.iter().filter(|(name, _)| *name != "step") {
        match value {
            Value::Number(number) => {
                out.extend(number.as_f64().map(|number| (format!("train/{name}"), number)))
            }
            other => walk(name, other, &mut out),
        }
    }
    out
}

/// A run in a few numbers.
#[derive(Debug, Clone)]
pub struct RunSummary {
    /// Its folder.
    pub path: PathBuf,
    /// The processes that worked on it, oldest first.
    pub sessions: Vec<Session>,
    /// Steps done, as far as they were reported.
    pub step: u64,
    /// The last training loss.
    pub loss: Option<f64>,
    /// Highest exact accuracy on the held-out puzzles, and its step.
    pub best: Option<(u64, f64)>,
    /// The last exact accuracy on the held-out puzzles.
    pub last: Option<f64>,
    /// Sequences per second, the median of the last hundred reports.
    pub examples_per_second: Option<f64>,
    /// The most bytes of memory that one of its processes held.
    pub peak_memory: Option<u64>,
    /// Steps of its checkpoints, oldest first.
    pub checkpoints: Vec<u64>,
    /// The step of the checkpoint marked best.
    pub best_checkpoint: Option<u64>,
}

impl RunSummary {
    /// Whether a folder is a run.
    pub fn is_run(path: &Path) -> bool {
        path.join("config.toml").is_file() && path.join("checkpoints").is_dir()
    }

    /// Sums a run up.
    ///
    /// # Errors
    /// If its files are there but cannot be read.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let history = match History::read(path) {
            Err(RunError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                History::default()
            }
            history => history?,
        };
        let exact = history.series("eval/exact_accuracy");
        let best = exact.iter().copied().fold(None, |best: Option<(u64, f64)>, now| match best {
            Some(best) if best.1 >= now.1 => Some(best),
            _ => Some(now),
        });
        let mut speeds: Vec<f64> =
            history.series("train/examples_per_second").into_iter().map(|(_, v)| v).collect();
        let mut speeds = speeds.split_off(speeds.len().saturating_sub(100));
        speeds.sort_by(f64::total_cmp);
        let folder = path.join("checkpoints");
        let checkpoints =
            checkpoint::list(&folder).map_err(|error| io_at(&folder)(io::Error::other(error)))?;
        Ok(Self {
            path: path.to_owned(),
            sessions: sessions(path),
            step: history.rows.last().map_or(0, |row| row.step),
            loss: history.series("train/loss").last().map(|(_, loss)| *loss),
            best,
            last: exact.last().map(|(_, exact)| *exact),
            examples_per_second: speeds.get(speeds.len() / 2).copied(),
            peak_memory: history.series("train/peak_memory").into_iter().map(|(_, bytes)| bytes as u64).max(),
            checkpoints: checkpoints.into_iter().map(|(step, _)| step).collect(),
            best_checkpoint: checkpoint::best(&folder).map(|best| best.step),
        })
    }

    /// `running`, `finished`, `stopped`, `interrupted`, `failed` or `killed`; empty where nothing is known.
    pub fn state(&self) -> &'static str {
        let Some(session) = self.sessions.last() else { return "" };
        match &session.ended {
            None if session.is_running() => "running",
            None => "killed",
            Some(end) => match end.how.as_str() {
                "Finished" => "finished",
                "StopAfter" => "stopped",
                "Interrupted" => "interrupted",
                _ => "failed",
            },
        }
    }
}
