//! Rotary bidirectional attention straight from the fused projection.
//!
//! One task per (sequence, head). Scores are computed transposed, `[keys, queries]`, for one micro-tile's width of queries at a time: the
//! softmax then runs down the columns without horizontal sums, and the same memory is, unmoved, the packed left operand of the product with V.

use crate::gemm::micro::{self, Left};
use crate::gemm::{Store, pack_a_panel, pack_b_panel, tile};
use crate::math::exp;
use crate::scratch::{Shared, floats, for_each_task, with_scratch};
use crate::simd::{GemmSimd, Isa, Kernel, dispatch};

/// Sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Sequences.
    pub batch: usize,
    /// Tokens in each.
    pub seq: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
}

impl AttentionShape {
    /// Floats of the fused projection: `[batch, seq, 3, heads, head_dim]`.
    pub fn qkv_len(&self) -> usize {
        floats(&[3, self.out_len()])
    }

    /// Floats of the result: `[batch, seq, heads, head_dim]`.
    pub fn out_len(&self) -> usize {
        floats(&[self.batch, self.seq, self.heads, self.head_dim])
    }

    /// Floats of the log-sum-exp: `[batch, heads, seq]`.
    pub fn lse_len(&self) -> usize {
        floats(&[self.batch, self.heads, self.seq])
    }

    /// Distance between tokens of the projection.
    fn qkv_stride(&self) -> usize {
        3 * self.heads * self.head_dim
    }

