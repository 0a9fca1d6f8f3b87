//! The run directory. It holds
//! - `config.toml`: the resolved recipe with the origin of each value, and `config.step-N.toml`: what it was up to step N, if
//!   values were changed when the run was resumed then;
//! - `environment.json`: machine, program, source and command of each process that worked on it;
//! - `metrics.jsonl`: every measurement, flushed with each checkpoint, and the same for TensorBoard in
//!   `events.out.tfevents.*`;
//! - `train.log`: what happened, to read;
//! - `curves.svg` and `curves.png`: the measurements as pictures, drawn when a process ends;
//! - `checkpoints`: see [`crate::checkpoint`];
//! - `diagnostics`: the state of steps that went wrong, see [`crate::step::Guard`];
//! - `lock`: which process works on it, see [`RunLock`].

pub mod curves;
pub mod environment;
pub mod events;
pub mod history;
mod lock;
mod metrics;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use self::{
    curves::CurveOptions,
    environment::{Session, SessionEnd, memory},
    events::EventWriter,
    history::History,
    metrics::Tally,
};
use crate::{
    checkpoint,
    disk::{self, Log},
    recipe::ResolvedRecipe,
};

pub use lock::RunLock;
pub use metrics::Written;

pub(crate) const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const ENVIRONMENT: &str = "environment.json";

/// What can go wrong with a run directory.
#[derive(Debug, Error)]
pub enum RunError {
    /// A file cannot be read or written.
    #[error("run directory: {path}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is another run already.
    #[error("{path} already holds a run; continue it with --resume {path}, or choose another --run-dir")]
    Occupied {
        /// Which folder.
        path: PathBuf,
    },
    /// There are checkpoints, but the recipe is gone.
    #[error(
        "{path} has checkpoints but no {CONFIG}, so no run can go on there; choose another --run-dir, or put the \
         {CONFIG} of the run back"
    )]
    NoConfig {
        /// Which folder.
        path: PathBuf,
    },
    /// Another process works on it.
    #[error("{path} is in use by {holder}; one process at a time can work on a run")]
    Locked {
        /// Which folder.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// It is not where it was when the process began.
    #[error(
        "{path} was moved, removed or replaced while the run wrote to it; where it is now, the run goes on from its \
         last checkpoint: hrm train --resume FOLDER"
    )]
    Gone {
        /// Which file or folder.
        path: PathBuf,
    },
}

/// A run directory, open for writing.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// `None` for one that is only looked at.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    lock: RunLock,
    metrics: Log,
    tally: Tally,
    events: EventWriter,
    log: Log,
    sessions: Vec<Session>,
}

/// What a resumed run goes on from.
#[derive(Debug)]
pub struct Resumed<'a> {
    /// Steps done.
    pub step: u64,
    /// Whether it evaluates that step again.
    pub evaluates_again: bool,
    /// What the checkpoint knows of `metrics.jsonl`.
    pub metrics: Option<&'a Written>,
}

impl RunDir {
    /// Makes the folder of a new run on a backend.
    ///
    /// # Errors
    /// If it holds a run already or cannot be written to.
    pub fn create(path: &Path, recipe: &ResolvedRecipe, backend: &str) -> Result<Self, RunError> {
        if path.join(CONFIG).exists() {
            return Err(RunError::Occupied { path: path.to_owned() });
        }
        fs::create_dir_all(path).map_err(io_at(path))?;
        // And looked at again: another process may have begun here too.
        let lock = RunLock::take(path)?;
        if path.join(CONFIG).exists() {
            return Err(RunError::Occupied { path: path.to_owned() });
        }
        // A folder without checkpoints is what a kill before the first word of a run leaves.
        let checkpoints = path.join("checkpoints");
        match checkpoint::list(&checkpoints) {
            Ok(all) if !all.is_empty() => return Err(RunError::NoConfig { path: path.to_owned() }),
            Ok(_) => {}
            Err(_) => disk::create_folder(&checkpoints)
                .and_then(|()| disk::flush_folder(path))
                .map_err(io_at(&checkpoints))?,
        }
        // Last: a folder with it is a run.
        write_config(path, recipe)?;
        if let Some(parent) = path.parent() {
            disk::flush_folder(parent).map_err(io_at(parent))?;
        }
        let session = Session::of_this_process(backend, recipe.train.seed, 0);
        Self::open(path, lock, session, Tally::default())
    }

