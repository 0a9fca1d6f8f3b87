//! `hrm arc` and `hrm view`.

use std::fs;

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, assert_says};

fn grid(seed: usize, rows: usize, cols: usize) -> Value {
    (0..rows).map(|r| (0..cols).map(|c| (seed + 3 * r + 7 * c) % 10).collect::<Vec<_>>()).collect()
}

fn flipped(grid: &Value) -> Value {
    let row = |row: &Value| row.as_array().unwrap().iter().rev().cloned().collect::<Value>();
    grid.as_array().unwrap().iter().map(row).collect()
}

/// Tasks that mirror, with their outputs.
fn tasks(count: usize) -> Value {
    let pair = |n: usize| {
        let input = grid(n, 2 + n % 2, 3);
        json!({ "output": flipped(&input), "input": input })
    };
    let task = |n: usize| {
        let tests: Vec<Value> = (0..1 + n % 2).map(|i| pair(7 * n + i + 4)).collect();
        (
            format!("task{n}"),
            json!({"train": (0..3).map(|i| pair(7 * n + i)).collect::<Vec<_>>(), "test": tests}),
        )
    };
    Value::Object((0..count).map(task).collect())
}

fn sandbox(count: usize) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.arc_model("model.safetensors", 4, 3);
    sandbox.write("tasks.json", tasks(count).to_string());
    sandbox
}

const PREDICT: &str =
    "arc predict tasks.json --checkpoint model.safetensors --votes 4 --adapt-steps 3 --group 2 --batch 8";

#[test]
fn from_tasks_to_a_score() {
    let sandbox = sandbox(5);
    let text = sandbox.hrm(&format!("{PREDICT} --out out/sub.json --leave-one-out")).ok();
    assert_says(&text, &["5 tasks in 3 groups", "group 3 of 3", "5 tasks, 5 with all votes", "adapted in"]);
    // Refused unless every test has two grids.
    let score = sandbox.hrm("arc score out/sub.json tasks.json --json").json();
    assert_eq!((score["tasks"].as_u64(), score["tests"].as_u64()), (Some(5), Some(7)));
    let table = sandbox.hrm("arc score out/sub.json tasks.json --table").ok();
    assert_says(&table, &["task0", "task4", "by attempt", "standard error", "tasks solved", "of 7 tests"]);

    // The baselines know how to mirror, and not to leave things as they are.
    for (baseline, solved) in [("transform", 5), ("identity", 0)] {
        sandbox.hrm(&format!("arc predict tasks.json --baseline {baseline} --out base.json")).ok();
        let score = sandbox.hrm("arc score base.json tasks.json --json").json();
        assert_eq!(score["tasks_solved"], solved, "{baseline}");
    }
    let votes = sandbox.hrm("arc vote out/sub.votes.jsonl --challenges tasks.json --json").json();
    assert_eq!(votes["voted"], 5);
    let passes = &votes["pass"]["trm"];
    assert_eq!(passes.as_object().unwrap().len(), 6);
    assert!(passes["pass@1"].as_f64() <= passes["pass@1000"].as_f64());
}

#[test]
fn a_prediction_goes_on_where_it_was_killed_on_any_number_of_threads() {
    let sandbox = sandbox(5);
    let files = || (sandbox.read("submission.json"), sandbox.read("submission.votes.jsonl"));
    sandbox.hrm(PREDICT).ok();
    let (submission, votes) = files();
    // Seconds are no part of the answer.
    let timeless = |votes: &[u8]| {
        let line = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("seconds");
            line
        };
        String::from_utf8_lossy(votes).lines().map(line).collect::<Vec<_>>()
    };
    let whole = String::from_utf8(votes.clone()).unwrap();
    let ends: Vec<usize> = whole.match_indices('\n').map(|(at, _)| at + 1).collect();
    // Within a line, and within a group.
    for cut in [ends[0], ends[2], ends[3] - 9, ends[3]] {
        fs::write(sandbox.path("submission.votes.jsonl"), &votes[..cut]).unwrap();
        fs::remove_file(sandbox.path("submission.json")).unwrap();
        let run = sandbox.command().args(PREDICT.split_whitespace()).env("RAYON_NUM_THREADS", "1").output();
        assert!(run.unwrap().status.success());
        assert_eq!(files().0, submission, "cut at {cut}");
        let last = |votes: &[u8]| {
            timeless(votes)
                .into_iter()
                .map(|line| (line["task"].to_string(), line))
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        assert_eq!(last(&files().1), last(&votes));
    }
    let again = sandbox.hrm(PREDICT).ok();
    assert_says(&again, &["5 done before", "5 with all votes"]);
    assert!(!again.contains("group 1 of"), "{again}");
    let error = sandbox.hrm(&PREDICT.replace("--votes 4", "--votes 5")).error();
    assert_says(&error, &["votes was 4, is 5"]);
}

