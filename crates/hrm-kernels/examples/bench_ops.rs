//! Nanoseconds per element (or GFLOP/s) of the kernels that are not plain matrix products: `cargo run -p hrm-kernels --example bench_ops`.
//!
//! The model's shapes at batch 32 of Sudoku: 82 tokens, hidden 512, 8 heads, feed-forward 1536. Best of several rounds.

use hrm_kernels::{
    AdamAtan2Step, AttentionShape, CellGroups, GroupBlock, GroupIndex, GroupShape, GroupWeight, Lists,
    Matrix, PackedBf16, PackedGateUp, PackedGateUpBf16, PackedMatrix, Rotary, Store, adam_atan2_step,
    attention, attention_backward, gemm_bf16_packed, gemm_packed, gemm_swiglu, gemm_swiglu_bf16, group_block,
    group_block_backward, rms_norm, rms_norm_backward, swiglu, swiglu_backward,
};
use std::time::Instant;

mod clock;

fn best(rounds: usize, mut f: impl FnMut()) -> f64 {
    let zero = Instant::now();
    (0..rounds)
        .map(|_| {
            let start = clock::seconds(zero);
            f();
            clock::seconds(zero) - start
        })
        .fold(f64::INFINITY, f64::min)
}

fn per_element(name: &str, elements: usize, f: impl FnMut()) {
    let t = best(40, f);
    println!("{name:<28} {:>8.3} ms  {:>7.3} ns/element", t * 1e3, t / elements as f64 * 1e9);
}

