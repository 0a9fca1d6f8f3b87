//! `hrm data` and `hrm inspect data`.

use crate::sandbox::{FOUR, FOUR_SOLVED, Sandbox, TINY_RECIPE, assert_says, snapshot};

#[test]
fn generated_datasets_are_reproducible_and_never_overwritten() {
    let sandbox = Sandbox::new();
    let generate = "data sudoku generate --size 4x4 --train 20 --test 5 --clues 6-9 --seed 3";
    let text = sandbox.hrm(&format!("{generate} --out a")).ok();
    assert_says(&text, &["20 training puzzles", "a/train: 20 examples", "a/test: 5 examples"]);
    sandbox.hrm(&format!("{generate} --out b")).ok();
    let contents =
        |name: &str| -> Vec<_> { snapshot(&sandbox.path(name)).into_iter().map(|(_, b)| b).collect() };
    let before = contents("a");
    assert_eq!(before, contents("b"));
    let other = generate.replace("--seed 3", "--seed 4");
    assert_says(&sandbox.hrm(&format!("{other} --out a")).error(), &["not empty", "--force"]);
    assert_eq!(before, contents("a"));
    sandbox.hrm(&format!("{other} --out a --force")).ok();
    assert_ne!(before, contents("a"));
    let text = sandbox.hrm("inspect data a --show 1 --plain").ok();
    assert_says(
        &text,
        &[
            "a/train",
            "a/test",
            "20 examples in 20 groups, 16 tokens each, vocabulary 6",
            "puzzles: 4x4 Sudoku",
        ],
    );
    assert_eq!(text, sandbox.hrm("data inspect a --show 1 --plain").ok());
}

#[test]
fn datasets_from_files() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "train.csv",
        format!("source,question,answer,rating\nx,{FOUR},{FOUR_SOLVED},3\nx,{FOUR},,9\n"),
    );
    let text = sandbox.hrm("data sudoku --source train.csv --out a --augmentations 2").ok();
    assert_says(&text, &["2 puzzles read", "1 solved here", "6 examples in 2 groups"]);
    let text = sandbox.hrm("data sudoku --source train.csv --out b --min-rating 5").ok();
    assert_says(&text, &["1 below the minimum rating", "1 kept"]);
    let text = sandbox.hrm("inspect data train.csv --show 1").ok();
    assert_says(
        &text,
        &["2 puzzles, 1 with an answer", "2 of 4x4 Sudoku", "givens: 4 to 4", "symmetries: 3,072"],
    );

    let error = sandbox.hrm("data sudoku --source train.csv --test-source train.csv --out c");
    assert_eq!(error.code, 1);
    assert_says(&error.stderr, &["equivalent to puzzles of the test set", "--on-leak drop"]);
    assert!(!sandbox.path("c").exists());
    sandbox.write("bad.csv", "question\n11..............\n");
    assert_says(&sandbox.hrm("data sudoku --source bad.csv --out c").error(), &["bad.csv, line 2", "row 1"]);
    assert_says(&sandbox.hrm("data sudoku --source absent.csv --out c").error(), &["absent.csv"]);
    sandbox.write("file", "in the way");
    assert_says(&sandbox.hrm("data sudoku --source train.csv --out file").error(), &["expected a folder"]);
    for args in ["--size 7x7", "--size 4x9", "--clues 9-3", "--clues few"] {
        assert_eq!(sandbox.hrm(&format!("data sudoku generate {args} --out c")).code, 2, "{args}");
    }
    let text =
        sandbox.hrm("data sudoku generate --size 4 --train 5000 --test 1 --clues 16-16 --out c").error();
    assert_says(&text, &["wider range of clues"]);
}

#[test]
fn easier_puzzles_hints_and_leaks() {
    let sandbox = Sandbox::new();
    sandbox.write("train.csv", format!("question,answer\n{FOUR},{FOUR_SOLVED}\n"));
    sandbox.write("easy.csv", "question\n1234341221434...\n");
    let text = sandbox.hrm("data sudoku --source train.csv --extra-source easy.csv --hints 3 --out a").ok();
    assert_says(&text, &["easy.csv: 1 puzzle", "a/train: 8 examples in 8 groups"]);
    let args = "data sudoku --source train.csv --extra-source easy.csv --test-source train.csv";
    let text = sandbox.hrm(&format!("{args} --on-leak drop --out b")).ok();
    assert_says(&text, &["left out 1 puzzle of the training set", "b/train: 1 example", "b/test: 1 example"]);
    let run = sandbox.hrm(&format!("{args} --on-leak allow --out c"));
    assert_says(&run.stderr, &["warning", "equivalent"]);
    assert_says(&run.ok(), &["c/train: 2 examples"]);
}

