//! Which rows of the puzzle embedding belong to which task, by name.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use hrm_data::puzzles::arc::{ArcTask, Transform, parse_name};
use hrm_model::ModelConfig;
use hrm_train::{data, recipe::ResolvedRecipe};

/// The file with the names of all rows, in their order, as the original writes it.
pub const FILE: &str = "identifiers.json";

/// The rows that a model has for each task that it knows, with their transforms.
#[derive(Debug, Default)]
pub struct Identifiers(HashMap<String, Vec<(Transform, u32)>>);

impl Identifiers {
    /// The names that come with a model's file: `identifiers.json` beside it, or in a folder above up to that of its run; of a run
    /// of our own, also what its recipe says. `None` if nothing tells.
    ///
    /// # Errors
    /// If the names cannot be read, or are others than the model has rows.
    pub fn of_model(file: &Path, config: &ModelConfig) -> Result<Option<Self>> {
        if config.puzzle_emb_ndim == 0 {
            return Ok(None);
        }
        if let Some(names) = file_of(file) {
            return Self::read(&names, config.num_puzzle_identifiers).map(Some);
        }
        let recipe = run_of(file).map(|run| run.join("config.toml")).filter(|recipe| recipe.is_file());
        let Some(recipe) = recipe else { return Ok(None) };
        let resolved = ResolvedRecipe::load(Some(&recipe), &[])?;
        let data = data::load(&resolved.recipe.data).with_context(|| {
            format!("the names of the puzzle identifiers follow from the data of {}", recipe.display())
        })?;
        let Some(arc) = data.arc() else { return Ok(None) };
        let names = (0..arc.identifiers() as u32).map(|identifier| arc.name(identifier));
        Self::of_names(names, &recipe, config.num_puzzle_identifiers).map(Some)
    }

    fn read(path: &Path, rows: usize) -> Result<Self> {
        Self::of_names(read_names(path)?.into_iter(), path, rows)
    }

    fn of_names(names: impl ExactSizeIterator<Item = String>, from: &Path, rows: usize) -> Result<Self> {
        if names.len() != rows {
            bail!(
                "{}: expected the names of the model's {rows} puzzle identifiers, got {}; the table belongs to another data set",
                from.display(),
                names.len()
            );
        }
        let mut found: HashMap<String, Vec<(Transform, u32)>> = HashMap::new();
        for (row, name) in names.enumerate().skip(1) {
            let (id, transform) = parse_name(&name);
            found.entry(id.to_owned()).or_default().push((transform, row as u32));
        }
        Ok(Self(found))
    }

    /// The rows of a task, at most `count`; empty if the model does not know it.
    pub fn of(&self, task: &ArcTask, count: usize) -> &[(Transform, u32)] {
        let rows = self.0.get(&task.id).map_or(&[][..], Vec::as_slice);
        &rows[..rows.len().min(count)]
    }
}

/// The folder of the run that a model's file is in.
fn run_of(file: &Path) -> Option<&Path> {
    file.ancestors().find(|folder| folder.ends_with("checkpoints")).and_then(Path::parent)
}

/// The file of names that comes with a model's file: beside it, or in a folder above up to that of its run.
pub fn file_of(file: &Path) -> Option<PathBuf> {
    let last = run_of(file).or_else(|| file.parent())?;
    let folders = file.ancestors().skip(1).take_while(|folder| folder.starts_with(last));
    folders.map(|folder| folder.join(FILE)).find(|names| names.is_file())
}

/// The names in a file.
///
/// # Errors
/// If it cannot be read or holds something else.
pub fn read_names(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: expected a list of names", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_name() {
        let names = ["<blank>", "a", "a_t3_0213456789", "b|||t1|||0123456789"].map(str::to_owned);
        let found = Identifiers::of_names(names.clone().into_iter(), Path::new("x"), 4).unwrap();
        let task = |id: &str| ArcTask { id: id.to_owned(), train: Vec::new(), test: Vec::new() };
        let rows = |id: &str| found.of(&task(id), 9).iter().map(|(_, row)| *row).collect::<Vec<_>>();
        assert_eq!((rows("a"), rows("b"), rows("c")), (vec![1, 2], vec![3], vec![]));
        assert_eq!(found.of(&task("a"), 1).len(), 1);
        assert_eq!(found.of(&task("b"), 9)[0].0.symmetry().id(), 1);
        let error = Identifiers::of_names(names.into_iter(), Path::new("x"), 9).unwrap_err().to_string();
        assert!(error.contains("the model's 9 puzzle identifiers, got 4"), "{error}");
    }
}
