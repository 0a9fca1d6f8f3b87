//! Steps whose loss or gradients are not finite change nothing: they are skipped, counted and explained.
//!
//! On the CPU a step's [`Vitals`] are read before its update, which costs nothing there. A GPU works behind the program,
//! which would have to wait at every step; there the update is computed in any case, and a mask on the device keeps the
//! old weights and moments ([`Guard::Mask`]). The program learns of it when it reads the metrics, and from then on waits
//! for each step until one is good again.

use std::{collections::BTreeMap, path::PathBuf};

use burn::{
    module::Param,
    tensor::{Bool, Tensor},
};
use hrm_backend::{HrmAutodiffBackend, HrmBackend};
use hrm_model::{
    Hrm,
    diagnose::{NonFinite, finite},
    loss::Metrics,
    named::{NamedMapper, NamedVisitor, map_named, visit_named},
};
use serde::{Deserialize, Serialize};

use crate::{
    optim::{Moments, Optimizer},
    step::StepGradients,
};

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
    /// Those of a step with these [metrics](Metrics::tensor) and gradients.
    pub fn of<A>(metrics: &Tensor<B, 1>, grads: &StepGradients<A>) -> Self
    where
        A: HrmAutodiffBackend<InnerBackend = B>,
    {
        let mut names: Vec<String> = grads.model.0.keys().cloned().collect();
        let mut values = vec![metrics.clone().narrow(0, Metrics::LOSS, 1)];
        values.extend(grads.model.squares());
        if let Some(rows) = &grads.puzzle_rows {
            names.push("puzzle_emb.weights".to_owned());
            values.push(rows.clone().square().sum());
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
pub fn explain(found: Option<NonFinite>, signs: &Signs) -> String {
    match found {
        Some(found) => format!("{found} ({})", signs.explain()),
        None => signs.explain(),
    }
}

/// How a bad step is kept from doing harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Its vitals are read before the update.
    Read,
    /// The update is computed and thrown away on the device, without waiting for it.
    Mask,
}

/// Runs `update`, unless the step is bad: then model and optimizer stay as they are. Gives the vitals if they were read.
pub fn guarded<A: HrmAutodiffBackend>(
    model: Hrm<A>,
    optimizer: &mut Optimizer<A::InnerBackend>,
    vitals: &Vitals<A::InnerBackend>,
    guard: Guard,
    update: impl FnOnce(Hrm<A>, &mut Optimizer<A::InnerBackend>) -> Hrm<A>,
) -> (Hrm<A>, Option<Signs>) {
    if guard == Guard::Read {
        let signs = vitals.read();
        let model = if signs.finite() { update(model, optimizer) } else { model };
        return (model, Some(signs));
    }
    let good = finite(vitals.values.clone()).all();
    let (weights, moments) = (weights(&model), optimizer.moments.clone());
    let model = map_named(update(model, optimizer), &mut Keep { good: good.clone(), weights });
    for (name, new) in &mut optimizer.moments {
        let old = moments.get(name);
        let keep = |new: &Tensor<A::InnerBackend, 1>, old: Option<&Tensor<A::InnerBackend, 1>>| {
            either(&good, new.clone(), old.cloned().unwrap_or_else(|| new.zeros_like()))
        };
        *new = Moments {
            step: new.step,
            m: keep(&new.m, old.map(|old| &old.m)),
            v: new.v.as_ref().map(|v| keep(v, old.and_then(|old| old.v.as_ref()))),
        };
    }
    (model, None)
}

/// `new` where the step is good, else `old`.
fn either<B: HrmBackend>(good: &Tensor<B, 1, Bool>, new: Tensor<B, 1>, old: Tensor<B, 1>) -> Tensor<B, 1> {
    let mask = good.clone().expand(new.shape());
    old.mask_where(mask, new)
}

/// Every float tensor of a model by name, flattened.
fn weights<A: HrmAutodiffBackend>(model: &Hrm<A>) -> BTreeMap<String, Tensor<A::InnerBackend, 1>> {
    struct Collector<B: HrmBackend>(BTreeMap<String, Tensor<B, 1>>);
    impl<A: HrmAutodiffBackend> NamedVisitor<A> for Collector<A::InnerBackend> {
        fn visit<const D: usize>(&mut self, name: String, param: &Param<Tensor<A, D>>) {
            let tensor = param.val().inner();
            let count = tensor.shape().num_elements();
            self.0.insert(name, tensor.reshape([count]));
        }
    }
    let mut collector = Collector(BTreeMap::new());
    visit_named::<A, _>(model, &mut collector);
    collector.0
}

struct Keep<B: HrmBackend> {
    good: Tensor<B, 1, Bool>,
    weights: BTreeMap<String, Tensor<B, 1>>,
}

impl<A: HrmAutodiffBackend> NamedMapper<A> for Keep<A::InnerBackend> {
    fn map<const D: usize>(&mut self, name: String, param: Param<Tensor<A, D>>) -> Param<Tensor<A, D>> {
        let Some(old) = self.weights.remove(&name) else { return param };
        param.map(|tensor| {
            let (shape, trains) = (tensor.shape(), tensor.is_require_grad());
            let new = either(&self.good, tensor.inner().reshape([shape.num_elements()]), old);
            Tensor::from_inner(new.reshape(shape)).set_require_grad(trains)
        })
    }
}

/// The skipped steps of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Skipped {
    /// All of them.
    pub total: u64,
    /// The last ones, without a good step between them.
    pub in_a_row: u64,
}

impl Skipped {
    /// Counts a step.
    pub fn count(&mut self, good: bool) {
        if good {
            self.in_a_row = 0;
        } else {
            self.total += 1;
            self.in_a_row += 1;
        }
    }
}

/// What to do about a run that gave up.
pub(crate) fn advice(steps: u64, step: u64, why: &str, diagnostics: Option<&PathBuf>) -> String {
    let look = diagnostics
        .map(|path| format!(" The state is in {0}: hrm inspect checkpoint {0}.", path.display()))
        .unwrap_or_default();
    format!(
        "{steps} steps in a row, up to step {step}, had a loss or gradients that are not finite: {why}. The weights are \
         those of before them.{look} Start a new run with a lower train.lr, a longer train.lr_warmup_steps, \
         train.grad_clip = 1 or model.forward_dtype = \"f32\"; resuming repeats the same steps"
    )
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

    #[test]
    fn a_good_step_ends_the_row() {
        let mut skipped = Skipped::default();
        for good in [false, false, true, false] {
            skipped.count(good);
        }
        assert_eq!(skipped, Skipped { total: 3, in_a_row: 1 });
    }
}
