//! Every change that training makes to files, one function for each: what a run depends on is flushed before it is relied on,
//! and tests can make any of them fail, or lose what was not flushed, see [`faults`].

pub mod faults;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use faults::Change;

/// The bytes of a file; a device or a pipe, which may have no end, is none.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::metadata(path)?.is_file() {
        true => fs::read(path),
        false => Err(io::Error::other("not a file; move it away")),
    }
}

/// Makes a folder in a folder that is there.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    faults::before(|| Change::CreateFolder(path.to_owned()))?;
    fs::create_dir(path)
}

/// Writes a new file and flushes it to disk; what a kill has left under its name goes, and no link is written through.
pub(crate) fn write_flushed(path: &Path, bytes: &[u8]) -> io::Result<()> {
    faults::before(|| Change::Create(path.to_owned()))?;
    let _ = fs::remove_file(path);
    let mut file = File::create_new(path)?;
    write(&mut file, path, bytes)?;
    flush(&file, path)
}

/// Replaces a file as a whole or not at all: temporary file beside it, flush to disk, rename, flush the folder.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let replaced = write_flushed(&partial, bytes).and_then(|()| rename(&partial, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&partial);
    }
    replaced?;
    flush_folder(path.parent().unwrap_or(Path::new("")))
}

/// Gives a file or folder another name.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    faults::before(|| Change::Rename(from.to_owned(), to.to_owned()))?;
    fs::rename(from, to)
}

/// Removes a folder and what is in it.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    faults::before(|| Change::Remove(path.to_owned()))?;
    fs::remove_dir_all(path)
}

/// Cuts a file short and flushes it.
pub(crate) fn truncate(path: &Path, length: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    faults::before(|| Change::Truncate(path.to_owned(), length))?;
    file.set_len(length)?;
    flush(&file, path)
}

/// Flushes a folder's entries to disk. Only Unix opens folders.
pub(crate) fn flush_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    faults::before(|| Change::FlushFolder(folder.to_owned()))?;
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn write(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = faults::before(|| Change::Write(path.to_owned(), bytes.to_owned())) {
        // A short write: half of it is there.
        let _ = file.write_all(&bytes[..bytes.len() / 2]);
        return Err(error);
    }
    file.write_all(bytes)
}

fn flush(file: &File, path: &Path) -> io::Result<()> {
    faults::before(|| Change::Flush(path.to_owned()))?;
    file.sync_all()
}

/// A file that grows.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Opens a file to append to.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !path.exists() {
            faults::before(|| Change::Create(path.to_owned()))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Appends in one write, so that a killed run leaves whole lines.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        write(&mut self.file, &self.path, bytes)
    }

    /// Flushes what was appended.
    pub fn flush(&self) -> io::Result<()> {
        flush(&self.file, &self.path)
    }

    /// Whether the file is still the one of its name.
    pub fn is_in_place(&self) -> bool {
        is_in_place(&self.file, &self.path)
    }
}

/// Whether an open file is still the one of a name.
pub(crate) fn is_in_place(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let (Ok(open), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
        (open.dev(), open.ino()) == (there.dev(), there.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}
