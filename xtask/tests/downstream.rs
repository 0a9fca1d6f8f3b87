//! A program outside of this workspace that depends on `hrm-model` alone solves a puzzle.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Burn compiles once more for it, with the features that it needs and no others.
#[test]
#[ignore = "compiles Burn once more: minutes (cargo xtask ci --all)"]
fn a_program_elsewhere_solves_a_puzzle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace");
    let folder = env::temp_dir().join(format!("hrm-downstream-{}", std::process::id()));
    fs::create_dir_all(folder.join("src")).expect("a folder");
    let example =
        fs::read_to_string(root.join("crates/hrm-model/examples/downstream.rs")).expect("the example");
    let weights = root.join("checkpoints");
    let program = example.replace("../../../checkpoints", &weights.display().to_string());
    fs::write(folder.join("src/main.rs"), program).expect("the program");
    let manifest = format!(
        "[package]\nname = \"elsewhere\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
         hrm-model = {{ path = {:?}, features = [\"flex\"] }}\n\n[workspace]\n",
        root.join("crates/hrm-model").display().to_string()
    );
    fs::write(folder.join("Cargo.toml"), manifest).expect("the manifest");
    // The versions that are known to work together.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).expect("the lock");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", target.join("downstream"))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.lines().last().is_some_and(|line| line.contains("1423231442313142")), "{said}");
    fs::remove_dir_all(folder).expect("gone");
}
