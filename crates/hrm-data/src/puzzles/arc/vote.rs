//! The vote: augmented predictions are turned back, counted, and ranked.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::augment::{Transform, parse_name};
use super::canvas::crop;
use super::task::{ArcTask, grid_json};
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
    ballots: Vec<HashMap<Grid, Answers>>,
}

/// Answers in order of appearance, each with its votes and their sum of q.
type Answers = Vec<(Grid, usize, f64)>;

impl Voting {
    /// A vote without votes.
    pub fn new(tasks: &[ArcTask]) -> Self {
        Self {
            by_name: tasks.iter().enumerate().map(|(index, task)| (task.id.clone(), index)).collect(),
            ballots: vec![HashMap::new(); tasks.len()],
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
        let Some(ballot) = self.ballots.get_mut(task) else { return false };
        let undo = transform.inverse();
        let (input, answer) = (undo.apply(&crop(input)), undo.apply(&crop(prediction)));
        let q = 1.0 / (1.0 + (-q_halt_logit).exp());
        let answers = ballot.entry(input).or_default();
        match answers.iter_mut().find(|(grid, ..)| *grid == answer) {
            Some((_, votes, sum)) => {
                *votes += 1;
                *sum += q;
            }
            None => answers.push((answer, 1, q)),
        }
        true
    }

    /// The tasks voted on.
    pub fn tasks(&self) -> &[ArcTask] {
        &self.tasks
    }

    /// The answers to a test of a task, best first: by votes, then by mean q, then by appearance. Empty if nobody voted.
    pub fn ranking(&self, task: usize, test: usize) -> Vec<Candidate> {
        let pair = self.tasks.get(task).and_then(|task| task.test.get(test));
        let answers = pair.and_then(|pair| self.ballots[task].get(&pair.input));
        let candidate = |(grid, votes, sum): &(Grid, usize, f64)| Candidate {
            grid: grid.clone(),
            votes: *votes,
            mean_q: sum / *votes as f64,
        };
        let mut ranking: Vec<Candidate> = answers.into_iter().flatten().map(candidate).collect();
        ranking.sort_by(|a, b| b.votes.cmp(&a.votes).then(b.mean_q.total_cmp(&a.mean_q)));
        ranking
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

    /// The file that a competition wants: for each task and test `attempt_1` and `attempt_2`. With one answer only it stands
    /// twice; without any, a single black cell.
    pub fn submission(&self) -> Value {
        let attempts = |task: usize, test: usize| {
            let ranking = self.ranking(task, test);
            let mut grids = ranking.iter().map(|c| grid_json(&c.grid)).filter(|g| *g != json!([]));
            let first = grids.next().unwrap_or_else(|| json!([[0]]));
            let second = grids.next().unwrap_or_else(|| first.clone());
            json!({ "attempt_1": first, "attempt_2": second })
        };
        let task = |(index, task): (usize, &ArcTask)| {
            let tests = (0..task.test.len()).map(|test| attempts(index, test)).collect();
            (task.id.clone(), Value::Array(tests))
        };
        Value::Object(self.tasks.iter().enumerate().map(task).collect())
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
                assert_eq!(voting.submission(), expected["submission"]);
                5
            };
            assert_eq!(shares, 5);
        }
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
        assert_eq!(voting.submission(), json!({"a_t1": [{"attempt_1": [[0]], "attempt_2": [[0]]}]}));
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
