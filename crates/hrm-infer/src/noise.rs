//! Noise in the state of a model: a pure function of a seed and a key, the same on every backend.
//!
//! Drawing a state afresh for every sequence and step would take longer on the host than a GPU takes for the segment. So
//! the device keeps one table of random vectors, and the noise of a position is the sum of two of them over √2, picked on
//! the host by a stream of the key: mean 0, standard deviation 1, 16 million different vectors.

use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};
use hrm_data::random::{Purpose, below, stream};
use hrm_model::{Hrm, InitState, State, init::Initializer};

/// Vectors in the table.
const ROWS: usize = 4096;

/// A place in the sequence of random states: equal keys give equal noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Which chain: an attempt in inference, a slot in training.
    pub chain: u64,
    /// When: segments run in inference, steps in training.
    pub step: u64,
}

impl Key {
    /// The place of the initial state rather than of noise.
    const fn initial(self) -> Self {
        Self { chain: self.chain | 1 << 63, step: self.step }
    }
}

/// Where noise comes from.
#[derive(Debug, Clone)]
pub struct Noise<B: Backend> {
    seed: u64,
    /// `[ROWS, hidden]`
    table: Tensor<B, 2>,
    total_len: usize,
    dtype: DType,
}

impl<B: Backend> Noise<B> {
    /// The noise of a seed for a model's states, on the model's device.
    pub fn new(model: &Hrm<B>, seed: u64) -> Self {
        let config = model.config();
        let mut rng = stream(seed, Purpose::StateNoise, u64::MAX, u64::MAX);
        // Truncated, as the fixed initial states and those of EqR are.
        let values = Initializer::random(&mut rng).trunc_normal(1.0, ROWS * config.hidden_size);
        let values = TensorData::new(values, [ROWS, config.hidden_size]);
        Self {
            seed,
            table: Tensor::from_data(values, &model.device()),
            total_len: config.total_len(),
            dtype: config.forward_dtype.into(),
        }
    }

    /// Standard normal states, one for each key, in the model's type.
    pub fn states(&self, keys: &[Key]) -> State<B> {
        let positions = keys.len() * self.total_len;
        let mut picks: [Vec<i32>; 4] = std::array::from_fn(|_| Vec::with_capacity(positions));
        for key in keys {
            let mut rng = stream(self.seed, Purpose::StateNoise, key.chain, key.step);
            for _ in 0..self.total_len {
                picks.iter_mut().for_each(|picks| picks.push(below(&mut rng, ROWS as u32) as i32));
            }
        }
        let [a, b, c, d] = picks.map(|picks| self.rows(picks));
        let state = |one: Tensor<B, 2>, other: Tensor<B, 2>| {
            let [_, hidden] = one.dims();
            let sum = (one + other) * std::f64::consts::FRAC_1_SQRT_2;
            sum.reshape([keys.len(), self.total_len, hidden]).cast(self.dtype)
        };
        State { z_h: state(a, b), z_l: state(c, d) }
    }

    /// A state with noise of a standard deviation for each row: `[batch]`, 0 for none.
    pub fn add_to(&self, state: State<B>, keys: &[Key], deviations: &[f32]) -> State<B> {
        if deviations.iter().all(|deviation| *deviation == 0.0) {
            return state;
        }
        let noise = self.states(keys);
        let device = self.table.device();
        let scale = Tensor::<B, 1>::from_data(TensorData::new(deviations.to_vec(), [keys.len()]), &device);
        let scale = scale.cast(self.dtype).reshape([keys.len(), 1, 1]);
        State { z_h: state.z_h + noise.z_h * scale.clone(), z_l: state.z_l + noise.z_l * scale }
    }

    /// Where new sequences start: at random, one for each key, or at the model's fixed vectors, as its configuration says.
    ///
    /// Of several chains on a puzzle (slot `puzzle * chains + chain`), all but the first get another vector for `z_l` where
    /// the states are fixed.
    pub fn initial_states(&self, model: &Hrm<B>, keys: &[Key], chains: usize) -> State<B> {
        if model.config().init_state == InitState::Random {
            let keys: Vec<Key> = keys.iter().map(|key| key.initial()).collect();
            return self.states(&keys);
        }
        let State { z_h, z_l } = model.initial_state(keys.len());
        if chains == 1 {
            return State { z_h, z_l };
        }
        let [slots, len, hidden] = z_l.dims();
        let others = self.table.clone().narrow(0, 0, chains - 1).cast(self.dtype);
        let first = model.l_init.val().cast(self.dtype).reshape([1, hidden]);
        let vectors = Tensor::cat(vec![first, others], 0).reshape([1, chains, 1, hidden]);
        let z_l = vectors.expand([slots / chains, chains, len, hidden]).reshape([slots, len, hidden]);
        State { z_h, z_l }
    }

    fn rows(&self, picks: Vec<i32>) -> Tensor<B, 2> {
        let shape = [picks.len()];
        let index = Tensor::<B, 1, Int>::from_data(TensorData::new(picks, shape), &self.table.device());
        self.table.clone().select(0, index)
    }
}
