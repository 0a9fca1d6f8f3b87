//! The vote: augmented predictions are turned back, counted, and ranked. What is kept are the distinct answers, so memory does not
//! grow with the votes. The counts of several runs can be written, read, and added up, in any order.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::{Value, json};

use super::augment::{Transform, parse_name};
use super::baseline::Baseline;
use super::canvas::crop;
use super::submission::{ATTEMPTS, Submission};
use super::task::{ArcTask, Side, grid, grid_json};
use crate::grid::Grid;

/// How right answers to the tests of a task count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A task counts if all of its tests are right.
    Hrm,
    /// A task counts by the share of its tests that are right.
    Trm,
}

/// An answer and who voted for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The answer, turned back.
    pub grid: Grid,
    /// Votes.
    pub votes: usize,
    /// Mean of `sigmoid(q_halt)` over the votes.
    pub mean_q: f64,
}

/// Collects the votes on the tests of a number of tasks. Start a fresh one for each evaluation.
#[derive(Clone, Debug)]
pub struct Voting {
    tasks: Vec<ArcTask>,
    by_name: HashMap<String, usize>,
    /// For each task: each input met, and its answers.
    ballots: Vec<HashMap<Grid, HashMap<Grid, Tally>>>,
    /// Votes that came without a place.
    counted: u64,
}

/// The votes for an answer. Sums of integers: the order of votes does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tally {
    votes: u64,
    /// Sum of q in units of [`Q_UNIT`].
    q: u64,
    /// The smallest place of a vote.
    first: u64,
}

/// Values of q are counted in this unit: 16 million votes fit, and no f32 differs from its count by more than it is precise.
const Q_UNIT: f64 = 1.0 / (1u64 << 40) as f64;

impl Tally {
    fn add(&mut self, other: Self) {
        self.votes = self.votes.saturating_add(other.votes);
        self.q = self.q.saturating_add(other.q);
        self.first = self.first.min(other.first);
    }
}

fn count(answers: &mut HashMap<Grid, Tally>, answer: Grid, tally: Tally) {
    match answers.entry(answer) {
        Entry::Occupied(mut known) => known.get_mut().add(tally),
        Entry::Vacant(new) => {
            new.insert(tally);
        }
    }
}

impl Voting {
    /// A vote without votes.
    pub fn new(tasks: &[ArcTask]) -> Self {
        Self {
            by_name: tasks.iter().enumerate().map(|(index, task)| (task.id.clone(), index)).collect(),
            ballots: vec![HashMap::new(); tasks.len()],
            counted: 0,
            tasks: tasks.to_vec(),
        }
    }

    /// Counts a prediction for the puzzle of this name (`ID` or `ID_t3_0429158376`). Input and prediction are tokens `[900]`.
    /// Returns whether the name is one of the tasks; padding rows (`<blank>`) are not.
    pub fn add_named<T: Copy + Into<i64>, U: Copy + Into<i64>>(
        &mut self,
        name: &str,
        input: &[T],
        prediction: &[U],
        q_halt_logit: f64,
    ) -> bool {
        let (id, transform) = parse_name(name);
        // A task may itself have a name that looks like an augmentation's.
        let (id, transform) =
            if self.by_name.contains_key(name) { (name, Transform::IDENTITY) } else { (id, transform) };
        match self.by_name.get(id).copied() {
            None => false,
            Some(task) => self.add(task, &transform, input, prediction, q_halt_logit),
        }
    }

    /// Counts a prediction for a task (by index) under a transform; `false` if there is no such task.
    pub fn add<T: Copy + Into<i64>, U: Copy + Into<i64>>(
        &mut self,
        task: usize,
        transform: &Transform,
        input: &[T],
        prediction: &[U],
        q_halt_logit: f64,
    ) -> bool {
        self.counted += 1;
        self.add_at(self.counted, task, transform, input, prediction, q_halt_logit)
    }

