//! `hrm solve`: watch a model work on Sudokus.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use burn::tensor::backend::{Backend, BackendTypes};
use hrm_backend::HrmAutodiffBackend;
use hrm_data::{
    render::{self, Style},
    sudoku::{Board, Geometry, decode_tokens, encode_tokens},
    task::{Family, Shape},
};
use hrm_infer::{Answer, InferOptions, Query, Solver, Sources};
use hrm_model::Hrm;
use serde::Serialize;

use crate::{
    backend::{self, Job},
    commands::{
        classical::{self, MazeSource, Output},
        solve_task::{self, Request},
    },
    infer::{InferArgs, origin},
    models::{self, Header},
    puzzles::{self, Entry, Puzzle, Source},
    terminal::{self, Panel, count, side_by_side},
};

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
  hrm solve --file hard.csv --max-steps 64 --vote 9
  hrm solve --file hard.csv --restarts 32 --noise 0.3 --verify --fallback exact
  hrm solve --with dlx --trace                  a classical solver, step by step
  hrm solve --task maze mazes.csv               a shortest path by a model
  hrm solve --task maze --with bfs --file mazes.csv

With --json, one object is printed:
  model, backend   which were used (the models are a list, one for each size)
  puzzles          a list: place, puzzle, solution, valid, wrong_cells (null if unknown), matches_answer (if the file
                   states one), halted, steps, milliseconds, q_halt and q_continue (probabilities, one a step),
                   source (neural: the first attempt; voted: a vote, another view or checkpoint; restarted: an attempt
                   with noise; searched: the classical solver), attempts, segments (steps of all attempts), votes
                   (attempts that agree), guesses and guesses_without_model (of the search, else null),
                   error (why the model did not see it, else null)
  summary          puzzles, solved, wrong, rejected, sources (of the solved ones), segments, guesses,
                   guesses_without_model
