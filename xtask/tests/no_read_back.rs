//! A training step never waits for the device: what it computes with is free of calls that read a tensor back.
//! (`cargo xtask gpu-check` measures the same on a GPU: how long a step takes to be issued.)

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Ways to read a tensor back, or to wait for the device.
const READS: [&str; 9] = [
    "into_data",
    "to_data",
    "into_scalar",
    "into_primitive_data",
    ".sync(",
    "::sync(",
    "nonzero(",
    "argwhere(",
    "contains_nan",
];

/// What a step consists of.
const STEP: [&str; 6] = [
    "crates/hrm-backend/src",
    "crates/hrm-model/src",
    "crates/hrm-infer/src/noise.rs",
    "crates/hrm-train/src/step",
    "crates/hrm-train/src/optim",
    "crates/hrm-train/src/trainer/one_step.rs",
];

/// Files there that only run in tests, before and after training, or once a step has gone wrong. Vital signs are read before the update
/// on processors only, where nothing is waited for.
const OUTSIDE: [&str; 4] = [
    "crates/hrm-backend/src/testing.rs",
    "crates/hrm-model/src/weights.rs",
    "crates/hrm-model/src/diagnose.rs",
    "crates/hrm-train/src/step/vitals.rs",
];

fn rust_files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a readable folder") {
            rust_files(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push(path.to_owned());
    }
}

/// The code of a file without comments and unit tests, which stand at its end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = text
        .lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(all(test") && *line != "#[cfg(test)]");
    code.map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
}

fn reads(name: &str, text: &str) -> Vec<String> {
    code(text)
        .filter(|(_, line)| READS.iter().any(|read| line.contains(read)))
        .map(|(number, line)| format!("{name}:{number}: {}", line.trim()))
        .collect()
}

#[test]
fn a_step_reads_nothing_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let mut files = Vec::new();
    for path in STEP {
        let path = root.join(path);
        assert!(path.exists(), "{}: moved? This test must follow", path.display());
        rust_files(&path, &mut files);
    }
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).expect("under the root").display().to_string().replace('\\', "/");
        if !OUTSIDE.contains(&name.as_str()) {
            found.extend(reads(&name, &fs::read_to_string(&file).expect("a readable file")));
        }
    }
    assert!(
        found.is_empty(),
        "these lines read a tensor back, and make a GPU wait at each training step:\n{}",
        found.join("\n")
    );
}

#[test]
fn a_read_is_found() {
    let text = "//! into_data\nlet x = y.into_scalar(); // why\nlet z = 1; // to_data\n#[cfg(test)]\nx.into_data();\n";
    assert_eq!(reads("f", text), ["f:2: let x = y.into_scalar();"]);
}
