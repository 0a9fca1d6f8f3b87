use super::*;
use crate::testing::{ISA, in_pools, random, unless_miri, with};

/// Groups of cells as owned lists.
struct Kind {
    members: Vec<Vec<u32>>,
    readers: Vec<Vec<u32>>,
}

fn flat(lists: &[Vec<u32>]) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0];
    lists.iter().for_each(|list| starts.push(starts[starts.len() - 1] + list.len() as u32));
    (starts, lists.concat())
}

/// Groups that part the cells, and neighbourhoods of which each cell reads its own and, for some, another one or none.
fn kinds(cells: usize) -> Vec<Kind> {
    let of = |size: usize| -> Vec<Vec<u32>> {
        (0..cells as u32).collect::<Vec<_>>().chunks(size).map(<[u32]>::to_vec).collect()
    };
    let parts = of(3);
    let readers = (0..cells as u32).map(|cell| vec![cell / 3]).collect();
    let near = |cell: usize| (cell.saturating_sub(1)..(cell + 2).min(cells)).map(|c| c as u32).collect();
    let own = (0..cells).map(|cell| match cell % 4 {
        0 => vec![],
        1 => vec![cell as u32, 0],
        _ => vec![cell as u32],
    });
    vec![
        Kind { members: parts, readers },
        Kind { members: (0..cells).map(near).collect(), readers: own.collect() },
    ]
}

/// Sizes, weights and input of a block.
struct Case {
    shape: GroupShape,
    cells: usize,
    values: usize,
    kinds: Vec<Kind>,
    z: Vec<f32>,
    injection: Option<Vec<f32>>,
    /// `U`, `W`, `D`
    weights: [Vec<f32>; 3],
}

const EPS: f32 = 1e-5;

impl Case {
    fn new(
        batch: usize,
        cells: usize,
        values: usize,
        [hidden, width, inter]: [usize; 3],
        injection: bool,
    ) -> Self {
        let shape = GroupShape { batch, hidden, width, inter };
        let kinds = kinds(cells);
        let columns = hidden + (kinds.len() + usize::from(values > 1)) * width;
        let scaled = |len: usize, seed: u64, scale: f32| {
            random(len, seed).iter().map(|x| x * scale).collect::<Vec<_>>()
        };
        let state = batch * cells * values * hidden;
        Case {
            shape,
            cells,
            values,
            kinds,
            z: random(state, 1),
            injection: injection.then(|| random(state, 2)),
            weights: [
                scaled(width * hidden, 3, 0.3),
                scaled(2 * inter * columns, 4, 0.2),
                scaled(hidden * inter, 5, 0.3),
            ],
        }
    }

    fn columns(&self) -> usize {
        self.shape.hidden + (self.kinds.len() + usize::from(self.values > 1)) * self.shape.width
    }

