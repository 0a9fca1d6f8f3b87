//! Every operator of [`HrmBackend`] in plain Burn: the fallback of all backends, and what
//! faster versions are tested against, forward and backward.

use burn::tensor::{Bool, DType, IndexingUpdateOp, Int, Tensor, backend::Backend, ops::FloatTensor};

use crate::{
    HrmBackend, functions,
    ops::{self, AdamAtan2Update},
    primitive, tensor,
};

/// See [`HrmBackend::fused_linear`].
pub fn linear<B: HrmBackend>(x: Tensor<B, 2>, weight: Tensor<B, 2>) -> Tensor<B, 2> {
    let dtype = x.dtype();
    ops::product(x, ops::convert(weight, dtype).transpose())
}

/// The most entries of a table whose gradient is a product: its cost grows with them, that of adding row by row does not.
pub(crate) const PRODUCT_ENTRIES: usize = 512;

/// See [`HrmBackend::token_embedding_backward`]: a product with rows of zeros and a one, as adding row by row is one long chain on a GPU.
pub fn embedding_backward<B: HrmBackend>(
    dy: Tensor<B, 2>,
    tokens: Tensor<B, 1, Int>,
    entries: usize,
) -> Tensor<B, 2> {
    if entries > PRODUCT_ENTRIES {
        return embedding_backward_by_rows(dy, tokens, entries);
    }
    let rows = dy.dims()[0];
    let one_hot = one_hot::<B>(tokens, padded_entries(entries), rows).cast(dy.dtype());
    let sums = B::linear_backward_weight(primitive(one_hot), primitive(dy), DType::F32);
    tensor::<B, 2>(sums).narrow(0, 0, entries)
}

/// The same, one row after the other.
pub fn embedding_backward_by_rows<B: Backend>(
    dy: Tensor<B, 2>,
    tokens: Tensor<B, 1, Int>,
    entries: usize,
) -> Tensor<B, 2> {
    let width = dy.dims()[1];
    let zeros = Tensor::zeros([entries, width], (&dy.device(), DType::F32));
    zeros.select_assign(0, tokens, dy.cast(DType::F32), IndexingUpdateOp::Add)
}

/// Columns of what takes part in a product: tensor cores need aligned rows.
pub(crate) fn padded_entries(entries: usize) -> usize {
    entries.next_multiple_of(16)
}

/// A one in each row, in the column of its token.
fn one_hot<B: Backend>(tokens: Tensor<B, 1, Int>, entries: usize, rows: usize) -> Tensor<B, 2> {
    let shape = [rows, entries];
    let columns = Tensor::arange(0..entries as i64, &tokens.device());
    tokens.unsqueeze_dim::<2>(1).expand(shape).equal(columns.unsqueeze_dim::<2>(0).expand(shape)).float()
}

/// A product in full precision by a matmul that rounds its operands to 11 bits or more (TF32): each operand is split into
/// two parts, `a = high + low`, that such a matmul takes (nearly) as they are. Left out are `low low`, 2^-22 of the product.
///
/// # Shapes
/// - `[.., m, k]`, `[.., k, n]`; output: `[.., m, n]`
pub fn split_product<B: Backend>(lhs: FloatTensor<B>, rhs: FloatTensor<B>) -> FloatTensor<B> {
    let ((high, low), (rhs_high, rhs_low)) = (split::<B>(lhs), split::<B>(rhs));
    let small = B::float_add(B::float_matmul(low, rhs_high.clone()), B::float_matmul(high.clone(), rhs_low));
    B::float_add(small, B::float_matmul(high, rhs_high))
}

/// The 11 leading bits of fp32 values, and the rest of them (Dekker 1971).
fn split<B: Backend>(x: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let multiple = B::float_mul_scalar(x.clone(), f64::from((1 << 13) + 1).into());
    let high = B::float_sub(multiple.clone(), B::float_sub(multiple, x.clone()));
    let low = B::float_sub(x, high.clone());
    (high, low)
}

/// See [`HrmBackend::add_rms_norm`].
pub fn add_rms_norm<B: Backend>(
    x: Tensor<B, 2>,
    residual: Tensor<B, 2>,
    eps: f64,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let dtype = x.dtype();
    let u = (x + residual).cast(DType::F32);
    let inv_rms = (u.clone().square().mean_dim(1) + eps).sqrt().recip();
    ((u * inv_rms.clone()).cast(dtype), inv_rms)
}