    /// Distance between tokens of the result.
    fn out_stride(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// Tables of the rotary embedding, in the half-split layout: `x cos + rotate_half(x) sin` with `rotate_half(x) = cat(-x2, x1)`.
///
/// # Shapes
/// both `[seq, head_dim]`
#[derive(Clone, Copy, Debug)]
pub struct Rotary<'a> {
    /// Cosines.
    pub cos: &'a [f32],
    /// Sines.
    pub sin: &'a [f32],
}

/// Softmax attention with scale `1 / sqrt(head_dim)`, of queries and keys turned by `rotary` where given.
///
/// `lse`, where given, receives the log of the sum of exponentials of each query's scores, which [`attention_backward`] needs.
///
/// # Shapes
/// `qkv` `[batch, seq, 3, heads, head_dim]` (q, k, v), `out` `[batch, seq, heads, head_dim]`, `lse` `[batch, heads, seq]`
pub fn attention(
    shape: AttentionShape,
    qkv: &[f32],
    rotary: Option<Rotary<'_>>,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let isa = Isa::best();
    check(shape, qkv, rotary);
    expect("out", shape, out.len(), shape.out_len());
    if let Some(lse) = &lse {
        expect("lse", shape, lse.len(), shape.lse_len());
    }
    if out.is_empty() {
        return;
    }
    let (out, lse) = (Shared::new(out), lse.map(Shared::new));
    let layout = Layout::new(isa, shape);
    for_each_task(shape.batch * shape.heads, parallel(shape), |task| {
        with_scratch(layout.forward(), |scratch| {
            let head = Head { shape, batch: task / shape.heads, head: task % shape.heads, rotary };
            dispatch(isa, Forward { head, layout, qkv, out, lse, scratch });
        });
    });
}

/// Gradient of [`attention`], from its input, its output and its `lse`.
///
/// # Shapes
/// `qkv`, `dqkv` `[batch, seq, 3, heads, head_dim]`, `out`, `dout` `[batch, seq, heads, head_dim]`, `lse` `[batch, heads, seq]`
pub fn attention_backward(
    shape: AttentionShape,
    qkv: &[f32],
    rotary: Option<Rotary<'_>>,
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
) {
    let isa = Isa::best();
    check(shape, qkv, rotary);
    expect("out", shape, out.len(), shape.out_len());
    expect("lse", shape, lse.len(), shape.lse_len());
    expect("dout", shape, dout.len(), shape.out_len());
    expect("dqkv", shape, dqkv.len(), shape.qkv_len());
    if dqkv.is_empty() {
        return;
    }
    let dqkv = Shared::new(dqkv);
    let layout = Layout::new(isa, shape);
    for_each_task(shape.batch * shape.heads, parallel(shape), |task| {
        with_scratch(layout.backward(), |scratch| {
            let head = Head { shape, batch: task / shape.heads, head: task % shape.heads, rotary };
            dispatch(isa, Backward { head, layout, qkv, out, lse, dout, dqkv, scratch });
        });
    });
}

fn parallel(shape: AttentionShape) -> bool {
    shape.out_len() * shape.seq >= if cfg!(miri) { 1 } else { 1 << 15 }
}

fn check(shape: AttentionShape, qkv: &[f32], rotary: Option<Rotary<'_>>) {
    assert!(
        shape.head_dim > 0 && shape.head_dim.is_multiple_of(2),
        "attention: head_dim must be even, got {}",
        shape.head_dim
    );
    expect("qkv", shape, qkv.len(), shape.qkv_len());
    if let Some(Rotary { cos, sin }) = rotary {
        expect("rotary cos", shape, cos.len(), floats(&[shape.seq, shape.head_dim]));
        expect("rotary sin", shape, sin.len(), floats(&[shape.seq, shape.head_dim]));
    }
}

fn expect(name: &str, shape: AttentionShape, got: usize, want: usize) {
    assert_eq!(got, want, "attention: {name} needs {want} floats for {shape:?}, got {got}");
}

/// Sizes of the scratch parts, in floats.
#[derive(Clone, Copy)]
struct Layout {
    /// A head's rows, as they stand.
    rows: usize,
    /// A head's tokens as panels of the left operand, `[panel][head_dim][MR]`.
    left: usize,
    /// Distance between such panels.
    left_panel: usize,
    /// A head's tokens as right operand, `[panel of head_dim][seq][NR]`.
    right: usize,
    /// A block of queries as right operand, `[head_dim][NR]`.
    block: usize,
    /// Transposed scores of a block of queries, `[seq][NR]`.
    scores: usize,
    /// Per query of a block.
    stats: usize,
}

impl Layout {
    fn new(isa: Isa, AttentionShape { seq, head_dim, .. }: AttentionShape) -> Self {
        let t = tile(isa);
        let left_panel = head_dim * t.mr + 16;
        let width = head_dim.div_ceil(t.nr) * t.nr;
        Layout {
            rows: seq * head_dim,
            left: seq.div_ceil(t.mr) * left_panel,
            left_panel,
            right: seq * width,
            block: head_dim * t.nr,
            scores: seq * t.nr,
            stats: t.nr,
        }
    }

    fn forward(&self) -> usize {
        2 * self.rows + self.left + self.right + self.block + self.scores + self.stats
    }

    fn backward(&self) -> usize {
        4 * self.rows
            + 2 * self.left
            + 3 * self.right
            + 2 * self.block
            + 2 * self.scores
            + 2 * self.stats
            + self.rows * 3
    }
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head<'a> {
    shape: AttentionShape,
    batch: usize,
    head: usize,
    rotary: Option<Rotary<'a>>,
}

impl Head<'_> {
    /// Offset of this head's first token in the projection; `part` 0, 1, 2 = q, k, v.
    #[inline(always)]
    fn qkv_offset(&self, part: usize) -> usize {
        let AttentionShape { seq, heads, head_dim, .. } = self.shape;
        self.batch * seq * 3 * heads * head_dim + (part * heads + self.head) * head_dim
    }

    /// Offset of this head's first token in the result.
    #[inline(always)]
    fn out_offset(&self) -> usize {
        let AttentionShape { seq, heads, head_dim, .. } = self.shape;
        self.batch * seq * heads * head_dim + self.head * head_dim
    }

