//! One process at a time works on a run.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use super::{RunError, environment, io_at, timestamp};
use crate::disk;

const LOCK: &str = "lock";

/// A run folder, held. The operating system holds the lock: it goes with the process, however that ends, and the file
/// `lock` that stays behind blocks nobody.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    run: PathBuf,
}

impl RunLock {
    /// Takes the lock of a folder that is there.
    ///
    /// # Errors
    /// [`RunError::Locked`] tells who holds it.
    pub fn take(run: &Path) -> Result<Self, RunError> {
        let path = run.join(LOCK);
        // What a link leads to is not written over.
        if path.is_symlink() || path.exists() && !path.is_file() {
            return Err(io_at(&path)(io::Error::other("not a file of its own; remove it")));
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_at(&path))?;
        // A process that was just being started when the holder let go has the lock for a moment more, without a name in it.
        let mut waits = 0..20;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    let _ = file.rewind().and_then(|()| (&mut file).take(200).read_to_string(&mut holder));
                    match holder.trim() {
                        "" if waits.next().is_some() => thread::sleep(Duration::from_millis(10)),
                        "" => {
                            return Err(RunError::Locked {
                                path: run.to_owned(),
                                holder: "another process".to_owned(),
                            });
                        }
                        holder => {
                            return Err(RunError::Locked { path: run.to_owned(), holder: holder.to_owned() });
                        }
                    }
                }
                // Some network file systems have no locks: better no guard than no training.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => break,
                Err(TryLockError::Error(error)) => return Err(io_at(&path)(error)),
            }
        }
        // For people; a full disk is no reason to stop here.
        let holder = format!(
            "process {} on {} since {}\n",
            std::process::id(),
            environment::host(),
            timestamp(SystemTime::now())
        );
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(holder.as_bytes()));
        Ok(Self { file, run: run.to_owned() })
    }

    /// Whether the run folder is still where it was.
    pub(super) fn is_in_place(&self) -> bool {
        disk::is_in_place(&self.file, &self.run.join(LOCK))
    }
}

/// What is left names nobody; a process that is killed cannot say so, and its name blocks nobody either.
impl Drop for RunLock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}
