//! `hrm arc predict`

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hrm_data::{
    checksum,
    puzzles::arc::{self, ArcTask, Baseline, Submission, Voting},
};
use hrm_engine::Weights;
use hrm_model::weights::write_atomically;
use serde_json::{Value, json};

use super::{
    journal::Journal,
    predictor::{Group, Predictor, PredictorArgs, thoughts_json},
};
use crate::{
    choice::{Choice, one_of},
    models,
    terminal::count,
};

/// Answer all tasks of a competition and write the submission
///
/// Tasks are answered in groups, in the order of their names. After each group the submission is written anew: it is complete
/// and valid at any time. What is not answered yet, and second attempts where all votes agree, are filled by the best guess
/// without a model (--baseline transform). The votes of every task that is done are in a journal beside it, so that the same
/// command goes on where it was killed.
///
/// Outputs of tests are not looked at, if the file has them.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  hrm arc predict arc-agi_evaluation_challenges.json --checkpoint runs/arc-1 --votes 1000
  hrm arc predict challenges.json --checkpoint runs/arc-1 --adapt-steps 500 --leave-one-out --seconds 36000
  hrm arc predict challenges.json --baseline transform --out baseline.json

The model may know the tasks by the names that it was trained with (identifiers.json beside it, or the recipe of its run); any
other task needs --adapt-steps. `hrm arc score` scores the submission, `hrm arc vote` adds up the journals of several runs,
`hrm view` shows them.")]
pub struct Args {
    /// Tasks: a competition's challenges, any file of tasks, or a folder
    challenges: PathBuf,
    /// Model: a .safetensors file, a checkpoint folder, or a run folder
    #[arg(
        long,
        short,
        value_name = "DIR|FILE",
        required_unless_present = "baseline",
        conflicts_with = "baseline"
    )]
    checkpoint: Option<PathBuf>,
    /// Answer without a model
    #[arg(long, value_parser = one_of(&BASELINES), value_name = "HOW")]
    baseline: Option<Baseline>,
    /// The submission; the journal stands beside it, with the ending .votes.jsonl
    #[arg(long, short, value_name = "FILE", default_value = "submission.json")]
    out: PathBuf,
    /// Time for everything: stops by itself, with a complete file
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    #[command(flatten)]
    predictor: PredictorArgs,
}

/// Values of `--baseline`.
pub const BASELINES: [Choice<Baseline>; 2] = [
    ("identity", Baseline::Identity, "The input"),
    (
        "transform",
        Baseline::Transform,
        "The symmetry and map of colours that fits most demonstrations, then the next best one",
    ),
];

/// Time that is kept for writing the submission.
const RESERVE: Duration = Duration::from_millis(500);

/// Tasks without the outputs of their tests.
pub fn load_hidden(path: &Path) -> Result<Vec<ArcTask>> {
    let mut tasks = arc::load(path)?;
    tasks.iter_mut().flat_map(|task| &mut task.test).for_each(|pair| pair.output = None);
    tasks.sort_by(|a, b| a.id.cmp(&b.id));
    if let Some(twice) = tasks.windows(2).find(|two| two[0].id == two[1].id) {
        bail!("{}: task {} is there twice; names tell answers apart", path.display(), twice[0].id);
    }
    Ok(tasks)
}

/// Where the votes of a submission are.
pub fn journal_of(submission: &Path) -> PathBuf {
    submission.with_extension("votes.jsonl")
}

