//! A loss or gradient that is not finite: the step changes nothing, is counted and explained, and too many end the run.

mod common;

use std::collections::BTreeMap;

use burn::{
    backend::Autodiff,
    tensor::{Tensor, TensorData, backend::Backend},
};
use hrm_backend::HrmBackend;
use hrm_model::{
    Hrm, ModelConfig,
    act::{Carry, PuzzleBatch},
    diagnose::NonFinite,
    loss::LossKind,
    weights::StateDict,
};
use hrm_testing::{for_each_backend, parity::tensor_values};
use hrm_train::{
    distributed::Team,
    optim::{AdamConfig, Optimizer, SignSgd},
    step::{Guard, Step, StepSettings},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

for_each_backend!(a_bad_step_changes_nothing, culprits_are_named);

const ROWS: usize = 4;
const SEQ: usize = 16;

fn model<B: HrmBackend>() -> Hrm<Autodiff<B>> {
    let mut config = ModelConfig::new(6, SEQ).with_hidden_size(32).with_num_heads(2).with_layers(1, 1);
    (config.num_puzzle_identifiers, config.halt_max_steps) = (3, 4);
    // Halting where q_halt > 0: never, in the few steps of these tests.
    config.no_act_continue = true;
    config.init(&mut ChaCha8Rng::seed_from_u64(3), &B::Device::default()).expect("a valid config")
}

fn batch<B: Backend>(seed: u64) -> PuzzleBatch<B> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let device = B::Device::default();
    let mut tokens = || {
        let values: Vec<i32> = (0..ROWS * SEQ).map(|_| rng.random_range(1..6)).collect();
        Tensor::from_data(TensorData::new(values, [ROWS, SEQ]), &device)
    };
    let (inputs, labels) = (tokens(), tokens());
    PuzzleBatch { inputs, labels, puzzle_identifiers: Tensor::from_ints([0, 1, 2, 1], &device) }
}

/// One slot of the carry is spoiled.
fn spoiled<B: Backend>(mut carry: Carry<B>) -> Carry<B> {
    let nan = Tensor::full([1, 1, 1], f32::NAN, &B::Device::default());
    carry.state.z_h = carry.state.z_h.slice_assign([2..3, 5..6, 7..8], nan);
    carry
}

fn values<B: HrmBackend>(model: &Hrm<Autodiff<B>>, optimizer: &Optimizer<B>) -> BTreeMap<String, Vec<f64>> {
    let weights = model.state_dict().into_iter().map(|(name, data)| (name, data.iter::<f64>().collect()));
    let moments = optimizer.moments.iter().flat_map(|(name, moments)| {
        let kinds = [("m", Some(&moments.m)), ("v", moments.v.as_ref())];
        kinds.into_iter().filter_map(move |(kind, tensor)| {
            Some((format!("{kind} {name}"), tensor_values(tensor?.clone())))
        })
    });
    weights.chain(moments).collect()
}

fn a_bad_step_changes_nothing<B: HrmBackend>() {
    let mut ends = Vec::new();
    for guard in [Guard::Read, Guard::Mask] {
        let team = Team::alone(B::Device::default());
        let mut model = model::<B>();
        let mut optimizer = Optimizer::adam_atan2(AdamConfig { beta1: 0.9, beta2: 0.95, weight_decay: 0.1 });
        let mut carry = model.inner().empty_carry(ROWS);
        let settings = StepSettings::new(LossKind::Stablemax, ROWS, 1e-3);
        let mut before = values(&model, &optimizer);
        for step in 0..4 {
            let bad = step == 2;
            if bad {
                carry = spoiled(carry);
            }
            let sign_sgd = SignSgd { weight_decay: 0.1 };
            let this = Step { guard, ..Step::new(settings, &mut optimizer, sign_sgd, &team) };
            let done = this.run(model, carry, batch::<B>(step), None).expect("no workers to lose");
            model = done.model;
            assert_eq!(done.vitals.read().finite(), !bad, "step {step}: {:?}", done.vitals.read());
            assert_eq!(done.skipped, (guard == Guard::Read).then_some(bad));
            let after = values(&model, &optimizer);
            if bad {
                assert_eq!(before, after, "{guard:?}: weights, puzzle embedding and moments are as before");
                let halted = done.carry.halted.clone().int().into_data().iter::<i64>().collect::<Vec<_>>();
                assert_eq!(halted, [0, 0, 1, 0], "the spoiled slot takes a new puzzle, the others go on");
            } else {
                assert_ne!(before["puzzle_emb.weights"], after["puzzle_emb.weights"], "step {step}");
                assert_ne!(before["lm_head.weight"], after["lm_head.weight"], "step {step}");
            }
            if bad && guard == Guard::Mask {
                optimizer.take_back_update();
            }
            (before, carry) = (after, done.carry);
        }
        assert!(
            optimizer.moments.values().all(|moments| moments.step == 3),
            "{guard:?}: the bad step does not count"
        );
        ends.push(before);
    }
    assert_eq!(ends[0], ends[1], "both ways of guarding do the same");
}

