//! Answers to groups of tasks: rows of their own, adaptation, votes.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use hrm_data::{
    grid::Grid,
    puzzles::arc::{ArcData, ArcOptions, ArcTask, Transform, VOCAB_SIZE, Voting, crop, encode, side_of},
};
use hrm_engine::{Models, Weights};
use hrm_infer::{Answer, Halting, InferOptions, Query, Unknown};
use hrm_train::adapt::{AdaptOptions, AdaptReport};
use serde_json::{Value, json};

use super::identifiers::Identifiers;
use crate::{backend::ComputeArgs, models};

/// How tasks are answered.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Inference")]
pub struct PredictorArgs {
    /// How many images of each test vote, the test itself counted
    #[arg(long, value_name = "K", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub votes: u32,
    /// Steps of training on the tasks' own demonstrations, at most; 0 for none
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub adapt_steps: u64,
    /// Only train the tasks' rows of the puzzle embedding
    #[arg(long)]
    pub freeze: bool,
    /// Leave out one demonstration of each task to find out when to stop
    #[arg(long)]
    pub leave_one_out: bool,
    /// Learning rate of adaptation
    #[arg(long, value_name = "X", default_value_t = AdaptOptions::default().lr)]
    pub adapt_lr: f64,
    /// Learning rate of the tasks' rows
    #[arg(long, value_name = "X", default_value_t = AdaptOptions::default().puzzle_emb_lr)]
    pub adapt_puzzle_lr: f64,
    /// Time for each task: adaptation takes at most three quarters of it
    #[arg(long, value_name = "S")]
    pub seconds_per_task: Option<f64>,
    /// Tasks that are adapted to and answered together
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub group: u32,
    /// Steps of thinking [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_steps: Option<u32>,
    /// Rows that go through the model together
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// Seed of augmentations and batches: equal seeds give equal answers, on any number of threads
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

impl PredictorArgs {
    /// What decides on the answers, for the journal.
    pub fn settings(&self) -> Value {
        json!({
            "votes": self.votes, "adapt_steps": self.adapt_steps, "freeze": self.freeze,
            "leave_one_out": self.leave_one_out, "adapt_lr": self.adapt_lr, "adapt_puzzle_lr": self.adapt_puzzle_lr,
            "group": self.group, "max_steps": self.max_steps, "batch": self.batch, "seed": self.seed,
        })
    }
}

/// What a model made of a task.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For each test, of the test itself: the answer after each step of thinking, and `q_halt` as a probability.
    pub thoughts: Vec<Vec<(Grid, f32)>>,
    /// Why there are no votes, or what else there is to know.
    pub note: Option<String>,
}

/// What became of a group.
#[derive(Debug)]
pub struct Group {
    /// One for each task.
    pub outcomes: Vec<Outcome>,
    /// How the model was adapted.
    pub report: AdaptReport,
    /// Whether all votes were cast.
    pub complete: bool,
}

/// A model that answers tasks.
#[derive(Debug)]
pub struct Predictor {
    models: Box<dyn Models>,
    identifiers: Option<Identifiers>,
    canvas: usize,
    args: PredictorArgs,
}

impl Predictor {
    /// Loads the model.
    ///
    /// # Errors
    /// If it cannot be read, or does not read ARC.
    pub fn load(checkpoint: &Path, args: &PredictorArgs) -> Result<(Self, Weights)> {
        let file = models::file(checkpoint)?;
        let config = models::Header::read(&file)?.config()?;
        let Some(canvas) = side_of(config.seq_len).filter(|_| config.vocab_size == VOCAB_SIZE) else {
            bail!(
                "{}: expected a model for ARC (a square canvas of at most 30x30, {VOCAB_SIZE} kinds of tokens), got {} tokens of {} kinds",
                models::told(&file),
                config.seq_len,
                config.vocab_size
            );
        };
        let identifiers = match &file {
            Weights::File(path) => Identifiers::of_model(path, &config)?,
            Weights::Bundled(..) => None,
        };
        let models = args.compute.choose()?.open(None)?.load(std::slice::from_ref(&file), None)?;
        models::warn_not_finite(&*models);
        Ok((Self { models, identifiers, canvas, args: args.clone() }, file))
    }

