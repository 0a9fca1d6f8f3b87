//! GFLOP/s of the matrix products of the model's linear layers: `cargo run -p hrm-kernels --example bench_gemm [-- ROWS...]`.
//!
//! Figures are the best of several rounds; the variants take turns within a round, so that a busy machine hurts all alike. With one thread
//! (`RAYON_NUM_THREADS=1`) the clock counts that thread's time on the processor, so that other programs hardly matter.

use hrm_kernels::{
    Bf16Engine, Matrix, PackedBf16, PackedMatrix, Store, gemm, gemm_bf16, gemm_bf16_packed, gemm_packed,
};
use std::time::Instant;

mod clock;

fn main() {
    let mut rows: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    if rows.is_empty() {
        rows = vec![82, 2624, 31488];
    }
    let engine = Bf16Engine::best();
    println!(
        "{:?} / {engine:?}, {} threads; GFLOP/s, best of N",
        hrm_kernels::Isa::best(),
        rayon::current_num_threads()
    );
    println!("{:>17} | {:^31} | {:^31}", "", "f32", "bf16");
    print!("{:>6} {:>4} {:>5}", "rows", "in", "out");
    for _ in 0..2 {
        print!(" | {:>7} {:>7} {:>7} {:>7}", "packed", "NT", "NN dx", "TN dw");
    }
    println!();
    let zero = Instant::now();
    for m in rows {
        for (k, n) in [(512, 1536), (512, 512), (512, 3072), (1536, 512), (128, 128), (64, 384)] {
            let x = vec![0.5f32; m * k];
            let dy = vec![0.25f32; m * n];
            let w = vec![0.125f32; n * k];
            let packed = PackedMatrix::pack_weight(&w, n, k);
            let (mut y, mut dx, mut dw) = (vec![0.0; m * n], vec![0.0; m * k], vec![0.0; n * k]);
            let flop = 2.0 * (m * n * k) as f64;
            let rounds = ((1e11 / flop) as usize).clamp(3, 30);
            let mut best = [f64::INFINITY; 8];
            let half = PackedBf16::pack_weight(&w, n, k);
            for _ in 0..rounds {
                let repeat = ((1e8 / flop) as usize).max(1);
                let mut time = |slot: usize, f: &mut dyn FnMut()| {
                    let start = clock::seconds(zero);
                    (0..repeat).for_each(|_| f());
                    best[slot] = best[slot].min((clock::seconds(zero) - start) / repeat as f64);
                };
                let (mx, mw, mdy) = (Matrix::new(&x, m, k), Matrix::new(&w, n, k), Matrix::new(&dy, m, n));
                time(0, &mut || gemm_packed(mx, &packed, &mut y, Store::Set));
                time(1, &mut || gemm(mx, mw.transposed(), &mut y, Store::Set));
                time(2, &mut || gemm(mdy, mw, &mut dx, Store::Set));
                time(3, &mut || gemm(mdy.transposed(), mx, &mut dw, Store::Set));
                time(4, &mut || gemm_bf16_packed(mx, &half, &mut y, Store::Set));
                time(5, &mut || gemm_bf16(mx, mw.transposed(), &mut y, Store::Set));
                time(6, &mut || gemm_bf16(mdy, mw, &mut dx, Store::Set));
                time(7, &mut || gemm_bf16(mdy.transposed(), mx, &mut dw, Store::Set));
            }
            print!("{m:>6} {k:>4} {n:>5}");
            for part in best.chunks(4) {
                print!(" |");
                part.iter().for_each(|t| print!(" {:>7.1}", flop / t / 1e9));
            }
            println!();
        }
    }
}
