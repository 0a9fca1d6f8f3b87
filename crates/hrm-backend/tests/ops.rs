//! Every fused operator against its plain formula, forward and backward: what a backend's operators and our
//! hand-written backward passes give, against plain Burn operators in fp32 that Burn itself differentiates.

use burn::{
    backend::Autodiff,
    tensor::{DType, Tensor, TensorData, TensorPrimitive, backend::Backend},
};
use hrm_backend::{
    CellLoss, GroupTables, GroupWeights, Groups, HrmBackend, Segment, SegmentWeights, for_each_backend,
    groups, losses,
    ops::{self, AdamAtan2Update},
    plain,
    testing::{Deviations, tensor_values},
};

for_each_backend!(
    add,
    convert,
    product,
    split_product,
    linear,
    linear_on_the_host,
    linear_of_master_weights,
    embedding,
    embedding_of_equal_tokens,
    add_rms_norm,
    add_rms_norm_of_one_tensor,
    swiglu,
    normed_swiglu,
    transpose,
    linear_swiglu,
    weights_that_change,
    attention,
    attention_of_tiles,
    attention_of_large_scores,
    replace_rows,
    answers,
    answers_of_equal_logits,
    act_loss,
    group_block,
    group_block_of_odd_widths,
    adam_atan2,
    adam_atan2_of_a_bad_step,
    sums_of_squares,
);

const EPS: f64 = 1e-5;

/// A rank-2 tensor that is differentiated.
type Diff<B> = Tensor<Autodiff<B>, 2>;

/// Uniform in -1..1 and the same everywhere, exact in `dtype` (fp32 or bf16).
fn noise(seed: u64, count: usize, dtype: DType) -> Vec<f32> {
    let mask = if dtype == DType::BF16 { 0xffff_0000 } else { u32::MAX };
    let mut state = seed;
    let mut next = || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let uniform = (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        f32::from_bits(uniform.to_bits() & mask)
    };
    (0..count).map(|_| next()).collect()
}

/// A type to compute in, and how far from the fp32 formula it may be (root mean squares).
#[derive(Debug, Clone, Copy)]
struct Precision {
    dtype: DType,
    tolerance: f64,
}

/// fp32 everywhere; bf16 where the device has it.
fn precisions<B: Backend>() -> Vec<Precision> {
    let mut precisions = vec![Precision { dtype: DType::F32, tolerance: 5e-6 }];
    if B::supports_dtype(&B::Device::default(), DType::BF16) {
        precisions.push(Precision { dtype: DType::BF16, tolerance: 2e-2 });
    }
    precisions
}

/// What the operator gets.
#[derive(Debug, Clone, Copy)]
struct Inputs<const N: usize> {
    shapes: [[usize; 2]; N],
    /// Inputs are uniform in `-scale..scale`; a power of two.
    scale: f32,
    /// The operator sees transposed views: the same shapes, other strides.
    strided: bool,
    /// Only this input needs a gradient.
    only: Option<usize>,
}

impl<const N: usize> Inputs<N> {
    fn of(shapes: [[usize; 2]; N]) -> Self {
        Self { shapes, scale: 2.0, strided: false, only: None }
    }

    /// Output and gradients of a function computed in `dtype` at inputs that are exact in `exact_in`.
    fn run<B: HrmBackend>(
        &self,
        exact_in: DType,
        dtype: DType,
        function: impl Fn([Diff<B>; N]) -> Diff<B>,
    ) -> Vec<(String, Vec<f64>)> {
        let device = B::Device::default();
        let leaves: [Diff<B>; N] = std::array::from_fn(|index| {
            let [rows, columns] = self.shapes[index];
            let shape = if self.strided { [columns, rows] } else { [rows, columns] };
            let values = noise(index as u64, rows * columns, exact_in);
            let leaf = Diff::<B>::from_data(TensorData::new(values, shape), &device) * self.scale;
            let tracked = self.only.is_none_or(|only| only == index);
            leaf.cast(dtype).detach().set_require_grad(tracked)
        });
        let view = |leaf: &Diff<B>| match self.strided {
            true => leaf.clone().transpose(),
            false => leaf.clone(),
        };
        let y = function(leaves.each_ref().map(view));
        assert_eq!(y.dtype(), dtype, "type of the output");
        let [rows, columns] = y.dims();
        let upstream = noise(99, rows * columns, exact_in);
        let upstream = Diff::<B>::from_data(TensorData::new(upstream, [rows, columns]), &device).cast(dtype);
        let grads = (y.clone() * upstream).sum().backward();
        let mut values = vec![("y".to_owned(), tensor_values(y))];
        for (index, leaf) in leaves.iter().enumerate() {
            if let Some(grad) = leaf.grad(&grads) {
                values.push((format!("gradient {index}"), tensor_values(grad)));
            }
        }
        values
    }

    /// Compares a fused operator in some precision with its plain formula in fp32.
    fn compare<B: HrmBackend>(
        &self,
        check: &mut Deviations,
        precision: Precision,
        fused: impl Fn([Diff<B>; N]) -> Diff<B>,
        plain: impl Fn([Diff<B>; N]) -> Diff<B>,
    ) {
        let Precision { dtype, tolerance } = precision;
        let got = self.run::<B>(dtype, dtype, fused);
        let expected = self.run::<B>(dtype, DType::F32, plain);
        let label = format!("{dtype:?} {self:?}");
        check.check_equal(&format!("{label}: number of gradients"), got.len(), expected.len());
        for ((what, got), (_, expected)) in got.iter().zip(&expected) {
            check.check_within(&format!("{label} {what}"), got, expected, 0.0, tolerance);
        }
    }