    /// `dst[t] = scale * rotated(src[t])`, or turned back.
    ///
    /// # Safety
    /// `src` and `dst` are good for `seq` rows of `head_dim` floats under their strides.
    #[inline(always)]
    unsafe fn rotate<S: GemmSimd>(
        &self,
        s: S,
        (src, src_stride): (*const f32, usize),
        (dst, dst_stride): (*mut f32, usize),
        scale: f32,
        back: bool,
    ) {
        let AttentionShape { seq, head_dim, .. } = self.shape;
        let half = head_dim / 2;
        let scale = s.splat(scale);
        for t in 0..seq {
            let mut i = 0;
            while i < half {
                let n = S::N.min(half - i);
                // SAFETY: the caller's promise; the tables hold `seq` rows of `head_dim`.
                unsafe {
                    let (from, to) = (src.add(t * src_stride + i), dst.add(t * dst_stride + i));
                    let x1 = s.mul(s.load_n(from, n), scale);
                    let x2 = s.mul(s.load_n(from.add(half), n), scale);
                    let (mut y1, mut y2) = (x1, x2);
                    if let Some(Rotary { cos, sin }) = self.rotary {
                        let (c1, c2) =
                            (cos.as_ptr().add(t * head_dim + i), cos.as_ptr().add(t * head_dim + half + i));
                        let (s1, s2) =
                            (sin.as_ptr().add(t * head_dim + i), sin.as_ptr().add(t * head_dim + half + i));
                        let (c1, c2) = (s.load_n(c1, n), s.load_n(c2, n));
                        let (s1, s2) = (s.load_n(s1, n), s.load_n(s2, n));
                        if back {
                            y1 = s.fma(x1, c1, s.mul(x2, s2));
                            y2 = s.fnma(x1, s1, s.mul(x2, c2));
                        } else {
                            y1 = s.fnma(x2, s1, s.mul(x1, c1));
                            y2 = s.fma(x1, s2, s.mul(x2, c2));
                        }
                    }
                    s.store_n(to, y1, n);
                    s.store_n(to.add(half), y2, n);
                }
                i += n;
            }
        }
    }

    /// Packs a head's tokens as left operand: panels `[head_dim][MR]`.
    ///
    /// # Safety
    /// `src` is readable for `seq` rows of `head_dim`; `dst` is as long as [`Layout::left`] says.
    #[inline(always)]
    unsafe fn pack_left<S: GemmSimd>(
        &self,
        s: S,
        layout: Layout,
        (src, stride): (*const f32, usize),
        dst: *mut f32,
    ) {
        let AttentionShape { seq, head_dim, .. } = self.shape;
        for panel in 0..seq.div_ceil(S::MR) {
            let rows = S::MR.min(seq - panel * S::MR);
            // SAFETY: the caller's promise.
            unsafe {
                let src = src.add(panel * S::MR * stride);
                pack_a_panel(s, src, stride, 1, head_dim, rows, dst.add(panel * layout.left_panel));
            }
        }
    }

    /// Packs a head's tokens as right operand: panels `[seq][NR]` of the head's width.
    ///
    /// # Safety
    /// `src` is readable for `seq` rows of `head_dim`; `dst` is as long as [`Layout::right`] says.
    #[inline(always)]
    unsafe fn pack_right<S: GemmSimd>(&self, s: S, (src, stride): (*const f32, usize), dst: *mut f32) {
        let AttentionShape { seq, head_dim, .. } = self.shape;
        for panel in 0..head_dim.div_ceil(S::NR) {
            let cols = S::NR.min(head_dim - panel * S::NR);
            // SAFETY: the caller's promise.
            unsafe {
                pack_b_panel(s, src.add(panel * S::NR), stride, 1, seq, cols, dst.add(panel * seq * S::NR))
            };
        }
    }

