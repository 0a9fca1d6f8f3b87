//! `hrm data killer|samurai|queens generate`

use std::{fs, time::Instant};

use anyhow::{Context, Result};
use hrm_data::{
    sudoku::Geometry,
    task::{self, Split, Task, queens::Queens},
    variants::{
        killer::{self, KillerTask},
        samurai::{self, SamuraiTask},
    },
};

use super::{Folder, range, sudoku::size};
use crate::terminal::count;

/// Generate Killer Sudoku: no givens, cages with sums
#[derive(Debug, clap::Args)]
pub struct Killer {
    #[command(subcommand)]
    generate: GenerateKiller,
}

/// Generate Samurai Sudoku: five 9x9 boards that overlap
#[derive(Debug, clap::Args)]
pub struct Samurai {
    #[command(subcommand)]
    generate: GenerateSamurai,
}

/// Generate n-queens completion
#[derive(Debug, clap::Args)]
pub struct QueensArgs {
    #[command(subcommand)]
    generate: GenerateQueens,
}

#[derive(Debug, clap::Subcommand)]
enum GenerateKiller {
    /// Make puzzles with exactly one solution, none of them another one turned or mirrored
    ///
    /// Writes DIR/train and DIR/test in the format of the reference implementation, and DIR/train.txt and DIR/test.txt with one
    /// puzzle a line.
    #[command(after_long_help = "\
Example:
  hrm data killer generate --size 6x6 --largest-cage 4 --train 1000 --test 200 --out data/killer-6x6")]
    Generate {
        /// Size of the boards: 4x4, 6x6, 8x8 or 9x9
        #[arg(long, value_name = "SIZE", default_value = "9x9", value_parser = size)]
        size: Geometry,
        /// Cells of the largest cages
        #[arg(long, value_name = "N", default_value_t = 5)]
        largest_cage: usize,
        #[command(flatten)]
        wanted: Wanted,
    },
}

#[derive(Debug, clap::Subcommand)]
enum GenerateSamurai {
    /// Make puzzles with exactly one solution, all of them different
    ///
    /// Writes DIR/train and DIR/test in the format of the reference implementation, and DIR/train.txt and DIR/test.txt with one
    /// puzzle a line.
    #[command(after_long_help = "\
Example:
  hrm data samurai generate --clues 150-200 --train 1000 --test 200 --out data/samurai")]
    Generate {
        /// Range of the number of givens, of 369 cells [default: as few as possible]
        #[arg(long, value_name = "FROM-TO", value_parser = range)]
        clues: Option<(usize, usize)>,
        #[command(flatten)]
        wanted: Wanted,
    },
}

#[derive(Debug, clap::Subcommand)]
enum GenerateQueens {
    /// Make puzzles with exactly one completion, none of them another one turned or mirrored
    ///
    /// Writes DIR/train and DIR/test in the format of the reference implementation, and DIR/train.txt and DIR/test.txt with one
    /// puzzle a line.
    #[command(after_long_help = "\
Example:
  hrm data queens generate --size 8 --train 200 --test 50 --out data/queens-8")]
    Generate {
        /// Rows and columns of the board, 4 to 24
        #[arg(long, value_name = "N", default_value_t = 8)]
        size: usize,
        #[command(flatten)]
        wanted: Wanted,
    },
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

impl Killer {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let GenerateKiller::Generate { size, largest_cage, wanted } = self.generate;
        let generator = killer::Generator::new(size, wanted.folder.seed())?.with_largest_cage(largest_cage);
        wanted.make(&KillerTask::new(size)?, |index| {
            let made = generator.generate(index);
            (made.puzzle, made.solution)
        })
    }
}

impl Samurai {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let GenerateSamurai::Generate { clues, wanted } = self.generate;
        let mut generator = samurai::Generator::new(wanted.folder.seed());
        if let Some((fewest, most)) = clues {
            generator = generator.with_clues(fewest, most);
        }
        wanted.make(&SamuraiTask, |index| {
            let made = generator.generate(index);
            (made.puzzle, made.solution)
        })
    }
}

impl QueensArgs {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let GenerateQueens::Generate { size, wanted } = self.generate;
        let queens = Queens::new(size)?;
        let seed = wanted.folder.seed();
        wanted.make(&queens, |index| queens.generate(seed, index))
    }
}

impl Wanted {
    fn make<T: Task + Sync>(
        &self,
        task: &T,
        generate: impl Fn(u64) -> (T::Puzzle, T::Solution) + Sync,
    ) -> Result<()>
    where
        T::Puzzle: Send,
        T::Solution: Send,
    {
        let out = self.folder.check()?;
        let start = Instant::now();
        let class = |(puzzle, _): &(T::Puzzle, T::Solution)| task.class(puzzle);
        let Split { train, test } = task::split(generate, class, self.train, self.test)?;
        say!(
            "generated {} and {} of {} in {:.1} s; each has exactly one solution, all are different",
            count(train.len(), "training puzzle"),
            count(test.len(), "test puzzle"),
            task.name(),
            start.elapsed().as_secs_f64()
        );
        let data = task::dataset(task, &train, self.augmentations, self.folder.seed())?;
        let held_out = if test.is_empty() { None } else { Some(task::dataset(task, &test, 0, 0)?) };
        self.folder.save(&data, held_out.as_ref())?;
        for (name, examples) in [("train.txt", &train), ("test.txt", &test)] {
            if !examples.is_empty() {
                let path = out.join(name);
                let lines: Vec<String> = examples.iter().map(|(puzzle, _)| task.line(puzzle)).collect();
                fs::write(&path, lines.join("\n") + "\n")
                    .with_context(|| format!("cannot write {}", path.display()))?;
                say!("wrote {}", path.display());
            }
        }
        Ok(())
    }
}
