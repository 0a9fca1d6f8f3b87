use std::{fs, path::Path};

use hrm_data::{
    dataset::{Overwrite, save_pair},
    puzzles::{
        maze::Mazes,
        sudoku::{Generator, Geometry, Sudoku},
    },
    reader,
    registry::Family,
    task::{AnyTask, GenerateOptions, Record, with_hints, write_records},
};

use super::*;
use crate::recipe::{DataConfig, DataSource, OnLeak, ResolvedRecipe};

fn config(sets: &[&str]) -> DataConfig {
    let small = ["data.train_examples=8", "data.test_examples=4"];
    let sets: Vec<String> = small.iter().chain(sets).map(|set| (*set).to_owned()).collect();
    ResolvedRecipe::load(None, &sets).unwrap_or_else(|e| panic!("{e}")).recipe.data
}

/// What `hrm inspect params` takes for the sizes is what training gives the model.
#[test]
fn sizes_are_those_of_the_loaded_data() {
    let dir = tempfile::tempdir().unwrap();
    let task = r#"{"train": [{"input": [[1, 0, 3]], "output": [[2]]}], "test": [{"input": [[4]], "output": [[5]]}]}"#;
    let file = |name: &str, text: String| {
        fs::write(dir.path().join(name), text).unwrap();
        format!("{:?}", dir.path().join(name))
    };
    let training = file("t.json", format!(r#"{{"a": {task}, "c": {}}}"#, task.replace("[4]", "[7]")));
    let evaluation = file("e.json", format!(r#"{{"b": {}}}"#, task.replace("[4]", "[6]")));
    let arc = [
        "data.task=arc".to_owned(),
        "data.source=json".to_owned(),
        format!("data.path={training}"),
        format!("data.test_path={evaluation}"),
        "data.augmentations=3".to_owned(),
        "data.on_leak=allow".to_owned(),
    ];
    let families: [&[&str]; 6] = [
        &["data.box_rows=2", "data.box_cols=3", "data.min_clues=12", "data.max_clues=20"],
        &["data.task=maze", "data.grid_rows=5", "data.grid_cols=7", "data.min_path=5"],
        &["data.task=killer", "data.box_rows=2", "data.box_cols=2"],
        &["data.task=samurai", "data.min_clues=250", "data.max_clues=300"],
        &["data.task=queens", "data.grid_rows=8", "data.grid_cols=8"],
        &arc.each_ref().map(String::as_str),
    ];
    for sets in families {
        let config = config(sets);
        let data = load(&config).unwrap_or_else(|e| panic!("{e}"));
        let metadata = data.metadata();
        let expected = Sizes {
            shape: data.shape,
            vocab_size: metadata.vocab_size,
            seq_len: metadata.seq_len,
            num_puzzle_identifiers: Some(metadata.num_puzzle_identifiers),
        };
        assert_eq!(sizes(&config).unwrap(), expected, "{sets:?}");
        assert_eq!(metadata.num_puzzle_identifiers > 1, sets == families[5], "{sets:?}");
    }
    fs::remove_file(dir.path().join("t.json")).unwrap();
    let absent = sizes(&config(families[5])).unwrap();
    assert_eq!((absent.seq_len, absent.num_puzzle_identifiers), (900, None));
}

#[test]
fn mazes_of_a_folder_have_the_size_of_the_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let task = AnyTask::new(Mazes::new(4, 9));
    let options = GenerateOptions { min_path: Some(6), ..GenerateOptions::default() };
    let split = task.split(&options, 1, (3, 2)).unwrap();
    let [train, test] = [&split.train, &split.test].map(|records| task.dataset(records, 0, 0).unwrap());
    save_pair(dir.path(), &train, Some(&test), Overwrite::No).unwrap();
    let path = format!("data.path={:?}", dir.path());
    let of = |rows: usize, cols: usize| {
        let sizes = [format!("data.grid_rows={rows}"), format!("data.grid_cols={cols}")];
        load(&config(&["data.task=maze", "data.source=dataset", &path, &sizes[0], &sizes[1]]))
    };
    assert_eq!(of(4, 9).unwrap().train_examples(), 3);
    // 36 cells, all of them: only the paths tell.
    for (rows, cols) in [(6, 6), (9, 4), (30, 30)] {
        let error = of(rows, cols).unwrap_err().to_string();
        assert!(error.contains("data.grid_rows and data.grid_cols"), "{error}");
    }
}

/// Training and `hrm data sudoku` go by one rule: [`leaks`](hrm_data::task::Task::leaks).
#[test]
fn shared_solution_grids_are_leaks() {
    let dir = tempfile::tempdir().unwrap();
    let mut generator = Generator::new(Geometry::S9, 1);
    let file = dir.path().join("all.csv");
    let all: Vec<_> = (0..6).map(|index| generator.generate(index)).collect();
    let rows: Vec<String> =
        all.iter().map(|made| format!("{},{}", made.puzzle.to_line(), made.solution.to_line())).collect();
    fs::write(&file, format!("question,answer\n{}\n", rows.join("\n"))).unwrap();
    let task = AnyTask::new(Sudoku { geometry: Geometry::S9 });
    let puzzles = reader::read_all(Family::Sudoku, &file).unwrap();
    let records: Vec<Record> = puzzles.into_iter().map(|puzzle| puzzle.record).collect();
    let path = |name: &str| dir.path().join(name);
    let write = |name: &str, records: &[_]| write_records(&path(name), &task, records).unwrap();
    // Of puzzle 1, the test has the very image; of puzzle 2 another puzzle with the same solution.
    write("train.csv", &records);
    let easier = with_hints(&task, &records[1..2], 1, 0).unwrap();
    assert_ne!(easier[0].input, records[1].input);
    write("test.csv", &[&records[..1], &easier].concat());
    let load_with = |on_leak: OnLeak, train: &Path, test: Option<&Path>| {
        load(&DataConfig {
            source: DataSource::Csv,
            path: train.display().to_string(),
            test_path: test.map(|path| path.display().to_string()).unwrap_or_default(),
            train_examples: 0,
            test_examples: if test.is_some() { 0 } else { 1 },
            on_leak,
            ..config(&[])
        })
    };
    let (train, test) = (path("train.csv"), path("test.csv"));
    let error = load_with(OnLeak::Refuse, &train, Some(&test)).unwrap_err().to_string();
    for part in ["1 equivalent to puzzles", "1 with the solution grid", "data.on_leak = \"drop\""] {
        assert!(error.contains(part), "{error}");
    }
    let dropped = load_with(OnLeak::Drop, &train, Some(&test)).unwrap();
    assert_eq!((dropped.train_examples(), dropped.test_examples(), dropped.warnings.len()), (4, 2, 1));
    let allowed = load_with(OnLeak::Allow, &train, Some(&test)).unwrap();
    assert_eq!(allowed.train_examples(), 6);
    assert!(allowed.warnings[0].contains("not held out"), "{:?}", allowed.warnings);
    // What is held out of a file takes its whole grid along.
    write("twins.csv", &[records.clone(), with_hints(&task, &records, 1, 0).unwrap()].concat());
    let held_out = load_with(OnLeak::Refuse, &path("twins.csv"), None).unwrap();
    assert_eq!((held_out.train_examples(), held_out.test_examples()), (10, 1));
}