fn wave(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

fn main() {
    println!("{:?}, {} threads; best of N", hrm_kernels::Isa::best(), rayon::current_num_threads());
    for rows in [82, 82 * 32] {
        println!("{rows} rows");
        let (x, r) = (wave(rows * 512), wave(rows * 512));
        let (mut y, mut inv) = (vec![0.0; x.len()], vec![0.0; rows]);
        per_element("rms_norm residual", x.len(), || {
            rms_norm(&x, Some(&r), 512, 1e-5, &mut y, Some(&mut inv))
        });
        let mut du = vec![0.0; x.len()];
        per_element("rms_norm backward", x.len(), || rms_norm_backward(&y, &inv, &r, 512, &mut du));
        let (gate_up, dout) = (wave(rows * 3072), wave(rows * 1536));
        let (mut out, mut grad) = (vec![0.0; rows * 1536], vec![0.0; rows * 3072]);
        per_element("swiglu", out.len(), || swiglu(&gate_up, 1536, &mut out));
        let (x, w) = (Matrix::new(&x, rows, 512), wave(3072 * 512));
        let single = PackedMatrix::pack_weight(&w, 3072, 512);
        let half = PackedBf16::pack_weight(&w, 3072, 512);
        let fused = PackedGateUp::pack(&w, 1536, 512);
        let fused_half = PackedGateUpBf16::pack(&w, 1536, 512);
        per_element("gate_up, swiglu", out.len(), || {
            gemm_packed(x, &single, &mut grad, Store::Set);
            swiglu(&grad, 1536, &mut out);
        });
        per_element("gate_up with swiglu", out.len(), || gemm_swiglu(x, &fused, &mut out));
        per_element("bf16 gate_up, swiglu", out.len(), || {
            gemm_bf16_packed(x, &half, &mut grad, Store::Set);
            swiglu(&grad, 1536, &mut out);
        });
        per_element("bf16 gate_up with swiglu", out.len(), || gemm_swiglu_bf16(x, &fused_half, &mut out));
        per_element("swiglu backward", out.len(), || swiglu_backward(&gate_up, &dout, 1536, &mut grad));
    }
    let len = 3_407_872;
    let (mut p, g, mut m, mut v) = (wave(len), wave(len), vec![0.0; len], vec![0.0; len]);
    let step = AdamAtan2Step { lr: 1e-4, beta1: 0.9, beta2: 0.95, weight_decay: 0.1, step: 10 };
    per_element("adam_atan2", len, || adam_atan2_step(&mut p, &g, &mut m, &mut v, step));

    for (batch, seq, heads, head_dim) in
        [(1, 82, 8, 64), (32, 82, 8, 64), (2, 900, 8, 64), (32, 97, 4, 32), (32, 17, 4, 16)]
    {
        let shape = AttentionShape { batch, seq, heads, head_dim };
        let (qkv, dout) = (wave(shape.qkv_len()), wave(shape.out_len()));
        let tables = wave(seq * head_dim);
        let rotary = Some(Rotary { cos: &tables, sin: &tables });
        let (mut out, mut lse) = (vec![0.0; shape.out_len()], vec![0.0; shape.lse_len()]);
        let mut grad = vec![0.0; shape.qkv_len()];
        let flop = 4.0 * (batch * heads * seq * seq * head_dim) as f64;
        let forward = best(20, || attention(shape, &qkv, rotary, &mut out, Some(&mut lse)));
        let backward = best(20, || attention_backward(shape, &qkv, rotary, &out, &lse, &dout, &mut grad));
        println!(
            "attention {batch:>2} x {seq:>3} x {heads} x {head_dim}: forward {:>8.3} ms {:>6.1} GFLOP/s, backward {:>8.3} ms {:>6.1} GFLOP/s",
            forward * 1e3,
            flop / forward / 1e9,
            backward * 1e3,
            flop * 2.5 / backward / 1e9
        );
    }

    for batch in [1, 32] {
        for (hidden, width, inter) in [(32, 16, 64), (64, 16, 128), (64, 32, 128)] {
            for rounded in [false, true] {
                group_blocks(GroupShape { batch, hidden, width, inter }, rounded);
            }
        }
    }
}

/// Rows, columns, boxes, and the parts that a box shares with a row and with a column, of 9x9 Sudoku.
fn sudoku_groups() -> [(Vec<u32>, Vec<u32>, Vec<u32>); 5] {
    let of = |group: fn(usize, usize) -> usize| {
        let count = (0..81).map(|cell| group(cell / 9, cell % 9)).max().unwrap_or(0) + 1;
        let (mut starts, mut items) = (vec![0], Vec::new());
        for index in 0..count {
            items.extend((0..81u32).filter(|&cell| group(cell as usize / 9, cell as usize % 9) == index));
            starts.push(items.len() as u32);
        }
        (starts, items, (0..81).map(|cell| group(cell / 9, cell % 9) as u32).collect())
    };
    let in_box: fn(usize, usize) -> usize = |r, c| r / 3 * 3 + c / 3;
    [of(|r, _| r), of(|_, c| c), of(in_box), of(|r, c| r * 3 + c / 3), of(|r, c| c * 3 + r / 3)]
}

fn group_blocks(shape: GroupShape, rounded: bool) {
    let GroupShape { batch, hidden, width, inter, .. } = shape;
    let lists = sudoku_groups();
    let singles: Vec<u32> = (0..=81).collect();
    let groups: Vec<CellGroups<'_>> = lists
        .iter()
        .map(|(starts, items, readers)| CellGroups {
            members: Lists { starts, items },
            readers: Lists { starts: &singles, items: readers },
        })
        .collect();
    let index = GroupIndex::new(81, 9, &groups);
    let columns = hidden + 6 * width;
    let weights = [wave(width * hidden), wave(2 * inter * columns), wave(hidden * inter)];
    let input = GroupWeight::pack(&weights[0], width, hidden, rounded);
    let gate_up = GroupWeight::pack(&weights[1], 2 * inter, columns, rounded);
    let down = GroupWeight::pack(&weights[2], hidden, inter, rounded);
    let block = GroupBlock { shape, index: &index, input: &input, gate_up: &gate_up, down: &down, eps: 1e-5 };
    let (z, dy) = (wave(batch * 729 * hidden), wave(batch * 729 * hidden));
    let (mut y, mut inv, mut dz) = (z.clone(), vec![0.0; batch * 729], z.clone());
    // Products a node, what groups contribute once a group: 81 of values, 81 of rows, columns and boxes each, 243 of each kind of parts.
    let forward =
        batch * (729 * (width * hidden + 2 * inter * hidden + hidden * inter) + 810 * 2 * inter * width);
    let name = if rounded { "bf16" } else { "f32" };
    let t = best(40, || group_block(block, &z, Some(&dy), &mut y, &mut inv));
    println!(
        "group block {batch} x {hidden}/{width}/{inter} {name:<5}          {:>8.3} ms  {:>6.0} GFLOP/s",
        t * 1e3,
        2e-9 * forward as f64 / t
    );
    let [mut a, mut b, mut c] = weights.each_ref().map(|w| w.clone());
    let t = best(40, || {
        let grads = [&mut a[..], &mut b[..], &mut c[..]];
        group_block_backward(block, &z, Some(&dy), (&y, &inv), &dy, &mut dz, grads);
    });
    // All of the forward pass but the last product again, and two products for each of its.
    let backward = 3 * forward - batch * 729 * hidden * inter;
    println!(
        "             backward                  {:>8.3} ms  {:>6.0} GFLOP/s",
        t * 1e3,
        2e-9 * backward as f64 / t
    );
}