    /// Answers `tasks`, whose votes go to the tasks from number `first` on of `voting`. Stops by `deadline`.
    ///
    /// # Errors
    /// If the tasks do not fit the model.
    pub fn answer(
        &self,
        tasks: &[ArcTask],
        voting: &mut Voting,
        first: usize,
        deadline: Option<Instant>,
    ) -> Result<Group> {
        let args = &self.args;
        let begin = Instant::now();
        let own = args
            .seconds_per_task
            .map(|seconds| begin + Duration::from_secs_f64(seconds.clamp(0.0, 1e9) * tasks.len() as f64));
        let deadline = [own, deadline].into_iter().flatten().min();
        let mut outcomes: Vec<Outcome> = tasks.iter().map(|_| Outcome::default()).collect();
        // What does not fit the canvas has no place in the batches.
        let fits = |task: &ArcTask| task.grids().all(|grid| grid.rows().max(grid.cols()) <= self.canvas);
        let places: Vec<usize> = (0..tasks.len()).filter(|&place| fits(&tasks[place])).collect();
        for (place, outcome) in outcomes.iter_mut().enumerate() {
            if !places.contains(&place) {
                let canvas = self.canvas;
                outcome.note = Some(format!("a grid is larger than the model's canvas of {canvas}x{canvas}"));
            }
        }
        if places.is_empty() {
            return Ok(Group { outcomes, report: AdaptReport::default(), complete: true });
        }
        let chosen: Vec<ArcTask> = places.iter().map(|&place| tasks[place].clone()).collect();
        let (data, rows) = self.data(&chosen)?;
        let data = Arc::new(data);
        let now = Instant::now();
        let options = AdaptOptions {
            steps: args.adapt_steps,
            batch: args.batch as usize,
            lr: args.adapt_lr,
            puzzle_emb_lr: args.adapt_puzzle_lr,
            freeze: args.freeze,
            leave_one_out: args.leave_one_out,
            deadline: deadline.map(|deadline| now + deadline.saturating_duration_since(now).mul_f64(0.75)),
            seed: args.seed,
            ..AdaptOptions::default()
        };
        let (models, report) = self.models.adapt(&data, &rows, options)?;
        if report.unknown > 0 && args.adapt_steps == 0 && self.models.configs()[0].puzzle_emb_ndim > 0 {
            for (index, &place) in places.iter().enumerate().filter(|(index, _)| !self.known(&chosen[*index]))
            {
                let told = format!(
                    "the model does not know task {}; give --adapt-steps to train on its demonstrations",
                    chosen[index].id
                );
                outcomes[place].note = Some(told);
            }
        }

        let cast = Cast { models: &*models, data: &data, args, first, places: &places };
        let complete = cast.all(voting, &mut outcomes, deadline)?;
        Ok(Group { outcomes, report, complete })
    }

    fn known(&self, task: &ArcTask) -> bool {
        self.identifiers.as_ref().is_some_and(|names| !names.of(task, 1).is_empty())
    }

    /// The data of tasks, and the rows of the model that their identifiers start from.
    fn data(&self, tasks: &[ArcTask]) -> Result<(ArcData, Vec<Option<u32>>)> {
        let votes = self.args.votes as usize;
        let known: Vec<&[(Transform, u32)]> = tasks
            .iter()
            .map(|task| self.identifiers.as_ref().map_or(&[][..], |names| names.of(task, votes)))
            .collect();
        let transforms: Vec<Vec<Transform>> =
            known.iter().map(|rows| rows.iter().map(|(transform, _)| *transform).collect()).collect();
        let options = ArcOptions {
            seed: self.args.seed,
            augmentations: votes - 1,
            train_on_evaluation_demonstrations: true,
            canvas: self.canvas,
        };
        let data = ArcData::with_transforms(tasks.to_vec(), &transforms, options)?;
        let rows = (0..tasks.len()).flat_map(|task| {
            let count = data.identifiers_of(task).len();
            let known = known[task];
            (0..count).map(move |index| known.get(index).map(|(_, row)| *row))
        });
        let rows = rows.collect();
        Ok((data, rows))
    }
}