/// See [`HrmBackend::add_rms_norm_backward`].
pub fn add_rms_norm_backward<B: Backend>(
    y: Tensor<B, 2>,
    inv_rms: Tensor<B, 2>,
    dy: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let dtype = dy.dtype();
    let (y, dy) = (y.cast(DType::F32), dy.cast(DType::F32));
    // y = u r with r = (mean(u^2) + eps)^(-1/2), so du = r (dy - y mean(dy y)).
    let projection = (dy.clone() * y.clone()).mean_dim(1);
    ((dy - y * projection) * inv_rms).cast(dtype)
}

/// See [`HrmBackend::swiglu`].
pub fn swiglu<B: Backend>(gate_up: Tensor<B, 2>) -> Tensor<B, 2> {
    let (gate, up) = halves(gate_up);
    gate.clone() * functions::sigmoid(gate) * up
}

/// See [`HrmBackend::swiglu_backward`].
pub fn swiglu_backward<B: Backend>(gate_up: Tensor<B, 2>, dy: Tensor<B, 2>) -> Tensor<B, 2> {
    let (gate, up) = halves(gate_up);
    let sigmoid = functions::sigmoid(gate.clone());
    let silu = gate.clone() * sigmoid.clone();
    // silu'(g) = s (1 + g (1 - s))
    let slope = sigmoid.clone() * (gate * (sigmoid.neg() + 1.0) + 1.0);
    Tensor::cat(vec![dy.clone() * up * slope, dy * silu], 1)
}

/// See [`HrmBackend::normed_swiglu`].
pub fn normed_swiglu<B: Backend>(gate_up: Tensor<B, 2>, eps: f64) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let dtype = gate_up.dtype();
    let (gate, up) = halves(gate_up.cast(DType::F32));
    let product = gate.clone() * up;
    let inv_rms = (product.clone().square().mean_dim(1) + eps).sqrt().recip();
    ((functions::sigmoid(gate) * (product * inv_rms.clone())).cast(dtype), inv_rms)
}

/// See [`HrmBackend::normed_swiglu_backward`].
pub fn normed_swiglu_backward<B: Backend>(
    gate_up: Tensor<B, 2>,
    inv_rms: Tensor<B, 2>,
    dy: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let dtype = gate_up.dtype();
    let (gate, up) = halves(gate_up.cast(DType::F32));
    let dy = dy.cast(DType::F32);
    let sigmoid = functions::sigmoid(gate.clone());
    let normed = gate.clone() * up.clone() * inv_rms.clone();
    // y = s q with q = rms_norm(p) and p = g u, so dq = dy s and dp = r (dq - q mean(dq q)).
    let dnormed = dy.clone() * sigmoid.clone();
    let projection = (dnormed.clone() * normed.clone()).mean_dim(1);
    let dproduct = (dnormed - normed.clone() * projection) * inv_rms;
    let slope = sigmoid.clone() * (sigmoid.neg() + 1.0);
    Tensor::cat(vec![dproduct.clone() * up + dy * normed * slope, dproduct * gate], 1).cast(dtype)
}

fn halves<B: Backend>(gate_up: Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let inter = gate_up.dims()[1] / 2;
    (gate_up.clone().narrow(1, 0, inter), gate_up.narrow(1, inter, inter))
}

/// Queries, keys and values after rotation, each `[batch, heads, seq, head_dim]`.
fn heads_of<B: Backend>(
    qkv: Tensor<B, 3>,
    rotary: Option<(Tensor<B, 2>, Tensor<B, 2>)>,
    heads: usize,
) -> [Tensor<B, 4>; 3] {
    let [batch, seq, width] = qkv.dims();
    let head_dim = width / 3 / heads;
    let qkv = qkv.reshape([batch, seq, 3 * heads, head_dim]).swap_dims(1, 2); // [batch, 3 heads, seq, head_dim]
    let [q, k, v] = [0, 1, 2].map(|part| qkv.clone().narrow(1, part * heads, heads));
    match rotary {
        None => [q, k, v],
        Some((cos, sin)) => [rotate(q, &cos, &sin), rotate(k, &cos, &sin), v],
    }
}

