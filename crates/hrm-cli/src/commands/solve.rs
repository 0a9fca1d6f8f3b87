//! `hrm solve`: watch a model work on Sudokus.

use std::{
    collections::HashMap,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use burn::tensor::backend::BackendTypes;
use hrm_backend::HrmAutodiffBackend;
use hrm_data::{
    render::{self, Style},
    sudoku::{Board, Geometry, decode_tokens, encode_tokens},
};
use hrm_model::Hrm;
use hrm_train::infer::{InferOptions, Query, Solver, Trace};
use serde::Serialize;

use crate::{
    backend::{self, Job},
    commands::classical::{self, MazeSource, Output},
    models::{self, Header},
    puzzles::{self, Entry, Puzzle, Source},
    terminal::{self, Panel, count, side_by_side},
};

/// Puzzles that go through the model together.
const BATCH: usize = 64;
/// Boards drawn for one puzzle, the puzzle itself not counted.
const MAX_BOARDS: usize = 5;

/// Solve Sudokus and watch the model think
///
/// Without a puzzle, solves a built-in one with the model that comes with the program. The model is picked by the
/// size of the puzzle. Every puzzle is checked first: one that is malformed, has no solution, or has several, is told
/// so and left out. Exit code 0 only if every answer is right.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm solve
  hrm solve 53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79
  hrm solve --file puzzles.csv                  one line for each puzzle and a summary
  echo 1....3...2....4. | hrm solve - --json
  hrm solve --checkpoint runs/sudoku-9x9-cpu    the newest checkpoint of a run
  hrm solve --with dlx --trace                  a classical solver, step by step
  hrm solve --task maze --with bfs --file mazes.csv

With --json, one object is printed:
  model, backend   which were used (the models are a list, one for each size)
  puzzles          a list: place, puzzle, solution, valid, wrong_cells (null if unknown), matches_answer (if the file
                   states one), halted, steps, milliseconds, q_halt and q_continue (probabilities, one a step),
                   error (why the model did not see it, else null)
  summary          puzzles, solved, wrong, rejected")]
pub struct Args {
    /// A puzzle, row by row, `.` or 0 for a blank; `-` reads puzzles from standard input, one a line
    #[arg(value_name = "PUZZLE")]
    puzzle: Option<String>,
    /// Puzzles in a file: one a line, or CSV with the columns source,question,answer,rating (also gzipped)
    #[arg(long, short, value_name = "FILE", conflicts_with = "puzzle")]
    file: Option<PathBuf>,
    /// What the puzzles are; mazes need --with
    #[arg(long, value_enum, default_value_t = Task::Sudoku, value_name = "TASK")]
    task: Task,
    /// Answer with a classical solver instead of a model, and report its work. Sudoku: dfs, dlx, coloring. Mazes: bfs,
    /// astar, wall-left, wall-right, tremaux, dead-end
    #[arg(long, value_name = "METHOD", conflicts_with_all = ["checkpoint", "max_steps", "backend"])]
    with: Option<String>,
    /// With --with: also print every step
    #[arg(long, requires = "with")]
    trace: bool,
    /// Model to use: a .safetensors file, a checkpoint folder, or a run folder
    #[arg(long, short, value_name = "DIR|FILE")]
    checkpoint: Option<PathBuf>,
    /// Steps of thinking at most [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_steps: Option<u32>,
    /// Where to compute [default: the fastest that is compiled in]
    #[arg(long, value_enum, value_name = "B")]
    backend: Option<backend::Name>,
    /// Operands of matrix products on the processor
    #[arg(long, value_enum, default_value_t, value_name = "P")]
    precision: backend::Precision,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Mark cells with characters instead of colours
    #[arg(long)]
    plain: bool,
    /// Draw the boards even if there are several puzzles
    #[arg(long, short)]
    verbose: bool,
}

/// What `hrm solve` solves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Task {
    /// Sudoku of any size
    Sudoku,
    /// Mazes
    Maze,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    if args.with.is_some() || args.task == Task::Maze {
        return run_classical(args);
    }
    let backend = backend::Name::or_best(args.backend)?;
    args.precision.apply();
    let given = args.checkpoint.as_deref().map(given_model).transpose()?;
    let source = source(args.puzzle, args.file);
    let built_in = match &given {
        Some((_, geometry)) => *geometry,
        None if models::bundled(Geometry::S9).is_some() => Geometry::S9,
        None => Geometry::S4,
    };
    let mut entries = puzzles::read(&source, built_in)?;
    let plan: Vec<Option<PathBuf>> = entries
        .iter_mut()
        .map(|entry| {
            let geometry = entry.puzzle.as_ref().ok()?.board.geometry();
            match model_for(geometry, given.as_ref()) {
                Ok(path) => Some(path),
                Err(reason) => {
                    entry.puzzle = Err(reason);
                    None
                }
            }
        })
        .collect();

    let out = io::stdout().lock();
    let mut reporter: Box<dyn Reporter> = if args.json {
        Box::new(JsonReporter::new(out, &plan, backend))
    } else {
        Box::new(TextReporter {
            out,
            style: terminal::stdout_style(args.plain),
            in_full: entries.len() == 1 || args.verbose,
            several: entries.len() > 1,
            backend,
            tally: Tally::default(),
        })
    };
    let job = SolveJob {
        entries: &entries,
        plan: &plan,
        options: InferOptions { max_steps: args.max_steps.map(|n| n as usize), ..InferOptions::default() },
        reporter: reporter.as_mut(),
    };
    if plan.iter().any(Option::is_some) {
        backend.run(job)?;
    } else {
        // No puzzle is left to solve: no model is loaded, no device started.
        job.reject_all()?;
    }
    let tally = reporter.finish()?;
    Ok(if tally.solved == tally.puzzles { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_classical(args: Args) -> Result<ExitCode> {
    let Some(method) = &args.with else {
        bail!(
            "no model for mazes comes with the program; answer with a classical solver: --with bfs (see --help)"
        );
    };
    let output = Output {
        json: args.json,
        trace: args.trace,
        verbose: args.verbose,
        style: terminal::stdout_style(args.plain),
    };
    if args.task == Task::Maze {
        let source = match (args.puzzle, args.file) {
            (Some(text), _) => MazeSource::Argument(text),
            (None, Some(file)) => MazeSource::File(file),
            (None, None) => bail!("expected mazes: --file CSV, or a drawn maze as an argument"),
        };
        return classical::mazes(method, &source, output);
    }
    let source = source(args.puzzle, args.file);
    classical::sudoku(method, &puzzles::read(&source, Geometry::S9)?, output)
}

fn source(puzzle: Option<String>, file: Option<PathBuf>) -> Source {
    match (puzzle, file) {
        (Some(dash), _) if dash == "-" => Source::Stdin,
        (Some(text), _) => Source::Argument(text),
        (None, Some(file)) => Source::File(file),
        (None, None) => Source::Unsaid,
    }
}

/// The file of `--checkpoint` and the size of puzzle that it is for.
fn given_model(path: &Path) -> Result<(PathBuf, Geometry)> {
    let file = models::file(path)?;
    let config = Header::read(&file)?.config()?;
    let geometry = models::sudoku_geometry(&config).with_context(|| file.display().to_string())?;
    Ok((file, geometry))
}

fn model_for(geometry: Geometry, given: Option<&(PathBuf, Geometry)>) -> Result<PathBuf, String> {
    match given {
        Some((path, size)) if *size == geometry => Ok(path.clone()),
        Some((path, size)) => {
            Err(format!("the model {} is for {size} puzzles, this one is {geometry}", path.display()))
        }
        None => models::bundled(geometry).ok_or_else(|| models::no_bundled_model(geometry)),
    }
}

/// Solves what is left to solve, in batches, and reports every entry in order.
struct SolveJob<'a> {
    entries: &'a [Entry],
    /// The model of each entry that has one.
    plan: &'a [Option<PathBuf>],
    options: InferOptions,
    reporter: &'a mut (dyn Reporter + 'a),
}

impl Job for SolveJob<'_> {
    type Output = ();

    fn run<A: HrmAutodiffBackend>(self, device: &<A as BackendTypes>::Device) -> Result<()> {
        let mut loaded: HashMap<&Path, Hrm<A::InnerBackend>> = HashMap::new();
        let mut start = 0;
        while start < self.entries.len() {
            // A batch: the next entries of one size, those that were rejected in between included.
            let model = self.plan[start..].iter().flatten().next();
            let mut size = 0;
            let end = self.plan[start..]
                .iter()
                .position(|path| {
                    size += usize::from(path.is_some());
                    size > BATCH || path.as_ref().is_some_and(|path| Some(path) != model)
                })
                .map_or(self.entries.len(), |len| start + len);
            let batch: Vec<(usize, &Puzzle)> = (start..end)
                .filter_map(|index| Some((index, self.entries[index].puzzle.as_ref().ok()?)))
                .collect();
            let mut traces = HashMap::new();
            let mut info = None;
            if let Some(path) = model {
                if !loaded.contains_key(path.as_path()) {
                    loaded.insert(path, models::load(path, device)?);
                }
                let model = &loaded[path.as_path()];
                let solver = Solver::new(model, self.options)?;
                info = Some(ModelInfo {
                    path,
                    parameters: model.parameter_table().parameters(),
                    max_steps: self.options.max_steps.unwrap_or(model.config().halt_max_steps),
                });
                let queries: Vec<Query> = batch.iter().map(|(_, p)| encode_tokens(&p.board).into()).collect();
                let solved = solver.solve(&queries)?;
                traces.extend(batch.iter().map(|(index, _)| *index).zip(solved));
            }
            for index in start..end {
                let entry = &self.entries[index];
                match (&entry.puzzle, traces.remove(&index), &info) {
                    (Ok(puzzle), Some(trace), Some(info)) => {
                        self.reporter.solved(entry, puzzle, &Attempt::new(puzzle, &trace)?, info)?;
                    }
                    (Err(reason), ..) => self.reporter.rejected(entry, reason)?,
                    (Ok(_), ..) => {}
                }
            }
            start = end;
        }
        Ok(())
    }
}

