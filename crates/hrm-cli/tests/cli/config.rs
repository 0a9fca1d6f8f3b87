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
