use burn::tensor::Tensor;
use hrm_backend::{HrmBackend, ops};
use serde::{Deserialize, Serialize};

use super::Moments;

/// Coefficients of the quintic Newton-Schulz iteration, chosen for a steep slope at 0: singular values end near 1, not at it.
const QUINTIC: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);

/// Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum whose matrix is replaced by the nearest
/// semi-orthogonal one, so that every direction of a weight matrix learns at the same rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MuonConfig {
    /// Decay of the momentum (Nesterov's).
    pub momentum: f64,
    /// Newton-Schulz iterations.
    pub ns_steps: usize,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl MuonConfig {
    /// One update of a weight `[rows, columns]`, which may stack `parts` matrices of the same shape (queries, keys and
    /// values; gate and up): each is orthogonalised by itself.
    ///
    /// # Shapes
    /// - `param`, `grad`, output: `[rows * columns]`
    pub fn step<B: HrmBackend>(
        &self,
        lr: f64,
        param: Tensor<B, 1>,
        grad: Tensor<B, 1>,
        moments: Option<Moments<B>>,
        [rows, columns]: [usize; 2],
        parts: usize,
    ) -> (Tensor<B, 1>, Moments<B>) {
        let MuonConfig { momentum, ns_steps, weight_decay } = *self;
        let (step, m) = match moments {
            Some(Moments { step, m, .. }) => (step + 1, m),
            None => (1, grad.zeros_like()),
        };
        let m = m * momentum + grad.clone() * (1.0 - momentum);
        let nesterov = grad * (1.0 - momentum) + m.clone() * momentum;
        let count = rows / parts;
        let matrices = nesterov.reshape([parts, count, columns]);
        let directions = (0..parts)
            .map(|part| orthogonal(matrices.clone().narrow(0, part, 1).reshape([count, columns]), ns_steps));
        let direction: Tensor<B, 2> = Tensor::cat(directions.collect(), 0);
        // Tall matrices move further, so that an output changes as much as with a square one.
        let scale = (count as f64 / columns as f64).max(1.0).sqrt();
        let param = param * (1.0 - lr * weight_decay) - direction.reshape([rows * columns]) * (lr * scale);
        (param, Moments { step, m, v: None })
    }
}

/// Roughly `U V^T` of the singular value decomposition `U S V^T`, by Newton-Schulz iteration in the tensor's type.
///
/// # Shapes
/// - `matrix`, output: `[rows, columns]`
pub fn orthogonal<B: HrmBackend>(matrix: Tensor<B, 2>, steps: usize) -> Tensor<B, 2> {
    let [rows, columns] = matrix.dims();
    // The products of a matrix with its transpose are cheaper on the short side.
    let tall = rows > columns;
    let x = if tall { matrix.transpose() } else { matrix };
    let squares = ops::sums_of_squares([x.clone()]).expect("of one tensor");
    let norm = squares.sqrt() + 1e-7;
    let mut x = x / norm.reshape([1, 1]);
    let (a, b, c) = QUINTIC;
    for _ in 0..steps {
        let gram = ops::rounded_product(x.clone(), x.clone().transpose());
        let polynomial = gram.clone() * b + ops::rounded_product(gram.clone(), gram) * c;
        x = x.clone() * a + ops::rounded_product(polynomial, x);
    }
    if tall { x.transpose() } else { x }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use hrm_testing::for_each_backend;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    for_each_backend!(orthogonal_matrices_have_singular_values_near_one, parts_are_matrices_of_their_own);

    fn random<B: HrmBackend>(rows: usize, columns: usize, seed: u64) -> Tensor<B, 2> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..rows * columns).map(|_| rng.random_range(-1.0..1.0)).collect();
        Tensor::from_data(TensorData::new(values, [rows, columns]), &B::Device::default())
    }

    fn orthogonal_matrices_have_singular_values_near_one<B: HrmBackend>() {
        for (rows, columns) in [(16, 48), (48, 16), (24, 24)] {
            let matrix = random::<B>(rows, columns, 3);
            let x = orthogonal(matrix.clone(), 5);
            assert_eq!(x.dims(), [rows, columns]);
            // Tr(x x^T) is the sum of the squared singular values; the iteration leaves each within 0.7 to 1.2.
            let rank = rows.min(columns) as f64;
            let mean: f64 = x.clone().square().sum().into_data().iter::<f64>().sum::<f64>() / rank;
            assert!((0.6..1.3).contains(&mean), "{rows} x {columns}: mean squared singular value {mean}");
            // It points the way the matrix does: <x, matrix> is nearly the sum of the matrix's singular values, which is
            // at least its Frobenius norm.
            let inner: f64 = (x * matrix.clone()).sum().into_data().iter::<f64>().sum();
            let norm = matrix.square().sum().into_data().iter::<f64>().sum::<f64>().sqrt();
            assert!(inner > norm, "{inner} {norm}");
        }
    }

    fn parts_are_matrices_of_their_own<B: HrmBackend>() {
        let config = MuonConfig { momentum: 0.9, ns_steps: 5, weight_decay: 0.0 };
        let step = |param: Tensor<B, 2>, grad: Tensor<B, 2>, parts| {
            let shape @ [rows, columns] = param.dims();
            let flat = |t: Tensor<B, 2>| t.reshape([rows * columns]);
            let (new, moments) = config.step(0.1, flat(param), flat(grad), None, shape, parts);
            assert!(moments.v.is_none() && moments.step == 1);
            new.reshape(shape)
        };
        let (a, b) = (random::<B>(8, 6, 1), random::<B>(8, 6, 2) * 100.0);
        let params = random::<B>(16, 6, 3);
        let stacked = step(params.clone(), Tensor::cat(vec![a.clone(), b.clone()], 0), 2);
        for (part, grad) in [a, b].into_iter().enumerate() {
            let alone = step(params.clone().narrow(0, 8 * part, 8), grad, 1);
            let difference = (stacked.clone().narrow(0, 8 * part, 8) - alone).abs().max();
            let difference: f64 = difference.into_data().iter::<f64>().sum();
            assert!(difference < 1e-5, "part {part}: {difference}");
        }
    }
}
