//! The folder of a dataset: written beside its place, with checksums, and put there as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{DatasetError, Overwrite};
use crate::bounded::read_text;
use crate::checksum::sha256_of_file;

/// SHA-256 of the other files of a dataset's folder, as `sha256sum -c` reads them.
pub(crate) const CHECKSUMS: &str = "checksums.sha256";
/// What is added to the name of a dataset that is being replaced: nothing that a person would call a copy of theirs.
pub(crate) const OLD: &str = ".hrm-old";
/// The same of one that is being written.
const PARTIAL: &str = ".hrm-partial";
/// The largest list of checksums that is read.
const MAX_CHECKSUMS: u64 = 1 << 20;

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> DatasetError + use<> {
    let path = path.to_owned();
    move |source| DatasetError::Io { path, source }
}

/// A name beside a folder.
pub(crate) fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    dir.with_file_name(name)
}

/// Lets `fill` write the files of a dataset into a new folder, adds their checksums, and puts it in the place of `dir`. Until
/// then a dataset that is there stays as it is; a kill between the two renames leaves it as `dir.hrm-old`. Other files in the
/// folder are kept.
pub(crate) fn write<E: From<DatasetError>>(
    dir: &Path,
    overwrite: Overwrite,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    if overwrite == Overwrite::No && dir.join("dataset.json").exists() {
        return Err(DatasetError::Exists { path: dir.to_owned() }.into());
    }
    // Where a link leads, not the link.
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let (new, old) = (beside(&dir, PARTIAL), beside(&dir, OLD));
    let clear = |path: &Path| match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(path)(error)),
        _ => Ok(()),
    };
    clear(&new)?;
    fs::create_dir_all(&new).map_err(io_at(&new))?;
    let put = || -> Result<(), E> {
        fill(&new)?;
        seal(&new)?;
        Ok(put_in_place(&dir, &new, &old)?)
    };
    put().inspect_err(|_| {
        let _ = fs::remove_dir_all(&new);
    })?;
    Ok(clear(&old)?)
}

fn put_in_place(dir: &Path, new: &Path, old: &Path) -> Result<(), DatasetError> {
    if dir.exists() {
        // Left by a kill before the other files had moved.
        if old.exists() {
            keep_others(old, dir)?;
            fs::remove_dir_all(old).map_err(io_at(old))?;
        }
        fs::rename(dir, old).map_err(io_at(dir))?;
    }
    fs::rename(new, dir).map_err(io_at(dir))?;
    if old.exists() {
        keep_others(old, dir)?;
    }
    flush(dir.parent().unwrap_or(Path::new("")))
}

/// Moves the files that are no part of a dataset from its old folder to its new one.
fn keep_others(old: &Path, dir: &Path) -> Result<(), DatasetError> {
    for entry in fs::read_dir(old).map_err(io_at(old))? {
        let path = entry.map_err(io_at(old))?.path();
        let name = path.file_name().unwrap_or_default();
        let (text, to) = (name.to_string_lossy(), dir.join(name));
        let ours = text.ends_with(".npy") || text.ends_with(".npy.gz") || text == "dataset.json";
        if !ours && text != CHECKSUMS && !to.exists() {
            fs::rename(&path, to).map_err(io_at(&path))?;
        }
    }
    Ok(())
}

/// Writes the checksums of a folder's files, and flushes everything.
fn seal(dir: &Path) -> Result<(), DatasetError> {
    let mut lines = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(io_at(dir))? {
        let path = entry.map_err(io_at(dir))?.path();
        File::open(&path).and_then(|file| file.sync_all()).map_err(io_at(&path))?;
        let sum = sha256_of_file(&path).map_err(io_at(&path))?;
        lines.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), sum);
    }
    let text: String = lines.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    let path = dir.join(CHECKSUMS);
    fs::write(&path, text).and_then(|()| File::open(&path)?.sync_all()).map_err(io_at(&path))?;
    flush(dir)
}

fn flush(dir: &Path) -> Result<(), DatasetError> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    if cfg!(unix) {
        File::open(dir).and_then(|folder| folder.sync_all()).map_err(io_at(dir))?;
    }
    Ok(())
}