    /// Goes on with a run: rows of `metrics.jsonl` beyond its checkpoint, which a killed run may have written after it, are
    /// dropped, as they will be written again. A recipe with other values than the run's takes the place of that one,
    /// which is kept beside it. Gives warnings of what is damaged or missing.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub fn resume(
        path: &Path,
        lock: RunLock,
        from: &Resumed<'_>,
        recipe: &ResolvedRecipe,
        backend: &str,
    ) -> Result<(Self, Vec<String>), RunError> {
        replace_config(path, from.step, recipe)?;
        let (warnings, tally) = metrics::restore(path, from.step, from.evaluates_again, from.metrics)?;
        let session = Session::of_this_process(backend, recipe.train.seed, from.step);
        Ok((Self::open(path, lock, session, tally)?, warnings))
    }

    fn open(path: &Path, lock: RunLock, session: Session, tally: Tally) -> Result<Self, RunError> {
        let append = |name: &str| {
            let file = path.join(name);
            Log::open(&file).map_err(io_at(&file))
        };
        let events = EventWriter::create(path, session.first_step + 1).map_err(io_at(path))?;
        let mut sessions = sessions(path);
        sessions.push(session);
        let open =
            Open { lock, metrics: append(METRICS)?, tally, events, log: append("train.log")?, sessions };
        let run = Self { path: path.to_owned(), open: Some(open) };
        run.write_sessions()?;
        Ok(run)
    }

    /// The directory for a worker that leaves the writing to another one: whatever it is told, it drops.
    pub fn of_another_worker(path: &Path) -> Self {
        Self { path: path.to_owned(), open: None }
    }

    /// Notes what is known once the model stands: how far the run goes, and how large the model is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn begin(&mut self, total_steps: u64, parameters: usize) -> Result<(), RunError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Some(session) = open.sessions.last_mut() {
            (session.total_steps, session.parameters) = (total_steps, parameters);
        }
        self.write_sessions()
    }

    /// Notes how the process ended, and draws the curves.
    ///
    /// # Errors
    /// If something cannot be written.
    pub fn end(&mut self, step: u64, how: &str) -> Result<(), RunError> {
        self.check_in_place()?;
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Some(session) = open.sessions.last_mut() {
            let time = timestamp(SystemTime::now());
            let peak_memory = memory().map(|memory| memory.peak_memory);
            session.ended = Some(SessionEnd { time, step, how: how.to_owned(), peak_memory });
        }
        self.write_sessions()?;
        self.draw_curves()
    }

    fn draw_curves(&self) -> Result<(), RunError> {
        let history = History::read(&self.path)?;
        let title = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let options = CurveOptions { title: title.clone(), ..CurveOptions::default() };
        let Some(picture) = curves::picture(&[(title, history)], &options) else { return Ok(()) };
        let (svg, png) = (self.path.join("curves.svg"), self.path.join("curves.png"));
        disk::replace(&svg, picture.svg().as_bytes()).map_err(io_at(&svg))?;
        let bytes = picture.png(2.0).map_err(io::Error::other).map_err(io_at(&png))?;
        disk::replace(&png, &bytes).map_err(io_at(&png))
    }

    fn write_sessions(&self) -> Result<(), RunError> {
        let Some(open) = &self.open else { return Ok(()) };
        let path = self.path.join(ENVIRONMENT);
        let json =
            serde_json::to_vec_pretty(&open.sessions).map_err(io::Error::other).map_err(io_at(&path))?;
        disk::replace(&path, &json).map_err(io_at(&path))
    }

    /// Makes sure that what is written goes where the run is.
    fn check_in_place(&self) -> Result<(), RunError> {
        match &self.open {
            Some(open) if !open.lock.is_in_place() => Err(RunError::Gone { path: self.path.clone() }),
            Some(open) if !open.metrics.is_in_place() => {
                Err(RunError::Gone { path: self.path.join(METRICS) })
            }
            _ => Ok(()),
        }
    }

    /// Flushes what was measured, before a checkpoint counts on it; gives what `metrics.jsonl` is now.
    ///
    /// # Errors
    /// If it cannot be written, or the run is no longer where it was.
    pub fn flush(&mut self) -> Result<Option<Written>, RunError> {
        self.check_in_place()?;
        let Some(open) = &self.open else { return Ok(None) };
        let path = self.path.join(METRICS);
        open.metrics.flush().map_err(io_at(&path))?;
        disk::flush_folder(&self.path).map_err(io_at(&self.path))?;
        Ok(Some(open.tally.written()))
    }

    /// Where the run lives.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its checkpoints live.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Where states of steps that went wrong go.
    pub fn diagnostics(&self) -> PathBuf {
        self.path.join("diagnostics")
    }

    /// Appends a row to `metrics.jsonl`, and its numbers to the event file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn metrics(&mut self, row: &impl Serialize) -> Result<(), RunError> {
        self.check_in_place()?;
        let Some(open) = &mut self.open else { return Ok(()) };
        let path = self.path.join(METRICS);
        let encoding = |error| io_at(&path)(io::Error::other(error));
        let mut line = serde_json::to_string(row).map_err(encoding)?;
        let value: Value = serde_json::from_str(&line).map_err(encoding)?;
        line.push('\n');
        open.metrics.append(line.as_bytes()).map_err(io_at(&path))?;
        open.tally.add(line.as_bytes());
        let scalars = history::scalars(&value);
        let scalars = scalars.iter().map(|(tag, value)| (tag.as_str(), *value));
        let step = value["step"].as_u64().unwrap_or(0);
        open.events.scalars(step, scalars).map_err(io_at(&self.path.join("events.out.tfevents")))
    }

    /// Appends a line with the time to `train.log`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn log(&mut self, message: &str) -> Result<(), RunError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let path = self.path.join("train.log");
        let line = format!("{} {message}\n", timestamp(SystemTime::now()));
        open.log.append(line.as_bytes()).map_err(io_at(&path))
    }
}

