//! Backward passes: [`HrmBackend`] for automatic differentiation over any backend that has it.

use burn::{
    backend::autodiff::{
        Autodiff,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind, OpsPrep},
    },
    tensor::{
        DType, TensorMetadata,
        backend::AutodiffBackend,
        ops::{FloatTensor, IntTensor},
    },
};

use crate::{CellLoss, GroupTables, GroupWeights, HrmBackend, SegmentWeights, losses::SegmentOf};

impl<B: HrmBackend, C: CheckpointStrategy> HrmBackend for Autodiff<B, C> {
    const WIDEST_FLOAT: DType = B::WIDEST_FLOAT;
    const ASYNCHRONOUS: bool = B::ASYNCHRONOUS;
    const HAS_MATMUL_PRECISION: bool = B::HAS_MATMUL_PRECISION;
    const EXACT_FUNCTIONS: bool = B::EXACT_FUNCTIONS;
    const ROUNDS_OPERANDS: bool = B::ROUNDS_OPERANDS;

    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        let out = B::product(lhs.primitive.clone(), rhs.primitive.clone());
        tracked(Product.prepare::<C>([lhs.node, rhs.node]), (lhs.primitive, rhs.primitive), out)
    }

    fn add(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let out = B::add(a.primitive, b.primitive);
        tracked(Add.prepare::<C>([a.node, b.node]), (), out)
    }

    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let master = weight.primitive.dtype();
        let converted = B::convert(weight.primitive, x.primitive.dtype());
        let out = B::fused_linear(x.primitive.clone(), converted.clone());
        tracked(
            Linear.prepare::<C>([x.node.clone(), weight.node.clone()]),
            (x.primitive, converted, master),
            out,
        )
    }

    fn token_embedding(table: FloatTensor<Self>, tokens: IntTensor<Self>, dtype: DType) -> FloatTensor<Self> {
        let (entries, master) = (table.primitive.shape()[0], table.primitive.dtype());
        let out = B::token_embedding(table.primitive, tokens.clone(), dtype);
        tracked(Embedding.prepare::<C>([table.node]), (tokens, entries, master), out)
    }

    fn add_rms_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (y, inv_rms) = B::add_rms_norm(x.primitive, residual.primitive, eps);
        let untracked = Self::from_inner(inv_rms.clone());
        (tracked(AddRmsNorm.prepare::<C>([x.node, residual.node]), (y.clone(), inv_rms), y), untracked)
    }

    fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        let out = B::swiglu(gate_up.primitive.clone());
        tracked(Swiglu.prepare::<C>([gate_up.node]), gate_up.primitive, out)
    }

    fn normed_swiglu(gate_up: FloatTensor<Self>, eps: f64) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (y, inv_rms) = B::normed_swiglu(gate_up.primitive.clone(), eps);
        let untracked = Self::from_inner(inv_rms.clone());
        (tracked(NormedSwiglu.prepare::<C>([gate_up.node]), (gate_up.primitive, inv_rms), y), untracked)
    }

    fn transpose(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let out = B::transpose(x.primitive);
        tracked(Transpose.prepare::<C>([x.node]), (), out)
    }

    fn fused_attention(
        qkv: FloatTensor<Self>,
        rotary: Option<(FloatTensor<Self>, FloatTensor<Self>)>,
        heads: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let rotary = rotary.map(|(cos, sin)| (cos.primitive, sin.primitive));
        let (out, lse) = B::fused_attention(qkv.primitive.clone(), rotary.clone(), heads);
        let untracked = Self::from_inner(lse.clone());
        let state = AttentionState { qkv: qkv.primitive, rotary, heads, out: out.clone(), lse };
        (tracked(Attention.prepare::<C>([qkv.node]), state, out), untracked)
    }

    fn answers(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        asked: IntTensor<Self>,
        how: &CellLoss,
    ) -> FloatTensor<Self> {
        let out = B::answers(logits.primitive.clone(), labels, asked.clone(), how);
        let state = (logits.primitive, asked, out.clone(), *how);
        tracked(Answers.prepare::<C>([logits.node]), state, out)
    }

    fn act_loss(segment: SegmentOf<Self>, how: &SegmentWeights) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [&segment.answers, &segment.q_halt, &segment.q_continue].map(|x| x.node.clone());
        let segment = segment.map(|x| x.primitive, |x| x.primitive, |steps| steps);
        let (loss, metrics) = B::act_loss(segment.clone(), how);
        let untracked = Self::from_inner(metrics);
        (tracked(ActLoss.prepare::<C>(nodes), (segment, *how), loss), untracked)
    }

    fn group_block(
        z: FloatTensor<Self>,
        injection: Option<FloatTensor<Self>>,
        weights: GroupWeights<FloatTensor<Self>>,
        tables: &GroupTables<FloatTensor<Self>>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let tables = GroupTables {
            groups: tables.groups.clone(),
            pool: tables.pool.primitive.clone(),
            spread: tables.spread.primitive.clone(),
        };
        let GroupWeights { input, gate_up, down } = weights;
        // Without an injection, a tensor that nobody differentiates stands in its place.
        let injected = injection.is_some();
        let injection = injection.unwrap_or_else(|| Self::from_inner(z.primitive.clone()));
        let nodes = [&z, &injection, &input, &gate_up, &down].map(|tensor| tensor.node.clone());
        let injection = injected.then_some(injection.primitive);
        let masters = [&input, &gate_up, &down].map(|weight| weight.primitive.dtype());
        let dtype = z.primitive.dtype();
        let [input, gate_up, down] = [input, gate_up, down].map(|weight| B::convert(weight.primitive, dtype));
        let weights = GroupWeights { input, gate_up, down };
        let (y, inv_rms) =
            B::group_block(z.primitive.clone(), injection.clone(), weights.clone(), &tables, eps);
        let untracked = Self::from_inner(inv_rms.clone());
        let output = (y.clone(), inv_rms);
        let state = GroupBlockState { z: z.primitive, injection, weights, masters, tables, output };
        (tracked(GroupBlock.prepare::<C>(nodes), state, y), untracked)
    }
}

