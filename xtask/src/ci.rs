//! `cargo xtask ci`: everything that must pass before a change lands.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{Cmd, root, target_dir},
    web,
};

/// Features of `hrm-cli` that must compile although this machine may not be able to run them; with the network and without.
const CHECKED_BACKENDS: [&str; 4] = ["ndarray", "wgpu", "vulkan", "cuda,download"];

/// A package whose build script downloads a prebuilt LLVM: with it in the tree, the build needs the internet.
const DOWNLOADS_LLVM: &str = "tracel-llvm-bundler";

/// The tests with numbers of the original.
const PARITY_TESTS: &str = "--test parity --test components";

/// The crates whose tests are generic over the backend.
const GENERIC: &str = "-p hrm-backend -p hrm-model -p hrm-infer -p hrm-train";

/// One step: a name and what it does.
struct Step {
    name: String,
    action: Action,
}

enum Action {
    Run(Cmd),
    /// Fails if the command's output names this package.
    MustNotContain(Cmd, &'static str),
}

impl Step {
    fn run(name: impl Into<String>, cmd: Cmd) -> Self {
        Self { name: name.into(), action: Action::Run(cmd) }
    }

    fn execute(&self) -> Result<()> {
        match &self.action {
            Action::Run(cmd) => cmd.run(),
            Action::MustNotContain(cmd, package) => {
                if cmd.output()?.contains(package) {
                    bail!("`{cmd}` finds {package}, which cannot be built without the internet");
                }
                Ok(())
            }
        }
    }

    fn cmd(&self) -> &Cmd {
        match &self.action {
            Action::Run(cmd) | Action::MustNotContain(cmd, _) => cmd,
        }
    }
}

/// Runs all steps and prints how long each took; stops at the first that fails.
pub fn run(all_backends: bool, all: bool) -> Result<()> {
    let vulkan_driver = all_backends.then(software_vulkan).transpose()?;
    // It compiles Burn again, with other features: not in the plain run.
    let mpi = all_backends && (find_open_mpi() || install_open_mpi()?);
    let mut steps = steps(all_backends, vulkan_driver.as_deref(), mpi);
    match web::can_be_tested() {
        Ok(()) => steps.push(Step::run("web demo", Cmd::cargo("xtask web --debian --test"))),
        Err(error) => println!("SKIPPED: the web demo is neither built nor tested: {error:#}"),
    }
    if all {
        steps.extend(thorough());
    }
    let mut done: Vec<(&str, Duration)> = Vec::new();
    let start = Instant::now();
    for (index, step) in steps.iter().enumerate() {
        println!("\n== {}/{} {}: {}", index + 1, steps.len(), step.name, step.cmd());
        let start = Instant::now();
        let result = step.execute();
        println!("== {}: {:.1} s", step.name, start.elapsed().as_secs_f64());
        done.push((&step.name, start.elapsed()));
        if let Err(error) = result {
            print_summary(&done, Some(&error));
            bail!("step `{}` failed; repeat it with\n    {}", step.name, step.cmd());
        }
    }
    print_summary(&done, None);
    println!("all passed in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn print_summary(done: &[(&str, Duration)], error: Option<&anyhow::Error>) {
    println!("\n{:<44} {:>9}", "step", "seconds");
    for (index, (name, time)) in done.iter().enumerate() {
        let failed = error.is_some() && index + 1 == done.len();
        let mark = if failed { "  FAILED" } else { "" };
        println!("{name:<44} {:>9.1}{mark}", time.as_secs_f64());
    }
}

/// The steps, cheapest first. With all backends, NCCL is compiled as well; with Open MPI, several workers train over it; with
/// a Vulkan driver, the backend tests also run on ndarray and Vulkan at the end.
fn steps(all_backends: bool, vulkan_driver: Option<&Path>, mpi: bool) -> Vec<Step> {
    let mut steps = vec![
        Step::run("format", Cmd::cargo("fmt --all --check")),
        Step::run("clippy", Cmd::cargo("clippy --workspace --all-targets -- -D warnings")),
        Step::run("docs", Cmd::cargo("doc --no-deps --workspace").env("RUSTDOCFLAGS", "-D warnings")),
    ];
    if has_cargo_deny() {
        steps.push(Step::run(
            "licences and sources of dependencies",
            Cmd::cargo("deny check bans licenses sources"),
        ));
    }
    for backend in CHECKED_BACKENDS {
        steps.push(Step {
            name: format!("no prebuilt LLVM in the tree of {backend}"),
            action: Action::MustNotContain(
                Cmd::cargo(&format!(
                    "tree --package hrm-cli --no-default-features --features {backend} --prefix none"
                )),
                DOWNLOADS_LLVM,
            ),
        });
    }
    // With the schema of recipes, so that a stale one fails.
    let features = "--features hrm-train/schema";
    steps.push(Step::run("tests and doc tests", Cmd::cargo(&format!("test --workspace {features}"))));
    let parity = root().join("../shared/parity");
    if parity.is_dir() {
        steps.push(Step::run(
            "parity with ../shared/parity",
            Cmd::cargo(&format!("test --workspace {features} {PARITY_TESTS} -- --nocapture parity"))
                .env("HRM_PARITY_DIR", parity.display().to_string()),
        ));
    }
    for backend in CHECKED_BACKENDS {
        steps.push(Step::run(
            format!("check {backend}"),
            Cmd::cargo(&format!("check --package hrm-cli --no-default-features --features {backend}")),
        ));
    }
    if all_backends {
        // Another set of Burn's features, so Burn is checked again. Needs neither a GPU nor NVIDIA's libraries.
        steps.push(Step::run(
            "check nccl",
            Cmd::cargo("check --package hrm-cli --no-default-features --features nccl"),
        ));
    }
    if mpi {
        steps.push(Step::run(
            "several workers over MPI",
            Cmd::cargo("test --package hrm-cli --features mpi --bin hrm --test workers"),
        ));
    }
    // Whoever turns fusion on finds nothing to mend first.
    steps.push(Step::run(
        "check cuda with fusion: tests and benches",
        Cmd::cargo(&format!("check {GENERIC} -p hrm-benches --features cuda,fusion --tests --bins")),
    ));
    if let Some(driver) = vulkan_driver {
        // The crates whose tests are generic over the backend; the program itself would take as long again to build. One set of
        // features for both steps, so that Burn compiles once.
        let features = "--features ndarray,vulkan,cuda";
        let with_fixtures = |cmd: Cmd| match parity.is_dir() {
            true => cmd.env("HRM_PARITY_DIR", parity.display().to_string()),
            false => cmd,
        };
        let tests = format!("test {GENERIC} {features} --tests --no-fail-fast -- --nocapture --skip cuda::");
        let cmd = Cmd::cargo(&tests)
            .env("VK_DRIVER_FILES", driver.display().to_string())
            .env("VK_ICD_FILENAMES", driver.display().to_string());
        steps.push(Step::run("backend tests on ndarray and Vulkan", with_fixtures(cmd)));
        if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            let tests = "--test functions --test ops --test library --test uploads --test components --test parity --no-fail-fast";
            let cmd = Cmd::cargo(&format!(
                "test {GENERIC} {features} {tests} -- cuda:: --nocapture --test-threads 1"
            ));
            let script = root().join("tools/cuda-without-gpu/run.sh");
            let runner = format!("{} --compute", script.display());
            let cmd = cmd
                .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner.clone())
                .env("HRM_MATMUL_KERNEL", "cublas");
            steps.push(Step::run("CUDA's kernels, computed by the CPU", with_fixtures(cmd)));
            // All that `gpu-check` does on a GPU, a little of each.
            let results = target_dir().join("gpu-check/dry").display().to_string();
            let check = |args: &[&str]| {
                Cmd::cargo("run -p hrm-benches --bin gpu-check --features vulkan,cuda,hrm-backend/ndarray --")
                    .args(["--plan", "dry", "--seconds", "1800", "--out", &results])
                    .args(args.iter().copied())
                    .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner.clone())
                    .env("HRM_MATMUL_KERNEL", "cublas")
            };
            let half = check(&["--set", "train.stop_after=2"]);
            steps.push(Step::run("the check of a GPU, without one", half));
            let rest = check(&["--resume", &results, "--set", "train.stop_after=0"]);
            steps.push(Step::run("the same, training on from where it stopped", rest));
        }
    }
    steps
}