fn write_config(run: &Path, recipe: &ResolvedRecipe) -> Result<(), RunError> {
    let config = run.join(CONFIG);
    disk::replace(&config, recipe.to_toml().as_bytes()).map_err(io_at(&config))
}

/// Puts a recipe that was changed after a step in the place of the run's, and keeps the former one.
fn replace_config(run: &Path, step: u64, recipe: &ResolvedRecipe) -> Result<(), RunError> {
    let config = run.join(CONFIG);
    let former = fs::read_to_string(&config).map_err(io_at(&config))?;
    let changed = ResolvedRecipe::saved(&config, &former, &[]).map(|before| before.differences(recipe));
    let changed = changed.map_err(io::Error::other).map_err(io_at(&config))?;
    if changed.is_empty() {
        return Ok(());
    }
    // Killed before the next checkpoint and changed again, it is still the first one that made the steps until then.
    let kept = run.join(format!("config.step-{step}.toml"));
    if step > 0 && !kept.exists() && changed.iter().any(|(key, ..)| key != "train.stop_after") {
        disk::replace(&kept, former.as_bytes()).map_err(io_at(&kept))?;
    }
    write_config(run, recipe)
}

/// The processes that have worked on a run; none where the file is absent or not readable: it is a record for people,
/// and nothing that a run depends on.
fn sessions(path: &Path) -> Vec<Session> {
    let text = disk::read(&path.join(ENVIRONMENT)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> RunError + use<> {
    let path = path.to_owned();
    move |source| RunError::Io { path: path.clone(), source }
}

/// UTC as `2026-11-23T23:08:00Z`, from the civil calendar's arithmetic on days.
pub fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timestamps_are_civil() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_475_280), "2026-11-23T23:08:00Z");
    }

    #[test]
    fn resuming_drops_what_will_be_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = ResolvedRecipe::from_recipe(crate::recipe::Recipe::default());
        let mut run = RunDir::create(dir.path(), &recipe, "test").unwrap();
        for step in 1..=5 {
            run.metrics(&serde_json::json!({ "step": step })).unwrap();
        }
        drop(run);
        assert!(matches!(RunDir::create(dir.path(), &recipe, "test"), Err(RunError::Occupied { .. })));
        // A line cut short by a kill goes too.
        let file = dir.path().join("metrics.jsonl");
        let mut text = fs::read_to_string(&file).unwrap();
        text.push_str("{\"step\": 6, \"lo");
        fs::write(&file, text).unwrap();
        let lock = RunLock::take(dir.path()).unwrap();
        let told = RunLock::take(dir.path()).unwrap_err().to_string();
        assert!(told.contains(&format!("in use by process {}", std::process::id())), "{told}");
        let from = Resumed { step: 3, evaluates_again: false, metrics: None };
        let (mut run, _) = RunDir::resume(dir.path(), lock, &from, &recipe, "test").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");

        // What is known of the processes, and what their rows make of a curve.
        run.begin(9, 1234).unwrap();
        run.metrics(&serde_json::json!({ "step": 4, "loss": 0.5, "eval": { "exact_accuracy": 0.25 } }))
            .unwrap();
        run.end(4, "StopAfter").unwrap();
        let sessions = sessions(dir.path());
        assert_eq!(sessions.len(), 2);
        assert_eq!((sessions[0].first_step, sessions[0].ended.as_ref()), (0, None));
        assert_eq!((sessions[1].first_step, sessions[1].total_steps, sessions[1].parameters), (3, 9, 1234));
        assert_eq!(sessions[1].ended.as_ref().map(|end| end.step), Some(4));
        let history = History::read(dir.path()).unwrap();
        assert_eq!(history.tags(), ["eval/exact_accuracy", "train/loss"]);
        assert_eq!(history.series("eval/exact_accuracy"), [(4, 0.25)]);
        assert_eq!(run.flush().unwrap().unwrap().bytes, fs::metadata(&file).unwrap().len());
        for (picture, start) in [("curves.svg", &b"<svg"[..]), ("curves.png", b"\x89PNG")] {
            assert!(fs::read(dir.path().join(picture)).unwrap().starts_with(start));
        }
    }
    #[test]
    fn a_folder_that_goes_away_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let recipe = ResolvedRecipe::from_recipe(crate::recipe::Recipe::default());
        let begin = |name: &str| RunDir::create(&root.path().join(name), &recipe, "test").unwrap();
        let row = serde_json::json!({ "step": 1 });
        #[track_caller]
        fn assert_gone(error: Result<(), RunError>) {
            assert!(matches!(error, Err(RunError::Gone { .. })), "{error:?}");
        }

        let mut moved = begin("moved");
        moved.metrics(&row).unwrap();
        fs::rename(root.path().join("moved"), root.path().join("elsewhere")).unwrap();
        assert_gone(moved.metrics(&row));
        assert_gone(moved.flush().map(|_| ()));
        // Another run in its place is not it.
        let _other = begin("moved");
        assert_gone(moved.metrics(&row));
        assert_gone(moved.end(1, "Finished"));

        let mut removed = begin("removed");
        fs::remove_dir_all(root.path().join("removed")).unwrap();
        assert_gone(removed.metrics(&row));
        assert!(!root.path().join("removed").exists());

        let mut lost = begin("lost");
        fs::remove_file(root.path().join("lost").join(METRICS)).unwrap();
        assert_gone(lost.metrics(&row));
    }

    #[test]
    fn a_folder_that_is_no_run_yet() {
        let root = tempfile::tempdir().unwrap();
        let recipe = ResolvedRecipe::from_recipe(crate::recipe::Recipe::default());
        fs::create_dir_all(root.path().join("checkpoints")).unwrap();
        drop(RunDir::create(root.path(), &recipe, "test").unwrap());
        fs::create_dir_all(root.path().join("checkpoints/step-3")).unwrap();
        fs::remove_file(root.path().join(CONFIG)).unwrap();
        let told = RunDir::create(root.path(), &recipe, "test").unwrap_err().to_string();
        assert!(told.contains("no config.toml") && !told.contains("--resume"), "{told}");
    }
}
