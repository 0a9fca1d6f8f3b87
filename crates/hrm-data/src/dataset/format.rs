//! The reference's dataset format: `{train,test}/dataset.json`, five arrays per set, `identifiers.json` at the root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::folder;
use super::npy::{self, IntArray, NpyError};
use crate::bounded::read_text;

/// The largest `dataset.json` that is read; real ones have a few hundred bytes.
const MAX_METADATA: u64 = 1 << 24;
/// The largest `identifiers.json` that is read; a million names take 40 MB.
const MAX_IDENTIFIERS: u64 = 1 << 30;

/// Why a dataset cannot be loaded, built or saved.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// `dataset.json` is missing.
    #[error("{}: expected a dataset folder with dataset.json in it; {hint}", path.display())]
    NoMetadata {
        /// The folder.
        path: PathBuf,
        /// What to do.
        hint: String,
    },
    /// A JSON file that is malformed or lacks fields.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its position.
        source: serde_json::Error,
    },
    /// An array that cannot be read or written.
    #[error(transparent)]
    Array(#[from] NpyError),
    /// Neither `NAME.npy` nor `NAME.npy.gz` is there.
    #[error("{}: expected {name}.npy or {name}.npy.gz, found neither", path.display())]
    NoArray {
        /// The folder.
        path: PathBuf,
        /// The array's name.
        name: String,
    },
    /// Metadata that contradict themselves or go beyond what is supported.
    #[error("metadata: {field}: expected {expected}, got {got}")]
    Metadata {
        /// The field.
        field: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// Arrays that contradict each other or the metadata.
    #[error("set {set:?}, {array}: expected {expected}, got {got}")]
    Inconsistent {
        /// The set.
        set: String,
        /// The array at fault.
        array: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A file is not what was written.
    #[error(
        "{}: damaged: expected {expected}, got {got}; make the dataset again, or delete {} in its folder if the file \
         was changed on purpose", path.display(), folder::CHECKSUMS
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Its SHA-256 when it was written.
        expected: String,
        /// Its SHA-256 now.
        got: String,
    },
    /// A dataset stands there already.
    #[error("{}: a dataset is already there; choose another folder or ask to overwrite it", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
}

/// Whether an existing dataset may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Fail if one is there.
    No,
    /// Replace its files.
    Yes,
}

/// `dataset.json`, with the reference's field names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Token that fills rows which stand for no example.
    pub pad_id: u32,
    /// Label tokens with this value are not scored; they become [`IGNORE_LABEL`](super::IGNORE_LABEL) in batches.
    pub ignore_label_id: Option<u32>,
    /// Puzzle identifier of padded rows and of puzzles without an embedding of their own.
    pub blank_identifier_id: u32,
    /// Number of token values; at most 256 here.
    pub vocab_size: usize,
    /// Tokens of one example.
    pub seq_len: usize,
    /// Number of puzzle identifiers, the blank one included.
    pub num_puzzle_identifiers: usize,
    /// Groups of all sets together.
    pub total_groups: usize,
    /// Mean number of examples of a puzzle.
    pub mean_puzzle_examples: f64,
    /// Puzzles of all sets together. Written for TRM, which needs it; HRM's own files lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_puzzles: Option<usize>,
    /// Names of the sets; each has five arrays `NAME__*.npy`.
    pub sets: Vec<String>,
}

