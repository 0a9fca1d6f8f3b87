//! Data sets from their public homes: Sudoku-Extreme, Maze-Hard, ARC-1, ARC-2, ConceptARC.
//!
//! [`download`] leaves the files of a set in a folder of the cache and says where they are. A file that is there is checked
//! against its checksum and not fetched again. A connection that is cut is taken up where it ended. Without the cargo feature
//! `download` there is no network, and files come by [`Options::from`].
//!
//! # What is checked
//! The tasks of the three ARC sets are compared with a checksum of their content that is part of this program, at fixed commits.
//! The tables of Sudoku-Extreme and Maze-Hard have no such checksum here: the one seen at the first download is recorded in a
//! `.sha256` file beside the data, in the form of `sha256sum`, and every later use is checked against that. It shows damage
//! since then, not a wrong file from the start.
//!
//! ```no_run
//! use hrm_data::download::{self, Options};
//!
//! let set = download::data_set("maze-hard")?;
//! let options = Options::new(download::cache_dir()?);
//! let files = download::download(&set, &options, &mut |progress| eprintln!("{progress}"))?;
//! let mazes = hrm_data::reader::read_all("maze".parse()?, &files[0])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
#[cfg(feature = "download")]
mod transfer;

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::checksum::sha256_of_file;

pub use archive::{Archive, Part};
#[cfg(feature = "download")]
use transfer::fetch;

/// A data set and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSet {
    /// The name by which it is asked for, and of its folder.
    pub name: String,
    /// What it is, in a line.
    pub about: String,
    /// Its files.
    pub files: Vec<Remote>,
}

/// A file on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where it is.
    pub url: String,
    /// Its name here: no folders.
    pub file: String,
    /// Its SHA-256 as 64 hexadecimal digits, if it is known in advance.
    pub sha256: Option<String>,
    /// What to take out of it, if it is an archive. If not, the file itself is wanted.
    pub archive: Option<Archive>,
}

/// How to download.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder that holds a folder for each set; see [`cache_dir`].
    pub cache: PathBuf,
    /// Take the files from here and use no network: one file of the set, or a folder that holds all of them by their names.
    pub from: Option<PathBuf>,
    /// How often in a row a transfer may fail without any new byte.
    pub retries: u32,
    /// The pause before the first new try; it grows with each failure.
    pub pause: Duration,
    /// How long a server may be silent.
    pub timeout: Duration,
}

impl Options {
    /// Into a folder, over the network, with five retries.
    pub const fn new(cache: PathBuf) -> Self {
        Self {
            cache,
            from: None,
            retries: 5,
            pause: Duration::from_secs(1),
            timeout: Duration::from_secs(60),
        }
    }
}

/// What a download is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Bytes of a file are here.
    Bytes {
        /// The file.
        file: &'a str,
        /// Bytes so far, with those of earlier tries.
        done: u64,
        /// Bytes in all, if the server says so.
        total: Option<u64>,
    },
    /// A try failed, another follows.
    Retry {
        /// The file.
        file: &'a str,
        /// Failures in a row.
        failures: u32,
        /// Why.
        why: &'a str,
    },
    /// A file is being checked.
    Checking {
        /// The file.
        file: &'a str,
    },
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { file, done, total: Some(total) } => write!(f, "{file}: {done} of {total} bytes"),
            Self::Bytes { file, done, total: None } => write!(f, "{file}: {done} bytes"),
            Self::Retry { file, failures, why } => write!(f, "{file}: {why}; try {}", failures + 1),
            Self::Checking { file } => write!(f, "{file}: checking"),
        }
    }
}

