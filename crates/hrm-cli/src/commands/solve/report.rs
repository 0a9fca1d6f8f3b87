//! What `hrm solve` prints: text for people, one JSON object for programs, both as answers come.

use std::{io::Write, thread, time::Duration};

use anyhow::Result;
use hrm_data::{registry::Family, render::Style, task::Worked};
use hrm_engine::Weights;
use hrm_infer::{Answer, Source, Sources, Thought};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Attempt, By, ModelInfo, differences};
use crate::{
    infer::origin,
    models,
    puzzles::{Entry, Puzzle},
    terminal::{self, Panel, count, side_by_side},
};

/// Boards drawn for one puzzle, the puzzle itself not counted.
const MAX_BOARDS: usize = 5;

/// How long a board stands in an animation at most, and all of them together.
const STEP: Duration = Duration::from_millis(350);
const STEPS: Duration = Duration::from_secs(6);

/// How many puzzles went which way.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub puzzles: usize,
    pub solved: usize,
    wrong: usize,
    rejected: usize,
    /// Of the solved ones.
    sources: Sources,
    segments: usize,
    guesses: u64,
    guesses_without_model: u64,
    steps: usize,
    milliseconds: f64,
    answers: usize,
    answers_matched: usize,
    /// Of a classical solver, by unit.
    work: Vec<(&'static str, u64)>,
}

impl Tally {
    fn add(&mut self, attempt: &Attempt<'_>) {
        self.puzzles += 1;
        // What a classical solver ends with is an answer, be it the longer way through a maze.
        let solved = attempt.fault.is_none() || matches!(attempt.by, By::Method(_));
        *if solved { &mut self.solved } else { &mut self.wrong } += 1;
        self.milliseconds += attempt.milliseconds;
        self.answers += usize::from(attempt.matches_answer.is_some());
        self.answers_matched += usize::from(attempt.matches_answer == Some(true));
        match attempt.by {
            By::Models(answer, _) => {
                if solved {
                    self.sources.add(answer.source);
                }
                self.steps += answer.trace.steps;
                self.segments += answer.segments;
                if let Some(search) = answer.search {
                    self.guesses += search.guesses;
                    self.guesses_without_model += search.guesses_without.unwrap_or_default();
                }
            }
            By::Method(worked) => {
                for &(unit, amount) in &worked.work {
                    match self.work.iter_mut().find(|(known, _)| *known == unit) {
                        Some((_, sum)) => *sum += amount,
                        None => self.work.push((unit, amount)),
                    }
                }
            }
        }
    }

    fn reject(&mut self) {
        self.puzzles += 1;
        self.rejected += 1;
    }
}

