//! The losses of a segment: one kernel each way for the answers of all cells, and one each way for what is left of a sequence. In
//! Burn's operators they are some 250 kernels, each for a few thousand numbers.

use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::Rows;
use crate::losses::{ANSWERS, CellLoss, IGNORE_LABEL, METRICS, Segment, SegmentWeights};

/// Units of a cube that adds; a power of 2.
const UNITS: usize = 128;
const IGNORED: i32 = IGNORE_LABEL as i32;

/// Adds up what the units of a cube have in each of some columns; the sums are then the first values of these.
#[cube]
fn add_up(columns: &mut SharedMemory<f32>, #[comptime] count: usize) {
    let unit = UNIT_POS as usize;
    #[unroll]
    for step in 0..comptime!(UNITS.ilog2() as usize) {
        let half = comptime!(UNITS >> (step + 1));
        sync_cube();
        if unit < half {
            #[unroll]
            for column in 0..count {
                let at = column * UNITS + unit;
                columns[at] += columns[at + half];
            }
        }
    }
    sync_cube();
}

/// What a logit adds to the sum of probabilities, and its logarithm.
#[cube]
fn portion(x: f32, largest: f32, #[comptime] stablemax: bool) -> f32 {
    if comptime!(stablemax) {
        select(x >= 0.0, x + 1.0, 1.0 / (1.0 - f32::min(x, 0.0)))
    } else {
        (x - largest).exp()
    }
}

#[cube(launch_unchecked)]
fn answers_kernel<F: Float, I: Int>(
    logits: &Array<F>,
    labels: &Array<I>,
    asked: &Array<I>,
    answers: &mut Array<f32>,
    batch: usize,
    seq: usize,
    smoothing: f32,
    #[comptime] vocab: usize,
    #[comptime] stride: usize,
    #[comptime] stablemax: bool,
    #[comptime] smooth: bool,
    #[define(F, I)] _dtypes: [StorageType; 2],
) {
    let row = CUBE_POS;
    if row >= batch {
        terminate!();
    }
    let mut columns = SharedMemory::<f32>::new(comptime!(5 * UNITS));
    let mut own_loss = 0.0f32;
    let mut even_loss = 0.0f32;
    let mut right = 0.0f32;
    let mut labelled = 0.0f32;
    let mut count = 0.0f32;
    let mut cell = UNIT_POS as usize;
    while cell < seq {
        let at = row * seq + cell;
        let start = at * stride;
        let label = i32::cast_from(labels[at]);
        let ask = i32::cast_from(asked[at]);
        let mut largest = f32::cast_from(logits[start]);
        let mut best = 0i32;
        for token in 1..vocab {
            let x = f32::cast_from(logits[start + token]);
            if x > largest {
                largest = x;
                best = i32::cast_from(token);
            }
        }
        if label != IGNORED {
            labelled += 1.0;
            if best == label {
                right += 1.0;
            }
        }
        if ask != IGNORED {
            let mut total = 0.0f32;
            let mut logs = 0.0f32;
            for token in 0..vocab {
                let x = f32::cast_from(logits[start + token]);
                let some = portion(x, largest, stablemax);
                total += some;
                if comptime!(smooth) {
                    if comptime!(stablemax) {
                        logs += some.ln();
                    } else {
                        logs += x - largest;
                    }
                }
            }
            let x = f32::cast_from(logits[start + usize::cast_from(ask)]);
            if comptime!(stablemax) {
                own_loss -= (portion(x, largest, stablemax) / total).ln();
            } else {
                own_loss -= x - largest - total.ln();
            }
            even_loss += total.ln() - logs / comptime!(vocab as f32);
            count += 1.0;
        }
        cell += UNITS;
    }
    let unit = UNIT_POS as usize;
    columns[unit] = own_loss;
    columns[comptime!(UNITS) + unit] = even_loss;
    columns[comptime!(2 * UNITS) + unit] = right;
    columns[comptime!(3 * UNITS) + unit] = labelled;
    columns[comptime!(4 * UNITS) + unit] = count;
    add_up(&mut columns, 5usize);
    if unit == 0 {
        let right = columns[comptime!(2 * UNITS)];
        let labelled = columns[comptime!(3 * UNITS)];
        let count = columns[comptime!(4 * UNITS)];
        let divisor = f32::max(count, 1.0);
        let plain = columns[0] / divisor;
        let start = row * ANSWERS;
        answers[start] = plain;
        answers[start + 1] = plain;
        if comptime!(smooth) {
            answers[start + 1] = plain * (1.0 - smoothing) + columns[UNITS] / divisor * smoothing;
        }
        answers[start + 2] = right / f32::max(labelled, 1.0);
        answers[start + 3] = select(right == labelled, 1.0f32, 0.0f32);
        answers[start + 4] = select(labelled > 0.0, 1.0f32, 0.0f32);
        answers[start + 5] = count;
    }
}