fn culprits_are_named<B: HrmBackend>() {
    let device = B::Device::default();
    let model = model::<B>().inner();
    let carry = Carry { batch: batch(1), ..model.empty_carry(ROWS) };
    assert_eq!(model.first_non_finite(&carry), None);
    assert_eq!(model.first_non_finite(&spoiled(carry.clone())), Some(NonFinite::State));

    let with = |name: &str, change: &dyn Fn(f32) -> f32| {
        let mut dict: StateDict = model.state_dict();
        let data = dict.remove(name).expect("a weight");
        let shape = data.shape.clone();
        let values: Vec<f32> = data.iter::<f32>().map(change).collect();
        dict.insert(name.to_owned(), TensorData::new(values, shape));
        Hrm::<B>::untrained(model.config(), &device).load_state_dict(dict).expect("the same shapes")
    };
    let name = "L_level.layers.0.mlp.down_proj.weight";
    let broken = with(name, &|_| f32::NAN);
    assert_eq!(broken.first_non_finite(&carry), Some(NonFinite::Weight(name.to_owned())));
    // Finite, but too large to multiply with: L, L, then H for the first time.
    let broken = with("H_level.layers.0.mlp.down_proj.weight", &|w| w.signum() * 3e38);
    let expected = NonFinite::Activation { layer: "H_level.layers.0".to_owned(), update: Some(3) };
    assert_eq!(broken.first_non_finite(&carry), Some(expected));
    let broken = with("lm_head.weight", &|w| w.signum() * 3e38);
    let expected = NonFinite::Activation { layer: "lm_head".to_owned(), update: None };
    assert_eq!(broken.first_non_finite(&carry), Some(expected));
}

mod runs {
    use std::{fs, path::Path};

    use hrm_backend::Cpu;
    use hrm_data::checksum::{sha256, sha256_of_file};
    use hrm_model::{Hrm, weights};
    use hrm_train::{
        checkpoint,
        trainer::{Ending, TrainError, saved_recipe},
    };
    use serde_json::Value;

    use crate::common::{recipe, rows, run};

    /// Replaces a file of a checkpoint and its checksum.
    fn tamper(checkpoint: &Path, file: &str, change: impl FnOnce(&Path)) {
        let path = checkpoint.join(file);
        change(&path);
        let sum = sha256_of_file(&path).unwrap();
        let state = checkpoint.join("state.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
        json["sha256"][file] = sum.into();
        // The last field is the checksum of all others.
        json.as_object_mut().unwrap().remove("checksum");
        let text = serde_json::to_string_pretty(&json).unwrap();
        let open = text.strip_suffix("\n}").unwrap();
        let sealed = format!("{open},\n  \"checksum\": \"{}\"\n}}", sha256(text.as_bytes()));
        fs::write(&state, sealed).unwrap();
    }

    fn spoil(path: &Path, name: &str, elements: usize) {
        let (mut dict, metadata) = weights::read_safetensors(path).unwrap();
        let data = dict.remove(name).unwrap();
        let shape = data.shape.clone();
        let mut values: Vec<f32> = data.iter::<f32>().collect();
        values[..elements].fill(f32::NAN);
        dict.insert(name.to_owned(), burn::tensor::TensorData::new(values, shape));
        weights::write_safetensors(path, &dict, metadata).unwrap();
    }

    fn skipped(dir: &Path) -> Vec<u64> {
        rows(dir).iter().filter(|row| row["skipped"] == true).filter_map(|row| row["step"].as_u64()).collect()
    }

    #[test]
    fn a_run_that_cannot_go_on_stops_and_says_why() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run");
        run(&dir, recipe(&["train.stop_after=3"]), false).0.unwrap();
        let name = "L_level.layers.0.mlp.down_proj.weight";
        tamper(&dir.join("checkpoints/step-3"), "model.safetensors", |path| spoil(path, name, 1));

        let again = saved_recipe(&dir, &["train.max_bad_steps=3".to_owned()]).unwrap();
        let (result, messages) = run(&dir, again, true);
        let error = result.unwrap_err();
        assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
        let told = error.to_string();
        for part in ["3 steps in a row, up to step 6", name, "train.lr", "hrm inspect checkpoint"] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(skipped(&dir), [4, 5, 6]);
        let warnings: Vec<_> =
            messages.iter().filter(|m| m.starts_with("warning: step 4 was skipped")).collect();
        assert_eq!(warnings.len(), 1, "told once, not at each step: {messages:?}");
        assert!(warnings[0].contains(name));
        let log = fs::read_to_string(dir.join("train.log")).unwrap();
        assert!(log.contains("step 4 was skipped") && log.contains("stopped by an error"), "{log}");
        // What went wrong can be looked at, and the state before it is where it was.
        let device = Default::default();
        let state: Hrm<Cpu> = checkpoint::load_model(&dir.join("diagnostics/step-4"), &device).unwrap();
        assert!(state.state_dict()[name].iter::<f32>().any(f32::is_nan));
        assert!(dir.join("checkpoints/step-3").is_dir() && !dir.join("checkpoints/step-6").exists());
    }

