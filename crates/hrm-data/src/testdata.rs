//! Where the tests find real data that is not part of the repository. Absent data is reported and skipped.

use std::io::Write as _;
use std::path::{Path, PathBuf};

fn folder(variable: &str, default: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(default),
        PathBuf::from,
    );
    if path.is_dir() {
        return Some(path);
    }
    skipped(&format!("no {} (set {variable} to the folder to run this test)", path.display()));
    None
}

/// Says so on the real standard error, past the capture of the test harness.
fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Real puzzles: `HRM_DATA_DIR`, by default `<workspace>/../shared/data`.
pub(crate) fn data_dir() -> Option<PathBuf> {
    folder("HRM_DATA_DIR", "data")
}

/// A file of numbers computed by the reference, in `HRM_PARITY_DIR`, by default `<workspace>/../shared/parity`.
pub(crate) fn parity_file(name: &str) -> Option<Vec<u8>> {
    let path = folder("HRM_PARITY_DIR", "parity")?.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(_) => {
            skipped(&format!("no {}", path.display()));
            None
        }
    }
}

/// Unit vectors computed by the reference: `data.json` in `HRM_PARITY_DIR`, by default `<workspace>/../shared/parity`.
pub(crate) fn parity_json() -> Option<serde_json::Value> {
    let path = folder("HRM_PARITY_DIR", "parity")?.join("data.json");
    if !path.is_file() {
        skipped(&format!("no {}", path.display()));
        return None;
    }
    let text = std::fs::read_to_string(&path).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

/// The numbers of a nested JSON array, in order.
pub(crate) fn flat<T: TryFrom<i64>>(value: &serde_json::Value) -> Vec<T> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(flat).collect(),
        other => other.as_i64().and_then(|n| T::try_from(n).ok()).into_iter().collect(),
    }
}

/// The puzzles of a file of one family.
pub(crate) fn read_records(path: &Path, family: &str) -> Vec<crate::task::Record> {
    let found = crate::reader::read_all(family.parse().unwrap(), path).unwrap();
    found.into_iter().map(|puzzle| puzzle.record).collect()
}
