//! What a disk, a hand or another process did to a run is told, and never trained on.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hrm_train::{
    checkpoint::{self, Best},
    trainer::saved_recipe,
};
use serde_json::Value;

use common::{curve, recipe, run};

/// A run of 6 steps with checkpoints of steps 4 and 6, and the whole one of 8 steps that it is a part of.
fn stopped_run(root: &Path) -> (PathBuf, PathBuf) {
    let (whole, part) = (root.join("whole"), root.join("part"));
    let sets = ["train.max_steps=8", "train.checkpoint_interval=2", "eval.interval=0"];
    run(&whole, recipe(&sets), false).0.unwrap();
    run(&part, recipe(&[&sets[..], &["train.stop_after=6"]].concat()), false).0.unwrap();
    (whole, part)
}

#[track_caller]
fn resume(dir: &Path) -> Vec<String> {
    let (result, messages) = run(dir, saved_recipe(dir, &[]).unwrap(), true);
    result.unwrap();
    messages
}

fn edit(path: &Path, change: impl Fn(&str) -> String) {
    let text = fs::read_to_string(path).unwrap();
    let changed = change(&text);
    assert_ne!(text, changed);
    fs::write(path, changed).unwrap();
}

/// As versions before the checksum wrote it.
fn unseal(path: &Path, change: impl Fn(&mut Value)) {
    let mut state: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for field in ["checksum", "metrics"] {
        state.as_object_mut().unwrap().remove(field).unwrap();
    }
    change(&mut state);
    fs::write(path, serde_json::to_vec_pretty(&state).unwrap()).unwrap();
}

#[test]
fn every_byte_of_the_state_counts() {
    let root = tempfile::tempdir().unwrap();
    let (_, dir) = stopped_run(root.path());
    let folder = dir.join("checkpoints/step-6");
    let path = folder.join("state.json");
    let whole = fs::read(&path).unwrap();
    checkpoint::verify(&folder).unwrap();
    // All of the end with its checksum, and every seventh byte before.
    let places = (0..whole.len()).filter(|at| at % 7 == 0 || at + 120 > whole.len());
    for at in places {
        for flip in [1 << (at % 8), 0x80] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            fs::write(&path, &damaged).unwrap();
            assert!(checkpoint::verify(&folder).is_err(), "byte {at} of {}", whole.len());
        }
    }
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(checkpoint::verify(&folder).is_err(), "cut to {length}");
    }
}

#[test]
fn a_state_that_was_changed_falls_back() {
    let root = tempfile::tempdir().unwrap();
    let (whole, dir) = stopped_run(root.path());
    let expected = curve(&whole);
    let fresh = root.path().join("fresh");
    let state = || fresh.join("checkpoints/step-6/state.json");
    let falls_back = |what: &str, change: &dyn Fn()| {
        let _ = fs::remove_dir_all(&fresh);
        copy(&dir, &fresh);
        change();
        let messages = resume(&fresh);
        assert!(messages[0].contains("damaged") && messages[0].contains("step-6"), "{what}: {messages:?}");
        assert!(messages.iter().any(|message| message == "resumed after step 4"), "{what}: {messages:?}");
        assert_eq!(curve(&fresh), expected, "{what}");
    };
    falls_back("step", &|| edit(&state(), |text| text.replace("\"step\": 6,", "\"step\": 3,")));
    falls_back("recipe", &|| edit(&state(), |text| text.replace("max_steps", "max_stebs")));
    // Without a checksum what cannot be true is noticed all the same.
    let change = |change: &dyn Fn(&mut Value)| unseal(&state(), change);
    falls_back("old, step", &|| change(&|state| state["step"] = 3.into()));
    falls_back("old, huge step", &|| change(&|state| state["step"] = u64::MAX.into()));
    falls_back("old, iteration", &|| change(&|state| state["sampler"]["iteration"] = u64::MAX.into()));
    falls_back("old, batches", &|| change(&|state| state["sampler"]["batches"] = 5.into()));
    falls_back("old, updates", &|| {
        change(&|state| {
            state["updates"].as_object_mut().unwrap().values_mut().for_each(|n| *n = u64::MAX.into())
        })
    });
    falls_back("old, recipe", &|| {
        change(&|state| {
            state["recipe"] = state["recipe"].as_str().unwrap().replace("max_steps", "max_stebs").into()
        })
    });
    falls_back("old, a device for a file", &|| {
        change(&|state| state["sha256"]["/dev/zero"] = "00".into());
    });
    falls_back("old, a folder above", &|| {
        change(&|state| state["sha256"]["../step-4/model.safetensors"] = "00".into());
    });

    // One that is as earlier versions wrote it goes on.
    let _ = fs::remove_dir_all(&fresh);
    copy(&dir, &fresh);
    change(&|_| {});
    assert!(resume(&fresh).iter().any(|message| message == "resumed after step 6"));
    assert_eq!(curve(&fresh), expected);
}

