//! `hrm train`, `hrm eval` and what they leave behind.

use std::{fs, process::Stdio};

use serde_json::Value;

use crate::sandbox::{FOUR, FOUR_SOLVED, Sandbox, TINY_RECIPE, assert_says, snapshot};

#[test]
fn a_recipe_by_its_place_and_what_is_near_it() {
    let sandbox = Sandbox::new();
    sandbox.write("configs/tiny.toml", TINY_RECIPE);
    let text = sandbox.hrm("train configs/tiny.toml --set train.stop_after=1").ok();
    assert_says(&text, &["stopped after step 1", "hrm train --resume runs/tiny"]);
    let told = |args: &str, parts: &[&str]| {
        let run = sandbox.hrm(args);
        assert_ne!(run.code, 0, "{args}");
        assert_says(&run.stderr, parts);
    };
    told("train", &["<RECIPE>"]);
    told("train runs/tiny", &["got a folder", "hrm train --resume runs/tiny"]);
    told("train tiny", &["tiny: no such file", "did you mean configs/tiny.toml?"]);
    told("train configs/tiny", &["did you mean configs/tiny.toml?"]);
    told("train absent.toml", &["absent.toml"]);
    told("train train.lr=1", &["--set train.lr=1"]);
    told("train configs/tiny.toml train.lr=1", &["unexpected argument", "'--set train.lr=1'"]);
    told("train configs/tiny.toml --config configs/tiny.toml", &["cannot be used with"]);
    told("config show configs/tiny.toml", &["unexpected argument", "'--config configs/tiny.toml'"]);
    told("eval runs/tiny", &["unexpected argument", "'--checkpoint runs/tiny'"]);
    told("eval puzzles.csv", &["'--data puzzles.csv'"]);
    told("solve 1... puzzles.txt", &["'--file puzzles.txt'"]);
}

/// `hrm train ... 2>&1 | head -1`
#[test]
fn a_training_goes_on_when_nobody_reads_what_it_says() {
    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    let mut command = sandbox.command();
    command.args(["train", "tiny.toml", "--run-dir", "run"]).stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    drop((child.stderr.take(), child.stdout.take()));
    assert!(child.wait().expect("ends").success());
    assert!(sandbox.path("run/checkpoints/step-12").is_dir());
}

#[test]
fn train_stop_resume_evaluate_solve() {
    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    let text = sandbox.hrm("train --config tiny.toml --run-dir run --set train.stop_after=5").ok();
    assert_says(&text, &["stopped after step 5", "hrm train --resume run"]);
    let run = sandbox.hrm("train --resume run --config tiny.toml");
    assert_says(&run.stderr, &["resumed after step 5", "held-out", "step 12/12"]);
    let best: Value = serde_json::from_slice(&sandbox.read("run/checkpoints/best")).expect("JSON");
    let line = format!("the best checkpoint, which the run stands for, is that of step {}", best["step"]);
    assert_eq!(run.stdout.contains(&line), best["step"] != 12, "{}", run.stdout);
    assert_says(&run.ok(), &["finished after step 12", "held-out"]);

    // The same steps as without the stop, to the last bit.
    sandbox.hrm("train --config tiny.toml --run-dir whole --quiet").ok();
    let losses = |run: &str| -> Vec<String> {
        let text = String::from_utf8(sandbox.read(&format!("{run}/metrics.jsonl"))).expect("text");
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        rows.filter(|row| row.get("eval").is_none())
            .map(|row| format!("{} {}", row["step"], row["loss"]))
            .collect()
    };
    assert_eq!(losses("run").len(), 12);
    assert_eq!(losses("run"), losses("whole"));

    let text = sandbox.hrm("inspect checkpoint run/checkpoints/last").ok();
    assert_says(&text, &["step        12", "hidden_size             16", "train.safetensors"]);
    sandbox.hrm("data sudoku generate --size 4x4 --train 9 --test 6 --clues 7-9 --out data").ok();
    let report =
        sandbox.hrm("eval --checkpoint run --data data --json --limit 4 --batch 3 --halt early").json();
    assert_eq!(report["examples"], 4);
    for key in ["lm_loss", "token_accuracy", "exact_accuracy", "q_halt_accuracy", "mean_steps"] {
        assert!(report[key].is_number(), "{key} in {report}");
    }
    assert!(report["halting"]["valid"].is_number() && report["time_saved"].is_number());

    // Accuracy by steps in the same pass, on any part of the data.
    let args = "eval --checkpoint run --data data --split train --steps 1,2,3,5";
    let report = sandbox.hrm(&format!("{args} --json")).json();
    assert_eq!((&report["examples"], &report["mean_steps"]), (&9.into(), &3.0.into()));
    let rows = report["by_steps"].as_array().expect("rows");
    assert_eq!(rows.iter().map(|row| row["steps"].as_u64()).collect::<Vec<_>>(), [1, 2, 3, 5].map(Some));
    assert_eq!(rows[2]["exact_accuracy"], report["exact_accuracy"], "3 steps are the model's own number");
    let counts = |rows: &serde_json::Value, key: &str| -> u64 {
        rows.as_array().expect("rows").iter().filter_map(|row| row.get(key).unwrap_or(row).as_u64()).sum()
    };
    assert_eq!(counts(&report["halting_steps"]["histogram"], ""), 9);
    assert_eq!(counts(&report["by_givens"], "examples"), 9);
    let text = sandbox.hrm(&format!("{args} --tables")).ok();
    assert_says(&text, &["halted by then", "puzzles that the model halts there", "givens"]);
    assert_says(
        &sandbox.hrm("eval --checkpoint run --data data --split dev").error(),
        &["--split dev", "data/dev"],
    );
    sandbox.write("rated.csv", format!("question,rating\n{FOUR},0\n{FOUR},2\n{FOUR},40\n"));
    let report = sandbox.hrm("eval --checkpoint run --data rated.csv --json").json();
    let groups: Vec<_> =
        report["by_rating"].as_array().expect("rows").iter().map(|row| &row["from"]).collect();
    assert_eq!(groups, [0.0, 1.0, 30.0]);

    // Without puzzles: those that the recipe holds out.
    let report = sandbox.hrm("eval --checkpoint run --json").json();
    assert_eq!((&report["examples"], &report["mean_steps"]), (&10.into(), &3.0.into()));
    let report = sandbox.hrm("eval --checkpoint run --recipe tiny.toml --limit 4 --json").json();
    assert_eq!(report["examples"], 4);
    fs::copy(sandbox.path("run/checkpoints/step-12/model.safetensors"), sandbox.path("alone.safetensors"))
        .unwrap();
    assert_says(
        &sandbox.hrm("eval --checkpoint alone.safetensors").error(),
        &["run folder", "--data or --recipe"],
    );

    let run = sandbox.hrm(&format!("solve {FOUR} --checkpoint run --json"));
    assert_eq!(run.json()["summary"]["puzzles"], 1);
}

