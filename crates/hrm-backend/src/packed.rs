//! Weights in the layout of the kernels, kept as long as the weights live: a recurrence uses the same ones again and again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use burn::tensor::{Bytes, TensorMetadata};
use burn_flex::FlexTensor;
use hrm_kernels::{GroupWeight, PackedBf16, PackedGateUp, PackedGateUpBf16, PackedMatrix};

/// Weights of linear layers.
pub static LINEAR: Packed<PackedMatrix> = Packed::new();
/// The same rounded to bfloat16.
pub static LINEAR_BF16: Packed<PackedBf16> = Packed::new();
/// Fused gate and up weights.
pub static GATE_UP: Packed<PackedGateUp> = Packed::new();
/// The same rounded to bfloat16.
pub static GATE_UP_BF16: Packed<PackedGateUpBf16> = Packed::new();
/// Weights of blocks that mix by groups, by precision.
pub static GROUP: [Packed<GroupWeight>; 2] = [Packed::new(), Packed::new()];

/// Packed copies of weights, by the buffer that holds the weight.
///
/// A weak reference to the buffer keeps its address from being used again, and makes whoever changes the values in
/// place move them to a new buffer first (`Arc::make_mut`). So the same address with a living owner means the same
/// values, and an entry whose owner is gone is dropped when the next weight comes.
pub struct Packed<P> {
    entries: Mutex<Option<HashMap<Key, Entry<P>>>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    buffer: usize,
    start: usize,
    shape: [usize; 2],
}

struct Entry<P> {
    owner: Weak<Bytes>,
    packed: Arc<P>,
}

impl<P> Packed<P> {
    const fn new() -> Self {
        Self { entries: Mutex::new(None) }
    }

    /// The packed copy of a contiguous weight, made by `pack(rows, columns)` if there is none yet.
    pub fn of(&self, weight: &FlexTensor, pack: impl FnOnce(usize, usize) -> P) -> Arc<P> {
        let owner = weight.data_arc();
        let shape @ [rows, columns] = weight.shape().dims();
        let key = Key { buffer: Arc::as_ptr(&owner).addr(), start: weight.layout().start_offset(), shape };
        let known = self.with(|entries| {
            let entry = entries.get(&key).filter(|entry| entry.owner.strong_count() > 0);
            entry.map(|entry| entry.packed.clone())
        });
        if let Some(packed) = known {
            return packed;
        }
        // Not under the lock: packing runs on the threads that may ask for another weight.
        let packed = Arc::new(pack(rows, columns));
        self.with(|entries| {
            entries.retain(|_, entry| entry.owner.strong_count() > 0);
            entries.insert(key, Entry { owner: Arc::downgrade(&owner), packed: packed.clone() });
        });
        packed
    }

    fn with<R>(&self, f: impl FnOnce(&mut HashMap<Key, Entry<P>>) -> R) -> R {
        // Entries are whole even if a thread panicked: each is inserted at once.
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        f(entries.get_or_insert_default())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Shape, TensorData};

    use super::*;

    #[test]
    fn copies_follow_their_weights() {
        let packed: Packed<f32> = Packed::new();
        let len = || packed.with(|entries| entries.len());
        let first =
            |weight: &FlexTensor| *packed.of(weight, |_, _| weight.as_slice::<f32>().expect("f32")[0]);
        let weight = |value: f32| FlexTensor::from_data(TensorData::new(vec![value; 6], Shape::new([2, 3])));

        let mut a = weight(1.0);
        assert_eq!(first(&a), 1.0);
        assert_eq!(*packed.of(&a.clone(), |_, _| unreachable!("known already")), 1.0);
        // In place, as an optimizer does: the buffer moves, so the old copy is not found.
        a.storage_mut::<f32>()[0] = 2.0;
        assert_eq!(first(&a), 2.0);
        assert_eq!(len(), 1, "the copy of the old values is dropped");
        let b = weight(3.0);
        assert_eq!((first(&b), first(&a), len()), (3.0, 2.0, 2));
        drop(a);
        assert_eq!((first(&weight(4.0)), first(&b)), (4.0, 3.0));
        assert_eq!(first(&weight(5.0)), 5.0);
        assert_eq!(len(), 2, "b and the last one");
    }

    #[test]
    fn views_of_one_buffer_differ() {
        let packed: Packed<f32> = Packed::new();
        let values: Vec<f32> = (0..12_u8).map(f32::from).collect();
        let whole = FlexTensor::from_data(TensorData::new(values, Shape::new([4, 3])));
        let first =
            |weight: &FlexTensor| *packed.of(weight, |_, _| weight.as_slice::<f32>().expect("f32")[0]);
        assert_eq!(first(&whole), 0.0);
        assert_eq!(first(&whole.narrow(0, 2, 2)), 6.0);
        assert_eq!(first(&whole.narrow(0, 0, 2)), 0.0);
        assert_eq!(packed.with(|entries| entries.len()), 3);
    }
}