/// Why a data set is not there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// No such set.
    #[error("expected one of {}, got {got:?}", known.join(", "))]
    UnknownSet {
        /// The name.
        got: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// No name of a model.
    #[error("expected a model on the Hugging Face hub as OWNER/NAME, got {got:?}")]
    UnknownModel {
        /// What was given.
        got: String,
    },
    /// Nowhere to put files.
    #[error("no cache folder: set HRM_CACHE to one (XDG_CACHE_HOME and HOME are not set either)")]
    NoCache,
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Another process downloads the same set.
    #[error(
        "{}: another process is downloading this set; wait for it, or choose another cache folder with HRM_CACHE",
        path.display()
    )]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// The server answers, but not with the file.
    #[error("{url}: expected status 200, got {status}; {}", advice(file))]
    Status {
        /// Where.
        url: String,
        /// The file.
        file: String,
        /// The status.
        status: u16,
    },
    /// The server cannot be reached, or the connection ends too early, again and again.
    #[error("{url}: {why} ({}); run the command again to go on from here, or {}", times(*failures), advice(file))]
    Network {
        /// Where.
        url: String,
        /// The file.
        file: String,
        /// The last failure.
        why: String,
        /// Failures in a row.
        failures: u32,
    },
    /// The program was built without the network.
    #[error(
        "{url}: this program was built without the network (the cargo feature `download` of hrm-data); use one with it, or {}",
        advice(file)
    )]
    NoNetwork {
        /// Where.
        url: String,
        /// The file.
        file: String,
    },
    /// No encrypted connection on this machine.
    #[error("{url}: {why}; {}", advice(file))]
    NoTls {
        /// Where.
        url: String,
        /// The file.
        file: String,
        /// Why not.
        why: &'static str,
    },
    /// A file is not what it should be.
    #[error("{}: expected SHA-256 {expected} ({known}), got {got}; {hint}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: String,
        /// How that is known.
        known: &'static str,
        /// What it is.
        got: String,
        /// What to do.
        hint: String,
    },
    /// What was given instead of a download does not fit.
    #[error("{}: expected a file named {}, or a folder with all of these", path.display(), names.join(" or "))]
    From {
        /// What was given.
        path: PathBuf,
        /// The names of the set's files.
        names: Vec<String>,
    },
    /// An archive that was given instead of a download, without what it should hold.
    #[error("{}: {why}; it is another archive, another version, or damaged", path.display())]
    Given {
        /// What was given.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A recorded checksum that is none.
    #[error("{}: expected 64 hexadecimal digits and a file name, got {got:?}; delete it to record the checksum anew", path.display())]
    Record {
        /// The `.sha256` file.
        path: PathBuf,
        /// Its start.
        got: String,
    },
    /// An archive without what it should hold.
    #[error("{}: {why}; delete it to download it again, or {}", path.display(), advice(file))]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Its name.
        file: String,
        /// What is wrong.
        why: String,
    },
}

fn times(failures: u32) -> String {
    if failures == 1 { "once".to_owned() } else { format!("{failures} failures in a row") }
}

fn advice(file: &str) -> String {
    format!("fetch {file} by other means and give it with `--from FILE`")
}

/// The data sets that can be downloaded.
pub fn data_sets() -> Vec<DataSet> {
    let csv = |name: &str, about: &str, home: &str| {
        let remote = |file: &str| Remote {
            url: format!("https://huggingface.co/datasets/{home}/resolve/main/{file}"),
            file: file.to_owned(),
            sha256: None,
            archive: None,
        };
        let files = ["train.csv", "test.csv"].map(remote).to_vec();
        DataSet { name: name.to_owned(), about: about.to_owned(), files }
    };
    let tasks = |name: &str, about: &str, (home, commit): (&str, &str), sha256: &str, parts: [_; 2]| {
        let part = |(folder, file, tasks): (&str, &str, usize)| Part {
            folder: folder.to_owned(),
            file: file.to_owned(),
            tasks,
        };
        let archive =
            Archive { parts: parts.into_iter().map(part).collect(), sha256: Some(sha256.to_owned()) };
        let (_, repository) = home.split_once('/').unwrap_or(("", home));
        let remote = Remote {
            url: format!("https://github.com/{home}/archive/{commit}.tar.gz"),
            file: format!("{repository}.tar.gz"),
            sha256: None,
            archive: Some(archive),
        };
        DataSet { name: name.to_owned(), about: about.to_owned(), files: vec![remote] }
    };
    vec![
        csv(
            "sudoku-extreme",
            "3.8 million hard Sudoku for training, 423 thousand for testing",
            "sapientinc/sudoku-extreme",
        ),
        csv(
            "maze-hard",
            "1,000 mazes of 30x30 for training, 1,000 for testing",
            "sapientinc/maze-30x30-hard-1k",
        ),
        tasks(
            "arc-1",
            "ARC-AGI-1: 400 training and 400 evaluation tasks",
            ("fchollet/ARC-AGI", "399030444e0ab0cc8b4e199870fb20b863846f34"),
            "4c4b85f7e6f1a2414c907d879740205256bf486b31789dd11a443645f1ab7bff",
            [("data/training", "training.json", 400), ("data/evaluation", "evaluation.json", 400)],
        ),
        tasks(
            "arc-2",
            "ARC-AGI-2: 1,000 training and 120 evaluation tasks",
            ("arcprize/ARC-AGI-2", "f3283f727488ad98fe575ea6a5ac981e4a188e49"),
            "7cd6bb469e15c733bb41d355fd73d5dd53c9a6cb7f3b3b146ee37960362a4966",
            [("data/training", "training.json", 1000), ("data/evaluation", "evaluation.json", 120)],
        ),
        tasks(
            "conceptarc",
            "ConceptARC: 160 tasks on 16 concepts, and 16 minimal ones",
            ("victorvikram/ConceptARC", "b22ef526b4656679816b7811e78f55cc24d736d7"),
            "58693cc47f531a5bdd04c9e1c6d9e2452b57baeb0cece46bcd072edd69071ad7",
            [("corpus", "corpus.json", 160), ("MinimalTasks", "minimal.json", 16)],
        ),
    ]
}

