//! Workers as threads, one for each CUDA device of this machine.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use burn::backend::{Cuda, cuda::CudaDevice};
use hrm_train::{
    distributed::{CollectiveError, Team, nccl::Nccl},
    recipe::ResolvedRecipe,
    trainer::{self, Observer, TrainError, TrainOptions, TrainSummary},
};

use crate::{EngineError, Name, backend};

/// CubeCL loads NCCL when it is first used, by the name that only its development package brings, and panics where it
/// is not there.
fn check_nccl() -> Result<(), EngineError> {
    let loads = |name: &std::ffi::CStr| {
        // SAFETY: the name ends with a null byte, and NCCL's initialisers run in this process in any case, a moment later.
        !unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY) }.is_null()
    };
    match (loads(c"libnccl.so"), loads(c"libnccl.so.2")) {
        (true, _) => Ok(()),
        (false, true) => Err(EngineError::Nccl(
            "NCCL is here as libnccl.so.2, but is loaded by the name libnccl.so: install libnccl-dev, or make a link of that \
             name in a folder of LD_LIBRARY_PATH",
        )),
        (false, false) => Err(EngineError::Nccl(
            "several CUDA devices need NCCL, and there is no libnccl.so on this machine: install libnccl2 and libnccl-dev from \
             NVIDIA's package repository, or add the folder that holds it to LD_LIBRARY_PATH; one device (--devices 0) needs \
             none",
        )),
    }
}

/// The CUDA devices of a machine that will train together.
#[derive(Debug)]
pub struct Devices(Vec<CudaDevice>);

/// Devices by their numbers.
///
/// # Errors
/// If one is not there, or NCCL is not.
pub fn devices(numbers: &[usize]) -> Result<Devices, EngineError> {
    backend::probe::<Cuda>(Name::Cuda)?;
    check_nccl()?;
    let devices =
        numbers.iter().map(|&index| backend::device::<Cuda>(Some(index))).collect::<Result<_, _>>()?;
    Ok(Devices(devices))
}

/// Trains on all devices; worker 0 is this thread. Where another worker fails alone, `report` tells why, and the process ends:
/// worker 0 would wait for it.
///
/// # Errors
/// As [`trainer::train_in_team`].
pub fn train(
    Devices(devices): Devices,
    options: TrainOptions,
    observer: &mut dyn Observer,
    report: fn(&str),
) -> Result<TrainSummary, TrainError> {
    for worker in 1..devices.len() {
        let devices = devices.clone();
        let (recipe, run_dir, stop) =
            (options.recipe.clone(), options.run_dir.clone(), Arc::clone(&options.stop));
        let resume = options.resume;
        thread::spawn(move || follow(worker, devices, (recipe, run_dir, resume, stop), report));
    }
    let team = Team::new(Rc::new(Nccl::<Cuda>::new(0, devices.clone())), devices[0].clone());
    trainer::train_in_team::<Cuda>(options, &devices[0], team, observer)
}

type Options = (ResolvedRecipe, PathBuf, bool, Arc<AtomicBool>);

/// Another worker's thread.
fn follow(worker: usize, devices: Vec<CudaDevice>, options: Options, report: fn(&str)) {
    let (recipe, run_dir, resume, stop) = options;
    let options = TrainOptions { recipe, run_dir, resume, stop };
    let device = devices[worker].clone();
    let team = Team::new(Rc::new(Nccl::<Cuda>::new(worker, devices)), device.clone());
    let train = || trainer::train_in_team::<Cuda>(options, &device, team, &mut ());
    match catch_unwind(AssertUnwindSafe(train)) {
        Ok(Ok(_) | Err(TrainError::Collective(CollectiveError::NotStarted { .. }))) => {}
        Ok(Err(error)) => {
            report(&format!("worker {worker} on device {device:?}: {error}"));
            process::exit(1);
        }
        // The message of the panic stands above already.
        Err(_) => {
            report(&format!("worker {worker} on device {device:?} crashed"));
            process::exit(101);
        }
    }
}
