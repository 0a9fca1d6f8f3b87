use super::*;
use crate::dataset::{EvalBatches, IGNORE_LABEL, Metadata};
use crate::puzzles::maze::Mazes;
use crate::puzzles::sudoku::{Board, Generator, Geometry, Sudoku, decode_tokens, encode_tokens};
use crate::task::AnyTask;
use std::collections::{HashMap, HashSet, VecDeque};

/// A dataset with one token per example, its number + 1, so that batches can be traced.
fn traced(puzzle_indices: &[u32], group_indices: &[u32]) -> Arc<Dataset> {
    let set = traced_set("all", puzzle_indices, group_indices);
    let metadata = Metadata {
        pad_id: 0,
        ignore_label_id: None,
        blank_identifier_id: 0,
        vocab_size: 256,
        seq_len: 1,
        num_puzzle_identifiers: 1000,
        total_groups: set.groups(),
        mean_puzzle_examples: 1.0,
        total_puzzles: None,
        sets: vec!["all".to_owned()],
    };
    Arc::new(Dataset::new(metadata, vec![set]).unwrap())
}

fn traced_set(name: &str, puzzle_indices: &[u32], group_indices: &[u32]) -> PuzzleSet {
    let tokens: Vec<u8> = (1..=*puzzle_indices.last().unwrap() as u8).collect();
    let puzzles = puzzle_indices.len() as u32 - 1;
    let ids = (100..100 + puzzles).collect();
    PuzzleSet::new(name, 1, tokens.clone(), tokens, ids, puzzle_indices.to_vec(), group_indices.to_vec())
        .unwrap()
}

fn symmetries(geometry: Geometry) -> Augmentation {
    Augmentation::Task(AnyTask::new(Sudoku { geometry }))
}

fn singles(n: u32) -> Arc<Dataset> {
    let indices: Vec<u32> = (0..=n).collect();
    traced(&indices, &indices)
}

fn sudoku(puzzles: u64) -> Arc<Dataset> {
    let mut generator = Generator::new(Geometry::S9, 1);
    let (mut inputs, mut labels) = (Vec::new(), Vec::new());
    for index in 0..puzzles {
        let made = generator.generate(index);
        inputs.extend(encode_tokens(&made.puzzle));
        labels.extend(encode_tokens(&made.solution));
    }
    let offsets: Vec<u32> = (0..=puzzles as u32).collect();
    let set = PuzzleSet::new("all", 81, inputs, labels, vec![0; puzzles as usize], offsets.clone(), offsets)
        .unwrap();
    let metadata = Metadata {
        pad_id: 0,
        ignore_label_id: Some(0),
        blank_identifier_id: 0,
        vocab_size: 11,
        seq_len: 81,
        num_puzzle_identifiers: 1,
        total_groups: puzzles as usize,
        mean_puzzle_examples: 1.0,
        total_puzzles: None,
        sets: vec!["all".to_owned()],
    };
    Arc::new(Dataset::new(metadata, vec![set]).unwrap())
}

/// Dictated decisions: puzzles and examples as recorded from the reference.
struct Script {
    puzzles: VecDeque<usize>,
    examples: VecDeque<usize>,
    asked: Vec<(Range<usize>, usize, usize)>,
    current: usize,
    starts: Vec<u32>,
}

impl Decide for Script {
    fn puzzle(&mut self, puzzles: Range<usize>) -> usize {
        self.current = self.puzzles.pop_front().unwrap();
        self.asked.push((puzzles, 0, 0));
        self.current
    }

    fn examples(&mut self, size: usize, count: usize) -> Vec<usize> {
        let asked = self.asked.last_mut().unwrap();
        (asked.1, asked.2) = (size, count);
        let start = self.starts[self.current] as usize;
        self.examples.drain(..count).map(|e| e - start).collect()
    }
}

