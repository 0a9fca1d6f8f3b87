//! Which tasks are trained on and which are evaluated on.

use std::fs;
use std::path::{Path, PathBuf};

use super::data::BuildError;
use super::task::{ArcError, ArcTask, load};
use crate::dataset::DatasetError;

/// Tasks to train on and tasks to evaluate on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// Tasks whose pairs are all trained on.
    pub training: Vec<ArcTask>,
    /// Tasks whose tests are asked for.
    pub evaluation: Vec<ArcTask>,
    /// Tasks that were given more than once on one side, with the same name and the same pairs, and are kept once.
    pub repeated: usize,
}

/// How the original data builders divide tasks.
#[derive(Clone, Copy, Debug)]
pub enum SplitRule<'a> {
    /// HRM: each folder holds folders of JSON files, one task each; those named `evaluation` are evaluated on, all others are
    /// trained on (ConceptARC has a folder for each concept).
    Hrm {
        /// `dataset_dirs` of `build_arc_dataset.py`.
        folders: &'a [PathBuf],
    },
    /// TRM: files `PREFIX_SUBSET_challenges.json` with `PREFIX_SUBSET_solutions.json`; one subset is evaluated on, the others
    /// are trained on.
    Trm {
        /// `input_file_prefix`, for example `kaggle/combined/arc-agi`.
        prefix: &'a Path,
        /// `subsets`.
        subsets: &'a [String],
        /// `test_set_name`.
        test_set: &'a str,
    },
}

impl SplitRule<'_> {
    /// Loads the tasks.
    ///
    /// # Errors
    /// [`ArcError`] with the file, the task, the pair and the row; [`ArcError::Empty`] if a folder holds no folder.
    pub fn load(&self) -> Result<Sets, ArcError> {
        let (mut training, mut evaluation) = (Vec::new(), Vec::new());
        match *self {
            Self::Hrm { folders } => {
                for folder in folders {
                    let io = |source| ArcError::Io { path: folder.clone(), source };
                    let entries = fs::read_dir(folder).map_err(io)?;
                    let mut inside: Vec<PathBuf> =
                        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(io)?;
                    inside.retain(|path| path.is_dir());
                    inside.sort();
                    if inside.is_empty() {
                        return Err(ArcError::NoFolders { path: folder.clone() });
                    }
                    for path in inside {
                        let is_evaluation = path.file_name().is_some_and(|name| name == "evaluation");
                        if is_evaluation { &mut evaluation } else { &mut training }.push(path);
                    }
                }
            }
            Self::Trm { prefix, subsets, test_set } => {
                for subset in subsets {
                    let mut path = prefix.as_os_str().to_owned();
                    path.push(format!("_{subset}_challenges.json"));
                    if subset == test_set { &mut evaluation } else { &mut training }.push(path.into());
                }
            }
        }
        load_sets(&training, &evaluation)
    }
}

/// Loads tasks from any number of paths for each side; see [`load`].
///
/// # Errors
/// [`ArcError`] with the file, the task, the pair and the row.
pub fn load_sets(training: &[PathBuf], evaluation: &[PathBuf]) -> Result<Sets, ArcError> {
    let mut sets = Sets::default();
    for (paths, tasks) in [(training, &mut sets.training), (evaluation, &mut sets.evaluation)] {
        for path in paths {
            tasks.extend(load(path)?);
        }
        let before = tasks.len();
        // Stable: of tasks with one name the first stays first.
        tasks.sort_by(|a, b| a.id.cmp(&b.id));
        tasks.dedup_by(|later, first| later.id == first.id && later.content() == first.content());
        sets.repeated += before - tasks.len();
    }
    Ok(sets)
}

/// Writes tasks as one JSON object by name, as [`load`] reads it.
///
/// # Errors
/// [`DatasetError::Io`] if the file cannot be written.
pub fn save(path: &Path, tasks: &[ArcTask]) -> Result<(), BuildError> {
    let tasks: serde_json::Map<String, serde_json::Value> =
        tasks.iter().map(|task| (task.id.clone(), task.to_json())).collect();
    let text = serde_json::Value::Object(tasks).to_string();
    Ok(fs::write(path, text + "\n").map_err(|source| DatasetError::Io { path: path.to_owned(), source })?)
}

#[cfg(test)]
mod tests {
    use super::super::data::tests::task;
    use super::*;

    #[test]
    fn the_rules_of_hrm_and_trm_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (a, b, c) = (task("a", &[1, 2, 3]), task("b", &[4, 5]), task("c", &[6, 7, 8]));
        for (folder, task) in [("arc/training", &a), ("arc/evaluation", &b), ("concept/Above", &c)] {
            fs::create_dir_all(path(folder)).unwrap();
            fs::write(path(folder).join(format!("{}.json", task.id)), task.to_json().to_string()).unwrap();
        }
        let hrm = SplitRule::Hrm { folders: &[path("arc"), path("concept")] }.load().unwrap();
        assert_eq!(
            (hrm.training.as_slice(), hrm.evaluation.as_slice()),
            (&[a.clone(), c.clone()][..], &[b.clone()][..])
        );
        let error = SplitRule::Hrm { folders: &[path("arc/training")] }.load().unwrap_err().to_string();
        assert!(error.contains("expected folders of JSON files"), "{error}");

        for (subset, task) in [("training", &a), ("evaluation", &b), ("concept", &c)] {
            let mut challenge = task.clone();
            let outputs: Vec<_> = challenge.test.iter_mut().map(|pair| pair.output.take()).collect();
            save(&path(&format!("k_{subset}_challenges.json")), &[challenge]).unwrap();
            let grids: Vec<Vec<&[u8]>> = outputs.iter().flatten().map(|g| g.iter_rows().collect()).collect();
            let solutions = serde_json::json!({ task.id.as_str(): grids });
            fs::write(path(&format!("k_{subset}_solutions.json")), solutions.to_string()).unwrap();
        }
        let subsets = ["training", "evaluation", "concept"].map(str::to_owned);
        let rule = SplitRule::Trm { prefix: &path("k"), subsets: &subsets, test_set: "evaluation" };
        assert_eq!(rule.load().unwrap(), hrm);
        // Without solutions the outputs are withheld; twice the same task is one task.
        fs::remove_file(path("k_evaluation_solutions.json")).unwrap();
        let withheld = load(&path("k_evaluation_challenges.json")).unwrap();
        assert_eq!(withheld[0].test[0].output, None);
        let file = path("all.json");
        save(&file, &[a.clone(), b]).unwrap();
        let sets = load_sets(&[file.clone(), path("arc/training")], &[]).unwrap();
        assert_eq!((sets.training.len(), sets.repeated), (2, 1));
        save(&file, &[ArcTask { train: a.train[1..].to_vec(), ..a }]).unwrap();
        assert_eq!(load_sets(&[file, path("arc/training")], &[]).unwrap().training.len(), 2);
    }
}
