//! The same model in PyTorch, in one run, turn by turn: the second half of `cargo xtask bench`.

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser};
use hrm_benches::{
    compare::{self, Memory, Worker},
    root, worker,
};

#[global_allocator]
static ALLOCATOR: hrm_backend::TensorAllocator = hrm_backend::TensorAllocator::new();

/// Kind and sizes: sequences for those of the model, `[m, k] x [n, k]^T` for products.
const WORKLOADS: [&str; 8] = [
    "act_step/1",
    "act_step/32",
    "solve/1",
    "training_step/32",
    "block/32",
    "product/82/512/1536",
    "product/2624/512/3072",
    "product/2624/1536/512",
];

/// How long a workload may take once; torch.compile may need minutes for its first.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The command line.
#[derive(Debug, Parser)]
enum Task {
    /// Compare, and write a dated record to docs/benchmarks.
    Compare(Compare),
    /// Answer one side's requests.
    Worker {
        /// Where the weights go.
        weights: PathBuf,
        /// Compute in bfloat16.
        #[arg(long)]
        bf16: bool,
    },
}

#[derive(Debug, Args)]
struct Compare {
    /// The Python to compare with; by default $HRM_PYTHON, then python3, if it has torch.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Measurements of each workload on each side; medians are compared.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Workloads to compare, for example act_step/1,training_step/32.
    #[arg(long, value_delimiter = ',', default_values_t = WORKLOADS.map(str::to_owned))]
    workloads: Vec<String>,
    /// Compute in bfloat16 on both sides.
    #[arg(long)]
    bf16: bool,
    /// Leave out torch.compile, whose compilation takes minutes.
    #[arg(long)]
    no_compile: bool,
    /// Without a Python that has torch, say how to get one, and be content.
    #[arg(long)]
    or_nothing: bool,
}

fn main() -> Result<()> {
    match Task::parse() {
        Task::Worker { weights, bf16 } => {
            worker::serve(&weights, bf16).map_err(|error| anyhow::anyhow!("{error}"))
        }
        Task::Compare(args) => compare(&args),
    }
}

fn compare(args: &Compare) -> Result<()> {
    let candidates = compare::pythons(args.python.as_deref());
    let Some(python) = compare::find_python(&candidates) else {
        if args.or_nothing {
            println!(
                "\nno Python with torch found: the comparison with PyTorch is left out. To get it: \
                 python3 -m venv V; V/bin/pip install torch numpy; cargo xtask bench --python V/bin/python"
            );
            return Ok(());
        }
        let tried: Vec<_> = candidates.iter().map(|python| python.display().to_string()).collect();
        bail!("no Python with torch: tried {}; install it with `pip install torch numpy`", tried.join(", "));
    };
    let folder = env::temp_dir().join(format!("hrm-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let result = record(args, &python, &folder.join("weights.safetensors"));
    let _ = fs::remove_dir_all(&folder);
    let record = result?;
    println!("\n{record}");
    let path = compare::record_path("pytorch")?;
    fs::write(&path, record).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

fn record(args: &Compare, python: &std::path::Path, weights: &std::path::Path) -> Result<String> {
    let on_gpu = cfg!(feature = "cuda");
    let memory = if on_gpu { Memory::Gpu(0) } else { Memory::Host(0) };
    let mut ours = Command::new(env::current_exe().context("cannot find this program")?);
    ours.arg("worker").arg(weights).args(args.bf16.then_some("--bf16"));
    let mut workers = vec![Worker::start(ours, memory, PATIENCE)?];
    workers[0].ready()?;
    for mode in if args.no_compile { &["eager"][..] } else { &["eager", "compile"] } {
        let mut theirs = compare::pytorch(python, &root(), weights, mode, on_gpu, args.bf16);
        // As many threads on each side.
        theirs.env("OMP_NUM_THREADS", workers[0].threads.to_string());
        let mut worker = Worker::start(theirs, memory, PATIENCE)?;
        worker.ready()?;
        workers.push(worker);
    }
    let mut rows = Vec::new();
    for workload in &args.workloads {
        println!("{workload}");
        rows.push(compare::interleaved(&mut workers, workload, args.rounds, args.bf16)?);
    }
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    Ok(format!(
        "# The same model in PyTorch, {}\n\n`cargo xtask bench --only pytorch --rounds {}{}{}` at commit {}; {}, {} \
         threads{}; HRM 27M on 9x9 Sudoku, {}.\nMedians of {} measurements, the sides in turn. A ratio above 1 means \
         that ours is faster.\n\n{}",
        compare::date(),
        args.rounds,
        if on_gpu { " --cuda" } else { "" },
        if args.bf16 { " --bf16" } else { "" },
        compare::commit(),
        cpu.trim_start_matches([' ', '\t', ':']),
        workers[0].threads,
        if on_gpu { " and its GPU" } else { "" },
        if args.bf16 { "bf16" } else { "fp32" },
        args.rounds,
        compare::table(&workers, 1, &rows, None),
    ))
}
