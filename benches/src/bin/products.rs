//! Which kernel multiplies fastest on a GPU, at the shapes of a training step: the table behind the default of
//! `hrm_backend::cube::KERNELS`.
//!
//! Usage: `products [KERNEL...]`, all kernels by default. A line for each kernel and product: TFLOP/s, and the mean of the
//! result's magnitudes, which should be the same for all. Several processes may run at once, as compilation takes most of the
//! time: what is timed, holds a lock.

#[cfg(feature = "fusion")]
fn main() {
    eprintln!("kernels are chosen without the feature `fusion` only");
    std::process::exit(2);
}

#[cfg(not(feature = "fusion"))]
fn main() {
    use std::{env, fs::File, time::Instant};

    use burn::{
        backend::Cuda,
        tensor::{DType, Distribution, Tensor, TensorPrimitive, backend::Backend},
    };
    use hrm_backend::cube::{KERNELS, product_by};

    /// What is multiplied: batch, m, k, n, and whether the operands lie transposed in memory.
    struct Product(&'static str, usize, [usize; 3], bool, bool);

    let products = [
        Product("gate and up", 1, [33792, 512, 3072], false, true),
        Product("down", 1, [33792, 1536, 512], false, true),
        Product("tokens: gate and up", 1, [196_608, 88, 512], false, true),
        Product("tokens: down", 1, [196_608, 256, 88], false, true),
        Product("gradient of the input, gate and up", 1, [33792, 3072, 512], false, false),
        Product("gradient of the input, down", 1, [33792, 512, 1536], false, false),
        Product("gradient of the input, tokens", 1, [196_608, 512, 88], false, false),
        Product("gradient of the weight, gate and up, 4 groups", 4, [3072, 8448, 512], true, false),
        Product("gradient of the weight, tokens, 128 groups", 128, [512, 1536, 88], true, false),
        Product("scores", 3072, [88, 64, 88], false, true),
        Product("values", 3072, [88, 88, 64], false, false),
    ];
    let named: Vec<String> = env::args().skip(1).collect();
    let kernels =
        KERNELS.into_iter().filter(|kernel| named.is_empty() || named.iter().any(|name| name == kernel));
    let device = Default::default();
    let matrix = |batch, rows: usize, columns: usize, turned: bool| {
        let shape = if turned { [batch, columns, rows] } else { [batch, rows, columns] };
        let x = Tensor::<Cuda, 3>::random(shape, Distribution::Uniform(-1.0, 1.0), &device).cast(DType::BF16);
        if turned { x.swap_dims(1, 2) } else { x }
    };
    for kernel in kernels {
        for Product(what, batch, [m, k, n], lhs_turned, rhs_turned) in &products {
            let lhs = matrix(*batch, *m, *k, *lhs_turned).into_primitive().tensor();
            let rhs = matrix(*batch, *k, *n, *rhs_turned).into_primitive().tensor();
            let run = || product_by(kernel, lhs.clone(), rhs.clone(), DType::BF16);
            let first = match run() {
                Ok(first) => first,
                Err(error) => {
                    println!("{kernel:24} | {what:46} | {}", error.chars().take(90).collect::<String>());
                    continue;
                }
            };
            let magnitude = Tensor::<Cuda, 3>::from_primitive(TensorPrimitive::Float(first))
                .cast(DType::F32)
                .abs()
                .mean();
            let magnitude: f64 = magnitude.into_data().iter::<f64>().sum();
            let lock = File::create(env::temp_dir().join("hrm-products.lock")).expect("a temporary file");
            lock.lock().expect("a lock");
            let start = Instant::now();
            const RUNS: usize = 10;
            for _ in 0..RUNS {
                let _ = run();
            }
            <Cuda>::sync(&device).expect("the device answers");
            let seconds = start.elapsed().as_secs_f64() / RUNS as f64;
            drop(lock);
            let rate = 2e-12 * (batch * m * k * n) as f64 / seconds;
            println!(
                "{kernel:24} | {what:46} | {rate:7.1} TFLOP/s | {:8.3} ms | {magnitude:.4}",
                seconds * 1e3
            );
        }
    }
}
