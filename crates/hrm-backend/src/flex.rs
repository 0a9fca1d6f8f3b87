//! `flex`, the CPU backend, with the kernels of `hrm-kernels` for fp32; other types take the plain operators.

use burn::tensor::{
    Bytes, DType, Shape, TensorMetadata,
    ops::{BoolTensor, FloatTensor, IntTensor},
};
use burn_flex::{Flex, FlexTensor, Layout};
use hrm_kernels::{
    AdamAtan2Step, AttentionShape, GroupBlock, GroupShape, GroupWeight, Matrix, PackedBf16, PackedGateUp,
    PackedGateUpBf16, PackedMatrix, Rotary, Store,
};

use crate::{
    GroupTables, GroupWeights, HrmBackend, MatmulPrecision, groups, matmul_precision, ops::AdamAtan2Update,
    packed, plain::primitives,
};

impl HrmBackend for Flex {
    const WIDEST_FLOAT: DType = DType::F64;
    const ASYNCHRONOUS: bool = false;
    const HAS_MATMUL_PRECISION: bool = true;
    const EXACT_FUNCTIONS: bool = true;

    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        if x.dtype() != DType::F32 {
            return primitives::linear::<Self>(x, weight);
        }
        let ([rows, _], [width, _]) = (dims(&x), dims(&weight));
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let mut out = any_values(rows * width);
        match matmul_precision() {
            MatmulPrecision::F32 => {
                let packed =
                    packed::LINEAR.of(&weight, |o, i| PackedMatrix::pack_weight(values(&weight), o, i));
                hrm_kernels::gemm_packed(matrix(&x), &packed, &mut out, Store::Set);
            }
            MatmulPrecision::Bf16 => {
                let packed =
                    packed::LINEAR_BF16.of(&weight, |o, i| PackedBf16::pack_weight(values(&weight), o, i));
                hrm_kernels::gemm_bf16_packed(matrix(&x), &packed, &mut out, Store::Set);
            }
        }
        from_vec(out, [rows, width])
    }

    fn linear_backward_input(dy: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        if dy.dtype() != DType::F32 {
            return primitives::linear_backward_input::<Self>(dy, weight);
        }
        let ([rows, _], [_, width]) = (dims(&dy), dims(&weight));
        product(matrix(&dy.to_contiguous()), matrix(&weight.to_contiguous()), rows, width)
    }

    fn linear_backward_weight(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        dtype: DType,
    ) -> FloatTensor<Self> {
        if dy.dtype() != DType::F32 {
            return primitives::linear_backward_weight::<Self>(dy, x, dtype);
        }
        let ([_, rows], [_, width]) = (dims(&dy), dims(&x));
        product(matrix(&dy.to_contiguous()).transposed(), matrix(&x.to_contiguous()), rows, width)
    }

    /// Row by row: one pass over `dy`, as a product would also need.
    fn token_embedding_backward(
        dy: FloatTensor<Self>,
        tokens: IntTensor<Self>,
        entries: usize,
    ) -> FloatTensor<Self> {
        primitives::embedding_backward_by_rows::<Self>(dy, tokens, entries)
    }

    fn add_rms_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if x.dtype() != DType::F32 {
            return primitives::add_rms_norm::<Self>(x, residual, eps);
        }
        let [rows, hidden] = dims(&x);
        let (x, residual) = (x.to_contiguous(), residual.to_contiguous());
        let (mut y, mut inv_rms) = (any_values(rows * hidden), any_values(rows));
        hrm_kernels::rms_norm(
            values(&x),
            Some(values(&residual)),
            hidden,
            eps as f32,
            &mut y,
            Some(&mut inv_rms),
        );
        (from_vec(y, [rows, hidden]), from_vec(inv_rms, [rows, 1]))
    }

    fn add_rms_norm_backward(
        y: FloatTensor<Self>,
        inv_rms: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if dy.dtype() != DType::F32 {
            return primitives::add_rms_norm_backward::<Self>(y, inv_rms, dy);
        }
        let [rows, hidden] = dims(&dy);
        let (y, inv_rms, dy) = (y.to_contiguous(), inv_rms.to_contiguous(), dy.to_contiguous());
        let mut du = any_values(rows * hidden);
        hrm_kernels::rms_norm_backward(values(&y), values(&inv_rms), values(&dy), hidden, &mut du);
        from_vec(du, [rows, hidden])
    }

    fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        if gate_up.dtype() != DType::F32 {
            return primitives::swiglu::<Self>(gate_up);
        }
        let [rows, width] = dims(&gate_up);
        let mut out = any_values(rows * width / 2);
        hrm_kernels::swiglu(values(&gate_up.to_contiguous()), width / 2, &mut out);
        from_vec(out, [rows, width / 2])
    }

    fn swiglu_backward(gate_up: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        if dy.dtype() != DType::F32 {
            return primitives::swiglu_backward::<Self>(gate_up, dy);
        }
        let [rows, width] = dims(&gate_up);
        let mut out = any_values(rows * width);
        let (gate_up, dy) = (gate_up.to_contiguous(), dy.to_contiguous());
        hrm_kernels::swiglu_backward(values(&gate_up), values(&dy), width / 2, &mut out);
        from_vec(out, [rows, width])
    }

    fn linear_swiglu(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        if x.dtype() != DType::F32 {
            return Self::swiglu(Self::fused_linear(x, weight));
        }
        let ([rows, _], [width, _]) = (dims(&x), dims(&weight));
        let inter = width / 2;
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let mut out = any_values(rows * inter);
        match matmul_precision() {
            MatmulPrecision::F32 => {
                let packed =
                    packed::GATE_UP.of(&weight, |_, i| PackedGateUp::pack(values(&weight), inter, i));
                hrm_kernels::gemm_swiglu(matrix(&x), &packed, &mut out);
            }
            MatmulPrecision::Bf16 => {
                let packed = packed::GATE_UP_BF16
                    .of(&weight, |_, i| PackedGateUpBf16::pack(values(&weight), inter, i));
                hrm_kernels::gemm_swiglu_bf16(matrix(&x), &packed, &mut out);
            }
        }
        from_vec(out, [rows, inter])
    }

    fn fused_attention(
        qkv: FloatTensor<Self>,
        rotary: Option<(FloatTensor<Self>, FloatTensor<Self>)>,
        heads: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !has_attention_kernel(&qkv, heads) {
            return primitives::attention::<Self>(qkv, rotary, heads);
        }
        let shape = attention_shape(&qkv, heads);
        let rotary = rotary.map(|(cos, sin)| (cos.to_contiguous(), sin.to_contiguous()));
        let (mut out, mut lse) = (any_values(shape.out_len()), any_values(shape.lse_len()));
        let qkv = qkv.to_contiguous();
        hrm_kernels::attention(shape, values(&qkv), tables(&rotary), &mut out, Some(&mut lse));
        (
            from_vec(out, [shape.batch, shape.seq, heads * shape.head_dim]),
            from_vec(lse, [shape.batch, heads, shape.seq]),
        )
    }

    fn attention_backward(
        qkv: FloatTensor<Self>,
        rotary: Option<(FloatTensor<Self>, FloatTensor<Self>)>,
        heads: usize,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        dout: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if !has_attention_kernel(&qkv, heads) {
            return primitives::attention_backward::<Self>(qkv, rotary, heads, out, lse, dout);
        }
        let shape = attention_shape(&qkv, heads);
        let rotary = rotary.map(|(cos, sin)| (cos.to_contiguous(), sin.to_contiguous()));
        let [qkv, out, lse, dout] = [qkv, out, lse, dout].map(|t| t.to_contiguous());
        let mut dqkv = any_values(shape.qkv_len());
        hrm_kernels::attention_backward(
            shape,
            values(&qkv),
            tables(&rotary),
            values(&out),
            values(&lse),
            values(&dout),
            &mut dqkv,
        );
        from_vec(dqkv, [shape.batch, shape.seq, 3 * heads * shape.head_dim])
    }

    fn group_block(
        z: FloatTensor<Self>,
        injection: Option<FloatTensor<Self>>,
        weights: GroupWeights<FloatTensor<Self>>,
        tables: &GroupTables<FloatTensor<Self>>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let shape = group_shape(&z, &weights);
        if z.dtype() != DType::F32 || !shape.fits() {
            return groups::group_block::<Self>(z, injection, weights, tables, eps);
        }
        let (z, injection) = (z.to_contiguous(), injection.map(|x| x.to_contiguous()));
        let (mut y, mut inv_rms) =
            (any_values(values(&z).len()), any_values(values(&z).len() / shape.hidden));
        with_group_block(shape, &weights, tables, eps, |block| {
            hrm_kernels::group_block(block, values(&z), injection.as_ref().map(values), &mut y, &mut inv_rms);
        });
        let rows = inv_rms.len();
        (from_vec(y, dims::<3>(&z)), from_vec(inv_rms, [rows, 1]))
    }

    fn group_block_backward(
        (z, injection): (FloatTensor<Self>, Option<FloatTensor<Self>>),
        weights: GroupWeights<FloatTensor<Self>>,
        tables: &GroupTables<FloatTensor<Self>>,
        (y, inv_rms): (FloatTensor<Self>, FloatTensor<Self>),
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, GroupWeights<FloatTensor<Self>>) {
        let shape = group_shape(&z, &weights);
        if dy.dtype() != DType::F32 || !shape.fits() {
            return groups::group_block_backward::<Self>((z, injection), weights, tables, (y, inv_rms), dy);
        }
        let injection = injection.map(|x| x.to_contiguous());
        let [z, y, inv_rms, dy] = [z, y, inv_rms, dy].map(|t| t.to_contiguous());
        let mut dz = any_values(values(&z).len());
        let shapes = [&weights.input, &weights.gate_up, &weights.down].map(dims::<2>);
        let [mut input, mut gate_up, mut down] = shapes.map(|[rows, cols]| any_values(rows * cols));
        // The gradient does not depend on eps: the reciprocal holds it.
        with_group_block(shape, &weights, tables, 0.0, |block| {
            hrm_kernels::group_block_backward(
                block,
                values(&z),
                injection.as_ref().map(values),
                (values(&y), values(&inv_rms)),
                values(&dy),
                &mut dz,
                [&mut input, &mut gate_up, &mut down],
            );
        });
        let weights = GroupWeights {
            input: from_vec(input, shapes[0]),
            gate_up: from_vec(gate_up, shapes[1]),
            down: from_vec(down, shapes[2]),
        };
        (from_vec(dz, dims::<3>(&z)), weights)
    }

    /// Copies the rows in question: Burn's own operator walks over every element by its strides.
    fn replace_rows(
        old: FloatTensor<Self>,
        replaced: BoolTensor<Self>,
        new: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        if old.dtype() != DType::F32 {
            return primitives::replace_rows::<Self>(old, replaced, new);
        }
        let [_, len, width] = dims(&old);
        // In place where nobody else holds the buffer, on a copy otherwise.
        let mut out = old.to_contiguous();
        drop(old);
        let rows = out.storage_mut::<f32>().chunks_exact_mut((len * width).max(1));
        for (index, (row, replaced)) in rows.zip(replaced.to_contiguous().bytes()).enumerate() {
            if *replaced != 0 {
                row.copy_from_slice(values(&new.narrow(0, index, 1).to_contiguous()));
            }
        }
        out
    }

    fn adam_atan2(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moments: (FloatTensor<Self>, FloatTensor<Self>),
        update: &AdamAtan2Update,
        good: Option<FloatTensor<Self>>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if good.is_some_and(|good| values(&good.to_contiguous())[0] == 0.0) {
            return (param, moments.0, moments.1);
        }
        let AdamAtan2Update { lr, beta1, beta2, weight_decay, step } = *update;
        let [mut param, grad, mut m, mut v] =
            [param, grad, moments.0, moments.1].map(|tensor| tensor.to_contiguous());
        // In place where nobody else holds the buffer, on a copy otherwise.
        hrm_kernels::adam_atan2_step(
            param.storage_mut(),
            values(&grad),
            m.storage_mut(),
            v.storage_mut(),
            AdamAtan2Step { lr, beta1, beta2, weight_decay, step },
        );
        (param, m, v)
    }
}

fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor.shape().dims()
}

/// The values of a contiguous fp32 tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous fp32 tensor")
}

fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
    let [rows, cols] = dims(tensor);
    Matrix::new(values(tensor), rows, cols)
}

fn product(a: Matrix<'_>, b: Matrix<'_>, rows: usize, cols: usize) -> FlexTensor {
    let mut out = any_values(rows * cols);
    match matmul_precision() {
        MatmulPrecision::F32 => hrm_kernels::gemm(a, b, &mut out, Store::Set),
        MatmulPrecision::Bf16 => hrm_kernels::gemm_bf16(a, b, &mut out, Store::Set),
    }
    from_vec(out, [rows, cols])
}

/// A buffer for a kernel to fill: some numbers or other. Zeros would cost as much as some of the kernels.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
fn any_values(len: usize) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(len);
    // SAFETY: the address is of `len` values that belong to `values`. For the compiler, assembly that is given it may write
    // them all, so that they are numbers from here on, as any bits are an f32: what memory held before, and not undefined.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) values.as_mut_ptr(), options(nostack, preserves_flags));
        values.set_len(len);
    }
    values
}

/// The same where no assembly is to be had.
#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
fn any_values(len: usize) -> Vec<f32> {
    vec![0.0; len]
}

fn from_vec<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::new(shape)), DType::F32)
}

