//! Damaged and hostile input: a message and an exit code, never a panic, an abort, or a wrong answer.

use std::{collections::HashMap, fs, path::Path};

use hrm_model::weights::{self, CONFIG_ENTRY, StateDict};

use crate::sandbox::{Run, Sandbox, TINY_RECIPE, assert_says};

const FLAGS: &str = "--seq-len 16 --num-heads 2 --h-cycles 1 --l-cycles 1 --halt-max-steps 3";

/// An error with a message: exit code 1, and nobody panicked.
#[track_caller]
fn told(run: Run, says: &[&str]) {
    let text = run.error();
    assert!(!text.contains("panicked"), "{text}");
    assert_says(&text, says);
}

fn edit(path: &Path, change: impl FnOnce(&mut StateDict, &mut HashMap<String, String>)) {
    let (mut dict, mut metadata) = weights::read_safetensors(path).expect("a model");
    change(&mut dict, &mut metadata);
    weights::write_safetensors(path, &dict, metadata).expect("written");
}

/// The weights of a model at a place, changed.
fn poke(dict: &mut StateDict, name: &str, value: f32) {
    let data = &dict[name];
    let mut values: Vec<f32> = data.to_vec().expect("fp32");
    values[0] = value;
    let shape = data.shape.clone();
    dict.insert(name.to_owned(), hrm_model::burn::tensor::TensorData::new(values, shape));
}

#[test]
fn weights_that_are_not_finite() {
    let sandbox = Sandbox::new();
    let model = sandbox.model("model.safetensors", 4);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        sandbox.hrm("export model.safetensors --out bad.safetensors --force").ok();
        edit(&sandbox.path("bad.safetensors"), |dict, _| poke(dict, "model.inner.lm_head.weight", bad));
        let import = format!("import bad.safetensors --out new {FLAGS}");
        told(sandbox.hrm(&import), &["lm_head.weight", "not finite", "--allow-non-finite"]);
        assert!(!sandbox.path("new").exists());
    }
    let allowed = sandbox.hrm(&format!("import bad.safetensors --out new {FLAGS} --allow-non-finite"));
    assert_says(&allowed.stderr, &["warning", "lm_head.weight"]);
    allowed.ok();
    edit(&model, |dict, _| poke(dict, "q_head.bias", f32::NAN));
    let solved = sandbox.hrm("solve 1....3...2....4. --checkpoint model.safetensors");
    assert_says(&solved.stderr, &["warning", "q_head.bias", "not finite"]);
}

/// A small file that claims to be a large model.
#[test]
fn sizes_are_compared_before_they_are_allocated() {
    let sandbox = Sandbox::new();
    let huge = [
        ("hidden_size", "1000000"),
        ("h_layers", "1000000000000"),
        ("l_layers", "1000"),
        ("num_puzzle_identifiers", "2000000000"),
        ("vocab_size", "1000000"),
        ("expansion", "1e300"),
        ("expansion", "65000"),
        ("puzzle_emb_ndim", "1000000"),
        ("puzzle_emb_len", "18446744073709551615"),
        ("seq_len", "18446744073709551615"),
        ("num_heads", "0"),
        ("halt_max_steps", "4294967296"),
    ];
    for (key, value) in huge {
        let model = sandbox.model("model.safetensors", 4);
        edit(&model, |_, metadata| {
            let json = metadata.get_mut(CONFIG_ENTRY).expect("a configuration");
            let mut config: serde_json::Value = serde_json::from_str(json).expect("JSON");
            if key.starts_with("puzzle_emb") || key == "num_puzzle_identifiers" {
                config["puzzle_emb_ndim"] = 16.into();
            }
            config[key] = serde_json::from_str(value).expect("a number");
            *json = config.to_string();
        });
        for command in [
            "solve 1....3...2....4. --checkpoint model.safetensors",
            "export model.safetensors --out out.safetensors --force",
            "eval --checkpoint model.safetensors --data 1....3...2....4.",
        ] {
            told(sandbox.hrm(command), &["error"]);
        }
    }
}

