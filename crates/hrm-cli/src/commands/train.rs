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

use anyhow::{Context, Result, bail};
use burn::tensor::backend::BackendTypes;
use hrm_backend::HrmAutodiffBackend;
use hrm_model::summary::thousands;
use hrm_train::{
    config::ResolvedRecipe,
    evaluate::EvalReport,
    trainer::{self, Ending, EvalRow, Observer, StartReport, StepReport, TrainOptions, TrainSummary},
};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::backend::{self, Job};

/// Without a terminal: a line is printed this often.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Train a model from a recipe
///
/// The run folder gets the resolved recipe (config.toml), every measurement (metrics.jsonl), a readable log
/// (train.log) and checkpoints. Ctrl-C stops after the current step, with a checkpoint; --resume goes on from there
/// as if nothing had happened.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm train --config configs/sudoku-4x4.toml
  hrm train --config configs/sudoku-4x4.toml --run-dir runs/small --set model.hidden_size=64 --set train.seed=3
  hrm train --resume runs/small
  hrm config show --config configs/sudoku-4x4.toml       every value that --set may change")]
pub struct Args {
    /// Recipe to train
    #[arg(long, short, value_name = "FILE", required_unless_present = "resume")]
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
    /// Where to compute [default: the fastest that is compiled in]
    #[arg(long, value_enum, value_name = "B")]
    backend: Option<backend::Name>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let backend = backend::Name::or_best(args.backend)?;
    let (recipe, run_dir, resume) = match &args.resume {
        Some(folder) => {
            if args.run_dir.as_ref().is_some_and(|run_dir| run_dir != folder) {
                bail!("--resume goes on in the folder of the run; leave --run-dir out");
            }
            let run_dir = run_folder(folder)?;
            let recipe = trainer::saved_recipe(&run_dir, &args.set)?;
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
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_ctrl_c(Arc::clone(&stop))?;
    if !args.quiet {
        eprintln!("run {} on {}", run_dir.display(), backend.feature());
    }
    let mut watcher = Watcher::new(args.quiet);
    let summary = backend.run(Training {
        options: TrainOptions { recipe, run_dir: run_dir.clone(), resume, stop },
        observer: &mut watcher,
    });
    watcher.end();
    report(&summary?, &run_dir);
    Ok(ExitCode::SUCCESS)
}

struct Training<'a> {
    options: TrainOptions,
    observer: &'a mut dyn Observer,
}

impl Job for Training<'_> {
    type Output = TrainSummary;

    fn run<A: HrmAutodiffBackend>(self, device: &<A as BackendTypes>::Device) -> Result<TrainSummary> {
        Ok(trainer::train::<A>(self.options, device, self.observer)?)
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
        eprintln!(
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

/// The first Ctrl-C (or termination signal) asks for a stop, the second one does not ask.
fn stop_on_ctrl_c(stop: Arc<AtomicBool>) -> Result<()> {
    ctrlc::set_handler(move || {
        if stop.swap(true, Ordering::SeqCst) {
            eprintln!("\naborted; the run goes on from its last checkpoint with --resume");
            process::exit(130);
        }
        eprintln!("\nstopping after this step, with a checkpoint (press Ctrl-C again to abort)");
    })
    .context("cannot watch for Ctrl-C")
}

fn report(summary: &TrainSummary, run_dir: &Path) {
    let run = run_dir.display();
    match summary.ending {
        Ending::Finished => {
            println!("finished after step {}; checkpoint {}", summary.step, summary.checkpoint.display());
            if let Some(eval) = &summary.eval {
                println!("{}", held_out(eval));
            }
            println!("use it: hrm solve --checkpoint {run}");
        }
        Ending::StopAfter | Ending::Interrupted => {
            println!("stopped after step {}; checkpoint {}", summary.step, summary.checkpoint.display());
            println!("go on with: hrm train --resume {run}");
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

/// Shows progress: a bar on a terminal, a line now and then elsewhere.
struct Watcher {
    quiet: bool,
    bar: Option<ProgressBar>,
    total: u64,
    begin: Instant,
    /// Steps done when this process started, and when it last reported a line.
    first_step: u64,
    last_line: Option<Instant>,
    /// The last step, if no line has shown it yet.
    unshown: Option<String>,
    /// Moving average over the sequences that halted; single steps are noisy.
    exact: Option<f64>,
}

impl Watcher {
    fn new(quiet: bool) -> Self {
        Self {
            quiet,
            bar: None,
            total: 0,
            begin: Instant::now(),
            first_step: 0,
            last_line: None,
            unshown: None,
            exact: None,
        }
    }

    /// A line that stays.
    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    fn end(&mut self) {
        if let Some(line) = self.unshown.take() {
            self.say(&line);
        }
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Watcher {
    fn on_start(&mut self, start: &StartReport) {
        (self.total, self.first_step, self.begin) = (start.total_steps, start.first_step, Instant::now());
        if self.quiet {
            return;
        }
        eprintln!(
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
            let style = ProgressStyle::with_template("{wide_bar:.green} {pos}/{len}  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.bar = Some(bar);
        }
    }

    fn on_step(&mut self, step: &StepReport) {
        if self.quiet {
            return;
        }
        if let Some(exact) = step.exact_accuracy {
            self.exact = Some(self.exact.map_or(exact, |mean| 0.9 * mean + 0.1 * exact));
        }
        let exact = self.exact.map_or_else(|| "-".to_owned(), |exact| format!("{:.1} %", exact * 100.0));
        let done = step.step.saturating_sub(self.first_step);
        let left = self.begin.elapsed().as_secs_f64() / done.max(1) as f64
            * self.total.saturating_sub(step.step) as f64;
        let left = HumanDuration(Duration::from_secs_f64(left));
        let message = format!(
            "loss {:.4}  exact {exact}  {:.0} examples/s  {left} left",
            step.loss, step.examples_per_second
        );
        if let Some(bar) = &self.bar {
            bar.set_position(step.step);
            bar.set_message(message);
            return;
        }
        let line = format!("step {}/{}  {message}", step.step, self.total);
        if self.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
            self.last_line = Some(Instant::now());
            self.unshown = None;
            self.say(&line);
        } else {
            self.unshown = Some(line);
        }
    }

    fn on_eval(&mut self, eval: &EvalRow) {
        if !self.quiet {
            self.say(&format!("step {}  {}", eval.step, held_out(&eval.eval)));
        }
    }

    fn on_message(&mut self, message: &str) {
        if !self.quiet || message.starts_with("warning") {
            self.say(message);
        }
    }
}