/// Rotary positions: `x cos + rotate_half(x) sin` in fp32, where `rotate_half` maps `(a, b)` to `(-b, a)`.
///
/// # Shapes
/// - `x`, output: `[batch, heads, seq, head_dim]`; `cos`, `sin`: `[seq, head_dim]`
pub fn rotate<B: Backend>(x: Tensor<B, 4>, cos: &Tensor<B, 2>, sin: &Tensor<B, 2>) -> Tensor<B, 4> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let half = x.dims()[3] / 2;
    let (a, b) = (x.clone().narrow(3, 0, half), x.clone().narrow(3, half, half));
    let rotated = Tensor::cat(vec![b.neg(), a], 3);
    (x * cos.clone().unsqueeze::<4>() + rotated * sin.clone().unsqueeze::<4>()).cast(dtype)
}

/// The transpose of [`rotate`]: the gradient with respect to its input.
fn rotate_backward<B: Backend>(dy: Tensor<B, 4>, cos: &Tensor<B, 2>, sin: &Tensor<B, 2>) -> Tensor<B, 4> {
    let dtype = dy.dtype();
    let dy = dy.cast(DType::F32);
    let half = dy.dims()[3] / 2;
    let turned = dy.clone() * sin.clone().unsqueeze::<4>();
    let (a, b) = (turned.clone().narrow(3, 0, half), turned.narrow(3, half, half));
    (dy * cos.clone().unsqueeze::<4>() + Tensor::cat(vec![b, a.neg()], 3)).cast(dtype)
}

/// `[batch, heads, seq, head_dim]` to `[batch, seq, heads * head_dim]`.
fn merge_heads<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, heads, seq, head_dim] = x.dims();
    x.swap_dims(1, 2).reshape([batch, seq, heads * head_dim])
}

/// See [`HrmBackend::fused_attention`].
pub fn attention<B: HrmBackend>(
    qkv: Tensor<B, 3>,
    rotary: Option<(Tensor<B, 2>, Tensor<B, 2>)>,
    heads: usize,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let dtype = qkv.dtype();
    let [q, k, v] = heads_of(qkv, rotary, heads);
    let scale = (q.dims()[3] as f64).sqrt().recip();
    let scores = ops::product(q, k.transpose()).cast(DType::F32) * scale;
    let max = scores.clone().max_dim(3);
    let weights = (scores - max.clone()).exp();
    let sum = weights.clone().sum_dim(3);
    let out = merge_heads(ops::product((weights / sum.clone()).cast(dtype), v));
    (out, (max + sum.log()).squeeze_dim(3))
}

/// See [`HrmBackend::attention_backward`].
pub fn attention_backward<B: HrmBackend>(
    qkv: Tensor<B, 3>,
    rotary: Option<(Tensor<B, 2>, Tensor<B, 2>)>,
    heads: usize,
    out: Tensor<B, 3>,
    lse: Tensor<B, 3>,
    dout: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let dtype = qkv.dtype();
    let [batch, seq, width] = qkv.dims();
    let head_dim = width / 3 / heads;
    let split = |t: Tensor<B, 3>| t.reshape([batch, seq, heads, head_dim]).swap_dims(1, 2);
    let [q, k, v] = heads_of(qkv, rotary.clone(), heads);
    let (out, dout) = (split(out), split(dout));
    let scale = (head_dim as f64).sqrt().recip();

    let scores = ops::product(q.clone(), k.clone().transpose()).cast(DType::F32) * scale;
    let weights = (scores - lse.unsqueeze_dim::<4>(3)).exp();
    let dv = ops::product(weights.clone().cast(dtype).transpose(), dout.clone());
    let dweights = ops::product(dout.clone(), v.transpose()).cast(DType::F32);
    // softmax: ds = w (dw - sum_j w dw), and that sum is dout . out
    let delta = (dout.cast(DType::F32) * out.cast(DType::F32)).sum_dim(3);
    let dscores = (weights * (dweights - delta) * scale).cast(dtype);
    let dq = ops::product(dscores.clone(), k);
    let dk = ops::product(dscores.transpose(), q);
    let (dq, dk) = match rotary {
        None => (dq, dk),
        Some((cos, sin)) => (rotate_backward(dq, &cos, &sin), rotate_backward(dk, &cos, &sin)),
    };
    Tensor::cat([dq, dk, dv].map(merge_heads).to_vec(), 2)
}

