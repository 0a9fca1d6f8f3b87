//! `hrm compare`: classical solvers beside a model on the same set.

use std::{path::PathBuf, time::Instant};

use anyhow::{Result, bail};
use hrm_data::{
    puzzles::maze::{
        self, Maze, Mazes,
        solvers::{Method, Outcome},
    },
    reader,
    registry::{Family, Shape},
};
use hrm_engine::{Engine, Weights};
use hrm_infer::{InferOptions, Query};

use crate::{backend::BackendArgs, models, terminal::count};

/// Puzzles that go through the model together.
const BATCH: usize = 32;

/// Subcommands of `hrm compare`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Maze(MazeArgs),
}

/// Ways through mazes: breadth-first, A*, wall followers, Trémaux, dead-end filling, and a model
///
/// For each: how many goals it reaches, how many by a shortest path, and its mean number of steps (cells taken up, moves
/// walked, cells filled; for a model, segments).
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm compare maze --file maze-30x30-hard-test.csv.gz --limit 100
  hrm compare maze --file mazes.csv --checkpoint maze")]
pub struct MazeArgs {
    /// Mazes: CSV with the columns source,question,answer,rating, also gzipped
    #[arg(long, short, value_name = "CSV")]
    file: PathBuf,
    /// Only the first N mazes
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Model to compare with: a .safetensors file, a checkpoint folder, or a run folder [default: the bundled one, if it fits]
    #[arg(long, short, value_name = "DIR|FILE")]
    checkpoint: Option<PathBuf>,
    /// Steps of the model at most [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_steps: Option<u32>,
    #[command(flatten)]
    backend: BackendArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, serde::Serialize)]
struct Row {
    solver: String,
    mazes: usize,
    reached: usize,
    shortest: usize,
    mean_steps: f64,
    milliseconds: f64,
}

/// Runs the command.
pub fn run(command: Command) -> Result<()> {
    let Command::Maze(args) = command;
    let backend = args.backend.choose()?;
    let puzzles = reader::read_all(Family::Maze, &args.file)?;
    let maze = |puzzle: &reader::Puzzle| {
        let (rows, cols) = puzzle.shape.size().unwrap_or_default();
        maze::decode_tokens(rows, cols, &puzzle.record.input)
    };
    let mut mazes = puzzles.iter().map(maze).collect::<Result<Vec<Maze>, _>>()?;
    if mazes.is_empty() {
        bail!("{}: no maze in it; expected CSV with a column `question`", args.file.display());
    }
    mazes.truncate(args.limit.unwrap_or(usize::MAX));
    if mazes.is_empty() {
        bail!("--limit 0: expected at least 1");
    }
    let mut rows: Vec<Row> = Method::ALL.into_iter().map(|method| classical(method, &mazes)).collect();
    let file = match &args.checkpoint {
        Some(checkpoint) => Some(models::file(checkpoint)?),
        None => bundled(&mazes),
    };
    let with_model = file.is_some();
    if let Some(file) = file {
        let max_steps = args.max_steps.map(|n| n as usize);
        rows.push(model_row(backend.open(None)?.as_ref(), file, &mazes, max_steps)?);
    }
    if args.json {
        say!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let percent = |part: usize| format!("{:.1} %", 100.0 * part as f64 / mazes.len() as f64);
    say!("{}", count(mazes.len(), "maze"));
    say!("{:<12} {:>9} {:>9} {:>11} {:>12}", "solver", "reached", "shortest", "mean steps", "ms a maze");
    for row in &rows {
        say!(
            "{:<12} {:>9} {:>9} {:>11.1} {:>12.3}",
            row.solver,
            percent(row.reached),
            percent(row.shortest),
            row.mean_steps,
            row.milliseconds
        );
    }
    say!(
        "\nsteps: cells looked at or walked through, of a model its segments. Wall followers may walk in circles; dead-end \
         filling decides only where no more than a path is left."
    );
    if !with_model {
        say!("No bundled model fits these mazes; --checkpoint takes one.");
    }
    Ok(())
}

/// The bundled model, if it fits all of the mazes.
fn bundled(mazes: &[Maze]) -> Option<Weights> {
    let shape = |maze: &Maze| Shape::Maze(Mazes::new(maze.rows(), maze.cols()));
    let first = mazes.first().map(shape)?;
    mazes.iter().all(|maze| shape(maze) == first).then(|| models::bundled(first))?
}

fn classical(method: Method, mazes: &[Maze]) -> Row {
    let start = Instant::now();
    let runs: Vec<_> = mazes.iter().map(|maze| method.solve(maze)).collect();
    let milliseconds = start.elapsed().as_secs_f64() * 1e3 / mazes.len() as f64;
    Row {
        solver: method.name().to_owned(),
        mazes: mazes.len(),
        reached: runs.iter().filter(|run| run.path.is_some()).count(),
        shortest: runs.iter().filter(|run| run.outcome == Outcome::Shortest).count(),
        mean_steps: runs.iter().map(|run| run.steps as f64).sum::<f64>() / mazes.len() as f64,
        milliseconds,
    }
}

fn model_row(engine: &dyn Engine, file: Weights, mazes: &[Maze], max_steps: Option<usize>) -> Result<Row> {
    let model = engine.load(&[file], None)?;
    models::warn_not_finite(&*model);
    let options = InferOptions { max_steps, batch: BATCH, ..InferOptions::default() };
    let (mut reached, mut shortest, mut steps) = (0, 0, 0);
    let start = Instant::now();
    let queries: Vec<Query> = mazes.iter().map(|maze| maze.tokens().to_vec().into()).collect();
    model.solve_each(hrm_infer::of_shape(None, 1, 0).as_ref(), options, &queries, &mut |query, answer| {
        let maze = &mazes[query];
        steps += answer.trace.steps;
        reached += usize::from(maze.check(&answer.tokens).is_ok());
        shortest += usize::from(maze.check_optimal(&answer.tokens).is_ok());
    })?;
    let mean = |sum: f64| sum / mazes.len() as f64;
    Ok(Row {
        solver: "model".to_owned(),
        mazes: mazes.len(),
        reached,
        shortest,
        mean_steps: mean(steps as f64),
        milliseconds: mean(start.elapsed().as_secs_f64() * 1e3),
    })
}
