//! `hrm data canonical|check|render`: puzzles as they are, whatever their model.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use hrm_data::{
    puzzles::{
        arc,
        sudoku::{DifficultyTable, difficulty},
    },
    reader::{self, Puzzle},
    registry::Family,
    render::{Picture, Style},
    task::Record,
};

use super::{examples, rectangle};
use crate::{
    puzzles::{self, families},
    terminal::{self, count},
};

/// Print the canonical form of each puzzle, one a line, in order
///
/// Puzzles that are images of each other (values relabelled, rows, columns, bands and stacks exchanged, transposed) have
/// the same canonical form, and no others.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm data canonical puzzles.csv
  hrm data canonical puzzles.txt | sort | uniq -d      equivalent puzzles")]
pub struct Canonical {
    /// Puzzles: CSV source,question,answer,rating or one puzzle a line, also gzipped; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Canonical {
    /// Runs the command.
    pub fn run(&self) -> Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        for puzzle in reader::puzzles(puzzles::open(Family::Sudoku, &self.file)?) {
            let Puzzle { task, record, .. } = puzzle?;
            writeln!(out, "{}", task.canonical_line(&record.input).map_err(anyhow::Error::msg)?)?;
        }
        Ok(out.flush()?)
    }
}

/// Check that no test puzzle is equivalent to a training puzzle
///
/// Reports equivalent puzzles and, for Sudoku of 9x9 and more, solution grids that are shared up to symmetry. Exit code 1 if
/// anything is shared.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm data check train.csv test.csv.gz
  hrm data check data/sudoku-9x9/train data/sudoku-9x9/test
  hrm data check --task maze maze-train.csv maze-test.csv
  hrm data check --task arc arc2-training.json.gz arc1-evaluation.json.gz")]
pub struct Check {
    /// Training puzzles: a file, or a dataset folder
    #[arg(value_name = "TRAIN")]
    train: PathBuf,
    /// Test puzzles: a file, or a dataset folder
    #[arg(value_name = "TEST")]
    test: PathBuf,
    /// What they are
    #[arg(long, value_name = "TASK", default_value_t, value_parser = families())]
    task: Family,
    /// Rows and columns of mazes in a folder [default: as many rows as columns]
    #[arg(long, value_name = "ROWSxCOLS", value_parser = rectangle)]
    size: Option<(usize, usize)>,
}

impl Check {
    /// Runs the command.
    pub fn run(&self) -> Result<()> {
        let found = if self.task.has_rules() { self.puzzles()? } else { self.arc()? };
        if found > 0 {
            bail!(
                "{} and {} leak: {} of the test set known from training; take them out, or choose other files",
                self.train.display(),
                self.test.display(),
                count(found, "puzzle")
            );
        }
        Ok(())
    }

    fn puzzles(&self) -> Result<usize> {
        let records = |path: &Path| -> Result<Vec<Record>> {
            Ok(examples::read(path, self.task, self.size)?.into_iter().map(|puzzle| puzzle.record).collect())
        };
        let (train, puzzles) = (records(&self.train)?, examples::read(&self.test, self.task, self.size)?);
        let task = puzzles.first().map(|puzzle| puzzle.task.clone());
        let test: Vec<Record> = puzzles.into_iter().map(|puzzle| puzzle.record).collect();
        let Some(task) = task else { return Ok(0) };
        // Asked the other way round: which test puzzles are known from training.
        let leaks = task.leaks(&test, &train).map_err(anyhow::Error::msg)?;
        for leak in &leaks.0 {
            report(leak.title, &leak.pairs, train.len(), test.len());
        }
        Ok(leaks.all().len())
    }

    fn arc(&self) -> Result<usize> {
        let (train, test) = (arc::load(&self.train)?, arc::load(&self.test)?);
        let found = arc::leaks(&train, &test);
        say!("{} training tasks, {} test tasks: {} shared", train.len(), test.len(), found.len());
        super::arc::print_leaks(&found);
        Ok(found.len())
    }
}

fn report(what: &str, found: &[(usize, usize)], train: usize, test: usize) {
    say!("{what}: {} of {test} in the test set, against {train} in the training set", found.len());
    for (test, train) in found.iter().take(5) {
        say!("  test {} = training {}", test + 1, train + 1);
    }
    if found.len() > 5 {
        say!("  ... and {} more", found.len() - 5);
    }
}

/// How hard Sudokus are: guesses of a solver, and the techniques that a person needs
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  hrm data difficulty datasets/sudoku-hard/train.csv.gz")]
pub struct Difficulty {
    /// Puzzles: CSV source,question,answer,rating or one puzzle a line, also gzipped; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl Difficulty {
    /// Runs the command.
    pub fn run(&self) -> Result<()> {
        let puzzles = reader::puzzles(puzzles::open(Family::Sudoku, &self.file)?);
        let records = puzzles.map(|puzzle| Ok(puzzle?.record)).collect::<Result<Vec<Record>>>()?;
        let table: DifficultyTable = difficulty(&records);
        if self.json {
            say!("{}", serde_json::to_string_pretty(&table)?);
        } else {
            say!("{table}");
        }
        Ok(())
    }
}