/// Who prints.
pub(super) trait Reporter {
    /// Models that are used from now on.
    fn uses(&mut self, files: &[Weights]);
    /// An entry without an answer.
    fn rejected(&mut self, entry: &Entry, reason: &str) -> Result<()>;
    /// An entry with one.
    fn solved(&mut self, entry: &Entry, puzzle: &Puzzle, attempt: &Attempt<'_>) -> Result<()>;
    /// After the last one.
    fn finish(&mut self) -> Result<Tally>;
}

/// `2 guesses and 7 nodes`
fn effort(work: &[(&'static str, u64)]) -> String {
    work.iter().map(|(unit, amount)| count(*amount as usize, unit)).collect::<Vec<_>>().join(" and ")
}

/// The puzzle and its answer, each on a line.
fn lines(puzzle: &Puzzle, attempt: &Attempt<'_>) -> (String, String) {
    let Puzzle { task, record, .. } = puzzle;
    let line = task.line(&record.input).unwrap_or_default();
    let answer = task.answer_line(&record.input, &attempt.tokens).unwrap_or_default();
    (line, answer)
}

/// Text, a puzzle in a line or in full.
pub(super) struct Text<W> {
    pub out: W,
    pub style: Style,
    pub in_full: bool,
    pub several: bool,
    /// Whether the boards may come one after the other in the same place, where that can be done.
    pub moves: bool,
    /// Whether how an answer came about is worth telling.
    pub scales: bool,
    /// What may help where the model fails.
    pub help: String,
    pub backend: Option<&'static str>,
    pub method: Option<&'static str>,
    pub tally: Tally,
}

impl<W: Write> Reporter for Text<W> {
    fn uses(&mut self, _: &[Weights]) {}

    fn rejected(&mut self, entry: &Entry, reason: &str) -> Result<()> {
        self.tally.reject();
        self.out.flush()?;
        terminal::report_error(&format!("{}{reason}", entry.prefix()));
        Ok(())
    }

    fn solved(&mut self, entry: &Entry, puzzle: &Puzzle, attempt: &Attempt<'_>) -> Result<()> {
        self.tally.add(attempt);
        match self.in_full {
            true => self.in_full(entry, puzzle, attempt)?,
            false => self.in_a_line(entry, puzzle, attempt)?,
        }
        // Whoever reads sees it now.
        Ok(self.out.flush()?)
    }

    fn finish(&mut self) -> Result<Tally> {
        let tally = self.tally.clone();
        if self.several {
            self.summary(&tally)?;
        }
        self.out.flush()?;
        Ok(tally)
    }
}

impl<W: Write> Text<W> {
    fn summary(&mut self, tally: &Tally) -> Result<()> {
        let Tally { puzzles, solved, wrong, rejected, .. } = tally;
        writeln!(
            self.out,
            "\n{}: {solved} solved, {wrong} wrong, {rejected} rejected",
            count(*puzzles, "puzzle")
        )?;
        let attempted = solved + wrong;
        match self.method {
            Some(method) if attempted > 0 => {
                writeln!(self.out, "{} in {:.1} ms by {method}", effort(&tally.work), tally.milliseconds)?;
            }
            None if attempted > 0 => {
                let share = 100.0 * *solved as f64 / attempted as f64;
                let mean = |sum: f64| sum / attempted as f64;
                writeln!(
                    self.out,
                    "{share:.1} % of those attempted, {:.1} steps and {:.1} ms on average",
                    mean(if self.scales { tally.segments } else { tally.steps } as f64),
                    mean(tally.milliseconds)
                )?;
                if self.scales {
                    writeln!(self.out, "solved: {}", tally.sources)?;
                }
                if *wrong > 0 && !self.help.is_empty() {
                    writeln!(self.out, "{}", self.help)?;
                }
                if tally.sources.searched > 0 {
                    writeln!(
                        self.out,
                        "search: {} guesses, without the model's beliefs {}",
                        tally.guesses, tally.guesses_without_model
                    )?;
                }
            }
            _ => {}
        }
        if tally.answers > 0 {
            writeln!(
                self.out,
                "{} of {} answers are the ones that the file states",
                tally.answers_matched, tally.answers
            )?;
        }
        Ok(())
    }

    fn in_a_line(&mut self, entry: &Entry, puzzle: &Puzzle, attempt: &Attempt<'_>) -> Result<()> {
        let verdict = match (&attempt.fault, attempt.wrong) {
            (None, _) => "solved".to_owned(),
            (Some(_), Some(n)) => format!("wrong ({})", count(n, "cell")),
            (Some(_), None) => "wrong".to_owned(),
        };
        let stated = if attempt.matches_answer == Some(false) { ", not the stated answer" } else { "" };
        let (verdict, how) = match attempt.by {
            By::Models(answer, _) if self.scales => (verdict, origin(answer)),
            By::Models(answer, _) => (verdict, count(answer.trace.steps, "step")),
            By::Method(worked) => (
                worked.outcome.clone().unwrap_or(verdict),
                format!("{} by {}", effort(&worked.work), self.method.unwrap_or_default()),
            ),
        };
        let (line, answer) = lines(puzzle, attempt);
        writeln!(
            self.out,
            "{}  {line} -> {answer}  {verdict}, {how}, {:.1} ms{stated}",
            entry.place, attempt.milliseconds
        )?;
        if let By::Method(Worked { trace: Some((trace, _)), .. }) = attempt.by {
            writeln!(self.out, "{trace}")?;
        }
        Ok(())
    }

    fn in_full(&mut self, entry: &Entry, puzzle: &Puzzle, attempt: &Attempt<'_>) -> Result<()> {
        if !entry.place.is_empty() {
            writeln!(self.out, "{}", entry.place)?;
        }
        let thoughts = match attempt.by {
            By::Models(answer, _) => answer.trace.thoughts.as_slice(),
            By::Method(_) => &[],
        };
        if !self.animate(puzzle, attempt, thoughts)? {
            let panels = self.panels(puzzle, attempt, thoughts);
            writeln!(self.out, "{}", side_by_side(&panels, terminal::width()))?;
        }
        match attempt.by {
            By::Models(answer, info) => {
                if let Some(legend) = puzzle.task.legend(self.style) {
                    writeln!(self.out, "{legend}")?;
                }
                self.table(puzzle, answer, info.second)?;
                writeln!(self.out)?;
            }
            By::Method(Worked { trace: Some((trace, _)), .. }) => writeln!(self.out, "{trace}")?,
            By::Method(_) => {}
        }
        writeln!(self.out, "solution  {}", lines(puzzle, attempt).1)?;
        match &attempt.fault {
            None => {
                let praise = puzzle.task.praise(&puzzle.record.input, &attempt.tokens).unwrap_or_default();
                writeln!(self.out, "valid     yes: {praise}")?;
            }
            Some(fault) => {
                let wrong = attempt
                    .wrong
                    .map_or_else(String::new, |n| format!("; {} differ from the solution", count(n, "cell")));
                writeln!(self.out, "valid     NO: {fault}{wrong}")?;
                if !self.several && matches!(attempt.by, By::Models(..)) && !self.help.is_empty() {
                    writeln!(self.out, "try       {}", self.help)?;
                }
            }
        }
        match attempt.matches_answer {
            Some(true) => writeln!(self.out, "answer    the one that the file states")?,
            Some(false) => writeln!(self.out, "answer    NOT the one that the file states")?,
            None => {}
        }
        match attempt.by {
            By::Models(answer, info) => self.models(attempt, answer, info)?,
            By::Method(worked) => {
                let method = self.method.unwrap_or_default();
                writeln!(self.out, "work      {} by {method}", effort(&worked.work))?;
                writeln!(self.out, "time      {:.3} ms", attempt.milliseconds)?;
            }
        }
        if self.several {
            writeln!(self.out)?;
        }
        Ok(())
    }

    fn models(&mut self, attempt: &Attempt<'_>, answer: &Answer, info: &ModelInfo) -> Result<()> {
        let steps = answer.trace.steps;
        let ending = match (answer.trace.halted, answer.verified) {
            (true, _) => "halted by itself",
            (false, Some(true)) if steps < info.max_steps => "stopped because the answer keeps the rules",
            _ => "stopped at the last step",
        };
        let guessed = answer.source == Source::Guessed;
        match guessed {
            true => writeln!(self.out, "steps     {steps} on the way to it, {ending}")?,
            false => writeln!(self.out, "steps     {steps} of at most {}, {ending}", info.max_steps)?,
        }
        if self.scales || guessed {
            writeln!(self.out, "answer    {}", origin(answer))?;
        }
        let backend = self.backend.unwrap_or_default();
        writeln!(self.out, "time      {:.1} ms on {backend}", attempt.milliseconds)?;
        let files: Vec<String> = info.files.iter().map(models::told).collect();
        writeln!(
            self.out,
            "model     {} ({} parameters)",
            files.join(", "),
            hrm_model::summary::thousands(info.parameters)
        )?;
        Ok(())
    }

    /// The puzzle, some boards on the way with what changed since the one before, and the last board.
    fn panels(&self, puzzle: &Puzzle, attempt: &Attempt<'_>, thoughts: &[Thought]) -> Vec<Panel> {
        let Puzzle { task, record, .. } = puzzle;
        let title = match task.givens(&record.input) {
            Some(givens) => format!("puzzle, {}", count(givens, "given")),
            None => "puzzle".to_owned(),
        };
        let mut panels =
            vec![Panel { title, body: task.render(&record.input, None, self.style).unwrap_or_default() }];
        let mut previous = record.input.as_slice();
        for index in worth_drawing(thoughts) {
            let tokens = thoughts[index].tokens.as_slice();
            let title = format!("step {}: {} new", index + 1, changed(puzzle, previous, tokens));
            let body = task.frame(&record.input, previous, tokens, self.style).unwrap_or_default();
            panels.push(Panel { title, body });
            previous = tokens;
        }
        panels.extend(self.searched(puzzle, attempt, previous));
        panels
    }

    /// Shows step after step in the same place, the puzzle beside it where there is room; `false` if that cannot be done here.
    fn animate(&mut self, puzzle: &Puzzle, attempt: &Attempt<'_>, thoughts: &[Thought]) -> Result<bool> {
        let Some((rows, columns)) = terminal::screen().filter(|_| self.moves && thoughts.len() > 1) else {
            return Ok(false);
        };
        let Puzzle { task, record, .. } = puzzle;
        let start = self.panels(puzzle, attempt, &[]).remove(0);
        let mut frames = Vec::new();
        let mut previous = record.input.as_slice();
        for (index, thought) in thoughts.iter().enumerate() {
            let sure = 100.0 * thought.halt_probability();
            let title = format!("step {}: {sure:.0} % sure", index + 1);
            let body = task.frame(&record.input, previous, &thought.tokens, self.style).unwrap_or_default();
            frames.push(Panel { title, body });
            previous = &thought.tokens;
        }
        if let Some(found) = self.searched(puzzle, attempt, previous) {
            frames.push(found);
        }
        let panel_width =
            |panel: &Panel| panel.body.lines().map(terminal::visible_width).max().unwrap_or_default();
        let widest = frames.iter().map(panel_width).max().unwrap_or_default();
        let beside = panel_width(&start) + 2 + widest <= columns;
        let frames: Vec<String> = frames
            .into_iter()
            .map(|frame| {
                let panels = if beside { vec![start.clone(), frame] } else { vec![frame] };
                side_by_side(&panels, columns)
            })
            .collect();
        let height = frames.iter().map(|frame| frame.lines().count()).max().unwrap_or_default();
        if widest > columns || height >= rows {
            return Ok(false);
        }
        let pause = STEP.min(STEPS / frames.len() as u32);
        for (index, frame) in frames.iter().enumerate() {
            if index > 0 {
                thread::sleep(pause);
                // Up to the first line, and nothing below it stays.
                write!(self.out, "\x1b[{}A\x1b[J", frames[index - 1].lines().count())?;
            }
            write!(self.out, "{frame}")?;
            self.out.flush()?;
        }
        writeln!(self.out)?;
        Ok(true)
    }

    /// The board of a search.
    fn searched(&self, puzzle: &Puzzle, attempt: &Attempt<'_>, previous: &[u8]) -> Option<Panel> {
        let title = match attempt.by {
            By::Models(Answer { search: None, .. }, _) => return None,
            By::Models(..) => format!("searched: {} new", changed(puzzle, previous, &attempt.tokens)),
            By::Method(_) => "solution".to_owned(),
        };
        let input = &puzzle.record.input;
        let body = puzzle.task.frame(input, previous, &attempt.tokens, self.style).unwrap_or_default();
        Some(Panel { title, body })
    }

    fn table(&mut self, puzzle: &Puzzle, answer: &Answer, second: Option<&str>) -> Result<()> {
        // A narrow terminal has no room for it.
        let second = second.filter(|_| terminal::width() >= 60);
        let title = second.map(|name| format!("{name:>13}")).unwrap_or_default();
        writeln!(self.out, "step   changed   wrong   q_halt{title}")?;
        let mut previous = puzzle.record.input.as_slice();
        for (index, thought) in answer.trace.thoughts.iter().enumerate() {
            let wrong = puzzle.wrong(&thought.tokens).map_or_else(|| "?".to_owned(), |n| n.to_string());
            let stops = answer.trace.halted && index + 1 == answer.trace.thoughts.len();
            let value =
                second.map(|_| format!("{:>13.3}", thought.continue_probability())).unwrap_or_default();
            writeln!(
                self.out,
                "{:>4}{:>10}{wrong:>8}{:>9.3}{value}{}",
                index + 1,
                changed(puzzle, previous, &thought.tokens),
                thought.halt_probability(),
                if stops { "   halts" } else { "" }
            )?;
            previous = &thought.tokens;
        }
        Ok(())
    }
}

/// Cells of an answer that differ from one before, of those that are scored.
fn changed(puzzle: &Puzzle, previous: &[u8], answer: &[u8]) -> usize {
    match &puzzle.solution {
        None => differences(previous, answer),
        Some(solution) => {
            let cells = solution.iter().zip(previous).zip(answer);
            cells.filter(|((right, before), now)| **right != 0 && before != now).count()
        }
    }
}

/// The steps after which a board is drawn: those that changed something, thinned out evenly, and the last.
fn worth_drawing(steps: &[Thought]) -> Vec<usize> {
    let changed: Vec<usize> =
        (0..steps.len()).filter(|&i| i == 0 || steps[i].tokens != steps[i - 1].tokens).collect();
    if changed.len() <= MAX_BOARDS {
        return changed;
    }
    let spread = |i: usize| changed[i * (changed.len() - 1) / (MAX_BOARDS - 1)];
    (0..MAX_BOARDS).map(spread).collect()
}

/// One object, whose list of puzzles is written as they come.
pub(super) struct Json<W> {
    out: W,
    models: Vec<Weights>,
    method: Option<&'static str>,
    tally: Tally,
}

#[derive(Serialize, Default)]
struct JsonPuzzle<'a> {
    place: &'a str,
    puzzle: String,
    solution: Option<String>,
    valid: bool,
    fault: Option<&'a str>,
    wrong_cells: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    matches_answer: Option<bool>,
    milliseconds: f64,
    #[serde(flatten)]
    by: Map<String, Value>,
    error: Option<&'a str>,
}

impl<W: Write> Json<W> {
    pub(super) fn new(
        mut out: W,
        task: Family,
        method: Option<&'static str>,
        backend: Option<&'static str>,
    ) -> Result<Self> {
        write!(out, "{{\n  \"task\": \"{task}\",\n")?;
        for (name, value) in [("method", method), ("backend", backend)] {
            if let Some(value) = value {
                writeln!(out, "  \"{name}\": {},", json!(value))?;
            }
        }
        write!(out, "  \"puzzles\": [")?;
        Ok(Self { out, models: Vec::new(), method, tally: Tally::default() })
    }

    fn write(&mut self, puzzle: &JsonPuzzle<'_>) -> Result<()> {
        let comma = if self.tally.puzzles > 1 { "," } else { "" };
        let text = serde_json::to_string_pretty(puzzle)?.replace('\n', "\n    ");
        write!(self.out, "{comma}\n    {text}")?;
        Ok(self.out.flush()?)
    }
}

/// What a model's answer took.
fn of_models(answer: &Answer) -> Value {
    let thoughts = &answer.trace.thoughts;
    json!({
        "halted": answer.trace.halted,
        "steps": answer.trace.steps,
        "q_halt": thoughts.iter().map(Thought::halt_probability).collect::<Vec<_>>(),
        "q_continue": thoughts.iter().map(Thought::continue_probability).collect::<Vec<_>>(),
        "source": answer.source,
        "attempts": answer.attempts,
        "segments": answer.segments,
        "votes": answer.votes,
        "guesses": answer.search.map(|search| search.guesses),
        "guesses_without_model": answer.search.and_then(|search| search.guesses_without),
    })
}

/// What a classical solver's answer took.
fn of_method(worked: &Worked) -> Map<String, Value> {
    let mut by = units(&worked.work);
    by.extend(worked.details.clone());
    by.extend(worked.trace.clone().map(|(_, trace)| ("trace".to_owned(), trace)));
    by
}

/// Units in the plural, with their numbers.
fn units(work: &[(&'static str, u64)]) -> Map<String, Value> {
    let plural = |unit: &str| count(2, unit).trim_start_matches("2 ").to_owned();
    work.iter().map(|(unit, amount)| (plural(unit), json!(amount))).collect()
}

impl<W: Write> Reporter for Json<W> {
    fn uses(&mut self, files: &[Weights]) {
        self.models
            .extend(files.iter().filter(|file| !self.models.contains(file)).cloned().collect::<Vec<_>>());
    }

    fn rejected(&mut self, entry: &Entry, reason: &str) -> Result<()> {
        self.tally.reject();
        let (place, puzzle) = (entry.place.as_str(), entry.text.clone());
        self.write(&JsonPuzzle { place, puzzle, error: Some(reason), ..JsonPuzzle::default() })
    }

    fn solved(&mut self, entry: &Entry, puzzle: &Puzzle, attempt: &Attempt<'_>) -> Result<()> {
        self.tally.add(attempt);
        let (line, answer) = lines(puzzle, attempt);
        let by = match attempt.by {
            By::Models(answer, _) => match of_models(answer) {
                Value::Object(by) => by,
                _ => Map::new(),
            },
            By::Method(worked) => of_method(worked),
        };
        self.write(&JsonPuzzle {
            place: &entry.place,
            puzzle: line,
            solution: Some(answer),
            valid: attempt.fault.is_none(),
            fault: attempt.fault.as_deref(),
            wrong_cells: attempt.wrong,
            matches_answer: attempt.matches_answer,
            milliseconds: (attempt.milliseconds * 1e3).round() / 1e3,
            by,
            error: None,
        })
    }

    fn finish(&mut self) -> Result<Tally> {
        let tally = self.tally.clone();
        let Tally { puzzles, solved, wrong, rejected, .. } = tally;
        let mut summary = json!({
            "puzzles": puzzles, "solved": solved, "wrong": wrong, "rejected": rejected,
        });
        if let Value::Object(summary) = &mut summary {
            match self.method {
                Some(_) => summary.extend(units(&tally.work)),
                None => {
                    summary.insert("sources".to_owned(), json!(tally.sources));
                    summary.insert("segments".to_owned(), json!(tally.segments));
                    summary.insert("guesses".to_owned(), json!(tally.guesses));
                    summary.insert("guesses_without_model".to_owned(), json!(tally.guesses_without_model));
                }
            }
        }
        let text = |value: &Value| serde_json::to_string_pretty(value).map(|text| text.replace('\n', "\n  "));
        self.models.sort();
        let models: Vec<_> = self.models.iter().map(|file| file.path().to_string_lossy()).collect();
        let models = text(&json!(models))?;
        writeln!(self.out, "\n  ],\n  \"models\": {models},\n  \"summary\": {}\n}}", text(&summary)?)?;
        self.out.flush()?;
        Ok(tally)
    }
}
