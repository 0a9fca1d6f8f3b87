//! What the page computes, natively.

use std::path::Path;

use hrm_data::registry::Family;
use hrm_infer::{Halting, InferOptions, Query, Solver, TaskPuzzles, structure};
use hrm_model::Hrm;
use hrm_web::{BUNDLED, Entry, Model, Puzzle, generate, model_name, read};
use serde_json::Value;

fn weights(name: &str) -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../checkpoints").join(name).join("model.safetensors");
    std::fs::read(path).unwrap()
}

fn model(puzzle: &Puzzle) -> Model {
    let name = model_name(puzzle).unwrap();
    Model::new(name, &weights(name)).unwrap()
}

fn one(family: Family, text: &str) -> Puzzle {
    let mut found = read(family, text).unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0).puzzle.unwrap()
}

/// The kinds of puzzles that the page offers.
fn kinds() -> Vec<Value> {
    let Value::Array(kinds) = serde_json::from_str(include_str!("../page/kinds.json")).unwrap() else {
        panic!("a list")
    };
    kinds
}

#[test]
fn examples_are_puzzles_and_come_out_as_the_page_says() {
    for kind in kinds() {
        let family = kind["family"].as_str().unwrap().parse().unwrap();
        let model_of_kind = kind["model"].as_str().unwrap();
        assert!(BUNDLED.contains(&model_of_kind), "{model_of_kind}");
        let examples = kind["examples"].as_array().unwrap();
        assert!(!examples.is_empty(), "{kind}");
        for example in examples {
            let puzzle = one(family, example["text"].as_str().unwrap());
            assert_eq!(Value::from(puzzle.rows), kind["rows"], "{example}");
            assert_eq!(model_name(&puzzle).unwrap(), model_of_kind);
            assert!(puzzle.check().unwrap().solution.is_some(), "{example}");
            let mut thinker = model(&puzzle).start(&puzzle).unwrap();
            let settled = (0..64).any(|_| thinker.think().settled);
            assert_eq!(example["solved"], Value::from(settled), "{example}: {:?}", thinker.last());
        }
    }
    let names: Vec<String> = kinds().iter().map(|kind| kind["model"].as_str().unwrap().to_owned()).collect();
    assert!(BUNDLED.iter().all(|bundled| names.iter().any(|name| name == bundled)), "{names:?}");
}

#[test]
fn steps_are_those_of_hrm_solve() {
    for (family, side) in [(Family::Sudoku, 9), (Family::Sudoku, 4), (Family::Maze, 10)] {
        let puzzle = generate(family, (side, side), 5).unwrap();
        let shape = puzzle.shape().unwrap();
        let name = model_name(&puzzle).unwrap();
        let task = TaskPuzzles::new(shape.task(), 1, 0);
        let (seq_len, vocab_size) = shape.tokens();
        let hrm: Hrm<hrm_backend::Cpu> =
            Hrm::decode(name.as_ref(), &weights(name), &Default::default()).unwrap();
        let hrm = hrm.on_puzzle(vocab_size, seq_len, structure(shape)).unwrap();
        let options = InferOptions {
            halting: Halting::AtLastStep,
            max_steps: Some(6),
            keep_thoughts: true,
            ..InferOptions::default()
        };
        let solver = Solver::new(&[&hrm], &task, options).unwrap();
        let answer = solver.solve(&[Query::from(puzzle.tokens.clone())]).unwrap().remove(0);
        let mut thinker = model(&puzzle).start(&puzzle).unwrap();
        for thought in &answer.trace.thoughts {
            let here = thinker.think();
            assert_eq!((&here.tokens, here.q_halt), (&thought.tokens, thought.q_halt), "{puzzle:?}");
            assert_eq!(here.halt_probability, thought.halt_probability());
        }
        assert_eq!(thinker.last().step, 6);
    }
}

#[test]
fn thinking_settles_on_right_answers_only() {
    let proper = one(Family::Sudoku, "1....3...2....4.");
    // No answer keeps these givens.
    let impossible = Puzzle { tokens: vec![2; 16], ..proper.clone() };
    for (puzzle, solvable) in [(proper, true), (impossible, false)] {
        let mut thinker = model(&puzzle).start(&puzzle).unwrap();
        let mut settled = 0;
        for _ in 0..8 {
            let thought = thinker.think();
            assert_eq!(thought.settled, thought.halts && thought.fault.is_none(), "{thought:?}");
            settled += usize::from(thought.settled);
        }
        assert_eq!(settled > 0, solvable, "{puzzle:?}");
    }
}