/// Casts votes.
struct Cast<'a> {
    models: &'a dyn Models,
    data: &'a ArcData,
    args: &'a PredictorArgs,
    /// Where the tasks of the group are in the vote.
    first: usize,
    /// Where the tasks of the data are in the group.
    places: &'a [usize],
}

/// A test under a transform.
struct Ballot {
    task: usize,
    test: usize,
    transform: Transform,
    /// Which image of the test it is, from 0.
    image: u64,
}

impl Cast<'_> {
    /// All images of all tests: first every test as it is, then image by image, so that all have had their say when time is up.
    /// Whether everybody has voted.
    fn all(&self, voting: &mut Voting, outcomes: &mut [Outcome], deadline: Option<Instant>) -> Result<bool> {
        let data = self.data;
        for (task, &place) in self.places.iter().enumerate() {
            outcomes[place].thoughts = vec![Vec::new(); data.evaluation_pairs(task).len()];
        }
        let images = (0..self.places.len()).map(|task| data.identifiers_of(task).len()).max().unwrap_or(0);
        let mut slowest = Duration::ZERO;
        for image in 0..images as u32 {
            let mut ballots = Vec::new();
            let mut queries = Vec::new();
            for task in 0..self.places.len() {
                let identifier = data.identifiers_of(task).start + image;
                if !data.identifiers_of(task).contains(&identifier) {
                    continue;
                }
                let transform = data.puzzle(identifier).map(|(_, transform)| transform).unwrap_or_default();
                for (test, pair) in data.evaluation_pairs(task).iter().enumerate() {
                    let mut tokens = vec![0u8; data.seq_len()];
                    encode(&transform.apply(&pair.input), (0, 0), &mut tokens);
                    queries.push(Query { tokens, identifier });
                    ballots.push(Ballot { task, test, transform, image: u64::from(image) });
                }
            }
            let size = self.args.batch as usize;
            for (ballots, queries) in ballots.chunks(size).zip(queries.chunks(size)) {
                // A batch is not begun that would not be done in time, as far as one can tell.
                if deadline.is_some_and(|deadline| Instant::now() + slowest.mul_f64(1.5) >= deadline) {
                    return Ok(false);
                }
                let start = Instant::now();
                self.batch(ballots, queries, voting, outcomes)?;
                slowest = slowest.max(start.elapsed());
            }
        }
        Ok(true)
    }

    fn batch(
        &self,
        ballots: &[Ballot],
        queries: &[Query],
        voting: &mut Voting,
        outcomes: &mut [Outcome],
    ) -> Result<()> {
        let options = InferOptions {
            max_steps: self.args.max_steps.map(|steps| steps as usize),
            // As the original evaluates.
            halting: Halting::AtLastStep,
            batch: queries.len(),
            keep_thoughts: ballots.first().is_some_and(|ballot| ballot.image == 0),
            ..InferOptions::default()
        };
        let mut count = |index: usize, answer: Answer| {
            let Ballot { task, test, transform, image } = &ballots[index];
            let Some(last) = answer.trace.thoughts.last() else { return };
            let place = self.places[*task];
            let (input, q_halt) = (&queries[index].tokens, f64::from(last.q_halt));
            voting.add_at(*image, self.first + place, transform, input, &last.tokens, q_halt);
            if *image == 0 {
                let undo = transform.inverse();
                outcomes[place].thoughts[*test] = answer
                    .trace
                    .thoughts
                    .iter()
                    .map(|thought| (undo.apply(&crop(&thought.tokens)), thought.halt_probability()))
                    .collect();
            }
        };
        Ok(self.models.solve_each(&Unknown, options, queries, &mut count)?)
    }
}

/// The thoughts on a task, for the journal.
pub fn thoughts_json(outcome: &Outcome) -> Value {
    let step = |(grid, q): &(Grid, f32)| json!({ "grid": grid.iter_rows().map(Value::from).collect::<Vec<_>>(), "q_halt": q });
    outcome.thoughts.iter().map(|steps| steps.iter().map(step).collect::<Value>()).collect()
}
