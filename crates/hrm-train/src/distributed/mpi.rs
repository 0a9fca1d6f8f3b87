//! MPI between processes, on one machine or many: one process per worker, started by `mpirun`.
//!
//! A sum goes through the host's memory, so that it works with every backend. Open MPI watches the processes: if one
//! is killed, it names it and ends the others. A process that lives but does not answer is found by a time limit here.

use std::{
    ffi::c_int,
    fmt,
    mem::ManuallyDrop,
    thread,
    time::{Duration, Instant},
};

use ::mpi::{
    Threading,
    collective::SystemOperation,
    environment::Universe,
    ffi,
    request::StaticScope,
    topology::SimpleCommunicator,
    traits::{AsRaw, Communicator, Destination, Equivalence, Source},
};
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

use super::{Collective, CollectiveError};

/// Tag of the messages by which workers find out who is still there.
const ROLL_CALL: i32 = 7;
/// How long a roll call waits: workers begin to wait for each other within less than this.
const ROLL_CALL_TIME: Duration = Duration::from_secs(5);
/// The content of a roll call.
static HERE: u8 = 1;

/// MPI as this process sees it.
pub struct Mpi {
    world: SimpleCommunicator,
    time_limit: Duration,
    /// Ends MPI when dropped.
    _universe: Universe,
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (worker, workers) = (self.world.rank(), self.world.size());
        f.debug_struct("Mpi").field("worker", &worker).field("workers", &workers).finish_non_exhaustive()
    }
}

impl Mpi {
    /// Joins the processes that `mpirun` started with this one. A worker that does not answer for `time_limit` counts
    /// as lost.
    ///
    /// # Errors
    /// If MPI cannot be started in this process, or was already.
    pub fn start(time_limit: Duration) -> Result<Self, CollectiveError> {
        let (universe, level) = ::mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| CollectiveError::Engine("MPI was already started in this process".to_owned()))?;
        if level < Threading::Serialized {
            return Err(CollectiveError::Engine(format!(
                "this MPI supports threads only at the level {level:?}; a worker needs Serialized"
            )));
        }
        Ok(Self { world: universe.world(), time_limit, _universe: universe })
    }

    /// This worker, counted from 0, and how many there are.
    pub fn worker_of(&self) -> (usize, usize) {
        (self.rank(), self.world.size() as usize)
    }

    /// The place of this worker among those on this machine, counted from 0, and how many they are.
    pub fn place_on_this_machine(&self) -> (usize, usize) {
        let machine = self.world.split_shared(self.world.rank());
        (machine.rank() as usize, machine.size() as usize)
    }

    /// The exit code of `mpirun` after [`abort`](Self::abort): that a worker has told its error, and ended the others.
    pub const ABORTED: i32 = 70;

    /// Ends the processes of all workers at once. A worker that failed alone calls it: the others may be waiting.
    pub fn abort(&self) -> ! {
        self.world.abort(Self::ABORTED)
    }

    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn sum_of(&self, values: Vec<f32>) -> Result<Vec<f32>, CollectiveError> {
        let count = c_int::try_from(values.len()).map_err(|_| {
            CollectiveError::Engine(format!("{} values are more than one MPI message holds", values.len()))
        })?;
        // Not freed while MPI may still use them, which it may after an early return.
        let mut sum = ManuallyDrop::new(vec![0.0; values.len()]);
        let values = ManuallyDrop::new(values);
        let mut done: c_int = 0;
        // SAFETY: MPI is initialised and lives as long as `self`. Both buffers have `count` fp32 numbers, and neither
        // moves nor is freed before the operation is complete (`ManuallyDrop`). The communicator lives in `self`, type
        // and operation are MPI's own constants.
        let mut request = unsafe {
            let mut request = ffi::RSMPI_REQUEST_NULL;
            ffi::MPI_Iallreduce(
                values.as_ptr().cast(),
                sum.as_mut_ptr().cast(),
                count,
                f32::equivalent_datatype().as_raw(),
                SystemOperation::sum().as_raw(),
                self.world.as_raw(),
                &mut request,
            );
            request
        };
        let start = Instant::now();
        loop {
            // SAFETY: `request` is the operation started above, and still active.
            unsafe { ffi::MPI_Test(&mut request, &mut done, ffi::RSMPI_STATUS_IGNORE) };
            if done != 0 {
                drop(ManuallyDrop::into_inner(values));
                return Ok(ManuallyDrop::into_inner(sum));
            }
            let waited = start.elapsed();
            if waited > self.time_limit {
                let (worker, lost) = (self.rank(), self.roll_call());
                return Err(CollectiveError::Lost { worker, lost, seconds: waited.as_secs() });
            }
            // Each test also moves data along: rest only where the others are clearly not there yet.
            match waited < Duration::from_millis(200) {
                true => thread::yield_now(),
                false => thread::sleep(Duration::from_micros(100)),
            }
        }
    }

    /// Tells every worker that this one is here, and gives those that say nothing. Everybody who waits in vain does
    /// the same at about the same time.
    fn roll_call(&self) -> Vec<usize> {
        let mut missing: Vec<usize> =
            (0..self.world.size() as usize).filter(|&other| other != self.rank()).collect();
        for &other in &missing {
            let process = self.world.process_at_rank(other as i32);
            // Never waited for: the receiver may be gone, and this process soon ends.
            std::mem::forget(process.immediate_send_with_tag(StaticScope, &HERE, ROLL_CALL));
        }
        let start = Instant::now();
        while !missing.is_empty() && start.elapsed() < ROLL_CALL_TIME {
            match self.world.any_process().immediate_probe_with_tag(ROLL_CALL) {
                Some(status) => {
                    let rank = status.source_rank();
                    self.world.process_at_rank(rank).receive_with_tag::<u8>(ROLL_CALL);
                    missing.retain(|&other| other != rank as usize);
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
        missing
    }
}

impl<B: Backend> Collective<B> for Mpi {
    fn worker(&self) -> usize {
        self.rank()
    }

    fn workers(&self) -> usize {
        self.world.size() as usize
    }

    fn sum(&self, values: Tensor<B, 1>) -> Result<Tensor<B, 1>, CollectiveError> {
        let (device, shape) = (values.device(), values.dims());
        let values = values.into_data().convert::<f32>().into_vec::<f32>();
        let values = values.map_err(|error| CollectiveError::Engine(format!("{error:?}")))?;
        let sum = self.sum_of(values)?;
        Ok(Tensor::from_data(TensorData::new(sum, shape), (&device, DType::F32)))
    }
}
