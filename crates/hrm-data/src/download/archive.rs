//! ARC tasks out of an archive of a repository.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{DownloadError, at, write_whole};
use crate::checksum::hex;
use crate::puzzles::arc::ArcTask;

/// What to take out of a `.tar.gz`: JSON files of one task each, made to one file of tasks by name for each folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The folders.
    pub parts: Vec<Part>,
    /// SHA-256 of the content that is taken, as 64 hexadecimal digits: over all files in the order of their paths within the
    /// repository, of each its path, a line end, its length in decimal, a line end, and its bytes. Unlike that of the archive it
    /// does not depend on how the server packs.
    pub sha256: Option<String>,
}

/// One folder of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its path within the repository, with all folders below it.
    pub folder: String,
    /// The file that the tasks are written to; [`arc::load`](crate::puzzles::arc::load) reads it.
    pub file: String,
    /// How many tasks it holds.
    pub tasks: usize,
}

/// Limits on what is unpacked: far above the real 6 MB.
const MAX_FILE: u64 = 1 << 22;
const MAX_TOTAL: u64 = 1 << 28;

impl Archive {
    /// Writes the tasks into a folder: one file for each part, in order.
    pub(super) fn unpack(&self, path: &Path, folder: &Path) -> Result<Vec<PathBuf>, DownloadError> {
        let fail = |why: String| {
            let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            DownloadError::Archive { path: path.to_owned(), file, why }
        };
        let files = self
            .read(File::open(path).map_err(at(path))?)
            .map_err(|error| fail(format!("expected a .tar.gz with tasks: {error}")))?;
        if let Some(expected) = &self.sha256 {
            let mut hash = Sha256::new();
            for (name, bytes) in &files {
                hash.update(format!("{name}\n{}\n", bytes.len()));
                hash.update(bytes);
            }
            let got = hex(&hash.finalize());
            if got != *expected {
                return Err(fail(format!(
                    "expected tasks with the SHA-256 {expected} (known in advance), got {got}, of {} files",
                    files.len()
                )));
            }
        }
        let mut written = Vec::new();
        for part in &self.parts {
            let mut tasks = Map::new();
            for (name, bytes) in files.iter().filter(|(name, _)| part.holds(name)) {
                let id =
                    Path::new(name).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
                let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
                let value: Value =
                    serde_json::from_slice(text).map_err(|error| fail(format!("{name}: {error}")))?;
                let task =
                    ArcTask::from_json(&id, &value).map_err(|error| fail(format!("{name}: {error}")))?;
                if tasks.insert(id.clone(), task.to_json()).is_some() {
                    return Err(fail(format!("task {id} is in {} twice", part.folder)));
                }
            }
            if tasks.len() != part.tasks {
                let (folder, expected, got) = (&part.folder, part.tasks, tasks.len());
                return Err(fail(format!("expected {expected} tasks in {folder}, got {got}")));
            }
            let target = folder.join(&part.file);
            write_whole(&target, Value::Object(tasks).to_string().as_bytes())?;
            written.push(target);
        }
        Ok(written)
    }

    /// The wanted files by their path within the repository.
    fn read(&self, file: File) -> io::Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        let unpacked = GzDecoder::new(BufReader::new(file)).take(MAX_TOTAL);
        let mut archive = tar::Archive::new(unpacked);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            // The first folder is named after repository and commit.
            let Some((_, name)) = path.split_once('/') else { continue };
            let wanted = entry.header().entry_type().is_file()
                && name.ends_with(".json")
                && self.parts.iter().any(|part| part.holds(name));
            if !wanted {
                continue;
            }
            let mut bytes = Vec::new();
            entry.by_ref().take(MAX_FILE + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > MAX_FILE {
                return Err(io::Error::other(format!("{name} is larger than {MAX_FILE} bytes")));
            }
            files.insert(name.to_owned(), bytes);
        }
        Ok(files)
    }
}

impl Part {
    fn holds(&self, name: &str) -> bool {
        name.strip_prefix(self.folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }
}