/// A model of the original code on the Hugging Face hub, `OWNER/NAME`, as a set of two files: its weights and its configuration.
/// `endpoint` is the address of the hub.
///
/// # Errors
/// [`DownloadError::UnknownModel`] if that is no name of one.
pub fn hub_model(endpoint: &str, name: &str) -> Result<DataSet, DownloadError> {
    let is_part = |part: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(is_plain)
    };
    if !name.split_once('/').is_some_and(|(owner, name)| is_part(owner) && is_part(name)) {
        return Err(DownloadError::UnknownModel { got: name.to_owned() });
    }
    let remote = |file: &str| Remote {
        url: format!("{}/{name}/resolve/main/{file}", endpoint.trim_end_matches('/')),
        file: file.to_owned(),
        sha256: None,
        archive: None,
    };
    let files = ["checkpoint", "all_config.yaml"].map(remote).to_vec();
    let folder = format!("hf-{}", name.replace('/', "--"));
    Ok(DataSet { name: folder, about: format!("{name} on the Hugging Face hub"), files })
}

/// The data set of a name.
///
/// # Errors
/// [`DownloadError::UnknownSet`] with the names there are.
pub fn data_set(name: &str) -> Result<DataSet, DownloadError> {
    let sets = data_sets();
    let known = sets.iter().map(|set| set.name.clone()).collect();
    let fail = DownloadError::UnknownSet { got: name.to_owned(), known };
    sets.into_iter().find(|set| set.name == name).ok_or(fail)
}

/// The folder for downloads: `HRM_CACHE`, or `hrm` in `XDG_CACHE_HOME`, or `.cache/hrm` in `HOME`.
///
/// # Errors
/// [`DownloadError::NoCache`] if none of these variables is set.
pub fn cache_dir() -> Result<PathBuf, DownloadError> {
    cache_dir_of(|name| std::env::var_os(name))
}

fn cache_dir_of(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, DownloadError> {
    let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("HRM_CACHE")
        // The specification has relative paths ignored.
        .or_else(|| folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("hrm")))
        .or_else(|| folder("HOME").map(|path| path.join(".cache").join("hrm")))
        .ok_or(DownloadError::NoCache)
}

/// Makes the files of a data set available, and says where they are: for each [`Remote`] the file itself, or the files of tasks
/// taken out of it, in order. They appear in `cache/NAME` only when they are complete and checked.
///
/// With [`Options::from`] a single file, only that one is taken.
///
/// # Errors
/// [`DownloadError`] with what to do.
pub fn download(
    set: &DataSet,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<PathBuf>, DownloadError> {
    let folder = options.cache.join(&set.name);
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let lock_path = folder.join(".lock");
    no_link(&lock_path)?;
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(at(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(DownloadError::Busy { path: lock_path }),
        // Some network file systems know no locks; two downloads at once are then the user's care.
        Err(fs::TryLockError::Error(_)) => {}
    }
    let mut ready = Vec::new();
    for (remote, from) in sources(set, options.from.as_deref())? {
        // What is given is looked at before a copy of it takes the place of what is there.
        if let (Some(archive), Some(path)) = (&remote.archive, &from) {
            archive.unpack(path, &folder).map_err(|error| match error {
                DownloadError::Archive { why, .. } => DownloadError::Given { path: path.clone(), why },
                other => other,
            })?;
        }
        let file = obtain(remote, &folder, from.as_deref(), options, progress)?;
        match &remote.archive {
            None => ready.push(file),
            Some(archive) => ready.extend(archive.unpack(&file, &folder)?),
        }
    }
    Ok(ready)
}

/// The files to get, each with the place to copy it from, if there is one.
fn sources<'a>(
    set: &'a DataSet,
    from: Option<&Path>,
) -> Result<Vec<(&'a Remote, Option<PathBuf>)>, DownloadError> {
    let Some(from) = from else { return Ok(set.files.iter().map(|remote| (remote, None)).collect()) };
    let fail = || {
        let names = set.files.iter().map(|remote| remote.file.clone()).collect();
        DownloadError::From { path: from.to_owned(), names }
    };
    if from.is_dir() {
        let place = |remote: &'a Remote| {
            let path = from.join(&remote.file);
            path.is_file().then_some((remote, Some(path))).ok_or_else(fail)
        };
        return set.files.iter().map(place).collect();
    }
    if !from.is_file() {
        return Err(fail());
    }
    // A set of one file takes it by any name: browsers and git hosts rename archives.
    let named = |remote: &&Remote| from.file_name().is_some_and(|name| name == remote.file.as_str());
    let only = set.files.first().filter(|_| set.files.len() == 1);
    let remote = set.files.iter().find(named).or(only).ok_or_else(fail)?;
    Ok(vec![(remote, Some(from.to_owned()))])
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DownloadError {
    let path = path.to_owned();
    move |source| DownloadError::Io { path, source }
}

/// Makes sure that a name in the cache is no link: what is written there would go elsewhere.
fn no_link(path: &Path) -> Result<(), DownloadError> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        let why = "a symbolic link, through which nothing is written; remove it";
        return Err(at(path)(io::Error::new(io::ErrorKind::InvalidInput, why)));
    }
    Ok(())
}