    /// [`compare`](Self::compare) as it is, with strided inputs, and with each input alone tracked.
    fn compare_all<B: HrmBackend>(
        self,
        check: &mut Deviations,
        precision: Precision,
        fused: impl Fn([Diff<B>; N]) -> Diff<B>,
        plain: impl Fn([Diff<B>; N]) -> Diff<B>,
    ) {
        let mut variants = vec![self, Self { strided: true, ..self }];
        if self.shapes.len() > 1 {
            variants.extend((0..self.shapes.len()).map(|only| Self { only: Some(only), ..self }));
        }
        for inputs in variants {
            inputs.compare(check, precision, &fused, &plain);
        }
    }
}

fn line<B: Backend>(what: &str) -> Deviations {
    Deviations::new(format!("ops.{what} [{}]", B::name(&B::Device::default())))
}

/// The product and its gradients against Burn's own.
fn product<B: HrmBackend>() {
    let mut check = line::<B>("product");
    // A matmul that rounds its operands is no measure.
    let tolerance = if B::ROUNDS_OPERANDS { 2e-3 } else { 5e-6 };
    let precision = Precision { tolerance, ..precisions::<B>()[0] };
    for [rows, inner, columns] in LINEAR {
        Inputs::of([[rows, inner], [inner, columns]]).compare_all::<B>(
            &mut check,
            precision,
            |[lhs, rhs]| ops::product(lhs, rhs),
            |[lhs, rhs]| lhs.matmul(rhs),
        );
    }
    // The same with batches: a product of each.
    let batched = |x: Diff<B>, rows: usize| x.reshape([2, 3, rows, 5]);
    Inputs::of([[2 * 3 * 4, 5], [2 * 3 * 7, 5]]).compare_all::<B>(
        &mut check,
        precision,
        |[lhs, rhs]| ops::product(batched(lhs, 4), batched(rhs, 7).transpose()).reshape([2 * 3 * 4, 7]),
        |[lhs, rhs]| batched(lhs, 4).matmul(batched(rhs, 7).transpose()).reshape([2 * 3 * 4, 7]),
    );
    check.finish();
}

fn add<B: HrmBackend>() {
    let mut check = line::<B>("add");
    for precision in precisions::<B>() {
        for shape in [[1, 1], [3, 7], [82, 256]] {
            Inputs::of([shape, shape]).compare_all::<B>(
                &mut check,
                precision,
                |[a, b]| ops::add(a, b),
                |[a, b]| a + b,
            );
        }
    }
    check.finish();
}

/// To a narrower type and back, as Burn's own cast does it.
fn convert<B: HrmBackend>() {
    for Precision { dtype, .. } in precisions::<B>() {
        for (rows, columns) in [(1, 1), (5, 7), (64, 96)] {
            let x = inner::<B>(1, [rows, columns], DType::F32);
            let bits =
                |t: Tensor<B, 2>| t.cast(DType::F32).into_data().iter::<f32>().map(f32::to_bits).collect();
            let [got, expected]: [Vec<u32>; 2] =
                [ops::convert(x.clone(), dtype), x.clone().cast(dtype)].map(bits);
            assert_eq!(got, expected, "{dtype:?}");
            let narrow = x.cast(dtype).transpose();
            let [got, expected]: [Vec<u32>; 2] =
                [ops::convert(narrow.clone(), DType::F32), narrow.cast(DType::F32)].map(bits);
            assert_eq!(got, expected, "{dtype:?} to fp32, of a view");
        }
    }
}

/// What takes the place of a matmul that rounds its operands.
fn split_product<B: HrmBackend>() {
    let mut check = line::<B>("split_product");
    for [rows, inner, columns] in LINEAR {
        let values = |seed, count| noise(seed, count, DType::F32);
        let (lhs, rhs) = (values(1, rows * inner), values(2, inner * columns));
        let mut expected = vec![0.0; rows * columns];
        for row in 0..rows {
            for i in 0..inner {
                for column in 0..columns {
                    expected[row * columns + column] +=
                        f64::from(lhs[row * inner + i]) * f64::from(rhs[i * columns + column]);
                }
            }
        }
        let matrix = |values: Vec<f32>, shape: [usize; 2]| {
            Tensor::<B, 2>::from_data(TensorData::new(values, shape), &B::Device::default())
                .into_primitive()
                .tensor()
        };
        let product = plain::split_product::<B>(matrix(lhs, [rows, inner]), matrix(rhs, [inner, columns]));
        let got = tensor_values(Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(product)));
        check.check_within(&format!("{rows}x{inner}x{columns}"), &got, &expected, 0.0, 5e-6);
    }
    check.finish();
}

/// Rows, inputs, outputs: vectors, heads of a few outputs, the projections of a block.
const LINEAR: [[usize; 3]; 7] =
    [[1, 1, 1], [1, 64, 2], [3, 5, 7], [5, 64, 11], [82, 64, 192], [33, 130, 67], [164, 256, 384]];

fn linear<B: HrmBackend>() {
    let mut check = line::<B>("linear");
    for precision in precisions::<B>() {
        for [rows, input, output] in LINEAR {
            Inputs::of([[rows, input], [output, input]]).compare_all::<B>(
                &mut check,
                precision,
                |[x, weight]| ops::linear(x, weight),
                |[x, weight]| plain::linear(x, weight),
            );
        }
    }
    check.finish();
}

