//! The real machine: every part of the check is this program once more, as a process of its own.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    Gate, Kernels, Machine, Off, Outcome, SWITCHES, Speed, Tests, Trained, output::Log, pieces, plan::Plan,
    variables,
};
use crate::compare::{self, Memory, Worker};

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

/// A process, its output so far, and what it is called in the log.
#[derive(Debug)]
struct Running {
    who: String,
    child: Child,
    readers: [JoinHandle<Vec<String>>; 2],
    begin: Instant,
}

/// A process that has ended.
#[derive(Debug, Default)]
struct Done {
    /// Its standard output.
    lines: Vec<String>,
    /// Its standard error.
    errors: Vec<String>,
    /// Why it did not end well, if it did not.
    trouble: Option<String>,
    time: Duration,
}

impl Running {
    fn start(who: &str, mut command: Command, log: &Log) -> Result<Self> {
        // A group of its own, so that what it has started ends with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let output = child.stdout.take().context("no standard output")?;
        let errors = child.stderr.take().context("no standard error")?;
        let readers = [reader(output, who, log), reader(errors, who, log)];
        Ok(Self { who: who.to_owned(), child, readers, begin: Instant::now() })
    }

    /// Waits until it has ended, or ends it.
    fn finish(mut self, end: Instant) -> Done {
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(10)),
                _ => break None,
            }
        };
        let time = self.begin.elapsed();
        if status.is_none() {
            kill(&mut self.child);
        }
        let [lines, errors] = self.readers.map(|reader| reader.join().unwrap_or_default());
        let trouble = match status {
            None => Some(format!("was stopped after {:.0} s", time.as_secs_f64())),
            Some(status) => (!status.success()).then(|| ended(status)),
        };
        Done { lines, errors, trouble, time }
    }
}

fn ended(status: ExitStatus) -> String {
    format!("ended with {status}")
}

/// Ends a process and all that it has started.
fn kill(child: &mut Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let _ = child.kill();
    let _ = child.wait();
}