/// Where the checksum of a file is recorded.
fn record(folder: &Path, remote: &Remote) -> PathBuf {
    folder.join(format!("{}.sha256", remote.file))
}

/// The file, checked: as it is, copied, or downloaded.
fn obtain(
    remote: &Remote,
    folder: &Path,
    from: Option<&Path>,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, DownloadError> {
    let target = folder.join(&remote.file);
    let record = record(folder, remote);
    let part = folder.join(format!("{}.part", remote.file));
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if let Some(given) = from.filter(|given| same(given, &part)) {
        let why = "it is what an interrupted download left; give a whole file".to_owned();
        return Err(DownloadError::Given { path: given.to_owned(), why });
    }
    // The file in its own place is given: there is nothing to copy.
    let from = from.filter(|given| !same(given, &target));
    if target.is_file() && from.is_none() {
        progress(Progress::Checking { file: &remote.file });
        let got = sha256_of_file(&target).map_err(at(&target))?;
        let (expected, known) = match (&remote.sha256, read_record(&record)?) {
            (Some(sum), _) => (sum.to_ascii_lowercase(), "known in advance"),
            (None, Some(sum)) => (sum, "recorded when it was downloaded"),
            (None, None) => (got.clone(), "not recorded yet"),
        };
        if got != expected {
            let hint =
                format!("it changed since then: delete it to download it again, or {}", advice(&remote.file));
            return Err(DownloadError::Checksum { path: target, expected, known, got, hint });
        }
        write_record(&record, &got, &remote.file)?;
        return Ok(target);
    }
    for path in [&part, &tag_path(&part)] {
        no_link(path)?;
    }
    match from {
        Some(from) => {
            // It may be a second name of what is given.
            discard(&part).map_err(at(&part))?;
            fs::copy(from, &part).map_err(at(from))?;
        }
        None => fetch(remote, &part, options, progress)?,
    }
    progress(Progress::Checking { file: &remote.file });
    let got = sha256_of_file(&part).map_err(at(&part))?;
    if let Some(expected) = remote.sha256.as_ref().map(|sum| sum.to_ascii_lowercase()).filter(|e| *e != got) {
        // What is damaged must not be taken up again.
        discard(&part).map_err(at(&part))?;
        let hint = match from {
            Some(_) => "it is another file, another version, or damaged".to_owned(),
            None => format!("the server sent something else: try again later, or {}", advice(&remote.file)),
        };
        let path = from.map_or_else(|| PathBuf::from(&remote.url), Path::to_owned);
        return Err(DownloadError::Checksum { path, expected, known: "known in advance", got, hint });
    }
    File::open(&part).and_then(|file| file.sync_all()).map_err(at(&part))?;
    write_record(&record, &got, &remote.file)?;
    fs::rename(&part, &target).map_err(at(&target))?;
    discard(&part).map_err(at(&part))?;
    Ok(target)
}

/// There is no network in this build.
#[cfg(not(feature = "download"))]
fn fetch(
    remote: &Remote,
    _: &Path,
    _: &Options,
    _: &mut dyn FnMut(Progress<'_>),
) -> Result<(), DownloadError> {
    Err(DownloadError::NoNetwork { url: remote.url.clone(), file: remote.file.clone() })
}

/// Removes a partial file and what is known of it.
fn discard(part: &Path) -> io::Result<()> {
    for path in [part.to_owned(), tag_path(part)] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Beside a partial file: which version of the remote file it is a part of.
fn tag_path(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".tag");
    PathBuf::from(name)
}

/// The checksum in a file of `sha256sum`'s form.
fn read_record(path: &Path) -> Result<Option<String>, DownloadError> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => {
            file.take(4096).read_to_string(&mut text).map_err(at(path))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    }
    let sum = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(sum));
    }
    Err(DownloadError::Record { path: path.to_owned(), got: text.chars().take(80).collect() })
}

fn write_record(path: &Path, sum: &str, file: &str) -> Result<(), DownloadError> {
    write_whole(path, format!("{sum}  {file}\n").as_bytes())
}

/// Writes a file that is there as a whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), DownloadError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    no_link(&new)?;
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(at(path))
}

#[cfg(all(test, feature = "download"))]
mod tests;