/// The same products computed here in f64: a backend whose plain product is wrong cannot pass.
fn linear_on_the_host<B: HrmBackend>() {
    let mut check = line::<B>("linear, host");
    for [rows, input, output] in LINEAR {
        let inputs = Inputs::of([[rows, input], [output, input]]);
        let got = inputs.run::<B>(DType::F32, DType::F32, |[x, weight]| ops::linear(x, weight));
        let host = |seed, count, scale: f32| -> Vec<f64> {
            let values = noise(seed, count, DType::F32);
            values.into_iter().map(|v| f64::from(v * scale)).collect()
        };
        let x = host(0, rows * input, inputs.scale);
        let weight = host(1, output * input, inputs.scale);
        let dy = host(99, rows * output, 1.0);
        let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; weight.len()]);
        for row in 0..rows {
            for out in 0..output {
                for i in 0..input {
                    y[row * output + out] += x[row * input + i] * weight[out * input + i];
                    dx[row * input + i] += dy[row * output + out] * weight[out * input + i];
                    dw[out * input + i] += dy[row * output + out] * x[row * input + i];
                }
            }
        }
        for ((what, got), expected) in got.iter().zip([y, dx, dw]) {
            let what = format!("{rows}x{input}x{output} {what}");
            check.check_within(&what, got, &expected, 0.0, 5e-6);
        }
    }
    check.finish();
}

/// A weight that is wider than what it multiplies: it is rounded for the product, its gradient is not.
fn linear_of_master_weights<B: HrmBackend>() {
    let mut check = line::<B>("linear, master weights");
    let device = B::Device::default();
    for Precision { dtype, tolerance } in precisions::<B>() {
        let [rows, input, output] = [164, 256, 384];
        let values = |seed, shape: [usize; 2]| {
            Diff::<B>::from_data(TensorData::new(noise(seed, shape[0] * shape[1], dtype), shape), &device)
        };
        let weight = values(1, [output, input]).require_grad();
        let (x, upstream) = (values(0, [rows, input]).cast(dtype), values(2, [rows, output]));
        let y = ops::linear(x.clone(), weight.clone());
        check.check_equal("type", y.dtype(), dtype);
        let grads = (y * upstream.clone().cast(dtype)).sum().backward();
        let got = weight.grad(&grads).expect("a gradient");
        check.check_equal("type of the gradient", got.dtype(), DType::F32);
        let expected = ops::product(upstream.transpose(), x.cast(DType::F32)).inner();
        let what = format!("{dtype:?}");
        check.check_within(&what, &tensor_values(got), &tensor_values(expected), 0.0, tolerance);
    }
    check.finish();
}

/// Rows of a table and the gradient of the table, where few rows are used often and where there are many of them.
fn embedding<B: HrmBackend>() {
    let mut check = line::<B>("embedding");
    let device = B::Device::default();
    for Precision { dtype, tolerance } in precisions::<B>() {
        for [entries, width, rows] in [[2, 1, 1], [11, 64, 300], [16, 33, 90], [700, 24, 500]] {
            let tokens: Vec<i32> = (0..rows).map(|row| (row * row % entries) as i32).collect();
            let tokens = Tensor::<Autodiff<B>, 1, burn::tensor::Int>::from_data(
                TensorData::new(tokens, [rows]),
                &device,
            );
            Inputs::of([[entries, width]]).compare::<B>(
                &mut check,
                Precision { dtype, tolerance },
                |[table]| ops::embedding(table.cast(DType::F32), tokens.clone(), dtype),
                |[table]| table.select(0, tokens.clone()),
            );
        }
    }
    check.finish();
}

/// Very many tokens are the same: a sum in bf16 would stop growing at 256.
fn embedding_of_equal_tokens<B: HrmBackend>() {
    let device = B::Device::default();
    for Precision { dtype, .. } in precisions::<B>() {
        let tokens = Tensor::<Autodiff<B>, 1, burn::tensor::Int>::zeros([5000], &device) + 3;
        let table = Diff::<B>::ones([11, 32], &device).require_grad();
        let y = ops::embedding(table.clone(), tokens, dtype);
        assert_eq!(y.dtype(), dtype);
        let gradient = table.grad(&y.cast(DType::F32).sum().backward()).expect("a gradient");
        assert_eq!(gradient.dtype(), DType::F32);
        let expected = (0..11 * 32).map(|i| if i / 32 == 3 { 5000.0 } else { 0.0 });
        assert!(tensor_values(gradient).into_iter().eq(expected), "{dtype:?}: an exact sum");
    }
}

/// Labels of some sequences: some cells without one, and of the second sequence all.
fn labels<B: Backend>([batch, seq, vocab]: [usize; 3], skip: usize) -> Tensor<B, 2, burn::tensor::Int> {
    let label = |i: usize| match i.is_multiple_of(skip) || i / seq == 1 {
        true => losses::IGNORE_LABEL as i32,
        false => (i * i % vocab) as i32,
    };
    let values: Vec<i32> = (0..batch * seq).map(label).collect();
    Tensor::from_data(TensorData::new(values, [batch, seq]), &B::Device::default())
}