With another --task: task, models, backend, puzzles (place, puzzle, answer, valid, fault, halted, steps, milliseconds, q_halt,
error) and summary (puzzles, solved, wrong, rejected); a maze's answer is valid if it marks a shortest path.
milliseconds is a puzzle's share of the time that its batch took.")]
pub struct Args {
    /// A puzzle, row by row, `.` or 0 for a blank; `-` reads puzzles from standard input, one a line. With --task, a file will
    /// do as well
    #[arg(value_name = "PUZZLE")]
    puzzle: Option<String>,
    /// Puzzles in a file: one a line, or CSV with the columns source,question,answer,rating (also gzipped)
    #[arg(long, short, value_name = "FILE", conflicts_with = "puzzle")]
    file: Option<PathBuf>,
    /// What the puzzles are: sudoku, maze, killer, samurai or queens
    #[arg(long, default_value_t = Family::Sudoku, value_name = "TASK")]
    task: Family,
    /// Answer with a classical solver instead of a model, and report its work. Sudoku: dfs, dlx, coloring. Mazes: bfs,
    /// astar, wall-left, wall-right, tremaux, dead-end. Other tasks: exact
    #[arg(long, value_name = "METHOD", conflicts_with_all = ["checkpoint", "ensemble", "max_steps", "all_steps", "vote",
        "restarts", "verify", "backend"])]
    with: Option<String>,
    /// With --with: also print every step
    #[arg(long, requires = "with")]
    trace: bool,
    /// Model to use: a .safetensors file, a checkpoint folder, or a run folder
    #[arg(long, short, value_name = "DIR|FILE")]
    checkpoint: Option<PathBuf>,
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
    #[command(flatten)]
    infer: InferArgs,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    match (args.task, &args.with) {
        (Family::Arc, _) => {
            bail!("--task arc: ARC is judged by a vote; see `hrm eval` and configs/arc-1.toml")
        }
        (Family::Sudoku | Family::Maze, Some(method)) => return run_classical(method.clone(), args),
        (Family::Sudoku, None) => {}
        (family, Some(method)) if method != "exact" => {
            bail!("--with {method}: expected `exact` for {family}, the exact search of that puzzle")
        }
        _ => return run_task(args),
    }
    let backend = backend::Name::or_best(args.backend)?;
    args.precision.apply();
    let given = given_models(&args.infer.checkpoints(args.checkpoint.as_deref())?)?;
    let source = source(args.puzzle, args.file);
    let built_in = match &given {
        Some(models) => models.geometry,
        None if models::bundled(Geometry::S9).is_some() => Geometry::S9,
        None => Geometry::S4,
    };
    let mut entries = puzzles::read(&source, built_in)?;
    let plan = Plan::new(&mut entries, given);

    let in_full = entries.len() == 1 || args.verbose;
    let out = io::stdout().lock();
    let mut reporter: Box<dyn Reporter> = if args.json {
        Box::new(JsonReporter::new(out, &plan, backend))
    } else {
        Box::new(TextReporter {
            out,
            style: terminal::stdout_style(args.plain),
            in_full,
            several: entries.len() > 1,
            scales: args.infer.scales(),
            backend,
            tally: Tally::default(),
        })
    };
    let job = SolveJob {
        entries: &entries,
        plan: &plan,
        options: InferOptions { keep_thoughts: args.json || in_full, ..args.infer.options() },
        reporter: reporter.as_mut(),
    };
    if plan.group_of.iter().any(Option::is_some) {
        backend.run(job)?;
    } else {
        // No puzzle is left to solve: no model is loaded, no device started.
        job.reject_all()?;
    }
    let tally = reporter.finish()?;
    Ok(if tally.solved == tally.puzzles { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Any task but Sudoku, which has boards to watch.
fn run_task(args: Args) -> Result<ExitCode> {
    if args.trace {
        bail!("--trace: the exact search of {} keeps no trace", args.task);
    }
    args.precision.apply();
    solve_task::run(&Request {
        family: args.task,
        checkpoints: args.infer.checkpoints(args.checkpoint.as_deref())?,
        source: source(args.puzzle, args.file),
        options: args.infer.options(),
        exact: args.with.is_some(),
        backend: args.backend,
        json: args.json,
        verbose: args.verbose,
        style: terminal::stdout_style(args.plain),
    })
}

fn run_classical(method: String, args: Args) -> Result<ExitCode> {
    let method = &method;
    let output = Output {
        json: args.json,
        trace: args.trace,
        verbose: args.verbose,
        style: terminal::stdout_style(args.plain),
    };
    if args.task == Family::Maze {
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

/// Checkpoints that work together on puzzles of one size.
struct Models {
    files: Vec<PathBuf>,
    geometry: Geometry,
}

/// The checkpoints given on the command line; `None` if none is.
fn given_models(files: &[PathBuf]) -> Result<Option<Models>> {
    let mut geometry = None;
    for file in files {
        let found = models::sudoku_geometry(&Header::read(file)?.config()?)
            .with_context(|| file.display().to_string())?;
        match geometry {
            Some(first) if first != found => {
                bail!(
                    "--ensemble: {} is for {found} puzzles, the first checkpoint for {first}",
                    file.display()
                )
            }
            _ => geometry = Some(found),
        }
    }
    Ok(geometry.map(|geometry| Models { files: files.to_vec(), geometry }))
}

/// Which checkpoints work on which puzzle.
struct Plan {
    groups: Vec<Models>,
    /// The group of each entry that is a puzzle with a model.
    group_of: Vec<Option<usize>>,
}

impl Plan {
    /// Puzzles without a model become entries that say so.
    fn new(entries: &mut [Entry], given: Option<Models>) -> Self {
        let bundled = given.is_none();
        let mut plan = Self { groups: given.into_iter().collect(), group_of: Vec::new() };
        for entry in entries {
            let geometry = entry.puzzle.as_ref().ok().map(|puzzle| puzzle.board.geometry());
            let group = geometry.map(|geometry| plan.group(geometry, bundled));
            plan.group_of.push(match group {
                Some(Ok(group)) => Some(group),
                Some(Err(reason)) => {
                    entry.puzzle = Err(reason);
                    None
                }
                None => None,
            });
        }
        plan
    }

    fn group(&mut self, geometry: Geometry, bundled: bool) -> Result<usize, String> {
        if let Some(found) = self.groups.iter().position(|models| models.geometry == geometry) {
            return Ok(found);
        }
        match self.groups.first() {
            Some(Models { files, geometry: size }) if !bundled => {
                let path = files.first().map(|file| file.display().to_string()).unwrap_or_default();
                Err(format!("the model {path} is for {size} puzzles, this one is {geometry}"))
            }
            _ => {
                let file = models::bundled(geometry).ok_or_else(|| models::no_bundled_model(geometry))?;
                self.groups.push(Models { files: vec![file], geometry });
                Ok(self.groups.len() - 1)
            }
        }
    }
}

/// Solves what is left to solve and reports every entry in order.
struct SolveJob<'a> {
    entries: &'a [Entry],
    plan: &'a Plan,
    options: InferOptions,
    reporter: &'a mut (dyn Reporter + 'a),
}

impl Job for SolveJob<'_> {
    type Output = ();

    fn run<A: HrmAutodiffBackend>(mut self, device: &<A as BackendTypes>::Device) -> Result<()> {
        let mut infos: Vec<ModelInfo<'_>> = Vec::new();
        let mut answers: Vec<Option<Answer>> = vec![None; self.entries.len()];
        let mut reported = 0;
        // One group of models after the other; what is next in the order of the entries is reported at once.
        for (group, Models { files, geometry }) in self.plan.groups.iter().enumerate() {
            let loaded = files
                .iter()
                .map(|file| models::load(file, device))
                .collect::<Result<Vec<Hrm<A::InnerBackend>>>>()?;
            let models: Vec<&Hrm<A::InnerBackend>> = loaded.iter().collect();
            infos.push(ModelInfo::new(files, &models, self.options));
            let shape = Some(Shape::Sudoku(*geometry));
            let puzzles = hrm_infer::of_shape(shape, self.options.votes, self.options.seed);
            let solver = Solver::new(&models, puzzles.as_ref(), self.options)?;
            let (places, queries): (Vec<usize>, Vec<Query>) = self
                .entries
                .iter()
                .enumerate()
                .filter(|(place, _)| self.plan.group_of[*place] == Some(group))
                .filter_map(|(place, entry)| {
                    Some((place, encode_tokens(&entry.puzzle.as_ref().ok()?.board).into()))
                })
                .unzip();
            let mut failure = None;
            solver.solve_each(&queries, |query, answer| {
                answers[places[query]] = Some(answer);
                if failure.is_none() {
                    failure = self.report(&mut answers, &mut reported, &infos).err();
                }
            })?;
            failure.map_or(Ok(()), Err)?;
        }
        self.report(&mut answers, &mut reported, &infos)
    }
}

impl SolveJob<'_> {
    /// Reports the entries from the first unreported one to the next that still has to be solved.
    fn report(
        &mut self,
        answers: &mut [Option<Answer>],
        reported: &mut usize,
        infos: &[ModelInfo<'_>],
    ) -> Result<()> {
        while let Some(entry) = self.entries.get(*reported) {
            match (&entry.puzzle, self.plan.group_of[*reported]) {
                (Ok(puzzle), Some(group)) => {
                    let Some(answer) = answers[*reported].take() else { break };
                    self.reporter.solved(entry, puzzle, &Attempt::new(puzzle, answer)?, &infos[group])?;
                }
                (Err(reason), _) => self.reporter.rejected(entry, reason)?,
                (Ok(_), None) => {}
            }
            *reported += 1;
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

/// What to say about the models of a puzzle.
struct ModelInfo<'a> {
    files: &'a [PathBuf],
    parameters: usize,
    max_steps: usize,
    /// Whether the `q_continue` of every model means something: TRM does not learn it.
    learns_continue: bool,
}

impl<'a> ModelInfo<'a> {
    fn new<B: Backend>(files: &'a [PathBuf], models: &[&Hrm<B>], options: InferOptions) -> Self {
        let trained = models.iter().map(|model| model.config().halt_max_steps).max();
        Self {
            files,
            parameters: models.iter().map(|model| model.parameter_table().parameters()).sum(),
            max_steps: options.max_steps.or(trained).unwrap_or_default(),
            learns_continue: models.iter().all(|model| !model.config().no_act_continue),
        }
    }
}

/// An answer as boards.
struct Attempt {
    /// The steps of the attempt that was chosen.
    steps: Vec<Step>,
    /// The answer, which after a search is not what the last step gave.
    board: Board,
    /// Cells of it that differ from the solution, if that is known.
    wrong: Option<usize>,
    valid: bool,
    matches_answer: Option<bool>,
    answer: Answer,
}

struct Step {
    board: Board,
    q_halt: f32,
    q_continue: f32,
    /// Cells that differ from the solution, if that is known.
    wrong: Option<usize>,
}

impl Attempt {
    fn new(puzzle: &Puzzle, answer: Answer) -> Result<Self> {
        let wrong = |board: &Board| puzzle.solution.as_ref().map(|solution| differences(solution, board));
        let steps = answer
            .trace
            .thoughts
            .iter()
            .map(|thought| {
                let board = decode_tokens(&thought.tokens)?;
                Ok(Step {
                    wrong: wrong(&board),
                    board,
                    q_halt: thought.halt_probability(),
                    q_continue: thought.continue_probability(),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let board = decode_tokens(&answer.tokens)?;
        Ok(Self {
            valid: board.is_solution_of(&puzzle.board),
            matches_answer: puzzle.answer.as_ref().map(|answer| *answer == board),
            wrong: wrong(&board),
            steps,
            board,
            answer,
        })
    }

    /// The time in the model and in the search.
    fn milliseconds(&self) -> f64 {
        let search = self.answer.search.map(|search| search.time).unwrap_or_default();
        (self.answer.time + search).as_secs_f64() * 1e3
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
    /// Of the solved ones.
    sources: Sources,
    segments: usize,
    guesses: u64,
    guesses_without_model: u64,
    #[serde(skip)]
    steps: usize,
    #[serde(skip)]
    milliseconds: f64,
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
            self.sources.add(attempt.answer.source);
        } else {
            self.wrong += 1;
        }
        self.steps += attempt.answer.trace.steps;
        self.segments += attempt.answer.segments;
        self.milliseconds += attempt.milliseconds();
        if let Some(search) = attempt.answer.search {
            self.guesses += search.guesses;
            self.guesses_without_model += search.guesses_without.unwrap_or_default();
        }
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
    /// Whether how an answer came about is worth telling.
    scales: bool,
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
                let mean = |sum: f64| sum / attempted as f64;
                writeln!(
                    self.out,
                    "{share:.1} % of those attempted, {:.1} steps and {:.1} ms on average",
                    mean(if self.scales { tally.segments } else { tally.steps } as f64),
                    mean(tally.milliseconds)
                )?;
                if self.scales {
                    writeln!(self.out, "solved: {}", tally.sources)?;
                }
                if tally.sources.searched > 0 {
                    writeln!(
                        self.out,
                        "search: {} guesses, without the model's beliefs {}",
                        tally.guesses, tally.guesses_without_model
                    )?;
                }
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
        let verdict = match (attempt.valid, attempt.wrong) {
            (true, _) => "solved".to_owned(),
            (false, Some(n)) => format!("wrong ({})", count(n, "cell")),
            (false, None) => "wrong".to_owned(),
        };
        let stated = match attempt.matches_answer {
            Some(false) => ", not the stated answer",
            _ => "",
        };
        let how = match self.scales {
            true => origin(&attempt.answer),
            false => count(attempt.answer.trace.steps, "step"),
        };
        writeln!(
            self.out,
            "{}  {} -> {}  {verdict}, {how}, {:.1} ms{stated}",
            entry.place,
            puzzle.board.to_line(),
            attempt.board.to_line(),
            attempt.milliseconds()
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
        self.table(puzzle, attempt, model.learns_continue)?;
        writeln!(self.out, "\nsolution  {}", attempt.board.to_line())?;
        let givens = count(puzzle.board.clues(), "given");
        if attempt.valid {
            writeln!(self.out, "valid     yes: keeps the rules of Sudoku and the {givens}")?;
        } else {
            let wrong = attempt
                .wrong
                .map_or_else(String::new, |n| format!("; {} differ from the solution", count(n, "cell")));
            writeln!(self.out, "valid     NO: {}{wrong}", why_invalid(&puzzle.board, &attempt.board))?;
        }
        match attempt.matches_answer {
            Some(true) => writeln!(self.out, "answer    the one that the file states")?,
            Some(false) => writeln!(self.out, "answer    NOT the one that the file states")?,
            None => {}
        }
        let steps = attempt.answer.trace.steps;
        let ending = match (attempt.answer.trace.halted, attempt.answer.verified) {
            (true, _) => "halted by itself",
            (false, Some(true)) if steps < model.max_steps => "stopped because the answer keeps the rules",
            _ => "stopped at the last step",
        };
        writeln!(self.out, "steps     {steps} of at most {}, {ending}", model.max_steps)?;
        if self.scales {
            writeln!(self.out, "answer    {}", origin(&attempt.answer))?;
        }
        writeln!(self.out, "time      {:.1} ms on {}", attempt.milliseconds(), self.backend.feature())?;
        let files: Vec<String> = model.files.iter().map(|file| models::shown(file)).collect();
        writeln!(
            self.out,
            "model     {} ({} parameters)",
            files.join(", "),
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
        if attempt.answer.search.is_some() {
            panels.push(Panel {
                title: format!("searched: {} new", differences(previous, &attempt.board)),
                body: draw(Some(previous), &attempt.board),
            });
        }
        panels
    }

    fn table(&mut self, puzzle: &Puzzle, attempt: &Attempt, learns_continue: bool) -> Result<()> {
        let q_continue = if learns_continue { "   q_continue" } else { "" };
        writeln!(self.out, "step   changed   wrong   q_halt{q_continue}")?;
        let mut previous = &puzzle.board;
        for (index, step) in attempt.steps.iter().enumerate() {
            let wrong = step.wrong.map_or_else(|| "?".to_owned(), |n| n.to_string());
            let stops = attempt.answer.trace.halted && index + 1 == attempt.steps.len();
            let q_continue =
                if learns_continue { format!("{:>13.3}", step.q_continue) } else { String::new() };
            writeln!(
                self.out,
                "{:>4}{:>10}{wrong:>8}{:>9.3}{q_continue}{}",
                index + 1,
                differences(previous, &step.board),
                step.q_halt,
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
    #[serde(serialize_with = "models::paths_to_json")]
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
    source: Option<hrm_infer::Source>,
    attempts: usize,
    segments: usize,
    votes: usize,
    guesses: Option<u64>,
    guesses_without_model: Option<u64>,
    error: Option<String>,
}

impl<W: Write> JsonReporter<W> {
    fn new(out: W, plan: &Plan, backend: backend::Name) -> Self {
        let mut models: Vec<PathBuf> = plan.groups.iter().flat_map(|group| group.files.clone()).collect();
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
            solution: Some(attempt.board.to_line()),
            valid: attempt.valid,
            wrong_cells: attempt.wrong,
            matches_answer: attempt.matches_answer,
            halted: attempt.answer.trace.halted,
            steps: attempt.answer.trace.steps,
            milliseconds: (attempt.milliseconds() * 1e3).round() / 1e3,
            source: Some(attempt.answer.source),
            attempts: attempt.answer.attempts,
            segments: attempt.answer.segments,
            votes: attempt.answer.votes,
            guesses: attempt.answer.search.map(|search| search.guesses),
            guesses_without_model: attempt.answer.search.and_then(|search| search.guesses_without),
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