impl Metadata {
    fn check(&self) -> Result<(), DatasetError> {
        let fail = |field, expected: &str, got: String| {
            Err(DatasetError::Metadata { field, expected: expected.to_owned(), got })
        };
        if !(1..=256).contains(&self.vocab_size) {
            return fail("vocab_size", "1 to 256", self.vocab_size.to_string());
        }
        if self.seq_len == 0 {
            return fail("seq_len", "at least 1", "0".to_owned());
        }
        if self.pad_id as usize >= self.vocab_size {
            return fail("pad_id", "a token below vocab_size", self.pad_id.to_string());
        }
        if self.num_puzzle_identifiers > i32::MAX as usize {
            return fail(
                "num_puzzle_identifiers",
                "at most 2147483647",
                self.num_puzzle_identifiers.to_string(),
            );
        }
        if self.blank_identifier_id as usize >= self.num_puzzle_identifiers {
            return fail(
                "blank_identifier_id",
                "an identifier below num_puzzle_identifiers",
                self.blank_identifier_id.to_string(),
            );
        }
        if !self.mean_puzzle_examples.is_finite() || self.mean_puzzle_examples < 0.0 {
            return fail(
                "mean_puzzle_examples",
                "a number of at least 0",
                self.mean_puzzle_examples.to_string(),
            );
        }
        if self.sets.is_empty() {
            return fail("sets", "at least one set", "none".to_owned());
        }
        // Names become file names: no way out of the folder.
        let legal =
            |name: &String| !name.is_empty() && !name.contains(['/', '\\', '\0']) && !name.starts_with('.');
        if let Some(name) = self.sets.iter().find(|name| !legal(name)) {
            return fail("sets", "plain names", format!("{name:?}"));
        }
        let mut seen = BTreeSet::new();
        match self.sets.iter().find(|name| !seen.insert(*name)) {
            Some(name) => fail("sets", "each name once", format!("{name:?} twice")),
            None => Ok(()),
        }
    }
}

/// One set of a dataset: examples, and their division into puzzles and groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PuzzleSet {
    name: String,
    seq_len: usize,
    inputs: Vec<u8>,
    labels: Vec<u8>,
    puzzle_identifiers: Vec<u32>,
    puzzle_indices: Vec<u32>,
    group_indices: Vec<u32>,
}

impl PuzzleSet {
    /// A set from its arrays: `inputs` and `labels` `[examples, seq_len]`, one identifier per puzzle, `puzzle_indices`
    /// `[puzzles + 1]` where each puzzle's examples start, `group_indices` `[groups + 1]` where each group's puzzles start.
    ///
    /// # Errors
    /// [`DatasetError::Inconsistent`] if lengths or indices contradict each other.
    pub fn new(
        name: impl Into<String>,
        seq_len: usize,
        inputs: Vec<u8>,
        labels: Vec<u8>,
        puzzle_identifiers: Vec<u32>,
        puzzle_indices: Vec<u32>,
        group_indices: Vec<u32>,
    ) -> Result<Self, DatasetError> {
        let set = Self {
            name: name.into(),
            seq_len,
            inputs,
            labels,
            puzzle_identifiers,
            puzzle_indices,
            group_indices,
        };
        let fail = |array, expected: String, got: String| {
            Err(DatasetError::Inconsistent { set: set.name.clone(), array, expected, got })
        };
        if seq_len == 0 || !set.inputs.len().is_multiple_of(seq_len) {
            return fail(
                "inputs",
                format!("rows of {seq_len} tokens"),
                format!("{} tokens", set.inputs.len()),
            );
        }
        if set.labels.len() != set.inputs.len() {
            let tokens = |n: usize| format!("{n} tokens");
            return fail("labels", tokens(set.inputs.len()), tokens(set.labels.len()));
        }
        check_offsets(&set, "puzzle_indices", &set.puzzle_indices, set.examples(), "examples")?;
        if set.puzzle_identifiers.len() + 1 != set.puzzle_indices.len() {
            let expected = format!("one for each of {} puzzles", set.puzzle_indices.len() - 1);
            return fail("puzzle_identifiers", expected, set.puzzle_identifiers.len().to_string());
        }
        check_offsets(&set, "group_indices", &set.group_indices, set.puzzles(), "puzzles")?;
        Ok(set)
    }

    /// The set's name, `all` in most datasets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tokens of one example.
    pub const fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Number of examples.
    pub const fn examples(&self) -> usize {
        self.inputs.len() / self.seq_len
    }

    /// Number of puzzles.
    pub const fn puzzles(&self) -> usize {
        self.puzzle_identifiers.len()
    }

    /// Number of groups.
    pub const fn groups(&self) -> usize {
        self.group_indices.len() - 1
    }

    /// The input tokens of an example; empty if there is no such example.
    pub fn input(&self, example: usize) -> &[u8] {
        self.row(&self.inputs, example)
    }

    /// The label tokens of an example; empty if there is no such example.
    pub fn label(&self, example: usize) -> &[u8] {
        self.row(&self.labels, example)
    }

