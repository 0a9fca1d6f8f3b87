//! NCCL between the CUDA devices of one process, through Burn's `distributed` feature: one thread per device.

use burn::tensor::{
    Tensor, TensorPrimitive,
    backend::{
        DeviceOps,
        distributed::{DistributedBackend, ReduceOperation},
    },
};

use super::{Collective, CollectiveError};

/// One device's side.
#[derive(Debug, Clone)]
pub struct Nccl<B: DistributedBackend> {
    worker: usize,
    devices: Vec<B::Device>,
}

impl<B: DistributedBackend> Nccl<B> {
    /// Worker `worker` of as many as there are devices; it computes on `devices[worker]`. Each device's worker runs on
    /// a thread of its own, as the first sum waits until all have come.
    pub fn new(worker: usize, devices: Vec<B::Device>) -> Self {
        Self { worker, devices }
    }
}

impl<B: DistributedBackend> Collective<B> for Nccl<B> {
    fn worker(&self) -> usize {
        self.worker
    }

    fn workers(&self) -> usize {
        self.devices.len()
    }

    fn sum(&self, values: Tensor<B, 1>) -> Result<Tensor<B, 1>, CollectiveError> {
        let devices = self.devices.iter().map(DeviceOps::id).collect();
        let sum = B::all_reduce(values.into_primitive().tensor(), ReduceOperation::Sum, devices).resolve();
        Ok(Tensor::from_primitive(TensorPrimitive::Float(sum)))
    }
}
