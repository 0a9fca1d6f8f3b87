//! Checkpoints of a run.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use burn::backend::Autodiff;
use hrm_backend::HrmBackend;
use hrm_model::{Hrm, act::Carry};

use super::{Journal, TrainError, Trainer};
use crate::{
    checkpoint::{self, Retention, Snapshot},
    optim::trained_weights,
};

impl<B: HrmBackend> Trainer<B> {
    /// Writes the checkpoint of the step, unless it has been written. It holds what is known of an evaluation in the
    /// background, so that is waited for first.
    pub(super) fn save(&mut self, journal: &mut Journal<'_>) -> Result<PathBuf, TrainError> {
        if let Some((step, path)) = &self.saved
            && *step == self.step
        {
            return Ok(path.clone());
        }
        self.wait_for_evaluation(journal)?;
        let path = self.save_to(&journal.run.checkpoints(), journal)?;
        self.saved = Some((self.step, path.clone()));
        Ok(path)
    }

    pub(super) fn save_to(&self, folder: &Path, journal: &mut Journal<'_>) -> Result<PathBuf, TrainError> {
        let (model, carries) = self.state();
        // Workers that drifted apart would train on, each another model.
        if !self.team.is_alone() {
            self.team.agree("the weights", fingerprint(model))?;
        }
        let train = &self.recipe.train;
        let carry = match train.checkpoint_carry {
            true => {
                let gathered = carries.iter().map(|carry| self.team.gather_carry(carry.clone()));
                Some(Carry::cat(gathered.collect::<Result<_, _>>()?))
            }
            false => None,
        };
        if !self.team.leads() {
            return Ok(folder.join(checkpoint::folder_name(self.step)));
        }
        // Rows that a checkpoint counts on are on the disk before it.
        let metrics = journal.run.flush()?;
        let snapshot = Snapshot {
            step: self.step,
            recipe: &self.recipe.to_toml(),
            model,
            optimizer: &self.optimizer,
            ema: self.ema.as_ref(),
            carry: carry.as_ref(),
            sampler: self.sampler.state(),
            progress: &self.progress,
            metrics,
            moments: train.checkpoint_moments,
        };
        let retention = Retention { newest: train.keep_checkpoints, every: train.keep_every };
        let path = checkpoint::save(folder, snapshot, retention)?;
        journal.run.log(&format!("step {} checkpoint {}", self.step, path.display()))?;
        Ok(path)
    }
}

/// A number that differs if any weight does, but for a coincidence.
fn fingerprint<B: HrmBackend>(model: &Hrm<Autodiff<B>>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for weight in trained_weights(model).into_values() {
        weight.into_data().as_bytes().hash(&mut hasher);
    }
    hasher.finish()
}
