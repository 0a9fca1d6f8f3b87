//! `hrm report`: a run on one page.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use hrm_data::{reader::Puzzle, registry::Shape, render::Picture};
use hrm_infer::{InferOptions, Query};
use hrm_model::summary::thousands;
use hrm_train::{
    data,
    recipe::ResolvedRecipe,
    run::{
        curves::{self, CurveOptions},
        environment::Session,
        history::{History, RunSummary},
    },
};

use super::data::examples;
use crate::{
    backend::BackendArgs,
    models::{self, shown},
    terminal::{Working, bytes, count, percent},
};

/// Boards of each kind on the page.
const BOARDS: usize = 6;

/// Write a run on one page: curves, boards that it solves and that it gets wrong, recipe, machine, cost
///
/// The page is one HTML file that needs nothing else: to keep, or to send to someone.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm report runs/sudoku-4x4                    runs/sudoku-4x4/report.html
  hrm report runs/sudoku-4x4 --out page.html --puzzles 1000")]
pub struct Args {
    /// Folder of the run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Page to write [default: report.html in the folder of the run]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Held-out puzzles to try; 0 leaves the boards out
    #[arg(long, value_name = "N", default_value_t = 200)]
    puzzles: usize,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let run = &args.run;
    if !RunSummary::is_run(run) {
        bail!("{}: no run here; expected a folder with config.toml and checkpoints", run.display());
    }
    let summary = RunSummary::read(run)?;
    let history =
        History::read(run).with_context(|| format!("{}: no measurements of a run here", run.display()))?;
    let name = run.canonicalize().ok();
    let name = name
        .as_deref()
        .and_then(Path::file_name)
        .map_or_else(|| shown(run), |name| name.to_string_lossy().into_owned());
    let config = run.join("config.toml");
    let recipe = fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;

    let mut page = Page::new(&name);
    page.facts(&facts(&summary, &history));
    page.heading("Curves");
    let options = CurveOptions { title: String::new(), ..CurveOptions::default() };
    match curves::picture(&[(name.clone(), history)], &options) {
        Some(curves) => page.picture(&curves, ""),
        None => page.text("Nothing was measured yet."),
    }
    if args.puzzles > 0 {
        boards(&mut page, &args)?;
    }
    page.heading("Recipe");
    page.code(&recipe);
    page.heading("Who trained it, and where");
    for session in &summary.sessions {
        page.facts(&environment(session));
    }
    let out = args.out.unwrap_or_else(|| run.join("report.html"));
    fs::write(&out, page.end()).with_context(|| format!("cannot write {}", out.display()))?;
    say!("{}", shown(&out));
    Ok(())
}

