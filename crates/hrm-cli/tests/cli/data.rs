//! `hrm data` and `hrm inspect data`.

use crate::sandbox::{FOUR, FOUR_SOLVED, Sandbox, assert_says, snapshot};

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
        &["a/train", "a/test", "20 examples in 20 groups, 16 tokens each, vocabulary 6", "answer"],
    );
}

#[test]
fn datasets_from_files() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "train.csv",
        format!("source,question,answer,rating\nx,{FOUR},{FOUR_SOLVED},3\nx,{FOUR},,9\n"),
    );
    let text = sandbox.hrm("data sudoku --source train.csv --out a --augmentations 2").ok();
    assert_says(&text, &["2 read", "1 solved here", "6 examples in 2 groups"]);
    let text = sandbox.hrm("data sudoku --source train.csv --out b --min-rating 5").ok();
    assert_says(&text, &["1 below the minimum rating", "1 kept"]);
    let text = sandbox.hrm("inspect data train.csv --show 1").ok();
    assert_says(&text, &["2 puzzles, 1 with an answer", "givens: 4 to 4", "ratings: 3 to 9"]);

    let error = sandbox.hrm("data sudoku --source train.csv --test-source train.csv --out c");
    assert_eq!(error.code, 1);
    assert_says(&error.stderr, &["equivalent to training puzzles"]);
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
