//! The weights in `checkpoints/` do what their model cards say.

use std::{fs, path::Path};

use crate::sandbox::Sandbox;

/// Each card has a line `Check: FILE: N of 50 exact`, or more of them, also `Check: FILE with OPTIONS: ...`; a model that gets more than 3
/// fewer right has been broken, and so has one that takes a wrong answer for right where it may try again.
#[test]
fn bundled_models_reach_what_their_cards_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut checked = 0;
    for entry in fs::read_dir(root.join("checkpoints")).expect("checkpoints") {
        let folder = entry.expect("entry").path();
        if !folder.is_dir() {
            continue;
        }
        let card = fs::read_to_string(folder.join("README.md")).expect("a model card");
        let name = folder.display();
        let lines: Vec<&str> = card.lines().filter_map(|line| line.strip_prefix("Check: ")).collect();
        assert!(!lines.is_empty(), "{name}: the card lacks a line `Check: FILE: N of 50 exact`");
        for line in lines {
            let (what, stated) = line.split_once(": ").expect("FILE: N of 50 exact");
            let (data, options) = what.split_once(" with ").unwrap_or((what, ""));
            let stated: u64 =
                stated.strip_suffix(" of 50 exact").and_then(|n| n.parse().ok()).expect("N of 50 exact");
            let run = Sandbox::new()
                .command()
                .args(["eval", "--limit", "50", "--json", "--checkpoint"])
                .arg(&folder)
                .arg("--data")
                .arg(root.join(data.trim_matches('`')))
                .args(options.trim_matches('`').split_whitespace())
                .output()
                .expect("starts");
            assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
            let report: serde_json::Value = serde_json::from_slice(&run.stdout).expect("JSON");
            let report = if options.is_empty() { &report } else { &report["inference"] };
            assert_eq!(report["examples"], 50, "{name}: {report}");
            let exact = (report["exact_accuracy"].as_f64().expect("a number") * 50.0).round() as u64;
            assert!(exact + 3 >= stated, "{name}: {exact} of 50 exact, the card says {stated}");
            if !options.is_empty() {
                assert_eq!(report["taken_for_right"], 0, "{name}: {report}");
            }
            checked += 1;
        }
    }
    assert!(checked >= 2, "{checked} models");
}
