//! A run in pieces: a training that goes on another day is carried as files of a size that may be carried.
//!
//! A piece begins with a line of JSON that says which archive it belongs to, which piece of how many it is, and its checksum.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use hrm_data::checksum::sha256;
use serde::{Deserialize, Serialize};

/// The first line of a piece.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Header {
    /// SHA-256 of the whole archive.
    hrm_run: String,
    piece: usize,
    pieces: usize,
    sha256: String,
}

/// What is brought back of a run folder: all but pictures, locks, and checkpoints (and a mark of one) that are not the newest.
fn belongs(path: &Path, newest: &Path) -> bool {
    let name = path.to_string_lossy();
    match path.starts_with("checkpoints") {
        true => path.starts_with(newest) || path == Path::new("checkpoints/last"),
        false => ["config", "environment", "metrics", "train.log", "identifiers"]
            .iter()
            .any(|start| name.starts_with(start)),
    }
}

/// The files of a folder and of those below it, relative to it.
fn files(root: &Path, below: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = below.join(entry?.file_name());
        match root.join(&path).is_dir() {
            true => files(root, &path, found)?,
            false => found.push(path),
        }
    }
    found.sort();
    Ok(())
}

/// A run folder as one archive, with its newest checkpoint only.
///
/// # Errors
/// If it cannot be read, or has no checkpoint.
pub fn archive(run: &Path) -> Result<Vec<u8>> {
    let checkpoints = hrm_train::checkpoint::list(&run.join("checkpoints"))?;
    let Some((_, newest)) = checkpoints.iter().max() else {
        bail!("{} has no checkpoint", run.display());
    };
    let newest = newest.strip_prefix(run).unwrap_or(newest).to_owned();
    let mut all = Vec::new();
    files(run, Path::new(""), &mut all)?;
    let mut tar = tar::Builder::new(Vec::new());
    for path in all.iter().filter(|path| belongs(path, &newest)) {
        let file = run.join(path);
        tar.append_path_with_name(&file, path).with_context(|| format!("cannot read {}", file.display()))?;
    }
    tar.into_inner().context("cannot finish an archive")
}

/// A file alone as an archive.
///
/// # Errors
/// If it cannot be read.
pub fn archive_of_file(file: &Path, name: &str) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_path_with_name(file, name).with_context(|| format!("cannot read {}", file.display()))?;
    tar.into_inner().context("cannot finish an archive")
}

/// An archive in pieces of at most `limit` bytes, headers included.
pub fn split(archive: &[u8], limit: usize) -> Vec<Vec<u8>> {
    const HEADER: usize = 512;
    let chunks: Vec<&[u8]> = archive.chunks(limit.saturating_sub(HEADER).max(1)).collect();
    let whole = sha256(archive);
    let piece = |(piece, chunk): (usize, &&[u8])| {
        let header = Header { hrm_run: whole.clone(), piece, pieces: chunks.len(), sha256: sha256(chunk) };
        let mut bytes = serde_json::to_vec(&header).expect("a header is JSON");
        bytes.push(b'\n');
        bytes.extend_from_slice(chunk);
        bytes
    };
    chunks.iter().enumerate().map(piece).collect()
}

