//! The backend extension of the project: the few operators that dominate a reasoning model's time, as one
//! trait over Burn's [`Backend`].
//!
//! Every operator has a plain-Burn implementation ([`plain`]), which is the default of each trait method, so
//! a backend joins with an empty `impl HrmBackend for MyBackend {}`. A backend with something faster overrides
//! single methods: `flex` does, with the kernels of `hrm-kernels`. [`Autodiff`](burn::backend::Autodiff) of
//! any such backend is covered once, with hand-written backward passes built from the same trait.
//!
//! This is the only library crate that names concrete backends; models are generic over [`HrmBackend`].

mod autodiff;
mod backends;
#[cfg(all(
    any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"),
    not(feature = "fusion")
))]
pub mod cube;
#[cfg(feature = "flex")]
mod flex;
pub mod functions;
pub mod groups;
#[cfg(any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"))]
mod kernel_cache;
pub mod losses;
pub mod ops;
#[cfg(feature = "flex")]
mod packed;
pub mod plain;
mod precision;
pub mod testing;
#[cfg(all(feature = "cuda", not(feature = "fusion")))]
mod wheels;

pub use groups::{GroupTables, GroupWeights, Groups};
pub use losses::{CellLoss, Segment, SegmentWeights};
pub use precision::{MatmulPrecision, matmul_precision, set_matmul_precision};

use burn::tensor::{
    DType, Tensor, TensorMetadata, TensorPrimitive,
    backend::{AutodiffBackend, Backend},
    ops::{BoolTensor, FloatTensor, IntTensor},
};

#[cfg(all(feature = "nccl", any(feature = "flex", feature = "ndarray")))]
compile_error!(
    "the feature `nccl` needs every backend to sum over devices, which flex and ndarray cannot: build with \
     --no-default-features --features nccl"
);

/// What Burn asks of a backend to train on.
#[cfg(not(feature = "nccl"))]
pub trait BaseBackend: Backend {}

#[cfg(not(feature = "nccl"))]
impl<B: Backend> BaseBackend for B {}

/// What Burn asks of a backend to train on.
#[cfg(feature = "nccl")]
pub trait BaseBackend: burn::tensor::backend::distributed::DistributedBackend {}

#[cfg(feature = "nccl")]
impl<B: burn::tensor::backend::distributed::DistributedBackend> BaseBackend for B {}

/// A Burn backend with the fused operators of reasoning models.
///
/// Methods take and give tensor primitives, as Burn's backend extensions do; call them through the typed
/// functions of [`ops`]. All tensors of a call have the same float type unless said otherwise.
pub trait HrmBackend: BaseBackend {
    /// The widest float type that the backend computes with: stablemax accumulates in it.
    const WIDEST_FLOAT: DType = DType::F32;

    /// Whether operations are queued and reading a value waits for the device, as on GPUs.
    const ASYNCHRONOUS: bool = true;

    /// Whether matrix products heed [`matmul_precision`].
    const HAS_MATMUL_PRECISION: bool = false;

    /// Whether the backend's `log1p` and `atan2` are right to a few units in the last place: see [`functions`].
    const EXACT_FUNCTIONS: bool = false;

    /// Whether the backend's matmul may round fp32 operands to fewer bits, as tensor cores do (TF32: 11 bits).
    const ROUNDS_OPERANDS: bool = false;

