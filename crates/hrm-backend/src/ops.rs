//! The operators of [`HrmBackend`] on typed tensors: what model code calls.

use burn::tensor::{Bool, DType, Int, Tensor};

use crate::{CellLoss, GroupTables, GroupWeights, HrmBackend, Segment, SegmentWeights, primitive, tensor};

/// The scalars of one [`adam_atan2`] update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamAtan2Update {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Number of this update, counted from 1 (bias correction).
    pub step: u64,
}

/// The matrix product, of fp32 operands in full precision: see [`HrmBackend::product`].
///
/// # Shapes
/// - `[.., m, k]`, `[.., k, n]`; output: `[.., m, n]`
pub fn product<B: HrmBackend, const D: usize>(lhs: Tensor<B, D>, rhs: Tensor<B, D>) -> Tensor<B, D> {
    tensor(B::product(primitive(lhs), primitive(rhs)))
}

/// The matrix product where operands may be rounded: see [`HrmBackend::rounded_product`].
///
/// # Shapes
/// - `[.., m, k]`, `[.., k, n]`; output: `[.., m, n]`
pub fn rounded_product<B: HrmBackend, const D: usize>(lhs: Tensor<B, D>, rhs: Tensor<B, D>) -> Tensor<B, D> {
    tensor(B::rounded_product(primitive(lhs), primitive(rhs)))
}

/// A tensor in another float type: see [`HrmBackend::convert`].
pub fn convert<B: HrmBackend, const D: usize>(x: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    tensor(B::convert(primitive(x), dtype))
}

/// `a + b`, of the same shape: see [`HrmBackend::add`].
pub fn add<B: HrmBackend, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> Tensor<B, D> {
    tensor(B::add(primitive(a), primitive(b)))
}

/// `y = x W^T`. The weight may be wider than `x` (fp32 master weights); so is its gradient then.
///
/// # Shapes
/// - `x`: `[rows, in]`; `weight`: `[out, in]`; output: `[rows, out]`
pub fn linear<B: HrmBackend>(x: Tensor<B, 2>, weight: Tensor<B, 2>) -> Tensor<B, 2> {
    tensor(B::fused_linear(primitive(x), primitive(weight)))
}

/// Rows of a table, in `dtype`. Its gradient is added in fp32, however many tokens are the same.
///
/// # Shapes
/// - `table`: `[entries, width]`; `tokens`: `[rows]`; output: `[rows, width]`
pub fn embedding<B: HrmBackend>(
    table: Tensor<B, 2>,
    tokens: Tensor<B, 1, Int>,
    dtype: DType,
) -> Tensor<B, 2> {
    tensor(B::token_embedding(primitive(table), tokens.into_primitive(), dtype))
}

/// `rms_norm(x + residual)` over the last axis, without a weight, in fp32.
///
/// # Shapes
/// - all: `[rows, hidden]`
pub fn add_rms_norm<B: HrmBackend>(x: Tensor<B, 2>, residual: Tensor<B, 2>, eps: f64) -> Tensor<B, 2> {
    tensor(B::add_rms_norm(primitive(x), primitive(residual), eps).0)
}

/// `silu(gate) * up`, gate being the first half of the last axis.
///
/// # Shapes
/// - `gate_up`: `[rows, 2 * inter]`; output: `[rows, inter]`
pub fn swiglu<B: HrmBackend>(gate_up: Tensor<B, 2>) -> Tensor<B, 2> {
    tensor(B::swiglu(primitive(gate_up)))
}

/// `sigmoid(gate) * rms_norm(gate * up)`, gate being the first half of the last axis (SiC, arXiv 2601.19085), in fp32.
///
/// # Shapes
/// - `gate_up`: `[rows, 2 * inter]`; output: `[rows, inter]`
pub fn normed_swiglu<B: HrmBackend>(gate_up: Tensor<B, 2>, eps: f64) -> Tensor<B, 2> {
    tensor(B::normed_swiglu(primitive(gate_up), eps).0)
}

/// The matrices of a batch, transposed, for operators that need dense rows: see [`HrmBackend::transpose`].
///
/// # Shapes
/// - `x`: `[batch, rows, columns]`; output: `[batch, columns, rows]`
pub fn transpose<B: HrmBackend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    tensor(B::transpose(primitive(x)))
}

/// `silu(gate) * up`, gate and up being the halves of `x W^T`.
///
/// # Shapes
/// - `x`: `[rows, in]`; `weight`: `[2 * inter, in]`; output: `[rows, inter]`
pub fn linear_swiglu<B: HrmBackend>(x: Tensor<B, 2>, weight: Tensor<B, 2>) -> Tensor<B, 2> {
    tensor(B::linear_swiglu(primitive(x), primitive(weight)))
}

