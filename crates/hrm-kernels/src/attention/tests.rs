use super::*;
use crate::testing::{ISA, in_pools, random, tried, unless_miri, with};

fn tables(seq: usize, head_dim: usize) -> (Vec<f32>, Vec<f32>) {
    // Both halves differ, so that a mix-up of halves is seen.
    let angle = |t: usize, i: usize| {
        t as f32 * 10_000f32.powf(-((i % (head_dim / 2)) as f32) * 2.0 / head_dim as f32) + 0.01 * i as f32
    };
    let of = |f: fn(f32) -> f32| (0..seq * head_dim).map(|i| f(angle(i / head_dim, i % head_dim))).collect();
    (of(f32::cos), of(f32::sin))
}

/// Output, log-sum-exp and gradient in f64.
fn reference(
    shape: AttentionShape,
    qkv: &[f32],
    rotary: Option<Rotary<'_>>,
    dout: &[f32],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let AttentionShape { batch, seq, heads, head_dim } = shape;
    let (mut out, mut lses, mut grad) =
        (vec![0.0; shape.out_len()], vec![0.0; shape.lse_len()], vec![0.0; shape.qkv_len()]);
    let half = head_dim / 2;
    for b in 0..batch {
        for h in 0..heads {
            let at =
                |t: usize, part: usize, d: usize| (((b * seq + t) * 3 + part) * heads + h) * head_dim + d;
            let turn = |t: usize, part: usize| -> Vec<f64> {
                (0..head_dim)
                    .map(|d| {
                        let x = f64::from(qkv[at(t, part, d)]);
                        let Some(Rotary { cos, sin }) = rotary else {
                            return x;
                        };
                        let other = if d < half {
                            -f64::from(qkv[at(t, part, d + half)])
                        } else {
                            f64::from(qkv[at(t, part, d - half)])
                        };
                        x * f64::from(cos[t * head_dim + d]) + other * f64::from(sin[t * head_dim + d])
                    })
                    .collect()
            };
            let q: Vec<_> = (0..seq).map(|t| turn(t, 0)).collect();
            let k: Vec<_> = (0..seq).map(|t| turn(t, 1)).collect();
            let scale = 1.0 / (head_dim as f64).sqrt();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (mut dq, mut dk) = (vec![vec![0.0; head_dim]; seq], vec![vec![0.0; head_dim]; seq]);
            for i in 0..seq {
                let s: Vec<f64> = (0..seq).map(|j| dot(&q[i], &k[j]) * scale).collect();
                let largest = s.iter().copied().fold(f64::MIN, f64::max);
                let lse = largest + s.iter().map(|s| (s - largest).exp()).sum::<f64>().ln();
                lses[(b * heads + h) * seq + i] = lse;
                let row = ((b * seq + i) * heads + h) * head_dim;
                let d_row: Vec<f64> = (0..head_dim).map(|d| f64::from(dout[row + d])).collect();
                let p: Vec<f64> = s.iter().map(|s| (s - lse).exp()).collect();
                let value =
                    |j: usize| -> Vec<f64> { (0..head_dim).map(|d| f64::from(qkv[at(j, 2, d)])).collect() };
                let dp: Vec<f64> = (0..seq).map(|j| dot(&value(j), &d_row)).collect();
                let delta = dot(&p, &dp);
                for j in 0..seq {
                    let ds = p[j] * (dp[j] - delta) * scale;
                    for d in 0..head_dim {
                        out[row + d] += p[j] * f64::from(qkv[at(j, 2, d)]);
                        grad[at(j, 2, d)] += p[j] * d_row[d];
                        dq[i][d] += ds * k[j][d];
                        dk[j][d] += ds * q[i][d];
                    }
                }
            }
            for (part, g) in [(0, &dq), (1, &dk)] {
                for t in 0..seq {
                    for d in 0..head_dim {
                        grad[at(t, part, d)] = match rotary {
                            None => g[t][d],
                            Some(Rotary { cos, sin }) => {
                                let (other, sign) = if d < half { (d + half, 1.0) } else { (d - half, -1.0) };
                                g[t][d] * f64::from(cos[t * head_dim + d])
                                    + sign * g[t][other] * f64::from(sin[t * head_dim + other])
                            }
                        };
                    }
                }
            }
        }
    }
    (out, lses, grad)
}

fn worst(got: &[f32], want: &[f64]) -> f64 {
    got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max)
}

#[test]
fn matches_reference() {
    for isa in Isa::available() {
        for &(batch, seq, heads, head_dim) in tried(&[
            (1, 1, 1, 2),
            (2, 5, 2, 6),
            (2, 16, 2, 16),
            (1, 33, 1, 24),
            (1, 37, 3, 32),
            (2, 82, 2, 64),
            (1, 200, 1, 64),
            (1, 49, 2, 80),
        ]) {
            let shape = AttentionShape { batch, seq, heads, head_dim };
            let (qkv, dout) = (random(shape.qkv_len(), 1), random(shape.out_len(), 2));
            let (cos, sin) = tables(seq, head_dim);
            for rotary in [None, Some(Rotary { cos: &cos, sin: &sin })] {
                let (mut out, mut lse) = (vec![f32::NAN; shape.out_len()], vec![f32::NAN; shape.lse_len()]);
                let mut grad = vec![f32::NAN; shape.qkv_len()];
                with(&ISA, isa, || attention(shape, &qkv, rotary, &mut out, Some(&mut lse)));
                let mut alone = vec![f32::NAN; shape.out_len()];
                with(&ISA, isa, || attention(shape, &qkv, rotary, &mut alone, None));
                assert_eq!(out, alone);
                with(&ISA, isa, || attention_backward(shape, &qkv, rotary, &out, &lse, &dout, &mut grad));
                let want = reference(shape, &qkv, rotary, &dout);
                let errors = [worst(&out, &want.0), worst(&lse, &want.1), worst(&grad, &want.2)];
                println!("{isa:?} {shape:?}: {errors:?}");
                assert!(errors.iter().all(|e| *e < 3e-6), "{isa:?} {shape:?}: {errors:?}");
            }
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let shape = AttentionShape { batch: 1, seq: 20, heads: 1, head_dim: 16 };
    let qkv: Vec<f32> = random(shape.qkv_len(), 1).iter().map(|x| x * 100.0).collect();
    let (mut out, mut lse) = (vec![0.0; shape.out_len()], vec![0.0; shape.lse_len()]);
    attention(shape, &qkv, None, &mut out, Some(&mut lse));
    let mut grad = vec![0.0; shape.qkv_len()];
    attention_backward(shape, &qkv, None, &out, &lse, &random(shape.out_len(), 2), &mut grad);
    assert!(out.iter().chain(&lse).chain(&grad).all(|x| x.is_finite()));
}

#[test]
fn does_not_depend_on_threads() {
    let seq = unless_miri(60, 3);
    let shape = AttentionShape { batch: 3, seq, heads: 4, head_dim: 32 };
    let (qkv, dout) = (random(shape.qkv_len(), 1), random(shape.out_len(), 2));
    let (cos, sin) = tables(seq, 32);
    let rotary = Some(Rotary { cos: &cos, sin: &sin });
    in_pools(|| {
        let (mut out, mut lse) = (vec![0.0; shape.out_len()], vec![0.0; shape.lse_len()]);
        let mut grad = vec![0.0; shape.qkv_len()];
        attention(shape, &qkv, rotary, &mut out, Some(&mut lse));
        attention_backward(shape, &qkv, rotary, &out, &lse, &dout, &mut grad);
        [out, lse, grad].concat()
    });
}