#[test]
fn headers_that_lie() {
    let sandbox = Sandbox::new();
    let write = |json: &str| {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        sandbox.write("model.safetensors", bytes);
    };
    for json in [
        r#"{"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}"#,
        &"[".repeat(100_000),
        "{}",
    ] {
        write(json);
        for command in ["inspect params --checkpoint", "inspect checkpoint", "export --out x.safetensors"] {
            let run = sandbox.hrm(&format!("{command} model.safetensors"));
            assert!(!run.stderr.contains("panicked") && run.code >= 0, "{json:.90}: {}", run.stderr);
        }
        told(sandbox.hrm("solve 1....3...2....4. --checkpoint model.safetensors"), &["model.safetensors"]);
    }
}

/// What is not small is no configuration, and no file of a checkpoint is written over.
#[test]
fn what_import_and_export_refuse() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    sandbox.hrm("export model.safetensors --out original.safetensors").ok();
    #[cfg(unix)]
    {
        let link = sandbox.path("other.safetensors.partial");
        std::os::unix::fs::symlink(sandbox.write("precious", "precious"), link).expect("a link");
        sandbox.hrm("export model.safetensors --out other.safetensors").ok();
        assert_eq!(sandbox.read("precious"), b"precious");
    }
    sandbox.write("deep.yaml", "[".repeat(100_000));
    told(sandbox.hrm("import original.safetensors --config deep.yaml --out new"), &["at most 65536 bytes"]);
    sandbox.write("run/checkpoints/step-1/state.json", "{}");
    sandbox.write("run/checkpoints/step-1/model.safetensors", "weights");
    for command in [
        "import original.safetensors --out run/checkpoints/step-1",
        "export model.safetensors --out run/checkpoints/step-1/model.safetensors",
    ] {
        told(sandbox.hrm(&format!("{command} --force")), &["is a checkpoint"]);
    }
    assert_eq!(sandbox.read("run/checkpoints/step-1/model.safetensors"), b"weights");
}

/// Bits that are meant as whole numbers are no weights.
#[test]
fn weights_of_another_type() {
    let sandbox = Sandbox::new();
    edit(&sandbox.model("model.safetensors", 4), |dict, _| {
        let data = dict["q_head.bias"].clone();
        let numbers = data.convert_dtype(hrm_model::burn::tensor::DType::I32);
        dict.insert("q_head.bias".to_owned(), numbers);
    });
    let solved = sandbox.hrm("solve 1....3...2....4. --checkpoint model.safetensors");
    told(solved, &["q_head.bias: expected floats, got I32"]);
}

#[test]
fn names_of_tensors_that_lie() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    let with = |name: &str, shape: &[usize]| {
        sandbox.hrm("export model.safetensors --out odd.safetensors --force").ok();
        // What the tensors say is asked here, not what is written beside them.
        std::fs::remove_file(sandbox.path("odd.json")).unwrap();
        edit(&sandbox.path("odd.safetensors"), |dict, _| {
            dict.insert(name.to_owned(), hrm_model::burn::tensor::TensorData::zeros::<f32, _>(shape));
        });
        sandbox.hrm(&format!("import odd.safetensors --out new {FLAGS}"))
    };
    let layer = |index: &str| format!("model.inner.L_level.layers.{index}.mlp.down_proj.weight");
    for index in ["18446744073709551615", "18446744073709551616", "1000000000", "7", "-1", ""] {
        told(with(&layer(index), &[1, 1]), &["L_level.layers"]);
    }
    told(with("model.inner.embed_pos.embedding_weight", &[]), &["embed_pos.embedding_weight has shape []"]);
    told(with("inner.lm_head.weight", &[6, 16]), &["two of its tensors are lm_head.weight"]);
}

