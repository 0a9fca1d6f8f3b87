//! A model that mixes by groups commutes with every symmetry of its puzzle that keeps the groups, whatever its weights: `f(g x) = g f(x)`.

use burn::tensor::{Int, Tensor, TensorData};
use hrm_backend::HrmBackend;
use hrm_data::{
    puzzles::{
        maze::Mazes,
        queens::Queens,
        sudoku::{Geometry, Sudoku},
    },
    random::{Purpose, shuffle, stream},
    registry::{Family, Shape},
    task::{AnyTask, Beliefs},
};
use hrm_infer::structure;
use hrm_model::{
    Architecture, Hrm, Mixer, ModelConfig, ModelError, PositionEncoding, RecurrenceKind, Tokens, act::Carry,
};
use hrm_testing::for_each_backend;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

for_each_backend!(
    results_move_with_the_puzzle,
    colours_of_arc_change_places,
    mazes_have_no_places,
    weights_fit_every_size,
);

fn sudoku(rows: usize, cols: usize) -> Shape {
    Shape::Sudoku(Sudoku { geometry: Geometry::new(rows, cols).unwrap() })
}

/// Random weights for a puzzle.
fn model<B: HrmBackend>(shape: Shape, recurrence: RecurrenceKind) -> Hrm<B> {
    let task = shape.task();
    let (h_layers, l_layers) = if recurrence == RecurrenceKind::Hrm { (1, 1) } else { (0, 2) };
    let structure = structure(shape);
    let has_values = structure.as_ref().is_some_and(|structure| structure.first_value < task.vocab_size());
    let architecture = Architecture {
        tokens: if has_values { Tokens::Lattice } else { Tokens::Cells },
        mixer: Mixer::Groups,
        expansion: 2.0,
        pos_encodings: PositionEncoding::None,
        recurrence,
        no_act_continue: recurrence != RecurrenceKind::Hrm,
        ..Architecture::default()
    };
    let config = architecture
        .on(task.vocab_size(), task.seq_len(), 1, structure)
        .with_hidden_size(16)
        .with_layers(h_layers, l_layers)
        .with_puzzle_emb_ndim(0);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut model: Hrm<B> = config.init(&mut rng, &B::Device::default()).unwrap();
    // That of a fresh model reads nothing.
    model.q_head.weight = model.q_head.weight.map(|weight| {
        let values: Vec<f32> = (0..32).map(|i| (i * 37 % 32) as f32 / 16.0 - 1.0).collect();
        Tensor::from_data(TensorData::new(values, [2, 16]), &weight.device())
    });
    model
}

/// Logits and halting values after each of some segments.
fn think<B: HrmBackend>(model: &Hrm<B>, input: &[u8], segments: usize) -> Vec<(Beliefs, [f32; 2])> {
    let device = model.device();
    let tokens: Vec<i32> = input.iter().map(|&token| i32::from(token)).collect();
    let inputs = TensorData::new(tokens, [1, input.len()]).convert::<B::IntElem>();
    let inputs = Tensor::<B, 2, Int>::from_data(inputs, &device);
    let mut carry = Carry::fresh(model, inputs, Tensor::zeros([1], &device));
    let mut thoughts = Vec::new();
    for _ in 0..segments {
        let (next, output) = model.segment(carry);
        carry = next;
        let logits: Vec<f32> = output.logits.into_data().iter::<f32>().collect();
        let q = |q: Tensor<B, 1>| q.into_data().iter::<f32>().next().unwrap();
        let beliefs = Beliefs::new(model.config().vocab_size, logits);
        thoughts.push((beliefs, [q(output.q_halt), q(output.q_continue)]));
    }
    thoughts
}

/// Some cells given, in no particular way: equivariance asks for no solution.
fn some_puzzle(task: &AnyTask, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let value = |rng: &mut ChaCha8Rng| match rng.random_range(0..3) {
        0 => rng.random_range(2..task.vocab_size() as u8),
        _ => 1,
    };
    (0..task.seq_len()).map(|_| value(rng)).collect()
}