#[test]
fn mazes_are_generated_imported_and_checked() {
    let sandbox = Sandbox::new();
    let text =
        sandbox.hrm("data maze generate --size 8x6 --min-path 9 --train 12 --test 4 --seed 1 --out a").ok();
    assert_says(&text, &["12 training mazes", "a/train: 12 examples", "48 tokens each", "a/test.csv.gz"]);
    let text = sandbox.hrm("data maze --source a/train.csv.gz --test-source a/test.csv.gz --out b").ok();
    assert_says(&text, &["12 mazes read, 12 kept"]);
    let tokens = |path: &str| sandbox.read(path);
    assert_eq!(tokens("a/train/all__labels.npy"), tokens("b/train/all__labels.npy"));
    // The arrays go in again, with images and a draw.
    let text =
        sandbox.hrm("data maze --source a/train --size 8x6 --subsample 5 --augmentations 3 --out c").ok();
    assert_says(&text, &["12 mazes read, 5 kept", "20 examples in 5 groups"]);
    // Without the size, or with another, nothing can be made of a folder of mazes that are no squares.
    for command in [
        "data maze --source a/train --out d",
        "data inspect a",
        "data inspect a --task maze",
        "data render a --task maze",
        "data check a/train a/test --task maze",
    ] {
        let error = sandbox.hrm(command).error_after_output();
        assert_says(&error, &["48 tokens, vocabulary 6", "`--size ROWSxCOLS`"]);
        let error = sandbox.hrm(&format!("{command} --size 6x8"));
        assert_says(&error.stderr, &["no 6x8 mazes", "example 1", "`--size ROWSxCOLS`"]);
        assert_says(&sandbox.hrm(&format!("{command} --size 5x5")).stderr, &["5 x 5 tokens", "48"]);
        if !command.contains("--source") {
            sandbox.hrm(&format!("{command} --size 8x6")).ok();
        }
    }
    // 2x8 cells are as many as 4x4.
    sandbox.hrm("data maze generate --size 2x8 --min-path 5 --train 2 --test 0 --out flat").ok();
    let error = sandbox.hrm("data render flat --task maze").error();
    assert_says(&error, &["no 4x4 mazes", "example 1", "`--size ROWSxCOLS`"]);
    let error = sandbox.hrm("data inspect a --task queens --size 8x6");
    assert_says(&error.stderr, &["--size: only a", "--task queens"]);
    let error = sandbox.hrm("data render a/train.csv.gz --task maze --size 8x6").error();
    assert_says(&error, &["--size", "only a folder needs it"]);
    let error = sandbox.hrm("data maze --source a/train.csv.gz --test-source a/train.csv.gz --out d");
    let error = error.error_after_output();
    assert_says(&error, &["12 puzzles of the training set", "turned or mirrored", "--on-leak drop"]);
    let error = sandbox.hrm("data maze generate --size 4x4 --min-path 40 --out d").error();
    assert_says(&error, &["--size 4x4", "has no path of 40 moves"]);
    assert_eq!(sandbox.hrm("data maze generate --size big --out d").code, 2);
    assert_says(&sandbox.hrm("data maze generate --max-path 9 --out d").error(), &["--kind unique"]);
    let text = sandbox
        .hrm(
            "data maze generate --kind unique --size 9 --min-path 8 --max-path 20 --train 3 --test 0 --out e",
        )
        .ok();
    assert_says(&text, &["e/train: 3 examples"]);
}

