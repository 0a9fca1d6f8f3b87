//! Trial and error in training: what `hrm solve --guesses` does, with a label to tell a wrong guess. Learning from the model's own wrong
//! commitments is the idea of the lattice deduction transformer (LDT); here the state goes on as well.

use burn::tensor::{Bool, DType, Int, Tensor, activation};
use hrm_backend::HrmBackend;
use hrm_model::{ModelConfig, act::Carry, loss::IGNORE_LABEL};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Which value a puzzle that ends unsolved is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commitment {
    /// That of the label.
    Right,
    /// The likeliest one that is not.
    Wrong,
}

impl Commitment {
    /// That of a step, a function of the seed and the step; `None` with the chance `1 - probability`.
    pub fn of_step(probability: f64, seed: u64, step: u64) -> Option<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Exploration has the streams from 0 on.
        rng.set_stream(!step);
        let commits = probability > 0.0 && rng.random_bool(probability);
        let right = rng.random_bool(0.5);
        commits.then_some(if right { Self::Right } else { Self::Wrong })
    }

    /// Puts a value into the cell of some halted rows whose second value is the likeliest, and lets them go on from where they are, at step 0.
    /// Rows without an open cell stay as they are.
    ///
    /// # Shapes
    /// - `logits`: `[batch, seq_len, vocab_size]`; `rows`: `[batch]`
    pub(super) fn go_on<B: HrmBackend>(
        self,
        config: &ModelConfig,
        carry: Carry<B>,
        logits: Tensor<B, 3>,
        rows: Tensor<B, 1, Bool>,
    ) -> Carry<B> {
        let Some(structure) = &config.structure else { return carry };
        let (first, values) = (structure.first_value, config.values());
        let Carry { state, steps, halted, mut batch } = carry;
        let [_, cells] = batch.inputs.dims();
        let device = batch.inputs.device();
        let weights = activation::softmax(logits.narrow(2, first, values).cast(DType::F32), 2);
        let (_, likeliest) = weights.clone().max_dim_with_indices(2);
        let of_node = Tensor::<B, 1, Int>::arange(0..values as i64, &device).reshape([1, 1, values]);
        let is_likeliest = of_node.expand(weights.shape()).equal(likeliest.clone().expand(weights.shape()));
        let (chance, second) = weights.mask_fill(is_likeliest, -1.0).max_dim_with_indices(2);
        let given = batch.inputs.clone().greater_equal_elem(first as i64);
        let closed = given.bool_or(batch.labels.clone().equal_elem(IGNORE_LABEL));
        let (chance, cell) = chance.squeeze_dim::<2>(2).mask_fill(closed, -1.0).max_dim_with_indices(1);
        let rows = rows.bool_and(chance.squeeze_dim::<1>(1).greater_equal_elem(0.0));
        let at = |values: Tensor<B, 2, Int>| values.gather(1, cell.clone());
        let token = |value: Tensor<B, 3, Int>| at(value.squeeze_dim::<2>(2) + first as i64);
        let (label, likeliest, second) = (at(batch.labels.clone()), token(likeliest), token(second));
        let value = match self {
            Self::Right => label,
            Self::Wrong => likeliest.clone().mask_where(likeliest.equal(label), second),
        };
        let shape = batch.inputs.shape();
        let place = Tensor::<B, 1, Int>::arange(0..cells as i64, &device).unsqueeze_dim::<2>(0);
        let chosen = place.expand(shape.clone()).equal(cell.expand(shape.clone()));
        let chosen = chosen.bool_and(rows.clone().unsqueeze_dim::<2>(1).expand(shape.clone()));
        batch.inputs = batch.inputs.mask_where(chosen, value.expand(shape));
        Carry {
            state,
            steps: steps.mask_fill(rows.clone(), 0),
            halted: halted.bool_and(rows.bool_not()),
            batch,
        }
    }
}