fn results_move_with_the_puzzle<B: HrmBackend>() {
    let queens = Shape::Queens(Queens::new(8).unwrap());
    let shapes =
        [(sudoku(2, 2), 100), (sudoku(2, 3), 100), (sudoku(3, 3), 100), (sudoku(4, 4), 10), (queens, 20)];
    for (shape, symmetries) in shapes {
        let task = shape.task();
        for recurrence in [RecurrenceKind::Hrm, RecurrenceKind::Trm] {
            let model = model::<B>(shape, recurrence);
            let puzzle = some_puzzle(&task, &mut ChaCha8Rng::seed_from_u64(5));
            let thoughts = think(&model, &puzzle, 2);
            let largest =
                (0..task.seq_len()).map(|cell| thoughts[1].0.weight(cell, 2).abs()).fold(0.0, f32::max);
            assert!(largest > 0.05, "{shape:?}: logits of {largest} at most say nothing");
            for draw in 0..symmetries {
                let symmetry = task.symmetry(&mut stream(1, Purpose::View, draw, 0));
                let images = think(&model, &symmetry.apply(&puzzle), 2);
                let label = format!("{shape:?} {recurrence:?}, symmetry {draw}");
                for ((beliefs, q), (image, q_image)) in thoughts.iter().zip(&images) {
                    let expected = symmetry.apply_beliefs(beliefs);
                    for cell in 0..task.seq_len() {
                        for token in 2..task.vocab_size() as u8 {
                            let (got, want) = (image.weight(cell, token), expected.weight(cell, token));
                            assert!(
                                (got - want).abs() < 2e-4,
                                "{label}, cell {cell}, token {token}: {got} is not {want}"
                            );
                        }
                    }
                    let near = q.iter().zip(q_image).all(|(a, b)| (a - b).abs() < 2e-4);
                    assert!(near, "{label}: halting values {q_image:?}, expected {q:?}");
                }
            }
        }
    }
}

/// A lattice of cells and colours: exchanging colours other than black, and the vectors that a task has for each, exchanges the logits.
/// Padding, end and black are told apart.
fn colours_of_arc_change_places<B: HrmBackend>() {
    const CANVAS: usize = 5;
    const HIDDEN: usize = 16;
    const KINDS: usize = 12;
    let shape = Shape::of(CANVAS * CANVAS, KINDS, Some(Family::Arc)).unwrap();
    for recurrence in [RecurrenceKind::Hrm, RecurrenceKind::Trm] {
        let model = model::<B>(shape, recurrence);
        let config = model.config().clone().with_puzzle_emb_ndim(KINDS * HIDDEN);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let row: Vec<f32> = (0..KINDS * HIDDEN).map(|_| rng.random_range(-1.0..1.0)).collect();
        let puzzle: Vec<u8> = (0..CANVAS * CANVAS).map(|_| rng.random_range(0..KINDS as u8)).collect();
        let of_row = |row: &[f32]| {
            let mut weights = model.state_dict();
            weights.insert("puzzle_emb.weights".to_owned(), TensorData::new(row.to_vec(), [1, row.len()]));
            Hrm::<B>::from_state_dict(&config, weights, &model.device()).unwrap()
        };
        let thoughts = think(&of_row(&row), &puzzle, 2);
        let differences = |order: &[u8]| {
            let mut image = row.clone();
            for (value, vector) in row.chunks(HIDDEN).enumerate() {
                let start = usize::from(order[value]) * HIDDEN;
                image[start..start + HIDDEN].copy_from_slice(vector);
            }
            let moved: Vec<u8> = puzzle.iter().map(|&token| order[usize::from(token)]).collect();
            let images = think(&of_row(&image), &moved, 2);
            let mut most = 0.0f32;
            for ((beliefs, q), (image, q_image)) in thoughts.iter().zip(&images) {
                q.iter().zip(q_image).for_each(|(a, b)| most = most.max((a - b).abs()));
                for cell in 0..CANVAS * CANVAS {
                    for token in 0..KINDS as u8 {
                        let of_image = image.weight(cell, order[usize::from(token)]);
                        most = most.max((of_image - beliefs.weight(cell, token)).abs());
                    }
                }
            }
            most
        };
        for draw in 0..20 {
            let mut order: Vec<u8> = (0..KINDS as u8).collect();
            shuffle(&mut stream(2, Purpose::View, draw, 0), &mut order[3..]);
            let most = differences(&order);
            assert!(most < 2e-4, "{recurrence:?}, order {order:?}: logits differ by {most}");
        }
        for (token, other) in [(0, 3), (1, 4), (2, 5), (0, 1), (1, 2)] {
            let mut order: Vec<u8> = (0..KINDS as u8).collect();
            order.swap(token, other);
            assert!(differences(&order) > 1e-2, "{recurrence:?}: {token} and {other} are alike");
        }
    }
}