#[test]
fn arc_tasks_are_reported_and_written() {
    let sandbox = Sandbox::new();
    let pair = |a: u8, b: u8| format!(r#"{{"input": [[{a}, {b}]], "output": [[{b}], [{a}]]}}"#);
    let task = |a: u8| format!(r#"{{"train": [{}, {}], "test": [{}]}}"#, pair(a, 2), pair(a, 5), pair(2, a));
    sandbox.write("train.json", format!(r#"{{"one": {}, "two": {}}}"#, task(0), task(1)));
    sandbox.write("eval/three.json", task(3).replace("5", "0"));
    let args = "data arc --train train.json --eval eval --augmentations 8 --seed 1";
    let text = sandbox.hrm(&format!("{args} --out a")).ok();
    assert_says(
        &text,
        &[
            "training     2 tasks, 4 demonstrations, 2 tests",
            "evaluation   1 task, 2 demonstrations, 1 test",
            "27 puzzles",
            "train        3 groups, 27 puzzles, 72 examples",
            "test         1 group, 9 puzzles, 9 examples",
            "a/training.json: 2 tasks",
        ],
    );
    // What was written is read again.
    let again = "data arc --train a/training.json --eval a/evaluation.json --augmentations 8 --seed 1";
    let text = sandbox.hrm(&format!("{again} --materialize --out b")).ok();
    assert_says(&text, &["27 puzzles", "wrote b"]);
    let names = String::from_utf8(sandbox.read("b/identifiers.json")).unwrap();
    assert!(names.contains("<blank>") && names.contains("one_t"), "{names}");
    let text = sandbox.hrm(&format!("{args} --train-on-eval-demonstrations=false")).ok();
    assert_says(&text, &["train        2 groups, 18 puzzles, 54 examples"]);

    // A model of one step: what counts is that its answers to all augmentations vote.
    let recipe = TINY_RECIPE.replace("[data]\n", "[data]\ntask = \"arc\"\n");
    sandbox.write("arc.toml", recipe);
    let files = "--set data.source=json --set data.path=train.json --set data.test_path=eval --set data.augmentations=3";
    let little = "--set train.max_steps=1 --set eval.interval=0 --set model.halt_max_steps=1 --set data.test_examples=0";
    sandbox
        .hrm(&format!("train --config arc.toml --run-dir run --quiet --backend cpu {files} {little}"))
        .ok();
    let report = sandbox.hrm("eval --checkpoint run --vote 2 --json").json();
    assert_eq!((&report["examples"], &report["arc"]["tasks"]), (&2.into(), &1.into()), "{report}");
    assert!(report["arc"]["pass_2_hrm"].is_number(), "{report}");
    assert_says(&sandbox.hrm("eval --checkpoint run --tables").error(), &["ARC", "--vote N"]);

    let leak = "data arc --train train.json --eval train.json --eval eval --augmentations 2";
    assert_says(&sandbox.hrm(leak).error_after_output(), &["2 evaluation tasks away", "--on-leak drop"]);
    let text = sandbox.hrm(&format!("{leak} --on-leak drop")).ok();
    assert_says(&text, &["one: the same task, the same pairs", "left out 2 training tasks"]);
    sandbox.write("k_training_challenges.json", format!(r#"{{"one": {}}}"#, task(0)));
    sandbox.write("k_evaluation_challenges.json", format!(r#"{{"three": {}}}"#, task(3)));
    let trm = "data arc --rule trm --source k --subsets training,evaluation --augmentations 3";
    sandbox.hrm(&format!("{trm} --on-leak allow --materialize --out t")).ok();
    let names = String::from_utf8(sandbox.read("t/identifiers.json")).unwrap();
    assert!(names.contains("three|||t"), "{names}");
    assert_says(&sandbox.hrm(&format!("{trm} --test-set tests")).error(), &["--test-set tests"]);
    assert_says(&sandbox.hrm("data arc").error(), &["--train PATH"]);
    sandbox.write("bad.json", task(0).replace("[[2], [0]]", "[[2], [11]]"));
    assert_says(&sandbox.hrm("data arc --train bad.json").error(), &["bad.json", "pair 1", "row 2", "11"]);
}

#[test]
fn variants_are_generated_inspected_drawn_and_checked() {
    let sandbox = Sandbox::new();
    for (task, size, shape, measure) in [
        ("killer", "--size 4x4", "4x4 Killer Sudoku", "cages:"),
        ("queens", "--size 8", "8-queens", "queens given:"),
    ] {
        let text = sandbox
            .hrm(&format!("data {task} generate {size} --train 6 --test 2 --seed 1 --out {task}"))
            .ok();
        assert_says(&text, &["6 training puzzles", "train: 6 examples in 6 groups", "test.txt"]);
        let text = sandbox.hrm(&format!("data inspect {task} --show 1")).ok();
        assert_says(&text, &[&format!("puzzles: {shape}"), "6 are different", measure, "example 1"]);
        let of_text = sandbox.hrm(&format!("data render {task}/train.txt --task {task} --index 3")).ok();
        assert_eq!(of_text, sandbox.hrm(&format!("data render {task} --task {task} --index 3")).ok());
        let puzzle = sandbox.hrm(&format!("data render {task} --task {task} --index 3 --puzzle-only")).ok();
        assert_ne!(of_text, puzzle);
        sandbox.hrm(&format!("data render {task} --task {task} --out {task}.png --scale 0.5")).ok();
        assert!(sandbox.read(&format!("{task}.png")).starts_with(b"\x89PNG"));
        let check = format!("data check --task {task} {task}/train");
        assert_says(&sandbox.hrm(&format!("{check} {task}/test")).ok(), &["0 of 2 in the test set"]);
        assert_says(&sandbox.hrm(&format!("{check} {task}/train.txt")).error_after_output(), &["6 puzzles"]);
    }
    let error = sandbox.hrm("data render killer --task queens").error();
    assert_says(&error, &["48 tokens", "no dataset of task queens"]);
    assert_says(&sandbox.hrm("data render killer/train.txt --task killer --index 9").error(), &["1 to 6"]);
    sandbox.write("bad.txt", "AABB\n");
    assert_says(&sandbox.hrm("data render bad.txt --task killer").error(), &["bad.txt, line 1"]);
}