    fn run<R>(&self, isa: Isa, rounded: bool, f: impl FnOnce(GroupBlock<'_>) -> R) -> R {
        let GroupShape { hidden, width, inter, .. } = self.shape;
        let lists: Vec<_> =
            self.kinds.iter().map(|kind| (flat(&kind.members), flat(&kind.readers))).collect();
        let groups: Vec<CellGroups<'_>> = lists
            .iter()
            .map(|(members, readers)| CellGroups {
                members: Lists { starts: &members.0, items: &members.1 },
                readers: Lists { starts: &readers.0, items: &readers.1 },
            })
            .collect();
        let sizes = [(width, hidden), (2 * inter, self.columns()), (hidden, inter)];
        let pack = |i: usize| GroupWeight::pack(&self.weights[i], sizes[i].0, sizes[i].1, rounded);
        let [input, gate_up, down] = with(&ISA, isa, || [0, 1, 2].map(pack));
        f(GroupBlock {
            shape: self.shape,
            index: &GroupIndex::new(self.cells, self.values, &groups),
            input: &input,
            gate_up: &gate_up,
            down: &down,
            eps: EPS,
        })
    }

    fn forward(&self, isa: Isa, rounded: bool) -> (Vec<f32>, Vec<f32>) {
        let mut y = vec![f32::NAN; self.z.len()];
        let mut inv = vec![f32::NAN; self.z.len() / self.shape.hidden];
        self.run(isa, rounded, |block| {
            group_block(block, &self.z, self.injection.as_deref(), &mut y, &mut inv)
        });
        (y, inv)
    }

    /// Gradients of the state and of the three weights.
    fn backward(&self, isa: Isa, rounded: bool, dy: &[f32]) -> [Vec<f32>; 4] {
        let (y, inv) = self.forward(isa, rounded);
        let mut dz = vec![f32::NAN; self.z.len()];
        let [mut a, mut b, mut c] = [0, 1, 2].map(|i| vec![f32::NAN; self.weights[i].len()]);
        self.run(isa, rounded, |block| {
            let grads = [&mut a[..], &mut b[..], &mut c[..]];
            group_block_backward(block, &self.z, self.injection.as_deref(), (&y, &inv), dy, &mut dz, grads);
        });
        [dz, a, b, c]
    }

    /// The formula in double precision, at `z` and weights moved by `shift` times a direction.
    fn reference(&self, shift: f64, direction: [&[f32]; 4]) -> Vec<f64> {
        let GroupShape { batch, hidden, width, inter } = self.shape;
        let (cells, values) = (self.cells, self.values);
        let moved = |x: &[f32], d: &[f32]| -> Vec<f64> {
            x.iter()
                .zip(d.iter().chain(std::iter::repeat(&0.0)))
                .map(|(x, d)| f64::from(*x) + shift * f64::from(*d))
                .collect()
        };
        let mut x = moved(&self.z, direction[0]);
        if let Some(injection) = &self.injection {
            x.iter_mut().zip(injection).for_each(|(x, r)| *x += f64::from(*r));
        }
        let [input, gate_up, down] = [0, 1, 2].map(|i| moved(&self.weights[i], direction[i + 1]));
        let columns = self.columns();
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let mut out = Vec::new();
        for puzzle in 0..batch {
            let at = |cell: usize, value: usize| {
                let node = (puzzle * cells + cell) * values + value;
                &x[node * hidden..(node + 1) * hidden]
            };
            let times = |w: &[f64], cols: usize, x: &[f64]| -> Vec<f64> {
                w.chunks(cols).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
            };
            let u = |cell: usize, value: usize| -> Vec<f64> {
                times(&input, hidden, at(cell, value)).into_iter().map(silu).collect()
            };
            let mean = |rows: Vec<Vec<f64>>| -> Vec<f64> {
                let mut sum = vec![0.0; width];
                let count = rows.len().max(1) as f64;
                rows.iter().for_each(|row| sum.iter_mut().zip(row).for_each(|(s, x)| *s += x / count));
                sum
            };
            for cell in 0..cells {
                for value in 0..values {
                    let mut row = at(cell, value).to_vec();
                    if values > 1 {
                        row.extend(mean((0..values).map(|value| u(cell, value)).collect()));
                    }
                    for kind in &self.kinds {
                        let groups = kind.readers[cell].iter().map(|&group| {
                            mean(
                                kind.members[group as usize]
                                    .iter()
                                    .map(|&cell| u(cell as usize, value))
                                    .collect(),
                            )
                        });
                        row.extend(mean(groups.collect()));
                    }
                    let gates = times(&gate_up, columns, &row);
                    let product: Vec<f64> = (0..inter).map(|i| silu(gates[i]) * gates[inter + i]).collect();
                    let sum: Vec<f64> = times(&down, inter, &product)
                        .iter()
                        .zip(at(cell, value))
                        .map(|(d, x)| d + x)
                        .collect();
                    let square = sum.iter().map(|x| x * x).sum::<f64>() / hidden as f64;
                    out.extend(sum.iter().map(|x| x / (square + f64::from(EPS)).sqrt()));
                }
            }
        }
        out
    }
}

fn cases() -> Vec<Case> {
    if cfg!(miri) {
        return vec![Case::new(1, 7, 3, [16, 16, 16], true)];
    }
    vec![
        Case::new(1, 7, 3, [32, 16, 64], true),
        Case::new(2, 50, 2, [16, 16, 16], false),
        Case::new(3, 9, 1, [48, 32, 80], true),
        Case::new(2, 12, 4, [64, 32, 96], false),
    ]
}

/// Instruction sets in single precision and rounded, with the tolerance of each.
fn modes(single: f64, rounded: f64) -> Vec<(Isa, bool, f64)> {
    Isa::available().into_iter().flat_map(|isa| [(isa, false, single), (isa, true, rounded)]).collect()
}

fn dot(a: &[f32], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum()
}

#[test]
fn matches_the_formula() {
    for (index, case) in cases().into_iter().enumerate() {
        let want = case.reference(0.0, [&[]; 4]);
        for (isa, rounded, tolerance) in modes(2e-6, 3e-2) {
            let (y, inv) = case.forward(isa, rounded);
            assert!(inv.iter().all(|x| x.is_finite() && *x > 0.0));
            let worst = y.iter().zip(&want).map(|(y, w)| (f64::from(*y) - w).abs()).fold(0.0, f64::max);
            println!("case {index}, rounded {rounded}: worst {worst:.1e}");
            assert!(worst < tolerance, "case {index}, rounded {rounded}: {worst:e}");
        }
    }
}

#[test]
fn gradients_are_slopes() {
    for (index, case) in cases().into_iter().enumerate() {
        let dy = random(case.z.len(), 9);
        for (isa, rounded, tolerance) in modes(2e-5, 2e-2) {
            let grads = case.backward(isa, rounded, &dy);
            for (which, grad) in grads.iter().enumerate() {
                let direction = random(grad.len(), 20 + which as u64);
                let mut directions: [&[f32]; 4] = [&[]; 4];
                directions[which] = &direction;
                let step = 1e-5;
                let slope = (dot(&dy, &case.reference(step, directions))
                    - dot(&dy, &case.reference(-step, directions)))
                    / (2.0 * step);
                let got: f64 = grad.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
                let size = grad.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt()
                    * direction.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                assert!(
                    (got - slope).abs() < tolerance * size,
                    "case {index}, rounded {rounded}, gradient {which}: {got} is not {slope}, size {size}"
                );
            }
        }
    }
}

#[test]
fn does_not_depend_on_threads_or_on_other_puzzles() {
    let batch = unless_miri(40, 3);
    let case = Case::new(batch, 9, 4, [32, 16, 32], true);
    let dy = random(case.z.len(), 9);
    for (isa, rounded, _) in modes(0.0, 0.0) {
        in_pools(|| {
            let (y, inv) = case.forward(isa, rounded);
            [vec![y, inv], case.backward(isa, rounded, &dy).to_vec()].concat().concat()
        });
    }
    let len = case.z.len() / batch;
    let first = Case {
        shape: GroupShape { batch: 1, ..case.shape },
        z: case.z[..len].to_vec(),
        injection: case.injection.as_ref().map(|x| x[..len].to_vec()),
        ..Case::new(1, 9, 4, [32, 16, 32], true)
    };
    assert_eq!(first.forward(Isa::best(), true).0, case.forward(Isa::best(), true).0[..len]);
}

#[test]
#[should_panic(expected = "index 9, expected less than 3")]
fn groups_are_checked() {
    let mut case = Case::new(1, 9, 2, [16, 16, 16], false);
    case.kinds[0].readers[4] = vec![9];
    case.forward(Isa::best(), false);
}