/// See [`HrmBackend::answers`](crate::HrmBackend::answers).
pub(crate) fn answers<R: CubeRuntime>(
    logits: CubeTensor<R>,
    labels: CubeTensor<R>,
    asked: CubeTensor<R>,
    how: &CellLoss,
) -> CubeTensor<R> {
    let [batch, seq, vocab] = logits.shape().dims();
    let logits = Rows::new(logits);
    let (labels, asked) = (into_contiguous(labels), into_contiguous(asked));
    let answers = Rows::dense(&logits.tensor, Shape::new([batch, ANSWERS]), DType::F32);
    let wide = batch.clamp(1, 32_768);
    let types = [logits.tensor.dtype.into(), labels.dtype.into()];
    // SAFETY: a cube for each sequence, which reads its cells and writes its row of `answers`.
    unsafe {
        answers_kernel::launch_unchecked(
            &logits.tensor.client,
            CubeCount::Static(wide as u32, batch.div_ceil(wide) as u32, 1),
            CubeDim::new_1d(UNITS as u32),
            logits.arg(),
            labels.into_array_arg(),
            asked.into_array_arg(),
            answers.arg(),
            batch,
            seq,
            how.smoothing as f32,
            vocab,
            logits.stride,
            how.stablemax,
            how.smoothing > 0.0,
            types,
        );
    }
    answers.tensor
}

#[cube(launch_unchecked)]
fn answers_backward_kernel<F: Float, I: Int>(
    logits: &Array<F>,
    asked: &Array<I>,
    answers: &Array<f32>,
    danswers: &Array<f32>,
    dlogits: &mut Array<F>,
    cells: usize,
    seq: usize,
    smoothing: f32,
    #[comptime] vocab: usize,
    #[comptime] stride: usize,
    #[comptime] stablemax: bool,
    #[define(F, I)] _dtypes: [StorageType; 2],
) {
    let cell = ABSOLUTE_POS;
    if cell >= cells {
        terminate!();
    }
    let row = (cell / seq) * ANSWERS;
    let ask = i32::cast_from(asked[cell]);
    let (start, out) = (cell * stride, cell * vocab);
    let mut largest = f32::cast_from(logits[start]);
    for token in 1..vocab {
        largest = f32::max(largest, f32::cast_from(logits[start + token]));
    }
    let mut total = 0.0f32;
    for token in 0..vocab {
        total += portion(f32::cast_from(logits[start + token]), largest, stablemax);
    }
    // The loss is -own log p(label) - even sum_j log p(j).
    let divisor = f32::max(answers[row + 5], 1.0);
    let own = (danswers[row] + danswers[row + 1] * (1.0 - smoothing)) / divisor;
    let even = danswers[row + 1] * smoothing / (divisor * comptime!(vocab as f32));
    let all = (own + even * comptime!(vocab as f32)) / total;
    for token in 0..vocab {
        let x = f32::cast_from(logits[start + token]);
        let some = portion(x, largest, stablemax);
        let mut gradient = some * all - even - select(i32::cast_from(token) == ask, own, 0.0f32);
        if comptime!(stablemax) {
            // s' / s: s below 0, where s' = s^2.
            gradient *= select(x >= 0.0, 1.0 / some, some);
        }
        dlogits[out + token] = F::cast_from(select(ask == IGNORED, 0.0f32, gradient));
    }
}

