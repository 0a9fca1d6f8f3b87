//! `cargo xtask web`: the web demo, a folder of static files.

use std::{
    collections::BTreeSet,
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use flate2::{Compression, write::GzEncoder};

use crate::process::{Cmd, root, target_dir};

/// Arguments of `web`.
#[derive(Debug, Args)]
pub struct WebArgs {
    /// Build with Debian's compiler, unpacked below target/ and not installed, where no Rust toolchain for wasm is to be had.
    #[arg(long)]
    debian: bool,
    /// Then test the page in headless Chromium ($CHROMIUM, else chromium or google-chrome on the PATH).
    #[arg(long)]
    test: bool,
}

/// What the page is compiled for.
const TARGET: &str = "wasm32-unknown-unknown";
/// Debian's packages to compile with.
const PACKAGES: &str = "rust-web-src rustc-web cargo-web lld-19";
/// What the first load may take at most, gzipped.
const FIRST_LOAD: usize = 2_000_000;

/// What compiles the page.
pub enum Compiler {
    /// The toolchain that runs this program; it has the target.
    Installed,
    /// Debian's, unpacked into a folder.
    Debian(PathBuf),
}

/// Builds the page and tests it.
pub fn run(args: &WebArgs) -> Result<()> {
    let page = build(&Compiler::choose(args.debian)?)?;
    if args.test {
        test(&page)?;
    }
    Ok(())
}

impl Compiler {
    /// The installed toolchain if it has the target, else Debian's if it may be used.
    pub fn choose(debian: bool) -> Result<Self> {
        match (has_target(), debian) {
            (true, _) => Ok(Self::Installed),
            (false, true) => Ok(Self::Debian(debian_toolchain()?)),
            (false, false) => bail!(
                "the Rust toolchain has no target {TARGET}: add it with `rustup target add {TARGET}`, or build with Debian's \
                 compiler by `cargo xtask web --debian` (needs apt-get and dpkg; installs nothing)"
            ),
        }
    }

    fn command(&self) -> Cmd {
        let build =
            format!("rustc --package hrm-web --profile web --crate-type cdylib --target {TARGET} --locked");
        let cmd = match self {
            Self::Installed => Cmd::cargo(&build),
            Self::Debian(root) => {
                let bin = |name: &str| root.join("usr/bin").join(name).display().to_string();
                Cmd::new(bin("cargo"))
                    .args(build.split_whitespace())
                    .args(["-Zbuild-std=std,panic_abort"])
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("RUSTC", bin("rustc"))
                    .env("LD_LIBRARY_PATH", libraries(root))
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", bin("wasm-ld-19"))
            }
        };
        // A folder of its own: of another compiler, and not in the way of other builds.
        cmd.env("RUSTFLAGS", "-C target-feature=+simd128").env("CARGO_TARGET_DIR", display(&build_dir()))
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

/// Absolute, as commands run in other folders.
fn target() -> PathBuf {
    root().join(target_dir())
}

fn build_dir() -> PathBuf {
    target().join("web-build")
}

fn tools_dir() -> PathBuf {
    target().join("web-tools")
}

fn has_target() -> bool {
    let folder = Cmd::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    folder.is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

/// Builds `target/web` and says how large it is.
pub fn build(compiler: &Compiler) -> Result<PathBuf> {
    compiler.command().run()?;
    let page = target().join("web");
    if page.exists() {
        fs::remove_dir_all(&page).with_context(|| format!("cannot empty {}", page.display()))?;
    }
    let module = build_dir().join(TARGET).join("web/hrm_web.wasm");
    Cmd::cargo("run --quiet --package xtask --features bindgen --bin bindgen --")
        .args([display(&module), display(&page)])
        .run()?;

    copy(&root().join("crates/hrm-web/page"), &page)?;
    let models = page.join("models");
    fs::create_dir_all(&models)?;
    let kinds: serde_json::Value = serde_json::from_slice(&fs::read(page.join("kinds.json"))?)?;
    let names: Vec<&str> =
        kinds.as_array().into_iter().flatten().filter_map(|kind| kind["model"].as_str()).collect();
    let first = names.first().context("kinds.json names no model")?;
    for name in names.iter().collect::<BTreeSet<_>>() {
        let weights = root().join("checkpoints").join(name).join("model.safetensors");
        let target = models.join(format!("{name}.safetensors"));
        fs::copy(&weights, target).with_context(|| format!("cannot copy {}", weights.display()))?;
    }
    fill_in_service_worker(&page)?;
    report(&page, &format!("models/{first}.safetensors"))?;
    Ok(page)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        fs::copy(&path, to.join(path.file_name().unwrap_or_default()))
            .with_context(|| format!("cannot copy {}", path.display()))?;
    }
    Ok(())
}

/// The files of the page, by their paths in it.
fn files(page: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in ["", "models/"] {
        for entry in fs::read_dir(page.join(folder))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                found.push(format!("{folder}{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Tells the service worker what to keep, and by a hash of it whether it is something new.
fn fill_in_service_worker(page: &Path) -> Result<()> {
    let path = page.join("sw.js");
    // The folder itself is `index.html`; a browser asks again for the service worker by itself.
    let mut kept: Vec<String> = files(page)?.into_iter().filter(|file| file != "sw.js").collect();
    let mut hasher = DefaultHasher::new();
    for file in &kept {
        (file, fs::read(page.join(file))?).hash(&mut hasher);
    }
    kept.push("./".to_owned());
    let script = fs::read_to_string(&path)?
        .replace("[\"@FILES@\"]", &serde_json::to_string(&kept)?)
        .replace("@VERSION@", &format!("{:016x}", hasher.finish()));
    Ok(fs::write(path, script)?)
}

/// Prints what the page weighs.
///
/// # Errors
/// If the first load is too heavy.
fn report(page: &Path, first_model: &str) -> Result<()> {
    let (mut whole, mut first) = ((0, 0), (0, 0));
    println!("\n{:<36} {:>11} {:>11}", page.display(), "bytes", "gzipped");
    for file in files(page)? {
        let bytes = fs::read(page.join(&file))?;
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&bytes)?;
        let (size, packed) = (bytes.len(), packed.finish()?.len());
        println!("  {file:<34} {size:>11} {packed:>11}");
        whole = (whole.0 + size, whole.1 + packed);
        if file == first_model || (!file.starts_with("models/") && file != "sw.js") {
            first = (first.0 + size, first.1 + packed);
        }
    }
    println!("  {:<34} {:>11} {:>11}", "all", whole.0, whole.1);
    println!("  {:<34} {:>11} {:>11}", "until the first puzzle is answered", first.0, first.1);
    if first.1 > FIRST_LOAD {
        bail!("the first load takes {} bytes gzipped, expected at most {FIRST_LOAD}", first.1);
    }
    println!("look at it: python3 -m http.server --directory {}", page.display());
    Ok(())
}

/// The tests of the page and of that of `hrm view`, in Chromium.
fn test(page: &Path) -> Result<()> {
    let chromium = find_chromium()
        .context("the tests need Chromium (apt-get install chromium): on the PATH, or named by $CHROMIUM")?;
    let test = |filter: &str| {
        Cmd::cargo("test --package hrm-web --test browser --")
            .args(["--ignored", "--nocapture", "--test-threads", "1", filter])
            .env("HRM_WEB_PAGE", display(page))
            .env("CHROMIUM", display(&chromium))
    };
    // The page has the portable kernels; its answers are those of other kernels, too.
    test("").env("HRM_KERNELS_ISA", "portable").run()?;
    test("answers_are_the_native_ones").run()?;
    Cmd::cargo("test --package hrm-cli --test view -- --ignored --test-threads 1")
        .env("CHROMIUM", display(&chromium))
        .run()
}

/// Finds what building and testing the page needs, Chromium after installing it if need be.
///
/// # Errors
/// If something is not to be had.
pub fn can_be_tested() -> Result<()> {
    let apt = |args: &str| Cmd::new("apt-get").args(args.split_whitespace()).run();
    if !has_target() {
        debian_toolchain().with_context(|| format!("no target {TARGET} (rustup target add {TARGET})"))?;
    }
    if find_chromium().is_none() {
        println!("installing chromium");
        apt("update -q")
            .and_then(|()| apt("install -q -y --no-install-recommends chromium"))
            .context("the tests of the page need Chromium: install it")?;
    }
    Ok(())
}

/// A Chromium or Chrome.
fn find_chromium() -> Option<PathBuf> {
    if let Some(path) = env::var_os("CHROMIUM") {
        return Some(path.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
}

fn libraries(root: &Path) -> String {
    display(&root.join("usr/lib").join(format!("{}-linux-gnu", env::consts::ARCH)))
}

/// Debian's Rust toolchain with the sources of its standard library, unpacked once. Installed, it would conflict with rustup.
fn debian_toolchain() -> Result<PathBuf> {
    let root = tools_dir().join("debian");
    if root.is_dir() {
        return Ok(root);
    }
    println!("unpacking Debian's {PACKAGES} into {}", root.display());
    let names = missing_packages().or_else(|_| {
        Cmd::new("apt-get").args(["update", "-q"]).run()?;
        missing_packages()
    });
    let names = names.with_context(|| format!("--debian needs apt-get with the packages {PACKAGES}"))?;
    let (debs, partial) = (tools_dir().join("debs"), tools_dir().join("debian.partial"));
    for folder in [&debs, &partial] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
    }
    run_in(&debs, Command::new("apt-get").args(["download", "-q"]).args(&names))?;
    for deb in fs::read_dir(&debs)? {
        run_in(&debs, Command::new("dpkg").arg("-x").args([deb?.path(), partial.clone()]))?;
    }
    fs::remove_dir_all(debs)?;
    // Of the sources, half a gigabyte, only the standard library is wanted.
    for source in fs::read_dir(partial.join("usr/src"))? {
        for entry in fs::read_dir(source?.path())? {
            let entry = entry?;
            if entry.file_name() != "library" {
                match entry.file_type()?.is_dir() {
                    true => fs::remove_dir_all(entry.path())?,
                    false => fs::remove_file(entry.path())?,
                }
            }
        }
    }
    fs::rename(partial, &root)?;
    Ok(root)
}

/// The packages to compile with, and those below them that are not installed.
fn missing_packages() -> Result<Vec<String>> {
    let listed = Cmd::new("apt-get")
        .args(["install", "--print-uris", "-qq", "-y", "--no-install-recommends"])
        .args(PACKAGES.split_whitespace())
        .output()?;
    // 'address' file_version_architecture.deb size checksum
    let names =
        listed.lines().filter_map(|line| Some(line.split_whitespace().nth(1)?.split_once('_')?.0.to_owned()));
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        bail!("apt-get lists nothing to download");
    }
    Ok(names)
}

fn run_in(folder: &Path, command: &mut Command) -> Result<()> {
    let status = command.current_dir(folder).status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}