fn reader(stream: impl std::io::Read + Send + 'static, who: &str, log: &Log) -> JoinHandle<Vec<String>> {
    let (who, log) = (who.to_owned(), log.clone());
    thread::spawn(move || {
        let mut lines = Vec::new();
        for bytes in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&bytes).into_owned();
            log.line(&who, &line);
            lines.push(line);
        }
        lines
    })
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

    /// Starts PyTorch's side, and asks for all that it must compile for.
    fn start_pytorch(&mut self, python: &Path) -> Result<()> {
        let mut command =
            compare::pytorch(python, &self.root, Path::new(&self.weights()), "compile", true, true);
        command.current_dir(&self.work);
        let errors = fs::File::create(self.work.join("pytorch.log")).context("cannot write a log")?;
        command.stderr(errors);
        let mut worker = Worker::start(command, Memory::Host(0), Duration::ZERO)?;
        for workload in self.plan.workloads {
            worker.ask(workload)?;
            worker.ask(workload)?;
        }
        self.pytorch = Some(worker);
        Ok(())
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

    /// Our worker, warm; the checksum of each workload's first run; and what it needs on the GPU.
    fn ours(&self, off: Off, workloads: &[&str], limit: Duration) -> Result<(Worker, Vec<f64>, Option<u64>)> {
        let mut command = self.part(off, &["worker", &self.weights(), "--bf16"]);
        command.stderr(fs::File::create(self.work.join("worker.log")).context("cannot write a log")?);
        let before = compare::gpu_bytes();
        let mut worker = Worker::start(command, Memory::Host(0), limit)?;
        worker.ready()?;
        let mut checksums = Vec::new();
        for workload in workloads {
            checksums.push(worker.measure(workload)?.checksum);
            worker.measure(workload)?;
        }
        let grown = before.zip(compare::gpu_bytes()).map(|(before, now)| now.saturating_sub(before));
        Ok((worker, checksums, grown))
    }

    fn measure(&mut self, off: Off, limit: Duration) -> Result<Speed> {
        let over = compare::until(limit);
        let end = Instant::now() + limit;
        let left = || end.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        let mut speed = Speed::default();
        let (ours, checksums, bytes) = self.ours(off, self.plan.workloads, left())?;
        speed.names.push(ours.name.clone());
        speed.memory.push(bytes);
        let mut workers = vec![ours];
        // First what decides how long a training can be; meanwhile PyTorch may still compile.
        let training = (self.training.recipe.display().to_string(), self.training.sets.clone());
        self.step_seconds = self.recipe_step(off, &training, left(), &mut speed);
        if let Some(mut worker) = self.pytorch.take() {
            match warm(&mut worker, self.plan.workloads, left().mul_f64(0.6)) {
                Ok(its) => {
                    let others = self.bytes_before.zip(bytes).map(|(before, ours)| before + ours);
                    let now = compare::gpu_bytes();
                    speed.memory.push(others.zip(now).map(|(others, now)| now.saturating_sub(others)));
                    speed.names.push(worker.name.clone());
                    workers.push(worker);
                    for ((workload, ours), its) in self.plan.workloads.iter().zip(&checksums).zip(its) {
                        let same = compare::same(&workers, workload, &[*ours, its], true);
                        speed.notes.extend(same.err().map(|error| format!("{error:#}")));
                    }
                }
                Err(error) => speed.notes.push(format!("PyTorch: {error:#}")),
            }
        }
        for (index, workload) in self.plan.workloads.iter().enumerate() {
            workers.iter_mut().for_each(|worker| worker.be_patient(left() + Duration::from_secs(5)));
            if index == 0 || !over() {
                speed.rows.push(compare::rounds_of(&mut workers, workload, self.plan.rounds, &over)?);
            }
            if index == 0 {
                self.fallbacks(off, &over, left(), &mut speed);
            }
        }
        for (recipe, sets) in self.plan.recipes {
            let recipe = ((*recipe).to_owned(), sets.iter().map(|set| (*set).to_owned()).collect());
            match (recipe == training, over()) {
                (true, _) => {}
                (false, true) => self.log.line("speed", &format!("no time for {}", recipe.0)),
                (false, false) => _ = self.recipe_step(off, &recipe, left(), &mut speed),
            }
        }
        Ok(speed)
    }

    /// Seconds of a step of a recipe.
    fn recipe_step(
        &self,
        off: Off,
        (recipe, sets): &(String, Vec<String>),
        limit: Duration,
        speed: &mut Speed,
    ) -> Option<f64> {
        let done = self.run(&format!("warm-up {recipe}"), self.warm_up(off, recipe, sets), limit);
        let steps = last_json(&done.lines).filter(|_| done.trouble.is_none());
        let steps: Vec<f64> =
            steps.iter().flat_map(Value::as_array).flatten().filter_map(Value::as_f64).collect();
        if steps.len() < 3 {
            let why = done.trouble.unwrap_or_else(|| "said nothing".to_owned());
            let last = done.errors.last().map_or("", String::as_str);
            speed.notes.push(format!("the step of {recipe} ({why}: {last})"));
            return None;
        }
        // The first ones compile, the last number is an evaluation.
        let seconds = compare::median(steps[steps.len() / 2..steps.len() - 1].to_vec());
        speed.recipes.push((recipe.clone(), seconds));
        Some(seconds)
    }

    /// The first workload with each part switched off that is not.
    fn fallbacks(&self, off: Off, over: &impl Fn() -> bool, limit: Duration, speed: &mut Speed) {
        let Some(first) = self.plan.workloads.first() else { return };
        for (index, switch) in SWITCHES.iter().enumerate().take(self.plan.fallbacks) {
            if off[index] || over() {
                continue;
            }
            let without = std::array::from_fn(|i| off[i] || i == index);
            let seconds = self
                .ours(without, &[first], limit)
                .and_then(|(worker, ..)| compare::rounds_of(&mut [worker], first, 3, over));
            match seconds {
                Ok(row) => speed.fallbacks.push((switch.what.to_owned(), row.medians[0])),
                Err(error) => speed.notes.push(format!("without {}: {error:#}", switch.what)),
            }
        }
    }

    /// Programs that tell where time goes, in the order in which they are tried.
    fn profilers(&self) -> Vec<Profiler> {
        let find = |name: &str| {
            let path = env::var_os("PATH").unwrap_or_default();
            let folders = env::split_paths(&path).chain([PathBuf::from(TOOLKIT).join("bin")]);
            folders.map(|folder| folder.join(name)).find(|program| program.is_file())
        };
        let nsys = find("nsys").map(Profiler::Nsys);
        nsys.into_iter().chain(find("ncu").map(Profiler::Ncu)).chain([Profiler::Cubecl]).collect()
    }

    fn profile(
        &self,
        profiler: &Profiler,
        workload: &str,
        off: Off,
        limit: Duration,
    ) -> Result<Kernels, String> {
        let part = ["profile", &self.weights(), workload].map(str::to_owned);
        let report = self.work.join("profile");
        let _ = fs::remove_file(&report);
        let report_name = report.display().to_string();
        let mut command = match profiler {
            Profiler::Cubecl => Command::new(&self.program),
            Profiler::Nsys(program) => {
                let mut command = Command::new(program);
                command.args(["profile", "--trace", "cuda", "--sample", "none", "--cpuctxsw", "none"]);
                command.args(["--capture-range", "cudaProfilerApi", "--capture-range-end", "stop"]);
                command.args(["--force-overwrite", "true"]);
                command.args(["--output", &report_name]).arg(&self.program);
                command
            }
            Profiler::Ncu(program) => {
                let mut command = Command::new(program);
                command.args([
                    "--profile-from-start",
                    "off",
                    "--clock-control",
                    "none",
                    "--cache-control",
                    "none",
                ]);
                command.args(["--metrics", "gpu__time_duration.sum", "--csv", "--log-file", &report_name]);
                command.arg(&self.program);
                command
            }
        };
        command.args(part);
        self.set_up(&mut command, off);
        if *profiler != Profiler::Cubecl {
            command.arg("--mark");
        } else {
            command.env("CUBECL_DEBUG_LOG", &report).env("CUBECL_DEBUG_OPTION", "profile");
        }
        let done = self.run("profile", command, limit);
        if let Some(trouble) = done.trouble {
            let last = done.errors.last().map_or("", String::as_str);
            return Err(format!("{profiler}: {trouble}: {last}"));
        }
        let text = match profiler {
            Profiler::Nsys(program) => {
                let mut stats = Command::new(program);
                stats.args([
                    "stats",
                    "--report",
                    "cuda_gpu_kern_sum",
                    "--format",
                    "csv",
                    "--force-export",
                    "true",
                ]);
                stats.arg(format!("{report_name}.nsys-rep"));
                self.run("nsys stats", stats, limit).lines.join("\n")
            }
            _ => fs::read_to_string(&report).map_err(|error| format!("{profiler}: no report: {error}"))?,
        };
        let rows = match profiler {
            Profiler::Nsys(_) => csv_kernels(&text, "Name", "Total Time (ns)", Some("Instances"), None),
            Profiler::Ncu(_) => csv_kernels(&text, "Kernel Name", "Metric Value", None, Some("Metric Unit")),
            Profiler::Cubecl => cubecl_kernels(&text),
        };
        match rows.is_empty() {
            true => Err(format!("{profiler}: a report without kernels")),
            false => Ok(Kernels { by: profiler.to_string(), rows }),
        }
    }
}

