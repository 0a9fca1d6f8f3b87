//! What the test sets of this repository (`datasets/`) hold, as a list of numbers that is part of the program.
//!
//! Training puzzles that a recipe makes are checked against it while they are made, so no seed whatever gives a recipe a puzzle of
//! those sets to train on. A number is the beginning of the SHA-256 of what all images of a puzzle share. One of another
//! puzzle may be equal by chance (one in 10^16): then a puzzle is not trained on that could have been.

use sha2::{Digest, Sha256};

/// The numbers, in order, as little-endian words of 64 bits.
static NUMBERS: &[u8] = include_bytes!("bundled.bin");

/// The number of what the images of a puzzle share; `kind` says of which puzzles.
fn number(kind: &str, shared: &[u8]) -> u64 {
    let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(shared).finalize();
    digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Whether a bundled test set holds a puzzle of which this is what its images share.
pub(crate) fn is_tested(kind: &str, shared: &[u8]) -> bool {
    let (words, _) = NUMBERS.as_chunks::<8>();
    words.binary_search_by_key(&number(kind, shared), |word| u64::from_le_bytes(*word)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::dataset::Dataset;
    use crate::puzzles::{maze, sudoku};
    use crate::reader;
    use crate::registry::{Family, Shape};
    use crate::task::{GenerateOptions, Record, Size};

    fn datasets() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets")
    }

    /// Input and label of puzzles.
    type Rows = Vec<(Vec<u8>, Vec<u8>)>;

    /// Every test puzzle of a folder of `datasets/`, once each, and their family.
    fn test_set(folder: &Path) -> Option<(Family, Rows)> {
        let name = folder.file_name()?.to_str()?.to_owned();
        let family: Family = name.split('-').next()?.parse().ok()?;
        let table = folder.join("test.csv.gz");
        let rows = match table.is_file() {
            true => {
                let puzzles = reader::read_all(family, &table).unwrap().into_iter();
                puzzles.map(|puzzle| (puzzle.record.input, puzzle.record.label.unwrap())).collect()
            }
            false => {
                let dataset = Dataset::load(&folder.join("test")).unwrap();
                let rows = dataset.sets().iter().flat_map(|set| {
                    (0..set.examples()).map(|row| (set.input(row).to_vec(), set.label(row).to_vec()))
                });
                rows.collect()
            }
        };
        Some((family, rows))
    }

    /// What its images share with a puzzle of a family.
    fn kin(family: Family, input: &[u8], label: &[u8]) -> (String, Vec<u8>) {
        match family {
            Family::Sudoku => {
                let board = |tokens: &[u8]| sudoku::decode_tokens(tokens).unwrap();
                sudoku::kin(&board(label), &sudoku::Classifier::new().key(&board(input)))
            }
            Family::Maze => {
                let side = input.len().isqrt();
                maze::kin(&maze::decode_tokens(side, side, input).unwrap())
            }
            Family::Samurai => {
                let task = Shape::of_size(family, Size::new(21, 21)).unwrap().task();
                (family.name().to_owned(), task.class(input).unwrap())
            }
            other => panic!("say what the images of a {other} share"),
        }
    }

    /// Seeds that made the test sets, and others of boards of which there are few.
    #[test]
    fn no_seed_makes_training_puzzles_of_the_test_sets() {
        let givens = |fewest, most| GenerateOptions { givens: Some((fewest, most)), ..Default::default() };
        let unique = GenerateOptions {
            kind: Some("unique".to_owned()),
            min_path: Some(2),
            max_path: Some(48),
            ..Default::default()
        };
        for (family, side, options, seeds, train) in [
            (Family::Sudoku, 9, givens(24, 50), [1, 1], 400),
            (Family::Sudoku, 6, givens(8, 24), [2, 2], 400),
            (Family::Sudoku, 4, givens(4, 8), [1, 55], 2_000),
            (Family::Maze, 10, unique, [7, 7], 400),
            (Family::Samurai, 21, givens(140, 240), [777, 777], 100),
        ] {
            let task = Shape::of_size(family, Size::new(side, side)).unwrap().task();
            for (seed, test) in seeds.into_iter().zip([0, 5]) {
                let tested = |spare_bundled| {
                    let options = GenerateOptions { spare_bundled, ..options.clone() };
                    let made = task.split(&options, seed, (train, test)).unwrap();
                    assert_eq!((made.train.len(), made.test.len()), (train, test));
                    let is_tested = |record: &&Record| {
                        let (kind, shared) = kin(family, &record.input, record.label.as_ref().unwrap());
                        is_tested(&kind, &shared)
                    };
                    made.train.iter().filter(is_tested).count()
                };
                assert_eq!(tested(true), 0, "{task}, seed {seed}");
                assert!(tested(false) > 0, "{task}, seed {seed}: another seed would show more");
            }
        }
    }

    #[test]
    fn the_list_is_that_of_the_test_sets() {
        let (mut sets, mut found) = (0, BTreeSet::new());
        for entry in std::fs::read_dir(datasets()).unwrap() {
            let folder = entry.unwrap().path();
            let Some((family, rows)) = test_set(&folder) else { continue };
            sets += 1;
            for (input, label) in rows {
                let (kind, shared) = kin(family, &input, &label);
                found.insert(number(&kind, &shared));
            }
        }
        assert!(sets >= 6 && found.len() >= 1_400, "{sets} sets, {} puzzles", found.len());
        let bytes: Vec<u8> = found.iter().flat_map(|number| number.to_le_bytes()).collect();
        if bytes != NUMBERS {
            let path = std::env::temp_dir().join("bundled.bin");
            std::fs::write(&path, bytes).unwrap();
            panic!("datasets/ has other test sets: copy {} to crates/hrm-data/src", path.display());
        }
    }
}
