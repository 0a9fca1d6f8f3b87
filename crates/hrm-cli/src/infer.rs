//! Options of inference that `hrm solve` and `hrm eval` share, and how an answer's origin is told.

use std::path::{Path, PathBuf};

use crate::{
    choice::{Choice, one_of},
    terminal::count,
};
use anyhow::Result;
use hrm_data::registry::Family;
use hrm_engine::Weights;
use hrm_infer::{Answer, Halting, InferOptions, NoiseAt, Selection, Source};

/// How to infer.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Inference")]
pub struct InferArgs {
    /// Steps of thinking at most, also more than in training [default: the model's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_steps: Option<u32>,
    /// Run all steps instead of stopping where the model halts
    #[arg(long)]
    pub all_steps: bool,
    /// Look at each puzzle in N ways (itself and random symmetries of the task) and let the answers vote
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub vote: Option<u32>,
    /// Several checkpoints, separated by commas, in place of --checkpoint
    #[arg(long, value_name = "A,B,..", value_delimiter = ',', conflicts_with = "checkpoint")]
    pub ensemble: Vec<PathBuf>,
    /// Try N times, the first time without noise, the others with different noise in the model's state
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub restarts: Option<u32>,
    /// Standard deviation of the noise of restarts; the state's own root mean square is 1
    #[arg(long, value_name = "X", default_value_t = 0.3)]
    pub noise: f32,
    /// Where the noise goes in
    #[arg(long, value_parser = one_of(&NOISE_AT), default_value = "each-step", value_name = "WHERE")]
    pub noise_at: NoiseAt,
    /// Where the model does not halt, take values that it finds likely as given, and take them back where it does not halt on them either:
    /// N times at most, by the model alone [default: 128 for `solve` with a single model that has learned it, else 0]
    #[arg(long, value_name = "N", conflicts_with_all = ["vote", "restarts", "ensemble"])]
    pub guesses: Option<u32>,
    /// Seed of symmetries and noise: equal seeds give equal answers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Which of several answers counts [default: votes with --vote or --ensemble, else q]
    #[arg(long, value_parser = one_of(&SELECTIONS), value_name = "RULE")]
    pub select: Option<Selection>,
    /// Check answers by the rules of the task: stop at the first that keeps them, else go on with the next view, checkpoint
    /// or restart
    #[arg(long)]
    pub verify: bool,
    /// Finish by a classical solver what no attempt solved, guided by what the model believes
    #[arg(long, value_enum, value_name = "HOW", requires = "verify")]
    pub fallback: Option<Fallback>,
    /// Attempts that go through the model together
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
}

/// Values of `--noise-at`.
const NOISE_AT: [Choice<NoiseAt>; 2] = [
    ("each-step", NoiseAt::EachStep, "Into the state before every step"),
    ("start", NoiseAt::Start, "Into the initial state only"),
];

/// Values of `--select`.
const SELECTIONS: [Choice<Selection>; 3] = [
    ("votes", Selection::Votes, "The most frequent answer, then the higher mean halting probability"),
    ("q", Selection::BestQ, "The answer with the highest halting value"),
    ("first", Selection::FirstToHalt, "The answer that halts after the fewest steps"),
];

/// A value of `--fallback`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Fallback {
    /// Exact search
    Exact,
}

/// Guesses that `hrm solve` makes without being asked, by a model that has learned trial and error.
pub const GUESSES: usize = 128;

impl InferArgs {
    /// As the library says it.
    pub fn options(&self) -> InferOptions {
        InferOptions {
            max_steps: self.max_steps.map(|n| n as usize),
            halting: if self.all_steps { Halting::AtLastStep } else { Halting::Learned },
            votes: self.vote.map_or(1, |n| n as usize),
            restarts: self.restarts.map_or(1, |n| n as usize),
            guesses: self.guesses.map_or(0, |n| n as usize),
            noise: self.noise,
            noise_at: self.noise_at,
            seed: self.seed,
            select: self.select,
            verify: self.verify,
            fallback: self.fallback.is_some(),
            batch: self.batch as usize,
            ..InferOptions::default()
        }
    }

    /// Whether anything beyond a single attempt is asked for.
    pub fn scales(&self) -> bool {
        self.options().votes > 1 || self.scales_beyond_votes()
    }

    /// Whether anything beyond attempts on several views is asked for.
    pub fn scales_beyond_votes(&self) -> bool {
        self.options().restarts > 1 || self.options().guesses > 0 || self.ensemble.len() > 1 || self.verify
    }

    /// What helps where these options left a puzzle of a family unsolved: options that are not among them.
    pub fn what_helps(&self, family: Family) -> String {
        // Guesses go with none of the others.
        let alone = self.guesses.is_none() && self.ensemble.len() < 2;
        let ways = [
            (self.max_steps.is_none(), "--max-steps 64"),
            (alone && self.vote.is_none(), "--vote 8"),
            (alone && self.restarts.is_none(), "--restarts 8 --noise 0.2"),
            (family == Family::Sudoku && !self.scales(), "--guesses 512"),
        ];
        let mut ways: Vec<&str> = ways.iter().filter(|(is_new, _)| *is_new).map(|(_, way)| *way).collect();
        let surely =
            (family.has_rules() && self.fallback.is_none()).then_some("surely: --verify --fallback exact");
        if family.has_rules() && self.fallback.is_some() {
            // There is nothing that it left unsolved.
            ways.clear();
        }
        let may = (!ways.is_empty()).then(|| format!("may help: {}", ways.join(", ")));
        may.into_iter().chain(surely.map(str::to_owned)).collect::<Vec<_>>().join("; ")
    }

    /// The checkpoints that the options name: those of `--ensemble`, else that of `--checkpoint`.
    pub fn checkpoints(&self, checkpoint: Option<&Path>) -> Result<Vec<Weights>> {
        let named = self.ensemble.iter().map(PathBuf::as_path).chain(checkpoint);
        named.map(crate::models::file).collect()
    }
}

/// How an answer came about and what it took, in words: `restarted: attempt 5, 61 steps in all`.
pub fn origin(answer: &Answer) -> String {
    let effort = match answer.attempts {
        1 => count(answer.segments, "step"),
        attempts => format!("{attempts} attempts, {} in all", count(answer.segments, "step")),
    };
    match (&answer.search, answer.source) {
        (Some(search), _) => {
            let without = match search.guesses_without {
                Some(guesses) => guesses.to_string(),
                None => "far more".to_owned(),
            };
            let guesses = match search.guesses {
                1 => "1 guess".to_owned(),
                n => format!("{n} guesses"),
            };
            format!("searched: {effort}, then {guesses} (without the model {without})")
        }
        (None, Source::Neural) => format!("neural: {effort}"),
        (None, Source::Voted) if answer.verified != Some(true) => {
            format!("voted: {} agree of {effort}", answer.votes)
        }
        (None, Source::Voted) => format!("voted: solved under another view or checkpoint after {effort}"),
        (None, Source::Restarted) => format!("restarted: {effort}"),
        (None, Source::Guessed) => format!("guessed: {effort}"),
        (None, Source::Searched) => format!("searched: {effort}"),
    }
}