    /// `scores[key][query] = left[key] . block[query]` for all keys and a block of queries.
    ///
    /// # Safety
    /// All parts are as large as [`Layout`] says.
    #[inline(always)]
    unsafe fn scores<S: GemmSimd>(
        &self,
        s: S,
        layout: Layout,
        left: *const f32,
        block: *const f32,
        queries: usize,
        scores: *mut f32,
    ) {
        let AttentionShape { seq, head_dim, .. } = self.shape;
        let cols = queries.div_ceil(S::N) * S::N;
        for panel in 0..seq.div_ceil(S::MR) {
            // SAFETY: the caller's promise.
            unsafe {
                s.tile(&micro::Tile {
                    rows: S::MR.min(seq - panel * S::MR),
                    cols,
                    depth: head_dim,
                    a: Left::ByDepth(left.add(panel * layout.left_panel), S::MR),
                    b: block,
                    c: scores.add(panel * S::MR * S::NR),
                    c_stride: S::NR,
                    store: Store::Set,
                });
            }
        }
    }

    /// `c[query] = sum over keys of scores[key][query] * right[key]` for a block of queries.
    ///
    /// # Safety
    /// All parts are as large as [`Layout`] says, `c` holds `queries` rows of `head_dim` under its stride.
    #[inline(always)]
    unsafe fn weighted<S: GemmSimd>(
        &self,
        s: S,
        scores: *const f32,
        right: *const f32,
        queries: usize,
        (c, c_stride): (*mut f32, usize),
    ) {
        let AttentionShape { seq, head_dim, .. } = self.shape;
        for panel in 0..head_dim.div_ceil(S::NR) {
            let mut query = 0;
            while query < queries {
                // SAFETY: the caller's promise.
                unsafe {
                    s.tile(&micro::Tile {
                        rows: S::MR.min(queries - query),
                        cols: S::NR.min(head_dim - panel * S::NR),
                        depth: seq,
                        a: Left::ByDepth(scores.add(query), S::NR),
                        b: right.add(panel * seq * S::NR),
                        c: c.add(query * c_stride + panel * S::NR),
                        c_stride,
                        store: Store::Set,
                    });
                }
                query += S::MR;
            }
        }
    }

    /// `c[key] += sum over a block's queries of scores[key][query] * right[query]`.
    ///
    /// # Safety
    /// All parts are as large as [`Layout`] says; `right` points at the block's first query in a right operand.
    #[inline(always)]
    unsafe fn transposed<S: GemmSimd>(
        &self,
        s: S,
        scores: *const f32,
        right: *const f32,
        queries: usize,
        c: *mut f32,
        store: Store,
    ) {
        let AttentionShape { seq, head_dim, .. } = self.shape;
        for panel in 0..head_dim.div_ceil(S::NR) {
            let mut key = 0;
            while key < seq {
                // SAFETY: the caller's promise.
                unsafe {
                    s.tile(&micro::Tile {
                        rows: S::MR.min(seq - key),
                        cols: S::NR.min(head_dim - panel * S::NR),
                        depth: queries,
                        a: Left::ByRow(scores.add(key * S::NR)),
                        b: right.add(panel * seq * S::NR),
                        c: c.add(key * head_dim + panel * S::NR),
                        c_stride: head_dim,
                        store,
                    });
                }
                key += S::MR;
            }
        }
    }
}

/// Takes the next `len` floats of the scratch.
#[inline(always)]
fn take(scratch: &mut &mut [f32], len: usize) -> *mut f32 {
    let (head, tail) = std::mem::take(scratch).split_at_mut(len);
    *scratch = tail;
    head.as_mut_ptr()
}

struct Forward<'a, 'b> {
    head: Head<'a>,
    layout: Layout,
    qkv: &'a [f32],
    out: Shared<f32>,
    lse: Option<Shared<f32>>,
    scratch: &'b mut [f32],
}