fn answers<B: HrmBackend>() {
    let mut check = line::<B>("answers");
    for precision in precisions::<B>() {
        for shape in [[1, 1, 2], [3, 5, 11], [2, 300, 33]] {
            for (stablemax, smoothing) in [(true, 0.0), (true, 0.3), (false, 0.0), (false, 0.3)] {
                let how = CellLoss { stablemax, smoothing };
                let (all, some) = (labels(shape, 7), labels(shape, 3));
                let columns = |answers: Diff<B>| answers.narrow(1, 0, 2).cast(precision.dtype);
                let [batch, seq, vocab] = shape;
                Inputs { scale: 8.0, ..Inputs::of([[batch * seq, vocab]]) }.compare::<B>(
                    &mut check,
                    precision,
                    |[x]| columns(ops::answers(x.reshape(shape), all.clone(), some.clone(), &how)),
                    |[x]| losses::answers(x.reshape(shape), all.clone(), some.clone(), &how).narrow(1, 0, 2),
                );
                // Counts are counts in every type.
                let values = noise(5, batch * seq * vocab, precision.dtype);
                let logits = Tensor::<B, 3>::from_data(TensorData::new(values, shape), &B::Device::default())
                    .cast(precision.dtype);
                let (all, some) = (labels::<B>(shape, 7), labels::<B>(shape, 3));
                let counts = |answers: Tensor<B, 2>| tensor_values(answers.narrow(1, 2, 4));
                let got = counts(ops::answers(logits.clone(), all.clone(), some.clone(), &how));
                let expected = counts(losses::answers(logits, all, some, &how));
                check.check(&format!("counts of {shape:?}"), &got, &expected, 0.0);
            }
        }
    }
    check.finish();
}

/// The first of equal logits is the answer.
fn answers_of_equal_logits<B: HrmBackend>() {
    let device = B::Device::default();
    let logits = Tensor::<B, 3>::from_floats([[[0.0, 3.0, 3.0], [-1.0, -1.0, -2.0]]], &device);
    let labels = Tensor::<B, 2, burn::tensor::Int>::from_ints([[1, 0]], &device);
    let how = CellLoss { stablemax: false, smoothing: 0.0 };
    let answers = tensor_values(ops::answers(logits, labels.clone(), labels, &how));
    assert_eq!(answers[2..], [1.0, 1.0, 1.0, 2.0]);
}

fn act_loss<B: HrmBackend>() {
    let mut check = line::<B>("act_loss");
    let device = B::Device::default();
    let precision = precisions::<B>()[0];
    for batch in [1, 5, 300] {
        let row = |of: fn(usize) -> f32| -> Tensor<Autodiff<B>, 1> {
            let values: Vec<f32> = (0..batch).map(of).collect();
            Tensor::from_data(TensorData::new(values, [batch]), &device)
        };
        let flags = [row(|i| (i % 2) as f32), row(|i| f32::from(u8::from(i % 3 > 0))), row(|_| 4.0)];
        let flags = Tensor::stack::<2>(flags.to_vec(), 1);
        let (counted, weights, target) = (
            row(|i| f32::from(u8::from(i % 5 != 2))),
            row(|i| (i % 4) as f32),
            row(|i| (i % 8) as f32 / 8.0),
        );
        let steps = row(|i| (i % 16 + 1) as f32).int();
        for (with_target, with_weights, decay) in [(true, false, 1.0), (false, true, 0.7), (true, true, 0.7)]
        {
            let how = SegmentWeights { halt: 0.3, decay };
            let segment = |answers: Diff<B>, q: Diff<B>| {
                let column = |index: usize| q.clone().narrow(1, index, 1).squeeze_dim::<1>(1) * 8.0;
                Segment {
                    answers: Tensor::cat(vec![answers, flags.clone()], 1),
                    q_halt: column(0),
                    q_continue: column(1),
                    target: with_target.then(|| target.clone()),
                    weights: with_weights.then(|| weights.clone()),
                    counted: counted.clone(),
                    steps: steps.clone(),
                }
            };
            let loss = |(loss, _): (Tensor<Autodiff<B>, 1>, _)| loss.unsqueeze_dim::<2>(0);
            Inputs::of([[batch, 3], [batch, 2]]).compare::<B>(
                &mut check,
                precision,
                |[answers, q]| loss(ops::act_loss(segment(answers, q), &how)),
                |[answers, q]| loss(losses::act_loss(segment(answers, q), &how)),
            );
            let tensor = |columns| {
                let values = noise(7, batch * columns, DType::F32);
                Diff::<B>::from_data(TensorData::new(values, [batch, columns]), &device)
            };
            let (answers, q) = (tensor(3), tensor(2));
            let got = ops::act_loss(segment(answers.clone(), q.clone()), &how).1;
            let expected = losses::act_loss(segment(answers, q), &how).1;
            check.check(&format!("metrics of {batch}"), &tensor_values(got), &tensor_values(expected), 0.0);
        }
    }
    check.finish();
}

fn add_rms_norm<B: HrmBackend>() {
    let mut check = line::<B>("add_rms_norm");
    for precision in precisions::<B>() {
        for shape in [[1, 2], [1, 7], [3, 64], [17, 33], [82, 256], [257, 129]] {
            // At 1/1024 the epsilon weighs as much as the values.
            for scale in [2.0, 1.0 / 1024.0] {
                let inputs = Inputs { scale, ..Inputs::of([shape, shape]) };
                inputs.compare_all::<B>(
                    &mut check,
                    precision,
                    |[x, residual]| ops::add_rms_norm(x, residual, EPS),
                    |[x, residual]| plain::add_rms_norm(x, residual, EPS).0,
                );
            }
        }
    }
    check.finish();
}