#[test]
fn vectors_of_the_reference() {
    let Some(data) = crate::testdata::parity_json() else {
        return;
    };
    let case = &data["sample_batch"];
    let list = |value: &serde_json::Value| -> Vec<u32> { crate::testdata::flat(value) };
    let puzzle_indices = list(&case["puzzle_indices"]);
    let dataset = traced(&puzzle_indices, &list(&case["group_indices"]));
    let set = &dataset.sets()[0];
    let order = list(&case["group_order"]);
    let batch_size = case["global_batch_size"].as_u64().unwrap() as usize;
    let mut start = 0;
    let batches = case["batches"].as_array().unwrap();
    assert!(batches.len() > 2);
    for batch in batches {
        let examples: Vec<usize> = crate::testdata::flat(&batch["example_indices"]);
        let puzzles: Vec<usize> = crate::testdata::flat(&batch["puzzle_indices"]);
        let next_start = batch["next_start"].as_u64().unwrap() as usize;
        // One decision per group visited; a puzzle's rows follow each other, so runs of equal puzzles are the decisions.
        let mut decisions: VecDeque<usize> = VecDeque::new();
        let mut taken = 0;
        for &group in &order[start..next_start] {
            let puzzle = puzzles[taken];
            assert!(set.puzzles_of(group as usize).contains(&puzzle));
            taken += set.examples_of(puzzle).len().min(batch_size - taken);
            decisions.push_back(puzzle);
        }
        let mut script = Script {
            puzzles: decisions,
            examples: examples.iter().copied().collect(),
            asked: Vec::new(),
            current: 0,
            starts: puzzle_indices.clone(),
        };
        let (next, picks) = sample_batch(set, &order, start, batch_size, &mut script);
        assert_eq!(next, next_start);
        assert_eq!(picks.iter().map(|p| p.example).collect::<Vec<_>>(), examples);
        assert_eq!(picks.iter().map(|p| p.puzzle).collect::<Vec<_>>(), puzzles);
        assert_eq!(picks.len() == batch_size, batch["kept"] == true);
        for (i, (range, size, count)) in script.asked.iter().enumerate() {
            assert_eq!(*range, set.puzzles_of(order[start + i] as usize));
            assert!(count <= size && *size > 0);
        }
        assert!(script.puzzles.is_empty() && script.examples.is_empty());
        start = next;
    }
    assert_eq!(start, order.len());
}

#[test]
fn an_epoch_visits_every_group_once_and_drops_the_short_batch() {
    let mut sampler = TrainSampler::new(singles(10), SamplerConfig::new(3, 5)).unwrap();
    assert_eq!((sampler.batches_per_iteration(), sampler.batches_per_epoch()), (3, 3.0));
    let mut orders = HashSet::new();
    for epoch in 0..20 {
        let mut seen = HashSet::new();
        let mut order = Vec::new();
        for _ in 0..3 {
            assert_eq!(sampler.state().iteration.max(epoch), epoch);
            let batch = sampler.next_batch();
            assert_eq!((batch.rows, batch.inputs.len()), (3, 3));
            assert_eq!(batch.inputs, batch.labels);
            for (token, id) in batch.inputs.iter().zip(&batch.puzzle_identifiers) {
                assert_eq!(*id, token + 99);
                assert!(seen.insert(*token));
            }
            order.extend(batch.inputs);
        }
        assert_eq!(seen.len(), 9);
        orders.insert(order);
    }
    assert_eq!(orders.len(), 20, "every epoch has an order of its own");
    assert_eq!(sampler.state().batches, 60);
}

#[test]
fn one_puzzle_per_group_without_replacement() {
    // Two groups: three puzzles of 2, 3, 4 examples; one puzzle of 5.
    let dataset = traced(&[0, 2, 5, 9, 14], &[0, 3, 4]);
    let mut sampler = TrainSampler::new(dataset.clone(), SamplerConfig::new(4, 1)).unwrap();
    let mut puzzles = HashMap::new();
    for _ in 0..300 {
        let batch = sampler.next_batch();
        let unique: HashSet<&i32> = batch.inputs.iter().collect();
        assert_eq!(unique.len(), 4, "no example twice");
        let of_first_group: HashSet<&i32> = batch.puzzle_identifiers.iter().filter(|&&id| id < 103).collect();
        assert!(of_first_group.len() <= 1, "one puzzle of a group");
        for id in of_first_group {
            *puzzles.entry(*id).or_insert(0) += 1;
        }
    }
    assert_eq!(puzzles.len(), 3);
    assert!(puzzles.values().all(|&n| n > 30), "{puzzles:?}");
}

