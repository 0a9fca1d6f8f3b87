//! `hrm solve`: watch a model, or a classical solver, work on puzzles.

mod film;
mod report;

use std::{
    ffi::OsString,
    io::{self, IsTerminal},
    path::PathBuf,
    process::{self, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use hrm_data::{
    registry::{Family, Shape},
    task::{Size, Worked},
};
use hrm_engine::{Engine, Models, Name, Weights};
use hrm_infer::{self as infer, Answer, Halting, InferOptions, Puzzles, Query};
use hrm_model::ModelConfig;

use self::film::Films;
use self::report::{Json, Reporter, Tally, Text};
use crate::{
    backend::ComputeArgs,
    infer::{GUESSES, InferArgs},
    models::{self, Header},
    puzzles::{Entry, Puzzle, Source, Stream, families},
    terminal::{self, Working},
};

/// Solve puzzles and watch the model think
///
/// Without a puzzle, solves a built-in Sudoku with the model that comes with the program. The model is picked by the
/// size of the puzzle. Every puzzle is checked first: one that is malformed, has no solution, or has several, is told
/// so and left out. The model thinks on while its answer breaks the rules, up to the last step; one that has learned trial and error then
/// guesses values and takes back what leads nowhere. Answers come as they are ready, in the order of the puzzles. Exit code 0
/// only if every answer is right.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm solve
  hrm solve 53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79
  hrm solve --file puzzles.csv                  one line for each puzzle and a summary
  echo 1....3...2....4. | hrm solve - --json
  hrm solve --checkpoint runs/sudoku-9x9-cpu    the best checkpoint of a run
  hrm solve --file hard.csv --max-steps 64 --vote 9
  hrm solve --file hard.csv --restarts 32 --noise 0.3 --verify --fallback exact
  hrm solve --with dlx --trace                  a classical solver, step by step
  hrm solve --gif thinking.gif                  a picture that moves
  hrm solve --task maze mazes.csv               a shortest path by a model
  hrm solve --task maze --with bfs --file mazes.csv

Puzzles are read as lines, as drawings with or without box lines, as lists (JSON, Python), as rows with commas, and as CSV. A
blank of a Sudoku is `.`, 0, `_`, `*`, `?`, `-`, or, where none of these is one, `x` or a space; values above 9 are numbers or
letters from A on. Walls of a maze are `#`, 1, `X`, blocks or lines, free cells spaces, `.` or 0, its ends S and G (also A and B, E). What is
printed can be read again, coloured or not. A text with two meanings is refused.

The models that come with the program are in it. The environment variable HRM_CHECKPOINTS names a folder with others to
use in their place: FOLDER/sudoku-9x9/model.safetensors and so on.

With --json, one object is printed:
  task, backend    what was solved and where
  method           the classical solver, with --with
  puzzles          a list: place, puzzle, solution, valid, fault (what is wrong with the solution, else null), wrong_cells
                   (null if unknown), matches_answer (if the file states one), milliseconds, error (why there is no
                   solution, else null). By a model also: halted, steps, q_halt and q_continue (probabilities, one a
                   step), source (neural: the first attempt; voted: a vote, another view or checkpoint; restarted: an
                   attempt with noise; guessed: one that took guessed values as given; searched: the classical solver),
                   attempts, segments (steps of all attempts), votes (attempts that agree), guesses and
                   guesses_without_model (of the search, else null). By a classical
                   solver also its work (guesses and nodes, or steps), and of mazes result and moves
  models           which were used, one for each size
  summary          puzzles, solved, wrong, rejected; by a model also sources (of the solved ones), segments, guesses,
                   guesses_without_model; by a classical solver its work
milliseconds is a puzzle's share of the time that its batch took.")]
pub struct Args {
    /// A puzzle, row by row, `.` or 0 for a blank, or a file of puzzles; `-` reads them from standard input
    #[arg(value_name = "PUZZLE")]
    puzzle: Option<OsString>,
    /// Puzzles in a file: one a line, drawn with empty lines between, or CSV with the columns
    /// source,question,answer,rating (also gzipped)
    #[arg(long, short, value_name = "FILE", conflicts_with = "puzzle")]
    file: Option<PathBuf>,
    /// What the puzzles are
    #[arg(long, default_value_t = Family::default(), value_name = "TASK", value_parser = families())]
    task: Family,
    #[arg(long, value_name = "METHOD", help = methods(), conflicts_with_all = ["checkpoint", "ensemble", "max_steps",
        "all_steps", "vote", "restarts", "verify", "backend"])]
    with: Option<String>,
    /// With --with: also print every step
    #[arg(long, requires = "with")]
    trace: bool,
    /// Model to use: a .safetensors file, a checkpoint folder, a run folder, or the name of one in the program
    #[arg(long, short, value_name = "DIR|FILE")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Mark cells with characters instead of colours
    #[arg(long)]
    plain: bool,
    /// Draw the boards even if there are several puzzles
    #[arg(long, short)]
    verbose: bool,
    /// Print the boards one beside the other instead of one that moves, also on a terminal
    #[arg(long)]
    no_animation: bool,
    /// Write how the puzzle is solved as an animated GIF
    #[arg(long, value_name = "FILE")]
    gif: Option<PathBuf>,
    /// Write how the puzzle is solved as an animated SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    infer: InferArgs,
}