/// Both inputs are the same tensor: its gradient is the sum of two.
fn add_rms_norm_of_one_tensor<B: HrmBackend>() {
    let mut check = line::<B>("add_rms_norm(x, x)");
    let precision = precisions::<B>()[0];
    Inputs::of([[5, 24]]).compare_all::<B>(
        &mut check,
        precision,
        |[x]| ops::add_rms_norm(x.clone(), x, EPS),
        |[x]| plain::add_rms_norm(x.clone(), x, EPS).0,
    );
    check.finish();
}

fn swiglu<B: HrmBackend>() {
    let mut check = line::<B>("swiglu");
    for precision in precisions::<B>() {
        for [rows, inter] in [[1, 1], [1, 16], [3, 7], [17, 33], [82, 256], [257, 129]] {
            // At 64 the sigmoid saturates.
            for scale in [2.0, 64.0] {
                let inputs = Inputs { scale, ..Inputs::of([[rows, 2 * inter]]) };
                inputs.compare_all::<B>(
                    &mut check,
                    precision,
                    |[gate_up]| ops::swiglu(gate_up),
                    |[gate_up]| plain::swiglu(gate_up),
                );
            }
        }
    }
    check.finish();
}

fn normed_swiglu<B: HrmBackend>() {
    let mut check = line::<B>("normed_swiglu");
    for precision in precisions::<B>() {
        for [rows, inter] in [[1, 1], [1, 16], [3, 7], [17, 33], [82, 256], [257, 129]] {
            // At 1/64 the epsilon weighs as much as the squared products.
            for scale in [2.0, 1.0 / 64.0] {
                let inputs = Inputs { scale, ..Inputs::of([[rows, 2 * inter]]) };
                inputs.compare_all::<B>(
                    &mut check,
                    precision,
                    |[gate_up]| ops::normed_swiglu(gate_up, EPS),
                    |[gate_up]| plain::normed_swiglu(gate_up, EPS).0,
                );
            }
        }
    }
    check.finish();
}

/// Exact, so in one type.
fn transpose<B: HrmBackend>() {
    let mut check = line::<B>("transpose");
    let precision = precisions::<B>()[0];
    for [batch, rows, columns] in [[1, 1, 1], [1, 5, 3], [2, 32, 64], [3, 97, 33], [2, 81, 130]] {
        Inputs::of([[batch * rows, columns]]).compare_all::<B>(
            &mut check,
            precision,
            |[x]| {
                let y = ops::transpose(x.reshape([batch, rows, columns]));
                y.reshape([batch * columns, rows])
            },
            |[x]| x.reshape([batch, rows, columns]).swap_dims(1, 2).reshape([batch * columns, rows]),
        );
    }
    check.finish();
}

fn linear_swiglu<B: HrmBackend>() {
    let mut check = line::<B>("linear_swiglu");
    for precision in precisions::<B>() {
        for [rows, input, inter] in [[1, 1, 1], [3, 5, 7], [17, 64, 33], [82, 128, 96], [33, 700, 40]] {
            let inputs = Inputs { scale: 1.0, ..Inputs::of([[rows, input], [2 * inter, input]]) };
            inputs.compare_all::<B>(
                &mut check,
                precision,
                |[x, weight]| ops::linear_swiglu(x, weight),
                |[x, weight]| plain::swiglu(plain::linear(x, weight)),
            );
            // Without a gradient it may be one product.
            let [x, weight] = [(1, rows), (2, 2 * inter)]
                .map(|(seed, rows)| inner::<B>(seed, [rows, input], precision.dtype));
            let expected = tensor_values(plain::swiglu(plain::linear(x.clone(), weight.clone())));
            let cast = |t: Tensor<B, 2>| t.cast(precision.dtype);
            let got = tensor_values(ops::linear_swiglu(cast(x), cast(weight)));
            let what = format!("{:?} {rows}x{input}x{inter} without a gradient", precision.dtype);
            check.check_within(&what, &got, &expected, 0.0, precision.tolerance);
        }
    }
    check.finish();
}

/// A tensor that is not differentiated: fp32 values that are exact in another type.
fn inner<B: Backend>(seed: u64, shape: [usize; 2], exact_in: DType) -> Tensor<B, 2> {
    let values = noise(seed, shape[0] * shape[1], exact_in);
    Tensor::from_data(TensorData::new(values, shape), &B::Device::default())
}

/// A backend may keep weights in another layout, but never older values.
fn weights_that_change<B: HrmBackend>() {
    let mut check = line::<B>("linear, weights that change");
    let x = inner::<B>(1, [9, 16], DType::F32);
    let mut weight = inner::<B>(2, [12, 16], DType::F32);
    let (mut m, mut v) = (weight.zeros_like(), weight.zeros_like());
    for step in 1..=4 {
        for _ in 0..2 {
            let what = |name: &str| format!("{name} after {step} updates");
            let expected = tensor_values(plain::linear(x.clone(), weight.clone()));
            let got = tensor_values(ops::linear(x.clone(), weight.clone()));
            check.check_within(&what("linear"), &got, &expected, 0.0, 5e-6);
            let expected = tensor_values(plain::swiglu(plain::linear(x.clone(), weight.clone())));
            let got = tensor_values(ops::linear_swiglu(x.clone(), weight.clone()));
            check.check_within(&what("linear_swiglu"), &got, &expected, 0.0, 5e-6);
        }
        let update = AdamAtan2Update { lr: 0.3, beta1: 0.9, beta2: 0.95, weight_decay: 0.1, step };
        (weight, m, v) = ops::adam_atan2(weight, inner(step + 10, [12, 16], DType::F32), m, v, &update, None);
    }
    check.finish();
}