/// What is too slow for every change: fuzzing, every fault of a disk, and what is known of the dependencies.
fn thorough() -> Vec<Step> {
    let fuzz = Cmd::cargo("test -p hrm-data -p hrm-model -p hrm-train --test fuzz -- --nocapture");
    let power = Cmd::cargo("test -p hrm-cli --test cli power -- --nocapture");
    let faults = Cmd::cargo("test -p hrm-train --test faults -- --nocapture");
    let mut steps = vec![
        Step::run("every reader, a minute of damaged bytes each", fuzz.env("HRM_FUZZ_SECONDS", "60")),
        Step::run("every change to a file fails in turn", faults.env("HRM_FAULTS", "all")),
        Step::run("a program elsewhere", Cmd::cargo("test -p xtask --test downstream -- --ignored")),
        Step::run("what is given away", Cmd::cargo("xtask dist --profile dev --no-wheel")),
        Step::run("the power goes 25 times", power.env("HRM_POWER_LOSSES", "25")),
    ];
    steps.extend(sanitizers());
    if has_cargo_deny() {
        match Cmd::cargo("deny fetch db").output() {
            Ok(_) => {
                steps.push(Step::run("known faults of dependencies", Cmd::cargo("deny check advisories")))
            }
            Err(_) => println!("SKIPPED: the database of advisories (RustSec) cannot be fetched here"),
        }
    }
    steps
}

