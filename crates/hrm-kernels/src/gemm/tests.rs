use super::*;
use crate::testing::{ISA, in_pools, random, tried, unless_miri, with};

/// Largest error in units of the sum of |a b|.
fn worst(a: Matrix<'_>, b: Matrix<'_>, before: &[f32], out: &[f32]) -> f64 {
    let mut worst = 0.0f64;
    for i in 0..a.rows {
        for j in 0..b.cols {
            let (mut sum, mut size) =
                (f64::from(before[i * b.cols + j]), f64::from(before[i * b.cols + j]).abs());
            for p in 0..a.cols {
                let x = f64::from(a.data[i * a.row_stride + p * a.col_stride]);
                let y = f64::from(b.data[p * b.row_stride + j * b.col_stride]);
                sum += x * y;
                size += (x * y).abs();
            }
            worst = worst.max((f64::from(out[i * b.cols + j]) - sum).abs() / size.max(1e-30));
        }
    }
    worst
}

const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (15, 33, 17),
    (3, 5, 7),
    (14, 32, 16),
    (29, 31, 600),
    (82, 96, 64),
    (1, 100, 513),
    (250, 3, 40),
    (13, 130, 1100),
    (64, 65, 63),
    (240, 70, 33),
    (2, 17, 2000),
];

#[test]
fn matches_reference_in_all_layouts() {
    for isa in Isa::available() {
        for &(m, n, k) in tried(&SHAPES) {
            let (x, y) = (random(m * k, 1), random(k * n, 2));
            for layout in 0..4 {
                let a =
                    if layout & 1 == 0 { Matrix::new(&x, m, k) } else { Matrix::new(&x, k, m).transposed() };
                let b =
                    if layout & 2 == 0 { Matrix::new(&y, k, n) } else { Matrix::new(&y, n, k).transposed() };
                let before = random(m * n, 3);
                let mut out = before.clone();
                with(&ISA, isa, || gemm(a, b, &mut out, Store::Set));
                let error = worst(a, b, &vec![0.0; m * n], &out);
                assert!(error < 3e-6, "{isa:?} {m}x{n}x{k} layout {layout}: {error:e}");
                let mut again = vec![f32::NAN; m * n];
                gemm_packed(a, &with(&ISA, isa, || PackedMatrix::pack(b)), &mut again, Store::Set);
                assert_eq!(out, again, "{isa:?} {m}x{n}x{k} layout {layout}: packed differs");
                let mut added = before.clone();
                with(&ISA, isa, || gemm(a, b, &mut added, Store::Add));
                let error = worst(a, b, &before, &added);
                assert!(error < 3e-6, "{isa:?} {m}x{n}x{k} layout {layout}, add: {error:e}");
            }
        }
    }
}

#[test]
fn any_strides() {
    for isa in Isa::available() {
        let (m, n, k) = (17, 35, 21);
        let (x, y) = (random(m * k * 6, 1), random(k * n * 6, 2));
        let a = Matrix::strided(&x, m, k, k * 3, 2);
        let b = Matrix::strided(&y, k, n, 2, k * 3);
        let mut out = vec![0.0; m * n];
        with(&ISA, isa, || gemm(a, b, &mut out, Store::Set));
        assert!(worst(a, b, &vec![0.0; m * n], &out) < 1e-6);
    }
}

#[test]
fn a_long_reduction_is_packed_in_parts() {
    let (m, n, k) = (5, unless_miri(4096, 20), unless_miri(2100, 600));
    let (x, y) = (random(m * k, 1), random(k * n, 2));
    let (a, b) = (Matrix::new(&x, m, k), Matrix::new(&y, k, n));
    let (mut out, mut packed) = (vec![0.0; m * n], vec![0.0; m * n]);
    gemm(a, b, &mut out, Store::Set);
    gemm_packed(a, &PackedMatrix::pack(b), &mut packed, Store::Set);
    assert_eq!(out, packed);
}

#[test]
fn an_empty_reduction_is_zero() {
    let mut out = vec![1.0; 6];
    gemm(Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3), &mut out, Store::Add);
    assert_eq!(out, [1.0; 6]);
    gemm(Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3), &mut out, Store::Set);
    assert_eq!(out, [0.0; 6]);
}

#[test]
fn does_not_depend_on_threads_or_on_other_rows() {
    let sizes = [(82, 512, 512), (82, 200, 700), (500, 96, 1100)];
    for &(m, n, k) in if cfg!(miri) { &[(34, 40, 20)][..] } else { &sizes } {
        let (x, y) = (random(m * k, 1), random(k * n, 2));
        let run = |rows: usize| {
            let mut out = vec![0.0; rows * n];
            gemm(
                Matrix::new(&x[..rows * k], rows, k),
                Matrix::new(&y, n, k).transposed(),
                &mut out,
                Store::Set,
            );
            out
        };
        let all = in_pools(|| run(m));
        for rows in [1, 7, 33] {
            assert_eq!(run(rows), all[..rows * n], "{rows} rows of {m}x{n}x{k}");
        }
    }
}

#[test]
#[should_panic(expected = "b needs 3 rows, got 2")]
fn wrong_shapes_are_told() {
    gemm(Matrix::new(&[0.0; 6], 2, 3), Matrix::new(&[0.0; 6], 2, 3), &mut [0.0; 6], Store::Set);
}
