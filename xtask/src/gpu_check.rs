//! `cargo xtask gpu-check`: everything that can only be checked on an NVIDIA GPU, by the program of that name
//! (`benches/src/bin/gpu-check`). Here it is built and run, or packed for a machine without Rust.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use sha2::{Digest, Sha256};

use crate::{
    parity_subset,
    process::{Cmd, root, target_dir},
};

/// Arguments of `gpu-check`.
#[derive(Debug, Args)]
pub struct GpuCheckArgs {
    /// Only build: one file with the program, fixtures, recipes and data. On the machine with the GPU, without Rust:
    /// `./FILE --out FOLDER`.
    #[arg(long, value_name = "FILE")]
    pack: Option<PathBuf>,
    /// The folder with fixtures that are packed, as far as they fit; by default ../shared/parity, else those that are committed.
    #[arg(long, value_name = "FOLDER")]
    fixtures: Option<PathBuf>,
    /// The folder with Sudoku and maze files to pack, if they are not in datasets/.
    #[arg(long, value_name = "FOLDER", default_value = "../shared/data")]
    data: PathBuf,
    /// For the program, for example `-- --out results --seconds 300`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Bytes that the packed file may have.
const LIMIT: usize = 12 << 20;

/// The program, small.
const PROGRAM: &str =
    "--profile gpu --package hrm-benches --bin gpu-check --no-default-features --features cuda,vulkan";

/// Sets of fixtures, the most important first.
const SETS: [&str; 5] = ["hrm_rope", "trm_mlpt", "trm_attn", "hrm_learned", "hrm_pemb0"];

/// Where data is packed to, what it is called elsewhere, and how many rows of it are taken; the most important first.
const DATA: [(&str, &str, usize); 7] = [
    ("sudoku-extreme/train-1k.csv", "sudoku/sudoku-extreme-1k-train.csv", 1000),
    ("sudoku-extreme/test.csv", "sudoku/sudoku-extreme-test-5k.csv.gz", 2000),
    ("sudoku-extra/hard.csv.gz", "sudoku/extra-hard-train.csv.gz", 4000),
    ("sudoku-extra/vicinity.csv.gz", "sudoku/generated-vicinity-train.csv.gz", 4000),
    ("sudoku-extra/mixed.csv.gz", "sudoku/extra-mixed-train.csv.gz", 4000),
    ("maze-hard/train.csv", "maze/maze-30x30-hard-1k-train.csv.gz", 1000),
    ("maze-hard/test.csv", "maze/maze-30x30-hard-test-500.csv.gz", 200),
];

/// Builds and runs the check, or packs it.
pub fn run(args: &GpuCheckArgs) -> Result<()> {
    let commit = Cmd::new("git").args(["describe", "--always", "--dirty"]).output().unwrap_or_default();
    let build = Cmd::cargo(&format!("build {PROGRAM}")).env("HRM_COMMIT", commit.trim());
    match &args.pack {
        Some(file) => {
            build.run()?;
            pack(file, args)
        }
        None => {
            if !Path::new("/dev/nvidiactl").exists() && !Path::new("/proc/driver/nvidia/version").exists() {
                bail!(
                    "no CUDA device: this machine has no NVIDIA driver loaded (neither /dev/nvidiactl nor \
                     /proc/driver/nvidia). `cargo xtask ci --all-backends` goes through the same stages without a GPU"
                );
            }
            build.run()?;
            Cmd::new(program().display().to_string()).args(args.args.clone()).run_interactive()
        }
    }
}

fn program() -> PathBuf {
    target_dir().join("gpu/gpu-check")
}

/// A file of the package: its name there, and its bytes.
type Entry = (String, Vec<u8>);

/// Writes the program and what it needs as one file that unpacks itself. Fixtures and data that do not fit are left out, and named.
fn pack(file: &Path, args: &GpuCheckArgs) -> Result<()> {
    let mut kept = vec![("gpu-check".to_owned(), read(&program())?)];
    for name in ["benches/pytorch/worker.py", "LICENSE-APACHE", "LICENSE-MIT"] {
        kept.push((name.to_owned(), read(&root().join(name))?));
    }
    for entry in fs::read_dir(root().join("configs")).context("cannot read configs")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            kept.push((format!("configs/{name}"), read(&path)?));
        }
    }
    kept.sort();
    // The program without Vulkan and with few fixtures is worth more than none: what is optional, as far as it fits.
    let mut size = compress(&archive(&kept)?)?.len() + 4096;
    let (mut fixtures, mut left_out) = (Vec::new(), Vec::new());
    for (what, entries) in optional(args)? {
        let more = compress(&archive(&entries)?)?.len();
        if size + more > LIMIT {
            left_out.push(format!("{what} ({:.1} MiB)", mebibytes(more)));
            continue;
        }
        size += more;
        if what.starts_with("fixtures") {
            fixtures.push(what);
        }
        kept.extend(entries);
    }
    ensure!(
        !fixtures.is_empty(),
        "the program takes {:.1} of {:.0} MiB: no fixtures fit",
        mebibytes(size),
        mebibytes(LIMIT)
    );
    let packed = compress(&archive(&kept)?)?;
    let name = hex(&Sha256::digest(&packed));
    let mut bytes = script(&name[..12]).into_bytes();
    bytes.extend_from_slice(&packed);
    ensure!(bytes.len() <= LIMIT, "{:.1} MiB: more than {:.0}", mebibytes(bytes.len()), mebibytes(LIMIT));
    fs::write(file, &bytes).with_context(|| format!("cannot write {}", file.display()))?;
    #[cfg(unix)]
    fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .with_context(|| format!("cannot make {} a program", file.display()))?;
    println!(
        "{}: {:.2} MiB, {} files, {}",
        file.display(),
        mebibytes(bytes.len()),
        kept.len(),
        fixtures.join(", ")
    );
    if !left_out.is_empty() {
        println!(
            "left out, as they do not fit {:.0} MiB or are not here: {}",
            mebibytes(LIMIT),
            left_out.join(", ")
        );
    }
    println!(
        "on the machine with the GPU: ./{} --out results",
        file.file_name().unwrap_or_default().display()
    );
    Ok(())
}