/// The checksums of a folder by file name; `None` where there are none, as in datasets of other programs.
pub(crate) fn checksums(dir: &Path) -> Result<Option<BTreeMap<String, String>>, DatasetError> {
    let path = dir.join(CHECKSUMS);
    let text = match read_text(&path, MAX_CHECKSUMS) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(io_at(&path))?,
    };
    let lines =
        text.lines().map(|line| line.split_once("  ").map(|(sum, name)| (name.to_owned(), sum.to_owned())));
    let sums: Option<BTreeMap<String, String>> = lines.collect();
    let got = || text.chars().take(80).collect();
    sums.map(Some).ok_or_else(|| DatasetError::Checksum {
        path,
        expected: "lines of sha256sum".to_owned(),
        got: got(),
    })
}

/// Compares a file with its checksum, where the folder has any.
pub(crate) fn verify(path: &Path, sums: Option<&BTreeMap<String, String>>) -> Result<(), DatasetError> {
    let Some(sums) = sums else { return Ok(()) };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let got = sha256_of_file(path).map_err(io_at(path))?;
    match sums.get(&*name) {
        Some(expected) if *expected == got => Ok(()),
        expected => {
            let expected = expected.cloned().unwrap_or_else(|| format!("{CHECKSUMS} to list it"));
            Err(DatasetError::Checksum { path: path.to_owned(), expected, got })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Dataset;

    #[test]
    fn bundled_data_have_checksums_that_hold() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets");
        let is_data = |path: &Path| {
            path.extension().is_some_and(|end| end == "npy" || end == "gz") || path.ends_with("dataset.json")
        };
        let (mut folders, mut files) = (vec![root], 0);
        while let Some(folder) = folders.pop() {
            let sums = checksums(&folder).unwrap();
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if is_data(&path) {
                    assert!(sums.is_some(), "{}: no {CHECKSUMS}", folder.display());
                    verify(&path, sums.as_ref()).unwrap();
                    files += 1;
                }
            }
        }
        assert!(files >= 50, "{files}");
    }

    #[test]
    fn a_replacement_is_whole_or_not_there() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("train");
        let put = |text: &str, overwrite| {
            write::<DatasetError>(&dir, overwrite, |dir| {
                fs::write(dir.join("dataset.json"), text).map_err(io_at(dir))?;
                if text == "fails" { Err(DatasetError::Exists { path: dir.to_owned() }) } else { Ok(()) }
            })
        };
        let there = || fs::read_to_string(dir.join("dataset.json")).unwrap();
        put("one", Overwrite::No).unwrap();
        assert!(matches!(put("two", Overwrite::No), Err(DatasetError::Exists { .. })));
        assert!(put("fails", Overwrite::Yes).is_err());
        assert_eq!(there(), "one", "what was there stays until the new one is whole");
        put("two", Overwrite::Yes).unwrap();
        assert_eq!(there(), "two");
        let names = || fs::read_dir(root.path()).unwrap().count();
        assert_eq!(names(), 1, "nothing is left beside it");
        // Copies that somebody made are none of ours.
        for name in [".old", ".partial", ".bak"] {
            fs::create_dir(beside(&dir, name)).unwrap();
        }
        put("two", Overwrite::Yes).unwrap();
        assert_eq!(names(), 4);

        // Killed between the two renames, and after them.
        fs::write(dir.join("notes"), "mine").unwrap();
        fs::rename(&dir, beside(&dir, OLD)).unwrap();
        let error = Dataset::load(&dir).unwrap_err().to_string();
        assert!(error.contains("train.hrm-old") && error.contains("rename"), "{error}");
        put("three", Overwrite::No).unwrap();
        assert_eq!((there().as_str(), names()), ("three", 4));
        fs::create_dir(beside(&dir, OLD)).unwrap();
        fs::write(beside(&dir, OLD).join("more notes"), "mine too").unwrap();
        put("four", Overwrite::Yes).unwrap();
        assert!(dir.join("notes").is_file() && dir.join("more notes").is_file());
        assert_eq!(names(), 4);
    }
}
