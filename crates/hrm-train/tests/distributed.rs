//! Several workers take the steps that one worker with the whole batch takes. The workers are threads here, and what
//! connects them is a stand-in for MPI or NCCL: everything but the engine is the program's own.

mod common;

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use burn::tensor::{Tensor, TensorData};
use hrm_backend::Cpu;
use hrm_data::dataset::{Dataset, Metadata, Overwrite, PuzzleSet};
use hrm_model::weights::read_safetensors;
use hrm_train::{
    distributed::{Collective, CollectiveError, Team},
    recipe::ResolvedRecipe,
    trainer::{Ending, TrainError, TrainOptions, TrainSummary, saved_recipe, train_in_team},
};
use serde_json::Value;

/// What differs from the tiny recipe of the other tests.
const SHARED: &[&str] = &[
    "data.source=dataset",
    "data.train_examples=0",
    "data.test_examples=0",
    "data.augment=false",
    "train.max_steps=20",
    "train.lr=3e-3",
    "train.weight_decay=0.1",
    "train.puzzle_emb_lr=1e-2",
    "train.puzzle_emb_weight_decay=0.1",
    "train.grad_clip=1.0",
    "train.ema=0.9",
    "train.checkpoint_interval=1000",
    "eval.interval=10",
    // Neither the batches nor the last rows share out evenly.
    "eval.batch_size=7",
];

/// Puzzles of three examples each, so that a batch of eight has rows of one puzzle on two workers. The answer is 2 or 3
/// everywhere, by the puzzle: only the puzzle embedding tells, and half of the answers are soon right, so that sequences
/// halt at different steps.
fn dataset(root: &Path) {
    const SEQ_LEN: usize = 16;
    let make = |puzzles: usize, examples_each: usize, salt: usize| {
        let examples = puzzles * examples_each;
        let inputs = (0..examples * SEQ_LEN).map(|i| ((i * 7 + i / 5 * 3 + salt) % 5 + 1) as u8).collect();
        let labels = (0..examples * SEQ_LEN).map(|i| (2 + i / SEQ_LEN / examples_each % 2) as u8).collect();
        let offsets = |step: usize| (0..=puzzles).map(|p| (p * step) as u32).collect::<Vec<u32>>();
        let ids = (0..puzzles).map(|p| p as u32 + 1).collect();
        let set =
            PuzzleSet::new("all", SEQ_LEN, inputs, labels, ids, offsets(examples_each), offsets(1)).unwrap();
        let metadata = Metadata {
            pad_id: 0,
            ignore_label_id: Some(0),
            blank_identifier_id: 0,
            vocab_size: 6,
            seq_len: SEQ_LEN,
            num_puzzle_identifiers: 7,
            total_groups: puzzles,
            mean_puzzle_examples: examples_each as f64,
            total_puzzles: Some(puzzles),
            sets: vec!["all".to_owned()],
        };
        Dataset::new(metadata, vec![set]).unwrap()
    };
    make(6, 3, 0).save(&root.join("train"), Overwrite::No).unwrap();
    make(6, 2, 1).save(&root.join("test"), Overwrite::No).unwrap();
}

/// Sums by way of the memory that threads share.
#[derive(Debug, Clone)]
struct Threads {
    worker: usize,
    barrier: Arc<Barrier>,
    values: Arc<Mutex<Vec<Vec<f32>>>>,
}

impl Threads {
    fn all(workers: usize) -> Vec<Self> {
        let (barrier, values) =
            (Arc::new(Barrier::new(workers)), Arc::new(Mutex::new(vec![vec![]; workers])));
        (0..workers)
            .map(|worker| Self { worker, barrier: Arc::clone(&barrier), values: Arc::clone(&values) })
            .collect()
    }
}

impl Collective<Cpu> for Threads {
    fn worker(&self) -> usize {
        self.worker
    }

    fn workers(&self) -> usize {
        self.values.lock().unwrap().len()
    }

