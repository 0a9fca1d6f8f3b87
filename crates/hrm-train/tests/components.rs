//! Optimizers and schedule against unit vectors of the original (`components.*` in `HRM_PARITY_DIR`, or in the
//! subset we ship).

use burn::tensor::{Tensor, backend::Backend};
use hrm_backend::{
    HrmBackend,
    ops::{self, AdamAtan2Update},
};
use hrm_testing::{
    for_each_backend,
    parity::{self, Deviations, tensor_values},
};
use hrm_train::optim::{Decay, Schedule, SignSgd, total_steps};
use serde_json::Value;

for_each_backend!(parity_adam_atan2, parity_sign_sgd);

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected a number in the JSON, got {value}"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(number).collect()
}

fn line<B: Backend>(what: &str) -> Deviations {
    Deviations::new(format!("components.{what} [{}]", B::name(&B::Device::default())))
}

/// Element by element: the gradients range from 1e-21 to 1e15, zero included, and go through a second moment
/// whose root mean square the largest would decide alone.
fn parity_adam_atan2<B: HrmBackend>() {
    let Some((fixture, json)) = parity::components() else {
        return;
    };
    let device = B::Device::default();
    let mut check = line::<B>("adam_atan2");
    let settings = &json["adam_atan2"];
    let betas = numbers(&settings["betas"]);

    let [steps, rows, columns] = fixture.shape("adam_atan2.f32.grads");
    let mut param: Tensor<B, 2> = fixture.tensor("adam_atan2.f32.p0", &device);
    let grads: Tensor<B, 3> = fixture.tensor("adam_atan2.f32.grads", &device);
    let (mut m, mut v) = (param.zeros_like(), param.zeros_like());
    let lrs = numbers(&settings["lrs"]);
    assert_eq!(lrs.len(), steps);
    for (index, lr) in lrs.into_iter().enumerate() {
        let update = AdamAtan2Update {
            lr,
            beta1: betas[0],
            beta2: betas[1],
            weight_decay: number(&settings["weight_decay"]),
            step: index as u64 + 1,
        };
        let grad = grads.clone().narrow(0, index, 1).reshape([rows, columns]);
        (param, m, v) = ops::adam_atan2(param, grad, m, v, &update, None);
        let expected_v = fixture.values_at("adam_atan2.f32.v", index);
        for (key, got) in [("p", &param), ("m", &m), ("v", &v)] {
            let got = tensor_values(got.clone());
            let expected = fixture.values_at(&format!("adam_atan2.f32.{key}"), index);
            for (element, (got, expected)) in got.iter().zip(expected).enumerate() {
                // Squares below fp32's normal range lose their bits, on GPUs all of them.
                let subnormal = (0.0..f64::from(f32::MIN_POSITIVE)).contains(&expected_v[element]);
                let floor = match key {
                    "v" if subnormal => f64::from(f32::MIN_POSITIVE),
                    // Between no second moment and all of it, atan2 moves by at most a quarter turn.
                    "p" if subnormal && expected_v[element] > 0.0 => lr * std::f64::consts::FRAC_PI_2,
                    _ => 1e-9 * expected.abs(),
                };
                let what = format!("step {} {key}[{element}]", index + 1);
                check.check(&what, &[*got], &[expected], floor);
            }
        }
    }
    check.finish();
}

fn parity_sign_sgd<B: HrmBackend>() {
    let Some((fixture, json)) = parity::components() else {
        return;
    };
    let device = B::Device::default();
    let mut check = line::<B>("signsgd");
    let optimizer = SignSgd { weight_decay: number(&json["signsgd"]["weight_decay"]) };
    let [_, batch, ndim] = fixture.shape("signsgd.grads");
    let grads: Tensor<B, 3> = fixture.tensor("signsgd.grads", &device);
    let mut table: Tensor<B, 2> = fixture.tensor("signsgd.w0", &device);
    for (index, lr) in numbers(&json["signsgd"]["lrs"]).into_iter().enumerate() {
        let identifiers = fixture.int_at("signsgd.ids", index, &device);
        let grad = grads.clone().narrow(0, index, 1).reshape([batch, ndim]);
        table = optimizer.step(lr, table, identifiers, grad);
        let expected = fixture.values_at("signsgd.w", index);
        check.check(&format!("step {}", index + 1), &tensor_values(table.clone()), &expected, 0.0);
    }
    check.finish();
}

#[test]
fn parity_schedule() {
    let Some((_, json)) = parity::components() else {
        return;
    };
    let mut check = Deviations::new("components.lr_schedule");
    for (index, case) in json["lr_schedule"].as_array().expect("lr_schedule").iter().enumerate() {
        let count = |key: &str| case[key].as_u64().unwrap_or_else(|| panic!("lr_schedule: no {key}"));
        let schedule = Schedule {
            decay: Decay::Cosine,
            warmup_steps: count("warmup"),
            total_steps: count("total"),
            min_ratio: number(&case["min_ratio"]),
        };
        let base = number(&case["base_lr"]);
        // Training never goes beyond the last step; the original's cosine rises again there, ours may not.
        for (step, expected) in (1..=schedule.total_steps).zip(numbers(&case["lr_at_step_1_to_N"])) {
            let what = format!("schedule {} step {step}", index + 1);
            check.check_within(&what, &[schedule.rate(base, step)], &[expected], 1e-15 * base, 1e-12);
        }
    }
    check.finish();
}

#[test]
fn parity_total_steps() {
    let Some((_, json)) = parity::components() else {
        return;
    };
    let mut check = Deviations::new("components.total_steps");
    for case in json["total_steps"].as_array().expect("total_steps") {
        let count = |key: &str| case[key].as_u64().unwrap_or_else(|| panic!("total_steps: no {key}"));
        let got = total_steps(
            count("epochs"),
            count("total_groups") as usize,
            number(&case["mean_puzzle_examples"]),
            count("gbs") as usize,
        );
        check.check_equal(&case.to_string(), got, count("total"));
    }
    check.finish();
}
