//! The README says what is so.

const README: &str = include_str!("../../../../README.md");
const EXAMPLE: &str = include_str!("../../../hrm-model/examples/downstream.rs");

#[test]
fn the_example_for_other_crates_is_the_one_that_is_compiled() {
    let code = EXAMPLE.split_once("use ").map(|(_, code)| format!("use {code}")).unwrap_or_default();
    assert!(
        README.contains(code.trim_end()),
        "README.md lacks the code of hrm-model/examples/downstream.rs:\n{code}"
    );
}

#[test]
fn commands_of_the_readme_exist() {
    let sandbox = crate::sandbox::Sandbox::new();
    let commands = README.lines().filter_map(|line| {
        let line = line.trim_start_matches("$ ");
        line.strip_prefix("cargo run -p hrm-cli -- ").or_else(|| line.strip_prefix("hrm "))
    });
    let mut seen = 0;
    for command in commands {
        // `hrm help` alone is a command, `hrm help --help` is none.
        let command = command.strip_prefix("help").unwrap_or(command);
        let words: Vec<&str> =
            command.split_whitespace().take_while(|word| !word.starts_with(['-', '#'])).collect();
        let known = (words.len().min(1)..=words.len()).rev().any(|n| {
            let mut args = words[..n].join(" ");
            args.push_str(" --help");
            sandbox.hrm(&args).code == 0
        });
        assert!(known, "README.md has `hrm {command}`, which is no command");
        seen += 1;
    }
    assert!(seen > 0, "{seen} commands found");
}
