//! Small trained models, as the bytes of their files. Beside each stands a model card, `NAME/README.md`: what it was trained
//! on, how well it does, and how to train it again.
//!
//! ```
//! let weights = hrm_checkpoints::named("sudoku-9x9").expect("it is bundled");
//! assert!(weights.len() > 100_000);
//! ```

#![forbid(unsafe_code)]

/// Every model, its name and the bytes of its `model.safetensors`. A name is that of the task and the size of its puzzles, or of the
/// task alone: for every size.
pub const ALL: [(&str, &[u8]); 6] = [
    ("maze", include_bytes!("maze/model.safetensors")),
    ("samurai", include_bytes!("samurai/model.safetensors")),
    ("sudoku", include_bytes!("sudoku/model.safetensors")),
    ("sudoku-4x4", include_bytes!("sudoku-4x4/model.safetensors")),
    ("sudoku-6x6", include_bytes!("sudoku-6x6/model.safetensors")),
    ("sudoku-9x9", include_bytes!("sudoku-9x9/model.safetensors")),
];

/// The bytes of the model of a name.
pub fn named(name: &str) -> Option<&'static [u8]> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, weights)| *weights)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn every_folder_is_in_the_list() {
        let here = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let mut folders: Vec<String> = here
            .map(Result::unwrap)
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        folders.sort();
        assert_eq!(folders, super::ALL.map(|(name, _)| name));
    }
}