/// Checksums that hold, and contents that fit no run: an error for each, and no panic.
#[test]
fn contents_that_fit_no_run_fall_back() {
    use burn::tensor::TensorData;
    use hrm_data::checksum::sha256;
    use hrm_model::weights::{self, StateDict};

    let root = tempfile::tempdir().unwrap();
    let (whole, dir) = stopped_run(root.path());
    let fresh = root.path().join("fresh");
    let folder = fresh.join("checkpoints/step-6");
    let rewritten = |file: &str, change: &dyn Fn(&mut StateDict)| {
        let _ = fs::remove_dir_all(&fresh);
        copy(&dir, &fresh);
        let path = folder.join(file);
        let (mut dict, metadata) = weights::read_safetensors(&path).unwrap();
        change(&mut dict);
        weights::write_safetensors(&path, &dict, metadata).unwrap();
        let sum = sha256(&fs::read(&path).unwrap());
        unseal(&folder.join("state.json"), |state| state["sha256"][file] = sum.clone().into());
        let messages = resume(&fresh);
        assert!(messages[0].contains("step-6"), "{messages:?}");
        assert!(messages.iter().any(|message| message == "resumed after step 4"), "{messages:?}");
        assert_eq!(curve(&fresh), curve(&whole));
    };
    let floats = |shape: &[usize]| TensorData::zeros::<f32, _>(shape);
    let whole_numbers =
        |shape: &[usize], value: i64| TensorData::new(vec![value; shape.iter().product()], shape.to_vec());
    let train = |key: &'static str, data: Option<TensorData>| {
        rewritten("train.safetensors", &|dict| {
            assert!(dict.remove(key).is_some(), "{key}");
            dict.extend(data.clone().map(|data| (key.to_owned(), data)));
        });
    };
    train("carry.z_h", Some(floats(&[8, 17, 31])));
    train("carry.z_l", Some(floats(&[7, 17, 32])));
    train("carry.z_l", None);
    train("carry.steps", Some(whole_numbers(&[8], i64::MAX)));
    train("carry.steps", Some(floats(&[8])));
    train("carry.inputs", Some(whole_numbers(&[8, 16], 1000)));
    train("carry.inputs", Some(whole_numbers(&[8, 16], -1)));
    train("carry.labels", Some(whole_numbers(&[16, 8], 1)));
    train("carry.puzzle_identifiers", Some(whole_numbers(&[8], 5)));
    train("adam.m.q_head.weight", Some(floats(&[3])));
    train("adam.v.q_head.weight", Some(floats(&[0])));
    train("adam.m.q_head.bias", Some(TensorData::new(vec![1.0, f32::NAN], [2])));
    train("adam.v.q_head.bias", Some(TensorData::new(vec![f32::INFINITY, 0.0], [2])));
    rewritten("model.safetensors", &|dict| {
        dict.insert("H_init".to_owned(), floats(&[31]));
    });
}

#[test]
fn damaged_checkpoints_take_no_place_among_the_newest() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    let sets =
        ["train.max_steps=14", "train.checkpoint_interval=3", "eval.interval=0", "train.stop_after=12"];
    run(&dir, recipe(&sets), false).0.unwrap();
    let names = || -> Vec<u64> {
        checkpoint::list(&dir.join("checkpoints")).unwrap().into_iter().map(|(step, _)| step).collect()
    };
    assert_eq!(names(), [9, 12]);
    let newest = dir.join("checkpoints/step-12/model.safetensors");
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let go_on = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        run(&dir, saved_recipe(&dir, &sets).unwrap(), true).0.unwrap()
    };
    // The one just written stays, though a damaged one has a higher number.
    let summary = go_on(&["train.keep_checkpoints=1", "train.checkpoint_interval=1", "train.stop_after=10"]);
    assert!(summary.checkpoint.ends_with("step-10"));
    assert_eq!(names(), [10, 12]);
    go_on(&["train.keep_checkpoints=2", "train.checkpoint_interval=1", "train.stop_after=11"]);
    assert_eq!(names(), [10, 11, 12], "two whole ones");
    go_on(&["train.keep_checkpoints=2", "train.checkpoint_interval=1", "train.stop_after=13"]);
    assert_eq!(names(), [12, 13], "written again");
    checkpoint::verify(&dir.join("checkpoints/step-12")).unwrap();
}

