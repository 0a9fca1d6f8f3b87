use super::*;
use crate::testing::{ENGINE, in_pools, random, tried, unless_miri, with};
use half::bf16;

fn rounded(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| bf16::from_f32(*x).to_f32()).collect()
}

#[test]
fn matches_reference_in_all_layouts() {
    println!("{:?}", Bf16Engine::available());
    for engine in Bf16Engine::available() {
        for &(m, n, k) in tried(&[
            (1, 1, 1),
            (33, 31, 33),
            (3, 5, 7),
            (16, 16, 32),
            (32, 32, 64),
            (82, 96, 64),
            (50, 70, 1100),
            (300, 40, 31),
        ]) {
            let (x, y) = (random(m * k, 1), random(k * n, 2));
            for layout in 0..5 {
                let a =
                    if layout & 1 == 0 { Matrix::new(&x, m, k) } else { Matrix::new(&x, k, m).transposed() };
                let b =
                    if layout & 2 == 0 { Matrix::new(&y, k, n) } else { Matrix::new(&y, n, k).transposed() };
                let (wide_x, wide_y) = (random(2 * m * k, 4), random(2 * k * n, 5));
                let (a, b) = if layout < 4 {
                    (a, b)
                } else {
                    (Matrix::strided(&wide_x, m, k, 2 * k, 2), Matrix::strided(&wide_y, k, n, 2, 2 * k))
                };
                let (xs, ys) = if layout < 4 { (&x, &y) } else { (&wide_x, &wide_y) };
                let (xs, ys) = (rounded(xs), rounded(ys));
                let before = random(m * n, 3);
                let (mut out, mut packed, mut added) =
                    (vec![f32::NAN; m * n], vec![f32::NAN; m * n], before.clone());
                with(&ENGINE, engine, || {
                    gemm_bf16(a, b, &mut out, Store::Set);
                    gemm_bf16_packed(a, &PackedBf16::pack(b), &mut packed, Store::Set);
                });
                assert_eq!(out, packed, "{engine:?} {m}x{n}x{k} layout {layout}");
                with(&ENGINE, engine, || gemm_bf16(a, b, &mut added, Store::Add));
                for i in 0..m {
                    for j in 0..n {
                        let (mut sum, mut size) = (0.0, 0.0);
                        for p in 0..k {
                            let (u, v) = (a.offset(i, p), b.offset(p, j));
                            let term = f64::from(xs[u]) * f64::from(ys[v]);
                            sum += term;
                            size += term.abs();
                        }
                        let at = i * n + j;
                        let close = |got: f32, want: f64| {
                            assert!(
                                (f64::from(got) - want).abs() < 3e-6 * (size + 1.0),
                                "{engine:?} {m}x{n}x{k} layout {layout}: {got} is not {want}"
                            );
                        };
                        close(out[at], sum);
                        close(added[at], sum + f64::from(before[at]));
                    }
                }
            }
        }
    }
}

#[test]
fn does_not_depend_on_threads_or_on_other_rows() {
    let (m, n, k) = (unless_miri(200, 42), unless_miri(300, 40), unless_miri(700, 40));
    let (x, y) = (random(m * k, 1), random(k * n, 2));
    let run = |rows: usize| {
        let mut out = vec![0.0; rows * n];
        gemm_bf16(
            Matrix::new(&x[..rows * k], rows, k),
            Matrix::new(&y, n, k).transposed(),
            &mut out,
            Store::Set,
        );
        out
    };
    let all = in_pools(|| run(m));
    assert!(run(41) == all[..41 * n]);
}
