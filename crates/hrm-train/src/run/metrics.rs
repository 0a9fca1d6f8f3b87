//! `metrics.jsonl` of a run that goes on: cut to what its checkpoint knows of, or repaired.

use std::{collections::BTreeSet, io, path::Path};

use hrm_data::checksum::{Hasher, sha256};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{METRICS, RunError, io_at};
use crate::disk;

/// Where lines go that cannot be read.
const ASIDE: &str = "metrics.damaged.txt";

/// What `metrics.jsonl` was when a checkpoint was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of that many bytes.
    pub sha256: String,
}

/// The length and the checksum of the file, as it grows.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    bytes: u64,
    hasher: Hasher,
}

impl Tally {
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hasher.add(bytes);
    }

    pub fn written(&self) -> Written {
        Written { bytes: self.bytes, sha256: self.hasher.clone().end() }
    }
}

/// Makes the file what it was after `step` steps: what comes later will be written again. Where it is not what the checkpoint
/// knows of, or the checkpoint knows nothing, every line is looked at: those of later steps go (and with `evaluates_again` the
/// evaluation of that step), those that cannot be read are set aside, and what is missing is named. Gives warnings, and the
/// tally of what is there now.
pub(super) fn restore(
    run: &Path,
    step: u64,
    evaluates_again: bool,
    known: Option<&Written>,
) -> Result<(Vec<String>, Tally), RunError> {
    let path = run.join(METRICS);
    let bytes = match disk::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        bytes => bytes.map_err(io_at(&path))?,
    };
    let mut tally = Tally::default();
    if let Some(Written { bytes: length, sha256: expected }) = known {
        let prefix = usize::try_from(*length).ok().and_then(|length| bytes.get(..length));
        if let Some(prefix) = prefix.filter(|prefix| sha256(prefix) == *expected) {
            if prefix.len() < bytes.len() {
                disk::truncate(&path, *length).map_err(io_at(&path))?;
            }
            tally.add(prefix);
            return Ok((Vec::new(), tally));
        }
    }
    let lines = Lines::of(&bytes, step, evaluates_again);
    let mut warnings = Vec::new();
    if known.is_some() {
        warnings.push(format!(
            "{METRICS} is not what was written up to step {step}: rows are missing or changed, and curves may be wrong"
        ));
    }
    if !lines.bad.is_empty() {
        let aside = run.join(ASIDE);
        let mut log = disk::Log::open(&aside).map_err(io_at(&aside))?;
        for (_, line) in &lines.bad {
            log.append(&[line, &b"\n"[..]].concat()).map_err(io_at(&aside))?;
        }
        log.flush().map_err(io_at(&aside))?;
        let numbers = lines.bad.iter().map(|(number, _)| *number);
        warnings.push(format!("{METRICS}: cannot read {}; set aside in {ASIDE}", ranges("line", numbers)));
    }
    if lines.doubled > 0 {
        warnings.push(format!("{METRICS}: left out {} rows of steps that it has already", lines.doubled));
    }
    if !lines.missing.is_empty() {
        let missing = ranges("step", lines.missing.iter().copied());
        warnings.push(format!("{METRICS} has no row of {missing}: its curves have a gap there"));
    }
    if lines.kept != bytes {
        disk::replace(&path, &lines.kept).map_err(io_at(&path))?;
    }
    tally.add(&lines.kept);
    Ok((warnings, tally))
}

/// What became of the lines of a file.
struct Lines<'a> {
    kept: Vec<u8>,
    /// With their numbers, from 1.
    bad: Vec<(u64, &'a [u8])>,
    doubled: usize,
    missing: Vec<u64>,
}