/// What `--with` may be.
fn methods() -> String {
    let of = |family: &Family| format!("{family}: {}", family.methods().join(", "));
    let all: Vec<String> = Family::ALL.iter().filter(|family| family.has_rules()).map(of).collect();
    format!("Answer with a classical solver instead of a model, and report its work. Of {}", all.join("; "))
}

/// Puzzles that are read before any of them is solved, for each that goes through a model with it.
const BATCHES: usize = 4;

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let family = args.task;
    if !family.has_rules() {
        bail!(
            "--task {family}: it is judged by a vote, not puzzle by puzzle; `hrm arc solve TASK.json` answers it"
        );
    }
    let (method, given) = match &args.with {
        Some(method) => (Some(known(family, method)?), None),
        None => (None, Given::new(family, args.infer.checkpoints(args.checkpoint.as_deref())?)?),
    };
    let backend = if method.is_some() { None } else { Some(args.compute.choose()?) };
    let source = match (args.puzzle, args.file) {
        (Some(dash), _) if dash == "-" => Source::Stdin,
        (Some(text), _) => Source::Argument(text),
        (None, Some(file)) => Source::File(file),
        (None, None) => Source::Unsaid,
    };
    let mut stream = Stream::open(family, source, || built_in(family, given.as_ref(), method.is_some()))?;
    let in_full = !stream.several() || args.verbose;
    let out = io::stdout().lock();
    let backend_name = backend.map(Name::feature);
    let films = Films { gif: args.gif, svg: args.svg };
    if let Some(option) = films.option().filter(|_| stream.several()) {
        bail!("{option}: expected one puzzle, got several; a film is made of one");
    }
    let reporter: Box<dyn Reporter> = match args.json {
        true => Box::new(Json::new(out, family, method, backend_name)?),
        false => Box::new(Text {
            out,
            style: terminal::stdout_style(args.plain),
            in_full,
            several: stream.several(),
            moves: !(stream.several() || args.plain || args.no_animation),
            scales: args.infer.scales(),
            help: args.infer.what_helps(family),
            backend: backend_name,
            method,
            tally: Tally::default(),
        }),
    };
    let mut reporter = films.around(reporter);
    // The rules are known: an answer that breaks them is no reason to stop.
    let halting = match args.infer.options().halting {
        Halting::Learned => Halting::Unbroken,
        other => other,
    };
    let options = InferOptions { keep_thoughts: args.json || in_full, halting, ..args.infer.options() };
    let done = match (method, backend) {
        (Some(method), _) => by_method(method, args.trace, &mut stream, reporter.as_mut()),
        (None, Some(backend)) => {
            by_models(backend, Plan::new(given, &args.infer), options, &mut stream, reporter.as_mut())
        }
        (None, None) => Ok(()),
    };
    // Also what ends early is closed: the JSON can be read.
    let finished = reporter.finish();
    done?;
    let tally = finished?;
    Ok(if tally.solved == tally.puzzles { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The classical solver of a name.
fn known(family: Family, method: &str) -> Result<&'static str> {
    let all = family.methods();
    if let Some(found) = all.iter().find(|known| **known == method) {
        return Ok(found);
    }
    match all.as_slice() {
        [only] => bail!("--with {method}: expected `{only}` for {family}"),
        [first @ .., last] => bail!("--with {method}: expected {} or {last} for {family}", first.join(", ")),
        [] => bail!("--with {method}: there is no classical solver for {family}"),
    }
}

/// The built-in puzzle: of the model's size, or of one with a bundled model.
fn built_in(family: Family, given: Option<&Given>, any_size: bool) -> Option<String> {
    if let Some(given) = given {
        return given.shape?.task().example();
    }
    let shape = |side| Shape::of_size(family, Size::new(side, side)).ok();
    let bundled = |shape: &Shape| any_size || models::bundled(*shape).is_some();
    shape(9).filter(bundled).or_else(|| shape(4))?.task().example()
}

/// The checkpoints given on the command line, which work together.
struct Given {
    files: Vec<Weights>,
    /// Tokens of a row and number of token values.
    sizes: (usize, usize),
    /// What puzzles of the family have these sizes, as far as they tell.
    shape: Option<Shape>,
    configs: Vec<ModelConfig>,
}

impl Given {
    /// `None` if there are none.
    fn new(family: Family, files: Vec<Weights>) -> Result<Option<Self>> {
        let mut given: Option<Self> = None;
        for file in &files {
            let config = Header::read(file)?.config().with_context(|| file.to_string())?;
            let sizes = (config.seq_len, config.vocab_size);
            let shape = Shape::of(sizes.0, sizes.1, Some(family));
            let found = Self { files: files.clone(), sizes, shape, configs: vec![config] };
            match &mut given {
                Some(first) if first.sizes != sizes => {
                    let (found, first) = (found.told(), first.told());
                    bail!("--ensemble: {file} is for {found} puzzles, the first checkpoint for {first}")
                }
                Some(given) => given.configs.extend(found.configs),
                None => given = Some(found),
            }
        }
        Ok(given)
    }

    fn told(&self) -> String {
        let (seq_len, vocab_size) = self.sizes;
        self.shape
            .map_or_else(|| format!("{seq_len} tokens of {vocab_size} kinds"), |shape| shape.to_string())
    }

    /// The files, for puzzles of a shape.
    fn files(&self, shape: Shape) -> Result<Vec<Weights>, String> {
        if self.configs.iter().all(|config| models::fits(config, shape)) {
            return Ok(self.files.clone());
        }
        let (seq_len, vocab_size) = shape.tokens();
        let path = self.files.first().map(Weights::to_string).unwrap_or_default();
        Err(match self.shape {
            Some(known) => format!("the model {path} is for {known} puzzles, this one is {shape}"),
            None => format!(
                "the model reads {} tokens of {} kinds, a {shape} has {seq_len} of {vocab_size}",
                self.sizes.0, self.sizes.1
            ),
        })
    }
}

/// An answer, and how it came about.
struct Attempt<'a> {
    tokens: Vec<u8>,
    /// What is wrong with it.
    fault: Option<String>,
    /// Cells that differ from the solution, if that is known.
    wrong: Option<usize>,
    matches_answer: Option<bool>,
    milliseconds: f64,
    by: By<'a>,
}