/// Where CUDA lies if nothing says otherwise.
const TOOLKIT: &str = "/usr/local/cuda";

/// What can tell where time goes.
#[derive(Debug, PartialEq, Eq)]
enum Profiler {
    Nsys(PathBuf),
    Ncu(PathBuf),
    Cubecl,
}

impl std::fmt::Display for Profiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nsys(_) => "nsys",
            Self::Ncu(_) => "ncu",
            Self::Cubecl => "CubeCL (without cuBLASLt's products, and with a wait after each kernel)",
        })
    }
}

/// Waits for the answers to what PyTorch was asked at the start: checksums of the first runs.
fn warm(worker: &mut Worker, workloads: &[&str], limit: Duration) -> Result<Vec<f64>> {
    let end = Instant::now() + limit;
    let left = || end.saturating_duration_since(Instant::now());
    worker.be_patient(left());
    worker.ready()?;
    let mut checksums = Vec::new();
    for _ in workloads {
        worker.be_patient(left());
        checksums.push(worker.answer()?.checksum);
        worker.be_patient(left());
        worker.answer()?;
    }
    Ok(checksums)
}

fn last_json(lines: &[String]) -> Option<Value> {
    lines.iter().rev().find_map(|line| serde_json::from_str(line).ok())
}

/// What a process that ran tests has printed.
fn outcome(done: &Done) -> Outcome {
    let mut outcome = Outcome { time: done.time, ..Outcome::default() };
    let mut at = None;
    for line in &done.lines {
        if let Some(test) = line.strip_prefix("test ") {
            at = Some(test.to_owned());
        } else if let Some(test) = line.strip_prefix("passed ") {
            outcome.passed.push(test.to_owned());
            at = None;
        } else if let Some(test) = line.strip_prefix("failed ") {
            outcome.failed.push(test.to_owned());
            at = None;
        }
        let percent = line
            .contains("largest deviation")
            .then(|| line.split('%').next()?.split_whitespace().last()?.parse::<f64>().ok())
            .flatten();
        if let Some(percent) = percent {
            outcome.sets.0 += 1;
            outcome.sets.1 += usize::from(percent > 100.0 || percent.is_nan());
            if outcome.worst.as_ref().is_none_or(|(worst, _)| percent > *worst || percent.is_nan()) {
                let words: Vec<&str> = line.trim_start_matches("parity ").split_whitespace().collect();
                outcome.worst = Some((percent, words.join(" ")));
            }
        }
    }
    if let Some(trouble) = &done.trouble
        && (outcome.failed.is_empty() || at.is_some())
    {
        let at = at.map_or_else(String::new, |test| format!("{test}: "));
        outcome.unfinished = Some(format!("{at}{trouble}"));
    }
    outcome
}

