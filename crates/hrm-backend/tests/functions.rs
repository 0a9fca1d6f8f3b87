//! How far each backend's elementary functions and sums are from the truth, in f64 on the host: a loose driver is found
//! here by the function's name, not by a loss that is off after some steps.

use burn::tensor::{Tensor, TensorData, activation, backend::Backend};
use hrm_backend::{HrmBackend, for_each_backend, functions, testing::tensor_values};

for_each_backend!(elementary_functions, sums);

/// Relative error that a function we use may have: a tenth of what parity with the original allows a result.
const ALLOWED: f64 = 2e-6;

/// Measures functions of one backend, prints a line for each and remembers which are too far off.
struct Functions {
    backend: String,
    loose: Vec<String>,
}

impl Functions {
    fn of<B: Backend>() -> Self {
        Self { backend: B::name(&B::Device::default()), loose: Vec::new() }
    }

    /// The largest relative error at some points, and where it is.
    fn measure<B: Backend>(
        &self,
        what: &str,
        points: &[f32],
        function: impl FnOnce(Tensor<B, 1>) -> Tensor<B, 1>,
        truth: impl Fn(f64) -> f64,
    ) -> f64 {
        let x = Tensor::from_data(TensorData::new(points.to_vec(), [points.len()]), &B::Device::default());
        let got = tensor_values(function(x));
        let (mut worst, mut at) = (0.0, f32::NAN);
        for (point, got) in points.iter().zip(got) {
            let truth = truth(f64::from(*point));
            let error = ((got - truth) / truth).abs();
            if error > worst || error.is_nan() {
                (worst, at) = (error, *point);
            }
        }
        println!("function {what:<34} [{}] largest relative error {worst:.1e} at {at:e}", self.backend);
        worst
    }

    /// Of a function that something depends on.
    fn used<B: Backend>(
        &mut self,
        what: &str,
        points: &[f32],
        function: impl FnOnce(Tensor<B, 1>) -> Tensor<B, 1>,
        truth: impl Fn(f64) -> f64,
    ) {
        let error = self.measure::<B>(what, points, function, truth);
        if error > ALLOWED || error.is_nan() {
            self.loose.push(format!("{what}: {error:.1e}"));
        }
    }

    fn finish(self) {
        let Self { backend, loose } = self;
        assert!(
            loose.is_empty(),
            "{backend} is further than {ALLOWED:e} from the truth in {}",
            loose.join(", ")
        );
    }
}

/// Evenly spaced.
fn linear(from: f64, to: f64) -> Vec<f32> {
    (0..=10_000).map(|i| (from + (to - from) * f64::from(i) / 1e4) as f32).collect()
}

/// Of every size.
fn geometric(from: f64, to: f64) -> Vec<f32> {
    (0..=10_000).map(|i| (from * (to / from).powf(f64::from(i) / 1e4)) as f32).collect()
}