/// Who gave an answer.
enum By<'a> {
    Models(&'a Answer, &'a ModelInfo),
    Method(&'a Worked),
}

/// Cells in which an answer differs from a solution; those that are not scored do not count.
fn differences(solution: &[u8], answer: &[u8]) -> usize {
    solution.iter().zip(answer).filter(|(right, got)| **right != 0 && right != got).count()
}

impl Puzzle {
    /// Cells in which an answer differs from the solution, if that is known; a right one differs in none.
    fn wrong(&self, answer: &[u8]) -> Option<usize> {
        let solution = self.solution.as_deref()?;
        match self.task.verify(&self.record.input, answer) {
            Ok(()) => Some(0),
            Err(_) => Some(differences(solution, answer)),
        }
    }

    fn attempt<'a>(&self, tokens: &[u8], milliseconds: f64, by: By<'a>) -> Attempt<'a> {
        Attempt {
            tokens: tokens.to_vec(),
            fault: self.task.verify(&self.record.input, tokens).err(),
            wrong: self.wrong(tokens),
            matches_answer: self.record.label.as_deref().map(|label| differences(label, tokens) == 0),
            milliseconds,
            by,
        }
    }
}

/// Answers by a classical solver.
fn by_method(method: &str, trace: bool, stream: &mut Stream, reporter: &mut dyn Reporter) -> Result<()> {
    loop {
        let entries = stream.next(64)?;
        if entries.is_empty() {
            return Ok(());
        }
        for entry in &entries {
            match &entry.puzzle {
                Ok(puzzle) => work(method, trace, entry, puzzle, reporter)?,
                Err(reason) => reporter.rejected(entry, reason)?,
            }
        }
    }
}

