//! `hrm data`: datasets in the reference's format, and puzzles as they are, whatever their model.

mod arc;
mod build;
pub mod download;
pub mod examples;
pub mod inspect;
mod made;
mod maze;
mod puzzles;
mod sudoku;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use hrm_data::{
    dataset::{Dataset, Overwrite, save_pair},
    task::{AnyTask, Leaks, Record, write_records},
};

use hrm_train::recipe::OnLeak;

use crate::{choice::Choice, terminal::count};

/// Subcommands of `hrm data`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Sudoku(Box<sudoku::Args>),
    Maze(Box<maze::Args>),
    Arc(Box<arc::Args>),
    #[command(flatten)]
    Made(made::Made),
    Inspect(inspect::Args),
    Check(puzzles::Check),
    Canonical(puzzles::Canonical),
    Difficulty(puzzles::Difficulty),
    Render(puzzles::Render),
    Download(download::Args),
}

/// Runs the command.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Sudoku(args) => sudoku::run(*args),
        Command::Maze(args) => maze::run(*args),
        Command::Arc(args) => arc::run(&args),
        Command::Made(args) => args.run(),
        Command::Inspect(args) => args.run(&mut io::stdout().lock()),
        Command::Check(args) => args.run(),
        Command::Canonical(args) => args.run(),
        Command::Difficulty(args) => args.run(),
        Command::Render(args) => args.run(),
        Command::Download(args) => download::run(&args),
    }
}

/// Values of `--on-leak`: training puzzles that give test puzzles away.
const ON_LEAK: [Choice<OnLeak>; 3] = [
    ("refuse", OnLeak::Refuse, "Write nothing and say what leaks"),
    ("drop", OnLeak::Drop, "Leave these training puzzles out"),
    ("allow", OnLeak::Allow, "Train on them all the same"),
];

/// Deals with training puzzles that give test puzzles away: leaves them out, or refuses with what is wrong.
fn settle(on_leak: OnLeak, train: &mut Vec<Record>, leaks: &Leaks) -> Result<()> {
    let all = leaks.all();
    let Some((of_train, of_test)) = all.first() else { return Ok(()) };
    let (of_train, of_test) = (of_train + 1, of_test + 1);
    let found = format!(
        "{} of the training set: {leaks} (training {of_train} and test {of_test} for one)",
        count(all.len(), "puzzle")
    );
    match on_leak {
        OnLeak::Refuse => bail!(
            "{found}: an evaluation would not be held out; `--on-leak drop` leaves these training puzzles out, `--on-leak allow` keeps them"
        ),
        OnLeak::Drop => {
            leaks.drop_from(train);
            say!("left out {found}");
        }
        OnLeak::Allow => note!("warning: {found}"),
    }
    Ok(())
}

/// Where a dataset goes.
#[derive(Debug, clap::Args)]
struct Output {
    /// Seed of all random choices
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Write into a folder that is not empty, replacing a dataset in it
    #[arg(long)]
    force: bool,
}

impl Output {
    /// Refuses a folder with anything in it, before any work is done.
    fn check(&self, out: &Path) -> Result<()> {
        if out.is_file() {
            bail!("--out {}: expected a folder, this is a file", out.display());
        }
        let mut entries = fs::read_dir(out).into_iter().flatten();
        if entries.next().is_some() && !self.force {
            bail!(
                "--out {}: the folder is not empty; choose another, or write into it with --force",
                out.display()
            );
        }
        Ok(())
    }

    const fn overwrite(&self) -> Overwrite {
        if self.force { Overwrite::Yes } else { Overwrite::No }
    }
}

/// The folder to write, of a command that always writes one.
#[derive(Debug, clap::Args)]
struct Folder {
    /// Folder to write
    // Required, but not in the type: where a subcommand may stand in its place, clap leaves it out.
    #[arg(long, short, value_name = "DIR", required = true)]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Folder {
    /// The folder, unless there is anything in it; before any work is done.
    fn check(&self) -> Result<&Path> {
        let out = self.path()?;
        self.output.check(out)?;
        Ok(out)
    }

    fn path(&self) -> Result<&Path> {
        given(self.out.as_deref(), "--out DIR")
    }

    const fn seed(&self) -> u64 {
        self.output.seed
    }

    fn save(&self, train: &Dataset, test: Option<&Dataset>) -> Result<()> {
        let out = self.path()?;
        save_pair(out, train, test, self.output.overwrite())?;
        for (name, dataset) in [("train", Some(train)), ("test", test)] {
            let Some(dataset) = dataset else { continue };
            let metadata = dataset.metadata();
            say!(
                "wrote {}: {} in {}, {} tokens each, vocabulary {}",
                out.join(name).display(),
                count(dataset.examples(), "example"),
                count(dataset.groups(), "group"),
                metadata.seq_len,
                metadata.vocab_size
            );
        }
        Ok(())
    }

    /// Writes `DIR/train.csv.gz` and `DIR/test.csv.gz` beside a dataset.
    fn save_tables(&self, task: &AnyTask, [train, test]: [&[Record]; 2]) -> Result<()> {
        for (name, records) in [("train.csv.gz", train), ("test.csv.gz", test)] {
            if !records.is_empty() {
                let path = self.path()?.join(name);
                write_records(&path, task, records)?;
                say!("wrote {}", path.display());
            }
        }
        Ok(())
    }
}

/// What a source is, for messages.
fn at(path: &Path) -> impl FnOnce() -> String + '_ {
    || path.display().to_string()
}

/// `30x30`, or just `30`.
pub fn rectangle(text: &str) -> Result<(usize, usize), String> {
    let (rows, cols) = text.split_once('x').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<usize>();
    match (number(rows), number(cols)) {
        (Ok(rows), Ok(cols)) => Ok((rows, cols)),
        _ => Err("expected rows and columns, for example 30x30".to_owned()),
    }
}

/// `24-36`, or just `30`.
fn range(text: &str) -> Result<(usize, usize), String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number =
        |text: &str| text.trim().parse::<usize>().map_err(|_| "expected a range such as 24-36".to_owned());
    let (from, to) = (number(from)?, number(to)?);
    if from > to {
        Err(format!("expected a range from few to many, got {from}-{to}"))
    } else {
        Ok((from, to))
    }
}

/// The paths that a user gave, or clap's word that there are some.
fn given<T>(value: Option<T>, option: &str) -> Result<T> {
    value.with_context(|| format!("expected {option}, or `generate`; see --help"))
}