/// See [`HrmBackend::answers_backward`](crate::HrmBackend::answers_backward).
pub(crate) fn answers_backward<R: CubeRuntime>(
    logits: CubeTensor<R>,
    asked: CubeTensor<R>,
    answers: CubeTensor<R>,
    how: &CellLoss,
    danswers: CubeTensor<R>,
) -> CubeTensor<R> {
    let [batch, seq, vocab] = logits.shape().dims();
    let logits = Rows::new(logits);
    let dlogits = logits.like();
    let [asked, answers, danswers] = [asked, answers, danswers].map(into_contiguous);
    let client = &logits.tensor.client;
    let cells = batch * seq;
    let dim = CubeDim::new(client, cells);
    let types = [logits.tensor.dtype.into(), asked.dtype.into()];
    // SAFETY: the kernel leaves alone what is beyond `cells`, and writes the logits of its own cell.
    unsafe {
        answers_backward_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, cells, dim),
            dim,
            logits.arg(),
            asked.into_array_arg(),
            answers.into_array_arg(),
            danswers.into_array_arg(),
            dlogits.arg(),
            cells,
            seq,
            how.smoothing as f32,
            vocab,
            logits.stride,
            how.stablemax,
            types,
        );
    }
    dlogits.tensor
}

/// `log(1 + x)` for `x` in 0 to 1, see [`series::log1p`](crate::functions::series::log1p).
#[cube]
fn log1p(x: f32) -> f32 {
    let s = x / (x + 2.0);
    let square = s * s;
    let mut tail = 0.0f32;
    #[unroll]
    for term in 0..8usize {
        tail = (tail + comptime!(1.0 / (17 - 2 * term) as f32)) * square;
    }
    (s + s * tail) * 2.0
}

#[cube]
fn binary_cross_entropy(x: f32, target: f32) -> f32 {
    let size = f32::abs(x);
    let common = log1p((0.0 - size).exp());
    // The part that pulls: -x where it is negative, x where it is not.
    select(x < 0.0, size * target, size * (1.0 - target)) + common
}

/// Its gradient: `sigmoid(x) - target`, without a difference of numbers that are nearly the same.
#[cube]
fn binary_cross_entropy_backward(x: f32, target: f32) -> f32 {
    let small = (0.0 - f32::abs(x)).exp();
    let share = small / (small + 1.0);
    select(x < 0.0, share - target, 1.0 - target - share)
}

/// What is known of a segment without automatic differentiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    /// Elements from one sequence to the next: Q values of halting and of going on, targets, weights.
    strides: [usize; 4],
    target: bool,
    weights: bool,
    decays: bool,
}

/// What a sequence weighs, but for segments that weigh less.
#[cube]
fn weight_of(weights: &Array<f32>, row: usize, #[comptime] known: Known) -> f32 {
    let mut weight = 1.0f32;
    if comptime!(known.weights) {
        weight = weights[row * comptime!(known.strides[3])];
    }
    weight
}

#[cube]
fn decay_of<I: Int>(steps: &Array<I>, row: usize, log_decay: f32, #[comptime] known: Known) -> f32 {
    let mut decay = 1.0f32;
    if comptime!(known.decays) {
        decay = ((f32::cast_from(steps[row]) - 1.0) * log_decay).exp();
    }
    decay
}

