//! GFLOP/s of the matrix products of the model's linear layers: `cargo run -p hrm-kernels --example bench_gemm [-- ROWS...]`.
//!
//! Figures are the best of several rounds; the variants take turns within a round, so that a busy machine hurts all alike.

use hrm_kernels::{Matrix, PackedMatrix, Store, gemm, gemm_packed};
use std::time::Instant;

fn main() {
    let mut rows: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    if rows.is_empty() {
        rows = vec![82, 2624, 31488];
    }
    println!(
        "{:?}, {} threads; GFLOP/s, best of N",
        hrm_kernels::Isa::best(),
        rayon::current_num_threads()
    );
    println!(
        "{:>6} {:>5} {:>5} | {:>7} {:>7} {:>7} {:>7}",
        "rows", "in", "out", "packed", "NT", "NN dx", "TN dw"
    );
    for m in rows {
        for (k, n) in [
            (512, 1536),
            (512, 512),
            (512, 3072),
            (1536, 512),
            (128, 128),
            (64, 384),
        ] {
            let x = vec![0.5f32; m * k];
            let dy = vec![0.25f32; m * n];
            let w = vec![0.125f32; n * k];
            let packed = PackedMatrix::pack_weight(&w, n, k);
            let (mut y, mut dx, mut dw) = (vec![0.0; m * n], vec![0.0; m * k], vec![0.0; n * k]);
            let flop = 2.0 * (m * n * k) as f64;
            let rounds = ((4e11 / flop) as usize).clamp(3, 40);
            let mut best = [f64::INFINITY; 4];
            for _ in 0..rounds {
                let repeat = ((2e8 / flop) as usize).max(1);
                let mut time = |slot: usize, f: &mut dyn FnMut()| {
                    let start = Instant::now();
                    (0..repeat).for_each(|_| f());
                    best[slot] = best[slot].min(start.elapsed().as_secs_f64() / repeat as f64);
                };
                let (mx, mw, mdy) = (
                    Matrix::new(&x, m, k),
                    Matrix::new(&w, n, k),
                    Matrix::new(&dy, m, n),
                );
                time(0, &mut || gemm_packed(mx, &packed, &mut y, Store::Set));
                time(1, &mut || gemm(mx, mw.transposed(), &mut y, Store::Set));
                time(2, &mut || gemm(mdy, mw, &mut dx, Store::Set));
                time(3, &mut || gemm(mdy.transposed(), mx, &mut dw, Store::Set));
            }
            let [a, b, c, d] = best.map(|t| flop / t / 1e9);
            println!("{m:>6} {k:>5} {n:>5} | {a:>7.1} {b:>7.1} {c:>7.1} {d:>7.1}");
        }
    }
}