#[test]
fn repeated_epochs_fill_a_batch_larger_than_the_set() {
    let config = SamplerConfig { epochs_per_iteration: 3, ..SamplerConfig::new(7, 1) };
    let error = TrainSampler::new(singles(3), SamplerConfig::new(7, 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "set \"all\" fills no batch: 3 examples per epoch x 1 epochs per iteration, batch size 7; use a batch size of at most 3, or at least 3 epochs per iteration"
    );
    let mut sampler = TrainSampler::new(singles(3), config.clone()).unwrap();
    for _ in 0..5 {
        let batch = sampler.next_batch();
        let count = |token| batch.inputs.iter().filter(|&&t| t == token).count();
        assert!((1..=3).all(|t| count(t) >= 2), "two whole epochs and one row");
    }
    assert!(TrainSampler::new(singles(3), SamplerConfig::new(0, 1)).is_err());
    let endless =
        TrainSampler::new(singles(3), SamplerConfig { epochs_per_iteration: usize::MAX, ..config.clone() });
    assert!(matches!(endless, Err(SamplerError::TooManyEpochs { groups: 3, .. })));
    let enormous = SamplerConfig::new(usize::MAX, 1);
    assert!(matches!(TrainSampler::new(singles(3), enormous), Err(SamplerError::TooFewExamples { .. })));
    assert!(TrainSampler::new(singles(3), SamplerConfig { epochs_per_iteration: 0, ..config }).is_err());
}

#[test]
fn sets_follow_each_other() {
    let sets = vec![traced_set("a", &[0, 1, 2, 3], &[0, 1, 2, 3]), traced_set("b", &[0, 2, 4], &[0, 1, 2])];
    let mut metadata = singles(3).metadata().clone();
    metadata.sets = vec!["a".to_owned(), "b".to_owned()];
    metadata.total_groups = 5;
    let dataset = Arc::new(Dataset::new(metadata, sets).unwrap());
    let mut sampler = TrainSampler::new(dataset, SamplerConfig::new(2, 1)).unwrap();
    assert_eq!(sampler.batches_per_iteration(), 1 + 2);
    for _ in 0..4 {
        let rows: Vec<Vec<i32>> = (0..3).map(|_| sampler.next_batch().inputs).collect();
        assert!(rows[0].iter().all(|&t| t <= 3));
        let b: HashSet<i32> = rows[1..].iter().flatten().copied().collect();
        assert_eq!(b, HashSet::from([1, 2, 3, 4]));
    }
}

#[test]
fn a_restored_sampler_continues_exactly() {
    let dataset = sudoku(7);
    let augmentation = symmetries(Geometry::S9);
    let config = SamplerConfig { augmentation, epochs_per_iteration: 2, ..SamplerConfig::new(4, 9) };
    let mut sampler = TrainSampler::new(dataset.clone(), config.clone()).unwrap();
    for taken in 0..10 {
        let json = serde_json::to_string(&sampler.state()).unwrap();
        let state: SamplerState = serde_json::from_str(&json).unwrap();
        let mut restored = TrainSampler::restore(dataset.clone(), config.clone(), state).unwrap();
        let mut original = sampler.clone();
        for _ in 0..8 {
            assert_eq!(restored.next_batch(), original.next_batch(), "restored after {taken} batches");
        }
        sampler.next_batch();
    }
    let state = sampler.state();
    let other = SamplerConfig { seed: 10, ..config.clone() };
    assert!(matches!(
        TrainSampler::restore(dataset.clone(), other, state.clone()),
        Err(SamplerError::State { .. })
    ));
    assert!(matches!(
        TrainSampler::restore(sudoku(8), config.clone(), state.clone()),
        Err(SamplerError::State { .. })
    ));
    let beyond = SamplerState { position: 99, ..state.clone() };
    assert!(TrainSampler::restore(dataset.clone(), config.clone(), beyond).is_err());
    assert!(TrainSampler::restore(dataset, config, SamplerState { set: 1, ..state }).is_err());
}

#[test]
fn augmented_rows_are_images_of_their_examples() {
    let dataset = sudoku(5);
    let augmentation = symmetries(Geometry::S9);
    let config = SamplerConfig { augmentation, ..SamplerConfig::new(5, 2) };
    let mut sampler = TrainSampler::new(dataset.clone(), config.clone()).unwrap();
    let mut classifier = crate::puzzles::sudoku::canonical::Classifier::new();
    let set = &dataset.sets()[0];
    let classes: HashSet<_> = (0..5).map(|e| classifier.key(&decode_tokens(set.input(e)).unwrap())).collect();
    let mut seen = HashSet::new();
    for _ in 0..6 {
        let batch = sampler.next_batch();
        let board =
            |tokens: &[i32]| decode_tokens(&tokens.iter().map(|&t| t as u8).collect::<Vec<_>>()).unwrap();
        let mut of_batch = HashSet::new();
        for row in 0..5 {
            let puzzle = board(batch.input(row));
            assert!(board(batch.label(row)).is_solution_of(&puzzle), "puzzle and answer move together");
            of_batch.insert(classifier.key(&puzzle));
            assert!(seen.insert(puzzle), "a new image in every epoch");
        }
        assert_eq!(of_batch, classes);
    }
    let wrong = SamplerConfig { augmentation: symmetries(Geometry::S4), ..config };
    let error = TrainSampler::new(dataset, wrong).unwrap_err().to_string();
    assert!(error.contains("need seq_len 16 and vocab_size 6, the dataset has 81 and 11"), "{error}");
}

#[test]
fn batches_do_not_depend_on_the_number_of_threads() {
    let dataset = sudoku(40);
    let augmentation = symmetries(Geometry::S9);
    let config = SamplerConfig { augmentation, epochs_per_iteration: 20, ..SamplerConfig::new(384, 3) };
    let draw = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut sampler = TrainSampler::new(dataset.clone(), config.clone()).unwrap();
        pool.install(|| (0..4).map(|_| sampler.next_batch()).collect::<Vec<_>>())
    };
    assert_eq!(draw(1), draw(4));
}