impl SolveJob<'_> {
    fn reject_all(self) -> Result<()> {
        for entry in self.entries {
            if let Err(reason) = &entry.puzzle {
                self.reporter.rejected(entry, reason)?;
            }
        }
        Ok(())
    }
}

/// What to say about a model.
struct ModelInfo<'a> {
    path: &'a Path,
    parameters: usize,
    max_steps: usize,
}

/// A trace as boards.
struct Attempt {
    steps: Vec<Step>,
    halted: bool,
    milliseconds: f64,
    valid: bool,
    matches_answer: Option<bool>,
}

struct Step {
    board: Board,
    q_halt: f32,
    q_continue: f32,
    /// Cells that differ from the solution, if that is known.
    wrong: Option<usize>,
}

impl Attempt {
    fn new(puzzle: &Puzzle, trace: &Trace) -> Result<Self> {
        let steps = trace
            .thoughts
            .iter()
            .map(|thought| {
                let board = decode_tokens(&thought.tokens)?;
                let wrong = puzzle.solution.as_ref().map(|solution| differences(solution, &board));
                Ok(Step {
                    board,
                    q_halt: thought.halt_probability(),
                    q_continue: thought.continue_probability(),
                    wrong,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let last = steps.last().map(|step| &step.board);
        Ok(Self {
            valid: last.is_some_and(|board| board.is_solution_of(&puzzle.board)),
            matches_answer: puzzle.answer.as_ref().map(|answer| Some(answer) == last),
            halted: trace.halted,
            milliseconds: trace.elapsed.as_secs_f64() * 1e3,
            steps,
        })
    }

    fn last(&self) -> Option<&Step> {
        self.steps.last()
    }
}

fn differences(a: &Board, b: &Board) -> usize {
    a.cells().iter().zip(b.cells()).filter(|(a, b)| a != b).count()
}

/// How many puzzles went which way.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Tally {
    puzzles: usize,
    solved: usize,
    wrong: usize,
    rejected: usize,
    #[serde(skip)]
    steps: usize,
    #[serde(skip)]
    answers: usize,
    #[serde(skip)]
    answers_matched: usize,
}

impl Tally {
    fn add(&mut self, attempt: &Attempt) {
        self.puzzles += 1;
        if attempt.valid {
            self.solved += 1;
        } else {
            self.wrong += 1;
        }
        self.steps += attempt.steps.len();
        self.answers += usize::from(attempt.matches_answer.is_some());
        self.answers_matched += usize::from(attempt.matches_answer == Some(true));
    }

    fn reject(&mut self) {
        self.puzzles += 1;
        self.rejected += 1;
    }
}

/// Who prints.
trait Reporter {
    fn rejected(&mut self, entry: &Entry, reason: &str) -> Result<()>;
    fn solved(
        &mut self,
        entry: &Entry,
        puzzle: &Puzzle,
        attempt: &Attempt,
        model: &ModelInfo<'_>,
    ) -> Result<()>;
    fn finish(&mut self) -> Result<Tally>;
}

struct TextReporter<W> {
    out: W,
    style: Style,
    in_full: bool,
    several: bool,
    backend: backend::Name,
    tally: Tally,
}

impl<W: Write> Reporter for TextReporter<W> {
    fn rejected(&mut self, entry: &Entry, reason: &str) -> Result<()> {
        self.tally.reject();
        self.out.flush()?;
        terminal::report_error(&format!("{}{reason}", entry.prefix()));
        Ok(())
    }

    fn solved(
        &mut self,
        entry: &Entry,
        puzzle: &Puzzle,
        attempt: &Attempt,
        model: &ModelInfo<'_>,
    ) -> Result<()> {
        self.tally.add(attempt);
        if self.in_full {
            self.in_full(entry, puzzle, attempt, model)
        } else {
            self.in_a_line(entry, puzzle, attempt)
        }
    }

    fn finish(&mut self) -> Result<Tally> {
        let tally = self.tally;
        if self.several {
            let attempted = tally.solved + tally.wrong;
            writeln!(
                self.out,
                "\n{}: {} solved, {} wrong, {} rejected",
                count(tally.puzzles, "puzzle"),
                tally.solved,
                tally.wrong,
                tally.rejected
            )?;
            if attempted > 0 {
                let share = 100.0 * tally.solved as f64 / attempted as f64;
                let steps = tally.steps as f64 / attempted as f64;
                writeln!(self.out, "{share:.1} % of those attempted, {steps:.1} steps on average")?;
            }
            if tally.answers > 0 {
                writeln!(
                    self.out,
                    "{} of {} answers are the ones that the file states",
                    tally.answers_matched, tally.answers
                )?;
            }
        }
        self.out.flush()?;
        Ok(tally)
    }
}

impl<W: Write> TextReporter<W> {
    fn in_a_line(&mut self, entry: &Entry, puzzle: &Puzzle, attempt: &Attempt) -> Result<()> {
        let Some(last) = attempt.last() else { return Ok(()) };
        let verdict = match (attempt.valid, last.wrong) {
            (true, _) => "solved".to_owned(),
            (false, Some(n)) => format!("wrong ({})", count(n, "cell")),
            (false, None) => "wrong".to_owned(),
        };
        let answer = match attempt.matches_answer {
            Some(false) => ", not the stated answer",
            _ => "",
        };
        writeln!(
            self.out,
            "{}  {} -> {}  {verdict}, {}, {:.1} ms{answer}",
            entry.place,
            puzzle.board.to_line(),
            last.board.to_line(),
            count(attempt.steps.len(), "step"),
            attempt.milliseconds
        )?;
        Ok(())
    }

    fn in_full(
        &mut self,
        entry: &Entry,
        puzzle: &Puzzle,
        attempt: &Attempt,
        model: &ModelInfo<'_>,
    ) -> Result<()> {
        if !entry.place.is_empty() {
            writeln!(self.out, "{}", entry.place)?;
        }
        let panels = self.panels(puzzle, attempt);
        writeln!(self.out, "{}", side_by_side(&panels))?;
        writeln!(self.out, "{}", legend(self.style))?;
        self.table(puzzle, attempt)?;
        let Some(last) = attempt.last() else { return Ok(()) };
        writeln!(self.out, "\nsolution  {}", last.board.to_line())?;
        let givens = count(puzzle.board.clues(), "given");
        if attempt.valid {
            writeln!(self.out, "valid     yes: keeps the rules of Sudoku and the {givens}")?;
        } else {
            let wrong = last
                .wrong
                .map_or_else(String::new, |n| format!("; {} differ from the solution", count(n, "cell")));
            writeln!(self.out, "valid     NO: {}{wrong}", why_invalid(&puzzle.board, &last.board))?;
        }
        match attempt.matches_answer {
            Some(true) => writeln!(self.out, "answer    the one that the file states")?,
            Some(false) => writeln!(self.out, "answer    NOT the one that the file states")?,
            None => {}
        }
        let ending = if attempt.halted { "halted by itself" } else { "stopped at the last step" };
        writeln!(self.out, "steps     {} of at most {}, {ending}", attempt.steps.len(), model.max_steps)?;
        writeln!(self.out, "time      {:.1} ms on {}", attempt.milliseconds, self.backend.feature())?;
        writeln!(
            self.out,
            "model     {} ({} parameters)",
            models::shown(model.path),
            hrm_model::summary::thousands(model.parameters)
        )?;
        if self.several {
            writeln!(self.out)?;
        }
        self.out.flush()?;
        Ok(())
    }

    /// The puzzle, some boards on the way with what changed since the one before, and the last board.
    fn panels(&self, puzzle: &Puzzle, attempt: &Attempt) -> Vec<Panel> {
        let draw =
            |previous: Option<&Board>, board| render::attempt(&puzzle.board, previous, board, self.style);
        let mut panels = vec![Panel {
            title: format!("puzzle, {}", count(puzzle.board.clues(), "given")),
            body: draw(None, &puzzle.board),
        }];
        let mut previous = &puzzle.board;
        for index in worth_drawing(&attempt.steps) {
            let board = &attempt.steps[index].board;
            panels.push(Panel {
                title: format!("step {}: {} new", index + 1, differences(previous, board)),
                body: draw(Some(previous), board),
            });
            previous = board;
        }
        panels
    }

    fn table(&mut self, puzzle: &Puzzle, attempt: &Attempt) -> Result<()> {
        writeln!(self.out, "step   changed   wrong   q_halt   q_continue")?;
        let mut previous = &puzzle.board;
        for (index, step) in attempt.steps.iter().enumerate() {
            let wrong = step.wrong.map_or_else(|| "?".to_owned(), |n| n.to_string());
            let stops = attempt.halted && index + 1 == attempt.steps.len();
            writeln!(
                self.out,
                "{:>4}{:>10}{wrong:>8}{:>9.3}{:>13.3}{}",
                index + 1,
                differences(previous, &step.board),
                step.q_halt,
                step.q_continue,
                if stops { "   halts" } else { "" }
            )?;
            previous = &step.board;
        }
        Ok(())
    }
}

/// The steps after which a board is drawn: those that changed something, thinned out evenly, and the last.
fn worth_drawing(steps: &[Step]) -> Vec<usize> {
    let changed: Vec<usize> =
        (0..steps.len()).filter(|&i| i == 0 || steps[i].board != steps[i - 1].board).collect();
    if changed.len() <= MAX_BOARDS {
        return changed;
    }
    let spread = |i: usize| changed[i * (changed.len() - 1) / (MAX_BOARDS - 1)];
    (0..MAX_BOARDS).map(spread).collect()
}

const fn legend(style: Style) -> &'static str {
    match style {
        Style::Ansi => {
            "\x1b[1mgiven\x1b[0m  \x1b[34mfilled\x1b[0m  \x1b[1;32mnew\x1b[0m  \x1b[1;31min conflict\x1b[0m"
        }
        Style::Plain => "* new since the board before   ! in conflict",
    }
}

fn why_invalid(puzzle: &Board, board: &Board) -> String {
    let side = board.side();
    let place = |cell: usize| format!("row {}, column {}", cell / side + 1, cell % side + 1);
    let cells = || puzzle.cells().iter().zip(board.cells()).enumerate();
    if let Some((cell, (given, got))) = cells().find(|(_, (given, got))| **given != 0 && given != got) {
        let got = if *got == 0 { "blank".to_owned() } else { got.to_string() };
        return format!("the given {given} in {} became {got}", place(cell));
    }
    let blanks = board.cells().iter().filter(|value| **value == 0).count();
    if blanks > 0 {
        return format!("{} left blank", count(blanks, "cell"));
    }
    let violations = board.violations();
    match violations.as_slice() {
        [] => "it breaks no rule".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first}, and {} more", count(rest.len(), "conflict")),
    }
}

/// Everything in one object at the end.
struct JsonReporter<W> {
    out: W,
    report: JsonReport,
}

#[derive(Serialize)]
struct JsonReport {
    models: Vec<PathBuf>,
    backend: &'static str,
    puzzles: Vec<JsonPuzzle>,
    summary: Tally,
}

#[derive(Serialize, Default)]
struct JsonPuzzle {
    place: String,
    puzzle: String,
    solution: Option<String>,
    valid: bool,
    wrong_cells: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    matches_answer: Option<bool>,
    halted: bool,
    steps: usize,
    milliseconds: f64,
    q_halt: Vec<f32>,
    q_continue: Vec<f32>,
    error: Option<String>,
}

impl<W: Write> JsonReporter<W> {
    fn new(out: W, plan: &[Option<PathBuf>], backend: backend::Name) -> Self {
        let mut models: Vec<PathBuf> = plan.iter().flatten().cloned().collect();
        models.sort();
        models.dedup();
        Self {
            out,
            report: JsonReport {
                models,
                backend: backend.feature(),
                puzzles: Vec::new(),
                summary: Tally::default(),
            },
        }
    }
}

impl<W: Write> Reporter for JsonReporter<W> {
    fn rejected(&mut self, entry: &Entry, reason: &str) -> Result<()> {
        self.report.summary.reject();
        self.report.puzzles.push(JsonPuzzle {
            place: entry.place.clone(),
            puzzle: entry.text.clone(),
            error: Some(reason.to_owned()),
            ..JsonPuzzle::default()
        });
        Ok(())
    }

    fn solved(&mut self, entry: &Entry, puzzle: &Puzzle, attempt: &Attempt, _: &ModelInfo<'_>) -> Result<()> {
        self.report.summary.add(attempt);
        self.report.puzzles.push(JsonPuzzle {
            place: entry.place.clone(),
            puzzle: puzzle.board.to_line(),
            solution: attempt.last().map(|step| step.board.to_line()),
            valid: attempt.valid,
            wrong_cells: attempt.last().and_then(|step| step.wrong),
            matches_answer: attempt.matches_answer,
            halted: attempt.halted,
            steps: attempt.steps.len(),
            milliseconds: (attempt.milliseconds * 1e3).round() / 1e3,
            q_halt: attempt.steps.iter().map(|step| step.q_halt).collect(),
            q_continue: attempt.steps.iter().map(|step| step.q_continue).collect(),
            error: None,
        });
        Ok(())
    }

    fn finish(&mut self) -> Result<Tally> {
        let json = serde_json::to_string_pretty(&self.report).context("cannot write JSON")?;
        writeln!(self.out, "{json}")?;
        self.out.flush()?;
        Ok(self.report.summary)
    }
}
