//! `hrm data NAME generate`, for every family that has no command of its own.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, Args as _, FromArgMatches, Subcommand};
use hrm_data::{
    registry::{Family, Shape},
    task::{GenerateOptions, Size},
};

use super::{Folder, build, range, rectangle};

/// What to generate.
#[derive(Debug)]
pub struct Made {
    family: Family,
    size: Option<(usize, usize)>,
    options: GenerateOptions,
    wanted: Wanted,
}

/// How many, and where they go.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// Training puzzles
    #[arg(long, value_name = "N", default_value_t = 1000)]
    train: usize,
    /// Test puzzles
    #[arg(long, value_name = "N", default_value_t = 200)]
    test: usize,
    /// Images of each training puzzle under random symmetries, written beside it; training makes them on the fly
    #[arg(long, value_name = "N", default_value_t = 0, visible_alias = "materialize")]
    augmentations: usize,
    #[command(flatten)]
    folder: Folder,
}

/// The families that are made here: those whose puzzles are generated from a few numbers.
fn families() -> impl Iterator<Item = Family> {
    Family::ALL.iter().copied().filter(|family| family.is_made_by_numbers())
}

impl Subcommand for Made {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        families().fold(command, |command, family| command.subcommand(of_family(family)))
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        families().any(|family| family.name() == name)
    }
}

const ABOUT: &str = "Make puzzles with exactly one solution, none of them an image of another one";
const LONG_ABOUT: &str = "\
Make puzzles with exactly one solution, none of them an image of another one

Writes DIR/train and DIR/test in the format of the reference implementation, and DIR/train.txt and DIR/test.txt with one \
puzzle a line.";

fn of_family(family: Family) -> clap::Command {
    let mut generate = clap::Command::new("generate");
    if let Some((rows, cols)) = family.usual_size() {
        let help = format!("Size of the boards [default: {rows}x{cols}]");
        let size = Arg::new("size").long("size").value_name("ROWSxCOLS").value_parser(rectangle).help(help);
        generate = generate.arg(size);
    }
    if family.options().contains(&"givens") {
        let help = "Range of the number of givens [default: as few as possible]";
        let givens = Arg::new("clues").long("clues").value_name("FROM-TO").value_parser(range).help(help);
        generate = generate.arg(givens);
    }
    if family.options().contains(&"largest") {
        let largest =
            Arg::new("largest").long("largest-cage").value_name("N").help("Cells of the largest cages");
        generate = generate.arg(largest.value_parser(clap::value_parser!(usize)).default_value("5"));
    }
    let example =
        format!("Example:\n  hrm data {family} generate --train 1000 --test 200 --out data/{family}");
    clap::Command::new(family.name())
        .about(format!("Generate {}", family.about()))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Wanted::augment_args(generate).about(ABOUT).long_about(LONG_ABOUT).after_long_help(example),
        )
}

impl FromArgMatches for Made {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (name, of_family) = matches.subcommand().ok_or_else(missing)?;
        let family: Family = name.parse().map_err(|_| missing())?;
        let (_, args) = of_family.subcommand().ok_or_else(missing)?;
        let given = |name: &str| args.try_get_one::<(usize, usize)>(name).ok().flatten().copied();
        let options = GenerateOptions {
            givens: given("clues"),
            largest: args.try_get_one::<usize>("largest").ok().flatten().copied(),
            ..GenerateOptions::default()
        };
        Ok(Self { family, size: given("size"), options, wanted: Wanted::from_arg_matches(args)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Made {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let Self { family, size, options, wanted: Wanted { train, test, augmentations, folder } } = self;
        let (rows, cols) = size.or(family.usual_size()).unwrap_or_default();
        let shape = Shape::of_size(family, Size::new(rows, cols)).map_err(anyhow::Error::msg)?;
        let promise = "each has exactly one solution, all are different";
        let split = build::generate(shape, &options, (train, test), &folder, ("puzzle", promise))?;
        let task = shape.task();
        build::save(&folder, Path::new(family.name()), &task, &split, (augmentations, 0))?;
        for (name, records) in [("train.txt", &split.train), ("test.txt", &split.test)] {
            if !records.is_empty() {
                let path = folder.path()?.join(name);
                let lines =
                    records.iter().map(|record| task.line(&record.input)).collect::<Result<Vec<_>, _>>();
                let text = lines.map_err(anyhow::Error::msg)?.join("\n") + "\n";
                fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
                say!("wrote {}", path.display());
            }
        }
        Ok(())
    }
}