impl Kernel for Forward<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: GemmSimd>(self, s: S) {
        let Forward { head, layout, qkv, out, lse, mut scratch } = self;
        let AttentionShape { seq, heads, head_dim, .. } = head.shape;
        let (in_stride, out_stride) = (head.shape.qkv_stride(), head.shape.out_stride());
        let q = take(&mut scratch, layout.rows);
        let k = take(&mut scratch, layout.rows);
        let keys = take(&mut scratch, layout.left);
        let values = take(&mut scratch, layout.right);
        let block = take(&mut scratch, layout.block);
        let scores = take(&mut scratch, layout.scores);
        let stats = take(&mut scratch, layout.stats);
        // SAFETY: every part is as long as its layout says, the slices are as long as the shape says (checked by the caller), and tasks write
        // disjoint heads of the output.
        unsafe {
            let part = |i: usize| qkv.as_ptr().add(head.qkv_offset(i));
            let (q_in, k_in, v_in) = (part(0), part(1), part(2));
            head.rotate(s, (q_in, in_stride), (q, head_dim), 1.0 / (head_dim as f32).sqrt(), false);
            head.rotate(s, (k_in, in_stride), (k, head_dim), 1.0, false);
            head.pack_left(s, layout, (k, head_dim), keys);
            head.pack_right(s, (v_in, in_stride), values);
            let out = out.get().add(head.out_offset());
            let mut first = 0;
            while first < seq {
                let queries = S::NR.min(seq - first);
                pack_b_panel(s, q.add(first * head_dim), 1, head_dim, head_dim, queries, block);
                head.scores(s, layout, keys, block, queries, scores);
                let mut lane = 0;
                while lane < queries {
                    let column = scores.add(lane);
                    let mut largest = s.load(column);
                    for key in 1..seq {
                        largest = s.max(s.load(column.add(key * S::NR)), largest);
                    }
                    let mut sum = s.splat(0.0);
                    for key in 0..seq {
                        let p = column.add(key * S::NR);
                        let e = exp(s, s.sub(s.load(p), largest));
                        s.store(p, e);
                        sum = s.add(sum, e);
                    }
                    if let Some(lse) = lse {
                        let n = S::N.min(queries - lane);
                        let lse = lse.get().add((head.batch * heads + head.head) * seq + first + lane);
                        s.store_n(lse, largest, n);
                        s.store(stats.add(lane), sum);
                        for i in 0..n {
                            *lse.add(i) += (*stats.add(lane + i)).ln();
                        }
                    }
                    s.store(stats.add(lane), s.div(s.splat(1.0), sum));
                    lane += S::N;
                }
                head.weighted(s, scores, values, queries, (out.add(first * out_stride), out_stride));
                for query in 0..queries {
                    let inv = s.splat(*stats.add(query));
                    let row = out.add((first + query) * out_stride);
                    let mut i = 0;
                    while i < head_dim {
                        let n = S::N.min(head_dim - i);
                        s.store_n(row.add(i), s.mul(s.load_n(row.add(i), n), inv), n);
                        i += n;
                    }
                }
                first += S::NR;
            }
        }
    }
}

struct Backward<'a, 'b> {
    head: Head<'a>,
    layout: Layout,
    qkv: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    dout: &'a [f32],
    dqkv: Shared<f32>,
    scratch: &'b mut [f32],
}

