//! Sizes whose products or sums wrap around are refused: no safe call reads or writes beyond its slices.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hrm_kernels::{
    AttentionShape, Matrix, PackedGateUp, PackedMatrix, Rotary, Store, attention, attention_backward, gemm,
    gemm_bf16, gemm_packed, gemm_swiglu, swiglu, swiglu_backward,
};

#[track_caller]
fn refused(what: &str, call: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err(), "{what} was accepted");
}

const HALF: usize = 1 << 63;

#[test]
fn matrices() {
    let data = [1.0f32; 4];
    refused("wrapping stride", || _ = Matrix::strided(&data, HALF + 1, 1, 2, 1));
    refused("wrapping sum", || _ = Matrix::strided(&data, 2, 2, usize::MAX, 2));
    refused("wrapping columns", || _ = Matrix::strided(&data, 1, HALF + 1, 1, 2));
    refused("rows without end", || _ = Matrix::strided(&data, usize::MAX, 2, 0, 1));
    refused("wrapping product", || _ = Matrix::new(&data, HALF + 2, 2));
    refused("wrapping to nothing", || _ = Matrix::new(&[], HALF, 2));
    refused("wrapping square", || _ = Matrix::new(&[], 1 << 32, 1 << 32));

    // Valid matrices, of which an output would wrap.
    let tall = Matrix::strided(&data, 1 << 40, 1, 0, 1);
    let wide = Matrix::strided(&data, 1, 1 << 40, 1, 0);
    let mut out = [0.0; 4];
    refused("an output of 2^80", || gemm(tall, wide, &mut out, Store::Set));
    refused("an output of 2^80", || gemm_bf16(tall, wide, &mut [], Store::Set));
    refused("two parts of a weight", || drop(PackedGateUp::pack(&data, HALF + 1, 2)));
    refused("two parts of a weight", || drop(PackedGateUp::pack(&data, 1, HALF + 2)));
    let weight = PackedGateUp::pack(&data, 1, 2);
    refused("too few rows", || gemm_swiglu(Matrix::new(&data, 2, 2), &weight, &mut out));

    // Nothing, in huge amounts, is still nothing.
    gemm(Matrix::new(&[], usize::MAX, 0), Matrix::new(&[], 0, 0), &mut [], Store::Set);
    let packed = PackedMatrix::pack(Matrix::new(&[], 0, 3));
    gemm_packed(Matrix::new(&[], 1, 0), &packed, &mut out[..3], Store::Set);
    drop(PackedMatrix::pack(Matrix::new(&[], 0, usize::MAX >> 1)));
}

#[test]
fn feed_forward() {
    let (gate_up, mut out) = ([1.0f32; 4], [0.0f32; 4]);
    refused("wrapping width", || swiglu(&gate_up, HALF + 1, &mut out[..2]));
    refused("wrapping width", || swiglu(&gate_up, HALF, &mut []));
    refused("wrapping width", || swiglu_backward(&gate_up, &[1.0; 2], HALF + 1, &mut out));
}

#[test]
fn attentions() {
    let shape = |batch, seq, heads, head_dim| AttentionShape { batch, seq, heads, head_dim };
    for wrapping in [
        shape(HALF, 1, 1, 2),
        shape(1, 1 << 32, 1 << 31, 2),
        shape(1 << 62, 1, 1, 4),
        shape(usize::MAX / 6 + 1, 1, 1, 2),
    ] {
        refused("qkv", || attention(wrapping, &[], None, &mut [], None));
        refused("qkv", || attention_backward(wrapping, &[], None, &[], &[], &[], &mut []));
        refused("its length", || _ = wrapping.qkv_len());
    }
    // No tokens in very many sequences; tables that wrap.
    attention(shape(1 << 40, 0, 1 << 10, 2), &[], None, &mut [], None);
    let rotary = Rotary { cos: &[], sin: &[] };
    refused("tables", || attention(shape(0, HALF, 1, 2), &[], Some(rotary), &mut [], None));
}