/// Rows of 32 batches, as boards: input and label.
fn boards(dataset: &Arc<Dataset>, config: &SamplerConfig) -> Vec<(Board, Board)> {
    let mut sampler = TrainSampler::new(dataset.clone(), config.clone()).unwrap();
    let board = |tokens: &[i32]| decode_tokens(&tokens.iter().map(|&t| t as u8).collect::<Vec<_>>()).unwrap();
    let batches = (0..32).map(|_| sampler.next_batch());
    batches
        .flat_map(|b| (0..b.rows).map(|r| (board(b.input(r)), board(b.label(r)))).collect::<Vec<_>>())
        .collect()
}

#[test]
fn hints_come_from_the_solution() {
    let dataset = sudoku(6);
    let givens: HashSet<usize> =
        (0..6).map(|e| decode_tokens(dataset.sets()[0].input(e)).unwrap().clues()).collect();
    let augmentation = symmetries(Geometry::S9);
    let plain = SamplerConfig { augmentation, epochs_per_iteration: 8, ..SamplerConfig::new(16, 9) };
    let config = SamplerConfig { hints: 400_000, ..plain.clone() };
    let (with, without) = (boards(&dataset, &config), boards(&dataset, &plain));
    let mut hinted = 0;
    let mut counts = HashSet::new();
    for ((puzzle, solution), (as_given, same)) in with.iter().zip(&without) {
        // Everything else is drawn as without hints.
        assert_eq!(solution, same);
        assert!(solution.is_solution_of(puzzle), "a hint contradicts the solution");
        let kept = as_given.cells().iter().zip(puzzle.cells()).all(|(a, b)| *a == 0 || a == b);
        assert!(kept && puzzle.clues() < 81, "a given is gone, or no blank is left");
        assert!(givens.contains(&as_given.clues()));
        if puzzle.clues() > as_given.clues() {
            hinted += 1;
            counts.insert(puzzle.clues() - as_given.clues());
        }
    }
    // 512 rows: 204.8 expected, standard deviation 11.
    assert!((150..260).contains(&hinted), "{hinted} of {} with hints", with.len());
    assert!(counts.len() > 30 && counts.contains(&1) | counts.contains(&2), "{counts:?}");
    let always = boards(&dataset, &SamplerConfig { hints: 1_000_000, ..plain.clone() });
    let fewest = givens.iter().min().unwrap();
    assert!(always.iter().all(|(puzzle, _)| puzzle.clues() > *fewest));
    let too_many = SamplerConfig { hints: 1_000_001, ..plain };
    assert!(TrainSampler::new(dataset.clone(), too_many).is_err());
    let of_mazes = Augmentation::Task(AnyTask::new(Mazes::new(9, 9)));
    let error = TrainSampler::new(dataset, SamplerConfig { augmentation: of_mazes, ..config }).unwrap_err();
    assert!(error.to_string().contains("none with this augmentation"), "{error}");
}