#[test]
fn a_damaged_mark_is_told_and_removes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    let sets =
        ["train.checkpoint_interval=1", "train.keep_checkpoints=1", "eval.interval=0", "train.stop_after=3"];
    run(&dir, recipe(&sets), false).0.unwrap();
    let folder = dir.join("checkpoints");
    checkpoint::mark_best(&folder, &Best { step: 3, metric: "exact_accuracy".to_owned(), value: 0.5 })
        .unwrap();
    for broken in [
        "",
        "{",
        "{\"checkpoint\":\"step-3\"}",
        "{\"checkpoint\":\"../../x\",\"step\":3,\"metric\":\"m\",\"value\":1}",
    ] {
        fs::write(folder.join("best"), broken).unwrap();
        let error = checkpoint::model_file(&dir).unwrap_err().to_string();
        assert!(error.contains("best") && error.contains("damaged"), "{error}");
    }
    let (result, messages) = run(&dir, saved_recipe(&dir, &["train.stop_after=6".to_owned()]).unwrap(), true);
    result.unwrap();
    assert!(
        messages.iter().any(|m| m.starts_with("warning") && m.contains("best is damaged")),
        "{messages:?}"
    );
    assert!(folder.join("step-3").exists(), "it may be the best");
}

#[test]
fn weights_are_checked_wherever_they_are_used() {
    let root = tempfile::tempdir().unwrap();
    let (_, dir) = stopped_run(root.path());
    let file = dir.join("checkpoints/step-6/model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 4;
    fs::write(&file, bytes).unwrap();
    for path in [&dir, &dir.join("checkpoints/step-6"), &dir.join("checkpoints/last"), &file] {
        let error =
            checkpoint::load_model::<hrm_backend::Cpu>(path, &Default::default()).unwrap_err().to_string();
        assert!(error.contains("damaged checkpoint") && error.contains("checksum differs"), "{error}");
    }
    let from = format!("train.init_from={}", dir.display());
    let (result, _) = run(&root.path().join("new"), recipe(&["train.max_steps=8", &from]), false);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("train.init_from") && error.contains("checksum differs"), "{error}");
    assert!(!root.path().join("new").exists());
}

#[test]
fn a_damaged_log_never_blocks_a_run() {
    let root = tempfile::tempdir().unwrap();
    let (whole, dir) = stopped_run(root.path());
    let fresh = root.path().join("fresh");
    let after = |change: &dyn Fn(&mut Vec<u8>)| {
        let _ = fs::remove_dir_all(&fresh);
        copy(&dir, &fresh);
        let path = fresh.join("metrics.jsonl");
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        resume(&fresh)
    };
    assert!(!after(&|_| {}).iter().any(|message| message.starts_with("warning")));
    assert_eq!(curve(&fresh), curve(&whole));
    let told = |messages: Vec<String>, says: &[&str]| {
        for says in says {
            let tells = |message: &String| message.starts_with("warning") && message.contains(says);
            assert!(messages.iter().any(tells), "{says:?} in {messages:?}");
        }
        assert_eq!(curve(&fresh).last(), curve(&whole).last());
    };
    told(after(&|bytes| bytes[30] = 0xff), &["not what was written", "cannot read line 1", "step 1:"]);
    // A digit of a loss.
    let digit = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(8).position(|w| w == b"\"loss\":1").unwrap() + 7;
        bytes[at] = b'2';
    };
    told(after(&digit), &["not what was written up to step 6"]);
    told(after(&Vec::clear), &["steps 1 to 6"]);
    told(after(&|bytes| bytes.truncate(bytes.len() - 3)), &["step 6"]);
    told(after(&|bytes| bytes.fill(0)), &["not what was written", "steps 1 to 6"]);
    // What is added after the checkpoint is no part of it.
    assert!(!after(&|bytes| bytes.extend(b"\xff\xff")).iter().any(|message| message.starts_with("warning")));
}

