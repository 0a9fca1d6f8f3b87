//! Every usual selection of crates must give dependencies the same features, or Burn compiles anew for each: minutes.

use std::{collections::BTreeSet, path::Path, process::Command};

/// Dependencies with their features, of everything that a cargo invocation selects.
fn features(selection: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--quiet", "--prefix", "none", "--format", "{p} [{f}]"])
        .args(selection)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text.lines().map(|line| line.replace(" (*)", "").replace(" (proc-macro)", ""));
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn selections_agree() {
    // Everything together; then what runs on the machine alone, as the whole may have a crate twice, once of them for build
    // scripts and macros, with other features.
    for (all, program) in
        [("normal,build,dev", "normal,build"), ("normal,dev,no-proc-macro", "normal,no-proc-macro")]
    {
        let whole = features(&["--workspace", "--edges", all]);
        assert!(whole.iter().any(|line| line.starts_with("burn-flex ")), "the tree has Burn in it");
        for selection in [
            &["--package", "hrm-cli", "--edges", program][..],
            &["--package", "hrm-train", "--edges", all],
            &["--package", "hrm-web", "--edges", all],
            &["--package", "hrm-model", "--package", "hrm-train", "--edges", all],
        ] {
            let other = features(selection);
            let strange: Vec<_> = other.difference(&whole).collect();
            assert!(
                strange.is_empty(),
                "cargo {selection:?} compiles other features than --workspace: {strange:#?}\n\
                 Name the crate with its missing features in crates/hrm-backend or crates/hrm-testing."
            );
        }
    }
}
