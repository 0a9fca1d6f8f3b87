//! `hrm data arc`

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};
use hrm_data::puzzles::arc::{self, ArcData, ArcOptions, ArcTask, Leak, Names, Sets, SplitRule};
use hrm_model::summary::thousands;

use super::{ON_LEAK, OnLeak, Output};
use crate::choice::one_of;
use crate::terminal::count;

/// Look at sets of ARC tasks, check them for leaks, and write them as one dataset
///
/// Tasks come from folders of JSON files, from JSON files of tasks by name (also gzipped), and from the pairs
/// X_challenges.json and X_solutions.json of the competitions. Training sees all pairs of the training tasks and the
/// demonstrations of the evaluation tasks; evaluation asks for the tests of the evaluation tasks.
///
/// Without --out, only reports. With it, DIR/training.json and DIR/evaluation.json hold the original tasks, from which
/// training draws augmentations as it goes. With --materialize every augmentation is written out in the format of the
/// reference implementation: a hundred gigabytes are soon reached.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm data arc --train arc1-training.json.gz --train conceptarc.json.gz --eval arc1-evaluation.json.gz
  hrm data arc --eval arc1-training.json.gz --largest 6 --out data/arc-small
  hrm data arc --rule hrm --source ARC-AGI/data --source ConceptARC/corpus --out data/arc-1
  hrm data arc --rule trm --source kaggle/combined/arc-agi --subsets training2,evaluation2,concept \\
      --test-set evaluation2 --on-leak drop --out data/arc-2
  hrm data arc --train T.json --eval E.json --augmentations 10 --materialize --out data/arc-small")]
pub struct Args {
    /// Tasks to train on: a folder, a JSON file, or a competition's challenges (repeatable)
    #[arg(long, value_name = "PATH", conflicts_with = "rule")]
    train: Vec<PathBuf>,
    /// Tasks to evaluate on (repeatable)
    #[arg(long, value_name = "PATH", conflicts_with = "rule")]
    eval: Vec<PathBuf>,
    /// Take training and evaluation tasks from --source by the rule of an original data builder
    #[arg(long, value_enum, value_name = "RULE", requires = "source")]
    rule: Option<RuleName>,
    /// With --rule hrm: folders of folders of JSON files (repeatable). With --rule trm: the beginning of the names
    /// PREFIX_SUBSET_challenges.json
    #[arg(long, value_name = "DIR|PREFIX", requires = "rule")]
    source: Vec<PathBuf>,
    /// With --rule trm: the subsets
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        default_value = "training,evaluation,concept"
    )]
    subsets: Vec<String>,
    /// With --rule trm: the subset that is evaluated on
    #[arg(long, value_name = "NAME", default_value = "evaluation")]
    test_set: String,
    /// Augmentations of each task, the task itself not counted
    #[arg(long, value_name = "N", default_value_t = 1000)]
    augmentations: usize,
    /// Whether the demonstrations of the evaluation tasks are trained on, as HRM and TRM do
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    train_on_eval_demonstrations: bool,
    /// Leave out tasks with a grid of more rows or columns than N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=30))]
    largest: Option<u32>,
    /// If training tasks hold the pairs, or have the name, of evaluation tasks
    #[arg(long, value_parser = one_of(&ON_LEAK), value_name = "WHAT", default_value = "refuse")]
    on_leak: OnLeak,
    /// Write every augmentation out, for the original tools
    #[arg(long, requires = "out")]
    materialize: bool,
    /// Folder to write
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Who divides tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RuleName {
    /// Of each --source, the folder `evaluation` is evaluated on, every other one is trained on
    Hrm,
    /// The subset --test-set is evaluated on, the other --subsets are trained on
    Trm,
}