/// Bidirectional attention with optional rotary positions.
///
/// # Shapes
/// - `qkv`: `[batch, seq, 3 * heads * head_dim]`; tables of `rotary`: `[seq, head_dim]`
/// - output: `[batch, seq, heads * head_dim]`
pub fn attention<B: HrmBackend>(
    qkv: Tensor<B, 3>,
    rotary: Option<(Tensor<B, 2>, Tensor<B, 2>)>,
    heads: usize,
) -> Tensor<B, 3> {
    let rotary = rotary.map(|(cos, sin)| (primitive(cos), primitive(sin)));
    tensor(B::fused_attention(primitive(qkv), rotary, heads).0)
}

/// What the answers of a segment are worth, of each sequence: see [`HrmBackend::answers`].
///
/// # Shapes
/// - `logits`: `[batch, seq, vocab]`; `labels`, `asked`: `[batch, seq]`; output: `[batch, ANSWERS]`
pub fn answers<B: HrmBackend>(
    logits: Tensor<B, 3>,
    labels: Tensor<B, 2, Int>,
    asked: Tensor<B, 2, Int>,
    how: &CellLoss,
) -> Tensor<B, 2> {
    tensor(B::answers(primitive(logits), labels.into_primitive(), asked.into_primitive(), how))
}

/// What is minimised of a segment, `[1]`, and what is reported of it, `[METRICS]`: see [`HrmBackend::act_loss`].
pub fn act_loss<B: HrmBackend>(
    segment: Segment<Tensor<B, 2>, Tensor<B, 1>, Tensor<B, 1, Int>>,
    how: &SegmentWeights,
) -> (Tensor<B, 1>, Tensor<B, 1>) {
    let segment = segment.map(primitive, primitive, Tensor::into_primitive);
    let (loss, metrics) = B::act_loss(segment, how);
    (tensor(loss), tensor(metrics))
}

/// `old` with some of its rows from `new`.
///
/// # Shapes
/// - `old`, `new`, output: `[batch, len, width]`; `replaced`: `[batch]`
pub fn replace_rows<B: HrmBackend>(
    old: Tensor<B, 3>,
    replaced: Tensor<B, 1, Bool>,
    new: Tensor<B, 3>,
) -> Tensor<B, 3> {
    tensor(B::replace_rows(primitive(old), replaced.into_primitive(), primitive(new)))
}

/// A block that mixes the nodes of a lattice by their groups: see [`HrmBackend::group_block`].
///
/// # Shapes
/// - `z`, `injection`, output: `[batch, cells * values, hidden]`; `weights`: see [`GroupWeights`]
pub fn group_block<B: HrmBackend>(
    z: Tensor<B, 3>,
    injection: Option<Tensor<B, 3>>,
    weights: GroupWeights<Tensor<B, 2>>,
    tables: GroupTables<Tensor<B, 2>>,
    eps: f64,
) -> Tensor<B, 3> {
    let GroupWeights { input, gate_up, down } = weights;
    let weights =
        GroupWeights { input: primitive(input), gate_up: primitive(gate_up), down: primitive(down) };
    tensor(B::group_block(primitive(z), injection.map(primitive), weights, &tables.primitives(), eps).0)
}

/// `new` where a flag `good`, `[1]`, is not 0 on the device, else `old`.
///
/// # Shapes
/// - `new`, `old`, output: `[count]`
pub fn if_good<B: HrmBackend>(good: &Tensor<B, 1>, new: Tensor<B, 1>, old: Tensor<B, 1>) -> Tensor<B, 1> {
    let bad = good.clone().equal_elem(0.0).expand(new.shape());
    new.mask_where(bad, old)
}

/// The sum of the squares of each of some tensors, in fp32; `None` of none.
///
/// # Shapes
/// - output: `[tensors]`
pub fn sums_of_squares<B: HrmBackend, const D: usize>(
    tensors: impl IntoIterator<Item = Tensor<B, D>>,
) -> Option<Tensor<B, 1>> {
    let tensors: Vec<_> = tensors.into_iter().map(primitive).collect();
    (!tensors.is_empty()).then(|| tensor(B::sums_of_squares(tensors)))
}

/// One AdamATan2 update (Everett et al. 2024, arXiv 2407.05872, with a = b = 1, as HRM uses it):
///
/// `p *= 1 - lr wd; m += (1 - b1)(g - m); v += (1 - b2)(g^2 - v);`
/// `p -= lr / (1 - b1^t) * atan2(m, sqrt(v) / sqrt(1 - b2^t))`, with `atan2(0, 0) = 0`.
///
/// Takes parameter, gradient, first and second moment, all of one shape; gives parameter and moments. With a flag `good`, `[1]`, that is
/// 0 on the device, all stay as they are.
pub fn adam_atan2<B: HrmBackend, const D: usize>(
    param: Tensor<B, D>,
    grad: Tensor<B, D>,
    m: Tensor<B, D>,
    v: Tensor<B, D>,
    update: &AdamAtan2Update,
    good: Option<&Tensor<B, 1>>,
) -> (Tensor<B, D>, Tensor<B, D>, Tensor<B, D>) {
    let moments = (primitive(m), primitive(v));
    let good = good.map(|good| primitive(good.clone()));
    let (p, m, v) = B::adam_atan2(primitive(param), primitive(grad), moments, update, good);
    (tensor(p), tensor(m), tensor(v))
}