    fn sum(&self, values: Tensor<Cpu, 1>) -> Result<Tensor<Cpu, 1>, CollectiveError> {
        let (device, shape) = (values.device(), values.dims());
        self.values.lock().unwrap()[self.worker] = values.into_data().to_vec().unwrap();
        self.barrier.wait();
        let sum = {
            let all = self.values.lock().unwrap();
            let mut sum = all[0].clone();
            for other in &all[1..] {
                assert_eq!(sum.len(), other.len(), "all workers send as much");
                sum.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
            }
            sum
        };
        self.barrier.wait();
        Ok(Tensor::from_data(TensorData::new(sum, shape), &device))
    }
}

struct Run {
    root: tempfile::TempDir,
}

impl Run {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        dataset(&root.path().join("data"));
        Self { root }
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn recipe(&self, extra: &[&str]) -> ResolvedRecipe {
        let path = format!("data.path={}", self.dir("data").display());
        common::recipe(&[SHARED, extra, &[path.as_str()]].concat())
    }

    /// Trains with some workers; worker `w` gets `options(w)`.
    fn train(
        workers: usize,
        options: impl Fn(usize) -> TrainOptions + Sync,
    ) -> Vec<Result<TrainSummary, TrainError>> {
        thread::scope(|scope| {
            let handles: Vec<_> = Threads::all(workers)
                .into_iter()
                .map(|side| {
                    let options = options(side.worker);
                    scope.spawn(move || {
                        let device = Default::default();
                        let team = Team::new(Rc::new(side), device);
                        train_in_team::<Cpu>(options, &device, team, &mut ())
                    })
                })
                .collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        })
    }

    fn fresh(&self, name: &str, workers: usize, extra: &[&str]) -> Vec<Result<TrainSummary, TrainError>> {
        Self::train(workers, |_| options(self.recipe(extra), &self.dir(name), false))
    }

    fn resume(&self, name: &str, workers: usize) -> Vec<Result<TrainSummary, TrainError>> {
        let dir = self.dir(name);
        Self::train(workers, |_| options(saved_recipe(&dir, &[]).unwrap(), &dir, true))
    }

    /// Two runs with the same steps, halting and evaluations, and losses and weights the same but for rounding.
    fn assert_equal(&self, one: &str, other: &str) {
        let (rows, others) = (common::curve(&self.dir(one)), common::curve(&self.dir(other)));
        assert_eq!(rows.len(), others.len());
        for (row, other) in rows.iter().zip(&others) {
            assert_close(row, other, &format!("row {row}"));
        }
        for file in ["model", "ema", "train"] {
            let read = |name: &str| {
                let path =
                    self.dir(name).join("checkpoints/step-20").join(file).with_extension("safetensors");
                read_safetensors(&path).unwrap().0
            };
            let (tensors, others) = (read(one), read(other));
            assert_eq!(tensors.keys().collect::<Vec<_>>(), others.keys().collect::<Vec<_>>());
            for (name, tensor) in &tensors {
                let (values, others) = (numbers(tensor), numbers(&others[name]));
                assert_eq!(values.len(), others.len(), "{name}");
                let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
                let difference = norm(&mut values.iter().zip(&others).map(|(a, b)| a - b));
                let size = norm(&mut values.iter().copied());
                assert!(difference <= 1e-4 * size + 1e-7, "{name}: off by {difference} of {size}");
            }
        }
    }
}

fn options(recipe: ResolvedRecipe, dir: &Path, resume: bool) -> TrainOptions {
    TrainOptions { recipe, run_dir: dir.to_owned(), resume, stop: Arc::new(AtomicBool::new(false)) }
}

fn numbers(data: &TensorData) -> Vec<f64> {
    data.iter::<f64>().collect()
}

/// Whole numbers are the same, others within rounding.
fn assert_close(one: &Value, other: &Value, what: &str) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{what}");
            for (key, value) in one {
                assert_close(value, &other[key], &format!("{what}: {key}"));
            }
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() => {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            assert!((one - other).abs() <= 1e-4 * one.abs() + 1e-7, "{what}: {one} and {other}");
        }
        _ => assert_eq!(one, other, "{what}"),
    }
}