/// See [`HrmBackend::replace_rows`].
pub fn replace_rows<B: Backend>(
    old: Tensor<B, 3>,
    replaced: Tensor<B, 1, Bool>,
    new: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let mask = replaced.reshape([-1, 1, 1]).expand(old.shape());
    old.mask_where(mask, new)
}

/// See [`ops::adam_atan2`].
pub fn adam_atan2<B: HrmBackend, const D: usize>(
    param: Tensor<B, D>,
    grad: Tensor<B, D>,
    m: Tensor<B, D>,
    v: Tensor<B, D>,
    update: &AdamAtan2Update,
) -> (Tensor<B, D>, Tensor<B, D>, Tensor<B, D>) {
    let AdamAtan2Update { lr, beta1, beta2, weight_decay, step } = *update;
    let correction1 = 1.0 - beta1.powf(step as f64);
    let correction2 = (1.0 - beta2.powf(step as f64)).sqrt();
    let m = m.clone() + (grad.clone() - m) * (1.0 - beta1);
    let v = v.clone() + (grad.square() - v) * (1.0 - beta2);
    let denominator = v.clone().sqrt() / correction2;
    let direction = functions::angle(m.clone(), denominator);
    let param = param * (1.0 - lr * weight_decay) - direction * (lr / correction1);
    (param, m, v)
}

/// The same on tensor primitives, with the signatures of [`HrmBackend`]: its defaults, and what
/// a backend with kernels for some types takes for the others.
pub(crate) mod primitives {
    use burn::tensor::{
        DType, Tensor, TensorMetadata,
        backend::Backend,
        ops::{BoolTensor, FloatTensor, IntTensor},
    };

    use crate::{
        HrmBackend,
        ops::{self, AdamAtan2Update},
        primitive, tensor,
    };

    type Rotary<B> = Option<(FloatTensor<B>, FloatTensor<B>)>;

    fn tables<B: Backend>(rotary: Rotary<B>) -> Option<(Tensor<B, 2>, Tensor<B, 2>)> {
        rotary.map(|(cos, sin)| (tensor(cos), tensor(sin)))
    }

    pub fn linear<B: HrmBackend>(x: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
        primitive(super::linear::<B>(tensor(x), tensor(weight)))
    }

    pub fn linear_backward_input<B: HrmBackend>(
        dy: FloatTensor<B>,
        weight: FloatTensor<B>,
    ) -> FloatTensor<B> {
        primitive(ops::product::<B, 2>(tensor(dy), tensor(weight)))
    }

    pub fn linear_backward_weight<B: HrmBackend>(
        dy: FloatTensor<B>,
        x: FloatTensor<B>,
        dtype: DType,
    ) -> FloatTensor<B> {
        primitive(ops::product::<B, 2>(tensor::<B, 2>(dy).transpose(), tensor(x)).cast(dtype))
    }

    pub fn embedding_backward<B: HrmBackend>(
        dy: FloatTensor<B>,
        tokens: IntTensor<B>,
        entries: usize,
    ) -> FloatTensor<B> {
        primitive(super::embedding_backward::<B>(tensor(dy), Tensor::from_primitive(tokens), entries))
    }

    #[cfg(feature = "flex")]
    pub fn embedding_backward_by_rows<B: Backend>(
        dy: FloatTensor<B>,
        tokens: IntTensor<B>,
        entries: usize,
    ) -> FloatTensor<B> {
        let tokens = Tensor::from_primitive(tokens);
        primitive(super::embedding_backward_by_rows::<B>(tensor(dy), tokens, entries))
    }

    pub fn add_rms_norm<B: Backend>(
        x: FloatTensor<B>,
        residual: FloatTensor<B>,
        eps: f64,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let (y, inv_rms) = super::add_rms_norm::<B>(tensor(x), tensor(residual), eps);
        (primitive(y), primitive(inv_rms))
    }

    pub fn add_rms_norm_backward<B: Backend>(
        y: FloatTensor<B>,
        inv_rms: FloatTensor<B>,
        dy: FloatTensor<B>,
    ) -> FloatTensor<B> {
        primitive(super::add_rms_norm_backward::<B>(tensor(y), tensor(inv_rms), tensor(dy)))
    }

    pub fn swiglu<B: Backend>(gate_up: FloatTensor<B>) -> FloatTensor<B> {
        primitive(super::swiglu::<B>(tensor(gate_up)))
    }

