use burn::tensor::Tensor;
use hrm_backend::{
    HrmBackend,
    ops::{self, AdamAtan2Update},
};
use serde::{Deserialize, Serialize};

use super::Moments;

/// Added to AdamW's denominator, as in PyTorch.
const EPSILON: f64 = 1e-8;

/// The new parameter, and its new first and second moment.
type Updated<B> = (Tensor<B, 1>, Tensor<B, 1>, Tensor<B, 1>);

/// Scalars of AdamATan2 and AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Decoupled weight decay; biases and embeddings decay too.
    pub weight_decay: f64,
}

impl AdamConfig {
    /// Adam with `atan2` in place of the division, which makes it scale-invariant and free of an epsilon
    /// (Everett et al. 2024, arXiv 2407.05872); see [`ops::adam_atan2`] for the formula and for `good`.
    ///
    /// # Shapes
    /// - `param`, `grad`, output: `[count]`
    pub fn adam_atan2<B: HrmBackend>(
        &self,
        lr: f64,
        param: Tensor<B, 1>,
        grad: Tensor<B, 1>,
        moments: Option<Moments<B>>,
        good: Option<&Tensor<B, 1>>,
    ) -> (Tensor<B, 1>, Moments<B>) {
        self.update(lr, grad, moments, |grad, m, v, update| ops::adam_atan2(param, grad, m, v, update, good))
    }

    /// AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101): `p *= 1 - lr wd`, then
    /// `p -= lr m' / (sqrt(v') + 1e-8)` with the bias-corrected moments `m'`, `v'`.
    ///
    /// # Shapes
    /// - `param`, `grad`, output: `[count]`
    pub fn adam_w<B: HrmBackend>(
        &self,
        lr: f64,
        param: Tensor<B, 1>,
        grad: Tensor<B, 1>,
        moments: Option<Moments<B>>,
    ) -> (Tensor<B, 1>, Moments<B>) {
        self.update(lr, grad, moments, |grad, m, v, update| {
            let &AdamAtan2Update { lr, beta1, beta2, weight_decay, step } = update;
            let m = m * beta1 + grad.clone() * (1.0 - beta1);
            let v = v * beta2 + grad.square() * (1.0 - beta2);
            let correction = |beta: f64| 1.0 - beta.powf(step as f64);
            let denominator = v.clone().sqrt() / correction(beta2).sqrt() + EPSILON;
            let direction = m.clone() / denominator;
            let param = param * (1.0 - lr * weight_decay) - direction * (lr / correction(beta1));
            (param, m, v)
        })
    }

    /// The update by `rule`, which takes the gradient and both moments and gives the new parameter and moments.
    fn update<B: HrmBackend>(
        &self,
        lr: f64,
        grad: Tensor<B, 1>,
        moments: Option<Moments<B>>,
        rule: impl FnOnce(Tensor<B, 1>, Tensor<B, 1>, Tensor<B, 1>, &AdamAtan2Update) -> Updated<B>,
    ) -> (Tensor<B, 1>, Moments<B>) {
        let (step, m, v) = match moments {
            Some(Moments { step, m, v }) => (step + 1, m, v.unwrap_or_else(|| grad.zeros_like())),
            None => (1, grad.zeros_like(), grad.zeros_like()),
        };
        let AdamConfig { beta1, beta2, weight_decay } = *self;
        let update = AdamAtan2Update { lr, beta1, beta2, weight_decay, step };
        let (param, m, v) = rule(grad, m, v, &update);
        (param, Moments { step, m, v: Some(v) })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;
    use hrm_backend::HrmBackend;
    use hrm_testing::for_each_backend;

    use super::*;

    for_each_backend!(adam_w_is_pytorchs);

    /// Expected values: the published formula in f64.
    fn adam_w_is_pytorchs<B: HrmBackend>() {
        let device = B::Device::default();
        let config = AdamConfig { beta1: 0.9, beta2: 0.95, weight_decay: 0.1 };
        let (lr, grads) = (0.01, [[0.5, -2.0, 1e-6], [-0.25, -1.0, 3e-6], [0.75, 4.0, 0.0]]);
        let mut param = Tensor::<B, 1>::from_floats([1.0, -1.0, 0.5], &device);
        let mut moments = None;
        let mut expected = [1.0_f64, -1.0, 0.5];
        let (mut m, mut v) = ([0.0_f64; 3], [0.0_f64; 3]);
        for (index, grad) in grads.into_iter().enumerate() {
            let (new, kept) = config.adam_w(lr, param, Tensor::from_floats(grad, &device), moments);
            (param, moments) = (new, Some(kept));
            let t = index as i32 + 1;
            for k in 0..3 {
                m[k] = 0.9 * m[k] + 0.1 * grad[k];
                v[k] = 0.95 * v[k] + 0.05 * grad[k] * grad[k];
                let (m, v) = (m[k] / (1.0 - 0.9_f64.powi(t)), v[k] / (1.0 - 0.95_f64.powi(t)));
                expected[k] -= lr * 0.1 * expected[k] + lr * m / (v.sqrt() + 1e-8);
            }
            for (got, expected) in param.to_data().iter::<f64>().zip(expected) {
                assert!((got - expected).abs() < 1e-5, "step {t}: {got}, expected {expected}");
            }
        }
    }
}
