//! `hrm train --workers` and `--devices`: who trains how much of each batch, and where.
//!
//! Over MPI, the command that the user gives becomes a launcher: it starts `mpirun` with itself as the program, passes
//! requests to stop on, and tells in plain words which worker failed. A program that finds itself started by `mpirun`
//! is a worker.

use std::path::Path;

use anyhow::{Result, bail};

use crate::backend::Name;

/// Options for several workers.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Several workers")]
pub struct Args {
    /// Share each batch among N processes on this machine, over MPI (cargo feature mpi); the steps stay those of one
    /// process. For several machines start the processes yourself: mpirun -n 8 --hostfile HOSTS hrm train --run-dir DIR
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "devices")]
    workers: Option<u16>,
    /// Share each batch among these GPUs of this machine, one worker each: over NCCL with --backend cuda (cargo feature
    /// nccl), else over MPI (cargo feature mpi). A single one: train on that GPU
    #[arg(long, value_name = "0,1,...", value_delimiter = ',')]
    devices: Vec<usize>,
    /// Over MPI: a worker that does not answer for so long counts as lost, and the run ends
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    worker_timeout: u64,
}

/// Who this process is.
#[derive(Debug)]
pub enum Role {
    /// It trains alone, on this device or the backend's own choice.
    Alone { device: Option<usize> },
    /// It starts this many workers over MPI.
    #[cfg(feature = "mpi")]
    Launcher { workers: usize },
    /// It is one of the workers that `mpirun` started.
    #[cfg(feature = "mpi")]
    Worker,
    /// It trains on these devices, with a thread for each.
    #[cfg(feature = "nccl")]
    Threads { devices: Vec<usize> },
}

/// How many processes `mpirun` started, if it started this one. Open MPI, and everything that speaks PMI.
fn started_by_mpirun() -> Option<usize> {
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].iter().find_map(|name| std::env::var(name).ok()?.parse().ok())
}

impl Args {
    /// The role of this process.
    pub fn role(&self, backend: Name, run_dir: Option<&Path>) -> Result<Role> {
        let mut sorted = self.devices.clone();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("--devices names {} twice; give each worker a device of its own", twice[0]);
        }
        if !self.devices.is_empty() && !backend.is_gpu() {
            bail!(
                "--devices: the backend {} has one device; share the processor with --workers N",
                backend.feature()
            );
        }
        if let Some(processes) = started_by_mpirun().filter(|processes| *processes > 1) {
            return self.role_of_process(processes, run_dir);
        }
        let workers = self.workers.map_or(self.devices.len(), usize::from);
        if workers <= 1 {
            return Ok(Role::Alone { device: self.devices.first().copied() });
        }
        #[cfg(feature = "nccl")]
        if backend == Name::Cuda && !self.devices.is_empty() {
            return Ok(Role::Threads { devices: self.devices.clone() });
        }
        several(workers, backend)
    }

    #[cfg(feature = "mpi")]
    fn role_of_process(&self, processes: usize, run_dir: Option<&Path>) -> Result<Role> {
        if run_dir.is_none() {
            bail!("under mpirun give --run-dir or --resume, so that all {processes} workers mean one folder");
        }
        if self.workers.is_some_and(|workers| usize::from(workers) != processes) {
            bail!("--workers: mpirun has started {processes} processes already; leave --workers out");
        }
        Ok(Role::Worker)
    }

    #[cfg(not(feature = "mpi"))]
    fn role_of_process(&self, processes: usize, _: Option<&Path>) -> Result<Role> {
        bail!(
            "mpirun has started {processes} processes, but this binary lacks the feature mpi and each would train alone; \
             build with --features mpi"
        )
    }
}

#[cfg(feature = "mpi")]
fn several(workers: usize, _: Name) -> Result<Role> {
    Ok(Role::Launcher { workers })
}

#[cfg(not(feature = "mpi"))]
fn several(workers: usize, backend: Name) -> Result<Role> {
    bail!(
        "{workers} workers need the feature mpi, which this binary lacks; install Open MPI and libclang (Debian: apt-get \
         install openmpi-bin libopenmpi-dev libclang-dev) and build with it: cargo run -p hrm-cli --features mpi -- train \
         ... --workers {workers}{}",
        match backend {
            Name::Cuda =>
                "; or, for the GPUs of one machine, with nccl: --no-default-features --features nccl",
            _ => "",
        }
    )
}

#[cfg(feature = "mpi")]
pub mod processes {
    //! Workers as processes over MPI.

