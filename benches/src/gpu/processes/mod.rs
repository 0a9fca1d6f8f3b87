//! The real machine: every part of the check is this program once more, as a process of its own.

mod process;
mod profile;
mod read;
mod speed;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    Gate, Kernels, Machine, Off, Outcome, Speed, Tests, Trained, output::Log, pieces, plan::Plan, variables,
};
use crate::compare::{self, Worker};
use process::{Done, Running};
use read::{course, explain, last_json, outcome};

/// What is trained.
#[derive(Debug, Clone)]
pub struct Training {
    /// The recipe.
    pub recipe: PathBuf,
    /// What is changed in it.
    pub sets: Vec<String>,
    /// The folder with the pieces of a run to go on with.
    pub resume: Option<PathBuf>,
}

/// A machine and what runs on it.
#[derive(Debug)]
pub struct Processes {
    begin: Instant,
    plan: Plan,
    training: Training,
    /// This program.
    program: PathBuf,
    /// The source tree, or the part of it that was packed.
    root: PathBuf,
    /// Where everything runs.
    work: PathBuf,
    log: Log,
    /// Variables of the environment of all parts.
    variables: BTreeMap<String, String>,
    /// In use on the GPU before anything was started, in bytes.
    bytes_before: Option<u64>,
    pytorch: Option<Worker>,
    /// What compiles kernels that later stages need.
    preparations: Vec<Running>,
    /// Seconds of a step of what is trained.
    step_seconds: Option<f64>,
}

impl Processes {
    /// On this machine, in the folder `work`, with recipes and data below `root`.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new(plan: Plan, training: Training, root: &Path, work: &Path, log: Log) -> Result<Self> {
        let begin = Instant::now();
        fs::create_dir_all(work).with_context(|| format!("cannot create {}", work.display()))?;
        let work = fs::canonicalize(work).with_context(|| format!("cannot find {}", work.display()))?;
        let root = fs::canonicalize(root).with_context(|| format!("cannot find {}", root.display()))?;
        // CubeCL keeps compiled kernels where the nearest Cargo.toml is; recipes find their data in the current folder.
        fs::write(work.join("Cargo.toml"), "").context("cannot write a file")?;
        #[cfg(unix)]
        {
            let _ = fs::remove_file(work.join("datasets"));
            std::os::unix::fs::symlink(root.join("datasets"), work.join("datasets"))
                .context("cannot make a link")?;
        }
        let mut variables = BTreeMap::new();
        if root.join("parity").is_dir() {
            variables.insert("HRM_PARITY_DIR".to_owned(), root.join("parity").display().to_string());
        }
        let program = env::current_exe().context("cannot find this program")?;
        Ok(Self {
            begin,
            plan,
            training,
            program,
            root,
            work,
            log,
            variables,
            bytes_before: None,
            pytorch: None,
            preparations: Vec::new(),
            step_seconds: None,
        })
    }

    /// This program, doing a part.
    fn part(&self, off: Off, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args);
        self.set_up(&mut command, off);
        command
    }

    fn set_up(&self, command: &mut Command, off: Off) {
        command.current_dir(&self.work).envs(&self.variables).envs(variables(off));
    }

    fn run(&self, who: &str, command: Command, limit: Duration) -> Done {
        let end = Instant::now() + limit;
        match Running::start(who, command, &self.log) {
            Ok(running) => running.finish(end),
            Err(error) => Done { trouble: Some(format!("{error:#}")), ..Done::default() },
        }
    }

    fn weights(&self) -> String {
        self.work.join("weights.safetensors").display().to_string()
    }

    fn recipe(&self, recipe: &Path) -> String {
        self.root.join(recipe).display().to_string()
    }

    /// Takes some steps of a recipe.
    fn warm_up(&self, off: Off, recipe: &str, sets: &[impl AsRef<str>]) -> Command {
        let recipe = self.recipe(Path::new(recipe));
        let mut command = self.part(off, &["warm-up", "--config", &recipe]);
        sets.iter().for_each(|set| _ = command.args(["--set", set.as_ref()]));
        command
    }

    /// Says where the libraries are that Python's packages bring along.
    fn find_libraries(&mut self, python: &Path) {
        let find = "import glob, os, nvidia\nfor p in nvidia.__path__: print(*glob.glob(os.path.join(p, '*', 'lib')), sep='\\n')";
        let Ok(output) = Command::new(python).args(["-c", find]).stderr(Stdio::null()).output() else {
            return;
        };
        let mut folders: Vec<PathBuf> =
            env::var_os("LD_LIBRARY_PATH").map_or_else(Vec::new, |path| env::split_paths(&path).collect());
        for folder in String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()) {
            let toolkit = Path::new(folder).parent().unwrap_or(Path::new(folder));
            let has_headers = |root: &Path| root.join("include/cuda_fp16.h").exists();
            if env::var_os("CUDA_PATH").is_none() && has_headers(toolkit) && !has_headers(Path::new(TOOLKIT))
            {
                self.variables.insert("CUDA_PATH".to_owned(), toolkit.display().to_string());
            }
            folders.push(folder.into());
        }
        if let Ok(path) = env::join_paths(folders) {
            self.variables.insert("LD_LIBRARY_PATH".to_owned(), path.to_string_lossy().into_owned());
        }
    }
}

