//! Support for tests: one test over every backend that is compiled in, and how close is close enough.

use burn::tensor::{Tensor, TensorData, backend::Backend};

#[cfg(feature = "cuda")]
pub use burn::backend::Cuda;
#[cfg(feature = "ndarray")]
pub use burn::backend::NdArray;
#[cfg(feature = "wgpu")]
pub use burn::backend::Wgpu;
#[cfg(feature = "flex")]
pub use burn_flex::Flex;

/// Burn's Vulkan and Metal backends, which are one type.
#[cfg(any(feature = "vulkan", feature = "metal"))]
pub type Vulkan = burn::backend::wgpu::Wgpu<f32, i32, u8>;

/// Instantiates generic test functions `fn name<B: HrmBackend>()` for every backend that this crate is compiled with:
/// `for_each_backend!(name, other)` makes the tests `flex::name`, `ndarray::name`, ... In a program that takes in a file of tests as
/// a module, `flex::TESTS` are they, by name.
#[macro_export]
macro_rules! for_each_backend {
    ($($test:ident),+ $(,)?) => {
        $crate::tests_on_flex!($($test)+);
        $crate::tests_on_ndarray!($($test)+);
        $crate::tests_on_cuda!($($test)+);
        $crate::tests_on_wgpu!($($test)+);
        $crate::tests_on_vulkan!($($test)+);
    };
}

/// The macro for one backend, which gives nothing where that is not compiled in. (`$d` is a dollar sign.)
macro_rules! tests_on {
    ($d:tt $name:ident $module:ident $backend:ident $condition:meta) => {
        #[cfg($condition)]
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $name {
                    ($d($d test:ident)+) => {
                        pub(crate) mod $module {
                            $d(#[test] fn $d test() { super::$d test::<$d crate::testing::$backend>(); })+

                            #[cfg(not(test))]
                            pub const TESTS: &[(&str, fn())] =
                                &[$d((stringify!($d test), super::$d test::<$d crate::testing::$backend>)),+];
                        }
                    };
                }
        #[cfg(not($condition))]
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $name {
            ($d($d test:ident)+) => {};
        }
    };
}

tests_on!($ tests_on_flex flex Flex feature = "flex");
tests_on!($ tests_on_ndarray ndarray NdArray feature = "ndarray");
tests_on!($ tests_on_cuda cuda Cuda feature = "cuda");
tests_on!($ tests_on_wgpu wgpu Wgpu feature = "wgpu");
tests_on!($ tests_on_vulkan vulkan Vulkan any(feature = "vulkan", feature = "metal"));

/// Values of data of any type.
pub fn values(data: &TensorData) -> Vec<f64> {
    data.iter::<f64>().collect()
}

/// Values of a tensor.
pub fn tensor_values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    values(&tensor.into_data())
}

/// The largest deviation of a set relative to what is allowed, printed as one line.
#[derive(Debug)]
pub struct Deviations {
    set: String,
    worst: Option<(f64, String)>,
    count: usize,
    failures: Vec<String>,
}

impl Deviations {
    /// Of a set of this name.
    pub fn new(set: impl Into<String>) -> Self {
        Self { set: set.into(), worst: None, count: 0, failures: Vec::new() }
    }

    /// Compares by root mean square: the deviation may be 10 times the noise floor (the original's own
    /// deviation when its weights are perturbed by 1e-7) or 2e-5 of the reference's magnitude, the larger.
    pub fn check(&mut self, what: &str, got: &[f64], expected: &[f64], floor: f64) {
        self.check_within(what, got, expected, floor, 2e-5);
    }

    /// Like [`check`](Self::check) with another relative tolerance, for low-precision types.
    pub fn check_within(&mut self, what: &str, got: &[f64], expected: &[f64], floor: f64, relative: f64) {
        self.count += 1;
        if got.len() != expected.len() {
            self.failures.push(format!("{what}: {} values, expected {}", got.len(), expected.len()));
            return;
        }
        let difference: Vec<f64> = got.iter().zip(expected).map(|(g, e)| g - e).collect();
        let (deviation, size) = (rms(&difference), rms(expected));
        let allowed = (10.0 * floor).max(relative * size).max(f64::MIN_POSITIVE);
        let ratio = deviation / allowed;
        if ratio > 1.0 || ratio.is_nan() {
            self.failures.push(format!(
                "{what}: rms {deviation:.3e}, allowed {allowed:.3e} (reference rms {size:.3e})"
            ));
        }
        if self.worst.as_ref().is_none_or(|(worst, _)| ratio > *worst || ratio.is_nan()) {
            let relative = deviation / size.max(f64::MIN_POSITIVE);
            self.worst = Some((ratio, format!("{what}: rms {deviation:.2e} = {relative:.2e} relative")));
        }
    }

    /// Compares integers, flags and the like.
    pub fn check_equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, got: T, expected: T) {
        self.count += 1;
        if got != expected {
            self.failures.push(format!("{what}: got {got:?}, expected {expected:?}"));
        }
    }

    /// Prints the line of the set.
    ///
    /// # Panics
    /// If anything was out of bounds, or nothing was compared.
    pub fn finish(self) {
        if let Err(failures) = self.report() {
            panic!("{failures}");
        }
    }

    /// Prints the line of the set and gives what was out of bounds.
    ///
    /// # Errors
    /// If there was anything, or nothing was compared.
    pub fn report(self) -> Result<(), String> {
        let (ratio, what) = self.worst.unwrap_or((0.0, "exact".to_owned()));
        println!(
            "parity {:<42} {:>5} checks, largest deviation {:>5.1} % of allowed: {what}",
            self.set,
            self.count,
            ratio * 100.0
        );
        match (self.count, self.failures.is_empty()) {
            (0, _) => Err(format!("{}: nothing was compared", self.set)),
            (_, true) => Ok(()),
            (_, false) => Err(format!("{}:\n  {}", self.set, self.failures.join("\n  "))),
        }
    }
}

/// Root mean square.
pub fn rms(values: &[f64]) -> f64 {
    (values.iter().map(|v| v * v).sum::<f64>() / values.len().max(1) as f64).sqrt()
}