    /// As [`add`](Self::add), at a place of its own: of answers with equal votes and equal mean q, the one with the smallest place
    /// goes first. Votes with places may come in any order.
    pub fn add_at<T: Copy + Into<i64>, U: Copy + Into<i64>>(
        &mut self,
        place: u64,
        task: usize,
        transform: &Transform,
        input: &[T],
        prediction: &[U],
        q_halt_logit: f64,
    ) -> bool {
        let Some(ballot) = self.ballots.get_mut(task) else { return false };
        let undo = transform.inverse();
        let (input, answer) = (undo.apply(&crop(input)), undo.apply(&crop(prediction)));
        let q = 1.0 / (1.0 + (-q_halt_logit).exp());
        let tally = Tally { votes: 1, q: (q / Q_UNIT).round() as u64, first: place };
        count(ballot.entry(input).or_default(), answer, tally);
        true
    }

    /// The votes on a task, for [`merge`](Self::merge).
    pub fn votes_json(&self, task: usize) -> Value {
        let mut ballots: Vec<_> = self.ballots.get(task).into_iter().flatten().collect();
        ballots.sort_by_key(|(input, _)| *input);
        let answers = |answers: &HashMap<Grid, Tally>| {
            let mut answers: Vec<_> = answers.iter().collect();
            answers.sort_by_key(|(grid, tally)| (tally.first, *grid));
            let answer = |(grid, Tally { votes, q, first }): (&Grid, &Tally)| json!({ "grid": grid_json(grid), "votes": votes, "q": q, "first": first });
            answers.into_iter().map(answer).collect::<Value>()
        };
        let ballot = |(input, found)| json!({ "input": grid_json(input), "answers": answers(found) });
        ballots.into_iter().map(ballot).collect()
    }