#[test]
fn quiet_means_quiet() {
    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    let run = sandbox.hrm("train --config tiny.toml --quiet --set train.max_steps=1");
    assert_eq!(run.stderr, "");
    assert_says(&run.ok(), &["finished after step 1", "runs/tiny"]);
    // The default folder is never one that is taken.
    let run = sandbox.hrm("train --config tiny.toml --quiet --set train.max_steps=1");
    assert_says(&run.ok(), &["runs/tiny-2"]);
}

#[test]
#[cfg(unix)]
fn an_interrupt_stops_cleanly() {
    use std::{
        io::{BufRead, BufReader, Read},
        process::{Command, Stdio},
    };
    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    let mut command = sandbox.command();
    command.args(["train", "--config", "tiny.toml", "--run-dir", "run", "--set", "train.max_steps=1000000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    // Once the first step is reported, the handler is there.
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.starts_with("step 1/") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).expect("text"), 0, "ended early");
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("text");
    let output = child.wait_with_output().expect("ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{rest}");
    assert_says(&rest, &["stopping after this step"]);
    assert_says(&text, &["stopped after step", "hrm train --resume run"]);
    sandbox.hrm("inspect checkpoint run").ok();
}

#[test]
fn recipes_that_cannot_be_used() {
    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    sandbox.write("typo.toml", TINY_RECIPE.replace("hidden_size", "hiden_size"));
    sandbox.write("syntax.toml", "[train\n");
    let train = |args: &str| sandbox.hrm(&format!("train --run-dir run {args}")).error();
    assert_says(&train("--config typo.toml"), &["typo.toml", "`model.hiden_size`", "`model.hidden_size`"]);
    assert_says(&train("--config tiny.toml --set train.sede=1"), &["`train.sede`", "`train.seed`"]);
    assert_says(&train("--config tiny.toml --set train.lr=fast"), &["train.lr", "fast", "expected"]);
    assert_says(&train("--config tiny.toml --set train.lr"), &["expected key=value"]);
    assert_says(&train("--config absent.toml"), &["absent.toml"]);
    let run = sandbox.hrm("train --run-dir run --config syntax.toml");
    assert_eq!(run.code, 1);
    assert_says(&run.stderr, &["error: ", "syntax.toml"]);
    assert!(!sandbox.path("run").exists(), "nothing is made for a recipe that cannot be used");
}

#[test]
fn run_folders_that_cannot_be_used() {
    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    sandbox.write("file", "in the way");
    let train = |args: &str| sandbox.hrm(&format!("train --quiet {args}")).error();
    assert_says(&train("--config tiny.toml --run-dir file"), &["file"]);
    assert_says(&train("--config tiny.toml --run-dir file/run"), &["file/run"]);
    assert_says(&train("--resume absent"), &["absent", "no such folder"]);
    fs::create_dir(sandbox.path("empty")).expect("folder");
    assert_says(&train("--resume empty"), &["empty", "no run here"]);

    sandbox.hrm("train --config tiny.toml --run-dir run --quiet --set train.max_steps=2").ok();
    let before = snapshot(&sandbox.path("run"));
    assert_says(&train("--config tiny.toml --run-dir run"), &["run already holds a run", "--resume run"]);
    assert_says(&train("--resume run/checkpoints/step-2"), &["--resume run"]);
    assert_says(&train("--resume run --run-dir other"), &["--run-dir"]);
    assert_says(&train("--resume run --set model.hidden_size=32"), &["model.hidden_size", "new run"]);
    assert_eq!(snapshot(&sandbox.path("run")), before, "nothing is overwritten");
}