/// Kernels of a table in CSV, which may have other lines before it.
fn csv_kernels(
    text: &str,
    name: &str,
    time: &str,
    count: Option<&str>,
    unit: Option<&str>,
) -> Vec<(String, usize, f64)> {
    let start = text.lines().take_while(|line| !(line.contains(name) && line.contains(time))).count();
    let table = text.lines().skip(start).collect::<Vec<_>>().join("\n");
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(table.as_bytes());
    let Ok(header) = reader.headers().cloned() else { return Vec::new() };
    let column = |name: &str| header.iter().position(|column| column == name);
    let mut sums: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for row in reader.records().map_while(Result::ok) {
        let cell = |name: &str| column(name).and_then(|column| row.get(column));
        let Some((name, seconds)) =
            cell(name).zip(cell(time).and_then(|cell| cell.replace(',', "").parse::<f64>().ok()))
        else {
            continue;
        };
        let scale = match unit.and_then(&cell) {
            Some("s" | "second") => 1.0,
            Some("ms" | "msecond") => 1e-3,
            Some("us" | "usecond") => 1e-6,
            _ => 1e-9,
        };
        let runs = count.and_then(&cell).and_then(|cell| cell.parse().ok()).unwrap_or(1);
        let sum = sums.entry(name.to_owned()).or_default();
        *sum = (sum.0 + runs, sum.1 + seconds * scale);
    }
    by_time(sums)
}

/// Kernels of the last summary in CubeCL's log.
fn cubecl_kernels(text: &str) -> Vec<(String, usize, f64)> {
    let mut sums = BTreeMap::new();
    for line in text.lines() {
        // A kernel's name has bars in it, too.
        let mut cells = line.trim().trim_matches('|').rsplitn(4, '|').map(str::trim);
        let (Some(share), Some(count), Some(time), Some(name)) =
            (cells.next(), cells.next(), cells.next(), cells.next())
        else {
            continue;
        };
        if name == "Name" {
            sums.clear();
        } else if let (Some(seconds), Ok(count)) = (duration(time), count.parse())
            && name != "Total"
            && share.ends_with('%')
        {
            sums.insert(name.to_owned(), (count, seconds));
        }
    }
    by_time(sums)
}

