//! Any change to a file may fail, and the power may go at any moment: the run goes on to the same bits.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use hrm_train::{
    checkpoint,
    disk::faults::{self, Change, Fault},
    trainer::saved_recipe,
};
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use common::{curve, recipe, run};

/// Faults are of the whole process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where memory is the disk, if there is such a place: flushing costs nothing there.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Every how manyth change is tried: each with `HRM_FAULTS=all`, as `cargo xtask ci --all` runs it, which takes minutes.
fn stride() -> usize {
    if std::env::var_os("HRM_FAULTS").is_some_and(|value| value == "all") { 1 } else { 13 }
}

/// Small, but with everything that writes: checkpoints that are removed again, an average, evaluations, a best one.
const SMALL: &[&str] = &[
    "train.max_steps=5",
    "train.checkpoint_interval=2",
    "train.keep_checkpoints=1",
    "train.ema=0.5",
    "model.hidden_size=16",
    "model.puzzle_emb_ndim=16",
    "eval.interval=3",
];

/// What a whole run ends with: its rows and the weights and moments of its last step.
fn outcome(dir: &Path) -> (Vec<Value>, Vec<Vec<u8>>) {
    let last = dir.join("checkpoints/step-5");
    checkpoint::verify(&last).unwrap();
    let files = ["model.safetensors", "ema.safetensors", "train.safetensors"];
    (curve(dir), files.iter().map(|file| fs::read(last.join(file)).unwrap()).collect())
}

/// Goes on as somebody would: `--resume` where there is a run, from the beginning where there is none.
fn go_on(dir: &Path) -> Vec<String> {
    let resumes = dir.join("config.toml").exists();
    let recipe = if resumes { saved_recipe(dir, &[]).unwrap() } else { recipe(SMALL) };
    let (result, messages) = run(dir, recipe, resumes);
    result.unwrap_or_else(|error| panic!("{error}\n{messages:?}"));
    messages
}

#[test]
fn every_change_may_fail() {
    let _alone = alone();
    let root = folder();
    let whole = root.path().join("whole");
    faults::fail(u64::MAX, Fault::Once);
    run(&whole, recipe(SMALL), false).0.unwrap();
    let (changes, _) = faults::end();
    println!("{changes} changes");
    let expected = outcome(&whole);
    assert!(changes > 60, "{changes} changes");

    let mut unnoticed = Vec::new();
    for fault in [Fault::Once, Fault::FromThenOn] {
        for n in (0..changes).step_by(stride()) {
            let dir = root.path().join(format!("{fault:?}-{n}"));
            faults::fail(n, fault);
            let (result, messages) = run(&dir, recipe(SMALL), false);
            faults::end();
            match result {
                Err(error) => {
                    let error = error.to_string();
                    assert!(
                        error.contains(&format!("injected fault at change {n}")),
                        "{fault:?} {n}: {error}"
                    );
                }
                // What is drawn when all is done is told and no reason to fail.
                Ok(_) if messages.iter().any(|m| m.contains("injected fault")) => unnoticed.push(n),
                Ok(_) => panic!("{fault:?} {n}: nobody noticed"),
            }
            let whole_ones = checkpoint::list(&dir.join("checkpoints")).unwrap_or_default();
            for (_, path) in whole_ones {
                checkpoint::verify(&path).unwrap_or_else(|error| panic!("{fault:?} {n}: {error}"));
            }
            let messages = go_on(&dir);
            assert!(!messages.iter().any(|m| m.contains("damaged")), "{fault:?} {n}: {messages:?}");
            assert!(outcome(&dir) == expected, "{fault:?} {n}: another outcome");
            fs::remove_dir_all(&dir).unwrap();
        }
    }
    // The end of the session and the curves.
    assert!(unnoticed.iter().all(|n| *n + 20 > changes), "{unnoticed:?} of {changes}");
    println!("{changes} changes, every {}th failed alone and with all after it", stride());
}

/// A disk as a crash may leave it: what was flushed is there, the rest is up to the file system.
#[derive(Default)]
struct Disk {
    /// Contents by number: flushed, and as the program sees them.
    files: Vec<(Vec<u8>, Vec<u8>)>,
    /// Names, as flushed and as the program sees them; `None` is a folder.
    durable: BTreeMap<PathBuf, Option<usize>>,
    names: BTreeMap<PathBuf, Option<usize>>,
}