#[test]
fn wrong_hints_are_wrong_but_break_no_rule() {
    let dataset = sudoku(6);
    let augmentation = symmetries(Geometry::S9);
    let plain = SamplerConfig { augmentation, epochs_per_iteration: 8, ..SamplerConfig::new(16, 9) };
    let with = boards(&dataset, &SamplerConfig { wrong_hints: 400_000, ..plain.clone() });
    let mut wrong = 0;
    for ((puzzle, solution), (as_given, same)) in with.iter().zip(&boards(&dataset, &plain)) {
        assert_eq!(solution, same);
        let cells = puzzle.cells().iter().zip(as_given.cells()).zip(solution.cells());
        let others: Vec<_> = cells.filter(|((now, before), _)| now != before).collect();
        wrong += others.len();
        assert!(
            others.len() <= 1 && others.iter().all(|((now, before), right)| **before == 0 && now != right)
        );
        assert!(puzzle.violations().is_empty(), "{puzzle:?}: a given rules it out");
    }
    assert!((150..260).contains(&wrong), "{wrong} of {} rows", with.len());
}

#[test]
fn mixtures_keep_their_shares() {
    let dataset = singles(10);
    // Six groups once an epoch, three of which two are visited, one that comes four times.
    let part = |groups, visits| Part { groups, visits };
    let mixture = vec![part(6, 6), part(3, 2), part(1, 4)];
    let config = SamplerConfig { mixture, ..SamplerConfig::new(12, 5) };
    let mut sampler = TrainSampler::new(dataset.clone(), config.clone()).unwrap();
    assert_eq!((sampler.batches_per_iteration(), sampler.batches_per_epoch()), (1, 1.0));
    let mut visits = [0; 10];
    let mut orders = HashSet::new();
    for _ in 0..30 {
        let batch = sampler.next_batch();
        orders.insert(batch.inputs.clone());
        let seen: Vec<usize> = (0..batch.rows).map(|row| batch.input(row)[0] as usize - 1).collect();
        let of = |range: std::ops::Range<usize>| seen.iter().filter(|group| range.contains(group)).count();
        assert_eq!((of(0..6), of(6..9), of(9..10)), (6, 2, 4));
        seen.iter().for_each(|&group| visits[group] += 1);
    }
    assert_eq!(visits, [30, 30, 30, 30, 30, 30, 20, 20, 20, 120]);
    assert_eq!(orders.len(), 30, "a new order in every epoch");
    for wrong in [vec![part(6, 6)], vec![part(10, 0)], vec![part(10, 1), part(0, 1)]] {
        let wrong = SamplerConfig { mixture: wrong, ..SamplerConfig::new(1, 5) };
        assert!(matches!(TrainSampler::new(dataset.clone(), wrong), Err(SamplerError::Mixture { .. })));
    }
}

