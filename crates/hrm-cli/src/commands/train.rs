//! `hrm train`: a recipe becomes a model.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use hrm_data::registry::Family;
use hrm_infer::evaluate::EvalReport;
use hrm_model::summary::thousands;
use hrm_train::{
    checkpoint::{self, Best},
    recipe::{DataConfig, ResolvedRecipe},
    trainer::{self, Ending, EvalRow, Observer, StartReport, StepReport, TrainOptions, TrainSummary},
};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::{
    backend::BackendArgs,
    terminal::{Working, bytes, sparkline},
    workers::{self, Role},
};
#[cfg(feature = "nccl")]
use hrm_engine::nccl;
#[cfg(feature = "mpi")]
use {crate::workers::processes, std::rc::Rc};

/// Without a terminal: a line is printed this often.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Train a model from a recipe
///
/// The run folder gets the resolved recipe (config.toml), the machine, source and command (environment.json), every
/// measurement (metrics.jsonl, and for TensorBoard events.out.tfevents.*), a readable log (train.log), curves and
/// checkpoints. Ctrl-C stops after the current step, with a checkpoint; --resume goes on from there as if nothing had
/// happened.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm train configs/sudoku-4x4.toml
  hrm train configs/sudoku-4x4.toml --run-dir runs/small --set model.hidden_size=64 --set train.seed=3
  hrm train --resume runs/small
  hrm train configs/sudoku-4x4.toml --workers 2         two processes, the same steps
  tensorboard --logdir runs                              watch runs in a browser
  hrm config show --config configs/sudoku-4x4.toml       every value that --set may change")]