    /// The matrix product, of fp32 operands in full precision on every backend.
    ///
    /// # Shapes
    /// - `[.., m, k]`, `[.., k, n]` with equal leading axes; output: `[.., m, n]`
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        match Self::ROUNDS_OPERANDS && lhs.dtype() == DType::F32 {
            true => plain::split_product::<Self>(lhs, rhs),
            false => Self::float_matmul(lhs, rhs),
        }
    }

    /// The matrix product where its operands may be rounded to fewer bits, as tensor cores do (TF32: 11 bits): for iterations
    /// that correct themselves.
    ///
    /// # Shapes
    /// As [`product`](Self::product).
    fn rounded_product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(lhs, rhs)
    }

    /// A tensor in another float type.
    fn convert(x: FloatTensor<Self>, dtype: DType) -> FloatTensor<Self> {
        if x.dtype() == dtype { x } else { Self::float_cast(x, dtype.into()) }
    }

    /// `a + b`.
    ///
    /// # Shapes
    /// - all the same
    fn add(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_add(a, b)
    }

    /// `y = x W^T`, the product of a linear layer whose weight is stored as PyTorch stores it. The weight may be wider than `x` (fp32
    /// master weights): it is converted to the type of `x`, and its gradient has its own.
    ///
    /// # Shapes
    /// - `x`: `[rows, in]`
    /// - `weight`: `[out, in]`
    /// - output: `[rows, out]`
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::primitives::linear::<Self>(x, weight)
    }

    /// Gradient of [`fused_linear`](Self::fused_linear) with respect to `x`: `dx = dy W`.
    ///
    /// # Shapes
    /// - `dy`: `[rows, out]`; `weight`: `[out, in]`; output: `[rows, in]`
    fn linear_backward_input(dy: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::primitives::linear_backward_input::<Self>(dy, weight)
    }

    /// Gradient of [`fused_linear`](Self::fused_linear) with respect to the weight: `dW = dy^T x`, in `dtype`.
    ///
    /// # Shapes
    /// - `dy`: `[rows, out]`; `x`: `[rows, in]`; output: `[out, in]`
    fn linear_backward_weight(
        dy: FloatTensor<Self>,
        x: FloatTensor<Self>,
        dtype: DType,
    ) -> FloatTensor<Self> {
        plain::primitives::linear_backward_weight::<Self>(dy, x, dtype)
    }

    /// Rows of a table, in `dtype`.
    ///
    /// # Shapes
    /// - `table`: `[entries, width]`; `tokens`: `[rows]`; output: `[rows, width]`
    fn token_embedding(table: FloatTensor<Self>, tokens: IntTensor<Self>, dtype: DType) -> FloatTensor<Self> {
        Self::float_select(Self::convert(table, dtype), 0, tokens)
    }

    /// Gradient of [`token_embedding`](Self::token_embedding) with respect to the table of so many `entries`, added in fp32, in fp32.
    ///
    /// # Shapes
    /// - `dy`: `[rows, width]`; `tokens`: `[rows]`; output: `[entries, width]`
    fn token_embedding_backward(
        dy: FloatTensor<Self>,
        tokens: IntTensor<Self>,
        entries: usize,
    ) -> FloatTensor<Self> {
        plain::primitives::embedding_backward::<Self>(dy, tokens, entries)
    }

    /// `y = rms_norm(x + residual)` without a weight, computed in fp32: the post-norm of a block.
    /// Returns `y` and the fp32 reciprocal root mean square of each row, which the backward pass needs.
    ///
    /// # Shapes
    /// - `x`, `residual`, `y`: `[rows, hidden]`
    /// - reciprocal: `[rows, 1]`
    fn add_rms_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain::primitives::add_rms_norm::<Self>(x, residual, eps)
    }

    /// Gradient of [`add_rms_norm`](Self::add_rms_norm) with respect to `x`, which is also that of `residual`.
    ///
    /// # Shapes
    /// - `y`, `dy`, output: `[rows, hidden]`; `inv_rms`: `[rows, 1]`
    fn add_rms_norm_backward(
        y: FloatTensor<Self>,
        inv_rms: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        plain::primitives::add_rms_norm_backward::<Self>(y, inv_rms, dy)
    }

    /// `silu(gate) * up`, gate and up being the halves of the last axis.
    ///
    /// # Shapes
    /// - `gate_up`: `[rows, 2 * inter]`; output: `[rows, inter]`
    fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::primitives::swiglu::<Self>(gate_up)
    }

    /// Gradient of [`swiglu`](Self::swiglu).
    ///
    /// # Shapes
    /// - `gate_up`, output: `[rows, 2 * inter]`; `dy`: `[rows, inter]`
    fn swiglu_backward(gate_up: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        plain::primitives::swiglu_backward::<Self>(gate_up, dy)
    }

    /// `sigmoid(gate) * rms_norm(gate * up)`, gate and up being the halves of the last axis, in fp32 (SiC, arXiv 2601.19085).
    /// Returns it and the fp32 reciprocal root mean square of each row's products, which the backward pass needs.
    ///
    /// # Shapes
    /// - `gate_up`: `[rows, 2 * inter]`; output: `[rows, inter]` and `[rows, 1]`
    fn normed_swiglu(gate_up: FloatTensor<Self>, eps: f64) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain::primitives::normed_swiglu::<Self>(gate_up, eps)
    }

    /// Gradient of [`normed_swiglu`](Self::normed_swiglu).
    ///
    /// # Shapes
    /// - `gate_up`, output: `[rows, 2 * inter]`; `inv_rms`: `[rows, 1]`; `dy`: `[rows, inter]`
    fn normed_swiglu_backward(
        gate_up: FloatTensor<Self>,
        inv_rms: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        plain::primitives::normed_swiglu_backward::<Self>(gate_up, inv_rms, dy)
    }

    /// The matrices of a batch, transposed. Unlike Burn's `swap_dims`, whose result is a view, it may move them in memory:
    /// for operators that need dense rows.
    ///
    /// # Shapes
    /// - `x`: `[batch, rows, columns]`; output: `[batch, columns, rows]`
    fn transpose(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_swap_dims(x, 1, 2)
    }

    /// `silu(gate) * up` with `gate_up = x W^T`: [`fused_linear`](Self::fused_linear) and
    /// [`swiglu`](Self::swiglu) in one, for passes that keep nothing for a gradient.
    ///
    /// # Shapes
    /// - `x`: `[rows, in]`; `weight`: `[2 * inter, in]`, gate first; output: `[rows, inter]`
    fn linear_swiglu(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::swiglu(Self::fused_linear(x, weight))
    }

    /// Bidirectional multi-head attention on fused queries, keys and values, with rotary positions where
    /// `rotary` gives the cosine and sine tables (fp32). Returns the output and the fp32 log-sum-exp of each
    /// row of scores.
    ///
    /// # Shapes
    /// - `qkv`: `[batch, seq, 3 * heads * head_dim]`, queries first, then keys, then values
    /// - `rotary`: two `[seq, head_dim]`, whose halves along the last axis are the same
    /// - output: `[batch, seq, heads * head_dim]` and `[batch, heads, seq]`
    fn fused_attention(
        qkv: FloatTensor<Self>,
        rotary: Option<(FloatTensor<Self>, FloatTensor<Self>)>,
        heads: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        plain::primitives::attention::<Self>(qkv, rotary, heads)
    }

    /// Gradient of [`fused_attention`](Self::fused_attention) with respect to `qkv`, from what the forward pass took and gave.
    ///
    /// # Shapes
    /// - `qkv`, gradient: `[batch, seq, 3 * heads * head_dim]`
    /// - `out`, `dout`: `[batch, seq, heads * head_dim]`; `lse`: `[batch, heads, seq]`
    fn attention_backward(
        qkv: FloatTensor<Self>,
        rotary: Option<(FloatTensor<Self>, FloatTensor<Self>)>,
        heads: usize,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        dout: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        plain::primitives::attention_backward::<Self>(qkv, rotary, heads, out, lse, dout)
    }

    /// A block that mixes the nodes of a lattice by their groups: with `x = z + injection`, `u = silu(U x)`, `m_k` the mean of `u` over the
    /// group of kind `k` that a node lies in (Zaheer et al. 2017, arXiv 1703.06114; Hartford et al. 2018, arXiv 1803.02879) and
    /// `[g, v] = W [x, m_1, m_2, ...]`, it is `rms_norm(x + D (silu(g) v))`. Returns it and the fp32 reciprocal root mean square of each node.
    ///
    /// # Shapes
    /// - `z`, `injection`, output: `[batch, cells * values, hidden]`, the values of a cell one after the other
    /// - `weights`: see [`GroupWeights`]; they may be wider than `z` (fp32 master weights)
    /// - reciprocal: `[batch * cells * values, 1]`
    fn group_block(
        z: FloatTensor<Self>,
        injection: Option<FloatTensor<Self>>,
        weights: GroupWeights<FloatTensor<Self>>,
        tables: &GroupTables<FloatTensor<Self>>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        groups::group_block::<Self>(z, injection, weights, tables, eps)
    }

    /// Gradients of [`group_block`](Self::group_block), from what it took and gave: that of `z`, which is also that of `injection`, and those
    /// of the weights, in fp32.
    ///
    /// # Shapes
    /// - as there
    fn group_block_backward(
        input: (FloatTensor<Self>, Option<FloatTensor<Self>>),
        weights: GroupWeights<FloatTensor<Self>>,
        tables: &GroupTables<FloatTensor<Self>>,
        output: (FloatTensor<Self>, FloatTensor<Self>),
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, GroupWeights<FloatTensor<Self>>) {
        groups::group_block_backward::<Self>(input, weights, tables, output, dy)
    }

    /// What the answers of a segment are worth, of each sequence, in fp32: the cross-entropy averaged over the cells that `asked` asks
    /// for; the same against smoothed labels; the share of the cells with a label that are right; 1 if all are; 1 if there is any; and
    /// how many cells `asked` asks for. An answer is the first most likely token. Only the first two have a gradient.
    ///
    /// # Shapes
    /// - `logits`: `[batch, seq, vocab]`; `labels`, `asked`: `[batch, seq]`, [`losses::IGNORE_LABEL`] for no label
    /// - output: `[batch, losses::ANSWERS]`
    fn answers(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        asked: IntTensor<Self>,
        how: &CellLoss,
    ) -> FloatTensor<Self> {
        let [labels, asked] = [labels, asked].map(Tensor::from_primitive);
        primitive(losses::answers::<Self>(tensor(logits), labels, asked, how))
    }

    /// Gradient of [`answers`](Self::answers) with respect to the logits.
    ///
    /// # Shapes
    /// - as there
    fn answers_backward(
        logits: FloatTensor<Self>,
        asked: IntTensor<Self>,
        answers: FloatTensor<Self>,
        how: &CellLoss,
        danswers: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let asked = Tensor::from_primitive(asked);
        primitive(losses::answers_backward::<Self>(
            tensor(logits),
            asked,
            tensor(answers),
            how,
            tensor(danswers),
        ))
    }

    /// What is minimised, summed over the sequences of a segment, `[1]`: the cross-entropy against smoothed labels, and the binary
    /// cross-entropies of both Q values, of halting against exactness; and what is reported of it, `[losses::METRICS]`, which has no
    /// gradient: over the sequences that count and ask for anything their number, the sums of the shares of right cells, of those that are
    /// exact, of those whose exactness the sign of `q_halt` tells, and of their steps; over all sequences the sums of the cross-entropies
    /// (not smoothed) and of both losses of Q values; what is minimised; and, again over those that count, the sum of `sigmoid(q_halt)`.
    fn act_loss(
        segment: losses::SegmentOf<Self>,
        how: &SegmentWeights,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let segment = segment.map(tensor, tensor, Tensor::from_primitive);
        let (loss, metrics) = losses::act_loss::<Self>(segment, how);
        (primitive(loss), primitive(metrics))
    }

    /// Gradients of what [`act_loss`](Self::act_loss) minimises with respect to the answers and both Q values.
    fn act_loss_backward(
        segment: losses::SegmentOf<Self>,
        how: &SegmentWeights,
        dloss: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let segment = segment.map(tensor, tensor, Tensor::from_primitive);
        let (danswers, dq_halt, dq_continue) = losses::act_loss_backward::<Self>(segment, how, tensor(dloss));
        (primitive(danswers), primitive(dq_halt), primitive(dq_continue))
    }

    /// `old` with some of its rows from `new`.
    ///
    /// # Shapes
    /// - `old`, `new`, output: `[batch, len, width]`; `replaced`: `[batch]`
    fn replace_rows(
        old: FloatTensor<Self>,
        replaced: BoolTensor<Self>,
        new: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        plain::primitives::replace_rows::<Self>(old, replaced, new)
    }

    /// The sum of the squares of each of some tensors, at least one, in fp32.
    ///
    /// # Shapes
    /// - output: `[tensors]`
    fn sums_of_squares(tensors: Vec<FloatTensor<Self>>) -> FloatTensor<Self> {
        plain::primitives::sums_of_squares::<Self>(tensors)
    }

    /// One AdamATan2 update, see [`ops::adam_atan2`].
    /// Takes parameter, gradient and both moments; gives the new parameter and moments.
    fn adam_atan2(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moments: (FloatTensor<Self>, FloatTensor<Self>),
        update: &ops::AdamAtan2Update,
        good: Option<FloatTensor<Self>>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        plain::primitives::adam_atan2::<Self>(param, grad, moments, update, good)
    }
}

