//! No bundled recipe trains on a bundled test set.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hrm_data::{dataset::Dataset, reader, registry::Shape, task::Record};
use hrm_train::{
    data,
    recipe::{DataSource, ResolvedRecipe},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The first example of each puzzle; the others are its images.
fn records(dataset: &Dataset) -> Vec<Record> {
    let sets = dataset.sets().iter();
    sets.flat_map(|set| {
        (0..set.groups()).map(move |group| {
            let example = set.examples_of(set.puzzles_of(group).start).start;
            let (input, label) = (set.input(example).to_vec(), Some(set.label(example).to_vec()));
            Record { source: format!("{}", example + 1), input, label, rating: None }
        })
    })
    .collect()
}

/// The test sets of `datasets/` for puzzles of a shape.
fn test_sets(shape: Shape) -> Vec<(String, Vec<Record>)> {
    let mut sets = Vec::new();
    let folder = root().join("datasets").join(shape.folder()).join("test");
    if folder.is_dir() {
        sets.push((folder.display().to_string(), records(&Dataset::load(&folder).unwrap())));
    }
    let hard = root().join("datasets/sudoku-hard/test.csv.gz");
    let puzzles = reader::read_all(shape.family(), &hard).unwrap_or_default();
    if puzzles.first().is_some_and(|puzzle| puzzle.shape == shape) {
        sets.push((hard.display().to_string(), puzzles.into_iter().map(|puzzle| puzzle.record).collect()));
    }
    sets
}

#[test]
fn no_recipe_trains_on_a_bundled_test_set() {
    let mut checked = 0;
    let mut known: Vec<String> = Vec::new();
    for entry in fs::read_dir(root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let recipe = ResolvedRecipe::load(Some(&path), &[]).unwrap().recipe;
        // Files are not here; training from them checks against its own test set.
        if recipe.data.source != DataSource::Generate {
            continue;
        }
        // Several recipes train on the same puzzles.
        let told = format!("{:?}", recipe.data);
        let shape = data::sizes(&recipe.data).unwrap().shape;
        let sets = test_sets(shape);
        if sets.is_empty() || known.contains(&told) {
            continue;
        }
        known.push(told);
        let data = data::load(&recipe.data).unwrap();
        let training = records(data.training().expect("rows"));
        assert!(training.len() >= 1_000);
        for (name, test) in sets {
            let leaks = shape.task().leaks(&test, &training).unwrap();
            for leak in leaks.0 {
                assert!(
                    leak.pairs.is_empty(),
                    "{}: {}: {} of {} in {name}",
                    path.display(),
                    leak.title,
                    leak.pairs.len(),
                    test.len()
                );
            }
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked} sets");
}