#[test]
fn thoughts_say_what_changed_and_how_sure_they_are() {
    let puzzle = generate(Family::Sudoku, (9, 9), 1).unwrap();
    let mut thinker = model(&puzzle).start(&puzzle).unwrap();
    let mut before = puzzle.tokens.clone();
    for step in 1..=3 {
        let thought = thinker.think().clone();
        assert_eq!(thought.step, step);
        let differ: Vec<usize> = (0..81).filter(|&cell| before[cell] != thought.tokens[cell]).collect();
        assert_eq!(thought.changed, differ);
        assert_eq!(thought.certainty.len(), 81);
        assert!(thought.certainty.iter().all(|share| (0.0..=1.0).contains(share)));
        let logits = thinker.logits();
        assert_eq!(logits.len(), 81 * 11);
        for (cell, logits) in logits.chunks(11).enumerate() {
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
            assert_eq!(logits[usize::from(thought.tokens[cell])], most);
            assert!((thought.certainty[cell] - 1.0 / sum).abs() < 1e-5, "cell {cell}");
        }
        before = thought.tokens;
    }
}

#[test]
fn conflicts_are_what_breaks_the_rules() {
    let puzzle = one(Family::Sudoku, "1....3...2....4.");
    // A 1 that stands twice in row and box, and the given 3 of cell 5 that became a 4.
    let mut answer = puzzle.tokens.clone();
    answer[1] = 2;
    answer[5] = 5;
    assert_eq!(puzzle.conflicts(&answer), [0, 1, 5]);
    let maze = one(Family::Maze, "S..\n.#.\n..G\n");
    assert_eq!(maze.conflicts(&[3, 5, 5, 2, 1, 5, 2, 2, 4]), [0usize; 0]);
    assert_eq!(maze.conflicts(&[3, 5, 5, 2, 5, 1, 2, 2, 2]), [4, 5, 8]);
}

#[test]
fn texts_are_read_as_by_hrm_solve() {
    let entries =
        read(Family::Sudoku, "source,question,answer,rating\nx,1....3...2....4.,,\ny,11..............,,\n")
            .unwrap();
    let told = |entry: &Entry| entry.puzzle.as_ref().map(|puzzle| puzzle.rows).map_err(Clone::clone);
    assert_eq!(told(&entries[0]), Ok(4));
    assert!(told(&entries[1]).is_err_and(|why| why.contains("stands twice")), "{entries:?}");
    assert!(read(Family::Sudoku, " \n").is_err_and(|why| why.contains("no puzzle")));
    assert_eq!(one(Family::Maze, "S..\n.#.\n..G\n").tokens, [3, 2, 2, 2, 1, 2, 2, 2, 4]);
    let several = one(Family::Sudoku, &".".repeat(16)).check().unwrap();
    assert!(several.fault.is_some_and(|why| why.contains("more than one solution")));
    assert_eq!(several.solution, None);
}

#[test]
fn what_is_no_puzzle_is_told() {
    let puzzle =
        |rows, cols, tokens: Vec<u8>| Puzzle { family: Family::Sudoku, rows, cols, boxes: None, tokens };
    let told = |puzzle: &Puzzle| puzzle.check().unwrap_err();
    assert_eq!(told(&puzzle(9, 9, vec![1; 80])), "expected 81 cells of a 9x9 Sudoku, got 80");
    assert!(told(&puzzle(7, 7, vec![1; 49])).contains('7'));
    assert!(told(&puzzle(4, 4, vec![9; 16])).contains('8'));
    let maze = Puzzle { family: Family::Maze, rows: 3, cols: 3, boxes: None, tokens: vec![2; 9] };
    assert_eq!(told(&maze), "expected exactly one S, got 0");
    let maze = one(Family::Maze, "S..\n.#.\n..G\n");
    assert_eq!(model_name(&maze).unwrap(), "maze");
    assert!(maze.work("dlx").unwrap_err().contains("dlx"));
    let other = Model::new("maze", &weights("maze")).unwrap();
    assert!(other.start(&generate(Family::Sudoku, (9, 9), 0).unwrap()).is_err());
    assert!(Model::new("x", b"no weights").unwrap_err().starts_with("x:"));
}