/// Keeps kernels that are compiled for a GPU on disk, for the processes that follow: a training step on CUDA has some hundred of
/// them, which take a minute. They lie below `target/` of the folder with the nearest `Cargo.toml`, else in the user's cache
/// folder; a `cubecl.toml` that names another place is heeded. To be called before the first use of a GPU; later, and without a
/// GPU backend, it does nothing.
pub fn keep_compiled_kernels() {
    #[cfg(any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"))]
    kernel_cache::keep();
}

/// What environment variables ask of GPU backends and cannot be had, in words: better told before than in the middle of a product.
///
/// # Errors
/// If there is such a thing.
pub fn check_environment() -> Result<(), String> {
    #[cfg(all(
        any(feature = "cuda", feature = "wgpu", feature = "vulkan", feature = "metal"),
        not(feature = "fusion")
    ))]
    cube::check_environment()?;
    Ok(())
}

/// The CPU backend, `flex`.
#[cfg(feature = "flex")]
pub type Cpu = burn_flex::Flex;

#[cfg(all(feature = "flex", target_pointer_width = "64"))]
pub use hrm_kernels::TensorAllocator;

/// A backend to train on: automatic differentiation over an [`HrmBackend`].
pub trait HrmAutodiffBackend: AutodiffBackend<InnerBackend: HrmBackend> + HrmBackend {}

impl<B> HrmAutodiffBackend for B where B: AutodiffBackend<InnerBackend: HrmBackend> + HrmBackend {}

fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}