#[test]
fn a_damaged_checkpoint_is_told() {
    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    sandbox.hrm("train --config tiny.toml --run-dir run --quiet --set train.stop_after=5").ok();
    for folder in ["step-4", "step-5"] {
        let name = format!("run/checkpoints/{folder}/model.safetensors");
        let bytes = sandbox.read(&name);
        sandbox.write(&name, &bytes[..bytes.len() - 7]);
    }
    let run = sandbox.hrm("train --resume run --quiet");
    assert_eq!(run.code, 1);
    assert_says(&run.stderr, &["damaged checkpoint", "step-5", "step-4", "error: "]);
    assert_says(&sandbox.hrm("inspect checkpoint run").error(), &["truncated"]);
}

#[test]
fn evaluation_of_what_does_not_fit() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    sandbox.hrm("data sudoku generate --size 6x6 --train 1 --test 2 --clues 20-24 --out six").ok();
    let eval = |args: &str| sandbox.hrm(&format!("eval --checkpoint model.safetensors {args}")).error();
    assert_says(&eval("--data six"), &["16 tokens", "36 tokens"]);
    assert_says(&eval("--data absent.csv"), &["absent.csv"]);
    fs::create_dir(sandbox.path("empty")).expect("folder");
    assert_says(&eval("--data empty"), &["empty", "dataset.json"]);
    sandbox.write("bad.csv", format!("question\n{FOUR}\n1\n"));
    assert_says(&eval("--data bad.csv"), &["bad.csv", "line 3"]);
    sandbox.write("good.csv", format!("{FOUR}\n{FOUR}\n"));
    let text =
        sandbox.hrm("eval --checkpoint model.safetensors --data good.csv --loss softmax --max-steps 2").ok();
    assert_says(&text, &["puzzles          2", "mean steps       2.0"]);
}

#[test]
fn evaluation_with_more_work() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    sandbox.write("good.csv", format!("question,answer\n{FOUR},{FOUR_SOLVED}\n{FOUR},{FOUR_SOLVED}\n"));
    let eval =
        |args: &str| sandbox.hrm(&format!("eval --checkpoint model.safetensors --data good.csv {args}"));
    let report = eval("--vote 3 --verify --fallback exact --json").json();
    let inference = &report["inference"];
    assert_eq!((&inference["valid"], &inference["exact_accuracy"]), (&1.0.into(), &1.0.into()));
    assert_eq!((&inference["sources"]["searched"], &inference["mean_attempts"]), (&2.into(), &3.0.into()));
    assert_says(&eval("--vote 3").ok(), &["mean work        9.0 steps in 3.0 attempts", "0 neural, 2 voted"]);

    let text = eval("--curve=out/curve --max-steps 6 --vote 4 --restarts 2 --noise 0.5").ok();
    assert_says(&text, &["steps until halt", "\nvotes\n", "restarts by q", "any right", "out/curve.json"]);
    let curve: serde_json::Value = serde_json::from_slice(&sandbox.read("out/curve.json")).expect("JSON");
    let at = |series: usize| -> Vec<u64> {
        let points = curve["series"][series]["points"].as_array().expect("points");
        points.iter().filter_map(|point| point["at"].as_u64()).collect()
    };
    assert_eq!((at(0), at(2), at(3)), (vec![1, 2, 4, 6], vec![1, 2, 4], vec![1, 2]));
    assert_eq!(curve["series"][2]["points"][2]["segments"], 12.0);
    assert_says(&eval("--curve=out/curve").error(), &["curve.json exists", "--force"]);
}

/// With the feature, `tests/workers.rs` has more.
#[cfg(not(feature = "mpi"))]
#[test]
fn several_workers_need_a_feature() {
    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    let error = sandbox.hrm("train --config tiny.toml --workers 2").error();
    assert_says(&error, &["2 workers need the feature mpi", "--features mpi", "openmpi-bin"]);
    let error = sandbox.hrm("train --config tiny.toml --backend cpu --devices 0,1").error();
    assert_says(&error, &["the backend flex has one device", "--workers N"]);
    let error = sandbox.hrm("train --config tiny.toml --devices 1,1").error();
    assert_says(&error, &["--devices names 1 twice"]);
    let started =
        sandbox.command().env("OMPI_COMM_WORLD_SIZE", "2").args(["train", "--config", "tiny.toml"]).output();
    assert_says(
        &crate::sandbox::Run::from(started.expect("starts")).error(),
        &["mpirun has started 2 processes", "--features mpi"],
    );
    assert!(!sandbox.path("runs").exists(), "nothing was started");
}
