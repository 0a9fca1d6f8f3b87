//! The forward pass, number by number against the original (`HRM_PARITY_DIR`, or the subset we ship).

use burn::tensor::{Int, Tensor};
use hrm_backend::HrmBackend;
use hrm_model::{
    Hrm,
    act::{Carry, PuzzleBatch},
    layers::RotaryTables,
    loss::{ActLoss, Answers, LossKind, Metrics},
};
use hrm_testing::{
    for_each_backend,
    parity::{self, Deviations, Fixture, tensor_values},
};

for_each_backend!(parity_eval);

/// Four ACT steps of every set: states, logits, Q values, losses and metrics.
fn parity_eval<B: HrmBackend>() {
    parity::each_set("", ".eval.json", eval_set::<B>);
}

fn eval_set<B: HrmBackend>(set: &str) -> Deviations {
    let device = B::Device::default();
    let json = parity::json(&format!("{set}.eval"));
    let config = parity::model_config(&json);
    let eval = Fixture::require(&format!("{set}.eval"));
    let weights = Fixture::require(&format!("{set}.state_dict"));
    let model: Hrm<B> =
        Hrm::untrained(&config, &device).load_state_dict(weights.state_dict()).expect("weights fit");
    let mut deviations = Deviations::new(format!("{set}.eval [{}]", B::name(&device)));

    if let (Some(cos), Some(sin)) = (eval.get("rope.cos"), eval.get("rope.sin")) {
        let tables =
            RotaryTables::<B>::new(config.total_len(), config.head_dim(), config.rope_theta, &device);
        deviations.check("rope.cos", &tensor_values(tables.cos), &parity::values(&cos), 0.0);
        deviations.check("rope.sin", &tensor_values(tables.sin), &parity::values(&sin), 0.0);
    }

    let inputs: Tensor<B, 2, Int> = eval.int("in.inputs", &device);
    let labels: Tensor<B, 2, Int> = eval.int("in.labels", &device);
    let puzzle_identifiers: Tensor<B, 1, Int> = eval.int("in.puzzle_identifiers", &device);
    let embeddings = model.input_embeddings(inputs.clone(), model.puzzle_rows(puzzle_identifiers.clone()));
    deviations.check("input_embeddings", &tensor_values(embeddings), &eval.values("input_embeddings"), 0.0);

    let [rows, _] = inputs.dims();
    let batch = PuzzleBatch { inputs, labels: labels.clone(), puzzle_identifiers };
    let mut carry: Carry<B> = model.empty_carry(rows).admit(&model, batch);
    let steps = json["steps_stablemax"].as_array().expect("steps_stablemax").len();
    for step in 0..steps {
        let (next, output) = model.segment(carry);
        let floor =
            |key: &str| json["noise_floor"]["max_abs_per_act_step"][key][step].as_f64().unwrap_or(0.0);
        let mut check = |key: &str, got: Vec<f64>, floor: f64| {
            let expected = eval.values_at(key, step);
            deviations.check(&format!("step {} {key}", step + 1), &got, &expected, floor);
        };
        check("out.z_H", tensor_values(next.state.z_h.clone()), floor("out.z_H"));
        check("out.z_L", tensor_values(next.state.z_l.clone()), floor("out.z_L"));
        check("out.logits", tensor_values(output.logits.clone()), floor("out.logits"));
        check("out.q_halt_logits", tensor_values(output.q_halt.clone()), floor("out.q_halt_logits"));
        check("out.q_continue_logits", tensor_values(output.q_continue.clone()), floor("out.q_halt_logits"));
        deviations.check_equal(
            "halted",
            parity::values(&next.halted.clone().int().into_data()),
            eval.values_at("out.halted", step),
        );
        deviations.check_equal(
            "steps",
            parity::values(&next.steps.clone().into_data()),
            eval.values_at("out.steps", step),
        );

        for (kind, key) in [(LossKind::Stablemax, "steps_stablemax"), (LossKind::Softmax, "steps_softmax")] {
            let expected = &json[key][step];
            if expected.is_null() {
                continue;
            }
            let settings = kind.into();
            let answers = Answers::new(&settings, &output, labels.clone(), labels.clone());
            let act_loss = ActLoss::new(&settings, &output, answers, None);
            let (total, metrics) = act_loss.sums(next.halted.clone(), next.steps.clone());
            let number = |v: &serde_json::Value| v.as_f64().expect("a number");
            deviations.check(
                &format!("step {} {key} loss", step + 1),
                &tensor_values(total),
                &[number(&expected["loss"])],
                floor("out.logits"),
            );
            let metrics = Metrics::from_values(&tensor_values(metrics));
            let got = [
                ("count", metrics.count),
                ("accuracy", metrics.accuracy),
                ("exact_accuracy", metrics.exact_accuracy),
                ("q_halt_accuracy", metrics.q_halt_accuracy),
                ("steps", metrics.steps),
                ("lm_loss", metrics.lm_loss),
                ("q_halt_loss", metrics.q_halt_loss),
            ];
            for (name, value) in got {
                let what = format!("step {} {key} {name}", step + 1);
                deviations.check(&what, &[value], &[number(&expected["metrics"][name])], floor("out.logits"));
            }
        }
        carry = next;
    }
    deviations
}