#[cube(launch_unchecked)]
fn act_loss_kernel<I: Int>(
    answers: &Array<f32>,
    q_halt: &Array<f32>,
    q_continue: &Array<f32>,
    target: &Array<f32>,
    weights: &Array<f32>,
    counted: &Array<f32>,
    steps: &Array<I>,
    loss: &mut Array<f32>,
    metrics: &mut Array<f32>,
    batch: usize,
    halt_weight: f32,
    log_decay: f32,
    #[comptime] known: Known,
    #[define(I)] _dtype: StorageType,
) {
    let mut columns = SharedMemory::<f32>::new(comptime!(METRICS * UNITS));
    let mut sums = Array::<f32>::new(METRICS);
    #[unroll]
    for i in 0..METRICS {
        sums[i] = 0.0;
    }
    let mut row = UNIT_POS as usize;
    while row < batch {
        let at = row * ANSWERS;
        let exact = answers[at + 3];
        let halt = q_halt[row * comptime!(known.strides[0])];
        let weight = weight_of(weights, row, known);
        let halt_loss = binary_cross_entropy(halt, exact) * weight;
        let mut continue_loss = 0.0f32;
        if comptime!(known.target) {
            let go_on = q_continue[row * comptime!(known.strides[1])];
            let aim = target[row * comptime!(known.strides[2])];
            continue_loss = binary_cross_entropy(go_on, aim) * weight;
        }
        let counts = counted[row] * answers[at + 4];
        let tells = (halt >= 0.0) == (exact > 0.5);
        sums[0] += counts;
        sums[1] += answers[at + 2] * counts;
        sums[2] += exact * counts;
        sums[3] += select(tells, counts, 0.0f32);
        sums[4] += f32::cast_from(steps[row]) * counts;
        sums[5] += answers[at] * weight;
        sums[6] += halt_loss;
        sums[7] += continue_loss;
        sums[8] += (answers[at + 1] * weight + (halt_loss + continue_loss) * halt_weight)
            * decay_of::<I>(steps, row, log_decay, known);
        sums[9] += counts / (1.0 + (0.0 - f32::max(halt, -87.0)).exp());
        row += UNITS;
    }
    let unit = UNIT_POS as usize;
    #[unroll]
    for i in 0..METRICS {
        columns[i * UNITS + unit] = sums[i];
    }
    add_up(&mut columns, METRICS);
    if unit < METRICS {
        metrics[unit] = columns[unit * UNITS];
    }
    if unit == 0 {
        loss[0] = columns[comptime!(8 * UNITS)];
    }
}

#[cube(launch_unchecked)]
fn act_loss_backward_kernel<I: Int>(
    answers: &Array<f32>,
    q_halt: &Array<f32>,
    q_continue: &Array<f32>,
    target: &Array<f32>,
    weights: &Array<f32>,
    steps: &Array<I>,
    dloss: &Array<f32>,
    danswers: &mut Array<f32>,
    dq_halt: &mut Array<f32>,
    dq_continue: &mut Array<f32>,
    batch: usize,
    halt_weight: f32,
    log_decay: f32,
    #[comptime] known: Known,
    #[define(I)] _dtype: StorageType,
) {
    let row = ABSOLUTE_POS;
    if row >= batch {
        terminate!();
    }
    let slope = dloss[0] * weight_of(weights, row, known) * decay_of::<I>(steps, row, log_decay, known);
    let at = row * ANSWERS;
    #[unroll]
    for i in 0..ANSWERS {
        danswers[at + i] = 0.0;
    }
    danswers[at + 1] = slope;
    let of_q = slope * halt_weight;
    let halt = q_halt[row * comptime!(known.strides[0])];
    dq_halt[row] = binary_cross_entropy_backward(halt, answers[at + 3]) * of_q;
    let mut of_continue = 0.0f32;
    if comptime!(known.target) {
        let go_on = q_continue[row * comptime!(known.strides[1])];
        let aim = target[row * comptime!(known.strides[2])];
        of_continue = binary_cross_entropy_backward(go_on, aim) * of_q;
    }
    dq_continue[row] = of_continue;
}