/// The archive whose pieces lie in a folder, among other files.
///
/// # Errors
/// If a piece is missing, damaged or of another archive: it is named.
pub fn join(folder: &Path) -> Result<Vec<u8>> {
    let mut found: BTreeMap<usize, (String, Vec<u8>)> = BTreeMap::new();
    let mut first: Option<(Header, String)> = None;
    let mut names = Vec::new();
    files(folder, Path::new(""), &mut names)?;
    for name in names {
        let path = folder.join(&name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Some((header, body)) = read(&bytes) else { continue };
        let name = name.display().to_string();
        ensure!(
            sha256(body) == header.sha256,
            "{name} in {} is damaged: its {} bytes do not have the checksum that it states; bring it again",
            folder.display(),
            body.len()
        );
        match &first {
            Some((other, its)) if other.hrm_run != header.hrm_run => bail!(
                "{name} and {its} in {} are pieces of different runs; leave those of one",
                folder.display()
            ),
            Some(_) => {}
            None => first = Some((header.clone(), name.clone())),
        }
        found.insert(header.piece, (name, body.to_vec()));
    }
    let Some((header, _)) = first else {
        bail!("{} has no pieces of a run in it: expected files like state.0", folder.display());
    };
    let missing: Vec<String> = (0..header.pieces)
        .filter(|piece| !found.contains_key(piece))
        .map(|piece| format!("state.{piece}"))
        .collect();
    ensure!(
        missing.is_empty(),
        "{} of {} pieces are missing in {}: {} (there are {})",
        missing.len(),
        header.pieces,
        folder.display(),
        missing.join(", "),
        found.values().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    );
    let whole: Vec<u8> = found.into_values().flat_map(|(_, body)| body).collect();
    ensure!(sha256(&whole) == header.hrm_run, "the pieces in {} make another run", folder.display());
    Ok(whole)
}

/// Header and contents, if this is a piece.
fn read(bytes: &[u8]) -> Option<(Header, &[u8])> {
    if !bytes.starts_with(b"{\"hrm_run\"") {
        return None;
    }
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((serde_json::from_slice(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

/// Puts the run whose pieces lie in `from` into the folder `to`.
///
/// # Errors
/// As [`join`], and if it cannot be written.
pub fn unpack(from: &Path, to: &Path) -> Result<()> {
    let archive = join(from)?;
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    tar::Archive::new(archive.as_slice())
        .unpack(to)
        .with_context(|| format!("cannot write a run into {}", to.display()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn archive_of_bytes() -> Vec<u8> {
        (0..10_000u32).map(|i| (i * 7919 % 251) as u8).collect()
    }

    fn pieces_in_a_folder(count: usize) -> (TempDir, Vec<u8>) {
        let (folder, archive) = (TempDir::new().expect("a folder"), archive_of_bytes());
        let pieces = split(&archive, archive.len() / count + 513);
        assert_eq!(pieces.len(), count);
        for (index, piece) in pieces.iter().enumerate() {
            fs::write(folder.path().join(format!("state.{index}")), piece).expect("a piece");
        }
        fs::write(folder.path().join("record.md"), "no piece").expect("another file");
        (folder, archive)
    }

    #[test]
    fn pieces_make_the_whole_and_none_is_too_large() {
        let (folder, archive) = pieces_in_a_folder(4);
        assert_eq!(join(folder.path()).expect("whole"), archive);
        assert!(split(&archive, 2048).iter().all(|piece| piece.len() <= 2048));
    }

    #[test]
    fn a_missing_piece_is_named() {
        let (folder, _) = pieces_in_a_folder(3);
        fs::remove_file(folder.path().join("state.1")).expect("it is there");
        let error = join(folder.path()).expect_err("a piece is missing").to_string();
        assert!(error.contains("1 of 3 pieces are missing"), "{error}");
        assert!(error.contains(": state.1 (there are state.0, state.2)"), "{error}");
    }

    #[test]
    fn a_damaged_piece_is_named() {
        let (folder, _) = pieces_in_a_folder(3);
        let path = folder.path().join("state.2");
        let mut bytes = fs::read(&path).expect("it is there");
        *bytes.last_mut().expect("bytes") ^= 1;
        fs::write(&path, &bytes).expect("written");
        let error = join(folder.path()).expect_err("a piece is damaged").to_string();
        assert!(error.starts_with("state.2 in") && error.contains("damaged"), "{error}");
        bytes.truncate(bytes.len() - 7);
        fs::write(&path, &bytes).expect("written");
        assert!(join(folder.path()).is_err(), "cut off");
    }

    #[test]
    fn pieces_of_two_runs_do_not_mix() {
        let (folder, archive) = pieces_in_a_folder(2);
        fs::write(folder.path().join("state.1"), &split(&archive[1..], 5600)[1]).expect("written");
        let error = join(folder.path()).expect_err("two runs").to_string();
        assert!(error.contains("different runs"), "{error}");
        let empty = TempDir::new().expect("a folder");
        assert!(join(empty.path()).expect_err("nothing").to_string().contains("no pieces"));
    }

    #[test]
    fn a_run_comes_back_with_its_newest_checkpoint() {
        let (run, there) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
        for (path, text) in [
            ("config.toml", "recipe"),
            ("metrics.jsonl", "{}"),
            ("curves.svg", "picture"),
            ("lock", ""),
            ("checkpoints/step-10/model.safetensors", "old"),
            ("checkpoints/step-20/model.safetensors", "new"),
            ("checkpoints/best", "{}"),
            ("checkpoints/last", "{}"),
        ] {
            let file = run.path().join(path);
            fs::create_dir_all(file.parent().expect("a folder")).expect("created");
            fs::write(file, text).expect("written");
        }
        let whole = archive(run.path()).expect("an archive");
        for (index, piece) in split(&whole, 3000).iter().enumerate() {
            fs::write(there.path().join(format!("state.{index}")), piece).expect("written");
        }
        let back = there.path().join("run");
        unpack(there.path(), &back).expect("unpacked");
        let mut found = Vec::new();
        files(&back, Path::new(""), &mut found).expect("readable");
        let found: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            found,
            ["checkpoints/last", "checkpoints/step-20/model.safetensors", "config.toml", "metrics.jsonl"]
        );
        assert!(archive(there.path()).is_err(), "no checkpoint");
    }
}