/// Where CUDA lies if nothing says otherwise.
const TOOLKIT: &str = "/usr/local/cuda";

impl Machine for Processes {
    fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    fn gate(&mut self, limit: Duration) -> Result<Gate, String> {
        self.bytes_before = compare::gpu_bytes();
        let python = compare::find_python(&compare::pythons(None));
        if let Some(python) = &python {
            self.find_libraries(python);
        }
        let (none, end) = (Off::default(), Instant::now() + limit);
        let sides = self.plan.product.map(|side| side.to_string());
        let gate = self.part(none, &["gate", &sides[0], &sides[1], &sides[2]]);
        // At the same time: the weights, which PyTorch's side waits for.
        let weights = self.part(none, &["worker", &self.weights(), "--bf16"]);
        let weights = Running::start("weights", weights, &self.log).map_err(|error| format!("{error:#}"))?;
        let done = self.run("gate", gate, limit);
        let weights = weights.finish(end);
        let found =
            last_json(&done.lines).filter(|_| done.trouble.is_none()).ok_or_else(|| explain(&done))?;
        let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader", "--id=0"];
        let smi = Command::new("nvidia-smi").args(query).stderr(Stdio::null()).output();
        let smi = smi.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        );
        let mut parts = smi.split(", ");
        let device = parts
            .next()
            .filter(|name| !name.is_empty())
            .map_or_else(|| found["device"].as_str().unwrap_or("unknown").to_owned(), str::to_owned);
        let mut facts: Vec<(String, String)> = ["driver", "memory"]
            .iter()
            .zip(parts)
            .map(|(what, text)| ((*what).to_owned(), text.to_owned()))
            .collect();
        let [m, k, n] = self.plan.product;
        facts.push((
            format!("cuBLASLt, bf16, {m} x {k} x {n}"),
            format!("{:.1} TFLOP/s", found["tflops"].as_f64().unwrap_or(f64::NAN)),
        ));
        if env::var_os("HRM_WITHOUT_GPU").is_some() {
            let what = "none: kernels are computed by the CPU (tools/cuda-without-gpu), times say nothing";
            facts.push(("GPU".to_owned(), what.to_owned()));
        }
        match (&python, &weights.trouble) {
            (None, _) => {
                facts.push(("PyTorch".to_owned(), "no Python with torch (set HRM_PYTHON)".to_owned()))
            }
            (Some(_), Some(trouble)) => return Err(format!("the weights to compare with: {trouble}")),
            (Some(python), None) => {
                facts.push(("Python".to_owned(), python.display().to_string()));
                self.start_pytorch(python).map_err(|error| format!("PyTorch: {error:#}"))?;
            }
        }
        if self.plan.prepares {
            for workload in self.plan.workloads.iter().take(2) {
                let command = self.part(none, &["profile", &self.weights(), workload]);
                self.preparations.extend(Running::start(&format!("prepare {workload}"), command, &self.log));
            }
            for (recipe, sets) in self.plan.recipes {
                let command = self.warm_up(none, recipe, sets);
                self.preparations.extend(Running::start(&format!("prepare {recipe}"), command, &self.log));
            }
        }
        Ok(Gate { device, facts, vulkan: found["vulkan"].as_bool().unwrap_or(false) })
    }

    fn test(&mut self, tests: &[Tests], off: Off, limit: Duration) -> Vec<Outcome> {
        let end = Instant::now() + limit;
        let running: Vec<_> = tests
            .iter()
            .map(|tests| {
                let mut command = self.part(off, &["tests", tests.backend, &tests.group]);
                command.args(&tests.only);
                Running::start(&format!("{} on {}", tests.group, tests.backend), command, &self.log)
            })
            .collect();
        let finish = |running: Result<Running>| match running {
            Ok(running) => outcome(&running.finish(end)),
            Err(error) => Outcome { unfinished: Some(format!("{error:#}")), ..Outcome::default() },
        };
        // Each is waited for by a thread of its own, which sees when it ends.
        thread::scope(|scope| {
            let waiting: Vec<_> =
                running.into_iter().map(|running| scope.spawn(move || finish(running))).collect();
            waiting.into_iter().map(|thread| thread.join().expect("a thread that only waits")).collect()
        })
    }

    fn speed(&mut self, off: Off, limit: Duration) -> Result<Speed, String> {
        for running in self.preparations.drain(..) {
            let who = running.who.clone();
            if let Some(trouble) = running.finish(Instant::now()).trouble {
                self.log.line(&who, &trouble);
            }
        }
        let result = self.measure(off, limit).map_err(|error| format!("{error:#}"));
        for name in ["pytorch.log", "worker.log"] {
            let text = fs::read_to_string(self.work.join(name)).unwrap_or_default();
            text.lines().for_each(|line| self.log.line(name, line));
        }
        result
    }

    fn kernels(&mut self, off: Off, limit: Duration) -> Result<Kernels, String> {
        let end = Instant::now() + limit;
        let workload = self.plan.workloads.first().copied().unwrap_or_default();
        let mut errors = Vec::new();
        for profiler in self.profilers() {
            let left = end.saturating_duration_since(Instant::now());
            match self.profile(&profiler, workload, off, left) {
                Ok(kernels) => return Ok(kernels),
                Err(error) => errors.push(error),
            }
        }
        Err(errors.join("; "))
    }

    fn train(&mut self, off: Off, limit: Duration) -> Result<Trained, String> {
        let run = self.work.join("run");
        let mut sets = self.training.sets.clone();
        if run.exists() {
            fs::remove_dir_all(&run).map_err(|error| format!("cannot remove {}: {error}", run.display()))?;
        }
        // The last step, its checkpoint, and the end of the process.
        let grace = Duration::from_secs(5).min(limit / 4);
        let asked = limit - grace;
        let planned = |set: &String| set.starts_with("train.max_steps") || set.starts_with("train.epochs");
        let mut changed = String::new();
        match (&self.training.resume, self.step_seconds) {
            (Some(from), _) => {
                pieces::unpack(from, &run).map_err(|error| format!("{error:#}"))?;
                sets.retain(|set| !self.plan.train.1.contains(&set.as_str()));
            }
            // A schedule that ends when the time does; evaluations take some of it.
            (None, Some(seconds)) if !sets.iter().any(planned) => {
                let steps = (0.85 * asked.as_secs_f64() / seconds).max(1.0) as u64;
                sets.push(format!("train.max_steps={steps}"));
            }
            (None, _) => {}
        }
        if !sets.is_empty() {
            changed = format!(" with {}", sets.join(", "));
        }
        let recipe = self.recipe(&self.training.recipe);
        let seconds = format!("{:.0}", asked.as_secs_f64().floor());
        let folder = run.display().to_string();
        let mut command = self.part(off, &["train", "--run-dir", &folder, "--seconds", &seconds]);
        match self.training.resume {
            Some(_) => command.arg("--resume"),
            None => command.args(["--config", &recipe]),
        };
        sets.iter().for_each(|set| _ = command.args(["--set", set]));
        let done = self.run("train", command, limit);
        let said = last_json(&done.lines).unwrap_or_default();
        let checkpoints = hrm_train::checkpoint::list(&run.join("checkpoints")).unwrap_or_default();
        let Some((step, _)) = checkpoints.iter().max() else {
            let why = done.trouble.unwrap_or_else(|| "ended without a checkpoint".to_owned());
            return Err(format!("{why}: {}", done.errors.last().map_or("", String::as_str)));
        };
        let name = match self.training.resume {
            Some(_) => "A run goes on".to_owned(),
            None => format!("`{}`", self.training.recipe.display()),
        };
        let last = done.errors.last().map_or("", String::as_str);
        let first = said["first_step"].as_u64().unwrap_or(0);
        let trouble = match done.trouble {
            Some(trouble) => Some(format!("the process {trouble}: {last}")),
            None if *step <= first => Some(format!("no step was done: the run was at step {first} before")),
            None => None,
        };
        let mut trained = Trained {
            run: run.clone(),
            recipe: format!("{name}{changed}"),
            steps: (first, *step),
            ending: said["ending"].as_str().unwrap_or("its newest checkpoint stays").to_owned(),
            trouble,
            ..Trained::default()
        };
        course(&fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default(), &mut trained);
        Ok(trained)
    }

    fn pack(&mut self, run: &Path, most: usize) -> Result<(Vec<u8>, Option<String>), String> {
        let whole = pieces::archive(run).map_err(|error| format!("{error:#}"))?;
        if whole.len() <= most {
            return Ok((whole, None));
        }
        let megabytes = |bytes: usize| format!("{:.0} MB", bytes as f64 / 1e6);
        let checkpoints = run.join("checkpoints");
        let newest = hrm_train::checkpoint::list(&checkpoints).map_err(|error| error.to_string())?;
        let Some((_, newest)) = newest.into_iter().max() else {
            return Err("no checkpoint".to_owned());
        };
        let small = self.work.join("weights-bf16.safetensors");
        let model = newest.join("model.safetensors").display().to_string();
        let command = self.part(Off::default(), &["weights", &model, &small.display().to_string()]);
        let done = self.run("weights", command, self.plan.closing);
        if done.trouble.is_some() {
            return Err(format!("its weights cannot be written in bf16: {}", done.errors.join(" / ")));
        }
        let weights =
            pieces::archive_of_file(&small, "model.safetensors").map_err(|error| format!("{error:#}"))?;
        match weights.len() <= most {
            true => {
                let word = format!(
                    "The whole state ({}) is more than {}: these are its weights alone, in bf16, a file for train.init_from.",
                    megabytes(whole.len()),
                    megabytes(most)
                );
                Ok((weights, Some(word)))
            }
            false => Err(format!(
                "the state ({}) and its weights in bf16 ({}) are more than {}",
                megabytes(whole.len()),
                megabytes(weights.len()),
                megabytes(most)
            )),
        }
    }
}