impl Known {
    fn of<R: CubeRuntime>(
        segment: &Segment<CubeTensor<R>, CubeTensor<R>, CubeTensor<R>>,
        how: &SegmentWeights,
    ) -> Self {
        let stride = |tensor: &CubeTensor<R>| tensor.meta.strides()[0];
        let Segment { q_halt, q_continue, target, weights, .. } = segment;
        Self {
            strides: [
                stride(q_halt),
                stride(q_continue),
                target.as_ref().map_or(0, stride),
                weights.as_ref().map_or(0, stride),
            ],
            target: target.is_some(),
            weights: weights.is_some(),
            decays: how.decay != 1.0,
        }
    }
}

/// See [`HrmBackend::act_loss`](crate::HrmBackend::act_loss).
pub(crate) fn act_loss<R: CubeRuntime>(
    segment: Segment<CubeTensor<R>, CubeTensor<R>, CubeTensor<R>>,
    how: &SegmentWeights,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let known = Known::of(&segment, how);
    let Segment { answers, q_halt, q_continue, target, weights, counted, steps } = segment;
    let [answers, counted, steps] = [answers, counted, steps].map(into_contiguous);
    let loss = Rows::dense(&answers, Shape::new([1]), DType::F32);
    let metrics = Rows::dense(&answers, Shape::new([METRICS]), DType::F32);
    let batch = answers.shape()[0];
    let dtype = steps.dtype.into();
    // Without targets and weights, what stands in their place is not read.
    let [target, weights] = [target, weights].map(|tensor| tensor.unwrap_or_else(|| q_halt.clone()));
    // SAFETY: one cube, which reads the sequences below `batch`.
    unsafe {
        act_loss_kernel::launch_unchecked(
            &loss.tensor.client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(UNITS as u32),
            answers.into_array_arg(),
            q_halt.into_array_arg(),
            q_continue.into_array_arg(),
            target.into_array_arg(),
            weights.into_array_arg(),
            counted.into_array_arg(),
            steps.into_array_arg(),
            loss.arg(),
            metrics.arg(),
            batch,
            how.halt as f32,
            how.decay.ln() as f32,
            known,
            dtype,
        );
    }
    (loss.tensor, metrics.tensor)
}

/// See [`HrmBackend::act_loss_backward`](crate::HrmBackend::act_loss_backward).
pub(crate) fn act_loss_backward<R: CubeRuntime>(
    segment: Segment<CubeTensor<R>, CubeTensor<R>, CubeTensor<R>>,
    how: &SegmentWeights,
    dloss: CubeTensor<R>,
) -> (CubeTensor<R>, CubeTensor<R>, CubeTensor<R>) {
    let known = Known::of(&segment, how);
    let Segment { answers, q_halt, q_continue, target, weights, steps, .. } = segment;
    let [answers, steps, dloss] = [answers, steps, dloss].map(into_contiguous);
    let batch = answers.shape()[0];
    let danswers = Rows::dense(&answers, answers.shape(), DType::F32);
    let [dq_halt, dq_continue] = [(); 2].map(|()| Rows::dense(&answers, Shape::new([batch]), DType::F32));
    let client = &danswers.tensor.client;
    let dim = CubeDim::new(client, batch);
    let dtype = steps.dtype.into();
    let [target, weights] = [target, weights].map(|tensor| tensor.unwrap_or_else(|| q_halt.clone()));
    // SAFETY: the kernel leaves alone what is beyond the `batch` sequences.
    unsafe {
        act_loss_backward_kernel::launch_unchecked(
            client,
            calculate_cube_count_elemwise(client, batch, dim),
            dim,
            answers.into_array_arg(),
            q_halt.into_array_arg(),
            q_continue.into_array_arg(),
            target.into_array_arg(),
            weights.into_array_arg(),
            steps.into_array_arg(),
            dloss.into_array_arg(),
            danswers.arg(),
            dq_halt.arg(),
            dq_continue.arg(),
            batch,
            how.halt as f32,
            how.decay.ln() as f32,
            known,
            dtype,
        );
    }
    (danswers.tensor, dq_halt.tensor, dq_continue.tensor)
}