#[test]
fn absurd_values() {
    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    let most = i64::MAX.to_string();
    for (set, says) in [
        ("model.halt_max_steps=2147483648", "model.halt_max_steps"),
        (&*format!("model.puzzle_emb_len={most}"), "model.puzzle_emb_len"),
        (&format!("model.puzzle_emb_ndim={most}"), "model.puzzle_emb_ndim"),
        (&format!("train.global_batch_size={most}"), "train.global_batch_size"),
        (&format!("eval.batch_size={most}"), "eval.batch_size"),
        (&format!("train.epochs={most}"), "train.epochs"),
        (&format!("train.max_steps={most}"), "train.max_steps"),
        (&format!("train.lr_warmup_steps={most}"), "train.lr_warmup_steps"),
        (&format!("train.checkpoint_interval={most}"), "train.checkpoint_interval"),
        (&format!("data.train_examples={most}"), "data.train_examples"),
        (&format!("data.box_rows={most}"), "data.box_rows"),
        (&format!("eval.steps=[{most}]"), "eval.steps"),
        (&format!("model.l_cycles={most}"), "model.l_cycles"),
        ("data.min_clues=11", "data.min_clues"),
        ("model.expansion=1e300", "model.expansion"),
        ("model.hidden_size=1000000", "GiB"),
        ("train.global_batch_size=1000000 --set model.hidden_size=65536", "GiB"),
    ] {
        let command = format!("train --config tiny.toml --run-dir run --quiet --set {set}");
        told(sandbox.hrm(&command), &[says]);
        assert!(!sandbox.path("run").exists(), "{set}: nothing is left");
    }
    let pattern = "*a".repeat(40);
    let set = format!("train.groups=[{{params=\"{pattern}\",lr=0.1}}]");
    let run = sandbox
        .command()
        .args(["train", "--config", "tiny.toml", "--run-dir", "run", "--set", &set])
        .output();
    told(Run::from(run.expect("starts")), &["train.groups"]);
}

/// Names of any bytes.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let sandbox = Sandbox::new();
    sandbox.write("tiny.toml", TINY_RECIPE);
    let name = OsStr::from_bytes(b"f\xff\xfe");
    let run = |arguments: &[&OsStr]| Run::from(sandbox.command().args(arguments).output().expect("starts"));
    let text = |text: &'static str| OsStr::new(text);
    let train = [text("train"), text("--config"), text("tiny.toml"), text("--quiet")];
    run(&[&train[..], &[text("--run-dir"), name, text("--set"), text("train.stop_after=5")]].concat()).ok();
    run(&[text("train"), text("--resume"), name, text("--quiet")]).ok();
    let runs: serde_json::Value = run(&[text("runs"), text("."), text("--json")]).json();
    assert!(runs.to_string().contains("12"), "{runs}");
    run(&[text("inspect"), text("checkpoint"), name]).ok();
    let puzzle = text("1....3...2....4.");
    run(&[text("solve"), puzzle, text("--checkpoint"), name, text("--json")]).json();
    sandbox.write("puzzles.txt", puzzle.as_bytes());
    let puzzles = Path::new(name).with_extension("txt");
    fs::rename(sandbox.path("puzzles.txt"), sandbox.path("").join(&puzzles)).expect("renamed");
    run(&[text("solve"), puzzles.as_os_str(), text("--with"), text("dfs")]).ok();
    fs::copy(sandbox.model("m.safetensors", 4), sandbox.path("").join(name).with_extension("safetensors"))
        .expect("copied");
    let file = Path::new(name).with_extension("safetensors");
    run(&[text("export"), file.as_os_str(), text("--out"), text("out.safetensors")]).ok();
}