    fn row<'a>(&self, tokens: &'a [u8], example: usize) -> &'a [u8] {
        example
            .checked_mul(self.seq_len)
            .and_then(|start| tokens.get(start..start.checked_add(self.seq_len)?))
            .unwrap_or_default()
    }

    /// All input tokens, `[examples, seq_len]`.
    pub fn inputs(&self) -> &[u8] {
        &self.inputs
    }

    /// All label tokens, `[examples, seq_len]`.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The identifier of each puzzle.
    pub fn puzzle_identifiers(&self) -> &[u32] {
        &self.puzzle_identifiers
    }

    /// The examples of a puzzle; empty if there is no such puzzle.
    pub fn examples_of(&self, puzzle: usize) -> Range<usize> {
        range(&self.puzzle_indices, puzzle)
    }

    /// The puzzles of a group; empty if there is no such group.
    pub fn puzzles_of(&self, group: usize) -> Range<usize> {
        range(&self.group_indices, group)
    }

    /// The puzzle that an example belongs to.
    pub fn puzzle_of(&self, example: usize) -> usize {
        self.puzzle_indices.partition_point(|&start| start as usize <= example).saturating_sub(1)
    }
}

fn range(offsets: &[u32], index: usize) -> Range<usize> {
    match (offsets.get(index), offsets.get(index.wrapping_add(1))) {
        (Some(&start), Some(&end)) => start as usize..end as usize,
        _ => 0..0,
    }
}

/// Offsets must start at 0, grow strictly (nothing may be empty: a draw from it would fail) and end at `total`.
fn check_offsets(
    set: &PuzzleSet,
    array: &'static str,
    offsets: &[u32],
    total: usize,
    of: &str,
) -> Result<(), DatasetError> {
    let fail = |expected: String, got: String| {
        Err(DatasetError::Inconsistent { set: set.name.clone(), array, expected, got })
    };
    if offsets.first() != Some(&0) {
        return fail(
            "0 at index 0".to_owned(),
            offsets.first().map_or("nothing".to_owned(), ToString::to_string),
        );
    }
    if let Some(i) = offsets.windows(2).position(|w| w[0] >= w[1]) {
        return fail(format!("more than {} at index {}", offsets[i], i + 1), offsets[i + 1].to_string());
    }
    match offsets.last() {
        Some(&last) if last as usize == total => Ok(()),
        last => fail(
            format!("the number of {of}, {total}, at the end"),
            last.map_or(String::new(), ToString::to_string),
        ),
    }
}

/// A dataset in memory, one byte per token.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    metadata: Metadata,
    sets: Vec<PuzzleSet>,
}

impl Dataset {
    /// A dataset from its parts, in the order of `metadata.sets`.
    ///
    /// # Errors
    /// [`DatasetError`] if a set contradicts the metadata: name, row length, token or identifier out of range.
    pub fn new(metadata: Metadata, sets: Vec<PuzzleSet>) -> Result<Self, DatasetError> {
        metadata.check()?;
        let names: Vec<&str> = sets.iter().map(PuzzleSet::name).collect();
        if names != metadata.sets {
            let (expected, got) = (format!("{names:?}"), format!("{:?}", metadata.sets));
            return Err(DatasetError::Metadata { field: "sets", expected, got });
        }
        let groups: usize = sets.iter().map(PuzzleSet::groups).sum();
        if groups != metadata.total_groups {
            let (expected, got) = (format!("{groups}, as in the arrays"), metadata.total_groups.to_string());
            return Err(DatasetError::Metadata { field: "total_groups", expected, got });
        }
        for set in &sets {
            let fail = |array, expected: String, got: String| {
                Err(DatasetError::Inconsistent { set: set.name.clone(), array, expected, got })
            };
            if set.seq_len != metadata.seq_len {
                return fail(
                    "inputs",
                    format!("rows of seq_len = {} tokens", metadata.seq_len),
                    set.seq_len.to_string(),
                );
            }
            for (array, tokens) in [("inputs", &set.inputs), ("labels", &set.labels)] {
                if let Some(&token) = tokens.iter().find(|&&t| usize::from(t) >= metadata.vocab_size) {
                    return fail(
                        array,
                        format!("tokens below vocab_size = {}", metadata.vocab_size),
                        token.to_string(),
                    );
                }
            }
            if let Some(id) =
                set.puzzle_identifiers.iter().find(|&&id| id as usize >= metadata.num_puzzle_identifiers)
            {
                let expected =
                    format!("identifiers below num_puzzle_identifiers = {}", metadata.num_puzzle_identifiers);
                return fail("puzzle_identifiers", expected, id.to_string());
            }
        }
        Ok(Self { metadata, sets })
    }