/// A duration as Rust prints it: `1.5ms`.
fn duration(text: &str) -> Option<f64> {
    [("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)]
        .iter()
        .find_map(|(unit, scale)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * scale))
}

fn by_time(sums: BTreeMap<String, (usize, f64)>) -> Vec<(String, usize, f64)> {
    let mut rows: Vec<_> = sums.into_iter().map(|(name, (count, seconds))| (name, count, seconds)).collect();
    rows.sort_by(|a, b| b.2.total_cmp(&a.2));
    rows
}

/// The course of a run, from its `metrics.jsonl`: some means of losses, and all evaluations.
fn course(metrics: &str, trained: &mut Trained) {
    const POINTS: usize = 12;
    let rows: Vec<Value> = metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let steps: Vec<&Value> = rows.iter().filter(|row| row["lm_loss"].is_number()).collect();
    for window in steps.chunks(steps.len().div_ceil(POINTS).max(1)) {
        let mean = |key: &str| {
            let values: Vec<f64> = window.iter().filter_map(|row| row[key].as_f64()).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let step = window.last().and_then(|row| row["step"].as_u64());
        if let (Some(step), Some(loss)) = (step, mean("lm_loss")) {
            trained.curve.push((step, loss, mean("exact_accuracy")));
        }
    }
    trained.evaluations.extend(
        rows.iter().filter_map(|row| Some((row["step"].as_u64()?, row["eval"]["exact_accuracy"].as_f64()?))),
    );
}

/// What is missing, in the words of somebody who can mend it.
fn explain(done: &Done) -> String {
    let trouble = done.trouble.as_deref().unwrap_or("said nothing");
    let text = done.errors.join("\n");
    let mentions = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let missing = if mentions(&["cuBLASLt"]) {
        "cuBLASLt does not multiply: install CUDA's libcublasLt, or `pip install nvidia-cublas`"
    } else if mentions(&["libnvrtc", "nvrtc library", "\"nvrtc\""]) {
        "NVRTC is missing: install CUDA's libnvrtc, or `pip install nvidia-cuda-nvrtc`, and name its folder in LD_LIBRARY_PATH"
    } else if mentions(&["cuda_runtime.h", "cuda_fp16.h", "cuda_bf16.h", "could not open source file"]) {
        "CUDA's headers are missing: expected cuda_fp16.h in $CUDA_PATH/include, by default /usr/local/cuda/include"
    } else if mentions(&["libcuda", "\"cuda\""]) {
        "there is no CUDA driver (libcuda.so)"
    } else {
        "the first product on the GPU failed"
    };
    let said: Vec<&str> = done.errors.iter().rev().take(3).rev().map(String::as_str).collect();
    format!("{missing} (the process {trouble}; it said: {})", said.join(" / "))
}

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
            format!("{:.0} TFLOP/s", found["tflops"].as_f64().unwrap_or(f64::NAN)),
        ));
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
        let mut trained = Trained {
            run: run.clone(),
            recipe: format!("{name}{changed}"),
            steps: (said["first_step"].as_u64().unwrap_or(0), *step),
            ending: done.trouble.map_or_else(
                || said["ending"].as_str().unwrap_or("unknown end").to_owned(),
                |trouble| format!("the process {trouble}, its newest checkpoint stays"),
            ),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn done(lines: &[&str], trouble: Option<&str>) -> Done {
        Done {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            trouble: trouble.map(str::to_owned),
            ..Done::default()
        }
    }

    #[test]
    fn outcomes_come_from_the_output() {
        let lines = [
            "test a",
            "parity a [cuda]  76 checks, largest deviation   3.5 % of allowed: x",
            "passed a",
            "test b",
            "parity b [cuda]  76 checks, largest deviation 112.0 % of allowed: y",
            "failed b",
        ];
        let got = outcome(&done(&lines, Some("ended with exit status: 1")));
        assert_eq!((got.passed, got.failed), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert_eq!((got.sets, got.unfinished), ((2, 1), None));
        assert!(got.worst.expect("two lines").1.starts_with("b [cuda]"));
        // A crash in the middle of a test is told with its name.
        let got = outcome(&done(&["test a", "passed a", "test b"], Some("was stopped after 75 s")));
        assert_eq!(got.unfinished.as_deref(), Some("b: was stopped after 75 s"));
    }

    #[test]
    fn kernels_are_added_up_whoever_measured_them() {
        let ncu = "==PROF== Connected\n\"ID\",\"Kernel Name\",\"Metric Name\",\"Metric Unit\",\"Metric Value\"\n\
                   \"0\",\"flash(a, b)\",\"gpu__time_duration.sum\",\"us\",\"1,000.5\"\n\
                   \"1\",\"norm\",\"gpu__time_duration.sum\",\"ns\",\"250\"\n\
                   \"2\",\"norm\",\"gpu__time_duration.sum\",\"us\",\"2\"\n";
        let rows = csv_kernels(ncu, "Kernel Name", "Metric Value", None, Some("Metric Unit"));
        assert_eq!(rows[0].0, "flash(a, b)");
        assert!((rows[0].2 - 1.0005e-3).abs() < 1e-9, "{rows:?}");
        assert_eq!((rows[1].1, (rows[1].2 * 1e9).round()), (2, 2250.0));
        let nsys = "Processing...\n\nTime (%),Total Time (ns),Instances,Name\n60.0,3000000,48,gemm\n40.0,2000000,8,\"f<a,b>\"\n";
        let rows = csv_kernels(nsys, "Name", "Total Time (ns)", Some("Instances"), None);
        assert_eq!(rows, [("gemm".to_owned(), 48, 3e-3), ("f<a,b>".to_owned(), 8, 2e-3)]);
        let cubecl = "| Name | Duration | Num Computed | Ratio |\n| old | 1s | 1 | 100 % |\n\
                      | 12.5µs     | norm\n\
                      | Name | Duration | Num Computed | Ratio |\n| norm | CudaRuntime  | 12.5µs | 2 | 20 % |\n| flash | 50µs | 1 | 80 % |\n\
                      | Total | 62.5µs | 3 | 100 % |\n";
        let rows = cubecl_kernels(cubecl);
        assert_eq!(
            rows.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(),
            ["flash", "norm | CudaRuntime"]
        );
        assert!((rows[1].2 - 12.5e-6).abs() < 1e-12 && rows[1].1 == 2);
    }

    #[test]
    fn a_course_is_means_and_evaluations() {
        let mut text = String::new();
        for step in 1..=120 {
            text += &format!("{{\"step\": {step}, \"lm_loss\": {}, \"exact_accuracy\": 0.5}}\n", 120 - step);
        }
        text += "{\"step\": 120, \"eval\": {\"exact_accuracy\": 0.25}}\nhalf a li";
        let mut trained = Trained::default();
        course(&text, &mut trained);
        assert_eq!(trained.curve.len(), 12);
        assert_eq!(trained.curve[0], (10, 114.5, Some(0.5)));
        assert_eq!(trained.evaluations, [(120, 0.25)]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let with = |error: &str| Done {
            errors: vec![error.to_owned()],
            trouble: Some("ended".into()),
            ..Done::default()
        };
        assert!(
            explain(&with("Unable to dynamically load the \"nvrtc\" shared library"))
                .contains("NVRTC is missing")
        );
        assert!(
            explain(&with("catastrophic error: cannot open source file \"cuda_fp16.h\"")).contains("headers")
        );
        assert!(
            explain(&with("Unable to dynamically load the \"cuda\" shared library"))
                .contains("no CUDA driver")
        );
        assert!(explain(&with("no cuBLASLt, or it does not take these operands")).contains("libcublasLt"));
        assert!(explain(&with("something else")).contains("something else"));
    }

    #[cfg(unix)]
    #[test]
    fn a_process_that_hangs_ends_with_all_it_started() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let output = super::super::output::Output::open(folder.path()).expect("opened");
        let mut command = Command::new("sh");
        // The sleeping child of the shell holds its output open.
        command.args(["-c", "echo begin; sleep 60 & sleep 60"]);
        let begin = Instant::now();
        let running = Running::start("test", command, output.log()).expect("sh starts");
        let done = running.finish(begin + Duration::from_millis(200));
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!(done.lines, ["begin"]);
        assert!(done.trouble.expect("it was stopped").starts_with("was stopped"));
        let log = fs::read_to_string(folder.path().join("log.txt")).expect("a log");
        assert_eq!(log, "test: begin\n");
    }
}