/// The tests of the kernels, which have most of the unsafe code, under what watches memory: the address sanitizer, whose runtime
/// comes with stable Rust; with a nightly toolchain also Miri and, for which the standard library is built anew, the thread sanitizer.
fn sanitizers() -> Vec<Step> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    const TESTS: &str = "-p hrm-kernels --lib --tests";
    let skipped = |what: &str| println!("SKIPPED: {what}; the kernels are not checked by it");
    let mut steps = Vec::new();
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        skipped("the sanitizers are used on Linux on x86-64 only");
        return steps;
    }
    let folder = |name: &str| target_dir().join(name).display().to_string();
    let libraries = Cmd::new("rustc").args(["--print", "target-libdir"]).output().unwrap_or_default();
    let runtime = std::fs::read_dir(libraries.trim()).is_ok_and(|files| {
        files.flatten().any(|file| file.file_name().to_string_lossy().ends_with("_rt.asan.a"))
    });
    if runtime {
        let asan = Cmd::cargo(&format!("test {TESTS} --target {TARGET}"))
            // The flag is there on stable Rust, but not stable.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", "-Zsanitizer=address")
            .env("CARGO_TARGET_DIR", folder("asan"));
        steps.push(Step::run("kernels with the address sanitizer", asan));
    } else {
        skipped("the toolchain has no runtime of the address sanitizer");
    }
    let nightly = |args: &str| Cmd::new("rustup").args(["run", "nightly"]).args(args.split_whitespace());
    if nightly("cargo miri --version").output().is_ok() {
        let miri = nightly(&format!("cargo miri test {TESTS}"));
        // Otherwise Miri adds an error to `exp` by chance, and two runs differ.
        let flags = "-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-permissive-provenance -Zmiri-deterministic-floats";
        steps.push(Step::run("kernels under Miri", miri.env("MIRIFLAGS", flags)));
    } else {
        skipped("Miri is not installed (rustup +nightly component add miri rust-src)");
    }
    let sysroot = nightly("rustc --print sysroot").output().unwrap_or_default();
    if Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library").is_dir() {
        let tsan = nightly(&format!("cargo test -Zbuild-std {TESTS} --target {TARGET}"))
            .env("RUSTFLAGS", "-Zsanitizer=thread")
            .env("CARGO_TARGET_DIR", folder("tsan"));
        steps.push(Step::run("kernels with the thread sanitizer", tsan));
    } else {
        skipped("the thread sanitizer needs a nightly toolchain with rust-src");
    }
    steps
}

/// Whether cargo-deny is there; says what is not checked if it is not.
fn has_cargo_deny() -> bool {
    let found = Cmd::cargo("deny --version").output().is_ok();
    if !found {
        println!(
            "SKIPPED: cargo-deny is not installed, so licences, sources and advisories of the dependencies are not checked; \
             `cargo install cargo-deny --locked` and run again"
        );
    }
    found
}

/// The manifest of Mesa's software driver, after installing it if need be.
fn software_vulkan() -> Result<PathBuf> {
    if let Some(driver) = find_software_vulkan() {
        return Ok(driver);
    }
    let packages = "mesa-vulkan-drivers and libvulkan1";
    println!("installing {packages}");
    let apt = |args: &str| Cmd::new("apt-get").args(args.split_whitespace()).run();
    apt("update -q")
        .and_then(|()| apt("install -q -y --no-install-recommends mesa-vulkan-drivers libvulkan1"))
        .with_context(|| {
            format!("--all-backends needs Debian's {packages} (or another system's): install them")
        })?;
    find_software_vulkan().with_context(|| format!("no software driver (lvp_icd) came with {packages}"))
}

/// What the feature `mpi` needs to build and run, as Debian names it.
const OPEN_MPI: &str = "openmpi-bin, libopenmpi-dev and libclang-dev";

/// Whether Open MPI, its headers and libclang are there.
fn find_open_mpi() -> bool {
    let on_path = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let libclang = std::fs::read_dir("/usr/lib").is_ok_and(|folders| {
        folders.flatten().any(|folder| {
            folder.file_name().to_string_lossy().starts_with("llvm-")
                && folder.path().join("lib/libclang.so").exists()
        })
    });
    on_path("mpirun") && on_path("mpicc") && (libclang || std::env::var_os("LIBCLANG_PATH").is_some())
}

fn install_open_mpi() -> Result<bool> {
    println!("installing {OPEN_MPI}");
    let apt = |args: &str| Cmd::new("apt-get").args(args.split_whitespace()).run();
    apt("update -q")
        .and_then(|()| apt("install -q -y --no-install-recommends openmpi-bin libopenmpi-dev libclang-dev"))
        .with_context(|| {
            format!("--all-backends needs Debian's {OPEN_MPI} (or another system's): install them")
        })?;
    Ok(find_open_mpi())
}

fn find_software_vulkan() -> Option<PathBuf> {
    let loader = ["/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
        .iter()
        .any(|folder| Path::new(folder).join("libvulkan.so.1").exists());
    let manifests = std::fs::read_dir("/usr/share/vulkan/icd.d").ok()?;
    let driver = manifests
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lvp_icd")))?;
    loader.then_some(driver)
}
