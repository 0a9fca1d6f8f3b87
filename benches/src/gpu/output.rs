//! The folder with the results: few files, none too large to be brought back.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::pieces;

/// Files that come back from a machine that is lent.
pub const MOST_FILES: usize = 8;
/// Bytes of the largest of them.
pub const LARGEST: usize = 15 << 20;
/// Those that are no pieces of a run.
const NAMES: [&str; 4] = ["log.txt", "record.md", "kernels.csv", "metrics.jsonl"];

/// The folder.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    log: Log,
}

impl Output {
    /// Opens the folder, which is made if it is not there. Pieces of a run that are in it are left alone until there are new ones.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), log: Log::create(&folder.join("log.txt"))? })
    }

    /// Where processes say what they have to say.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Writes a file; of one that is too large, the end.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        debug_assert!(NAMES.contains(&name), "{name} is not counted");
        let path = self.folder.join(name);
        let bytes = &bytes[bytes.len().saturating_sub(LARGEST)..];
        // A machine that is taken away while a file is written leaves the one before.
        let partial = self.folder.join(format!(".{name}"));
        fs::write(&partial, bytes)
            .and_then(|()| fs::rename(&partial, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Bytes that the pieces of a run may have together.
    pub const fn room(&self) -> usize {
        (MOST_FILES - NAMES.len()) * (LARGEST - 1024)
    }

    /// Writes an archive as pieces, in the place of those that were there. Gives how many.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn pieces(&mut self, archive: &[u8]) -> Result<usize> {
        let path = |index: usize| self.folder.join(format!("state.{index}"));
        let pieces = pieces::split(archive, LARGEST);
        for index in 0..MOST_FILES {
            let path = path(index);
            match pieces.get(index) {
                Some(piece) => fs::write(&path, piece),
                None if path.exists() => fs::remove_file(&path),
                None => Ok(()),
            }
            .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(pieces.len())
    }
}

/// A log that many threads write to, line by line.
#[derive(Debug, Clone)]
pub struct Log(std::sync::Arc<std::sync::Mutex<(fs::File, usize)>>);

impl Log {
    fn create(path: &Path) -> Result<Self> {
        let file = fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(std::sync::Arc::new(std::sync::Mutex::new((file, 0)))))
    }

    /// Adds a line, unless the log has become too large.
    pub fn line(&self, who: &str, text: &str) {
        let Ok(mut log) = self.0.lock() else { return };
        let line = format!("{who}: {text}\n");
        log.1 += line.len();
        if log.1 < LARGEST {
            // A log that cannot be written is no reason to stop.
            let _ = log.0.write_all(line.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_is_brought_back_fits() {
        let folder = TempDir::new().expect("a folder");
        let mut output = Output::open(folder.path()).expect("opened");
        let archive = vec![7; output.room()];
        assert_eq!(output.pieces(&archive).expect("written"), MOST_FILES - NAMES.len());
        for name in NAMES {
            if name != "log.txt" {
                output.write(name, &vec![b'x'; LARGEST + 5]).expect("written");
            }
        }
        let log = output.log().clone();
        for _ in 0..200 {
            log.line("test", &"y".repeat(100_000));
        }
        let files: Vec<u64> = fs::read_dir(folder.path())
            .expect("readable")
            .map(|entry| entry.expect("an entry").metadata().expect("a file").len())
            .collect();
        assert_eq!(files.len(), MOST_FILES);
        assert!(files.iter().all(|bytes| *bytes <= LARGEST as u64), "{files:?}");
        // A smaller run later leaves no piece of the larger one.
        assert_eq!(output.pieces(&archive[..100]).expect("written"), 1);
        assert!(!folder.path().join("state.1").exists());
        assert_eq!(pieces::join(folder.path()).expect("whole"), &archive[..100]);
    }
}