/// Cosines and sines of rotary positions.
fn rotary_tables<B: Backend>(seq: usize, head_dim: usize) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let table = |f: fn(f32) -> f32| {
        let angle = |p: usize, i: usize| {
            let exponent = (2 * (i % (head_dim / 2))) as f32 / head_dim as f32;
            p as f32 / 10_000f32.powf(exponent)
        };
        let values: Vec<f32> = (0..seq).flat_map(|p| (0..head_dim).map(move |i| f(angle(p, i)))).collect();
        Tensor::from_data(TensorData::new(values, [seq, head_dim]), &B::Device::default())
    };
    (table(f32::cos), table(f32::sin))
}

/// One comparison of [`attention`] at `[batch, seq, heads, head_dim]`, of queries, keys and values that are the first columns of
/// something wider.
fn compare_attention_of_slice<B: HrmBackend>(
    check: &mut Deviations,
    precision: Precision,
    [batch, seq, heads, head_dim]: [usize; 4],
    scale: f32,
    with_positions: bool,
    more_columns: usize,
) {
    let width = heads * head_dim;
    let rotary = with_positions.then(|| rotary_tables::<Autodiff<B>>(seq, head_dim));
    let columns = 3 * width + more_columns;
    let inputs = Inputs { scale, ..Inputs::of([[batch * seq, columns]]) };
    let of = |x: Diff<B>| x.reshape([batch, seq, columns]).narrow(2, 0, 3 * width);
    inputs.compare_all::<B>(
        check,
        precision,
        |[x]| ops::attention(of(x), rotary.clone(), heads).reshape([batch * seq, width]),
        |[x]| {
            let (out, _) = plain::attention(of(x), rotary.clone(), heads);
            out.reshape([batch * seq, width])
        },
    );
}

/// One comparison of [`attention`] at `[batch, seq, heads, head_dim]`.
fn compare_attention<B: HrmBackend>(
    check: &mut Deviations,
    precision: Precision,
    sizes: [usize; 4],
    scale: f32,
    with_positions: bool,
) {
    compare_attention_of_slice::<B>(check, precision, sizes, scale, with_positions, 0);
}

fn attention<B: HrmBackend>() {
    let mut check = line::<B>("attention");
    for precision in precisions::<B>() {
        for shape in
            [[1, 1, 1, 2], [1, 2, 1, 4], [2, 5, 3, 6], [3, 17, 4, 16], [2, 82, 2, 64], [1, 97, 2, 32]]
        {
            for with_positions in [true, false] {
                compare_attention::<B>(&mut check, precision, shape, 2.0, with_positions);
            }
        }
        // Without positions the head may have any width.
        compare_attention::<B>(&mut check, precision, [2, 7, 3, 5], 2.0, false);
    }
    check.finish();
}

/// Heads of whole tiles, for which tensor cores have kernels of their own: sequences that fill tiles, just exceed them or fit
/// into one, and one that is too long for those kernels.
fn attention_of_tiles<B: HrmBackend>() {
    let mut check = line::<B>("attention of tiles");
    for precision in precisions::<B>() {
        for shape in [[2, 5, 2, 32], [1, 16, 3, 64], [2, 81, 1, 64], [1, 97, 1, 128], [1, 130, 1, 64]] {
            for with_positions in [true, false] {
                compare_attention::<B>(&mut check, precision, shape, 2.0, with_positions);
            }
        }
        for more_columns in [64, 3] {
            compare_attention_of_slice::<B>(&mut check, precision, [2, 33, 2, 32], 2.0, true, more_columns);
        }
        // Longer than what a cube takes as a whole: blocks of 64, the last of them full, with one row and with some.
        for shape in [[2, 192, 1, 32], [1, 193, 2, 64], [1, 150, 1, 128]] {
            compare_attention::<B>(&mut check, precision, shape, 2.0, true);
        }
        compare_attention::<B>(&mut check, precision, [1, 300, 1, 32], 2.0, false);
        for more_columns in [64, 3] {
            compare_attention_of_slice::<B>(&mut check, precision, [1, 140, 2, 32], 2.0, true, more_columns);
        }
    }
    check.finish();
}

/// Scores in the hundreds: exponentials overflow unless the largest score is subtracted first.
fn attention_of_large_scores<B: HrmBackend>() {
    let mut check = line::<B>("attention, large scores");
    let precision = Precision {
        // Rounding of scores of several hundred shows in their exponentials.
        tolerance: 2e-4,
        ..precisions::<B>()[0]
    };
    compare_attention::<B>(&mut check, precision, [2, 17, 2, 16], 16.0, true);
    check.finish();
}