fn elementary_functions<B: HrmBackend>() {
    let mut check = Functions::of::<B>();
    let sizes = geometric(1e-6, 1e6);
    check.used::<B>("exp(x), -20 to 0", &linear(-20.0, 0.0), Tensor::exp, f64::exp);
    check.used::<B>("log(x), 1e-6 to 0.9", &geometric(1e-6, 0.9), Tensor::log, f64::ln);
    check.used::<B>("log(x), 1.1 to 1e6", &geometric(1.1, 1e6), Tensor::log, f64::ln);
    check.used::<B>("sqrt(x)", &sizes, Tensor::sqrt, f64::sqrt);
    check.used::<B>("1 / x", &sizes, Tensor::recip, f64::recip);
    check.used::<B>("3 / x", &sizes, |x| x.full_like(3.0) / x, |x| 3.0 / x);
    let logits = linear(-20.0, 20.0);
    check.used::<B>("sigmoid(x)", &logits, functions::sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
    let shares = geometric(1e-9, 1.0);
    check.used::<B>("log(1 + x)", &shares, functions::log1p, f64::ln_1p);
    let one = |x: &Tensor<B, 1>| x.ones_like();
    check.used::<B>("angle of (1, x)", &sizes, |x| functions::angle(x.clone(), one(&x)), f64::atan);
    check.used::<B>(
        "angle of (1, -x)",
        &sizes,
        |x| functions::angle(x.clone().neg(), one(&x)),
        |x| -x.atan(),
    );
    // Both versions, whichever the backend takes.
    check.used::<B>("log(1 + x) by its series", &shares, functions::series::log1p, f64::ln_1p);
    check.used::<B>(
        "angle of (x, 1) by its polynomial",
        &sizes,
        |x| functions::series::angle(one(&x), x),
        |x| x.recip().atan(),
    );

    // What Burn and the driver give, which is why the above is used: for the record.
    check.measure::<B>("(Burn) log1p(x)", &shares, Tensor::log1p, f64::ln_1p);
    check.measure::<B>("(Burn) atan2(x, 1)", &sizes, |x| x.clone().atan2(one(&x)), f64::atan);
    check.measure::<B>("(Burn) sigmoid(x)", &logits, activation::sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
    let log_sigmoid = |x: f64| -(-x).exp().ln_1p();
    check.measure::<B>("(Burn) log_sigmoid(x)", &linear(-20.0, 10.0), activation::log_sigmoid, log_sigmoid);
    check.finish();

    // Where a division by zero or a NaN could hide.
    let tensor = |values: [f32; 5]| Tensor::<B, 1>::from_floats(values, &B::Device::default());
    for angle in [functions::angle::<B, 1>, functions::series::angle::<B, 1>] {
        let got =
            tensor_values(angle(tensor([0.0, 1.0, -1.0, 0.0, f32::NAN]), tensor([0.0, 0.0, 0.0, 2.0, 1.0])));
        let quarter = std::f64::consts::FRAC_PI_2;
        let expected = [0.0, quarter, -quarter, 0.0];
        assert!(
            got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-6),
            "angles {got:?}, expected {expected:?}"
        );
        assert!(got[4].is_nan(), "the angle of a NaN is {}", got[4]);
    }
    let saturated = tensor_values(functions::sigmoid(tensor([-1e4, -100.0, 0.0, 100.0, 1e4])));
    assert_eq!(saturated.iter().map(|s| s.round()).collect::<Vec<_>>(), [0.0, 0.0, 1.0, 1.0, 1.0]);
    assert!(saturated.iter().all(|s| (0.0..=1.0).contains(s)), "{saturated:?}");
}

/// Sums and means of rows as wide as the model's, of numbers of one sign.
fn sums<B: HrmBackend>() {
    let mut check = Functions::of::<B>();
    for width in [17, 512, 3072] {
        let values: Vec<f32> = (0..64 * width).map(|i| (i * 7919 % 10_007) as f32 / 10_007.0).collect();
        let rows: Vec<f32> = (0..64).map(|row| row as f32).collect();
        let matrix: Tensor<B, 2> =
            Tensor::from_data(TensorData::new(values.clone(), [64, width]), &B::Device::default());
        let sum =
            |row: f64| values[row as usize * width..][..width].iter().map(|v| f64::from(*v)).sum::<f64>();
        check.used::<B>(&format!("sum of {width}"), &rows, |_| matrix.clone().sum_dim(1).squeeze_dim(1), sum);
        let mean = |row: f64| sum(row) / width as f64;
        check.used::<B>(
            &format!("mean of {width}"),
            &rows,
            |_| matrix.clone().mean_dim(1).squeeze_dim(1),
            mean,
        );
        let whole: f64 = values.iter().map(|v| f64::from(*v)).sum();
        check.used::<B>(&format!("sum of 64 x {width}"), &[0.0], |_| matrix.sum(), |_| whole);
    }
    check.finish();
}
