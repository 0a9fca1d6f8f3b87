//! `cargo xtask dist`: what is given away. A tarball and a Python wheel with the program, and checksums.

use std::{
    env::consts::{ARCH, EXE_SUFFIX, OS},
    ffi::OsString,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

use crate::{
    backend::Backend,
    process::{Cmd, root, target_dir},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const SHELLS: [(&str, &str); 4] =
    [("bash", "hrm.bash"), ("zsh", "_hrm"), ("fish", "hrm.fish"), ("powershell", "_hrm.ps1")];

/// Arguments of `dist`.
#[derive(Debug, clap::Args)]
pub struct DistArgs {
    /// Which backend to compile in.
    #[arg(long, default_value = "cpu")]
    backend: Backend,
    /// Profile to build with; `dev` tries the packing out without a long build.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Link the C library in too, so that the program runs on every Linux of this processor, however old. The backends of GPUs load
    /// libraries of the system, which such a program cannot.
    #[arg(long)]
    static_libc: bool,
    /// Leave the Python wheel out, for which maturin is needed (pip install maturin).
    #[arg(long)]
    no_wheel: bool,
}

/// Builds, packs, and tries out what was packed.
pub fn run(args: &DistArgs) -> Result<()> {
    let triple = triple()?;
    let out = target_dir().join("dist");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
    }
    fs::create_dir_all(&out)?;
    let program = build(args, &triple)?;
    let mut made = vec![tarball(&program, &triple, args.backend, &out)?];
    if !args.no_wheel {
        made.push(wheel(args, &triple, &out)?);
    }
    let page = target_dir().join("web");
    if page.is_dir() {
        let file = out.join(format!("hrm-{VERSION}-web.tar.gz"));
        pack(&page, &format!("hrm-{VERSION}-web"), &file)?;
        made.push(file);
    }
    checksums(&made, &out)?;
    for file in &made {
        println!("{}: {:.1} MB", file.display(), file.metadata()?.len() as f64 / 1e6);
    }
    println!("{}", out.join("SHA256SUMS").display());
    Ok(())
}

/// What Rust calls this machine.
fn triple() -> Result<String> {
    let about = Cmd::new("rustc").args(["-vV"]).output()?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` says no host")?.to_owned())
}

/// Options of Cargo, and of maturin, which are the same.
fn cargo_args(args: &DistArgs, triple: &str) -> Vec<String> {
    let mut options = vec!["--profile".to_owned(), args.profile.clone()];
    options.extend(args.backend.cargo_args().into_iter().map(str::to_owned));
    if args.static_libc {
        // With a target named, macros and build scripts are built without the flag.
        options.extend(["--target".to_owned(), triple.to_owned()]);
    }
    options
}

fn with_flags(cmd: Cmd, args: &DistArgs) -> Cmd {
    if args.static_libc { cmd.env("RUSTFLAGS", "-C target-feature=+crt-static") } else { cmd }
}

fn build(args: &DistArgs, triple: &str) -> Result<PathBuf> {
    let cmd = Cmd::cargo("build --package hrm-cli").args(cargo_args(args, triple));
    with_flags(cmd, args).run()?;
    let mut folder = target_dir();
    if args.static_libc {
        folder.push(triple);
    }
    folder.push(if args.profile == "dev" { "debug" } else { &args.profile });
    let program = folder.join(format!("hrm{EXE_SUFFIX}"));
    if !program.is_file() {
        bail!("{}: cargo built no program there", program.display());
    }
    Ok(program)
}

/// Runs a program in a folder without anything of ours in it, and gives what it prints.
fn output_of(program: &Path, args: &[&str]) -> Result<Vec<u8>> {
    let folder = Scratch::new("away")?;
    let output = Command::new(program)
        .args(args)
        .current_dir(&folder.0)
        .env_remove("HRM_CHECKPOINTS")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("`{} {}` failed ({})", program.display(), args.join(" "), output.status);
    }
    Ok(output.stdout)
}

/// A built-in puzzle is solved, far from this checkout.
fn solves(program: &Path) -> Result<()> {
    let said = String::from_utf8_lossy(&output_of(program, &["solve", "--json"])?).into_owned();
    let report: serde_json::Value =
        serde_json::from_str(&said).context("`hrm solve --json` printed no JSON")?;
    if report["summary"]["solved"] != 1 {
        bail!("{}: expected the built-in puzzle to be solved, got {said}", program.display());
    }
    println!("{} solves the built-in puzzle away from the checkout", program.display());
    Ok(())
}

/// The program with completions, manual pages and licences, in a folder of its own.
fn tarball(program: &Path, triple: &str, backend: Backend, out: &Path) -> Result<PathBuf> {
    let name = match backend.name() {
        "cpu" => format!("hrm-{VERSION}-{triple}"),
        other => format!("hrm-{VERSION}-{triple}-{other}"),
    };
    let stage = Scratch::new(&name)?;
    let folder = &stage.0;
    let executable = folder.join(format!("hrm{EXE_SUFFIX}"));
    fs::copy(program, &executable)?;
    fs::create_dir_all(folder.join("completions"))?;
    for (shell, file) in SHELLS {
        fs::write(folder.join("completions").join(file), output_of(program, &["completions", shell])?)?;
    }
    let pages = folder.join("man/man1");
    output_of(program, &["man", "--out", &pages.to_string_lossy()])?;
    for file in ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(root().join(file), folder.join(file))?;
    }
    solves(&executable)?;
    let file = out.join(format!("{name}.tar.gz"));
    pack(folder, &name, &file)?;
    Ok(file)
}

/// A folder as a packed archive, under a name.
fn pack(folder: &Path, name: &str, file: &Path) -> Result<()> {
    let create = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let mut archive = tar::Builder::new(GzEncoder::new(create, Compression::best()));
    archive.append_dir_all(name, folder)?;
    archive.into_inner()?.finish()?.flush()?;
    Ok(())
}

/// The wheel, tried out in an environment of its own.
fn wheel(args: &DistArgs, triple: &str, out: &Path) -> Result<PathBuf> {
    let python = if OS == "windows" { "python" } else { "python3" };
    let maturin = Cmd::new(python).args(["-m", "maturin", "build", "--out"]).args([out.to_string_lossy()]);
    let maturin = with_flags(maturin.args(cargo_args(args, triple)), args);
    maturin.run().context("the wheel needs maturin: pip install maturin; or leave it out with --no-wheel")?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let mut files = fs::read_dir(out)?.flatten().map(|entry| entry.path());
    let wheel = files.find(is_wheel).context("maturin made no wheel")?;

    let environment = Scratch::new("venv")?;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    Cmd::new(python).args(["-m", "venv"]).args([path(&environment.0)]).run()?;
    let programs = environment.0.join(if OS == "windows" { "Scripts" } else { "bin" });
    let pip = path(&programs.join(format!("pip{EXE_SUFFIX}")));
    Cmd::new(pip).args(["install", "--quiet", "--no-index"]).args([path(&wheel)]).run()?;
    solves(&programs.join(format!("hrm{EXE_SUFFIX}")))?;
    Ok(wheel)
}

/// `SHA256SUMS`, as `sha256sum --check` reads it.
fn checksums(files: &[PathBuf], out: &Path) -> Result<()> {
    let mut text = String::new();
    for file in files {
        let name = file.file_name().map(OsString::from).unwrap_or_default();
        let digest = Sha256::digest(fs::read(file)?);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{digest}  {}\n", name.to_string_lossy()));
    }
    Ok(fs::write(out.join("SHA256SUMS"), text)?)
}

/// A folder that is gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("hrm-dist-{}-{ARCH}", std::process::id())).join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