    #[test]
    fn a_run_goes_on_after_a_bad_step() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run");
        run(&dir, recipe(&["train.stop_after=3"]), false).0.unwrap();
        tamper(&dir.join("checkpoints/step-3"), "train.safetensors", |path| {
            let (mut dict, metadata) = weights::read_safetensors(path).unwrap();
            // No slot halts before the spoiled state is used.
            let zeros = burn::tensor::TensorData::new(vec![0_i64; 8], [8]);
            dict.insert("carry.halted".to_owned(), zeros);
            weights::write_safetensors(path, &dict, metadata).unwrap();
            spoil(path, "carry.z_h", 5);
        });
        let (result, messages) = run(&dir, saved_recipe(&dir, &[]).unwrap(), true);
        assert_eq!(result.unwrap().ending, Ending::Finished);
        assert_eq!(skipped(&dir), [4], "{messages:?}");
        assert!(messages.iter().any(|m| m.contains("the carried state is not finite")), "{messages:?}");
        let state = fs::read(dir.join("checkpoints/step-12/state.json")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        assert_eq!(state["progress"]["skipped"]["total"], 1);
        assert_eq!(state["updates"]["lm_head.weight"], 11, "a skipped step is no update");
        assert!(rows(&dir).iter().any(|row| row["grad_norm"].as_f64().is_some_and(|norm| norm > 0.0)));
    }