/// Writes a submission, whole or not at all.
pub fn write(path: &Path, submission: &Submission) -> Result<()> {
    let text = format!("{}\n", submission.to_json());
    write_atomically(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let begin = Instant::now();
    let deadline = match args.seconds {
        Some(seconds) if !(seconds > 0.0 && seconds < 1e9) => {
            bail!("--seconds: expected a time above 0, got {seconds}")
        }
        seconds => seconds.map(|seconds| begin + Duration::from_secs_f64(seconds).saturating_sub(RESERVE)),
    };
    let tasks = load_hidden(&args.challenges)?;
    if let Some(folder) = args.out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let mut voting = Voting::new(&tasks);
    let Some(checkpoint) = &args.checkpoint else {
        let baseline = args.baseline.unwrap_or(Baseline::Transform);
        write(&args.out, &voting.submission(Some(baseline)))?;
        say!("wrote {}: {}, without a model", args.out.display(), count(tasks.len(), "task"));
        return Ok(());
    };
    let (predictor, file) = Predictor::load(checkpoint, &args.predictor)?;
    let mut settings = args.predictor.settings();
    let contents: Vec<Value> = tasks.iter().map(|task| json!([task.id, task.to_json()])).collect();
    settings["tasks"] = json!(checksum::sha256(Value::from(contents).to_string().as_bytes()));
    let weights = match &file {
        Weights::File(path) => {
            checksum::sha256_of_file(path).with_context(|| format!("cannot read {}", path.display()))?
        }
        Weights::Bundled(_, bytes) => checksum::sha256(bytes),
    };
    settings["weights"] = json!(weights);
    settings["seconds_per_task"] = json!(args.predictor.seconds_per_task);
    let path = journal_of(&args.out);
    let mut journal = Journal::open(&path, &settings)?;
    let mut is_done = vec![false; tasks.len()];
    for (index, task) in tasks.iter().enumerate() {
        if let Some(line) = journal.done.get(&task.id) {
            let told = |why| format!("{}, task {}: {why}", path.display(), task.id);
            voting.merge(index, &line["ballots"]).map_err(|why| anyhow::anyhow!(told(why)))?;
            is_done[index] = true;
        }
    }
    let size = args.predictor.group as usize;
    let groups = tasks.len().div_ceil(size);
    let done = |is_done: &[bool]| is_done.iter().filter(|done| **done).count();
    say!(
        "{} in {}, model {}; {} done before",
        count(tasks.len(), "task"),
        count(groups, "group"),
        models::told(&file),
        done(&is_done)
    );
    write(&args.out, &voting.submission(Some(Baseline::Transform)))?;
    let mut in_time = true;
    for (number, group) in tasks.chunks(size).enumerate() {
        let first = number * size;
        if is_done[first..first + group.len()].iter().all(|done| *done) {
            continue;
        }
        // Of the time that is left, every group gets the same.
        let left = tasks.chunks(size).enumerate().skip(number);
        let left = left.filter(|(number, group)| {
            !is_done[number * size..number * size + group.len()].iter().all(|done| *done)
        });
        let left = left.count().max(1) as u32;
        let now = Instant::now();
        let until = deadline.map(|deadline| now + deadline.saturating_duration_since(now) / left);
        if until.is_some_and(|until| until <= now) {
            in_time = false;
            break;
        }
        // A group of which only a part was written is answered anew, all of it: its tasks share batches.
        voting = without(voting, first..first + group.len());
        let start = Instant::now();
        let Group { outcomes, report, complete } = predictor.answer(group, &mut voting, first, until)?;
        let seconds = start.elapsed().as_secs_f64();
        if complete {
            let line = |(index, task): (usize, &ArcTask)| {
                json!({
                    "task": task.id,
                    "ballots": voting.votes_json(first + index),
                    "thoughts": thoughts_json(&outcomes[index]),
                    "note": outcomes[index].note,
                    "adapted": report,
                    "seconds": seconds / group.len() as f64,
                })
            };
            journal.add(&group.iter().enumerate().map(line).collect::<Vec<_>>())?;
            is_done[first..first + group.len()].fill(true);
        }
        in_time &= complete;
        write(&args.out, &voting.submission(Some(Baseline::Transform)))?;
        let loss = report.loss.map_or_else(String::new, |loss| format!(", loss {loss:.3}"));
        let adapted = match args.predictor.adapt_steps {
            0 => String::new(),
            _ => format!(", adapted in {} steps{loss}", report.steps),
        };
        let late = if complete { "" } else { ", out of time" };
        say!(
            "group {} of {groups}: {}, {} known{adapted}, {seconds:.1} s{late}",
            number + 1,
            count(group.len(), "task"),
            report.known
        );
        for (task, outcome) in group.iter().zip(&outcomes) {
            if let Some(note) = &outcome.note {
                say!("  {}: {note}", task.id);
            }
        }
        io::stdout().flush()?;
    }
    say!(
        "wrote {}: {}, {} with all votes, in {:.1} s{}",
        args.out.display(),
        count(tasks.len(), "task"),
        done(&is_done),
        begin.elapsed().as_secs_f64(),
        if in_time { "" } else { "; the time was up: the same command goes on" }
    );
    Ok(())
}

/// The vote without what some tasks have.
fn without(voting: Voting, tasks: std::ops::Range<usize>) -> Voting {
    if tasks.clone().all(|task| voting.votes_json(task) == json!([])) {
        return voting;
    }
    let mut kept = Voting::new(voting.tasks());
    for task in (0..voting.tasks().len()).filter(|task| !tasks.contains(task)) {
        // What it wrote itself, it reads.
        let _ = kept.merge(task, &voting.votes_json(task));
    }
    kept
}