pub struct Args {
    /// Recipe to train
    #[arg(value_name = "RECIPE", required_unless_present_any = ["resume", "config"], conflicts_with = "config")]
    recipe: Option<PathBuf>,
    /// The same as a flag
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the run [default: runs/ and the recipe's name]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Override a value of the recipe, for example --set train.max_steps=500 (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Go on with the run in this folder, from its newest checkpoint and with its own recipe
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// No progress, only warnings and how it ended
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    workers: workers::Args,
}

/// Says what else may have been meant by a recipe that is no file.
fn check_recipe(recipe: &Path) -> Result<()> {
    let shown = recipe.display();
    if recipe.is_dir() {
        bail!(
            "{shown}: expected a recipe, a .toml file, got a folder; to go on with the run in it: hrm train --resume {shown}"
        );
    }
    if recipe.exists() {
        return Ok(());
    }
    if shown.to_string().contains('=') {
        bail!("expected a recipe, a .toml file, got {shown}; values of a recipe are set by --set {shown}");
    }
    let named = |folder: &str| Path::new(folder).join(recipe.with_extension("toml"));
    match ["", "configs"].into_iter().map(named).find(|path| path.is_file()) {
        Some(path) => bail!("{shown}: no such file; did you mean {}?", path.display()),
        None => Ok(()),
    }
}

/// Runs the command.
pub fn run(mut args: Args) -> Result<ExitCode> {
    if let Some(recipe) = args.recipe.take() {
        check_recipe(&recipe)?;
        args.config = Some(recipe);
    }
    let backend = args.backend.choose()?;
    let (recipe, run_dir, resume) = match &args.resume {
        Some(folder) => {
            if args.run_dir.as_ref().is_some_and(|run_dir| run_dir != folder) {
                bail!("--resume goes on in the folder of the run; leave --run-dir out");
            }
            let run_dir = run_folder(folder)?;
            let recipe = trainer::saved_recipe(&run_dir, &args.set)?;
            if args.set.iter().any(|set| set.trim_start().starts_with("train.max_steps")) {
                longer(&run_dir, &recipe)?;
            }
            if let Some(config) = &args.config {
                note_differences(&recipe, config, &args.set)?;
            }
            (recipe, run_dir, true)
        }
        None => {
            let recipe = ResolvedRecipe::load(args.config.as_deref(), &args.set)?;
            let run_dir = args.run_dir.clone().unwrap_or_else(|| free_run_dir(args.config.as_deref()));
            (recipe, run_dir, false)
        }
    };
    let role = args.workers.role(backend, args.run_dir.as_deref().or(args.resume.as_deref()))?;
    let stop = Arc::new(AtomicBool::new(false));
    let options = TrainOptions { recipe, run_dir: run_dir.clone(), resume, stop: Arc::clone(&stop) };
    let data = options.recipe.recipe.data.clone();
    let mut watcher = Watcher { quiet: args.quiet, ..Watcher::default() };
    let say_where = |who: &str| {
        if !args.quiet {
            note!("run {} on {}{who}", run_dir.display(), backend.feature());
        }
    };
    let summary = match role {
        Role::Alone { device } => {
            stop_on_ctrl_c(stop)?;
            say_where("");
            watcher.preparing = (!args.quiet).then(|| Working::on("preparing the data"));
            let engine = backend.open(device).map_err(anyhow::Error::from);
            engine.and_then(|engine| Ok(engine.train(options, &mut watcher)?))
        }
        #[cfg(feature = "mpi")]
        Role::Launcher { workers } => {
            if !resume {
                processes::check_free(&run_dir)?;
            }
            return processes::launch(workers, &run_dir, !resume && args.run_dir.is_none());
        }
        #[cfg(feature = "mpi")]
        Role::Worker => {
            let (mpi, place) = args.workers.join()?;
            let (worker, workers) = mpi.worker_of();
            processes::stop_on_signal(stop);
            let mut silent = ();
            let observer: &mut dyn Observer = if worker == 0 { &mut watcher } else { &mut silent };
            if worker == 0 {
                say_where(&format!(" by {workers} workers"));
            }
            let result = args.workers.device(place).and_then(|device| {
                Ok(backend.open(device)?.train_over_mpi(options, Rc::clone(&mpi), observer)?)
            });
            match result {
                Ok(_) if worker > 0 => return Ok(ExitCode::SUCCESS),
                Err(error) => {
                    watcher.end();
                    return Ok(processes::fail(&mpi, worker == 0, &error));
                }
                summary => summary,
            }
        }
        #[cfg(feature = "nccl")]
        Role::Threads { devices } => {
            stop_on_ctrl_c(stop)?;
            say_where(&format!(" by {} workers", devices.len()));
            nccl::devices(&devices).map_err(anyhow::Error::from).and_then(|devices| {
                Ok(nccl::train(devices, options, &mut watcher, crate::terminal::report_error)?)
            })
        }
    };
    watcher.end();
    let summary = match summary {
        Err(error) if watcher.started.is_some() => return Err(error.context(way_on(&run_dir))),
        Err(error) => return Err(with_advice(error, &data)),
        Ok(summary) => summary,
    };
    report(&summary, &run_dir, data.task);
    Ok(ExitCode::SUCCESS)
}

/// A resumed run cannot be made longer: its learning rate has followed a schedule that ends with its last step.
fn longer(run_dir: &Path, asked: &ResolvedRecipe) -> Result<()> {
    let run = run_dir.display();
    let before = trainer::saved_recipe(run_dir, &[])?.recipe.train.max_steps;
    let now = asked.recipe.train.max_steps;
    if now == before {
        return Ok(());
    }
    let more = now.saturating_sub(before).max(1);
    bail!(
        "--set train.max_steps={now}: the run was planned for {before} steps, and its learning rate falls towards the last of \
         them; train on from its weights instead, with a schedule of its own: \
         hrm train --config {run}/config.toml --set train.init_from={run} --set train.max_steps={more} --run-dir {run}-longer"
    )
}

/// An error, with where data come from if some are not there.
fn with_advice(error: anyhow::Error, data: &DataConfig) -> anyhow::Error {
    let named = [&data.path, &data.test_path].into_iter().chain(&data.extra_paths);
    match named.into_iter().find(|path| !path.is_empty() && !Path::new(path).exists()) {
        None => error,
        Some(path) => anyhow!(
            "{}; {path} is not here: `hrm data download` fetches published sets, datasets/README.md says what goes where, and --set \
             data.path=... names another place",
            crate::message(&error)
        ),
    }
}

/// The run that a path means: its folder, or one of its checkpoints.
fn run_folder(path: &Path) -> Result<PathBuf> {
    if path.join("config.toml").is_file() {
        return Ok(path.to_owned());
    }
    // RUN/checkpoints/step-N
    if let Some(run) = path.ancestors().nth(2).filter(|run| run.join("config.toml").is_file()) {
        bail!(
            "--resume {}: a run goes on from its newest checkpoint; give the run folder: --resume {}",
            path.display(),
            run.display()
        );
    }
    if !path.exists() {
        bail!("--resume {}: no such folder", path.display());
    }
    bail!("--resume {}: no run here; expected a folder with config.toml and checkpoints", path.display())
}

/// A resumed run keeps its recipe; a recipe given as well that says something else deserves a word.
fn note_differences(recipe: &ResolvedRecipe, config: &Path, sets: &[String]) -> Result<()> {
    let given = ResolvedRecipe::load(Some(config), sets)?;
    let differences = recipe.differences(&given);
    let keys: Vec<String> = differences
        .into_iter()
        .filter(|(key, ..)| key != "train.stop_after")
        .map(|(key, ours, theirs)| format!("{key} = {ours} (not {theirs})"))
        .collect();
    if !keys.is_empty() {
        note!(
            "note: the run goes on with its own recipe, which differs from {}: {}",
            config.display(),
            keys.join(", ")
        );
    }
    Ok(())
}

/// `runs/sudoku-4x4`, or the first of `runs/sudoku-4x4-2`, ... that is free.
fn free_run_dir(config: Option<&Path>) -> PathBuf {
    let name = config.and_then(Path::file_stem).map_or_else(|| "run".into(), |stem| stem.to_string_lossy());
    let folder = |n: usize| match n {
        1 => Path::new("runs").join(&*name),
        n => Path::new("runs").join(format!("{name}-{n}")),
    };
    let mut n = 1;
    while folder(n).exists() {
        n += 1;
    }
    folder(n)
}

/// Whether the first step may have begun.
static STARTED: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C (or termination signal) asks for a stop, the second one does not ask. Before there is a step to finish, the first
/// one ends the program.
fn stop_on_ctrl_c(stop: Arc<AtomicBool>) -> Result<()> {
    ctrlc::set_handler(move || {
        if !STARTED.load(Ordering::SeqCst) {
            note!("\nstopped before the first step");
            process::exit(130);
        }
        if stop.swap(true, Ordering::SeqCst) {
            note!("\naborted; the run goes on from its last checkpoint with --resume");
            process::exit(130);
        }
        note!("\nstopping after this step, with a checkpoint (press Ctrl-C again to abort)");
    })
    .context("cannot watch for Ctrl-C")
}

/// What to say when a training that was under way fails.
fn way_on(run_dir: &Path) -> String {
    let newest = checkpoint::list(&run_dir.join("checkpoints")).ok().and_then(|mut all| all.pop());
    let kept = match newest {
        Some((step, _)) => format!("all steps up to {step} are in a checkpoint"),
        None => "there is no checkpoint yet".to_owned(),
    };
    format!("training stopped; {kept}; once the cause is gone: hrm train --resume {}", run_dir.display())
}

fn report(summary: &TrainSummary, run_dir: &Path, task: Family) {
    let run = run_dir.display();
    match summary.ending {
        Ending::Finished | Ending::EarlyStopped => {
            let how = match summary.ending {
                Ending::EarlyStopped => "stopped early, as evaluations got no better,",
                _ => "finished",
            };
            say!("{how} after step {}; checkpoint {}", summary.step, summary.checkpoint.display());
            if let Some(eval) = &summary.eval {
                say!("{}", held_out(eval));
            }
            let best = checkpoint::best(&run_dir.join("checkpoints"));
            if let Some(Best { step, metric, value }) = best.filter(|best| best.step != summary.step) {
                say!(
                    "the best checkpoint, which the run stands for, is that of step {step}: {metric} {value:.4}"
                );
            }
            match task {
                _ if !task.has_rules() => say!("measure it: hrm eval --checkpoint {run}"),
                _ if task == Family::default() => say!("use it: hrm solve --checkpoint {run}"),
                _ => say!("use it: hrm solve --task {task} --checkpoint {run} PUZZLE"),
            }
        }
        Ending::StopAfter | Ending::Interrupted => {
            say!("stopped after step {}; checkpoint {}", summary.step, summary.checkpoint.display());
            say!("go on with: hrm train --resume {run}");
        }
    }
}

fn held_out(eval: &EvalReport) -> String {
    let by_rules: String =
        eval.task.rows().iter().map(|(name, share)| format!(", {:.2} % {name}", share * 100.0)).collect();
    format!(
        "held-out: {:.2} % exact{by_rules}, {:.2} % of cells, loss {:.4}, halting right {:.1} % ({} puzzles, {:.1} s)",
        eval.exact_accuracy * 100.0,
        eval.token_accuracy * 100.0,
        eval.lm_loss,
        eval.q_halt_accuracy * 100.0,
        eval.examples,
        eval.seconds
    )
}

/// Shows progress: a view that is redrawn on a terminal, a line now and then elsewhere.
#[derive(Default)]
struct Watcher {
    quiet: bool,
    started: Option<Instant>,
    bar: Option<ProgressBar>,
    preparing: Option<Working>,
    total: u64,
    /// Steps done when this process started, and when it last reported a line.
    first_step: u64,
    last_line: Option<Instant>,
    /// The last step, if no line has shown it yet.
    unshown: Option<String>,
    has_puzzle_embedding: bool,
    halted: Halted,
    losses: Course,
    exact: Course,
    /// Step and exact accuracy of the last evaluation, and of the best one.
    evaluated: Option<(u64, f64)>,
    best: Option<(u64, f64)>,
}

/// Moving averages over the sequences that halted; single steps are noisy.
#[derive(Default)]
struct Halted {
    exact: Average,
    cells: Average,
    steps: Average,
    q_right: Average,
}

#[derive(Default)]
struct Average(Option<f64>);

impl Average {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.0 = Some(self.0.map_or(value, |mean| 0.9 * mean + 0.1 * value));
        }
    }

    fn percent(&self) -> String {
        self.0.map_or_else(|| "-".to_owned(), |mean| format!("{:.1} %", mean * 100.0))
    }

    fn number(&self) -> String {
        self.0.map_or_else(|| "-".to_owned(), |mean| format!("{mean:.1}"))
    }
}

