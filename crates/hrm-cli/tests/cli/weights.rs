//! `hrm import` and `hrm export`.

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use hrm_backend::Cpu;
use hrm_model::{
    ForwardDtype, Hrm, Mixer, ModelConfig, PositionEncoding, RecurrenceKind,
    weights::{self, StateDict},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde_json::Value;

use crate::sandbox::{Run, Sandbox, assert_says};

#[path = "../../../hrm-model/tests/torch/mod.rs"]
mod torch;

const FLAGS: &str = "--seq-len 16 --num-heads 2 --h-cycles 1 --l-cycles 1 --halt-max-steps 3";

fn write(path: &Path, dict: &StateDict) {
    weights::write_safetensors(path, dict, HashMap::new()).expect("written");
}

#[test]
fn export_import_export_is_exact() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    sandbox.hrm("export model.safetensors --out a.safetensors").ok();
    let text = sandbox.hrm(&format!("import a.safetensors --out imported {FLAGS}")).ok();
    assert_says(&text, &["hidden 16", "1 + 1 layers", "16 tokens of 6", "imported/model.safetensors"]);
    sandbox.hrm("export imported --out b.safetensors").ok();
    assert_eq!(sandbox.read("a.safetensors"), sandbox.read("b.safetensors"));
    // The imported model computes the same.
    let answer = |checkpoint: &str| {
        let report = sandbox.hrm(&format!("solve 1....3...2....4. --checkpoint {checkpoint} --json")).json();
        (report["puzzles"][0]["solution"].clone(), report["puzzles"][0]["q_halt"].clone())
    };
    assert_eq!(answer("model.safetensors"), answer("imported"));
}

#[test]
fn what_the_tensors_do_not_tell_must_be_given() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    sandbox.hrm("export model.safetensors --out a.safetensors").ok();
    // The configuration that it wrote would tell everything.
    fs::remove_file(sandbox.path("a.json")).expect("a configuration");
    let import = |args: &str| sandbox.hrm(&format!("import a.safetensors --out new {args}")).error();
    assert_says(&import(""), &["--seq-len", "--num-heads", "--h-cycles", "--l-cycles", "--halt-max-steps"]);
    let text = import("--seq-len 16 --h-cycles 1 --l-cycles 1 --halt-max-steps 3");
    assert_says(&text, &["num_heads (--num-heads)"]);
    assert!(!text.contains("--seq-len"), "{text}");
    assert_says(&import(&FLAGS.replace("--num-heads 2", "--num-heads 3")), &["num_heads = 3", "divisor"]);

    let original = r#"{"name": "hrm", "arch": {"H_cycles": 1, "L_cycles": 1, "H_layers": 1, "L_layers": 1, "num_heads": 2,
        "hidden_size": 16, "expansion": 4, "puzzle_emb_ndim": 16, "pos_encodings": "rope", "halt_max_steps": 3,
        "halt_exploration_prob": 0.1, "forward_dtype": "float32", "loss": {"name": "x"}}, "seq_len": 16}"#;
    sandbox.write("original.json", original);
    sandbox.hrm("import a.safetensors --out file.safetensors --config original.json").ok();
    sandbox
        .write("flat.toml", "H_cycles = 1\nL_cycles = 1\nnum_heads = 2\nseq_len = 16\nhalt_max_steps = 3\n");
    sandbox.hrm("import a.safetensors --out flat --config flat.toml").ok();
    sandbox.write("wide.json", original.replace("\"hidden_size\": 16", "\"hidden_size\": 512"));
    assert_says(&import("--config wide.json"), &["hidden_size = 512, the tensors say 16"]);
    sandbox.write("odd.json", original.replace("H_cycles", "H_cicles"));
    assert_says(&import("--config odd.json"), &["h_cycles"]);
    // YAML, as the original writes it beside its checkpoints, is wider than JSON.
    sandbox.write("original.yaml", original);
    sandbox.hrm("import a.safetensors --out from-yaml --config original.yaml").ok();
    sandbox.write("all_config.yaml", "arch: [\n");
    assert_says(&import("--config all_config.yaml"), &["all_config.yaml", "line"]);
    sandbox.write("all_config.txt", "arch:\n");
    assert_says(&import("--config all_config.txt"), &[".json, .toml or .yaml"]);
    assert!(!sandbox.path("new").exists(), "nothing is written");
}

