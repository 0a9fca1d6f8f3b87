//! `hrm arc vote`

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, Result, anyhow, bail};
use hrm_data::puzzles::arc::{self, Baseline, Rule, Solutions, Voting};
use serde_json::json;

use super::{journal::Lines, predict, score};
use crate::terminal::count;

/// Add up the votes of several runs
///
/// Every run of `hrm arc predict` leaves its votes in a journal (.votes.jsonl). This adds journals up, whatever their order, and
/// writes the submission of the whole vote. With outputs at hand it says how often the right answer is among the first 1, 2, 5,
/// 10, 100 and 1,000, by HRM's rule (a task counts if all of its tests are right) and by TRM's (it counts by the share).
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm arc vote a.votes.jsonl b.votes.jsonl --challenges challenges.json --out submission.json
  hrm arc vote submission.votes.jsonl --challenges evaluation.json")]
pub struct Args {
    /// Journals of `hrm arc predict`
    #[arg(required = true, value_name = "SHARD")]
    shards: Vec<PathBuf>,
    /// The tasks; with the outputs of their tests (or X_solutions.json beside X_challenges.json) answers are also judged
    #[arg(long, value_name = "FILE")]
    challenges: PathBuf,
    /// Write the submission of the whole vote
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// First answers among which the right one is looked for.
const FIRST: [usize; 6] = [1, 2, 5, 10, 100, 1000];

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let tasks = arc::load(&args.challenges)?;
    let by_name: HashMap<&str, usize> =
        tasks.iter().enumerate().map(|(index, task)| (task.id.as_str(), index)).collect();
    let mut voting = Voting::new(&tasks);
    let mut voted = HashSet::new();
    for path in &args.shards {
        let mut lines = Lines::open(path)?;
        let mut of_shard = HashMap::new();
        while let Some((id, line)) = lines.next_task()? {
            // A task that a run answered twice counts as it was answered last.
            of_shard.insert(id, line);
        }
        for (id, line) in of_shard {
            let Some(&task) = by_name.get(id.as_str()) else {
                bail!("{}: expected tasks of {}, got task {id}", path.display(), args.challenges.display());
            };
            let told = |why: String| anyhow!("{}, task {id}: {why}", path.display());
            voting.merge(task, &line["ballots"]).map_err(told)?;
            voted.insert(task);
        }
    }
    let submission = voting.submission(Some(Baseline::Transform));
    if let Some(out) = &args.out {
        predict::write(out, &submission)?;
    }
    let known = tasks.iter().flat_map(|task| &task.test).all(|pair| pair.output.is_some());
    let mut out = io::stdout().lock();
    let [hrm, trm] = [Rule::Hrm, Rule::Trm].map(|rule| voting.pass_at(rule, &FIRST));
    if args.json {
        let of = |shares: &[f64]| {
            FIRST
                .iter()
                .zip(shares)
                .map(|(k, share)| (format!("pass@{k}"), json!(share)))
                .collect::<serde_json::Map<_, _>>()
        };
        let judged = known.then(|| json!({ "hrm": of(&hrm), "trm": of(&trm) }));
        let text = json!({ "shards": args.shards.len(), "tasks": tasks.len(), "voted": voted.len(), "pass": judged });
        writeln!(out, "{}", serde_json::to_string_pretty(&text).context("cannot write JSON")?)?;
        return Ok(());
    }
    writeln!(
        out,
        "{}, {} with votes of {}",
        count(args.shards.len(), "shard"),
        count(voted.len(), "task"),
        tasks.len()
    )?;
    if known {
        writeln!(out, "\n{:>9}  {:>9}  {:>9}", "first", "HRM", "TRM")?;
        for (k, (hrm, trm)) in FIRST.iter().zip(hrm.iter().zip(&trm)) {
            writeln!(out, "{k:>9}  {:>7.2} %  {:>7.2} %", 100.0 * hrm, 100.0 * trm)?;
        }
        writeln!(out)?;
        score::print(&mut out, &submission.score(&Solutions::of_tasks(&args.challenges, &tasks)?))?;
    }
    if let Some(path) = &args.out {
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}