/// What is packed if there is room for it, the most important first.
fn optional(args: &GpuCheckArgs) -> Result<Vec<(String, Vec<Entry>)>> {
    let full = args.fixtures.clone().unwrap_or_else(|| root().join("../shared/parity"));
    let committed = root().join("crates/hrm-testing/parity");
    let source = if args.fixtures.is_some() || full.is_dir() { full } else { committed };
    let in_parity = |files: Vec<Entry>| {
        files.into_iter().map(|(name, bytes)| (format!("parity/{name}"), bytes)).collect::<Vec<_>>()
    };
    let components = parity_subset::of_components(&source)?;
    let mut parts = vec![("fixtures of components".to_owned(), in_parity(components))];
    let mut data = Vec::new();
    for (target, elsewhere, rows) in DATA {
        let near = root().join("datasets").join(target);
        let source = if near.is_file() { near } else { root().join(&args.data).join(elsewhere) };
        match source.is_file() {
            true => data.push((
                target.to_owned(),
                vec![(format!("datasets/{target}"), first_rows(&source, target, rows)?)],
            )),
            false => println!(
                "{target} is not packed: neither datasets/{target} nor {} is there",
                source.display()
            ),
        }
    }
    // The data of the default training before the less important sets.
    let mut sets = Vec::new();
    for set in SETS {
        let files = parity_subset::of_set(&source, set)?;
        if !files.is_empty() {
            sets.push((format!("fixtures {set}"), in_parity(files)));
        }
    }
    let later = sets.split_off(sets.len().min(3));
    let maze = data.split_off(data.len().min(5));
    parts.extend(sets);
    parts.extend(data);
    parts.extend(later);
    parts.extend(maze);
    Ok(parts)
}