/// Leaks printed in full.
const SHOWN: usize = 8;

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if let Some(out) = &args.out {
        args.output.check(out)?;
    }
    let start = Instant::now();
    let (Sets { mut training, mut evaluation, repeated }, names) = args.read()?;
    if repeated > 0 {
        say!("{} given twice and taken once", count(repeated, "task"));
    }
    if let Some(largest) = args.largest {
        let fits = |task: &ArcTask| task.grids().all(|grid| grid.rows().max(grid.cols()) <= largest as usize);
        for (name, tasks) in [("training", &mut training), ("evaluation", &mut evaluation)] {
            let before = tasks.len();
            tasks.retain(fits);
            say!("{name:<12} left out {} with larger grids", count(before - tasks.len(), "task"));
        }
    }
    let found = arc::leaks(&training, &evaluation);
    args.settle(&mut training, &found)?;
    print_set("training", &training);
    print_set("evaluation", &evaluation);
    let options = ArcOptions {
        seed: args.output.seed,
        augmentations: args.augmentations,
        train_on_evaluation_demonstrations: args.train_on_eval_demonstrations,
        ..ArcOptions::default()
    };
    let data = ArcData::new(training, evaluation, options)?;
    say!(
        "augmented    {} puzzles with up to {} augmentations each; read and drawn in {:.2} s",
        thousands(data.identifiers() - 1),
        args.augmentations,
        start.elapsed().as_secs_f64()
    );
    for (name, training) in [("train", true), ("test", false)] {
        let metadata = data.metadata(training);
        let puzzles = metadata.total_puzzles.unwrap_or_default();
        say!(
            "{name:<12} {}, {} puzzles, {} examples",
            count(metadata.total_groups, "group"),
            thousands(puzzles),
            thousands((metadata.mean_puzzle_examples * puzzles as f64).round() as usize)
        );
    }
    let Some(out) = &args.out else { return Ok(()) };
    if args.materialize {
        data.materialize(out, names, args.output.overwrite())?;
        say!("wrote {}: train, test, identifiers.json, test_puzzles.json", out.display());
        return Ok(());
    }
    fs::create_dir_all(out).with_context(|| format!("cannot write {}", out.display()))?;
    let (training, evaluation) = data.tasks().split_at(data.tasks().len() - data.evaluation().len());
    for (name, tasks) in [("training.json", training), ("evaluation.json", evaluation)] {
        if !tasks.is_empty() {
            let path = out.join(name);
            arc::save(&path, tasks)?;
            say!("wrote {}: {}", path.display(), count(tasks.len(), "task"));
        }
    }
    Ok(())
}

fn print_set(name: &str, tasks: &[ArcTask]) {
    let pairs = |of: fn(&ArcTask) -> usize| thousands(tasks.iter().map(of).sum());
    let withheld = tasks.iter().flat_map(|task| &task.test).filter(|pair| pair.output.is_none()).count();
    say!(
        "{name:<12} {}, {} demonstrations, {}{}",
        count(tasks.len(), "task"),
        pairs(|task| task.train.len()),
        count(tasks.iter().map(|task| task.test.len()).sum(), "test"),
        if withheld > 0 { format!(" ({withheld} of them without an output)") } else { String::new() }
    );
}

/// Prints leaks, the first few in full.
pub fn print_leaks(found: &[Leak]) {
    for leak in found.iter().take(SHOWN) {
        say!("  {leak}");
    }
    if found.len() > SHOWN {
        say!("  ... and {} more", found.len() - SHOWN);
    }
}

impl Args {
    fn read(&self) -> Result<(Sets, Names)> {
        let Some(rule) = self.rule else {
            if self.train.is_empty() && self.eval.is_empty() {
                bail!("expected tasks: --train PATH and --eval PATH, or --rule hrm|trm with --source");
            }
            return Ok((arc::load_sets(&self.train, &self.eval)?, Names::Hrm));
        };
        match rule {
            RuleName::Hrm => Ok((SplitRule::Hrm { folders: &self.source }.load()?, Names::Hrm)),
            RuleName::Trm => {
                let [prefix] = self.source.as_slice() else {
                    bail!("--rule trm: expected one --source PREFIX, got {}", self.source.len());
                };
                if !self.subsets.contains(&self.test_set) {
                    bail!("--test-set {}: expected one of {}", self.test_set, self.subsets.join(", "));
                }
                let rule = SplitRule::Trm { prefix, subsets: &self.subsets, test_set: &self.test_set };
                Ok((rule.load()?, Names::Trm))
            }
        }
    }

    fn settle(&self, training: &mut Vec<ArcTask>, found: &[Leak]) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        say!("{} between training and evaluation", count(found.len(), "leak"));
        print_leaks(found);
        match self.on_leak {
            OnLeak::Refuse => bail!(
                "the training tasks give {} away; `--on-leak drop` leaves those training tasks out, `--on-leak allow` keeps them (as the published results did)",
                count(found.len(), "evaluation task")
            ),
            OnLeak::Drop => {
                let before = training.len();
                training.retain(|task| found.iter().all(|leak| leak.training != task.id));
                say!("left out {}", count(before - training.len(), "training task"));
            }
            OnLeak::Allow => {}
        }
        Ok(())
    }
}