    /// Adds the votes on a task that [`votes_json`](Self::votes_json) wrote.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn merge(&mut self, task: usize, votes: &Value) -> Result<(), String> {
        let list = |value: &Value, what: &str| {
            value.as_array().cloned().ok_or_else(|| format!("expected a list of {what}"))
        };
        let mut read = Vec::new();
        for ballot in list(votes, "ballots")? {
            let input = grid(&ballot["input"], "test", 1, Side::Input).map_err(|e| e.to_string())?;
            for answer in list(&ballot["answers"], "answers")? {
                let found = match &answer["grid"] {
                    Value::Array(rows) if rows.is_empty() => Grid::default(),
                    rows => grid(rows, "test", 1, Side::Output).map_err(|e| e.to_string())?,
                };
                let number = |key: &str| {
                    answer[key].as_u64().ok_or_else(|| format!("expected a number {key:?} in each answer"))
                };
                let tally =
                    Tally { votes: number("votes")?.max(1), q: number("q")?, first: number("first")? };
                read.push((input.clone(), found, tally));
            }
        }
        let ballot = self.ballots.get_mut(task).ok_or("expected a task that is voted on")?;
        for (input, answer, tally) in read {
            count(ballot.entry(input).or_default(), answer, tally);
        }
        Ok(())
    }

    /// The tasks voted on.
    pub fn tasks(&self) -> &[ArcTask] {
        &self.tasks
    }

    /// The answers to a test of a task, best first: by votes, then by mean q, then by place. Empty if nobody voted.
    pub fn ranking(&self, task: usize, test: usize) -> Vec<Candidate> {
        let pair = self.tasks.get(task).and_then(|task| task.test.get(test));
        let answers = pair.and_then(|pair| self.ballots[task].get(&pair.input));
        let mut ranking: Vec<(&Grid, Tally)> =
            answers.into_iter().flatten().map(|(grid, tally)| (grid, *tally)).collect();
        // Of answers with equal votes, the sums of q are in the order of their means.
        ranking.sort_by(|(a_grid, a), (b_grid, b)| {
            (b.votes, b.q).cmp(&(a.votes, a.q)).then_with(|| (a.first, a_grid).cmp(&(b.first, b_grid)))
        });
        let candidate = |(grid, Tally { votes, q, .. }): (&Grid, Tally)| Candidate {
            grid: grid.clone(),
            votes: votes as usize,
            mean_q: q as f64 * Q_UNIT / votes as f64,
        };
        ranking.into_iter().map(candidate).collect()
    }

    /// The share of tasks solved within the first `k` answers, for each `k`. Tests without a known output count as wrong; 0
    /// if there are no tasks.
    pub fn pass_at(&self, rule: Rule, ks: &[usize]) -> Vec<f64> {
        let mut solved = vec![0.0; ks.len()];
        for (index, task) in self.tasks.iter().enumerate() {
            let place = |test: usize| {
                let output = task.test[test].output.as_ref()?;
                self.ranking(index, test).iter().position(|candidate| candidate.grid == *output)
            };
            let places: Vec<Option<usize>> = (0..task.test.len()).map(place).collect();
            for (share, &k) in solved.iter_mut().zip(ks) {
                let right = places.iter().filter(|place| place.is_some_and(|p| p < k)).count();
                *share += match rule {
                    Rule::Hrm => f64::from(u8::from(right == places.len())),
                    Rule::Trm => right as f64 / places.len().max(1) as f64,
                };
            }
        }
        let tasks = self.tasks.len().max(1) as f64;
        solved.iter().map(|share| share / tasks).collect()
    }

    /// The two best answers to each test. What is missing is taken from `fill`; without it, the first answer stands twice.
    pub fn submission(&self, fill: Option<Baseline>) -> Submission {
        let answers = |index: usize, task: &ArcTask| {
            let guesses = fill.map_or_else(Vec::new, |baseline| baseline.answers(task));
            let attempts = |test: usize| {
                let mut found: Vec<Grid> = Vec::new();
                let voted = self.ranking(index, test).into_iter().map(|candidate| candidate.grid);
                let guessed = guesses.get(test).into_iter().flatten().cloned();
                for grid in voted.chain(guessed).filter(|grid| !grid.is_empty()) {
                    if found.len() < ATTEMPTS && !found.contains(&grid) {
                        found.push(grid);
                    }
                }
                let second = found.get(1).or(found.first()).cloned();
                [found.into_iter().next(), second]
            };
            (task.id.clone(), (0..task.test.len()).map(attempts).collect())
        };
        Submission::new(self.tasks.iter().enumerate().map(|(index, task)| answers(index, task)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testdata::parity_file;

    /// The tensors of a safetensors file, as raw bytes.
    fn tensors<'a>(bytes: &'a [u8]) -> impl Fn(&str) -> &'a [u8] {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        move |name: &str| {
            let at = |i: usize| header[name]["data_offsets"][i].as_u64().unwrap() as usize + 8 + length;
            &bytes[at(0)..at(1)]
        }
    }

    #[test]
    fn the_vote_is_that_of_the_references() {
        let (Some(case), Some(predictions)) =
            (parity_file("arc_voting.json"), parity_file("arc_voting.preds.safetensors"))
        else {
            return;
        };
        let case: Value = serde_json::from_slice(&case).unwrap();
        let mut tasks = Vec::new();
        for (id, task) in case["test_puzzles"].as_object().unwrap() {
            // The vectors hold the tests only.
            let with_train = json!({ "train": task["test"], "test": task["test"] });
            tasks.push(ArcTask::from_json(id, &with_train).unwrap());
        }
        let tensor = tensors(&predictions);
        let words = |name: &str| {
            tensor(name).chunks_exact(4).map(|c| <[u8; 4]>::try_from(c).unwrap()).collect::<Vec<_>>()
        };
        let logits: Vec<f32> = words("q_halt_logits").into_iter().map(f32::from_le_bytes).collect();
        let identifiers: Vec<i32> = words("puzzle_identifiers").into_iter().map(i32::from_le_bytes).collect();
        let rows = |name: &str| tensor(name).chunks_exact(900).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let (inputs, preds) = (rows("inputs"), rows("preds"));
        for (names, result) in [("identifiers_hrm", "hrm"), ("identifiers_trm", "trm")] {
            let mut voting = Voting::new(&tasks);
            let mut counted = 0;
            for (row, &identifier) in identifiers.iter().enumerate() {
                let name = case[names][identifier as usize].as_str().unwrap();
                counted +=
                    usize::from(voting.add_named(name, &inputs[row], &preds[row], f64::from(logits[row])));
            }
            assert_eq!(counted, identifiers.len() - case["pad_rows"].as_u64().unwrap() as usize);
            let expected: Value =
                serde_json::from_slice(&parity_file(&format!("arc_voting.{result}_result.json")).unwrap())
                    .unwrap();
            let tests = tasks.iter().enumerate().flat_map(|(i, t)| (0..t.test.len()).map(move |j| (i, j)));
            let per_test = expected["per_test"].as_array().unwrap();
            assert_eq!(tests.clone().count(), per_test.len());
            for ((task, test), expected) in tests.zip(per_test) {
                let ranking = voting.ranking(task, test);
                let wanted = expected["ranking"].as_array().unwrap();
                assert_eq!(ranking.len(), wanted.len());
                for (candidate, wanted) in ranking.iter().zip(wanted) {
                    assert_eq!(candidate.votes as u64, wanted["count"].as_u64().unwrap());
                    assert!((candidate.mean_q - wanted["mean_q"].as_f64().unwrap()).abs() < 1e-6);
                    assert_eq!(
                        grid_json(&candidate.grid),
                        if candidate.grid.is_empty() { json!([]) } else { wanted["grid"].clone() }
                    );
                    let right = tasks[task].test[test].output.as_ref() == Some(&candidate.grid);
                    assert_eq!(right, wanted["correct"].as_bool().unwrap());
                }
            }
            let shares = if result == "hrm" {
                let shares = voting.pass_at(Rule::Hrm, &[1, 2, 10, 100, 1000]);
                let text = shares.iter().map(|s| format!("{:.2}%", s * 100.0)).collect::<Vec<_>>();
                let printed = expected["printed"].as_array().unwrap();
                for (line, share) in printed[1..].iter().zip(&text) {
                    assert!(line.as_str().unwrap().ends_with(&format!(" {share}")), "{line} {share}");
                }
                text.len()
            } else {
                for (k, share) in expected["result"].as_object().unwrap() {
                    let k = k.rsplit_once('@').unwrap().1.parse().unwrap();
                    let ours = voting.pass_at(Rule::Trm, &[k])[0];
                    assert!((ours - share.as_f64().unwrap()).abs() < 1e-12, "pass@{k}");
                }
                assert_eq!(voting.submission(None).to_json(), expected["submission"]);
                5
            };
            assert_eq!(shares, 5);
        }
    }

    #[test]
    fn shards_add_up_in_any_order() {
        let grid = |c: u8| Grid::new(1, 2, vec![c, c]).unwrap();
        let pair = |c: u8| super::super::Pair { input: grid(c), output: Some(grid(2)) };
        let task = ArcTask { id: "a".to_owned(), train: vec![pair(1)], test: vec![pair(1), pair(3)] };
        let tokens = |c: u8| {
            let mut out = vec![0u8; 900];
            super::super::encode(&grid(c), (0, 0), &mut out);
            out
        };
        let mut rng = crate::random::stream(3, crate::random::Purpose::Other, 0, 0);
        let mut draw = |n: u32| crate::random::below(&mut rng, n);
        let votes: Vec<(u64, u8, Vec<u8>, f64)> = (0..300)
            .map(|place| {
                // An answer that is no grid is counted as well.
                let answer = match draw(5) {
                    4 => vec![0u8; 900],
                    c => tokens(c as u8 + 2),
                };
                (place, if draw(2) == 0 { 1 } else { 3 }, answer, f64::from(draw(1000)) / 99.0 - 5.0)
            })
            .collect();
        let cast = |voting: &mut Voting, (place, input, answer, q): &(u64, u8, Vec<u8>, f64)| {
            assert!(voting.add_at(*place, 0, &Transform::IDENTITY, &tokens(*input), answer, *q));
        };
        let mut whole = Voting::new(std::slice::from_ref(&task));
        votes.iter().for_each(|vote| cast(&mut whole, vote));
        let shards: Vec<Value> = (0..3)
            .map(|shard| {
                let mut part = Voting::new(std::slice::from_ref(&task));
                votes.iter().skip(shard).step_by(3).for_each(|vote| cast(&mut part, vote));
                serde_json::from_str(&part.votes_json(0).to_string()).unwrap()
            })
            .collect();
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]] {
            let mut merged = Voting::new(std::slice::from_ref(&task));
            order.iter().for_each(|&shard| merged.merge(0, &shards[shard]).unwrap());
            assert_eq!(merged.votes_json(0), whole.votes_json(0));
            assert_eq!(merged.ranking(0, 1), whole.ranking(0, 1));
            assert_eq!(merged.submission(None), whole.submission(None));
        }
        assert_eq!(whole.ranking(0, 0).len(), 5);
        let total: usize = (0..2).flat_map(|test| whole.ranking(0, test)).map(|c| c.votes).sum();
        assert_eq!(total, 300);
        let fails = |json: Value| Voting::new(std::slice::from_ref(&task)).merge(0, &json).unwrap_err();
        assert_eq!(fails(json!({})), "expected a list of ballots");
        let ballot = |answer: Value| json!([{"input": [[1]], "answers": [answer]}]);
        assert!(fails(ballot(json!({"grid": [[99]]}))).contains("colours from 0 to 9"));
        assert!(fails(ballot(json!({"grid": [[9]], "votes": -1}))).contains("\"votes\""));
    }

    #[test]
    fn votes_beat_confidence_and_ties_keep_their_order() {
        let grid = |c: u8| Grid::new(1, 1, vec![c]).unwrap();
        let pair = super::super::Pair { input: grid(1), output: Some(grid(2)) };
        let task = ArcTask { id: "a_t1".to_owned(), train: vec![pair.clone()], test: vec![pair] };
        let mut voting = Voting::new(&[task]);
        let tokens = |c: u8| {
            let mut out = vec![0u8; 900];
            super::super::encode(&grid(c), (0, 0), &mut out);
            out
        };
        assert_eq!(
            voting.submission(None).to_json(),
            json!({"a_t1": [{"attempt_1": [[0]], "attempt_2": [[0]]}]})
        );
        assert_eq!(voting.pass_at(Rule::Hrm, &[1]), [0.0]);
        for (answer, q) in [(5, 0.0), (4, 0.0), (3, 9.0), (2, -9.0), (2, -9.0)] {
            assert!(voting.add_named("a_t1", &tokens(1), &tokens(answer), q));
        }
        let order: Vec<u8> = voting.ranking(0, 0).iter().map(|c| c.grid.cells()[0]).collect();
        assert_eq!(order, [2, 3, 5, 4]);
        assert!(!voting.add_named("<blank>", &tokens(1), &tokens(1), 0.0));
        assert!(!voting.add(7, &Transform::IDENTITY, &tokens(1), &tokens(1), 0.0));
        assert_eq!((voting.ranking(0, 9).len(), voting.ranking(9, 0).len()), (0, 0));
        assert_eq!(voting.pass_at(Rule::Hrm, &[1, 2]), [1.0, 1.0]);
        assert_eq!(Voting::new(&[]).pass_at(Rule::Trm, &[1]), [0.0]);
        // Rows of another length crop to nothing, and are counted as such.
        assert!(voting.add_named("a_t1", &[2u8; 3], &[2u8; 3], 0.0));
    }
}