    pub fn swiglu_backward<B: Backend>(gate_up: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B> {
        primitive(super::swiglu_backward::<B>(tensor(gate_up), tensor(dy)))
    }

    pub fn normed_swiglu<B: Backend>(gate_up: FloatTensor<B>, eps: f64) -> (FloatTensor<B>, FloatTensor<B>) {
        let (y, inv_rms) = super::normed_swiglu::<B>(tensor(gate_up), eps);
        (primitive(y), primitive(inv_rms))
    }

    pub fn normed_swiglu_backward<B: Backend>(
        gate_up: FloatTensor<B>,
        inv_rms: FloatTensor<B>,
        dy: FloatTensor<B>,
    ) -> FloatTensor<B> {
        primitive(super::normed_swiglu_backward::<B>(tensor(gate_up), tensor(inv_rms), tensor(dy)))
    }

    pub fn attention<B: HrmBackend>(
        qkv: FloatTensor<B>,
        rotary: Rotary<B>,
        heads: usize,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let (out, lse) = super::attention::<B>(tensor(qkv), tables::<B>(rotary), heads);
        (primitive(out), primitive(lse))
    }

    pub fn attention_backward<B: HrmBackend>(
        qkv: FloatTensor<B>,
        rotary: Rotary<B>,
        heads: usize,
        out: FloatTensor<B>,
        lse: FloatTensor<B>,
        dout: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let (out, lse, dout) = (tensor(out), tensor(lse), tensor(dout));
        primitive(super::attention_backward::<B>(tensor(qkv), tables::<B>(rotary), heads, out, lse, dout))
    }

    pub fn replace_rows<B: Backend>(
        old: FloatTensor<B>,
        replaced: BoolTensor<B>,
        new: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let replaced = Tensor::from_primitive(replaced);
        primitive(super::replace_rows::<B>(tensor(old), replaced, tensor(new)))
    }

    pub fn sums_of_squares<B: HrmBackend>(tensors: Vec<FloatTensor<B>>) -> FloatTensor<B> {
        let sums = tensors.into_iter().map(|x| {
            let count = x.shape().num_elements();
            tensor::<B, 1>(B::float_reshape(x, [count].into())).cast(DType::F32).square().sum()
        });
        primitive(Tensor::cat(sums.collect(), 0))
    }

    pub fn adam_atan2<B: HrmBackend>(
        param: FloatTensor<B>,
        grad: FloatTensor<B>,
        moments: (FloatTensor<B>, FloatTensor<B>),
        update: &AdamAtan2Update,
        good: Option<FloatTensor<B>>,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        // Element-wise, so the rank does not matter: one dimension serves all.
        let shape = param.shape();
        let flat = |t| tensor::<B, 1>(B::float_reshape(t, [shape.num_elements()].into()));
        let [param, grad, m, v] = [param, grad, moments.0, moments.1].map(flat);
        let old = good.map(|good| (tensor::<B, 1>(good), param.clone(), m.clone(), v.clone()));
        let (p, m, v) = super::adam_atan2(param, grad, m, v, update);
        let (p, m, v) = match old {
            None => (p, m, v),
            Some((good, old_p, old_m, old_v)) => {
                (ops::if_good(&good, p, old_p), ops::if_good(&good, m, old_m), ops::if_good(&good, v, old_v))
            }
        };
        let back = |t: Tensor<B, 1>| B::float_reshape(primitive(t), shape.clone());
        (back(p), back(m), back(v))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Tensor;

    use super::*;
    use crate::Cpu;

    #[test]
    fn a_split_is_exact_and_its_first_part_fits_tf32() {
        let values: Vec<f32> =
            (1..4000).map(|i| ((i * 7919 % 4001) as f32 - 2000.0).powi(3) / 997.0).collect();
        let x = Tensor::<Cpu, 1>::from_floats(values.as_slice(), &Default::default());
        let (high, low) = split::<Cpu>(primitive(x));
        let values_of = |t| tensor::<Cpu, 1>(t).into_data().to_vec::<f32>().expect("fp32");
        for ((x, high), low) in values.iter().zip(values_of(high)).zip(values_of(low)) {
            assert_eq!(high + low, *x);
            assert_eq!(
                high.to_bits() & 0x1fff,
                0,
                "{x} = {high} + {low}: 13 of 24 bits are left to the second part"
            );
            assert_eq!(low.to_bits() & 0xfff, 0, "{x} = {high} + {low}: 12 bits or less");
        }
    }
}
