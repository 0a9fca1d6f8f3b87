//! What the trainer adds to a step: the data, what the recipe says about it, where random states come from.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicBool, Ordering},
};

use burn::tensor::{Int, Tensor, TensorData};
use hrm_backend::HrmBackend;
use hrm_data::dataset::Batch;
use hrm_infer::{evaluate::Workers, noise::Key, to_device};
use hrm_model::{Hrm, ModelError};

use super::{Puzzles, TrainError, Trainer, pending::PendingStep, supervision::Evidence};
use crate::{
    recipe::{Recipe, ResolvedRecipe},
    step::{Commitment, Done, Guard, Step, StepSettings, chains, curriculum, exploration, noise},
};

impl<B: HrmBackend> Trainer<B> {
    pub(super) fn one_step(&mut self, stop: &AtomicBool) -> Result<PendingStep<B>, TrainError> {
        self.step += 1;
        let settings = self.settings();
        let chains = settings.chains;
        let device = self.model().device();
        // The whole batch on every worker: drawing is cheap, and the sampler stands at the same place for all.
        let size = self.size_at(self.step);
        let batch = self.sampler.next_batch(size);
        if !self.agreed {
            self.agree(&batch)?;
        }
        let batch = batch.slice(self.team.rows(batch.rows));
        let batch = chains::spread(to_device(&batch, &device), chains);
        let min_steps = self.exploration(&device).map(|steps| chains::spread_steps(steps, chains));
        let (model, mut carries) = self.state.take().expect("only a step takes the state, and gives it back");
        let model = on_size(model, &self.sizes[size]);
        let carry = carries.pop_front().expect("each batch has a carry");
        let carry = match &self.noise {
            None => carry,
            Some(source) => {
                let train = &self.recipe.train;
                let own = self.team.rows(train.global_batch_size * chains);
                let keys: Vec<Key> = own.map(|slot| Key { chain: slot as u64, step: self.step }).collect();
                let deviation = train.state_noise as f32;
                noise::admit(source, &model.inner(), carry, batch.clone(), &keys, (chains, deviation))
            }
        };
        let guard = self.guard();
        let evidence =
            (guard == Guard::Read).then(|| Evidence { carry: carry.clone(), batch: batch.clone() });
        let step = Step {
            settings,
            optimizer: &mut self.optimizer,
            sign_sgd: self.sign_sgd,
            team: &self.team,
            guard,
            stop: stop.load(Ordering::SeqCst),
        };
        let Done { model, carry, metrics, vitals, skipped, stop } =
            step.run(model, carry, batch, min_steps)?;
        let model = on_size(model, &self.sizes[0]);
        self.evidence = evidence.filter(|_| skipped == Some(true));
        if let Some(ema) = &mut self.ema {
            ema.update(self.step, &model);
        }
        carries.push_back(carry);
        self.state = Some((model, carries));
        Ok(PendingStep {
            step: self.step,
            epoch: self.step as f64 / self.sampler.batches_per_epoch(),
            lr: settings.lr,
            puzzle_emb_lr: settings.puzzle_emb_lr,
            metrics,
            vitals,
            skipped,
            stop,
        })
    }

    /// Makes sure before the first step that all workers train the same; `batch` is the whole one of that step.
    fn agree(&mut self, batch: &Batch) -> Result<(), TrainError> {
        let set = self.recipe.differences(&ResolvedRecipe::from_recipe(Recipe::default()));
        self.team.agree("the recipe", hash(&set))?;
        self.team.agree("the step", self.step)?;
        self.team
            .agree("the training data", hash(&(&batch.inputs, &batch.labels, &batch.puzzle_identifiers)))?;
        self.agreed = true;
        Ok(())
    }

    /// What the recipe says about the step.
    fn settings(&self) -> StepSettings {
        let train = &self.recipe.train;
        StepSettings {
            loss: train.loss_settings(),
            global_batch: train.global_batch_size,
            accumulate: train.accumulate,
            chains: train.chains,
            commitment: Commitment::of_step(train.commit_prob, train.seed, self.step),
            cycles: curriculum::cycles(&train.curriculum, self.step, self.schedule.total_steps),
            grad_clip: (train.grad_clip > 0.0).then_some(train.grad_clip),
            lr: self.schedule.rate(train.lr, self.step),
            puzzle_emb_lr: self.schedule.rate(train.puzzle_emb_lr, self.step),
        }
    }

    /// Minimum numbers of segments of this worker's slots, see [`exploration`].
    fn exploration(&self, device: &B::Device) -> Option<Tensor<B, 1, Int>> {
        let train = &self.recipe.train;
        let (all, at) = (train.global_batch_size, (train.seed, self.step));
        let own = self.team.rows(all);
        let draws = exploration::min_steps(self.model().config(), train.fixed_steps, at, all, own)?;
        let count = draws.len();
        Some(Tensor::from_data(TensorData::new(draws, [count]).convert::<B::IntElem>(), device))
    }
}

/// The model on puzzles of a size, tried when the run started.
pub(super) fn on_size<B: HrmBackend>(model: Hrm<B>, puzzles: &Puzzles) -> Hrm<B> {
    try_size(model, puzzles).expect("tried when the run started")
}

/// The model on puzzles of a size: itself, if that is its own.
pub(super) fn try_size<B: HrmBackend>(model: Hrm<B>, puzzles: &Puzzles) -> Result<Hrm<B>, ModelError> {
    let (vocab_size, seq_len, structure) = puzzles;
    let config = model.config();
    if (config.vocab_size, config.seq_len, &config.structure) == (*vocab_size, *seq_len, structure) {
        return Ok(model);
    }
    model.on_puzzle(*vocab_size, *seq_len, structure.clone())
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