impl<'a> Lines<'a> {
    fn of(bytes: &'a [u8], step: u64, evaluates_again: bool) -> Self {
        let mut lines = Self { kept: Vec::new(), bad: Vec::new(), doubled: 0, missing: Vec::new() };
        let mut trained = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let row = serde_json::from_slice::<Value>(text).ok();
            let Some((row, of)) = row.and_then(|row| row["step"].as_u64().map(|of| (row, of))) else {
                // What a kill cut short is nothing to keep.
                if text.len() < line.len() && !text.is_empty() {
                    lines.bad.push((number, text));
                }
                continue;
            };
            let of_evaluation = row.get("eval").is_some() || row["warning"] == "overfitting";
            if of > step || of == step && evaluates_again && of_evaluation {
                continue;
            }
            let trains = row["loss"].is_number();
            if trains && !trained.insert(of) || !trains && !seen.insert(text) {
                lines.doubled += 1;
                continue;
            }
            lines.kept.extend_from_slice(text);
            lines.kept.push(b'\n');
        }
        // A run that was changed by hand may claim any step.
        let first_missing = (1..=step).filter(|step| !trained.contains(step));
        lines.missing = first_missing.take(100_000).collect();
        lines
    }
}

/// `steps 3 to 5, 9`
fn ranges(what: &str, numbers: impl Iterator<Item = u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let several = ranges.len() > 1 || ranges.iter().any(|(first, last)| first < last);
    let more = if ranges.len() > 5 { ", ..." } else { "" };
    let parts: Vec<String> = ranges
        .iter()
        .take(5)
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first} to {last}") })
        .collect();
    format!("{what}{} {}{more}", if several { "s" } else { "" }, parts.join(", "))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn restored(text: &[u8], step: u64, known: Option<&Written>) -> (Vec<String>, String, Option<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(METRICS);
        fs::write(&path, text).unwrap();
        let (warnings, tally) = restore(dir.path(), step, false, known).unwrap();
        let kept = fs::read_to_string(&path).unwrap();
        assert_eq!(tally.written(), Written { bytes: kept.len() as u64, sha256: sha256(kept.as_bytes()) });
        (warnings, kept, fs::read_to_string(dir.path().join(ASIDE)).ok())
    }

    const THREE: &str = "{\"step\":1,\"loss\":1.0}\n{\"step\":2,\"loss\":0.5}\n{\"step\":3,\"loss\":0.25}\n";

    #[test]
    fn what_the_checkpoint_knows_is_kept_to_the_byte() {
        let known = Written { bytes: 44, sha256: sha256(&THREE.as_bytes()[..44]) };
        assert_eq!(restored(THREE.as_bytes(), 2, Some(&known)), (vec![], THREE[..44].to_owned(), None));
        // A digit that differs makes a valid row with another value: only the checksum tells.
        let (warnings, kept, _) = restored(THREE.replace("0.5", "0.7").as_bytes(), 2, Some(&known));
        assert!(
            warnings.len() == 1 && warnings[0].contains("not what was written up to step 2"),
            "{warnings:?}"
        );
        assert_eq!(kept, THREE[..44].replace("0.5", "0.7"));
    }

    #[test]
    fn bad_lines_are_set_aside_and_gaps_named() {
        assert_eq!(restored(THREE.as_bytes(), 3, None), (vec![], THREE.to_owned(), None));
        let hurt = THREE.replace("{\"step\":2", "{\"st\u{0}p\":2");
        let (warnings, kept, aside) = restored(hurt.as_bytes(), 3, None);
        assert_eq!(kept.lines().count(), 2);
        assert!(warnings[0].contains("cannot read line 2;"), "{warnings:?}");
        assert!(warnings[1].contains("no row of step 2:"), "{warnings:?}");
        assert!(aside.unwrap().contains(":2,\"loss\""));

        let mut bytes = THREE.as_bytes().to_vec();
        bytes[30] = 0xff;
        assert!(restored(&bytes, 3, None).0[0].contains("line 2"));
        let (warnings, kept, _) = restored(b"", 700, None);
        assert_eq!((warnings.len(), kept.as_str()), (1, ""));
        assert!(warnings[0].contains("steps 1 to 700"), "{warnings:?}");
        // Two processes at once, and a line that a kill cut short.
        let twice = format!("{THREE}{THREE}{{\"step\":4");
        let (warnings, kept, _) = restored(twice.as_bytes(), 3, None);
        assert_eq!((kept.as_str(), warnings.len()), (THREE, 1));
        assert!(warnings[0].contains("left out 3 rows"), "{warnings:?}");
        assert_eq!(ranges("step", [1, 2, 5, 7, 8, 9].into_iter()), "steps 1 to 2, 5, 7 to 9");
    }
}