fn work(
    method: &str,
    trace: bool,
    entry: &Entry,
    puzzle: &Puzzle,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let start = Instant::now();
    let worked = puzzle.task.work(&puzzle.record.input, method, trace).map_err(anyhow::Error::msg)?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    match &worked.answer {
        Some(answer) => {
            let attempt = puzzle.attempt(answer, milliseconds, By::Method(&worked));
            reporter.solved(entry, puzzle, &attempt)
        }
        None => {
            let outcome = worked.outcome.as_deref().unwrap_or("found no solution");
            reporter.rejected(entry, &format!("{method}: {outcome}"))
        }
    }
}

/// Answers by models. None is loaded and no device is started before there is a puzzle for them.
fn by_models(
    backend: Name,
    mut plan: Plan,
    options: InferOptions,
    stream: &mut Stream,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    loop {
        let mut entries = stream.next(BATCHES * options.batch)?;
        if entries.is_empty() {
            return Ok(());
        }
        plan.assign(&mut entries);
        if entries.iter().any(|entry| entry.puzzle.is_ok()) {
            let engine = backend.open(None)?;
            return SolveJob { plan, options, entries, stream, reporter }.run(engine.as_ref());
        }
        for entry in &entries {
            if let Err(reason) = &entry.puzzle {
                reporter.rejected(entry, reason)?;
            }
        }
    }
}

/// Which checkpoints work on which puzzles, and how.
struct Plan {
    given: Option<Given>,
    shapes: Vec<(Shape, Vec<Weights>)>,
    /// Whether a model that has learned trial and error makes guesses without being asked.
    may_guess: bool,
}

impl Plan {
    fn new(given: Option<Given>, infer: &InferArgs) -> Self {
        let single = infer.vote.is_none() && infer.restarts.is_none() && infer.ensemble.is_empty();
        Self { given, shapes: Vec::new(), may_guess: single && infer.guesses.is_none() && !infer.all_steps }
    }

    fn options(&self, options: InferOptions, models: &dyn Models, puzzles: &dyn Puzzles) -> InferOptions {
        let has_learned = models.configs().iter().all(|config| config.conflict);
        match self.may_guess && has_learned && puzzles.blank().is_some() {
            true => InferOptions { guesses: GUESSES, ..options },
            false => options,
        }
    }

    /// Puzzles without a model become entries that say so.
    fn assign(&mut self, entries: &mut [Entry]) {
        for entry in entries {
            let Ok(Puzzle { shape, .. }) = entry.puzzle else { continue };
            if self.shapes.iter().any(|(known, _)| *known == shape) {
                continue;
            }
            let files = match &self.given {
                Some(given) => given.files(shape),
                None => models::bundled(shape)
                    .map(|file| vec![file])
                    .ok_or_else(|| models::no_bundled_model(shape)),
            };
            match files {
                Ok(files) => self.shapes.push((shape, files)),
                Err(reason) => entry.puzzle = Err(reason),
            }
        }
    }

    fn files(&self, shape: Shape) -> Option<&[Weights]> {
        self.shapes.iter().find(|(known, _)| *known == shape).map(|(_, files)| files.as_slice())
    }
}

/// Solves what is left to solve and reports every entry in order.
struct SolveJob<'a> {
    plan: Plan,
    options: InferOptions,
    entries: Vec<Entry>,
    stream: &'a mut Stream,
    reporter: &'a mut dyn Reporter,
}