    /// Loads a folder that holds `dataset.json` and its arrays: `ROOT/train` or `ROOT/test`. Arrays may be gzipped
    /// (`NAME.npy.gz`), tokens may be of any integer type.
    ///
    /// # Errors
    /// [`DatasetError`]; [`DatasetError::NoMetadata`] if there is no `dataset.json`, with what to do.
    pub fn load(dir: &Path) -> Result<Self, DatasetError> {
        let path = dir.join("dataset.json");
        let text = match read_text(&path, MAX_METADATA) {
            Ok(text) => text,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(DatasetError::NoMetadata { path: dir.to_owned(), hint: hint(dir) });
            }
            Err(source) => return Err(DatasetError::Io { path, source }),
        };
        let metadata = serde_json::from_str(&text)
            .map_err(|source| DatasetError::Json { path: path.clone(), source })?;
        let sums = folder::checksums(dir)?;
        folder::verify(&path, sums.as_ref())?;
        Self::load_arrays(dir, metadata, sums.as_ref())
    }

    /// Loads a folder of arrays whose `dataset.json` is missing, with metadata from elsewhere.
    ///
    /// # Errors
    /// [`DatasetError`] as for [`Dataset::load`].
    pub fn load_with_metadata(dir: &Path, metadata: Metadata) -> Result<Self, DatasetError> {
        Self::load_arrays(dir, metadata, folder::checksums(dir)?.as_ref())
    }

    fn load_arrays(
        dir: &Path,
        metadata: Metadata,
        sums: Option<&BTreeMap<String, String>>,
    ) -> Result<Self, DatasetError> {
        metadata.check()?;
        let max_token = (metadata.vocab_size - 1).min(255) as u8;
        let sets = metadata.sets.iter().map(|name| {
            let find = |array: &str| {
                let name = format!("{name}__{array}");
                let plain = dir.join(format!("{name}.npy"));
                let zipped = dir.join(format!("{name}.npy.gz"));
                let file = [plain, zipped].into_iter().find(|file| file.is_file());
                let file = file.ok_or_else(|| DatasetError::NoArray { path: dir.to_owned(), name })?;
                let array = IntArray::read(&file)?;
                folder::verify(&file, sums)?;
                Ok::<_, DatasetError>(array)
            };
            let tokens = |array: &'static str| -> Result<Vec<u8>, DatasetError> {
                let rows = find(array)?;
                if rows.shape().len() != 2 || rows.shape()[1] != metadata.seq_len {
                    let expected = format!("shape [examples, {}]", metadata.seq_len);
                    let got = format!("{:?}", rows.shape());
                    return Err(DatasetError::Inconsistent { set: name.clone(), array, expected, got });
                }
                Ok(rows.into_u8(max_token)?)
            };
            let offsets =
                |array| -> Result<Vec<u32>, DatasetError> { Ok(find(array)?.into_u32(i32::MAX as u32)?) };
            PuzzleSet::new(
                name.clone(),
                metadata.seq_len,
                tokens("inputs")?,
                tokens("labels")?,
                offsets("puzzle_identifiers")?,
                offsets("puzzle_indices")?,
                offsets("group_indices")?,
            )
        });
        let sets = sets.collect::<Result<Vec<_>, _>>()?;
        Self::new(metadata, sets)
    }

    /// Writes `dataset.json`, the arrays and their checksums as the folder `dir`: as a whole or not at all. A dataset that is
    /// there and may be replaced stays until the new one is complete.
    ///
    /// # Errors
    /// [`DatasetError::Exists`] if there is a `dataset.json` and `overwrite` is [`Overwrite::No`]; otherwise what the
    /// file system says.
    pub fn save(&self, dir: &Path, overwrite: Overwrite) -> Result<(), DatasetError> {
        folder::write(dir, overwrite, |dir| {
            for set in &self.sets {
                let file = |array: &str| dir.join(format!("{}__{array}.npy", set.name));
                let shape = [set.examples(), set.seq_len];
                npy::write_u8(&file("inputs"), &shape, &set.inputs)?;
                npy::write_u8(&file("labels"), &shape, &set.labels)?;
                npy::write_i32(&file("puzzle_identifiers"), &set.puzzle_identifiers)?;
                npy::write_i32(&file("puzzle_indices"), &set.puzzle_indices)?;
                npy::write_i32(&file("group_indices"), &set.group_indices)?;
            }
            write_json(&dir.join("dataset.json"), &self.metadata)
        })
    }

    /// The metadata.
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The sets, in the order of the metadata.
    pub fn sets(&self) -> &[PuzzleSet] {
        &self.sets
    }

    /// Examples of all sets together.
    pub fn examples(&self) -> usize {
        self.sets.iter().map(PuzzleSet::examples).sum()
    }

    /// Groups of all sets together.
    pub fn groups(&self) -> usize {
        self.sets.iter().map(PuzzleSet::groups).sum()
    }

    /// The same metadata with at most the first `limit` puzzles (and their examples) of each set, each a group of its
    /// own: for quick evaluations.
    #[must_use]
    pub fn head(&self, limit: usize) -> Self {
        let sets: Vec<PuzzleSet> = self
            .sets
            .iter()
            .map(|set| {
                let puzzles = set.puzzles().min(limit);
                let examples = set.puzzle_indices[puzzles] as usize;
                PuzzleSet {
                    name: set.name.clone(),
                    seq_len: set.seq_len,
                    inputs: set.inputs[..examples * set.seq_len].to_vec(),
                    labels: set.labels[..examples * set.seq_len].to_vec(),
                    puzzle_identifiers: set.puzzle_identifiers[..puzzles].to_vec(),
                    puzzle_indices: set.puzzle_indices[..=puzzles].to_vec(),
                    group_indices: (0..=puzzles as u32).collect(),
                }
            })
            .collect();
        let mut metadata = self.metadata.clone();
        metadata.total_groups = sets.iter().map(PuzzleSet::groups).sum();
        metadata.total_puzzles = metadata.total_puzzles.map(|_| metadata.total_groups);
        let (examples, puzzles) =
            sets.iter().fold((0, 0), |(e, p), set| (e + set.examples(), p + set.puzzles()));
        metadata.mean_puzzle_examples = if puzzles == 0 { 0.0 } else { examples as f64 / puzzles as f64 };
        Self { metadata, sets }
    }
}