fn group_shape(z: &FlexTensor, weights: &GroupWeights<FlexTensor>) -> GroupShape {
    let ([batch, _, hidden], [width, _], [_, inter]) = (dims(z), dims(&weights.input), dims(&weights.down));
    GroupShape { batch, hidden, width, inter }
}

/// Calls a kernel with a block of these weights, packed in the precision in force.
fn with_group_block(
    shape: GroupShape,
    weights: &GroupWeights<FlexTensor>,
    tables: &GroupTables<FlexTensor>,
    eps: f64,
    kernel: impl FnOnce(GroupBlock<'_>),
) {
    let precision = matmul_precision();
    let [input, gate_up, down] = [&weights.input, &weights.gate_up, &weights.down].map(|weight| {
        let weight = weight.to_contiguous();
        packed::GROUP[precision as usize].of(&weight, |rows, cols| {
            GroupWeight::pack(values(&weight), rows, cols, precision == MatmulPrecision::Bf16)
        })
    });
    kernel(GroupBlock {
        shape,
        index: tables.groups.index(),
        input: &input,
        gate_up: &gate_up,
        down: &down,
        eps: eps as f32,
    });
}

/// The kernels take fp32 and even head widths; odd ones, possible without rotary positions, are rare.
fn has_attention_kernel(qkv: &FlexTensor, heads: usize) -> bool {
    qkv.dtype() == DType::F32 && attention_shape(qkv, heads).head_dim.is_multiple_of(2)
}

fn attention_shape(qkv: &FlexTensor, heads: usize) -> AttentionShape {
    let [batch, seq, width] = dims(qkv);
    AttentionShape { batch, seq, heads, head_dim: width / 3 / heads }
}

fn tables(rotary: &Option<(FlexTensor, FlexTensor)>) -> Option<Rotary<'_>> {
    rotary.as_ref().map(|(cos, sin)| Rotary { cos: values(cos), sin: values(sin) })
}