/// Several updates against the formula in f64, computed here, element by element.
fn adam_atan2<B: HrmBackend>() {
    let mut check = line::<B>("adam_atan2");
    let device = B::Device::default();
    for [rows, columns] in [[1, 1], [1, 7], [33, 5], [64, 129], [300, 257]] {
        let count = rows * columns;
        let mut p: Vec<f64> = noise(0, count, DType::F32).into_iter().map(f64::from).collect();
        let (mut m, mut v) = (vec![0.0; count], vec![0.0; count]);
        let tensor = |values: &[f64]| {
            let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
            Tensor::<B, 2>::from_data(TensorData::new(values, [rows, columns]), &device)
        };
        let (mut tp, mut tm, mut tv) = (tensor(&p), tensor(&m), tensor(&v));
        for step in 1..=4 {
            let update =
                AdamAtan2Update { lr: 0.01 / step as f64, beta1: 0.9, beta2: 0.95, weight_decay: 0.1, step };
            // Some elements never get a gradient, whose update must be decay alone.
            let grad: Vec<f64> = noise(step, count, DType::F32)
                .into_iter()
                .enumerate()
                .map(|(i, g)| if i % 5 == 3 { 0.0 } else { f64::from(g) })
                .collect();
            (tp, tm, tv) = ops::adam_atan2(tp, tensor(&grad), tm, tv, &update, None);
            let correction1 = 1.0 - update.beta1.powi(step as i32);
            let correction2 = (1.0 - update.beta2.powi(step as i32)).sqrt();
            for i in 0..count {
                m[i] += (1.0 - update.beta1) * (grad[i] - m[i]);
                v[i] += (1.0 - update.beta2) * (grad[i] * grad[i] - v[i]);
                p[i] *= 1.0 - update.lr * update.weight_decay;
                p[i] -= update.lr / correction1 * m[i].atan2(v[i].sqrt() / correction2);
            }
            for (what, got, expected) in [("p", &tp, &p), ("m", &tm, &m), ("v", &tv, &v)] {
                let what = format!("{rows}x{columns} step {step} {what}");
                let got = tensor_values(got.clone());
                check.check_within(&what, &got, expected, 0.0, 2e-6);
                check.check_equal(
                    &format!("{what}: idle elements"),
                    got.iter().zip(expected).all(|(g, e)| (*e == 0.0) == (*g == 0.0)),
                    true,
                );
            }
        }
    }
    check.finish();
}

/// A flag on the device keeps what was before, also where the gradient is no number; another one changes nothing.
fn adam_atan2_of_a_bad_step<B: HrmBackend>() {
    let device = B::Device::default();
    let update = AdamAtan2Update { lr: 0.01, beta1: 0.9, beta2: 0.95, weight_decay: 0.1, step: 3 };
    let bits = |t: Tensor<B, 2>| t.into_data().iter::<f32>().map(f32::to_bits).collect::<Vec<_>>();
    let [param, m, v] = [1, 2, 3].map(|seed| inner::<B>(seed, [33, 5], DType::F32).abs());
    for flag in [0.0, 1.0] {
        let good = Tensor::<B, 1>::from_floats([flag], &device);
        let grad = inner::<B>(4, [33, 5], DType::F32);
        let grad = if flag == 0.0 { grad / 0.0 } else { grad };
        let step = |good| ops::adam_atan2(param.clone(), grad.clone(), m.clone(), v.clone(), &update, good);
        let new = step(Some(&good));
        let expected = if flag == 0.0 { (param.clone(), m.clone(), v.clone()) } else { step(None) };
        for (got, expected) in [(new.0, expected.0), (new.1, expected.1), (new.2, expected.2)] {
            assert_eq!(bits(got), bits(expected), "flag {flag}");
        }
    }
}

/// Of small and large tensors, against sums in f64; what is not finite stays so.
fn sums_of_squares<B: HrmBackend>() {
    let mut check = line::<B>("sums_of_squares");
    let device = B::Device::default();
    let lengths = [1, 7, 300, 70_000, 1_000_003];
    let values = |index: usize| noise(index as u64, lengths[index], DType::F32);
    let tensors = (0..lengths.len())
        .map(|index| Tensor::<B, 1>::from_data(TensorData::new(values(index), [lengths[index]]), &device));
    let got = tensor_values(ops::sums_of_squares(tensors).expect("some tensors"));
    let expected: Vec<f64> = (0..lengths.len())
        .map(|index| values(index).into_iter().map(|value| f64::from(value).powi(2)).sum())
        .collect();
    for (index, (got, expected)) in got.into_iter().zip(expected).enumerate() {
        check.check_within(&format!("{} elements", lengths[index]), &[got], &[expected], 0.0, 5e-5);
    }
    assert!(ops::sums_of_squares(Vec::<Tensor<B, 1>>::new()).is_none());
    let bad = Tensor::<B, 1>::from_floats([1.0, f32::INFINITY, 2.0], &device);
    let bad = tensor_values(ops::sums_of_squares([bad]).expect("a tensor"))[0];
    check.check_equal("infinity", bad.is_finite(), false);
    check.finish();
}

/// The cells of each group of a kind, and the groups of each cell.
type Kind = (Vec<Vec<u32>>, Vec<Vec<u32>>);

/// Pairs of neighbouring cells, and neighbourhoods that only their middle reads.
fn some_groups(cells: usize, values: usize) -> Groups {
    let cell = |c: usize| c as u32;
    let pairs = (0..cells).step_by(2).map(|c| (c..(c + 2).min(cells)).map(cell).collect()).collect();
    let near = (0..cells).map(|c| (c.saturating_sub(1)..(c + 2).min(cells)).map(cell).collect()).collect();
    let kinds: [Kind; 2] = [
        (pairs, (0..cells).map(|c| vec![cell(c / 2)]).collect()),
        (near, (0..cells).map(|c| if c % 3 == 0 { vec![] } else { vec![cell(c)] }).collect()),
    ];
    Groups::new(cells, values, kinds).unwrap()
}

