//! A process: its output, line by line in the log, and its end.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::gpu::output::Log;

/// A process, its output so far, and what it is called in the log.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) who: String,
    pub(super) child: Child,
    pub(super) readers: [JoinHandle<Vec<String>>; 2],
    pub(super) begin: Instant,
}

/// A process that has ended.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Its standard output.
    pub(super) lines: Vec<String>,
    /// Its standard error.
    pub(super) errors: Vec<String>,
    /// Why it did not end well, if it did not.
    pub(super) trouble: Option<String>,
    pub(super) time: Duration,
}

impl Running {
    pub(super) fn start(who: &str, mut command: Command, log: &Log) -> Result<Self> {
        // A group of its own, so that what it has started ends with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let output = child.stdout.take().context("no standard output")?;
        let errors = child.stderr.take().context("no standard error")?;
        let readers = [reader(output, who, log), reader(errors, who, log)];
        Ok(Self { who: who.to_owned(), child, readers, begin: Instant::now() })
    }

    /// Waits until it has ended, or ends it.
    pub(super) fn finish(mut self, end: Instant) -> Done {
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(10)),
                _ => break None,
            }
        };
        let time = self.begin.elapsed();
        if status.is_none() {
            kill(&mut self.child);
        }
        let [lines, errors] = self.readers.map(|reader| reader.join().unwrap_or_default());
        let trouble = match status {
            None => Some(format!("was stopped after {:.0} s", time.as_secs_f64())),
            Some(status) => (!status.success()).then(|| ended(status)),
        };
        Done { lines, errors, trouble, time }
    }
}

fn ended(status: ExitStatus) -> String {
    format!("ended with {status}")
}

/// Ends a process and all that it has started.
fn kill(child: &mut Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let _ = child.kill();
    let _ = child.wait();
}

fn reader(stream: impl std::io::Read + Send + 'static, who: &str, log: &Log) -> JoinHandle<Vec<String>> {
    let (who, log) = (who.to_owned(), log.clone());
    thread::spawn(move || {
        let mut lines = Vec::new();
        for bytes in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&bytes).into_owned();
            log.line(&who, &line);
            lines.push(line);
        }
        lines
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_process_that_hangs_ends_with_all_it_started() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let output = crate::gpu::output::Output::open(folder.path()).expect("opened");
        let mut command = Command::new("sh");
        // The sleeping child of the shell holds its output open.
        command.args(["-c", "echo begin; sleep 60 & sleep 60"]);
        let begin = Instant::now();
        let running = Running::start("test", command, output.log()).expect("sh starts");
        let done = running.finish(begin + Duration::from_millis(200));
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!(done.lines, ["begin"]);
        assert!(done.trouble.expect("it was stopped").starts_with("was stopped"));
        let log = fs::read_to_string(folder.path().join("log.txt")).expect("a log");
        assert_eq!(log, "test: begin\n");
    }
}