/// What the original leaves behind: weights without an ending, its configuration, the names of the data set.
const ALL_CONFIG: &str = "\
arch:
  H_cycles: 1
  H_layers: 1
  L_cycles: 1
  L_layers: 1
  expansion: 4
  halt_exploration_prob: 0.1
  halt_max_steps: 3
  hidden_size: 16
  loss:
    loss_type: stablemax_cross_entropy
    name: losses@ACTLossHead
  name: hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1
  num_heads: 2
  pos_encodings: rope
  puzzle_emb_ndim: 16
beta1: 0.9
checkpoint_path: checkpoints/Arc-aug-1000 ACT-torch/HierarchicalReasoningModel_ACTV1 x
data_path: data/arc-aug-1000
eval_save_outputs: []
global_batch_size: 768
lr: 0.0001
project_name: null
";

#[test]
fn a_folder_of_the_original_needs_no_options() {
    let sandbox = Sandbox::new();
    sandbox.arc_model("model.safetensors", 30, 3);
    sandbox.hrm("export model.safetensors --out a.safetensors").ok();
    sandbox.write("run/all_config.yaml", ALL_CONFIG);
    sandbox.write("run/step_90", "older, and damaged");
    fs::rename(sandbox.path("a.safetensors"), sandbox.path("run/step_1000.safetensors")).expect("moved");
    fs::remove_file(sandbox.path("a.json")).expect("a configuration");
    let text = sandbox.hrm("import run --out bare").ok();
    assert_says(&text, &["900 tokens of 12", "3 rows", "--identifiers"]);
    sandbox.write("run/identifiers.json", r#"["<blank>", "a", "a_t1_0123456789"]"#);
    assert_says(&sandbox.hrm("import run --out kept").ok(), &["the names of 3 rows"]);
    assert_eq!(sandbox.read("bare/model.safetensors"), sandbox.read("kept/model.safetensors"));
    sandbox.write("other.json", r#"["<blank>"]"#);
    let error = sandbox.hrm("import run --identifiers other.json --out no").error();
    assert_says(&error, &["other.json", "the 3 rows of the puzzle embedding, got 1"]);
    assert!(!sandbox.path("no").exists());
    sandbox.write("empty/all_config.yaml", ALL_CONFIG);
    assert_says(&sandbox.hrm("import empty --out no").error(), &["empty: expected weights in it"]);

    // Out and in again, without options: the same bytes, and the names too.
    sandbox.hrm("export kept --out out/b.safetensors").ok();
    sandbox.hrm("import out/b.safetensors --out again").ok();
    for file in ["model.safetensors", "identifiers.json"] {
        assert_eq!(sandbox.read(&format!("again/{file}")), sandbox.read(&format!("kept/{file}")), "{file}");
    }
    // The names of a run stand above its checkpoints.
    sandbox.arc_model("trained/checkpoints/step-1/model.safetensors", 30, 3);
    sandbox.write("trained/identifiers.json", r#"["<blank>", "a", "b"]"#);
    sandbox.hrm("export trained/checkpoints/step-1 --out of-run/c.safetensors").ok();
    sandbox.hrm("import of-run/c.safetensors --out of-run/again").ok();
    let names = String::from_utf8(sandbox.read("of-run/again/identifiers.json")).expect("text");
    assert_eq!(names.trim(), r#"["<blank>","a","b"]"#);
    // What the original cannot read is not written.
    sandbox.lattice("lattice.safetensors", 4);
    let error = sandbox.hrm("export lattice.safetensors --out no.safetensors").error();
    assert_says(&error, &["lattice.safetensors", "by groups"]);
    assert!(!sandbox.path("no.safetensors").exists());
}

/// The file of `torch.save` with these tensors, as `torch.compile` and the loss head name them.
fn of_torch(dict: &StateDict) -> Vec<u8> {
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let mut storages = Vec::new();
    let specs: Vec<torch::Spec> = dict
        .iter()
        .enumerate()
        .map(|(number, (name, data))| {
            let bytes = data.clone().convert::<f32>().as_bytes().to_vec();
            let shape: Vec<i64> = data.shape.iter().map(|&size| size as i64).collect();
            let strides: Vec<i64> = (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
            let (name, key) = (leak(format!("_orig_mod.model.inner.{name}")), leak(number.to_string()));
            let spec = torch::spec(name, key, bytes.len() as i64 / 4, 0, &shape, &strides);
            storages.push((key, bytes));
            spec
        })
        .collect();
    let storages: Vec<(&str, &[u8])> = storages.iter().map(|(key, bytes)| (*key, bytes.as_slice())).collect();
    torch::archive(&torch::pickle(&specs), &storages)
}

/// From a server of this machine in the place of the hub.
#[test]
fn a_published_model_comes_from_the_hub() {
    let sandbox = Sandbox::new();
    sandbox.arc_model("model.safetensors", 30, 3);
    sandbox.hrm("export model.safetensors --out a.safetensors").ok();
    let (dict, _) = weights::read_safetensors(&sandbox.path("a.safetensors")).expect("weights");
    let checkpoint = of_torch(&dict);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let hub = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    // The thread ends with the test's process.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let path = request[0].split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, body) = match path.as_str() {
                "/owner/HRM-arc/resolve/main/checkpoint" => ("200 OK", checkpoint.as_slice()),
                "/owner/HRM-arc/resolve/main/all_config.yaml" => ("200 OK", ALL_CONFIG.as_bytes()),
                _ => ("404 Not Found", &b""[..]),
            };
            log.lock().expect("a log").push(path);
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    let import = |args: &str| -> Run {
        let mut command = sandbox.command();
        command.env("HF_ENDPOINT", &hub).env("HRM_CACHE", sandbox.path("cache"));
        command.arg("import").args(args.split_whitespace()).output().expect("starts").into()
    };
    let text = import("hf:owner/HRM-arc --out published").ok();
    assert_says(&text, &["imported hf:owner/HRM-arc", "900 tokens of 12", "3 rows"]);
    sandbox.write("all_config.yaml", ALL_CONFIG);
    sandbox.hrm("import a.safetensors --config all_config.yaml --out here").ok();
    assert_eq!(sandbox.read("published/model.safetensors"), sandbox.read("here/model.safetensors"));
    // What is in the cache is not fetched again.
    assert_eq!(asked.lock().expect("a log").len(), 2);
    import("hf:owner/HRM-arc --out again").ok();
    assert_eq!(asked.lock().expect("a log").len(), 2);
    assert_says(&import("hf:owner/absent --out no").error(), &["/owner/absent/", "404"]);
    assert!(!sandbox.path("no").exists());
}

#[test]
fn weights_of_something_else_are_named() {
    let sandbox = Sandbox::new();
    let model = sandbox.model("model.safetensors", 4);
    let (dict, _) = weights::read_safetensors(&model).expect("model");
    let import = |name: &str| sandbox.hrm(&format!("import {name} --out new {FLAGS}")).error();
    let other = dict.iter().map(|(key, data)| (format!("decoder.{key}"), data.clone()));
    write(&sandbox.path("other.safetensors"), &other.collect());
    assert_says(&import("other.safetensors"), &["not weights of the original HRM or TRM", "decoder."]);
    let mut lacking = dict.clone();
    lacking.remove("L_init");
    lacking.insert("surplus.weight".to_owned(), dict["H_init"].clone());
    write(&sandbox.path("lacking.safetensors"), &lacking);
    assert_says(&import("lacking.safetensors"), &["L_init: missing", "surplus.weight: not a parameter"]);
    sandbox.write("broken.pt", b"PK\x03\x04nonsense");
    assert_says(&import("broken.pt"), &["broken.pt", "PyTorch"]);
    sandbox.write("weights.h5", "?");
    assert_says(&import("weights.h5"), &["weights.h5", ".safetensors, .pt or .pth"]);
    assert_says(&import("absent.pt"), &["absent.pt"]);
    assert!(!sandbox.path("new").exists(), "nothing is written");
}

#[test]
fn nothing_is_overwritten_unasked() {
    let sandbox = Sandbox::new();
    sandbox.model("model.safetensors", 4);
    sandbox.write("mine.safetensors", "mine");
    let export = "export model.safetensors --out mine.safetensors";
    assert_says(&sandbox.hrm(export).error(), &["exists already", "--force"]);
    assert_eq!(sandbox.read("mine.safetensors"), b"mine");
    sandbox.hrm(&format!("{export} --force")).ok();
    let import = format!("import mine.safetensors --out model.safetensors {FLAGS}");
    let before = sandbox.read("model.safetensors");
    assert_says(&sandbox.hrm(&import).error(), &["exists already", "--force"]);
    assert_eq!(sandbox.read("model.safetensors"), before);
    assert_says(&sandbox.hrm("export model.safetensors --out x.pt").error(), &[".safetensors"]);
    assert_says(
        &sandbox.hrm("export model.safetensors --out mine.safetensors/x.safetensors").error(),
        &["mine"],
    );
}

/// The original's own checkpoints: `.pt` of `torch.compile` in fp32 and bf16, safetensors, and a foreign model.
#[test]
fn the_originals_checkpoints() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let parity = env::var_os("HRM_PARITY_DIR").map_or_else(|| shared.join("parity"), Into::into);
    let sandbox = Sandbox::new();
    let mut done = Vec::new();
    for entry in fs::read_dir(&parity).into_iter().flatten() {
        let path = entry.expect("entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((set, kind)) = name.split_once('.') else { continue };
        let json = parity.join(format!("{set}.eval.json"));
        let is_weights = kind == "state_dict.safetensors" || kind.starts_with("compiled_ckpt");
        if !is_weights || !set.starts_with("hrm_") || !json.exists() {
            continue;
        }
        let json: Value = serde_json::from_slice(&fs::read(json).expect("JSON")).expect("JSON");
        sandbox.write("config.json", json["config"].to_string());
        let import = |source: &str| {
            sandbox
                .hrm(&format!("import {source} --out model.safetensors --config config.json --force"))
                .ok();
            sandbox.read("model.safetensors")
        };
        let first = import(&path.display().to_string());
        sandbox.hrm("export model.safetensors --out back.safetensors --force").ok();
        assert_eq!(import("back.safetensors"), first, "{name}");
        let tensors = |path: &Path| -> Vec<(String, Vec<u8>)> {
            let dict = weights::read_normalized(path).expect("weights").into_iter();
            dict.map(|(key, data)| (key, data.convert::<f32>().as_bytes().to_vec())).collect()
        };
        assert_eq!(tensors(&path), tensors(&sandbox.path("back.safetensors")), "{name}");
        done.push(name);
    }
    let toy = shared.join("data/checkpoints/hrm-cpu-toy");
    if toy.exists() {
        let (weights, config) = (toy.join("hrm_best_model.pth"), toy.join("config.json"));
        let text = sandbox
            .hrm(&format!("import {} --config {} --out toy", weights.display(), config.display()))
            .ok();
        assert_says(&text, &["132,738 parameters", "900 tokens of 12"]);
        done.push("hrm-cpu-toy".to_owned());
    }
    if done.is_empty() {
        eprintln!("SKIPPED: no checkpoints of the original in {}; set HRM_PARITY_DIR", parity.display());
    } else {
        println!("exact through import, export, import: {}", done.join(", "));
    }
}

#[test]
fn trm_survives_import_and_export() {
    let sandbox = Sandbox::new();
    for (name, mixer) in [("attention", Mixer::Attention), ("mlp", Mixer::Mlp)] {
        let mut config = ModelConfig::trm(6, 16).with_hidden_size(16).with_num_heads(2);
        (config.mixer, config.halt_max_steps) = (mixer, 3);
        if mixer == Mixer::Mlp {
            config.pos_encodings = PositionEncoding::None;
        }
        let model: Hrm<Cpu> =
            config.init(&mut ChaCha8Rng::seed_from_u64(1), &Default::default()).expect("a valid config");
        model.save(&sandbox.path("model.safetensors"), ForwardDtype::F32).expect("saves");
        sandbox.hrm(&format!("export model.safetensors --out {name}.safetensors")).ok();
        let written = sandbox.path(&format!("{name}.json"));
        let flags = "--seq-len 16 --num-heads 2 --h-cycles 3 --l-cycles 6 --halt-max-steps 3";
        let import = format!("import {name}.safetensors --out {name} {flags}");
        // The configuration that was written tells everything; without it the options must.
        sandbox.hrm(&format!("import {name}.safetensors --out bare-{name}")).ok();
        fs::remove_file(written).expect("a configuration");
        assert_says(&sandbox.hrm(&import).error(), &["--puzzle-emb-len"]);
        let text = sandbox.hrm(&format!("{import} --puzzle-emb-len 16")).ok();
        assert_says(&text, &["hidden 16", "0 + 2 layers", "3 x 6 cycles"]);
        sandbox.hrm(&format!("export {name} --out again-{name}.safetensors")).ok();
        assert_eq!(
            sandbox.read(&format!("{name}.safetensors")),
            sandbox.read(&format!("again-{name}.safetensors"))
        );
        // What the file says about the model is what it was made of.
        let imported =
            Hrm::<Cpu>::load(&sandbox.path(&format!("{name}/model.safetensors")), &Default::default());
        let imported = imported.expect("loads").config().clone();
        assert_eq!(
            (imported.recurrence, imported.mixer, imported.no_act_continue, imported.prefix_len()),
            (RecurrenceKind::Trm, mixer, true, 16)
        );
    }
}