impl Kernel for Backward<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: GemmSimd>(self, s: S) {
        let Backward { head, layout, qkv, out, lse, dout, dqkv, mut scratch } = self;
        let AttentionShape { seq, heads, head_dim, .. } = head.shape;
        let (in_stride, out_stride) = (head.shape.qkv_stride(), head.shape.out_stride());
        let scale = 1.0 / (head_dim as f32).sqrt();
        let q = take(&mut scratch, layout.rows);
        let k = take(&mut scratch, layout.rows);
        let (dq, dk, dv) = (
            take(&mut scratch, layout.rows),
            take(&mut scratch, layout.rows),
            take(&mut scratch, layout.rows),
        );
        let (keys_left, values_left) = (take(&mut scratch, layout.left), take(&mut scratch, layout.left));
        let keys = take(&mut scratch, layout.right);
        let queries_right = take(&mut scratch, layout.right);
        let douts = take(&mut scratch, layout.right);
        let (block, dblock) = (take(&mut scratch, layout.block), take(&mut scratch, layout.block));
        let (probs, dprobs) = (take(&mut scratch, layout.scores), take(&mut scratch, layout.scores));
        let (log_sums, deltas) = (take(&mut scratch, layout.stats), take(&mut scratch, layout.stats));
        // SAFETY: as in `Forward`.
        unsafe {
            let (q_in, k_in, v_in) = (
                qkv.as_ptr().add(head.qkv_offset(0)),
                qkv.as_ptr().add(head.qkv_offset(1)),
                qkv.as_ptr().add(head.qkv_offset(2)),
            );
            let out = out.as_ptr().add(head.out_offset());
            let dout = dout.as_ptr().add(head.out_offset());
            let lse = lse.as_ptr().add((head.batch * heads + head.head) * seq);
            head.rotate(s, (q_in, in_stride), (q, head_dim), scale, false);
            head.rotate(s, (k_in, in_stride), (k, head_dim), 1.0, false);
            head.pack_left(s, layout, (k, head_dim), keys_left);
            head.pack_left(s, layout, (v_in, in_stride), values_left);
            head.pack_right(s, (k, head_dim), keys);
            head.pack_right(s, (q, head_dim), queries_right);
            head.pack_right(s, (dout, out_stride), douts);
            let mut first = 0;
            while first < seq {
                let queries = S::NR.min(seq - first);
                pack_b_panel(s, q.add(first * head_dim), 1, head_dim, head_dim, queries, block);
                pack_b_panel(s, dout.add(first * out_stride), 1, out_stride, head_dim, queries, dblock);
                head.scores(s, layout, keys_left, block, queries, probs);
                head.scores(s, layout, values_left, dblock, queries, dprobs);
                for query in 0..S::NR {
                    let (mut log_sum, mut delta) = (0.0, 0.0);
                    if query < queries {
                        log_sum = *lse.add(first + query);
                        let row = (first + query) * out_stride;
                        let mut sum = s.splat(0.0);
                        let mut i = 0;
                        while i < head_dim {
                            let n = S::N.min(head_dim - i);
                            sum = s.fma(s.load_n(out.add(row + i), n), s.load_n(dout.add(row + i), n), sum);
                            i += n;
                        }
                        delta = s.sum(sum);
                    }
                    *log_sums.add(query) = log_sum;
                    *deltas.add(query) = delta;
                }
                // P = exp(S - lse), dS = P (dP - delta).
                let mut lane = 0;
                while lane < queries {
                    let (log_sum, delta) = (s.load(log_sums.add(lane)), s.load(deltas.add(lane)));
                    for key in 0..seq {
                        let (p, dp) = (probs.add(key * S::NR + lane), dprobs.add(key * S::NR + lane));
                        let prob = exp(s, s.sub(s.load(p), log_sum));
                        s.store(p, prob);
                        s.store(dp, s.mul(prob, s.sub(s.load(dp), delta)));
                    }
                    lane += S::N;
                }
                let store = if first == 0 { Store::Set } else { Store::Add };
                head.transposed(s, probs, douts.add(first * S::NR), queries, dv, store);
                head.transposed(s, dprobs, queries_right.add(first * S::NR), queries, dk, store);
                head.weighted(s, dprobs, keys, queries, (dq.add(first * head_dim), head_dim));
                first += S::NR;
            }
            let to = dqkv.get();
            head.rotate(s, (dq, head_dim), (to.add(head.qkv_offset(0)), in_stride), scale, true);
            head.rotate(s, (dk, head_dim), (to.add(head.qkv_offset(1)), in_stride), 1.0, true);
            let dv_out = to.add(head.qkv_offset(2));
            for t in 0..seq {
                std::ptr::copy_nonoverlapping(dv.add(t * head_dim), dv_out.add(t * in_stride), head_dim);
            }
        }
    }
}

#[cfg(test)]
mod tests;