#[test]
fn a_classical_solver_stands_beside_it() {
    let puzzle = one(
        Family::Sudoku,
        "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4..",
    );
    let checked = puzzle.check().unwrap();
    assert!(checked.methods.len() > 1);
    for method in checked.methods {
        let worked = puzzle.work(method).unwrap();
        assert_eq!(worked.answer, checked.solution, "{method}");
        assert!(worked.work.iter().any(|(unit, count)| *unit == "guess" && *count > 0), "{worked:?}");
    }
}

#[test]
fn what_it_does_not_see_it_guesses() {
    let model = Model::new("sudoku-9x9", &weights("sudoku-9x9")).unwrap();
    let kinds = kinds();
    let examples = kinds[0]["examples"].as_array().unwrap();
    let attempts = examples.iter().map(|example| {
        let puzzle = one(Family::Sudoku, example["text"].as_str().unwrap());
        let mut thinker = model.start(&puzzle).unwrap();
        while !thinker.last().settled {
            let before = thinker.last().attempt;
            let now = thinker.think();
            assert!(now.step <= 64, "not solved");
            assert_eq!(now.guessed.is_empty(), now.attempt == 1);
            assert!(now.attempt == before || now.attempt == before + 1);
            assert!(now.guessed.iter().all(|&cell| puzzle.tokens[cell] == 1), "only blanks are guessed");
        }
        thinker.last().attempt
    });
    let attempts: Vec<usize> = attempts.collect();
    assert!(attempts[0] == 1 && attempts.iter().any(|&attempts| attempts > 1), "{attempts:?}");
}

/// Where the child processes of the next test leave what they computed.
const LEAVE: &str = "HRM_TEST_LOGITS";

/// Every vector unit of this machine gives the same answers in as many steps as the portable kernels, which the page has. All of them
/// compute in fp32 and differ in the order of sums, and in whether a product is rounded before it is added: some 1e-4 of a logit
/// after one segment. A recurrence repeats it, and what it is not sure of moves most.
#[test]
fn instruction_sets_differ_by_rounding_only() {
    let Some(path) = std::env::var_os(LEAVE) else {
        let folder = tempfile::tempdir().unwrap();
        let by = |isa: &str| -> Vec<Vec<(String, Vec<f32>)>> {
            let path = folder.path().join(isa);
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "instruction_sets_differ_by_rounding_only", "--quiet"]);
            assert!(child.env("HRM_KERNELS_ISA", isa).env(LEAVE, &path).status().unwrap().success(), "{isa}");
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        };
        let portable = by("portable");
        for isa in ["avx2", "avx512"] {
            let mut worst = [0f32; 16];
            for (puzzle, (here, there)) in portable.iter().zip(by(isa)).enumerate() {
                assert_eq!(here.len(), there.len(), "{isa}, puzzle {puzzle}: as many steps");
                for (step, (here, there)) in here.iter().zip(&there).enumerate() {
                    assert_eq!(here.0, there.0, "{isa}, puzzle {puzzle}, step {}", step + 1);
                    let differences = here.1.iter().zip(&there.1).map(|(a, b)| (a - b).abs());
                    worst[step] = differences.fold(worst[step], f32::max);
                }
            }
            println!("{isa}: differences of logits by step: {worst:?}");
            assert!(worst[0] < 1e-3, "{isa}: after one segment {:e}", worst[0]);
            assert!(worst.iter().all(|worst| *worst < 5e-2), "{isa}: {worst:?}");
        }
        return;
    };
    let mut found = Vec::new();
    for (family, side, count) in [(Family::Sudoku, 9, 15), (Family::Sudoku, 6, 5), (Family::Maze, 10, 5)] {
        let name = model_name(&generate(family, (side, side), 0).unwrap()).unwrap();
        let model = Model::new(name, &weights(name)).unwrap();
        for seed in 0..count {
            let mut thinker = model.start(&generate(family, (side, side), seed).unwrap()).unwrap();
            let steps = (0..16).map(|_| (format!("{:?}", thinker.think().tokens), thinker.logits().to_vec()));
            found.push(steps.collect::<Vec<_>>());
        }
    }
    std::fs::write(path, serde_json::to_vec(&found).unwrap()).unwrap();
}
