//! What a run leaves behind, `hrm runs` and `hrm plot`.

use std::fs;

use serde_json::Value;

use crate::sandbox::{Sandbox, TINY_RECIPE, assert_says};

#[test]
fn runs_are_recorded_listed_and_drawn() {
    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    sandbox.hrm("train --config tiny.toml --quiet --set train.stop_after=5 --set train.lr=0.01").ok();
    sandbox.hrm("train --resume runs/tiny --quiet").ok();
    sandbox.hrm("train --config tiny.toml --quiet --run-dir runs/deep/other --set train.seed=3").ok();

    let config = String::from_utf8(sandbox.read("runs/tiny/config.toml")).expect("text");
    assert_says(&config, &["lr = 0.01  # flag --set", "hidden_size = 16  # file tiny.toml"]);
    let sessions: Value = serde_json::from_slice(&sandbox.read("runs/tiny/environment.json")).expect("JSON");
    assert_eq!(sessions.as_array().map(Vec::len), Some(2));
    assert_says(
        sessions[0]["command"].as_str().unwrap_or(""),
        &["train --config tiny.toml", "train.lr=0.01"],
    );
    assert_eq!(
        (&sessions[0]["ended"]["how"], &sessions[0]["ended"]["step"]),
        (&"StopAfter".into(), &5.into())
    );
    assert_eq!((&sessions[1]["first_step"], &sessions[1]["ended"]["how"]), (&5.into(), &"Finished".into()));
    for key in ["host", "cpu", "system", "backend", "hrm", "burn", "started"] {
        assert!(sessions[0][key].as_str().is_some_and(|text| !text.is_empty()), "{key} in {sessions}");
    }
    assert!(sandbox.read("runs/tiny/curves.png").starts_with(b"\x89PNG"));
    let entries = fs::read_dir(sandbox.path("runs/tiny")).expect("folder");
    let names = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
    assert_eq!(
        names.filter(|name| name.starts_with("events.out.tfevents.")).count(),
        2,
        "one for each process"
    );

    let text = sandbox.hrm("runs").ok();
    assert_says(&text, &["runs/deep/other", "finished", "12/12", "what differs", "0.01 (runs/tiny)"]);
    assert_says(&text, &["train.seed", "3 (runs/deep/other)"]);
    let list = sandbox.hrm("runs runs --json --sort best").json();
    let exact = |run: &Value| run["best"]["exact_accuracy"].as_f64().expect("a number");
    assert!(exact(&list[0]) >= exact(&list[1]));
    assert_eq!((&list[0]["step"], &list[0]["state"]), (&12.into(), &"finished".into()));
    assert_says(&sandbox.hrm("runs absent").error(), &["absent", "no such folder"]);
    fs::create_dir(sandbox.path("empty")).expect("folder");
    assert_says(&sandbox.hrm("runs empty").error(), &["no runs here"]);

    let text =
        sandbox.hrm("plot runs/tiny runs/deep/other --metric lm_loss --over epoch --out loss.svg").ok();
    assert_eq!(text, "loss.svg\n");
    let svg = String::from_utf8(sandbox.read("loss.svg")).expect("text");
    assert_says(&svg, &[">tiny</text>", ">other</text>", ">epoch</text>", "lm_loss"]);
    assert_eq!(sandbox.hrm("plot runs/tiny").ok(), "runs/tiny/curves.svg\nruns/tiny/curves.png\n");
    assert_says(&sandbox.hrm("plot runs/tiny --list").ok(), &["train/lm_loss\n", "eval/exact_accuracy\n"]);
    assert_says(&sandbox.hrm("plot runs/tiny --metric los").error(), &["--metric los", "train/lm_loss"]);
    assert_says(&sandbox.hrm("plot runs/tiny --out curve.jpg").error(), &["curve.jpg", ".svg or .png"]);
    assert_says(&sandbox.hrm("plot empty").error(), &["empty", "no measurements"]);
}