#[test]
fn time_is_kept_and_the_file_is_complete() {
    let sandbox = sandbox(6);
    let long = PREDICT.replace("--adapt-steps 3", "--adapt-steps 100000");
    let start = std::time::Instant::now();
    sandbox.hrm(&format!("{long} --seconds 3")).ok();
    assert!(start.elapsed().as_secs() < 60);
    let score = sandbox.hrm("arc score submission.json tasks.json --json").json();
    assert_eq!(score["tasks"], 6);
    assert_says(&sandbox.hrm(&format!("{PREDICT} --seconds 0")).error(), &["--seconds"]);
}

#[test]
fn shards_are_added_up_in_any_order() {
    let sandbox = sandbox(3);
    for seed in [1, 2] {
        sandbox.hrm(&format!("{PREDICT} --seed {seed} --out s{seed}.json")).ok();
    }
    let vote = |shards: &str| {
        sandbox.hrm(&format!("arc vote {shards} --challenges tasks.json --out all.json")).ok();
        sandbox.read("all.json")
    };
    assert_eq!(vote("s1.votes.jsonl s2.votes.jsonl"), vote("s2.votes.jsonl s1.votes.jsonl"));
    sandbox.write("other.json", tasks(1).to_string());
    let error = sandbox.hrm("arc vote s1.votes.jsonl --challenges other.json").error();
    assert_says(&error, &["s1.votes.jsonl: expected tasks of other.json, got task task"]);
    assert_says(
        &sandbox.hrm("arc vote tasks.json --challenges tasks.json").error(),
        &["tasks.json: expected the votes"],
    );
}