/// Draw an example, on the terminal or as a picture
///
/// A puzzle is drawn with its solution, what was given and what was added told apart.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm data render puzzles.csv --index 3
  hrm data render data/sudoku-9x9 --puzzle-only --out puzzle.svg
  hrm data render puzzles.csv --out graph.dot && neato -n2 -Tsvg graph.dot > graph.svg
  hrm data render mazes.csv.gz --task maze --out maze.svg
  hrm data render data/killer-6x6/test.txt --task killer
  hrm data render arc1-training.json.gz --task arc --id 007bbfb7 --out task.png")]
pub struct Render {
    /// Sudoku or maze CSV, also gzipped, Killer, Samurai or queens puzzles one a line, ARC tasks, or a dataset folder; `-` is standard input
    #[arg(value_name = "FILE|DIR")]
    file: PathBuf,
    /// What is in it
    #[arg(long, value_name = "TASK", default_value_t, value_parser = families())]
    task: Family,
    /// Rows and columns of mazes in a folder [default: as many rows as columns]
    #[arg(long, value_name = "ROWSxCOLS", value_parser = rectangle)]
    size: Option<(usize, usize)>,
    /// Which example, counted from 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    index: usize,
    /// Which ARC task
    #[arg(long, value_name = "ID", conflicts_with = "index")]
    id: Option<String>,
    /// Leave the solution out
    #[arg(long)]
    puzzle_only: bool,
    /// Picture to write: .png or .svg, or .dot with the constraint graph of a Sudoku, for Graphviz; without it, the example is
    /// drawn here
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Pixels for each unit of a PNG; a cell has about 40 units
    #[arg(long, value_name = "X", default_value_t = 2.0)]
    scale: f32,
    /// Mark cells with characters instead of colours: `!` for what is wrong, `*` for what is added (`q` for queens, and `-`
    /// where a given one leaves no place)
    #[arg(long, conflicts_with = "colour")]
    plain: bool,
    /// Colours even where the output is no terminal
    #[arg(long)]
    colour: bool,
}

impl Render {
    /// Runs the command.
    pub fn run(&self) -> Result<()> {
        let style = if self.colour { Style::Ansi } else { terminal::stdout_style(self.plain) };
        let in_dataset = examples::dataset_folders(&self.file).is_ok();
        let (text, picture) = if !self.task.has_rules() && !in_dataset {
            let tasks = arc::load(&self.file)?;
            let mut task = match &self.id {
                None => self.nth(tasks)?,
                Some(id) => tasks.into_iter().find(|task| task.id == *id).with_context(|| {
                    format!("{}: no task {id}; `--index N` takes the N-th", self.file.display())
                })?,
            };
            if self.puzzle_only {
                task.test.iter_mut().for_each(|pair| pair.output = None);
            }
            (arc::draw::task(&task, style), arc::draw::task_picture(&task))
        } else {
            let mut puzzle = self.nth(examples::read(&self.file, self.task, self.size)?)?;
            puzzle.record.label = match self.puzzle_only {
                true => None,
                false => puzzle.record.label.or_else(|| puzzle.task.proper(&puzzle.record.input).ok()?),
            };
            let Puzzle { task, shape, record } = &puzzle;
            let label = record.label.as_deref();
            if let Some(out) = self.out.as_ref().filter(|out| out.extension().is_some_and(|e| e == "dot")) {
                let graph = |board: &[u8]| task.graph(board).map_err(anyhow::Error::msg);
                let of_puzzle = graph(&record.input)?.with_context(|| {
                    format!("only a Sudoku has a constraint graph to write as .dot, got a {shape}")
                })?;
                let graph = label.map(graph).transpose()?.flatten().unwrap_or(of_puzzle);
                return wrote(out, graph.as_bytes());
            }
            let picture = task.picture(&record.input, label, label).map_err(anyhow::Error::msg)?;
            (examples::text(&puzzle, style)?, picture)
        };
        match &self.out {
            None => say!("{text}"),
            Some(out) => self.write(out, &picture)?,
        }
        Ok(())
    }

    fn nth<T>(&self, items: Vec<T>) -> Result<T> {
        let total = items.len();
        self.index.checked_sub(1).and_then(|index| items.into_iter().nth(index)).with_context(|| {
            format!("--index {}: {} has examples 1 to {total}", self.index, self.file.display())
        })
    }

    fn write(&self, out: &Path, picture: &Picture) -> Result<()> {
        let bytes = match out.extension().and_then(|e| e.to_str()) {
            Some("svg") => picture.svg().into_bytes(),
            Some("png") => picture.png(self.scale)?,
            _ => bail!(
                "--out {}: expected a file ending in .png or .svg (of a Sudoku also .dot)",
                out.display()
            ),
        };
        wrote(out, &bytes)
    }
}

fn wrote(out: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(out, bytes).with_context(|| format!("cannot write {}", out.display()))?;
    say!("wrote {}", out.display());
    Ok(())
}
