//! `hrm config` and `hrm inspect params`.

use crate::sandbox::{Sandbox, TINY_RECIPE, assert_says};

#[test]
fn every_value_says_where_it_comes_from() {
    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    let text = sandbox.hrm("config show --config tiny.toml --set train.seed=3").ok();
    let origin = |key: &str| {
        let line =
            text.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key} in {text}"));
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(origin("train.seed"), "3 flag --set");
    assert_eq!(origin("model.hidden_size"), "16 file tiny.toml");
    assert_eq!(origin("train.beta2"), "0.95 default");
    assert_eq!(origin("model.forward_dtype"), "\"f32\" auto on flex");
    let toml = sandbox.hrm("config show --config tiny.toml --set train.seed=3 --toml").ok();
    assert_says(&toml, &["forward_dtype = \"auto\"\n"]);
    sandbox.write("copy.toml", toml);
    let copy = sandbox.hrm("config show --config copy.toml").ok();
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(values(&copy), values(&text));
    assert_says(
        &sandbox.hrm("config show --set model.hiden_size=3").error(),
        &["did you mean `model.hidden_size`"],
    );
}

/// Vocabulary and sequence are those of the recipe's task, whether its data are there or not.
#[test]
fn parameters_of_every_family_are_counted() {
    let sandbox = Sandbox::new();
    let count = |recipe: &str, sets: &str| {
        let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs");
        sandbox.hrm(&format!("inspect params --config {configs}/{recipe}.toml {sets}"))
    };
    for (recipe, expected) in [
        ("sudoku-extreme-1k", ["27,275,266", "11 x 512", "1 x 512"].as_slice()),
        // Five token values fewer at both ends.
        ("maze-hard", &["27,270,146", "6 x 512"]),
        ("maze-unique", &["27,270,146"]),
        ("sudoku-16x16", &["18 x 256"]),
        ("sudoku-4x4", &["6 x "]),
        ("killer", &["72 x 256"]),
        ("samurai", &["4 x 64"]),
        ("queens", &["3 x 48", "41,858"]),
    ] {
        let run = count(recipe, "");
        assert_eq!(run.stderr, "", "{recipe}");
        assert_says(&run.ok(), expected);
    }
    // The rows of ARC's puzzle embedding are one for each augmentation of each task.
    let run = count("arc-1", "");
    assert_says(&run.stderr, &["datasets/arc-1/training", "counted with 1 row"]);
    assert_says(&run.ok(), &["12 x 512", "1 x 512"]);
    let task = r#"{"train": [{"input": [[1, 0, 3]], "output": [[2]]}], "test": [{"input": [[4]], "output": [[5]]}]}"#;
    sandbox.write("t.json", format!(r#"{{"a": {task}}}"#));
    sandbox.write("e.json", format!(r#"{{"b": {}}}"#, task.replace("[4]", "[6]")));
    let files = "--set data.path=t.json --set data.test_path=e.json --set data.extra_paths=[] --set data.on_leak=allow";
    let run = count("arc-1", &format!("{files} --set data.augmentations=3"));
    assert_eq!(run.stderr, "");
    assert_says(&run.ok(), &["12 x 512", "9 x 512"]);
    // A folder has its own number of puzzle identifiers.
    sandbox.hrm("data maze generate --size 4x6 --min-path 5 --train 3 --test 1 --out mazes").ok();
    let folder = "--set data.source=dataset --set data.path=mazes --set data.test_path=\"\"";
    assert_says(
        &count("maze-hard", folder).error(),
        &["900 tokens of 6 kinds (30x30 maze)", "data.grid_rows"],
    );
    let sizes = "--set data.grid_rows=4 --set data.grid_cols=6";
    assert_says(&count("maze-hard", &format!("{folder} {sizes}")).ok(), &["27,270,146"]);
}

#[test]
fn parameters_are_counted() {
    let sandbox = Sandbox::new();
    assert_says(&sandbox.hrm("inspect params").ok(), &["27,275,266", "puzzle_emb.weights", "H_init"]);
    sandbox.write("tiny.toml", TINY_RECIPE);
    let of_recipe = sandbox.hrm("inspect params --config tiny.toml --set model.hidden_size=32").ok();
    assert_says(&of_recipe, &["6 x 32", "layer 0"]);
    sandbox.model("model.safetensors", 4);
    assert_says(
        &sandbox.hrm("inspect params --checkpoint model.safetensors").ok(),
        &["6 x 16", "puzzle_emb"],
    );
    assert_says(&sandbox.hrm("inspect params --set model.num_heads=3").error(), &["num_heads = 3"]);
}