#[test]
fn several_workers_train_as_one_does() {
    let run = Run::new();
    for workers in [1, 2, 4] {
        let summaries = run.fresh(&workers.to_string(), workers, &[]);
        for summary in summaries {
            let summary = summary.unwrap();
            assert_eq!((summary.ending, summary.step), (Ending::Finished, 20));
            assert_eq!(summary.eval.unwrap().examples, 12, "every worker knows the whole evaluation");
        }
    }
    run.assert_equal("1", "2");
    run.assert_equal("1", "4");
    // The embedding of each puzzle was trained, and halting happened at different steps.
    let (model, _) = read_safetensors(&run.dir("4").join("checkpoints/step-20/model.safetensors")).unwrap();
    let (_, table) = model.iter().find(|(name, _)| name.contains("puzzle_emb")).unwrap();
    let rows = numbers(table);
    assert!(rows.chunks(32).skip(1).all(|row| row.iter().any(|v| v.abs() > 0.01)), "{rows:?}");
    let steps = common::curve(&run.dir("4"));
    assert!(steps.iter().any(|row| row["mean_steps"].as_f64().is_some_and(|mean| mean.fract() > 0.0)));
    // Parts of a share, too.
    for summary in run.fresh("parts", 2, &["train.accumulate=2"]) {
        summary.unwrap();
    }
    run.assert_equal("1", "parts");
}

#[test]
fn any_number_of_workers_goes_on_with_a_run() {
    let run = Run::new();
    run.fresh("whole", 1, &[]).remove(0).unwrap();
    for (name, first, second) in [("4 then 1", 4, 1), ("1 then 2", 1, 2), ("2 then 4", 2, 4)] {
        for summary in run.fresh(name, first, &["train.stop_after=7"]) {
            assert_eq!(summary.unwrap().ending, Ending::StopAfter);
        }
        for summary in run.resume(name, second) {
            assert_eq!(summary.unwrap().ending, Ending::Finished);
        }
        run.assert_equal("whole", name);
    }
}

#[test]
fn all_workers_stop_after_the_same_step() {
    let run = Run::new();
    let summaries = Run::train(2, |worker| {
        let options = options(run.recipe(&["train.log_interval=3"]), &run.dir("run"), false);
        options.stop.store(worker == 1, Ordering::SeqCst);
        options
    });
    for summary in summaries {
        let summary = summary.unwrap();
        assert_eq!((summary.ending, summary.step), (Ending::Interrupted, 3));
        assert!(summary.checkpoint.join("state.json").is_file());
    }
}

#[test]
fn workers_that_cannot_train_together_say_so() {
    let run = Run::new();
    let told = |result: &Result<TrainSummary, TrainError>| result.as_ref().unwrap_err().to_string();

    let uneven = run.fresh("uneven", 3, &[]);
    assert!(
        told(&uneven[0]).contains("train.global_batch_size = 8 cannot be shared by 3 workers"),
        "{}",
        told(&uneven[0])
    );

    let background = run.fresh("background", 2, &["eval.background=true"]);
    assert!(told(&background[1]).contains("eval.background = true: 2 workers"), "{}", told(&background[1]));

    let different = Run::train(2, |worker| {
        let seed = format!("train.seed={worker}");
        options(run.recipe(&[&seed]), &run.dir("different"), false)
    });
    for result in &different {
        assert!(
            told(result).starts_with("worker 1 does not agree with worker 0 about the recipe"),
            "{}",
            told(result)
        );
    }

    // Only worker 0 writes, so only worker 0 finds the folder occupied; the other does not wait for it.
    let occupied = run.fresh("different", 2, &[]);
    assert!(told(&occupied[0]).contains("already holds a run"), "{}", told(&occupied[0]));
    assert_eq!(told(&occupied[1]), "worker 0 could not start, and said why");
}