    use std::{
        env, fs,
        io::{self, BufRead, BufReader, Write},
        os::unix::process::CommandExt,
        path::Path,
        process::{Command, ExitCode, Stdio},
        rc::Rc,
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicI32, Ordering},
        },
        thread,
        time::Duration,
    };

    use anyhow::{Context, Result, bail};
    use hrm_train::{
        distributed::{CollectiveError, mpi::Mpi},
        trainer::TrainError,
    };

    use super::Args;

    /// Set by the signal that `mpirun` passes on to its processes.
    static STOP: AtomicBool = AtomicBool::new(false);

    extern "C" fn on_stop_signal(_: libc::c_int) {
        STOP.store(true, Ordering::SeqCst);
    }

    impl Args {
        /// Joins the other workers, and takes this machine's cores in turn with them.
        pub fn join(&self) -> Result<(Rc<Mpi>, usize)> {
            let mpi = Rc::new(Mpi::start(Duration::from_secs(self.worker_timeout))?);
            let (place, neighbours) = mpi.place_on_this_machine();
            if env::var_os("RAYON_NUM_THREADS").is_none() {
                let cores = thread::available_parallelism().map_or(1, usize::from);
                let threads = (cores / neighbours).max(1);
                rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
            }
            Ok((mpi, place))
        }

        /// The device of the worker that is number `place` on its machine.
        pub fn device(&self, place: usize) -> Result<Option<usize>> {
            match self.devices.len() {
                0 => Ok(None),
                _ => match self.devices.get(place) {
                    Some(device) => Ok(Some(*device)),
                    None => bail!(
                        "--devices names {} GPUs, but this machine has at least {} workers; give each a GPU of its own",
                        self.devices.len(),
                        place + 1
                    ),
                },
            }
        }
    }

    /// Lets a worker stop after a step when the launcher (or `kill -USR1` on `mpirun`) says so.
    pub fn stop_on_signal(stop: Arc<AtomicBool>) {
        // SAFETY: the handler only stores into an atomic, which a signal handler may; it stays valid for the life of the
        // process.
        unsafe {
            let handler = on_stop_signal as extern "C" fn(libc::c_int);
            libc::signal(libc::SIGUSR1, handler as libc::sighandler_t);
        }
        thread::spawn(move || {
            loop {
                if STOP.load(Ordering::SeqCst) {
                    stop.store(true, Ordering::SeqCst);
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
    }

    /// Ends a worker whose training failed. An error that all workers have is told by worker 0 alone.
    pub fn fail(mpi: &Mpi, leads: bool, error: &anyhow::Error) -> ExitCode {
        let collective = error.chain().find_map(|cause| match cause.downcast_ref::<TrainError>() {
            Some(TrainError::Collective(collective)) => Some(collective.clone()),
            _ => None,
        });
        match collective {
            Some(CollectiveError::NotStarted { .. }) => return ExitCode::FAILURE,
            Some(
                CollectiveError::Differ { .. }
                | CollectiveError::Batch { .. }
                | CollectiveError::Identifiers { .. },
            ) if !leads => return ExitCode::FAILURE,
            // Worker 0 finds the same, writes it into the run's log and ends everybody: time for that.
            Some(CollectiveError::Lost { lost, .. }) if !leads && !lost.contains(&0) => {
                thread::sleep(Duration::from_secs(10));
            }
            _ => {}
        }
        crate::terminal::report_error(&crate::message(error));
        // The others may be waiting for this one.
        mpi.abort()
    }

    /// Starts this program again as `workers` processes, and watches over them. `name_it`: the command line does not name
    /// the run folder.
    pub fn launch(workers: usize, run_dir: &Path, name_it: bool) -> Result<ExitCode> {
        let program = env::current_exe().context("cannot find this program")?;
        let mut command = Command::new("mpirun");
        // Threads are shared out by the workers themselves; more workers than cores are slow, not wrong.
        command.args(["-n", &workers.to_string(), "--oversubscribe", "--bind-to", "none"]).arg(program);
        command.args(env::args_os().skip(1));
        if name_it {
            // The folder that was chosen here, not one that each worker finds free.
            command.arg("--run-dir").arg(run_dir);
        }
        // SAFETY: no arguments, and it cannot fail.
        if unsafe { libc::geteuid() } == 0 {
            // Open MPI refuses to start programs as root unless told twice; this one runs as root already.
            command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        }
        command.stderr(Stdio::piped()).stdin(Stdio::null());
        // Ctrl-C reaches the launcher alone, which asks for a clean stop: mpirun would kill its processes.
        command.process_group(0);
        #[cfg(target_os = "linux")]
        // SAFETY: prctl is async-signal-safe, and only sets a flag of the new process.
        unsafe {
            command.pre_exec(|| {
                // A killed launcher leaves no workers behind.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong);
                Ok(())
            });
        }
        let mut mpirun = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow::anyhow!(
                "mpirun is not installed; several workers need Open MPI (Debian: apt-get install openmpi-bin)"
            ),
            _ => anyhow::Error::new(error).context("cannot start mpirun"),
        })?;
        stop_on_ctrl_c(mpirun.id() as i32)?;
        let said = match mpirun.stderr.take() {
            Some(stderr) => pass_on(BufReader::new(stderr), &mut io::stderr())?,
            None => Vec::new(),
        };
        let status = mpirun.wait().context("cannot wait for mpirun")?;
        if status.success() {
            return Ok(ExitCode::SUCCESS);
        }
        let way_on = way_on(run_dir, workers);
        match said.iter().find_map(|banner| killed(banner)) {
            Some(killed) => bail!("{killed}; {way_on}"),
            // The worker has told its error.
            None if status.code() == Some(Mpi::ABORTED) => {
                note!("the workers have ended; {way_on}");
                Ok(ExitCode::FAILURE)
            }
            None if status.code() == Some(1) => Ok(ExitCode::FAILURE),
            None => bail!("the workers ended ({status}); {way_on}\n{}", said.join("\n")),
        }
    }

    /// How to go on after a failure.
    fn way_on(run_dir: &Path, workers: usize) -> String {
        let newest =
            hrm_train::checkpoint::list(&run_dir.join("checkpoints")).ok().and_then(|mut all| all.pop());
        let run = run_dir.display();
        match newest {
            Some((step, _)) => format!(
                "the run goes on from its checkpoint of step {step} with any number of workers: hrm train --resume {run} \
                 --workers {workers}"
            ),
            None => "the run had written no checkpoint yet (train.checkpoint_interval)".to_owned(),
        }
    }

    /// Copies lines, but for the boxes that `mpirun` draws around what it has to say: those are given back.
    fn pass_on(lines: impl BufRead, out: &mut impl Write) -> io::Result<Vec<String>> {
        let mut boxes = Vec::new();
        let mut inside: Option<String> = None;
        for line in lines.split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            let border = line.len() > 60 && line.bytes().all(|byte| byte == b'-');
            match (&mut inside, border) {
                (None, true) => inside = Some(String::new()),
                (Some(_), true) => boxes.extend(inside.take()),
                (Some(text), false) => {
                    text.push_str(&line);
                    text.push('\n');
                }
                (None, false) => writeln!(out, "{line}")?,
            }
        }
        boxes.extend(inside);
        Ok(boxes)
    }

    /// Who was killed, from "mpirun noticed that process rank 1 with PID 12 on node x exited on signal 9 (Killed)."
    fn killed(banner: &str) -> Option<String> {
        let words = banner.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, after) = words.split_once("process rank ")?;
        let (rank, after) = after.split_once(' ')?;
        let (_, node) = after.split_once(" on node ")?;
        let (node, signal) = node.split_once(" exited on ")?;
        Some(format!("worker {rank} on {node} was ended by {}", signal.trim_end_matches('.')))
    }

    /// The first Ctrl-C (or termination signal) asks the workers for a stop, the second one ends them.
    fn stop_on_ctrl_c(mpirun: i32) -> Result<()> {
        let times = AtomicI32::new(0);
        ctrlc::set_handler(move || {
            let signal = match times.fetch_add(1, Ordering::SeqCst) {
                0 => {
                    note!("\nstopping after this step, with a checkpoint (press Ctrl-C again to abort)");
                    libc::SIGUSR1
                }
                _ => libc::SIGTERM,
            };
            // SAFETY: a plain system call on the process that this one started and has not waited for yet.
            unsafe { libc::kill(mpirun, signal) };
        })
        .context("cannot watch for Ctrl-C")
    }

    /// An occupied run folder is told before any process starts.
    pub fn check_free(run_dir: &Path) -> Result<()> {
        if fs::exists(run_dir.join("config.toml")).unwrap_or(false) {
            let run = run_dir.display();
            bail!("{run} already holds a run; continue it with --resume {run}, or choose another --run-dir");
        }
        Ok(())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_mpirun_says_is_understood() {
            let dashes = "-".repeat(74);
            let text = format!(
                "step 1\n{dashes}\nmpirun noticed that process rank 2 with PID 0 on node here exited on signal 9 \
                 (Killed).\n{dashes}\nstep 2\n"
            );
            let mut out = Vec::new();
            let said = pass_on(text.as_bytes(), &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), "step 1\nstep 2\n");
            assert_eq!(killed(&said[0]).as_deref(), Some("worker 2 on here was ended by signal 9 (Killed)"));
            assert_eq!(killed("MPI_ABORT was invoked on rank 0"), None);
        }
    }
}