/// What a number was from the beginning on, in a bounded number of means.
#[derive(Default)]
struct Course {
    means: Vec<f64>,
    /// Values in each mean.
    each: usize,
    /// Sum and number of those that make the next one.
    next: (f64, usize),
}

impl Course {
    const MOST: usize = 512;

    fn add(&mut self, value: f64) {
        self.each = self.each.max(1);
        self.next = (self.next.0 + value, self.next.1 + 1);
        if self.next.1 < self.each {
            return;
        }
        self.means.push(self.next.0 / self.each as f64);
        self.next = (0.0, 0);
        if self.means.len() == Self::MOST {
            self.means = self.means.chunks(2).map(|pair| pair.iter().sum::<f64>() / 2.0).collect();
            self.each *= 2;
        }
    }
}

impl Watcher {
    /// A line that stays.
    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => note!("{line}"),
        }
    }

    fn end(&mut self) {
        self.preparing = None;
        if let Some(line) = self.unshown.take() {
            self.say(&line);
        }
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn learning_rates(&self, step: &StepReport) -> String {
        match self.has_puzzle_embedding {
            true => format!("{:.1e} (puzzles {:.1e})", step.lr, step.puzzle_emb_lr),
            false => format!("{:.1e}", step.lr),
        }
    }

    /// What there is to know, in lines of so many columns at most.
    fn view(&self, step: &StepReport, left: &HumanDuration, columns: usize) -> String {
        let Halted { exact, cells, steps, q_right } = &self.halted;
        let curve = |course: &Course| sparkline(&course.means, columns.saturating_sub(LABEL).min(64));
        let mut lines = vec![
            (
                "loss",
                vec![
                    format!("{:.4}", step.loss),
                    format!("cells {:.4}", step.lm_loss),
                    format!("halting {:.4}", step.q_halt_loss),
                    format!("continuing {:.4}", step.q_continue_loss),
                ],
            ),
            ("", vec![curve(&self.losses)]),
            (
                "halted",
                vec![
                    format!("exact {}", exact.percent()),
                    format!("cells {}", cells.percent()),
                    format!("steps {}", steps.number()),
                    format!("q_halt right {}", q_right.percent()),
                ],
            ),
            ("", vec![curve(&self.exact)]),
        ];
        let mut speed = vec![
            format!("{:.0} puzzles/s", step.examples_per_second),
            format!("learning rate {}", self.learning_rates(step)),
        ];
        speed.extend(step.memory.map(|m| format!("memory {}", bytes(m.memory))));
        lines.push(("speed", speed));
        lines.push(("time", vec![format!("{left} left"), format!("epoch {:.1}", step.epoch)]));
        if let (Some((at, exact)), Some((best_at, best))) = (self.evaluated, self.best) {
            lines.push((
                "held out",
                vec![
                    format!("exact {:.2} % at step {at}", exact * 100.0),
                    format!("best {:.2} % at step {best_at}", best * 100.0),
                ],
            ));
        }
        panel(&lines, columns)
    }

    fn line(&self, step: &StepReport, left: &HumanDuration) -> String {
        let Halted { exact, steps, q_right, .. } = &self.halted;
        let memory = step.memory.map_or_else(String::new, |m| format!("  {}", bytes(m.memory)));
        format!(
            "step {}/{}  loss {:.4}  exact {}  steps {}  q_halt right {}  lr {}  {:.0} puzzles/s{memory}  {left} left",
            step.step,
            self.total,
            step.loss,
            exact.percent(),
            steps.number(),
            q_right.percent(),
            self.learning_rates(step),
            step.examples_per_second,
        )
    }
}