/// The output of an operator with what its backward pass needs, which is kept where a parent wants a gradient.
fn tracked<B: HrmBackend, C: CheckpointStrategy, O: Backward<B, N>, const N: usize>(
    prepared: OpsPrep<O, B, O::State, C, N>,
    state: O::State,
    out: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match prepared.compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state, out),
        OpsKind::UnTracked(prep) => prep.finish(out),
    }
}

#[derive(Debug)]
struct ActLoss;

impl<B: HrmBackend> Backward<B, 3> for ActLoss {
    type State = (SegmentOf<B>, SegmentWeights);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dloss = grads.consume::<B>(&ops.node);
        let (segment, how) = ops.state;
        let (danswers, dq_halt, dq_continue) = B::act_loss_backward(segment, &how, dloss);
        for (node, gradient) in ops.parents.into_iter().zip([danswers, dq_halt, dq_continue]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct GroupBlock;

#[derive(Clone, Debug)]
struct GroupBlockState<T> {
    z: T,
    injection: Option<T>,
    weights: GroupWeights<T>,
    /// Types of the weights before they were converted.
    masters: [DType; 3],
    tables: GroupTables<T>,
    output: (T, T),
}

impl<B: HrmBackend> Backward<B, 5> for GroupBlock {
    type State = GroupBlockState<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let GroupBlockState { z, injection, weights, masters, tables, output } = ops.state;
        let (dz, GroupWeights { input, gate_up, down }) =
            B::group_block_backward((z, injection), weights, &tables, output, dy);
        let [input, gate_up, down] = [(input, masters[0]), (gate_up, masters[1]), (down, masters[2])]
            .map(|(d, dtype)| B::convert(d, dtype));
        let gradients = [dz.clone(), dz, input, gate_up, down];
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct AddRmsNorm;

impl<B: HrmBackend> Backward<B, 2> for AddRmsNorm {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (y, inv_rms) = ops.state;
        let du = B::add_rms_norm_backward(y, inv_rms, dy);
        for node in ops.parents.into_iter().flatten() {
            grads.register::<B>(node.id, du.clone());
        }
    }
}

/// Operators whose state and output's gradient make one gradient for each parent, in their order, where one is wanted.
macro_rules! backward {
    ($($Operator:ident<$N:literal>($state:pat in $State:ty, $dy:ident) = [$($gradient:expr),+];)+) => {$(
        #[derive(Debug)]
        struct $Operator;

        impl<B: HrmBackend> Backward<B, $N> for $Operator {
            type State = $State;

            fn backward(self, ops: Ops<$State, $N>, grads: &mut Gradients, _: &mut Checkpointer) {
                let $dy = grads.consume::<B>(&ops.node);
                let $state = ops.state;
                let mut parents = ops.parents.into_iter();
                $(if let Some(node) = parents.next().flatten() {
                    grads.register::<B>(node.id, $gradient);
                })+
            }
        }
    )+};
}

backward! {
    Product<2>((lhs, rhs) in (FloatTensor<B>, FloatTensor<B>), dy) = [
        B::product(dy.clone(), B::float_transpose(rhs)),
        B::product(B::float_transpose(lhs), dy)
    ];
    Add<2>(() in (), dy) = [dy.clone(), dy];
    Linear<2>((x, weight, master) in (FloatTensor<B>, FloatTensor<B>, DType), dy) = [
        B::linear_backward_input(dy.clone(), weight),
        B::linear_backward_weight(dy, x, master)
    ];
    Embedding<1>((tokens, entries, master) in (IntTensor<B>, usize, DType), dy) = [
        B::convert(B::token_embedding_backward(dy, tokens, entries), master)
    ];
    Swiglu<1>(gate_up in FloatTensor<B>, dy) = [B::swiglu_backward(gate_up, dy)];
    NormedSwiglu<1>((gate_up, inv_rms) in (FloatTensor<B>, FloatTensor<B>), dy) = [
        B::normed_swiglu_backward(gate_up, inv_rms, dy)
    ];
    Answers<1>((logits, asked, answers, how) in (FloatTensor<B>, IntTensor<B>, FloatTensor<B>, CellLoss), danswers) = [
        B::answers_backward(logits, asked, answers, &how, danswers)
    ];
    Transpose<1>(() in (), dy) = [B::transpose(dy)];
    Attention<1>(state in AttentionState<FloatTensor<B>>, dout) = [{
        let AttentionState { qkv, rotary, heads, out, lse } = state;
        B::attention_backward(qkv, rotary, heads, out, lse, dout)
    }];
}

#[derive(Clone, Debug)]
struct AttentionState<T> {
    qkv: T,
    rotary: Option<(T, T)>,
    heads: usize,
    out: T,
    lse: T,
}