#[test]
fn a_finished_run_that_is_resumed_adds_nothing() {
    let root = tempfile::tempdir().unwrap();
    for interval in [5, 4] {
        let dir = root.path().join(interval.to_string());
        let interval = format!("train.checkpoint_interval={interval}");
        let (result, _) = run(&dir, recipe(&["train.max_steps=8", &interval]), false);
        let exact = result.unwrap().eval.map(|eval| eval.exact_accuracy);
        let before = curve(&dir);
        for _ in 0..2 {
            let (result, messages) = run(&dir, saved_recipe(&dir, &[]).unwrap(), true);
            assert_eq!(result.unwrap().eval.map(|eval| eval.exact_accuracy), exact);
            assert!(!messages.iter().any(|message| message.starts_with("warning")), "{messages:?}");
            assert_eq!(curve(&dir), before, "{interval}");
        }
    }
}

/// A second process is told who works on the run; one that was killed blocks nobody.
#[test]
fn one_process_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let (whole, dir) = stopped_run(root.path());
    let lock = hrm_train::run::RunLock::take(&dir).unwrap();
    let new = root.path().join("new");
    fs::create_dir(&new).unwrap();
    let begins = hrm_train::run::RunLock::take(&new).unwrap();
    for (dir, recipe, resumes) in [(&dir, saved_recipe(&dir, &[]).unwrap(), true), (&new, recipe(&[]), false)]
    {
        let error = run(dir, recipe, resumes).0.unwrap_err().to_string();
        assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
    }
    drop((lock, begins));
    // The file of a process that is gone.
    fs::write(dir.join("lock"), "process 1 on elsewhere since 1970\n").unwrap();
    resume(&dir);
    assert_eq!(curve(&dir), curve(&whole));
}

/// What stands in the place of a run's files and is no file: told, not waited for, and not written through.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_told() {
    use std::os::unix::fs::symlink;

    let root = tempfile::tempdir().unwrap();
    let (_, dir) = stopped_run(root.path());
    let precious = root.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    for (name, target) in [("lock", &*precious), ("metrics.jsonl", Path::new("/dev/zero"))] {
        let (place, aside) = (dir.join(name), root.path().join("aside"));
        fs::rename(&place, &aside).unwrap();
        symlink(target, &place).unwrap();
        let error = run(&dir, saved_recipe(&dir, &[]).unwrap(), true).0.unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("not a file"), "{error}");
        fs::rename(&aside, &place).unwrap();
    }
    symlink(&precious, dir.join("environment.json.partial")).unwrap();
    resume(&dir);
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    // A checkpoint with a device in it is a damaged one.
    let part = dir.join("checkpoints/step-8/train.safetensors");
    fs::remove_file(&part).unwrap();
    symlink("/dev/zero", &part).unwrap();
    assert!(checkpoint::verify(part.parent().unwrap()).is_err());
}

/// An average that is not finite would stay so, and no step tells it.
#[test]
fn an_average_that_is_not_finite_falls_back() {
    use hrm_data::checksum::sha256;
    use hrm_model::weights;

    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("run");
    let sets = ["train.ema=0.9", "train.checkpoint_interval=2", "eval.interval=0", "train.stop_after=4"];
    run(&dir, recipe(&sets), false).0.unwrap();
    let folder = dir.join("checkpoints/step-4");
    let path = folder.join("ema.safetensors");
    let (mut dict, metadata) = weights::read_safetensors(&path).unwrap();
    dict.insert("q_head.bias".to_owned(), burn::tensor::TensorData::new(vec![0.0, f32::NAN], [2]));
    weights::write_safetensors(&path, &dict, metadata).unwrap();
    let sum = sha256(&fs::read(&path).unwrap());
    unseal(&folder.join("state.json"), |state| state["sha256"]["ema.safetensors"] = sum.clone().into());
    let (result, messages) = run(&dir, saved_recipe(&dir, &["train.stop_after=5".to_owned()]).unwrap(), true);
    result.unwrap();
    assert!(messages[0].contains("q_head.bias is not finite"), "{messages:?}");
    assert!(messages.iter().any(|message| message == "resumed after step 2"), "{messages:?}");
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}