    /// Warnings of a run, which are the same in its rows, in its log and for whoever watches.
    fn warnings(dir: &Path, messages: &[String]) -> Vec<(String, String)> {
        let log = fs::read_to_string(dir.join("train.log")).unwrap();
        let rows = rows(dir).into_iter().filter(|row| row.get("warning").is_some());
        rows.map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            let (warning, message) = (text("warning"), text("message"));
            let line = format!("warning: step {}: {message}", row["step"]);
            assert!(log.contains(&line) && messages.contains(&line), "{line}\n{log}\n{messages:?}");
            (warning, message)
        })
        .collect()
    }

    fn kinds(told: &[(String, String)]) -> Vec<&str> {
        let mut kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
        kinds.sort_unstable();
        kinds
    }

    #[test]
    fn halting_that_was_never_learned_is_told() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run");
        // Two puzzles are learned by heart, and nothing teaches q_halt: it stays where it starts, at -5.
        let untaught = [
            "data.train_examples=2",
            "data.augment=false",
            "model.halt_max_steps=2",
            "train.halt_loss_weight=0",
            "train.global_batch_size=64",
            "train.lr=3e-3",
            "train.weight_decay=0.1",
            "train.max_steps=130",
            "train.checkpoint_interval=0",
            "eval.interval=0",
        ];
        let (result, messages) = run(&dir, recipe(&untaught), false);
        result.unwrap();
        let told = warnings(&dir, &messages);
        assert_eq!(kinds(&told), ["always_last", "q_drift"], "{told:?}");
        let all: String = told.iter().map(|(_, message)| message.as_str()).collect();
        for part in ["before segment 2", "train.halt_loss_weight", "q_halt promises that 1 %"] {
            assert!(all.contains(part), "{told:?}");
        }
    }

    #[test]
    fn halting_at_once_whatever_the_answer_is_told() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run");
        let still = ["train.lr=0", "train.puzzle_emb_lr=0", "model.halt_exploration_prob=0"];
        // Those that were under way before halt later, so the first 2,000 sequences do not count.
        let batches = ["train.global_batch_size=100", "train.max_steps=45", "eval.interval=0"];
        run(&dir, recipe(&[&still[..], &batches, &["train.stop_after=2"]].concat()), false).0.unwrap();
        // A head that always says yes.
        tamper(&dir.join("checkpoints/step-2"), "model.safetensors", |path| {
            let (mut dict, metadata) = weights::read_safetensors(path).unwrap();
            let bias = burn::tensor::TensorData::new(vec![5.0_f32, -5.0], [2]);
            dict.insert("q_head.bias".to_owned(), bias).expect("the halting head has a bias");
            weights::write_safetensors(path, &dict, metadata).unwrap();
        });
        let (result, messages) = run(&dir, saved_recipe(&dir, &[]).unwrap(), true);
        result.unwrap();
        let told = warnings(&dir, &messages);
        assert_eq!(kinds(&told), ["always_first", "q_drift"], "{told:?}");
        assert!(told[0].1.contains("promises that 99 %"), "{told:?}");
        assert!(told[1].1.contains("model.halt_exploration_prob"), "{told:?}");
    }

    #[test]
    fn overfitting_is_told_when_it_begins() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run");
        // A few puzzles without symmetries, learned by heart.
        let few = [
            "data.train_examples=8",
            "data.augment=false",
            "data.test_examples=50",
            "model.halt_max_steps=1",
            "train.lr=5e-3",
            "train.weight_decay=0",
            "train.max_steps=150",
            "train.checkpoint_interval=0",
            "eval.interval=10",
            "eval.batch_size=50",
        ];
        let (result, messages) = run(&dir, recipe(&few), false);
        result.unwrap();
        let told = warnings(&dir, &messages);
        assert!(told.iter().any(|(kind, _)| kind == "overfitting"), "{told:?}");
        let (_, message) = told.iter().find(|(kind, _)| kind == "overfitting").unwrap();
        assert!(
            message.contains("the model overfits") && message.contains("early_stop_patience"),
            "{message}"
        );
    }

    #[test]
    fn a_learning_rate_out_of_this_world_ends_the_run() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run");
        let wild = ["train.lr=1e30", "train.lr_warmup_steps=0", "train.max_bad_steps=4"];
        let (result, messages) = run(&dir, recipe(&wild), false);
        let error = result.unwrap_err();
        assert!(matches!(error, TrainError::Diverged { .. }), "{error} {messages:?}");
        let told = error.to_string();
        assert!(told.contains("4 steps in a row") && told.contains("a lower train.lr"), "{told}");
        assert_eq!(skipped(&dir).len(), 4);
        let log = fs::read_to_string(dir.join("train.log")).unwrap();
        assert!(log.contains("was skipped (1 so far)") && log.contains("a lower train.lr"), "{log}");
    }

    #[test]
    fn training_stops_when_evaluations_get_no_better() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run");
        // Nothing is learned: the first evaluation stays the best.
        let still =
            ["train.lr=0", "train.puzzle_emb_lr=0", "train.max_steps=40", "train.early_stop_patience=2"];
        let summary = run(&dir, recipe(&still), false).0.unwrap();
        assert_eq!((summary.ending, summary.step), (Ending::EarlyStopped, 12));
        assert_eq!(checkpoint::best(&dir.join("checkpoints")).unwrap().step, 4);
        assert!(dir.join("checkpoints/step-4").is_dir(), "the best checkpoint is kept");
        // It stays stopped, unless it is told to be more patient.
        let resumed = |set: &str| run(&dir, saved_recipe(&dir, &[set.to_owned()]).unwrap(), true).0.unwrap();
        assert_eq!(resumed("train.log_interval=1").step, 12);
        assert_eq!(resumed("train.early_stop_patience=3").step, 16);
    }
}