/// Away from the borders, what a model says of a cell moves with the maze.
fn mazes_have_no_places<B: HrmBackend>() {
    const COLS: usize = 96;
    let model = model::<B>(Shape::Maze(Mazes::new(3, COLS)), RecurrenceKind::Trm);
    let of_wall_at = |col: usize| {
        let mut tokens = [2; 3 * COLS];
        tokens[COLS + col] = 1;
        think(&model, &tokens, 1).remove(0).0
    };
    let (maze, moved) = (of_wall_at(47), of_wall_at(48));
    let mut least_and_most = (f32::MAX, f32::MIN);
    for cell in COLS + 40..COLS + 56 {
        for token in 1..6 {
            let (here, there) = (maze.weight(cell, token), moved.weight(cell + 1, token));
            assert!((here - there).abs() < 2e-4, "cell {cell}, token {token}: {there} is not {here}");
        }
        least_and_most =
            (least_and_most.0.min(maze.weight(cell, 1)), least_and_most.1.max(maze.weight(cell, 1)));
    }
    assert!(least_and_most.1 - least_and_most.0 > 1e-2, "the wall makes no difference: {least_and_most:?}");
}

fn weights_fit_every_size<B: HrmBackend>() {
    let small = model::<B>(sudoku(2, 2), RecurrenceKind::Trm);
    for shape in [sudoku(2, 3), sudoku(3, 3), sudoku(5, 5)] {
        let task = shape.task();
        let sizes = (task.vocab_size(), task.seq_len());
        let large = small.clone().on_puzzle(sizes.0, sizes.1, structure(shape)).unwrap();
        assert_eq!((large.config().vocab_size, large.config().seq_len), sizes);
        let puzzle = some_puzzle(&task, &mut ChaCha8Rng::seed_from_u64(5));
        let thoughts = think(&large, &puzzle, 1);
        // The same as a model that was made for this size and got the weights.
        let made = model::<B>(shape, RecurrenceKind::Trm).load_state_dict(small.state_dict()).unwrap();
        assert_eq!(think(&made, &puzzle, 1), thoughts);
    }
    // The weights of a small maze run on one that is large and no square.
    let maze = |rows, cols| Shape::Maze(Mazes::new(rows, cols));
    let small_maze = model::<B>(maze(4, 4), RecurrenceKind::Trm);
    let large_maze = small_maze.clone().on_puzzle(6, 35, structure(maze(5, 7))).unwrap();
    assert_eq!(think(&large_maze, &[2; 35], 1).len(), 1);
    // Five boards that overlap are of the same kinds of groups; a cell outside of them has no value.
    let samurai_shape = Shape::of(441, 12, Some(Family::Samurai)).unwrap();
    let task = samurai_shape.task();
    let sizes = (task.vocab_size(), task.seq_len());
    let samurai = small.clone().on_puzzle(sizes.0, sizes.1, structure(samurai_shape)).unwrap();
    let outside = sizes.0 as u8 - 1;
    let puzzle: Vec<u8> =
        (0..sizes.1).map(|cell| if (cell / 21, cell % 21) == (9, 0) { outside } else { 1 }).collect();
    let (beliefs, _) = &think(&samurai, &puzzle, 1)[0];
    assert!(beliefs.weight(0, outside) < -1e3 && beliefs.weight(0, 10).abs() < 1e2);
    let refused = |result: Result<Hrm<B>, ModelError>, words: &str| {
        let error = result.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(words), "{error:?} should say {words:?}");
    };
    refused(small.clone().on_puzzle(6, 100, None), "names no groups");
    let mut other = structure(sudoku(3, 3)).unwrap();
    other.groups.pop();
    refused(small.on_puzzle(11, 81, Some(other)), "the model knows groups by");
    let plain = ModelConfig::new(6, 16).with_hidden_size(16).with_num_heads(2).with_layers(1, 1);
    let plain: Hrm<B> = plain.init(&mut ChaCha8Rng::seed_from_u64(3), &B::Device::default()).unwrap();
    refused(plain.on_puzzle(11, 81, structure(sudoku(3, 3))), "for 16 tokens of 6 kinds only");
}
