//! The journal of a prediction: one line for each task that is done, with all votes. It is what a run goes on from, what
//! `hrm arc vote` adds up, and what `hrm view` shows.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// What the first line of a journal says it is.
pub const FORMAT: &str = "hrm arc votes 1";

/// A journal that is written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// The lines of tasks that were there, by name.
    pub done: BTreeMap<String, Value>,
}

impl Journal {
    /// Begins a journal, or goes on with one of the same settings.
    ///
    /// # Errors
    /// If there is one of other settings, or the file system says so.
    pub fn open(path: &Path, settings: &Value) -> Result<Self> {
        let shown = path.display();
        let mut done = BTreeMap::new();
        if path.exists() {
            let mut lines = Lines::open(path)?;
            if let Some((key, was, now)) = difference(&lines.settings, settings) {
                bail!(
                    "{shown} holds votes of another run ({key} was {was}, is {now}); go on with the settings of that run, or remove \
                     the file to begin anew"
                );
            }
            while let Some((task, line)) = lines.next_task()? {
                done.insert(task, line);
            }
            // A line that was cut off is written over.
            let whole = lines.whole;
            let file = OpenOptions::new().write(true).open(path);
            let file = file.with_context(|| format!("cannot write {shown}"))?;
            file.set_len(whole).with_context(|| format!("cannot write {shown}"))?;
        } else {
            let first = json!({ "format": FORMAT, "settings": settings });
            fs::write(path, format!("{first}\n")).with_context(|| format!("cannot write {shown}"))?;
        }
        let file = OpenOptions::new().append(true).open(path);
        let file = file.with_context(|| format!("cannot write {shown}"))?;
        Ok(Self { path: path.to_owned(), file, done })
    }

    /// Writes the lines of tasks, all at once.
    pub fn add(&mut self, lines: &[Value]) -> Result<()> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// The first key with different values.
fn difference(was: &Value, now: &Value) -> Option<(String, String, String)> {
    let (was, now) = (was.as_object()?, now.as_object()?);
    let keys = was.keys().chain(now.keys().filter(|key| !was.contains_key(*key)));
    let text = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    keys.filter(|key| was.get(*key) != now.get(*key))
        .map(|key| (key.clone(), text(was.get(key)), text(now.get(key))))
        .next()
}

/// A journal that is read, line by line.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    number: usize,
    /// What the run was.
    pub settings: Value,
    /// Bytes of the lines that are whole.
    whole: u64,
}

impl Lines {
    /// Opens a journal and reads its first line.
    ///
    /// # Errors
    /// If it is none.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
        let mut lines = Self {
            path: path.to_owned(),
            reader: BufReader::new(file),
            number: 0,
            settings: Value::Null,
            whole: 0,
        };
        let first = lines.next_line()?.unwrap_or_default();
        if first["format"] != FORMAT {
            bail!(
                "{shown}: expected the votes of `hrm arc predict` (first line: format {FORMAT:?}), got another file"
            );
        }
        lines.settings = first["settings"].clone();
        Ok(lines)
    }

    /// The next whole line; the last one of a run that was killed may not be.
    fn next_line(&mut self) -> Result<Option<Value>> {
        let mut text = String::new();
        let read = self.reader.read_line(&mut text);
        let shown = self.path.display();
        let length = read.with_context(|| format!("cannot read {shown}"))?;
        if length == 0 || !text.ends_with('\n') {
            return Ok(None);
        }
        self.number += 1;
        let value = serde_json::from_str(&text).with_context(|| format!("{shown}, line {}", self.number))?;
        self.whole += length as u64;
        Ok(Some(value))
    }

    /// The next task, by name.
    ///
    /// # Errors
    /// If the line is no task.
    pub fn next_task(&mut self) -> Result<Option<(String, Value)>> {
        let Some(line) = self.next_line()? else { return Ok(None) };
        let Some(task) = line["task"].as_str() else {
            bail!("{}, line {}: expected a task with its votes", self.path.display(), self.number);
        };
        Ok(Some((task.to_owned(), line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_goes_on_where_it_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        let settings = json!({"votes": 2, "seed": 1});
        let line = |task: &str| json!({"task": task, "votes": []});
        Journal::open(&path, &settings).unwrap().add(&[line("a"), line("b")]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 5]).unwrap();
        let mut journal = Journal::open(&path, &settings).unwrap();
        assert_eq!(journal.done.keys().collect::<Vec<_>>(), ["a"]);
        journal.add(&[line("b")]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let error = Journal::open(&path, &json!({"votes": 3, "seed": 1})).unwrap_err().to_string();
        assert!(error.contains("votes was 2, is 3"), "{error}");
        fs::write(&path, "{}\n").unwrap();
        assert!(Lines::open(&path).unwrap_err().to_string().contains("hrm arc predict"));
    }
}
