//! The attempts that a puzzle gets, and which of their answers counts.

use crate::{InferOptions, Selection, Trace, noise::Key};

/// What makes an attempt different from others at the same puzzle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    /// 0 for no noise.
    pub restart: usize,
    /// 0 for the puzzle itself.
    pub view: usize,
    /// Which checkpoint.
    pub model: usize,
}

impl Attempt {
    /// The place of its noise before a segment; the checkpoint does not matter.
    pub fn key(self, step: u64) -> Key {
        Key { chain: self.restart as u64 | (self.view as u64) << 32, step }
    }
}

/// All attempts, cheap differences first: every checkpoint on every view, then the same with other noise.
pub(super) fn plan(models: usize, views: usize, restarts: usize) -> Vec<Attempt> {
    let views = move |restart| (0..views).flat_map(move |view| models_of(models, restart, view));
    (0..restarts).flat_map(views).collect()
}

fn models_of(models: usize, restart: usize, view: usize) -> impl Iterator<Item = Attempt> {
    (0..models).map(move |model| Attempt { restart, view, model })
}

/// The rule in use.
pub(super) fn selection(options: &InferOptions, models: usize) -> Selection {
    let different = options.votes > 1 || models > 1;
    options.select.unwrap_or(if different { Selection::Votes } else { Selection::BestQ })
}

/// A finished attempt.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    /// Its place in the plan.
    pub attempt: usize,
    /// What it did.
    pub trace: Trace,
}

/// The outcome that counts, and how many outcomes have the same answer. `None` if there is none at all. Ties go to the
/// attempt that comes first in the plan.
pub(super) fn select(outcomes: &[Outcome], rule: Selection) -> Option<(&Outcome, usize)> {
    let same = |outcome: &Outcome| {
        outcomes.iter().filter(|other| other.trace.answer() == outcome.trace.answer()).collect::<Vec<_>>()
    };
    // Larger is better, compared from the left.
    let score = |outcome: &Outcome| -> [f64; 3] {
        let q = f64::from(outcome.trace.thoughts.last().map_or(f32::NEG_INFINITY, |last| last.q_halt));
        match rule {
            Selection::Votes => {
                let same = same(outcome);
                let sum: f64 = same.iter().map(|other| f64::from(other.trace.halt_probability())).sum();
                [same.len() as f64, sum / same.len() as f64, 0.0]
            }
            Selection::BestQ => [q, 0.0, 0.0],
            Selection::FirstToHalt => {
                [f64::from(u8::from(outcome.trace.halted)), -(outcome.trace.steps as f64), q]
            }
        }
    };
    let better = |a: &[f64; 3], b: &[f64; 3]| {
        let differing = a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
        differing.is_some_and(std::cmp::Ordering::is_gt)
    };
    let mut best: Option<(&Outcome, [f64; 3])> = None;
    for outcome in outcomes {
        let score = score(outcome);
        let wins = best.as_ref().is_none_or(|(current, of_current)| {
            better(&score, of_current) || (score == *of_current && outcome.attempt < current.attempt)
        });
        if wins {
            best = Some((outcome, score));
        }
    }
    best.map(|(outcome, _)| (outcome, same(outcome).len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Thought;

    fn outcome(attempt: usize, answer: u8, q_halt: f32, steps: usize, halted: bool) -> Outcome {
        let thoughts = vec![Thought { tokens: vec![answer], certainty: Vec::new(), q_halt, q_continue: 0.0 }];
        Outcome { attempt, trace: Trace { thoughts, steps, halted } }
    }

    #[test]
    fn the_first_attempt_is_the_plain_one_and_noise_comes_last() {
        let plan = plan(2, 2, 2);
        assert_eq!(plan.len(), 8);
        assert_eq!(plan[0], Attempt { restart: 0, view: 0, model: 0 });
        assert_eq!(plan[1], Attempt { restart: 0, view: 0, model: 1 });
        assert!(plan[..4].iter().all(|attempt| attempt.restart == 0));
        assert!(plan[4..].iter().all(|attempt| attempt.restart == 1));
    }

    #[test]
    fn each_rule_picks_its_own() {
        let outcomes = [
            outcome(3, 1, 0.5, 4, true),
            outcome(0, 2, 3.0, 6, true),
            outcome(2, 1, 0.1, 3, true),
            outcome(1, 3, 2.0, 3, true),
            outcome(4, 4, 9.0, 8, false),
        ];
        let picked = |rule| select(&outcomes, rule).map(|(o, votes)| (o.attempt, votes));
        // Of the two that agree, the one earlier in the plan stands for both.
        assert_eq!(picked(Selection::Votes), Some((2, 2)));
        assert_eq!(picked(Selection::BestQ), Some((4, 1)));
        assert_eq!(picked(Selection::FirstToHalt), Some((1, 1)));
        // Equal counts: the higher mean.
        assert_eq!(select(&outcomes[1..2], Selection::Votes).map(|(o, _)| o.attempt), Some(0));
        let tie = [outcome(0, 1, 0.0, 1, true), outcome(1, 2, 1.0, 1, true)];
        assert_eq!(select(&tie, Selection::Votes).map(|(o, _)| o.attempt), Some(1));
        assert_eq!(select(&[], Selection::Votes), None);
    }
}
