//! Trial and error: where a model does not halt, a value that it finds likely is taken as given, and it thinks again.
//!
//! Hypotheses are sets of such values. The one that the model finds most likely is tried first; when it does not halt on it either, the
//! hypothesis is parted by the values of the cell that it is least sure of. A model that learned to tell contradictions (`model.conflict`)
//! ends an attempt where it sees one, and what follows from it is less likely. Only the model's beliefs, its own halting and its own doubts
//! steer the search: it knows no rules. Every hypothesis that a part could still be right of is tried at some time, so a value that was wrong is taken back.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    sync::{Arc, Weak},
};

use hrm_data::task::Beliefs;

/// A cell and the value that it is taken to have.
pub type Guess = (usize, u8);

/// The chance of a contradiction at which an attempt with guesses ends. At less it thinks on: half of what is guessed is wrong, so a
/// model that learned from guesses says so before it knows anything.
pub const SURE: f32 = 0.9;

/// Values below this share of the likeliest one's weight are no hypothesis, but for the second likeliest. The unlikely ones are tried last.
const LEAST: f32 = 1e-6;

#[derive(Debug)]
struct Hypothesis<S> {
    /// Logarithm of the product of the values' weights when they were guessed, and of the chances that the models saw no contradiction.
    score: f32,
    /// How many were thought of before.
    number: usize,
    guesses: Vec<Guess>,
    /// The attempt that it is a part of, and where that ended.
    parent: usize,
    from: Option<Arc<S>>,
}

/// The likeliest is the greatest, then the oldest.
impl<S> Ord for Hypothesis<S> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.number.cmp(&self.number))
    }
}

impl<S> PartialOrd for Hypothesis<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<S> PartialEq for Hypothesis<S> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<S> Eq for Hypothesis<S> {}

/// The hypotheses about a puzzle; `S` is a model's state.
#[derive(Debug)]
pub struct Guesses<S> {
    waiting: BinaryHeap<Hypothesis<S>>,
    /// That of the attempt that is running, with its score.
    current: (f32, Vec<Guess>),
    from: Option<Arc<S>>,
    made: usize,
    /// The states that hypotheses may hold.
    states: Vec<Weak<S>>,
    /// For each attempt but the first, the one whose hypothesis it is a part of.
    parents: Vec<usize>,
}

impl<S> Default for Guesses<S> {
    fn default() -> Self {
        Self {
            waiting: BinaryHeap::new(),
            current: Default::default(),
            from: None,
            made: 0,
            states: Vec::new(),
            parents: Vec::new(),
        }
    }
}

impl<S> Guesses<S> {
    /// The values that the running attempt takes as given.
    pub fn current(&self) -> &[Guess] {
        &self.current.1
    }

    /// How many states the waiting hypotheses hold.
    pub fn states(&mut self) -> usize {
        self.states.retain(|state| state.strong_count() > 0);
        self.states.len()
    }

    /// The attempts that led to one, the first of all first, itself last.
    pub fn path(&self, attempt: usize) -> Vec<usize> {
        let before =
            |&attempt: &usize| attempt.checked_sub(1).and_then(|place| self.parents.get(place).copied());
        let mut path: Vec<usize> = std::iter::successors(Some(attempt), before).collect();
        path.reverse();
        path
    }

    /// The state that the running attempt started from; `None` for a fresh one.
    pub fn from(&self) -> Option<&S> {
        self.from.as_deref()
    }

    /// Fills in the values that the running attempt takes as given.
    pub fn give(&self, tokens: &mut [u8]) {
        self.current.1.iter().for_each(|&(cell, value)| tokens[cell] = value);
    }

    /// Parts the running attempt's hypothesis by the values of a cell and goes on to the likeliest hypothesis of all; `false` if there is
    /// none left. `doubt` is the chance that the hypothesis contradicts itself. `state` is where the attempt ended: its parts go on there,
    /// unless they follow from a likely contradiction. `tokens` are the puzzle's, `blank` where a value is left open, values the tokens
    /// above.
    pub fn go_on(
        &mut self,
        doubt: f32,
        state: impl FnOnce() -> Option<S>,
        beliefs: &Beliefs,
        tokens: &[u8],
        blank: u8,
    ) -> bool {
        let from = if doubt < 0.5 { state().map(Arc::new) } else { None };
        self.states.extend(from.iter().map(Arc::downgrade));
        let parent = self.parents.len();
        let (score, guesses) = std::mem::take(&mut self.current);
        let score = score + (1.0 - doubt).max(f32::MIN_POSITIVE).ln();
        let is_open =
            |cell: &usize| tokens[*cell] == blank && guesses.iter().all(|(guessed, _)| guessed != cell);
        let open = (0..tokens.len()).filter(is_open);
        // The cell whose second value is the likeliest.
        let values = open.map(|cell| (cell, ranked(beliefs, cell, blank)));
        let values = values.filter(|(_, ranked)| ranked.len() > 1);
        let least_sure = values.max_by(|(_, a), (_, b)| a[1].1.total_cmp(&b[1].1));
        if let Some((cell, ranked)) = least_sure {
            let likeliest = ranked[0].1;
            let worth = |&(rank, &(_, weight)): &(usize, &(u8, f32))| rank < 2 || weight >= LEAST * likeliest;
            for (_, &(value, weight)) in ranked.iter().enumerate().filter(worth) {
                let guesses = [guesses.as_slice(), &[(cell, value)]].concat();
                let score = score + weight.max(f32::MIN_POSITIVE).ln();
                self.waiting.push(Hypothesis {
                    score,
                    number: self.made,
                    guesses,
                    parent,
                    from: from.clone(),
                });
                self.made += 1;
            }
        }
        let Some(next) = self.waiting.pop() else { return false };
        self.current = (next.score, next.guesses);
        self.from = next.from;
        self.parents.push(next.parent);
        true
    }
}