impl Disk {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::CreateFolder(path) => {
                self.names.insert(path.clone(), None);
            }
            Change::Create(path) => {
                self.files.push(Default::default());
                self.names.insert(path.clone(), Some(self.files.len() - 1));
            }
            Change::Write(path, bytes) => self.seen(path).1.extend(bytes),
            Change::Truncate(path, length) => self.seen(path).1.truncate(*length as usize),
            Change::Flush(path) => {
                let file = self.seen(path);
                file.0 = file.1.clone();
            }
            Change::FlushFolder(folder) => {
                self.durable.retain(|path, _| path.parent() != Some(folder));
                let here = self.names.iter().filter(|(path, _)| path.parent() == Some(folder));
                self.durable.extend(here.map(|(path, file)| (path.clone(), *file)));
            }
            Change::Rename(from, to) => {
                let moved: Vec<PathBuf> =
                    self.names.keys().filter(|path| path.starts_with(from)).cloned().collect();
                for path in moved {
                    let file = self.names.remove(&path).unwrap();
                    self.names.insert(to.join(path.strip_prefix(from).unwrap()), file);
                    // A folder takes what is flushed in it along; the folder's own name changes when it is flushed.
                    if let Some(file) = self.durable.get(&path).copied() {
                        self.durable.insert(to.join(path.strip_prefix(from).unwrap()), file);
                    }
                }
                if self.durable.contains_key(to) && !self.names.contains_key(from) {
                    self.durable.remove(to);
                }
                // `join` of an empty rest adds a slash that comparisons ignore.
            }
            Change::Remove(path) => self.names.retain(|name, _| !name.starts_with(path)),
        }
    }

    fn seen(&mut self, path: &Path) -> &mut (Vec<u8>, Vec<u8>) {
        let file = self
            .names
            .get(path)
            .copied()
            .flatten()
            .unwrap_or_else(|| panic!("{} is not open", path.display()));
        &mut self.files[file]
    }

    /// The folder `from` as found after the crash, in `to`. With a generator, each name that was not flushed may have
    /// made it, and each file may hold a part of what was not flushed.
    fn leave(&self, from: &Path, to: &Path, mut luck: Option<&mut rand_chacha::ChaCha8Rng>) {
        let mut names = self.durable.clone();
        if let Some(luck) = &mut luck {
            let all: BTreeSet<&PathBuf> = self.names.keys().chain(self.durable.keys()).collect();
            for path in all {
                if luck.random_bool(0.5) {
                    match self.names.get(path) {
                        Some(file) => names.insert(path.clone(), *file),
                        None => names.remove(path),
                    };
                }
            }
        }
        fs::create_dir_all(to).unwrap();
        for (path, file) in &names {
            let Ok(rest) = path.strip_prefix(from) else { continue };
            // A name is found only where all folders above it are.
            let above =
                path.ancestors().skip(1).take_while(|above| above.starts_with(from) && *above != from);
            if above.into_iter().any(|above| names.get(above) != Some(&None)) || rest.as_os_str().is_empty() {
                continue;
            }
            match file {
                None => fs::create_dir_all(to.join(rest)).unwrap(),
                Some(file) => {
                    let (flushed, seen) = &self.files[*file];
                    let bytes = match &mut luck {
                        Some(luck) if seen.len() > flushed.len() => {
                            let mut bytes = seen.clone();
                            let there = luck.random_range(flushed.len()..=seen.len());
                            // The length may have made it before the contents.
                            match luck.random_bool(0.5) {
                                true => bytes[there..].fill(0),
                                false => bytes.truncate(there),
                            }
                            bytes
                        }
                        _ => flushed.clone(),
                    };
                    fs::write(to.join(rest), bytes).unwrap();
                }
            }
        }
    }
}

/// The power goes after each change: what a checkpoint counts on is on the disk.
#[test]
fn the_power_may_go_at_any_moment() {
    let _alone = alone();
    let root = folder();
    let whole = root.path().join("whole");
    faults::record();
    run(&whole, recipe(SMALL), false).0.unwrap();
    let (_, changes) = faults::end();
    let expected = outcome(&whole);

    let mut disk = Disk::default();
    disk.names.insert(whole.clone(), None);
    disk.durable.insert(whole.clone(), None);
    let mut ends: HashMap<String, usize> = HashMap::new();
    for (n, change) in changes.iter().enumerate() {
        disk.apply(change);
        if n % stride() != 0 {
            continue;
        }
        for luck in 0..3u64 {
            let dir = root.path().join(format!("{n}-{luck}"));
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(n as u64 * 10 + luck);
            disk.leave(&whole, &dir, (luck > 0).then_some(&mut rng));
            let messages = go_on(&dir);
            assert!(
                !messages.iter().any(|m| m.starts_with("warning")),
                "{n} {luck}: {change:?}\n{messages:?}"
            );
            assert!(outcome(&dir) == expected, "{n} {luck}: another outcome after {change:?}");
            let from = messages.iter().find(|m| m.starts_with("resumed") || m.starts_with("the run has"));
            *ends.entry(from.cloned().unwrap_or_default()).or_default() += 1;
            fs::remove_dir_all(&dir).unwrap();
        }
    }
    println!("{} moments, every {}th, three disks each: {ends:?}", changes.len(), stride());
    assert!(ends.contains_key("resumed after step 4"), "{ends:?}");
}