#[test]
fn hints_and_mixtures_go_on_exactly_on_any_number_of_threads() {
    let dataset = sudoku(9);
    let mixture = vec![Part { groups: 4, visits: 4 }, Part { groups: 5, visits: 7 }];
    let augmentation = symmetries(Geometry::S9);
    let config = SamplerConfig {
        augmentation,
        hints: 500_000,
        mixture,
        epochs_per_iteration: 13,
        ..SamplerConfig::new(40, 9)
    };
    let mut sampler = TrainSampler::new(dataset.clone(), config.clone()).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let mut images = HashSet::new();
    for _ in 0..8 {
        let json = serde_json::to_string(&sampler.state()).unwrap();
        let state: SamplerState = serde_json::from_str(&json).unwrap();
        let mut restored = TrainSampler::restore(dataset.clone(), config.clone(), state).unwrap();
        let batch = sampler.next_batch();
        assert_eq!(pool.install(|| restored.next_batch()), batch);
        // A part that is visited more than once an epoch shows another image each time.
        assert!((0..40).all(|row| images.insert(batch.input(row).to_vec())));
    }
    let other = SamplerConfig { hints: 1, ..config };
    assert!(TrainSampler::restore(dataset, other, sampler.state()).is_err());
}

#[test]
fn evaluation_batches_cover_everything_and_pad_the_rest() {
    let dataset = sudoku(5);
    let batches: Vec<_> = EvalBatches::new(dataset.clone(), 3).collect();
    assert_eq!((batches.len(), EvalBatches::new(dataset.clone(), 3).total()), (2, 2));
    assert_eq!(batches.iter().map(|b| (b.valid_rows, b.first_example)).collect::<Vec<_>>(), [(3, 0), (2, 3)]);
    for batch in &batches {
        for row in 0..batch.valid_rows {
            let set = &dataset.sets()[0];
            let expected: Vec<i32> =
                set.input(batch.first_example + row).iter().map(|&t| i32::from(t)).collect();
            assert_eq!(batch.batch.input(row), expected);
            assert!(batch.batch.label(row).iter().all(|&t| (2..=10).contains(&t)));
        }
    }
    let last = &batches[1].batch;
    assert_eq!((last.rows, last.inputs.len(), last.puzzle_identifiers.len()), (3, 243, 3));
    assert!(last.input(2).iter().all(|&t| t == 0) && last.label(2).iter().all(|&l| l == IGNORE_LABEL));
    let all: Vec<_> = EvalBatches::new(dataset.clone(), usize::MAX).collect();
    assert_eq!((all.len(), all[0].batch.rows, all[0].valid_rows), (1, 5, 5), "no more rows than examples");
    assert_eq!(EvalBatches::new(dataset.clone(), 0).count(), 5);
    // Identifiers of examples are those of their puzzles.
    let ids: Vec<i32> = EvalBatches::new(traced(&[0, 2, 5], &[0, 1, 2]), 4)
        .flat_map(|b| b.batch.puzzle_identifiers)
        .collect();
    assert_eq!(ids, [100, 100, 101, 101, 101, 0, 0, 0]);
}

#[test]
fn ignored_labels_are_masked() {
    let set =
        PuzzleSet::new("all", 3, vec![1, 2, 3], vec![3, 0, 1], vec![0], vec![0, 1], vec![0, 1]).unwrap();
    let mut metadata = sudoku(1).metadata().clone();
    metadata.seq_len = 3;
    let dataset = Arc::new(Dataset::new(metadata.clone(), vec![set.clone()]).unwrap());
    let mut sampler = TrainSampler::new(dataset, SamplerConfig::new(1, 1)).unwrap();
    assert_eq!(sampler.next_batch().labels, [3, IGNORE_LABEL, 1]);
    metadata.ignore_label_id = None;
    let dataset = Arc::new(Dataset::new(metadata, vec![set]).unwrap());
    assert_eq!(TrainSampler::new(dataset, SamplerConfig::new(1, 1)).unwrap().next_batch().labels, [3, 0, 1]);
}