/// The values of a cell with their share of the weight of all of them, the likeliest first.
fn ranked(beliefs: &Beliefs, cell: usize, blank: u8) -> Vec<(u8, f32)> {
    let values = (blank + 1..).take_while(|&token| usize::from(token) < beliefs.vocab_size());
    let mut ranked: Vec<(u8, f32)> = values.map(|value| (value, beliefs.weight(cell, value))).collect();
    let all: f32 = ranked.iter().map(|(_, weight)| weight).sum();
    ranked.iter_mut().for_each(|(_, weight)| *weight /= all.max(f32::MIN_POSITIVE));
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two cells with the values 2, 3 and 4.
    fn beliefs(first: [f32; 3], second: [f32; 3]) -> Beliefs {
        let cell = |[a, b, c]: [f32; 3]| [0.0, 0.0, a, b, c];
        Beliefs::new(5, [cell(first), cell(second)].concat())
    }

    #[test]
    fn the_likeliest_is_tried_first_and_taken_back() {
        let mut guesses = Guesses::default();
        assert!(guesses.current().is_empty(), "the first attempt is at the puzzle itself");
        let mut next = |first, second| {
            guesses
                .go_on(0.0, || None::<()>, &beliefs(first, second), &[1, 1], 1)
                .then(|| guesses.current().to_vec())
        };
        // The second cell is the less sure one; its third value is as good as impossible.
        assert_eq!(next([0.9, 0.1, 0.0], [0.6, 0.4, 0.0]).unwrap(), [(1, 2)]);
        // With that given, the first cell may be 2 (0.6 * 0.55) or 3 (0.6 * 0.45): less likely than 3 in the second.
        assert_eq!(next([0.55, 0.45, 0.0], [1.0, 0.0, 0.0]).unwrap(), [(1, 3)]);
        assert_eq!(next([0.9, 0.05, 0.05], [0.0, 1.0, 0.0]).unwrap(), [(1, 3), (0, 2)]);
        // All cells are guessed: back to what waits.
        assert_eq!(next([1.0, 0.0, 0.0], [1.0, 0.0, 0.0]).unwrap(), [(1, 2), (0, 2)]);
        assert_eq!(next([1.0, 0.0, 0.0], [1.0, 0.0, 0.0]).unwrap(), [(1, 2), (0, 3)]);
        for _ in 0..2 {
            let rest = next([1.0, 0.0, 0.0], [1.0, 0.0, 0.0]).unwrap();
            assert!(rest == [(1, 3), (0, 3)] || rest == [(1, 3), (0, 4)], "{rest:?}");
        }
        assert_eq!(next([1.0, 0.0, 0.0], [1.0, 0.0, 0.0]), None);
    }

    #[test]
    fn states_are_held_as_long_as_hypotheses_wait_on_them() {
        let mut guesses = Guesses::default();
        let sure = [1.0, 0.0, 0.0];
        assert!(guesses.go_on(0.0, || Some(7), &beliefs([0.6, 0.4, 0.0], sure), &[1, 1], 1));
        assert!(guesses.go_on(0.0, || Some(8), &beliefs(sure, [0.6, 0.4, 0.0]), &[1, 1], 1));
        assert_eq!(
            (guesses.states(), guesses.from()),
            (2, Some(&7)),
            "the other value of the first cell comes next"
        );
        for _ in 0..2 {
            assert!(guesses.go_on(0.0, || None, &beliefs(sure, sure), &[1, 1], 1));
        }
        assert_eq!((guesses.states(), guesses.from()), (1, Some(&8)));
    }

    #[test]
    fn what_is_doubted_waits() {
        let mut guesses = Guesses::default();
        let sure = [1.0, 0.0, 0.0];
        assert!(guesses.go_on(0.0, || None::<()>, &beliefs([0.9, 0.1, 0.0], sure), &[1, 1], 1));
        assert_eq!(guesses.current(), [(0, 2)]);
        // A contradiction is as good as certain there, so the other value comes before all that follows from this one.
        assert!(guesses.go_on(0.99, || None::<()>, &beliefs(sure, [0.6, 0.4, 0.0]), &[1, 1], 1));
        assert_eq!(guesses.current(), [(0, 3)]);
        assert!(guesses.go_on(0.5, || None::<()>, &beliefs(sure, [0.6, 0.4, 0.0]), &[1, 1], 1));
        assert_eq!(guesses.current(), [(0, 3), (1, 2)]);
        assert_eq!([guesses.path(0), guesses.path(2), guesses.path(3)], [vec![0], vec![0, 2], vec![0, 2, 3]]);
    }
}
