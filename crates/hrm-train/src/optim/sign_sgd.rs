use burn::tensor::{Int, Tensor};
use hrm_backend::{HrmBackend, ops};
use serde::{Deserialize, Serialize};

/// Sign SGD for the puzzle embedding: only the rows that a batch used move or decay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignSgd {
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl SignSgd {
    /// `p = p (1 - lr wd) - lr sign(g)` for each row in `identifiers`, once per distinct identifier, with the
    /// gradients of its duplicates summed.
    ///
    /// # Shapes
    /// - `table`, output: `[identifiers, ndim]`; `identifiers`: `[batch]`; `grads`: `[batch, ndim]`
    pub fn step<B: HrmBackend>(
        &self,
        lr: f64,
        table: Tensor<B, 2>,
        identifiers: Tensor<B, 1, Int>,
        grads: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let [batch] = identifiers.dims();
        let device = identifiers.device();
        let shape = [batch, batch];
        let same = identifiers
            .clone()
            .unsqueeze_dim::<2>(1)
            .expand(shape)
            .equal(identifiers.clone().unsqueeze_dim::<2>(0).expand(shape))
            .float();
        let summed = ops::product(same.clone(), grads);
        // Every duplicate computes the same new row; only the first one writes it.
        let earlier = same * Tensor::<B, 2>::ones(shape, &device).tril(-1);
        let is_first = earlier.sum_dim(1).equal_elem(0.0).float(); // [batch, 1]
        let rows = table.clone().select(0, identifiers.clone());
        let new = rows.clone() * (1.0 - lr * self.weight_decay) - summed.sign() * lr;
        let change = (new - rows) * is_first;
        table.select_assign(0, identifiers, change, burn::tensor::IndexingUpdateOp::Add)
    }
}