/// What is given is never deleted, whatever it is, and links are not written through.
#[cfg(unix)]
#[test]
fn files_that_are_given_stay() {
    use std::os::unix::fs::symlink;

    let sandbox = Sandbox::new();
    let download = |set: &str, from: &str| {
        let mut command = sandbox.command();
        command.env("HRM_CACHE", sandbox.path("cache")).args(["data", "download", set, "--from"]);
        Run::from(command.arg(sandbox.path(from)).output().expect("starts"))
    };
    let inside = "cache/arc-1/ARC-AGI.tar.gz";
    sandbox.write(inside, "no archive");
    told(download("arc-1", inside), &["ARC-AGI.tar.gz"]);
    assert_eq!(sandbox.read(inside), b"no archive");
    sandbox.write("bad.tar.gz", "no archive either");
    told(download("arc-1", "bad.tar.gz"), &["bad.tar.gz"]);
    assert_eq!(sandbox.read(inside), b"no archive", "nor is what was there replaced by it");
    assert_eq!(sandbox.read("bad.tar.gz"), b"no archive either");

    let csv = "source,question,answer,rating\na,1.,12,0\n";
    for name in ["train.csv", "test.csv"] {
        sandbox.write(&format!("cache/sudoku-extreme/{name}"), csv);
    }
    download("sudoku-extreme", "cache/sudoku-extreme").ok();
    assert_eq!(sandbox.read("cache/sudoku-extreme/train.csv"), csv.as_bytes());
    sandbox.write("cache/sudoku-extreme/train.csv.part", csv);
    assert_eq!(download("sudoku-extreme", "cache/sudoku-extreme/train.csv.part").code, 1);
    assert_eq!(sandbox.read("cache/sudoku-extreme/train.csv.part"), csv.as_bytes());

    sandbox.write("precious", "precious");
    sandbox.write("new/train.csv", csv);
    sandbox.write("new/test.csv", csv);
    for name in [".lock", "train.csv.part", "train.csv.sha256.new"] {
        let link = sandbox.path("cache/sudoku-extreme").join(name);
        let _ = fs::remove_file(&link);
        symlink(sandbox.path("precious"), &link).expect("a link");
        told(download("sudoku-extreme", "new"), &[name, "symbolic link"]);
        assert_eq!(sandbox.read("precious"), b"precious", "{name}");
        fs::remove_file(&link).expect("the link is still there");
    }
    let part = sandbox.path("cache/sudoku-extreme/train.csv.part");
    fs::hard_link(sandbox.path("new/train.csv"), part).expect("a second name");
    download("sudoku-extreme", "new").ok();
    assert_eq!(sandbox.read("new/train.csv"), csv.as_bytes());
}

/// A dataset is replaced as a whole, and a file of it that changed is told.
#[test]
fn datasets_are_whole() {
    let sandbox = Sandbox::new();
    let generate = |seed: u32, more: &str| {
        let command =
            "data maze generate --size 5x5 --kind unique --min-path 2 --max-path 20 --train 9 --test 3";
        sandbox.hrm(&format!("{command} --seed {seed} --out set {more}"))
    };
    generate(1, "").ok();
    sandbox.write("set/train/notes.txt", "mine");
    let first = sandbox.read("set/train/all__inputs.npy");
    told(generate(2, ""), &["not empty", "--force"]);
    assert_eq!(sandbox.read("set/train/all__inputs.npy"), first);
    generate(2, "--force").ok();
    assert_ne!(sandbox.read("set/train/all__inputs.npy"), first);
    assert_eq!(sandbox.read("set/train/notes.txt"), b"mine");
    for name in ["train.hrm-old", "train.hrm-partial", "test.hrm-old", "test.hrm-partial"] {
        assert!(!sandbox.path("set").join(name).exists(), "{name}");
    }

    sandbox.hrm("data inspect set/train").ok();
    for name in ["all__inputs.npy", "all__labels.npy", "all__puzzle_indices.npy", "dataset.json"] {
        let path = format!("set/train/{name}");
        let whole = sandbox.read(&path);
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            sandbox.write(&path, damaged);
            told(sandbox.hrm("data inspect set/train"), &[name]);
        }
        sandbox.write(&path, whole);
    }
    // What a kill in the middle of a replacement leaves.
    fs::rename(sandbox.path("set/train"), sandbox.path("set/train.hrm-old")).expect("moved");
    fs::create_dir(sandbox.path("set/train.hrm-partial")).expect("folder");
    generate(3, "--force").ok();
    assert!(!sandbox.path("set/train.hrm-partial").exists() && !sandbox.path("set/train.hrm-old").exists());
    sandbox.hrm("data inspect set/train").ok();
}