impl SolveJob<'_> {
    fn run(self, engine: &dyn Engine) -> Result<()> {
        let Self { mut plan, options, mut entries, stream, reporter } = self;
        let mut loaded: Vec<(Shape, Box<dyn Models>, ModelInfo)> = Vec::new();
        let mut working = Waiting(Some(Working::on("solving")));
        while !entries.is_empty() {
            for shape in entries.iter().filter_map(|entry| Some(entry.puzzle.as_ref().ok()?.shape)) {
                if loaded.iter().all(|(known, ..)| *known != shape)
                    && let Some(files) = plan.files(shape)
                {
                    let models = engine.load(files, Some(shape))?;
                    models::warn_not_finite(&*models);
                    let info = ModelInfo::new(files, models.as_ref(), options);
                    reporter.uses(files);
                    loaded.push((shape, models, info));
                }
            }
            let mut chunk = Chunk { entries: &entries, answers: vec![None; entries.len()], reported: 0 };
            let infos: Vec<(Shape, &ModelInfo)> =
                loaded.iter().map(|(shape, _, info)| (*shape, info)).collect();
            for (shape, models, _) in &loaded {
                let rules = infer::of_shape(Some(*shape), options.votes, options.seed);
                let options = plan.options(options, models.as_ref(), rules.as_ref());
                let (places, queries): (Vec<usize>, Vec<Query>) = entries
                    .iter()
                    .enumerate()
                    .filter_map(|(place, entry)| Some((place, entry.puzzle.as_ref().ok()?)))
                    .filter(|(_, puzzle)| puzzle.shape == *shape)
                    .map(|(place, puzzle)| (place, Query::from(puzzle.record.input.clone())))
                    .unzip();
                let mut failure = None;
                models.solve_each(rules.as_ref(), options, &queries, &mut |query, answer| {
                    chunk.answers[places[query]] = Some(answer);
                    working.answered();
                    if failure.is_none() {
                        failure = chunk.report(&infos, reporter).err();
                    }
                    // Nobody reads on: the rest need not be computed.
                    if failure.as_ref().is_some_and(crate::is_broken_pipe) {
                        process::exit(0);
                    }
                })?;
                failure.map_or(Ok(()), Err)?;
            }
            chunk.report(&infos, reporter)?;
            entries = stream.next(BATCHES * options.batch)?;
            plan.assign(&mut entries);
        }
        Ok(())
    }
}

/// A sign of life until the first answer; where answers do not come on the terminal themselves, until the last.
struct Waiting(Option<Working>);

impl Waiting {
    fn answered(&mut self) {
        if io::stdout().is_terminal() {
            self.0 = None;
        }
    }
}

/// Entries that are solved together.
struct Chunk<'a> {
    entries: &'a [Entry],
    answers: Vec<Option<Answer>>,
    reported: usize,
}

impl Chunk<'_> {
    /// Reports the entries from the first unreported one to the next that still has to be solved.
    fn report(&mut self, infos: &[(Shape, &ModelInfo)], reporter: &mut dyn Reporter) -> Result<()> {
        while let Some(entry) = self.entries.get(self.reported) {
            match &entry.puzzle {
                Ok(puzzle) => {
                    let Some(answer) = self.answers[self.reported].take() else { break };
                    let Some((_, info)) = infos.iter().find(|(shape, _)| *shape == puzzle.shape) else {
                        break;
                    };
                    // The time in the model and in the search.
                    let search = answer.search.map(|search| search.time).unwrap_or_default();
                    let milliseconds = (answer.time + search).as_secs_f64() * 1e3;
                    let attempt = puzzle.attempt(&answer.tokens, milliseconds, By::Models(&answer, info));
                    reporter.solved(entry, puzzle, &attempt)?;
                }
                Err(reason) => reporter.rejected(entry, reason)?,
            }
            self.reported += 1;
        }
        Ok(())
    }
}

/// What to say about the models of a puzzle.
struct ModelInfo {
    files: Vec<Weights>,
    parameters: usize,
    max_steps: usize,
    /// What the second halting value of every model means, if anything: TRM does not learn it.
    second: Option<&'static str>,
}

impl ModelInfo {
    fn new(files: &[Weights], models: &dyn Models, options: InferOptions) -> Self {
        let trained = models.configs().iter().map(|config| config.halt_max_steps).max();
        Self {
            files: files.to_vec(),
            parameters: models.parameters(),
            max_steps: options.max_steps.or(trained).unwrap_or_default(),
            second: match models.configs().as_slice() {
                configs if configs.iter().all(|config| !config.no_act_continue) => Some("q_continue"),
                configs if configs.iter().all(|config| config.conflict) => Some("conflict"),
                _ => None,
            },
        }
    }
}