/// Writes `ROOT/train`, `ROOT/test` (if there is one) and `ROOT/identifiers.json`.
///
/// # Errors
/// [`DatasetError::Exists`] before anything is written if a dataset is there and may not be replaced; otherwise what the
/// file system says.
pub fn save_pair(
    root: &Path,
    train: &Dataset,
    test: Option<&Dataset>,
    overwrite: Overwrite,
) -> Result<(), DatasetError> {
    if overwrite == Overwrite::No {
        for name in ["train", "test"] {
            if root.join(name).join("dataset.json").exists() {
                return Err(DatasetError::Exists { path: root.join(name) });
            }
        }
    }
    train.save(&root.join("train"), overwrite)?;
    if let Some(test) = test {
        test.save(&root.join("test"), overwrite)?;
    }
    save_identifiers(root, &["<blank>".to_owned()])
}

fn hint(dir: &Path) -> String {
    let old = folder::beside(dir, folder::OLD);
    if !dir.exists() && old.join("dataset.json").is_file() {
        return format!(
            "its replacement was stopped; {} is what was there: rename it to go on with it",
            old.display()
        );
    }
    if !dir.exists() {
        return "the folder does not exist".to_owned();
    }
    let inside = |name: &str| dir.join(name).join("dataset.json").is_file();
    if inside("train") || inside("test") {
        return "it holds `train` or `test`: name one of them".to_owned();
    }
    "build one with `hrm data`, or give the metadata explicitly if only the arrays are left".to_owned()
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), DatasetError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| DatasetError::Json { path: path.to_owned(), source })?;
    fs::write(path, text + "\n").map_err(|source| DatasetError::Io { path: path.to_owned(), source })
}

