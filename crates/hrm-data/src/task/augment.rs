//! Augmentation on the fly: the sample of (seed, epoch, example) is the same on any machine and any number of threads.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::AnyTask;
use crate::dataset::{Metadata, widen};
use crate::random::{Purpose, stream};

/// How examples are varied in training.
#[derive(Clone, Debug, Default)]
pub enum Augmentation {
    /// Examples as they are.
    #[default]
    None,
    /// Examples go through random symmetries of their task.
    Task(AnyTask),
    /// What a saved sampler applied. It is good for comparing only.
    Saved(Value),
}

impl Augmentation {
    /// What stands for it in a saved state.
    fn words(&self) -> Value {
        match self {
            Self::None => None,
            Self::Task(task) => task.augmentation(),
            Self::Saved(words) => Some(words.clone()),
        }
        .unwrap_or_else(|| json!({ "kind": "none" }))
    }

    /// What keeps it from being applied to a dataset, in words.
    pub(crate) fn obstacle(&self, metadata: &Metadata) -> Option<String> {
        let Self::Task(task) = self else {
            return matches!(self, Self::Saved(_))
                .then(|| "a saved augmentation cannot be applied".to_owned());
        };
        let (seq_len, vocab) = (task.seq_len(), task.vocab_size());
        let fits = metadata.seq_len == seq_len && metadata.vocab_size >= vocab;
        (!fits).then(|| {
            format!(
                "symmetries of a {task} need seq_len {seq_len} and vocab_size {vocab}, the dataset has {} and {}",
                metadata.seq_len, metadata.vocab_size
            )
        })
    }

    /// Whether hints may be given to what it makes.
    pub(crate) fn allows_hints(&self) -> bool {
        match self {
            Self::Task(task) => task.takes_hints(),
            _ => true,
        }
    }

    /// Whether givens keep the rules, as far as they are known.
    pub(crate) fn could_give(&self, input: &[i32]) -> bool {
        let tokens = || input.iter().map(|&token| token as u8).collect::<Vec<_>>();
        match self {
            Self::Task(task) => task.check_givens(&tokens()).is_ok(),
            _ => true,
        }
    }

    /// Writes the sample (`seed`, `epoch`, `example`) of an input and its label. All slices have the same length.
    pub(crate) fn apply(
        &self,
        (seed, epoch, example): (u64, u64, u64),
        (input, label): (&[u8], &[u8]),
        (input_out, label_out): (&mut [i32], &mut [i32]),
    ) {
        match self {
            Self::Task(task) => {
                let mut rng = stream(seed, Purpose::Augmentation, epoch, example);
                task.augment(&mut rng, (input, label), (input_out, label_out));
            }
            _ => {
                widen(input, input_out);
                widen(label, label_out);
            }
        }
    }
}

impl PartialEq for Augmentation {
    fn eq(&self, other: &Self) -> bool {
        self.words() == other.words()
    }
}

impl Eq for Augmentation {}

impl Serialize for Augmentation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.words().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Augmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::Saved)
    }
}