type Facts = Vec<(&'static str, String)>;

/// The run in a few numbers.
fn facts(summary: &RunSummary, history: &History) -> Facts {
    let mut facts = vec![("state", summary.state().to_owned())];
    let total = summary.sessions.last().map_or(0, |session| session.total_steps);
    facts.push(("steps", format!("{} of {}", thousands(summary.step as usize), thousands(total as usize))));
    facts.extend(summary.sessions.last().map(|session| ("parameters", thousands(session.parameters))));
    facts.extend(
        summary
            .best
            .map(|(step, exact)| ("best, held out", format!("{} exact, at step {step}", percent(exact)))),
    );
    facts.extend(summary.last.map(|exact| ("last, held out", format!("{} exact", percent(exact)))));
    facts.extend(summary.loss.map(|loss| ("training loss", format!("{loss:.4}"))));
    // Each process counts its hours from its start.
    let hours = history.curve("train/loss", hrm_train::run::history::Over::Hours);
    if let Some((hours, _)) = hours.last() {
        let time =
            if *hours < 1.0 { format!("{:.1} minutes", hours * 60.0) } else { format!("{hours:.1} hours") };
        facts.push(("cost", format!("{time} of training")));
    }
    facts.extend(summary.examples_per_second.map(|speed| ("speed", format!("{speed:.0} puzzles a second"))));
    facts.extend(summary.peak_memory.map(|memory| ("memory", format!("{} at most", bytes(memory)))));
    facts
}

fn environment(session: &Session) -> Facts {
    let commit = session.git_commit.as_ref().map(|commit| {
        format!("{commit}{}", if session.git_modified == Some(true) { ", modified" } else { "" })
    });
    let ended = session.ended.as_ref().map(|end| format!("{} at step {}, {}", end.how, end.step, end.time));
    let mut facts = vec![
        ("command", session.command.clone()),
        ("started", format!("{}, after step {}", session.started, session.first_step)),
        ("ended", ended.unwrap_or_else(|| "not told".to_owned())),
        (
            "machine",
            format!("{}, {}, {} of {} cores", session.system, session.cpu, session.threads, session.cores),
        ),
        ("backend", session.backend.clone()),
        ("versions", format!("hrm {}, Burn {}", session.hrm, session.burn)),
        ("seed", session.seed.to_string()),
    ];
    facts.extend(commit.map(|commit| ("source", commit)));
    facts
}

/// Held-out puzzles that the run's best checkpoint solves, and some that it does not.
fn boards(page: &mut Page, args: &Args) -> Result<()> {
    page.heading("Boards");
    let recipe = ResolvedRecipe::load(Some(&args.run.join("config.toml")), &[])?;
    let held_out = {
        let _working = Working::on("preparing the held-out puzzles");
        data::load(&recipe.data)
    };
    let data = match held_out {
        Ok(data) => data,
        // A run that came from another machine may have left its data there.
        Err(error) => {
            page.text(&format!("The run's puzzles are not here: {error}"));
            return Ok(());
        }
    };
    let Some(dataset) = data.held_out() else {
        page.text("ARC is judged by a vote over many views of a task; see `hrm eval`.");
        return Ok(());
    };
    let dataset = dataset.head(args.puzzles);
    let puzzles: Vec<Puzzle> = examples::firsts(&dataset, data.shape).collect();
    let (solved, wrong) = tried(args, data.shape, &puzzles)?;
    let all = solved.len() + wrong.len();
    page.text(&format!(
        "Of the first {}, held out, it solves {} as hrm solve runs it, and gets {} wrong.",
        count(all, "puzzle"),
        solved.len(),
        wrong.len()
    ));
    for (what, answers) in [("solved", solved), ("wrong", wrong)] {
        page.row(answers.into_iter().take(BOARDS).map(|(index, answer, steps)| {
            let Puzzle { task, record, .. } = &puzzles[index];
            let label = record.label.as_deref();
            let picture = task.picture(&record.input, Some(&answer), label).ok()?;
            Some((picture, format!("puzzle {}, {what} after {}", index + 1, count(steps, "step"))))
        }));
    }
    Ok(())
}

/// A puzzle's number, the answer, and its steps.
type Tried = Vec<(usize, Vec<u8>, usize)>;

fn tried(args: &Args, shape: Shape, puzzles: &[Puzzle]) -> Result<(Tried, Tried)> {
    let _working = Working::on(format!("solving {}", count(puzzles.len(), "puzzle")));
    let engine = args.backend.choose()?.open(None)?;
    let models = engine.load(&[models::file(&args.run)?], Some(shape))?;
    let options = InferOptions { halting: hrm_infer::Halting::Unbroken, ..InferOptions::default() };
    let queries: Vec<Query> = puzzles.iter().map(|puzzle| puzzle.record.input.clone().into()).collect();
    let mut answers = BTreeMap::new();
    models.solve_each(
        hrm_infer::of_shape(Some(shape), 1, 0).as_ref(),
        options,
        &queries,
        &mut |query, answer| {
            answers.insert(query, answer);
        },
    )?;
    let all = answers.into_iter().map(|(index, answer)| (index, answer.tokens, answer.trace.steps));
    Ok(all.partition(|(index, answer, _)| {
        let Puzzle { task, record, .. } = &puzzles[*index];
        task.verify(&record.input, answer).is_ok()
    }))
}

/// An HTML page that grows.
struct Page(String);

impl Page {
    fn new(title: &str) -> Self {
        let title = escaped(title);
        Self(format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <style>\n{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n"
        ))
    }

    fn heading(&mut self, text: &str) {
        let _ = writeln!(self.0, "<h2>{}</h2>", escaped(text));
    }

    fn text(&mut self, text: &str) {
        let _ = writeln!(self.0, "<p>{}</p>", escaped(text));
    }

    fn code(&mut self, text: &str) {
        let _ = writeln!(self.0, "<pre>{}</pre>", escaped(text));
    }

    fn facts(&mut self, facts: &Facts) {
        self.0.push_str("<table>\n");
        for (name, value) in facts {
            let _ = writeln!(self.0, "<tr><th>{}</th><td>{}</td></tr>", escaped(name), escaped(value));
        }
        self.0.push_str("</table>\n");
    }

    fn picture(&mut self, picture: &Picture, caption: &str) {
        let _ = writeln!(
            self.0,
            "<figure>{}<figcaption>{}</figcaption></figure>",
            picture.svg(),
            escaped(caption)
        );
    }

    fn row(&mut self, pictures: impl Iterator<Item = Option<(Picture, String)>>) {
        self.0.push_str("<div class=\"row\">\n");
        for (picture, caption) in pictures.flatten() {
            self.picture(&picture, &caption);
        }
        self.0.push_str("</div>\n");
    }

    fn end(self) -> String {
        self.0 + "</body></html>\n"
    }
}

const STYLE: &str = "\
body { font-family: Helvetica, Arial, sans-serif; color: #1c1e28; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
svg { max-width: 100%; height: auto; }
th { text-align: left; padding-right: 2rem; font-weight: normal; color: #6a6f80; vertical-align: top; }
td { overflow-wrap: anywhere; }
table { margin-bottom: 1.5rem; }
pre { background: #f4f5f8; padding: 1rem; overflow-x: auto; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; }
.row figure { width: 14rem; margin: 0; }
figcaption { font-size: 0.85rem; color: #6a6f80; }
";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