/// Writes `identifiers.json` into the root of a dataset: the name of each puzzle identifier, `<blank>` first.
///
/// # Errors
/// [`DatasetError::Io`] if it cannot be written.
pub fn save_identifiers(root: &Path, identifiers: &[String]) -> Result<(), DatasetError> {
    fs::create_dir_all(root).map_err(|source| DatasetError::Io { path: root.to_owned(), source })?;
    write_json(&root.join("identifiers.json"), &identifiers)
}

/// Reads `identifiers.json` from the root of a dataset.
///
/// # Errors
/// [`DatasetError::Io`] or [`DatasetError::Json`].
pub fn load_identifiers(root: &Path) -> Result<Vec<String>, DatasetError> {
    let path = root.join("identifiers.json");
    let text = read_text(&path, MAX_IDENTIFIERS)
        .map_err(|source| DatasetError::Io { path: path.clone(), source })?;
    serde_json::from_str(&text).map_err(|source| DatasetError::Json { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        Metadata {
            pad_id: 0,
            ignore_label_id: Some(0),
            blank_identifier_id: 0,
            vocab_size: 5,
            seq_len: 2,
            num_puzzle_identifiers: 3,
            total_groups: 2,
            mean_puzzle_examples: 4.0 / 3.0,
            total_puzzles: Some(3),
            sets: vec!["all".to_owned()],
        }
    }

    fn set() -> PuzzleSet {
        PuzzleSet::new(
            "all",
            2,
            vec![1, 2, 3, 4, 1, 1, 2, 2],
            vec![2; 8],
            vec![0, 1, 2],
            vec![0, 1, 3, 4],
            vec![0, 2, 3],
        )
        .unwrap()
    }

    #[test]
    fn structure_is_readable() {
        let set = set();
        assert_eq!((set.examples(), set.puzzles(), set.groups()), (4, 3, 2));
        assert_eq!(
            (set.input(1), set.label(3), set.input(4)),
            ([3, 4].as_slice(), [2, 2].as_slice(), [].as_slice())
        );
        assert_eq!((set.examples_of(1), set.puzzles_of(0), set.puzzles_of(2)), (1..3, 0..2, 0..0));
        assert_eq!((0..4).map(|e| set.puzzle_of(e)).collect::<Vec<_>>(), [0, 1, 1, 2]);
        assert_eq!(set.input(usize::MAX), &[] as &[u8]);
        let head = Dataset::new(metadata(), vec![set]).unwrap().head(2);
        assert_eq!((head.examples(), head.groups(), head.metadata().mean_puzzle_examples), (3, 2, 1.5));
        assert!(Dataset::new(head.metadata().clone(), head.sets().to_vec()).is_ok());
    }

    #[test]
    fn round_trip_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let train = dir.path().join("train");
        let dataset = Dataset::new(metadata(), vec![set()]).unwrap();
        dataset.save(&train, Overwrite::No).unwrap();
        assert_eq!(Dataset::load(&train).unwrap(), dataset);
        assert!(matches!(dataset.save(&train, Overwrite::No), Err(DatasetError::Exists { .. })));
        dataset.save(&train, Overwrite::Yes).unwrap();
        let error = Dataset::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("name one of them"), "{error}");
        fs::remove_file(train.join("all__labels.npy")).unwrap();
        assert!(
            Dataset::load(&train)
                .unwrap_err()
                .to_string()
                .contains("expected all__labels.npy or all__labels.npy.gz")
        );
        fs::write(train.join("dataset.json"), "{\"pad_id\": 0").unwrap();
        assert!(matches!(Dataset::load(&train), Err(DatasetError::Json { .. })));
        save_identifiers(dir.path(), &["<blank>".to_owned()]).unwrap();
        assert_eq!(load_identifiers(dir.path()).unwrap(), ["<blank>"]);
    }

    #[test]
    fn contradictions_are_named() {
        let new = |ids: &[u32], puzzles: &[u32], groups: &[u32]| {
            PuzzleSet::new("all", 2, vec![1; 8], vec![2; 8], ids.to_vec(), puzzles.to_vec(), groups.to_vec())
                .map_err(|e| e.to_string())
        };
        assert!(new(&[0; 3], &[0, 1, 3, 4], &[0, 2, 3]).is_ok());
        let cases = [
            (
                new(&[0; 3], &[0, 1, 3, 5], &[0, 2, 3]),
                "puzzle_indices: expected the number of examples, 4, at the end, got 5",
            ),
            (
                new(&[0; 3], &[0, 3, 3, 4], &[0, 2, 3]),
                "puzzle_indices: expected more than 3 at index 2, got 3",
            ),
            (new(&[0; 3], &[1, 2, 3, 4], &[0, 2, 3]), "puzzle_indices: expected 0 at index 0, got 1"),
            (
                new(&[0; 2], &[0, 1, 3, 4], &[0, 2, 3]),
                "puzzle_identifiers: expected one for each of 3 puzzles, got 2",
            ),
            (new(&[0; 3], &[0, 1, 3, 4], &[]), "group_indices: expected 0 at index 0, got nothing"),
            (
                new(&[0; 3], &[0, 1, 3, 4], &[0, 2]),
                "group_indices: expected the number of puzzles, 3, at the end, got 2",
            ),
        ];
        for (result, message) in cases {
            assert_eq!(result, Err(format!("set \"all\", {message}")));
        }
        let with = |change: fn(&mut Metadata)| {
            let mut metadata = metadata();
            change(&mut metadata);
            Dataset::new(metadata, vec![set()]).map_err(|e| e.to_string())
        };
        assert!(with(|_| {}).is_ok());
        assert!(with(|m| m.vocab_size = 4).is_err_and(|e| e.contains("tokens below vocab_size = 4, got 4")));
        assert!(with(|m| m.vocab_size = 300).is_err_and(|e| e.contains("vocab_size: expected 1 to 256")));
        assert!(with(|m| m.num_puzzle_identifiers = 2).is_err_and(|e| e.contains("got 2")));
        assert!(with(|m| m.total_groups = 5).is_err_and(|e| e.contains("total_groups: expected 2")));
        assert!(with(|m| m.seq_len = 4).is_err_and(|e| e.contains("seq_len = 4")));
        assert!(with(|m| m.sets = vec!["../all".to_owned()]).is_err_and(|e| e.contains("plain names")));
        assert!(with(|m| m.sets = vec!["all".to_owned(); 2]).is_err_and(|e| e.contains("each name once")));
        assert!(with(|m| m.pad_id = 5).is_err_and(|e| e.contains("pad_id")));
        assert!(with(|m| m.sets.clear()).is_err_and(|e| e.contains("at least one set")));
    }

    #[test]
    fn folders_of_the_original_builder_load() {
        let Some(dir) = crate::testdata::data_dir() else {
            return;
        };
        let maze = Dataset::load(&dir.join("maze/npy-train")).unwrap();
        assert_eq!((maze.examples(), maze.groups(), maze.metadata().vocab_size), (1000, 1000, 6));
        let sudoku = dir.join("npy-sudoku");
        assert!(matches!(Dataset::load(&sudoku), Err(DatasetError::NoMetadata { .. })));
        let metadata = Metadata {
            seq_len: 81,
            vocab_size: 11,
            num_puzzle_identifiers: 1,
            total_puzzles: None,
            ..maze.metadata().clone()
        };
        let set = Dataset::load_with_metadata(&sudoku, metadata.clone()).unwrap();
        assert_eq!(set.examples(), 1000);
        let set = &set.sets()[0];
        for example in (0..1000).step_by(50) {
            let puzzle = crate::puzzles::sudoku::decode_tokens(set.input(example)).unwrap();
            let solution = crate::puzzles::sudoku::decode_tokens(set.label(example)).unwrap();
            assert!(solution.is_solution_of(&puzzle));
        }
        let wrong = Metadata { seq_len: 80, ..metadata };
        assert!(
            Dataset::load_with_metadata(&sudoku, wrong)
                .unwrap_err()
                .to_string()
                .contains("shape [examples, 80]")
        );
    }
}
