use burn::{
    module::Module,
    tensor::{Tensor, TensorData, backend::Backend},
};

/// Cosine and sine tables of rotary positions (Su et al. 2021, arXiv 2104.09864), half-split layout: entry
/// `(p, i)` belongs to the angle `p theta^(-2 (i mod d/2) / d)`. fp32 in every forward type. They
/// are no parameters: a checkpoint does not hold them.
#[derive(Module, Debug)]
pub struct RotaryTables<B: Backend> {
    /// `[seq, head_dim]`
    pub cos: Tensor<B, 2>,
    /// `[seq, head_dim]`
    pub sin: Tensor<B, 2>,
}

impl<B: Backend> RotaryTables<B> {
    /// Tables for positions `0..seq`. Angles are computed in fp32, as the original does.
    pub fn new(seq: usize, head_dim: usize, theta: f64, device: &B::Device) -> Self {
        let half = head_dim / 2;
        let frequency = |i: usize| 1.0 / (theta as f32).powf((2 * i) as f32 / head_dim as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = (0..seq)
                .flat_map(|p| {
                    let row: Vec<f32> = frequencies.iter().map(|w| f(p as f32 * w)).collect();
                    [row.clone(), row].concat()
                })
                .collect();
            Tensor::from_data(TensorData::new(values, [seq, head_dim]), device)
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }
}
