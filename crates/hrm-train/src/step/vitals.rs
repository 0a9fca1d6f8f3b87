//! The numbers that tell whether a step may be applied.

use burn::tensor::Tensor;
use hrm_backend::{HrmBackend, ops};
use hrm_model::{diagnose::NonFinite, loss::Metrics};

use super::StepGradients;

/// The numbers that tell whether a step may be applied, on the device.
#[derive(Debug, Clone)]
pub struct Vitals<B: HrmBackend> {
    /// Names of the gradients.
    names: Vec<String>,
    /// The loss, then the sum of squares of each gradient: not finite either where a gradient is not, or where its square
    /// is too large for fp32.
    pub values: Tensor<B, 1>,
}

impl<B: HrmBackend> Vitals<B> {
    /// Those of a step with these [metrics](hrm_model::loss::ActLoss::sums) and gradients.
    pub fn of(metrics: &Tensor<B, 1>, grads: &StepGradients<B>) -> Self {
        let mut names: Vec<String> = grads.model.0.keys().cloned().collect();
        let mut values = vec![metrics.clone().narrow(0, Metrics::LOSS, 1)];
        values.extend(grads.model.squares());
        if let Some(rows) = &grads.puzzle_rows {
            names.push("puzzle_emb.weights".to_owned());
            values.extend(ops::sums_of_squares([rows.clone()]));
        }
        Self { names, values: Tensor::cat(values, 0) }
    }

    /// Waits for the device.
    pub fn read(&self) -> Signs {
        self.signs(self.values.to_data().iter::<f64>())
    }

    /// What values of [`values`](Self::values) mean that have been read together with others.
    pub fn signs(&self, mut values: impl Iterator<Item = f64>) -> Signs {
        let loss = values.next().unwrap_or(f64::NAN);
        Signs { loss, squares: self.names.iter().cloned().zip(values).collect() }
    }
}

/// The numbers of [`Vitals`].
#[derive(Debug, Clone, PartialEq)]
pub struct Signs {
    /// Summed over the batch.
    pub loss: f64,
    /// Name and sum of squares of each gradient.
    pub squares: Vec<(String, f64)>,
}

impl Signs {
    /// Whether the step may be applied.
    pub fn finite(&self) -> bool {
        self.loss.is_finite() && self.squares.iter().all(|(_, square)| square.is_finite())
    }

    /// The Euclidean norm of all gradients together.
    pub fn grad_norm(&self) -> f64 {
        self.squares.iter().map(|(_, square)| square).sum::<f64>().sqrt()
    }

    /// In words, what is known without the step's data.
    fn explain(&self) -> String {
        let bad: Vec<&str> = self
            .squares
            .iter()
            .filter(|(_, square)| !square.is_finite())
            .map(|(name, _)| name.as_str())
            .collect();
        let loss = if self.loss.is_finite() { "the loss is finite" } else { "the loss is not finite" };
        match bad.as_slice() {
            [] => loss.to_owned(),
            [one] => format!("{loss}, the gradient of {one} is not"),
            [first, rest @ ..] => {
                format!("{loss}, the gradients of {first} and {} other parameters are not", rest.len())
            }
        }
    }
}

/// What went wrong in a step, in words: the first activation or weight that is not finite if it could be found, and what
/// loss and gradients say.
pub(crate) fn explain(found: Option<NonFinite>, signs: &Signs) -> String {
    match found {
        Some(found) => format!("{found} ({})", signs.explain()),
        None => signs.explain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_name_what_is_not_finite() {
        let signs = |loss, squares: &[f64]| {
            let names = ["a", "b", "c"].map(str::to_owned);
            Signs { loss, squares: names.into_iter().zip(squares.iter().copied()).collect() }
        };
        let good = signs(1.0, &[9.0, 16.0, 0.0]);
        assert!(good.finite());
        assert_eq!(good.grad_norm(), 5.0);
        let one = signs(1.0, &[1.0, f64::INFINITY, 1.0]);
        assert!(!one.finite());
        assert_eq!(one.explain(), "the loss is finite, the gradient of b is not");
        let all = signs(f64::NAN, &[f64::NAN; 3]);
        assert_eq!(
            all.explain(),
            "the loss is not finite, the gradients of a and 2 other parameters are not"
        );
        assert!(!signs(f64::NAN, &[1.0; 3]).finite());
        let found = NonFinite::Activation { layer: "H_level.layers.0".to_owned(), update: Some(3) };
        assert!(explain(Some(found), &all).contains("H_level.layers.0 is not finite from update 3"));
    }
}