/// Columns of what stands before a line of the panel.
const LABEL: usize = 11;

/// Lines of a label and what belongs to it, broken where the columns end.
fn panel(lines: &[(&str, Vec<String>)], columns: usize) -> String {
    let mut out: Vec<String> = Vec::new();
    for (label, parts) in lines {
        let mut line = format!("{label:<LABEL$}");
        let mut is_empty = true;
        for part in parts {
            if !is_empty && line.chars().count() + 2 + part.chars().count() > columns {
                out.push(std::mem::replace(&mut line, " ".repeat(LABEL)));
                is_empty = true;
            }
            if !is_empty {
                line.push_str("  ");
            }
            line.push_str(part);
            is_empty = false;
        }
        out.push(line);
    }
    out.join("\n")
}

impl Observer for Watcher {
    fn on_start(&mut self, start: &StartReport) {
        self.preparing = None;
        STARTED.store(true, Ordering::SeqCst);
        self.started = Some(Instant::now());
        (self.total, self.first_step) = (start.total_steps, start.first_step);
        self.has_puzzle_embedding = start.model.puzzle_emb_ndim > 0;
        if self.quiet {
            return;
        }
        note!(
            "{} parameters, {} training and {} held-out puzzles, {} steps of {}{}",
            thousands(start.parameters),
            thousands(start.train_examples),
            thousands(start.test_examples),
            thousands(start.total_steps as usize),
            thousands(start.batch_size),
            if start.first_step > 0 {
                format!(", from step {}", start.first_step + 1)
            } else {
                String::new()
            }
        );
        if io::stderr().is_terminal() {
            let bar = ProgressBar::new(start.total_steps);
            let style = ProgressStyle::with_template("step       {pos}/{len}  {wide_bar:.green}\n{msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_position(start.first_step);
            self.bar = Some(bar);
        }
    }

    fn on_step(&mut self, step: &StepReport) {
        if self.quiet {
            return;
        }
        self.halted.exact.add(step.exact_accuracy);
        self.halted.cells.add(step.accuracy);
        self.halted.steps.add(step.mean_steps);
        self.halted.q_right.add(step.q_halt_accuracy);
        self.losses.add(step.loss);
        if let Some(exact) = self.halted.exact.0 {
            self.exact.add(exact);
        }
        let done = step.step.saturating_sub(self.first_step);
        let left = self.started.map_or(0.0, |start| start.elapsed().as_secs_f64()) / done.max(1) as f64
            * self.total.saturating_sub(step.step) as f64;
        let left = HumanDuration(Duration::from_secs_f64(left));
        if let Some(bar) = &self.bar {
            bar.set_position(step.step);
            // The bar itself asks for the width each time, the lines below it do so here.
            let columns = console::Term::stderr().size_checked().map_or(80, |(_, columns)| columns.into());
            bar.set_message(self.view(step, &left, columns));
            return;
        }
        let line = self.line(step, &left);
        if self.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
            self.last_line = Some(Instant::now());
            self.unshown = None;
            self.say(&line);
        } else {
            self.unshown = Some(line);
        }
    }