#[test]
fn rows_of_the_puzzle_embedding_are_found_by_name() {
    let sandbox = sandbox(2);
    let solve = "arc solve tasks.json --checkpoint model.safetensors --votes 2 --json";
    let unknown = sandbox.hrm(solve).json();
    assert_says(
        unknown["tasks"][0]["note"].as_str().unwrap(),
        &["does not know task task0", "--adapt-steps"],
    );
    sandbox.write("identifiers.json", r#"["<blank>", "task1", "task1_t1_0123456789"]"#);
    let known = sandbox.hrm(solve).json();
    assert_says(known["tasks"][0]["note"].as_str().unwrap(), &["does not know task task0"]);
    assert_eq!(
        (&known["tasks"][1]["note"], &known["tasks"][1]["adapted"]["known"]),
        (&Value::Null, &json!(1))
    );
    sandbox.write("identifiers.json", r#"["<blank>", "task1"]"#);
    assert_says(
        &sandbox.hrm(solve).error(),
        &["identifiers.json", "the model's 3 puzzle identifiers, got 2"],
    );
}

#[test]
fn a_task_is_answered_in_the_terminal() {
    let sandbox = sandbox(1);
    let text = sandbox
        .hrm("arc solve tasks.json --checkpoint model.safetensors --votes 2 --adapt-steps 2 --plain")
        .ok();
    assert_says(
        &text,
        &["task task0", "demonstration 3", "test 1", "attempt 1 (", "attempt 2 (", "of 1 test right"],
    );
    assert_says(&sandbox.hrm("solve --task arc x").error(), &["hrm arc solve"]);
    sandbox.model("sudoku.safetensors", 4);
    let error = sandbox.hrm("arc solve tasks.json --checkpoint sudoku.safetensors").error();
    assert_says(&error, &["sudoku.safetensors: expected a model for ARC", "16 tokens of 6 kinds"]);
    let large =
        json!({"big": {"train": [{"input": grid(1, 5, 5), "output": [[1]]}], "test": [{"input": [[1]]}]}});
    sandbox.write("large.json", large.to_string());
    let text = sandbox.hrm("arc solve large.json --checkpoint model.safetensors --votes 2").ok();
    assert_says(&text, &["note: a grid is larger than the model's canvas of 4x4", "attempt 1 (guessed)"]);
}

#[test]
fn bad_files_are_told_by_task_pair_and_row() {
    let sandbox = sandbox(1);
    let pair = json!({"input": [[1]], "output": [[1]]});
    let says = |train: Value, test: Value, expected: &str| {
        sandbox.write("bad.json", json!({"mine": {"train": train, "test": test}}).to_string());
        for command in ["arc solve bad.json", "arc predict bad.json"] {
            let error = sandbox.hrm(&format!("{command} --checkpoint model.safetensors")).error();
            assert_says(&error, &["bad.json, task mine: ", expected]);
        }
    };
    says(json!([pair]), json!([]), "expected a list \"test\" of at least one pair, got a list of 0");
    let ragged = json!({"input": [[1, 2], [3]], "output": [[1]]});
    says(
        json!([pair, ragged]),
        json!([pair]),
        "train pair 2, input, row 2: expected 2 colours as in row 1, got 1",
    );
    let colour = json!({"input": [[1], [10]], "output": [[1]]});
    says(json!([pair]), json!([colour]), "test pair 1, input, row 2: expected colours from 0 to 9, got 10");
    let large = json!({"input": vec![vec![0; 31]; 31], "output": [[1]]});
    says(json!([large]), json!([pair]), "train pair 1, input: expected 1 to 30 rows, got a list of 31");
    let challenge = json!({"a": {"train": [pair], "test": [{"input": [[1]]}]}});
    sandbox.write("x_challenges.json", challenge.to_string());
    sandbox.write("x_solutions.json", "{}");
    let error = sandbox.hrm("arc predict x_challenges.json --baseline identity").error();
    assert_says(&error, &["x_solutions.json: expected solutions of task a, got none"]);
    sandbox.write("cut.json", "{\"task0\": [{\"attempt_1\": [[1]]");
    assert_says(
        &sandbox.hrm("arc score cut.json tasks.json").error(),
        &["cut.json: EOF", "the file is cut off"],
    );
    sandbox.write("short.json", "{\"task0\": [{\"attempt_1\": [[1]]}]}");
    let error = sandbox.hrm("arc score short.json tasks.json").error();
    assert_says(&error, &["short.json, task task0, test pair 1: expected a grid attempt_2"]);
}

#[test]
fn a_page_holds_its_data_and_foreign_names_as_text() {
    let sandbox = sandbox(2);
    let name = "</script><script>document.title='bad'</script>";
    let mut all = tasks(1);
    let task = all.as_object_mut().unwrap().remove("task0").unwrap();
    all[name] = task;
    sandbox.write("tasks.json", all.to_string());
    sandbox.hrm(PREDICT).ok();
    let data = |page: &str| -> Value {
        let text = String::from_utf8(sandbox.read(page)).unwrap();
        assert_eq!(text.matches("<script").count(), 2, "no script but ours");
        let begin = text.find("<script id=\"data\"").unwrap();
        let text = &text[begin..];
        let text = &text[text.find('>').unwrap() + 1..text.find("</script>").unwrap()];
        serde_json::from_str(text).unwrap()
    };
    sandbox.hrm("view submission.votes.jsonl --data tasks.json --out a.html").ok();
    let votes = data("a.html");
    assert_eq!(votes["items"][0]["name"], name);
    let test = &votes["items"][0]["tests"][0];
    assert_eq!((test["attempts"].as_array().unwrap().len(), test["steps"].as_array().unwrap().len()), (2, 3));
    sandbox.hrm("view submission.json --data tasks.json --out b.html").ok();
    assert_eq!(data("b.html")["items"][0]["tests"][0]["attempts"].as_array().unwrap().len(), 2);
    assert_says(
        &sandbox.hrm("view submission.json --data tasks.json --out b.html").error(),
        &["b.html", "--force"],
    );
    assert_says(&sandbox.hrm("view submission.json --out c.html").error(), &["--data"]);

    sandbox.model("sudoku.safetensors", 4);
    sandbox.write("p.csv", "source,question,answer,rating\nx,1....3...2....4.,1423231442313142,7\n");
    sandbox.hrm("view sudoku.safetensors --data p.csv --out s.html").ok();
    let sudoku = data("s.html");
    let item = &sudoku["items"][0];
    assert_eq!((&sudoku["boxes"], &item["difficulty"]), (&json!([2, 2]), &json!(7.0)));
    assert_eq!(item["input"], "1....3...2....4.");
    assert_eq!(item["answer"], "1423231442313142");
    let step = &item["steps"][0];
    assert_eq!((step["cells"].as_str().unwrap().len(), step["sure"].as_str().unwrap().len()), (16, 16));
}
