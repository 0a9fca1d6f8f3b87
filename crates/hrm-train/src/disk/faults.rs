//! Tests only: the n-th change to a file fails, or every change is recorded. Nothing is armed in a program that does not ask.

use std::{
    io,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A change to a file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A folder was made.
    CreateFolder(PathBuf),
    /// A file was made, or emptied.
    Create(PathBuf),
    /// Bytes were appended to a file.
    Write(PathBuf, Vec<u8>),
    /// A file was cut to a length.
    Truncate(PathBuf, u64),
    /// A file was flushed.
    Flush(PathBuf),
    /// The names in a folder were flushed.
    FlushFolder(PathBuf),
    /// A file or folder got another name.
    Rename(PathBuf, PathBuf),
    /// A folder was removed with what was in it.
    Remove(PathBuf),
}

/// What becomes of the change that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails alone (a write: after half its bytes); those after it succeed.
    Once,
    /// It fails, and so does every change after it: a disk that is gone.
    FromThenOn,
}

#[derive(Debug)]
struct Plan {
    count: u64,
    fails: Option<(u64, Fault)>,
    record: Option<Vec<Change>>,
}

static ARMED: AtomicBool = AtomicBool::new(false);
static PLAN: Mutex<Plan> = Mutex::new(Plan { count: 0, fails: None, record: None });

fn set(plan: Plan, armed: bool) -> Plan {
    ARMED.store(armed, Ordering::SeqCst);
    std::mem::replace(&mut PLAN.lock().unwrap_or_else(PoisonError::into_inner), plan)
}

/// Counts changes from now on, and lets the `n`-th (from 0) fail.
pub fn fail(n: u64, fault: Fault) {
    set(Plan { count: 0, fails: Some((n, fault)), record: None }, true);
}

/// Records changes from now on.
pub fn record() {
    set(Plan { count: 0, fails: None, record: Some(Vec::new()) }, true);
}

/// Ends [`fail`] and [`record`]; gives how many changes were asked for and what was recorded.
pub fn end() -> (u64, Vec<Change>) {
    let plan = set(Plan { count: 0, fails: None, record: None }, false);
    (plan.count, plan.record.unwrap_or_default())
}

/// Stands before every change.
pub(super) fn before(change: impl FnOnce() -> Change) -> io::Result<()> {
    if !ARMED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let mut plan = PLAN.lock().unwrap_or_else(PoisonError::into_inner);
    let n = plan.count;
    plan.count += 1;
    match plan.fails {
        Some((failing, Fault::Once)) if n == failing => return Err(failure(n)),
        Some((failing, Fault::FromThenOn)) if n >= failing => return Err(failure(n)),
        _ => {}
    }
    if let Some(record) = &mut plan.record {
        record.push(change());
    }
    Ok(())
}

fn failure(n: u64) -> io::Error {
    io::Error::other(format!("injected fault at change {n}"))
}