fn compare_group_blocks<B: HrmBackend>(
    [batch, cells, values]: [usize; 3],
    [hidden, width, inter]: [usize; 3],
    label: &str,
) {
    let mut check = Deviations::new(label);
    let nodes = cells * values;
    let kinds = 2 + usize::from(values > 1);
    for injected in [false, true] {
        let tables = GroupTables::<Tensor<Autodiff<B>, 2>>::new(
            some_groups(cells, values).into(),
            &Default::default(),
        );
        let mut inputs = Inputs::of([
            [batch * nodes, hidden],
            [batch * nodes, hidden],
            [width, hidden],
            [2 * inter, hidden + kinds * width],
            [hidden, inter],
        ]);
        inputs.scale = 0.5;
        let state = |x: Diff<B>| x.reshape([batch, nodes, hidden]);
        for precision in precisions::<B>() {
            inputs.compare::<B>(
                &mut check,
                precision,
                |[z, injection, input, gate_up, down]| {
                    let injection = injected.then(|| state(injection));
                    let weights = GroupWeights { input, gate_up, down };
                    ops::group_block(state(z), injection, weights, tables.clone(), EPS)
                        .reshape([batch * nodes, hidden])
                },
                |[z, injection, input, gate_up, down]| {
                    let x = if injected { z + injection } else { z };
                    // Not Burn's own product, which may round fp32 operands.
                    let u = ops::product(x.clone(), input.transpose());
                    let u = burn::tensor::activation::silu(u);
                    // Every kind of mean as one matrix over the nodes of a puzzle.
                    let mut columns = vec![x.clone()];
                    for kind in 0..kinds {
                        let means = means::<Autodiff<B>>(&tables.groups, kind);
                        let means = means.unsqueeze::<3>().expand([batch, nodes, nodes]);
                        let pooled = ops::product(means, u.clone().reshape([batch, nodes, width]));
                        columns.push(pooled.reshape([batch * nodes, width]));
                    }
                    let gate_up = ops::product(Tensor::cat(columns, 1), gate_up.transpose());
                    let product = ops::product(plain::swiglu(gate_up), down.transpose());
                    plain::add_rms_norm(x, product, EPS).0
                },
            );
        }
    }
    check.finish();
}

/// What a node takes of all nodes by one kind of groups, the values of its cell first. `[nodes, nodes]`
fn means<B: Backend>(groups: &Groups, kind: usize) -> Tensor<B, 2> {
    let (cells, values) = (groups.cells(), groups.values());
    let nodes = cells * values;
    let mut table = vec![0.0f32; nodes * nodes];
    let list = |lists: &groups::Lists, i: usize| {
        lists.items[lists.starts[i] as usize..lists.starts[i + 1] as usize].to_vec()
    };
    for cell in 0..cells {
        for value in 0..values {
            let row = &mut table[(cell * values + value) * nodes..][..nodes];
            if values > 1 && kind == 0 {
                row[cell * values..][..values].fill(1.0 / values as f32);
                continue;
            }
            let kind = &groups.kinds()[kind - usize::from(values > 1)];
            let readers = list(&kind.readers, cell);
            for &group in &readers {
                let members = list(&kind.members, group as usize);
                for &member in &members {
                    row[member as usize * values + value] += 1.0 / (members.len() * readers.len()) as f32;
                }
            }
        }
    }
    Tensor::from_data(TensorData::new(table, [nodes, nodes]), &B::Device::default())
}

fn group_block<B: HrmBackend>() {
    compare_group_blocks::<B>([3, 7, 4], [32, 16, 48], "group_block");
    compare_group_blocks::<B>([2, 50, 1], [16, 32, 16], "group_block of cells");
}

/// Widths that no kernel takes.
fn group_block_of_odd_widths<B: HrmBackend>() {
    compare_group_blocks::<B>([2, 5, 3], [12, 8, 20], "group_block of odd widths");
}

/// Rows that are replaced are the new ones to the bit, also from a view, and the others the old ones, also where the old tensor is in use
/// elsewhere.
fn replace_rows<B: HrmBackend>() {
    let device = B::Device::default();
    let tensor = |seed: u64| {
        let values = noise(seed, 4 * 3 * 5, DType::F32);
        Tensor::<B, 3>::from_data(TensorData::new(values, [4, 3, 5]), &device)
    };
    let (old, new) = (tensor(1), tensor(2));
    let one = Tensor::<B, 1>::from_floats([1.0, 2.0, 3.0, 4.0, f32::NAN], &device);
    let spread = one.clone().unsqueeze::<3>().expand([4, 3, 5]);
    let replaced = Tensor::<B, 1, burn::tensor::Int>::from_ints([0, 1, 0, 1], &device).bool();
    let bits = |t: Tensor<B, 3>| t.into_data().iter::<f32>().map(f32::to_bits).collect::<Vec<_>>();
    let (kept, taken) = (bits(old.clone()), bits(new.clone()));
    let got = bits(ops::replace_rows(old.clone(), replaced.clone(), new));
    let from_view = bits(ops::replace_rows(old.clone(), replaced, spread.clone()));
    for row in 0..4 {
        let part = row * 15..(row + 1) * 15;
        let expected = if row % 2 == 1 { &taken } else { &kept };
        assert_eq!(got[part.clone()], expected[part.clone()], "row {row}");
        // Not a number stays one, with any bits.
        let expected = if row % 2 == 1 { bits(spread.clone()) } else { kept.clone() };
        let same = |(got, want): (&u32, &u32)| {
            got == want || (f32::from_bits(*got).is_nan() && f32::from_bits(*want).is_nan())
        };
        assert!(from_view[part.clone()].iter().zip(&expected[part]).all(same), "row {row} from a view");
    }
    assert_eq!(bits(old), kept, "the old tensor is as it was");
}