/// The first rows of a CSV file, plain or packed, as its new name says; a quarter of a large file is told from its name alone.
fn first_rows(source: &Path, target: &str, rows: usize) -> Result<Vec<u8>> {
    let bytes = read(source)?;
    let stream: Box<dyn Read> = match bytes.starts_with(&[0x1f, 0x8b]) {
        true => Box::new(MultiGzDecoder::new(bytes.as_slice())),
        false => Box::new(bytes.as_slice()),
    };
    let mut text = String::new();
    for line in BufReader::new(stream).lines().take(rows + 1) {
        text += &line.with_context(|| format!("cannot read {}", source.display()))?;
        text.push('\n');
    }
    if !target.ends_with(".gz") {
        return Ok(text.into_bytes());
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(text.as_bytes()).and_then(|()| packed.finish()).context("cannot pack rows")
}

/// Files as a tar.
fn archive(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(if name == "gpu-check" { 0o755 } else { 0o644 });
        header.set_cksum();
        tar.append_data(&mut header, name, bytes.as_slice())
            .with_context(|| format!("cannot pack {name}"))?;
    }
    tar.into_inner().context("cannot finish an archive")
}

/// Packed by xz, with its filter for programs.
fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("xz")
        .args(["--compress", "--stdout", "--x86", "--lzma2=preset=9e"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start xz: install xz-utils")?;
    let mut input = child.stdin.take().context("xz takes no input")?;
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes));
        child.wait_with_output()
    })
    .context("xz")?;
    ensure!(output.status.success(), "xz failed ({})", output.status);
    Ok(output.stdout)
}

/// What stands before the archive: it unpacks itself beside the file, once, and starts the check.
fn script(name: &str) -> String {
    let text = r#"#!/bin/sh
set -eu
folder=$(cd "$(dirname "$0")" && pwd)/gpu-check-NAME
if [ ! -e "$folder/unpacked" ]; then
    mkdir -p "$folder"
    if command -v xz >/dev/null; then
        tail -n +LINES "$0" | tar -xJ -C "$folder"
    else
        python3 -c 'import sys, tarfile; f = open(sys.argv[1], "rb"); [f.readline() for _ in range(LINES - 1)]; tarfile.open(fileobj=f, mode="r|xz").extractall(sys.argv[2])' "$0" "$folder"
    fi
    touch "$folder/unpacked"
fi
exec "$folder/gpu-check" "$@"
"#;
    let lines = text.lines().count() + 1;
    text.replace("NAME", name).replace("LINES", &lines.to_string())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_packed_or_not() {
        let folder = std::env::temp_dir().join(format!("gpu-check-test-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let source = folder.join("all.csv");
        fs::write(&source, "head\n1\n2\n3\n").expect("written");
        assert_eq!(first_rows(&source, "a.csv", 2).expect("rows"), b"head\n1\n2\n");
        let packed = first_rows(&source, "a.csv.gz", 2).expect("rows");
        fs::write(&source, packed).expect("written");
        assert_eq!(first_rows(&source, "a.csv", 9).expect("rows"), b"head\n1\n2\n");
        fs::remove_dir_all(folder).expect("removed");
    }

    #[cfg(unix)]
    #[test]
    fn a_packed_file_unpacks_itself_and_starts_the_program() {
        let folder = std::env::temp_dir().join(format!("gpu-check-pack-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let program = b"#!/bin/sh\necho \"$(cat \"$(dirname \"$0\")/configs/a.toml\") $*\"\n".to_vec();
        let entries = [("gpu-check".to_owned(), program), ("configs/a.toml".to_owned(), b"there".to_vec())];
        let mut bytes = script("test").into_bytes();
        bytes.extend(compress(&archive(&entries).expect("a tar")).expect("xz is installed"));
        let file = folder.join("check");
        fs::write(&file, bytes).expect("written");
        for words in ["once", "again, as it is unpacked"] {
            let output = Command::new("sh").arg(&file).arg(words).output().expect("sh");
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("there {words}\n"));
        }
        fs::remove_dir_all(folder).expect("removed");
    }
}
