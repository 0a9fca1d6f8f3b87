//! Ten training steps, number by number against the original (`HRM_PARITY_DIR`, or the subset we ship).

use burn::backend::Autodiff;
use hrm_backend::HrmBackend;
use hrm_model::{
    Hrm,
    act::PuzzleBatch,
    loss::{LossKind, Metrics},
    weights::ORIGINAL_PREFIX,
};
use hrm_testing::{
    for_each_backend,
    parity::{self, Deviations, Fixture, tensor_values},
};
use hrm_train::{
    distributed::Team,
    optim::{AdamConfig, Decay, Ema, Optimizer, Schedule, SignSgd},
    step::{self, Step, StepSettings},
};
use serde_json::Value;

for_each_backend!(parity_train);

/// Every training set: what each of ten steps gives, the gradients of the first, the parameters after.
fn parity_train<B: HrmBackend>() {
    parity::each_set("", ".steps.safetensors", train_set::<B>);
}

fn train_set<B: HrmBackend>(set: &str) -> Deviations {
    let device = B::Device::default();
    let json = parity::json(set);
    let steps = Fixture::require(&format!("{set}.steps"));
    let params = Fixture::open(&format!("{set}.params")).unwrap_or_default();
    let mut check = Deviations::new(format!("{set} [{}]", B::name(&device)));

    let base = set.split('.').next().expect("a name");
    let config = parity::model_config(&parity::json(&format!("{base}.eval")));
    let weights = json["initial_state"].as_str().expect("initial_state").trim_end_matches(".safetensors");
    let mut model: Hrm<Autodiff<B>> = Hrm::untrained(&config, &device)
        .load_state_dict(Fixture::require(weights).state_dict())
        .expect("weights fit");

    let opt = &json["opt"];
    let number = |key: &str| opt[key].as_f64().unwrap_or_else(|| panic!("opt.{key}"));
    let schedule = Schedule {
        decay: Decay::Cosine,
        warmup_steps: number("lr_warmup_steps") as u64,
        total_steps: json["total_steps"].as_u64().expect("total_steps"),
        min_ratio: number("lr_min_ratio"),
    };
    let mut adam = Optimizer::adam_atan2(AdamConfig {
        beta1: number("beta1"),
        beta2: number("beta2"),
        weight_decay: number("weight_decay"),
    });
    let sign_sgd = SignSgd { weight_decay: number("puzzle_emb_weight_decay") };
    let loss: LossKind = serde_json::from_value(json["loss_type"].clone()).expect("a known loss");
    let batch_size = json["batch_size"].as_u64().expect("batch_size") as usize;
    let floor = json["noise_floor"]
        .as_array()
        .and_then(|runs| runs.iter().find(|run| run["perturb"].as_f64() == Some(1e-7)))
        .expect("noise floor at 1e-7");

    let ema_rate = json["ema_rate"].as_f64();
    let mut ema = ema_rate.map(|rate| Ema::new(rate, 0, &model));
    let mut carry = model.inner().empty_carry(batch_size);
    let team = Team::alone(device.clone());
    for (index, expected) in json["steps"].as_array().expect("steps").iter().enumerate() {
        let n = index as u64 + 1;
        let settings = StepSettings {
            lr: schedule.rate(number("lr"), n),
            puzzle_emb_lr: schedule.rate(number("puzzle_emb_lr"), n),
            ..StepSettings::new(loss, number("global_batch_size") as usize, 0.0)
        };
        check.check(&format!("step {n} lr"), &[settings.lr], &[f(&expected["lr"])], 0.0);
        check.check("puzzle_emb_lr", &[settings.puzzle_emb_lr], &[f(&expected["puzzle_emb_lr"])], 0.0);

        let batch = PuzzleBatch {
            inputs: steps.int_at("in.inputs", index, &device),
            labels: steps.int_at("in.labels", index, &device),
            puzzle_identifiers: steps.int_at("in.puzzle_identifiers", index, &device),
        };
        // The two halves of `Step::run`, to look at what is between them.
        let forward = step::forward(&model, carry, batch, None, &settings);
        let (output, q_continue_target) = (forward.output.clone(), forward.q_continue_target.clone());
        let computed = forward.backward(&model);

        let loss_floor = f(&floor["loss_absdiff"][index]);
        let metrics = Metrics::from_values(&tensor_values(computed.metrics.clone()));
        check.check(&format!("step {n} loss"), &[metrics.loss], &[f(&expected["loss"])], loss_floor);
        for (name, got) in [
            ("count", metrics.count),
            ("accuracy", metrics.accuracy),
            ("exact_accuracy", metrics.exact_accuracy),
            ("q_halt_accuracy", metrics.q_halt_accuracy),
            ("steps", metrics.steps),
            ("lm_loss", metrics.lm_loss),
            ("q_halt_loss", metrics.q_halt_loss),
            ("q_continue_loss", metrics.q_continue_loss),
        ] {
            let what = format!("step {n} {name}");
            match &expected["metrics"][name] {
                // A model without a value of going on has no such loss.
                Value::Null if name == "q_continue_loss" => check.check_equal(&what, vec![got], vec![0.0]),
                expected => check.check(&what, &[got], &[f(expected)], loss_floor),
            }
        }
        for (key, got) in [
            ("step.logits", tensor_values(output.logits.clone().inner())),
            ("step.q_halt_logits", tensor_values(output.q_halt.clone().inner())),
            ("step.q_continue_logits", tensor_values(output.q_continue.clone().inner())),
            ("step.target_q_continue", q_continue_target.clone().map_or(vec![], tensor_values)),
            ("step.z_H", tensor_values(computed.carry.state.z_h.clone())),
            ("step.z_L", tensor_values(computed.carry.state.z_l.clone())),
        ] {
            if steps.get(key).is_some() {
                // The set states no floor for these: the loss's, which they determine, bounds them. Noise grows
                // from step to step; where the loss's shrinks, differences of its parts have cancelled.
                let floor = (0..=index).map(|k| f(&floor["loss_absdiff"][k])).fold(0.0, f64::max);
                check.check(&format!("step {n} {key}"), &got, &steps.values_at(key, index), floor);
            }
        }
        let carried = &computed.carry;
        for (key, got) in [
            ("step.halted", parity::values(&carried.halted.clone().int().into_data())),
            ("step.steps", parity::values(&carried.steps.clone().into_data())),
            ("step.current_inputs", parity::values(&carried.batch.inputs.clone().into_data())),
            ("step.current_labels", parity::values(&carried.batch.labels.clone().into_data())),
            (
                "step.current_puzzle_identifiers",
                parity::values(&carried.batch.puzzle_identifiers.clone().into_data()),
            ),
        ] {
            check.check_equal(&format!("step {n} {key}"), got, steps.values_at(key, index));
        }
        // The set states no floor for gradients after the first step. Some are small sums of large terms (q_head.bias), so
        // they are held to 1e-4 of their norm, which no mistake in a formula meets.
        let noise = if index == 0 { 1e-7 } else { 1e-5 };
        if let Some(rows) = &computed.grads.puzzle_rows {
            let what = format!("step {n} local_emb_grad");
            let relative = f(&expected["local_emb_grad_norm"]).abs()
                / (rows.shape().num_elements() as f64).sqrt()
                * noise;
            let got = tensor_values(rows.clone());
            check.check(&what, &got, &steps.values_at("step.local_emb_grad", index), relative);
        }

        let gradients: Vec<(&String, Vec<f64>)> =
            computed.grads.model.0.iter().map(|(name, grad)| (name, tensor_values(grad.clone()))).collect();
        for (name, got) in &gradients {
            let norm = got.iter().map(|g| g * g).sum::<f64>().sqrt();
            let what = format!("step {n} gradient norm of {name}");
            let key = format!("{ORIGINAL_PREFIX}{name}");
            check.check(
                &what,
                &[norm],
                &[f(&expected["grad_norms"][&key])],
                (loss_floor * norm).max(noise * norm),
            );
            if index == 0
                && let Some(reference) = params.get(&format!("grad1.{key}"))
            {
                let floor = f(&floor["grad1_maxabs"][&key]);
                check.check(&format!("grad1 {name}"), got, &parity::values(&reference), floor);
            }
        }
        check.check_equal(
            "number of parameters with a gradient",
            gradients.len(),
            expected["grad_norms"].as_object().expect("grad_norms").len(),
        );

        let done = Step::new(settings, &mut adam, sign_sgd, &team)
            .apply(model, computed)
            .expect("no workers to lose");
        (model, carry) = (done.model, done.carry);
        if let Some(ema) = &mut ema {
            ema.update(n, &model);
        }

        let state = model.state_dict();
        for (name, data) in &state {
            let norm = parity::values(data).iter().map(|v| v * v).sum::<f64>().sqrt();
            let key = format!("{ORIGINAL_PREFIX}{name}");
            if let Some(reference) = expected["param_norms_after"][&key].as_f64() {
                check.check(&format!("step {n} norm of {name}"), &[norm], &[reference], 0.0);
            }
            for (after, floor_key) in [(1, "after1_maxabs"), (10, "after10_rms")] {
                if n == after
                    && let Some(reference) = params.get(&format!("after{after}.{key}"))
                {
                    let floor = f(&floor[floor_key][&key]);
                    let what = format!("after step {n} {name}");
                    check.check(&what, &parity::values(data), &parity::values(&reference), floor);
                }
            }
        }
    }
    if let Some(ema) = ema {
        for (name, got) in ema.weights {
            if let Some(reference) = params.get(&format!("ema10.{ORIGINAL_PREFIX}{name}")) {
                let floor = f(&floor["after10_rms"][&format!("{ORIGINAL_PREFIX}{name}")]);
                let what = format!("average after step 10 {name}");
                check.check(&what, &tensor_values(got), &parity::values(&reference), floor);
            }
        }
    }
    check
}

fn f(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected a number in the JSON, got {value}"))
}