    fn on_eval(&mut self, eval: &EvalRow) {
        let now = (eval.step, eval.eval.exact_accuracy);
        self.evaluated = Some(now);
        if self.best.is_none_or(|(_, best)| now.1 > best) {
            self.best = Some(now);
        }
        if !self.quiet {
            self.say(&format!("step {}  {}", eval.step, held_out(&eval.eval)));
        }
    }

    fn on_message(&mut self, message: &str) {
        self.preparing = None;
        if !self.quiet || message.starts_with("warning") {
            self.say(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_fits_its_columns() {
        let parts = |n: usize| (0..n).map(|i| format!("part number {i}")).collect::<Vec<_>>();
        let lines = [("loss", parts(5)), ("", vec!["▁▂▃".to_owned()]), ("halted", parts(2))];
        for columns in 60..=200 {
            let text = panel(&lines, columns);
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{columns}: {text}");
            assert_eq!(text.matches("part number").count(), 7);
        }
        assert_eq!(panel(&lines, 200).lines().count(), 3);
        assert!(panel(&lines, 60).lines().count() > 3);
    }

    #[test]
    fn a_course_stays_small_and_keeps_its_mean() {
        let mut course = Course::default();
        for value in 0..100_000 {
            course.add(f64::from(value));
        }
        assert!(course.means.len() < Course::MOST);
        assert!(course.means.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(course.means[0], (course.each - 1) as f64 / 2.0);
    }
}
