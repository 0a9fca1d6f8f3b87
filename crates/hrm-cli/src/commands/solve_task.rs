//! `hrm solve --task maze|killer|samurai|queens`: every task of `hrm-data` through its one interface.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use burn::tensor::backend::BackendTypes;
use hrm_backend::HrmAutodiffBackend;
use hrm_data::{
    maze,
    render::Style,
    task::{AnyTask, Family, Shape, Solutions},
};
use hrm_infer::{Answer, InferOptions, Query, Solver};
use hrm_model::Hrm;
use serde::Serialize;

use crate::{
    backend::{self, Job},
    models::{self, Header},
    puzzles::{self, Source},
    terminal::{self, Panel, count, side_by_side},
};

/// What to solve and how.
#[derive(Debug)]
pub struct Request {
    /// What the puzzles are.
    pub family: Family,
    /// Where they are.
    pub source: Source,
    /// Models to use; empty for the bundled one.
    pub checkpoints: Vec<PathBuf>,
    /// How to infer.
    pub options: InferOptions,
    /// Answer by exact search instead.
    pub exact: bool,
    /// Where to compute.
    pub backend: Option<backend::Name>,
    /// One JSON object.
    pub json: bool,
    /// Drawings even of several.
    pub verbose: bool,
    /// How to draw.
    pub style: Style,
}

/// A puzzle as it was given.
struct Entry {
    place: String,
    text: String,
    puzzle: Result<Puzzle, String>,
}

/// A puzzle that has a solution.
struct Puzzle {
    shape: Shape,
    task: AnyTask,
    input: Vec<u8>,
    /// The tokens of its solution; `None` if an exact search gave up.
    solution: Option<Vec<u8>>,
    /// The group of models that works on it.
    group: usize,
}

/// Models that work together on puzzles of one shape.
struct Group {
    files: Vec<PathBuf>,
    shape: Shape,
}

/// Solves the puzzles. Exit code 0 only if every answer is right.
pub fn run(request: &Request) -> Result<ExitCode> {
    let mut entries = read(request.family, &request.source)?;
    let mut answers: Vec<Option<Solved>> = entries.iter().map(|_| None).collect();
    let mut groups = Vec::new();
    let backend = if request.exact {
        for (entry, answer) in entries.iter_mut().zip(&mut answers) {
            let found = entry.puzzle.as_ref().ok().map(|puzzle| puzzle.solution.clone());
            match found {
                Some(Some(solution)) => *answer = Some(Solved::exact(solution)),
                Some(None) => entry.puzzle = Err("the puzzle is too open to be solved exactly".to_owned()),
                None => {}
            }
        }
        None
    } else {
        let backend = backend::Name::or_best(request.backend)?;
        groups = assign(&mut entries, request)?;
        if entries.iter().any(|entry| entry.puzzle.is_ok()) {
            let in_full = request.json || request.verbose || entries.len() == 1;
            let options = InferOptions { keep_thoughts: in_full, ..request.options };
            backend.run(SolveJob { entries: &entries, groups: &groups, options, answers: &mut answers })?;
        }
        Some(backend)
    };
    let report = Report::new(request.family, backend, &groups, &entries, &answers);
    let mut out = io::stdout().lock();
    if request.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&mut out, request, &groups, &report, &entries, &answers)?;
    }
    out.flush()?;
    let all_right = report.summary.solved == report.summary.puzzles;
    Ok(if all_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads and checks all puzzles of a source.
fn read(family: Family, source: &Source) -> Result<Vec<Entry>> {
    let (text, name) = match source {
        Source::Argument(text) if Path::new(text).is_file() => {
            (puzzles::read_file(Path::new(text))?, PathBuf::from(text))
        }
        Source::Argument(text) => return Ok(vec![Entry::new(family, String::new(), text)]),
        Source::File(path) => (puzzles::read_file(path)?, path.clone()),
        Source::Stdin => (puzzles::read_stdin()?, PathBuf::from("standard input")),
        Source::Unsaid => bail!("expected {family} puzzles: a file, a puzzle, or `-` for standard input"),
    };
    let entries = parse(family, &text, &name)?;
    if entries.is_empty() {
        bail!(
            "{}: no puzzle in it; expected one a line, or drawn ones with an empty line between",
            name.display()
        );
    }
    Ok(entries)
}

/// CSV of mazes, or text: one puzzle a line, or drawn puzzles with empty lines between them.
fn parse(family: Family, text: &str, name: &Path) -> Result<Vec<Entry>> {
    let text = text.trim_start_matches('\u{feff}');
    if family == Family::Maze
        && text.lines().next().is_some_and(|line| line.contains(',') || line == "question")
    {
        let records = maze::read_records_from(text.as_bytes(), name)?;
        let rows = records.iter().zip(1..);
        return Ok(rows
            .map(|(record, row)| Entry::new(family, format!("maze {row}"), &record.maze.to_string()))
            .collect());
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut entries = Vec::new();
    let mut start = 0;
    while start < lines.len() {
        if lines[start].is_empty() {
            start += 1;
            continue;
        }
        let end = lines[start..].iter().position(|line| line.is_empty()).map_or(lines.len(), |n| start + n);
        let block = &lines[start..end];
        let alone =
            |line: &&str| Shape::of_text(family, line).and_then(|shape| parse_as(shape, line)).is_ok();
        // A block is one drawing, unless its lines are puzzles of their own.
        if block.len() == 1 || block.iter().any(alone) {
            let of_lines = block.iter().zip(start + 1..);
            entries.extend(of_lines.map(|(line, number)| Entry::new(family, format!("line {number}"), line)));
        } else {
            entries.push(Entry::new(family, format!("line {}", start + 1), &block.join("\n")));
        }
        start = end;
    }
    if let [only] = entries.as_mut_slice() {
        only.place.clear();
    }
    Ok(entries)
}

fn parse_as(shape: Shape, text: &str) -> Result<(AnyTask, Vec<u8>), String> {
    let task = shape.task().ok_or_else(|| format!("there are no {shape} puzzles"))?;
    let input = task.parse(text)?;
    Ok((task, input))
}

impl Entry {
    fn new(family: Family, place: String, text: &str) -> Self {
        Self { place, text: text.to_owned(), puzzle: Puzzle::new(family, text) }
    }
}

impl Puzzle {
    /// Checks the text, and that there is exactly one solution (of a maze: a path).
    fn new(family: Family, text: &str) -> Result<Self, String> {
        let shape = Shape::of_text(family, text)?;
        let (task, input) = parse_as(shape, text)?;
        let solution = match task.solutions(&input)? {
            Solutions::Unknown => None,
            Solutions::None if family == Family::Maze => {
                return Err("the maze has no path from S to G".to_owned());
            }
            found => Some(found.unique().map_err(|why| format!("the puzzle {why}"))?),
        };
        Ok(Self { shape, task, input, solution, group: 0 })
    }
}

/// Gives every puzzle its models; one without becomes an entry that says so.
fn assign(entries: &mut [Entry], request: &Request) -> Result<Vec<Group>> {
    let mut sizes = None;
    for file in &request.checkpoints {
        let config = Header::read(file)?.config().with_context(|| file.display().to_string())?;
        let found = (config.seq_len, config.vocab_size);
        if sizes.is_some_and(|first| first != found) {
            bail!("--ensemble: {} is for puzzles of another size than the first checkpoint", file.display());
        }
        sizes = Some(found);
    }
    let mut groups: Vec<Group> = Vec::new();
    for entry in entries {
        let Ok(puzzle) = &mut entry.puzzle else { continue };
        let shape = puzzle.shape;
        if let Some(known) = groups.iter().position(|group| group.shape == shape) {
            puzzle.group = known;
            continue;
        }
        let wanted = (puzzle.task.seq_len(), puzzle.task.vocab_size());
        let files = match sizes {
            Some(found) if found == wanted => Ok(request.checkpoints.clone()),
            Some((seq_len, vocab_size)) => Err(format!(
                "the model reads {seq_len} tokens of {vocab_size} kinds, a {shape} has {} of {}",
                wanted.0, wanted.1
            )),
            None => models::bundled_for(shape).map(|file| vec![file]).ok_or_else(|| no_model(shape)),
        };
        match files {
            Ok(files) => {
                puzzle.group = groups.len();
                groups.push(Group { files, shape });
            }
            Err(reason) => entry.puzzle = Err(reason),
        }
    }
    Ok(groups)
}

fn no_model(shape: Shape) -> String {
    let classical = if shape.family() == Family::Maze { "bfs" } else { "exact" };
    format!(
        "no model for a {shape} comes with the program; give one with --checkpoint, or answer with a classical \
         solver: --with {classical}"
    )
}

/// An answer and how it came about.
struct Solved {
    tokens: Vec<u8>,
    model: Option<Answer>,
}

impl Solved {
    const fn exact(tokens: Vec<u8>) -> Self {
        Self { tokens, model: None }
    }
}

struct SolveJob<'a> {
    entries: &'a [Entry],
    groups: &'a [Group],
    options: InferOptions,
    answers: &'a mut [Option<Solved>],
}

impl Job for SolveJob<'_> {
    type Output = ();

    fn run<A: HrmAutodiffBackend>(self, device: &<A as BackendTypes>::Device) -> Result<()> {
        for (group, Group { files, shape }) in self.groups.iter().enumerate() {
            let loaded = files
                .iter()
                .map(|file| models::load(file, device))
                .collect::<Result<Vec<Hrm<A::InnerBackend>>>>()?;
            let models: Vec<&Hrm<A::InnerBackend>> = loaded.iter().collect();
            let rules = hrm_infer::of_shape(Some(*shape), self.options.votes, self.options.seed);
            let solver = Solver::new(&models, rules.as_ref(), self.options)?;
            let (places, queries): (Vec<usize>, Vec<Query>) = self
                .entries
                .iter()
                .enumerate()
                .filter_map(|(place, entry)| Some((place, entry.puzzle.as_ref().ok()?)))
                .filter(|(_, puzzle)| puzzle.group == group)
                .map(|(place, puzzle)| (place, Query::from(puzzle.input.clone())))
                .unzip();
            for (place, answer) in places.into_iter().zip(solver.solve(&queries)?) {
                self.answers[place] = Some(Solved { tokens: answer.tokens.clone(), model: Some(answer) });
            }
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Report {
    task: Family,
    #[serde(serialize_with = "models::paths_to_json")]
    models: Vec<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'static str>,
    puzzles: Vec<PuzzleReport>,
    summary: Summary,
}

#[derive(Serialize)]
struct PuzzleReport {
    place: String,
    puzzle: String,
    answer: Option<String>,
    /// Whether the answer keeps the rules; of a maze: whether it is a shortest path.
    valid: bool,
    /// What is wrong with the answer.
    fault: Option<String>,
    halted: Option<bool>,
    steps: Option<usize>,
    milliseconds: Option<f64>,
    /// After each step, the model's estimate of the chance that its answer is right.
    q_halt: Vec<f32>,
    /// Why there is no answer.
    error: Option<String>,
}

#[derive(Serialize)]
struct Summary {
    puzzles: usize,
    solved: usize,
    wrong: usize,
    rejected: usize,
}

impl Report {
    fn new(
        task: Family,
        backend: Option<backend::Name>,
        groups: &[Group],
        entries: &[Entry],
        answers: &[Option<Solved>],
    ) -> Self {
        let puzzles: Vec<PuzzleReport> =
            entries.iter().zip(answers).map(|(entry, answer)| entry.report(answer.as_ref())).collect();
        let tally = |of: fn(&PuzzleReport) -> bool| puzzles.iter().filter(|puzzle| of(puzzle)).count();
        let summary = Summary {
            puzzles: puzzles.len(),
            solved: tally(|puzzle| puzzle.valid),
            wrong: tally(|puzzle| puzzle.fault.is_some()),
            rejected: tally(|puzzle| puzzle.error.is_some()),
        };
        Self {
            task,
            models: groups.iter().flat_map(|group| group.files.clone()).collect(),
            backend: backend.map(backend::Name::feature),
            puzzles,
            summary,
        }
    }
}

impl Entry {
    fn report(&self, answer: Option<&Solved>) -> PuzzleReport {
        let mut report = PuzzleReport {
            place: self.place.clone(),
            puzzle: self.text.clone(),
            answer: None,
            valid: false,
            fault: None,
            halted: None,
            steps: None,
            milliseconds: None,
            q_halt: Vec::new(),
            error: None,
        };
        match (&self.puzzle, answer) {
            (Err(reason), _) => report.error = Some(reason.clone()),
            (Ok(_), None) => report.error = Some("no answer".to_owned()),
            (Ok(Puzzle { task, input, .. }), Some(answer)) => {
                report.puzzle = task.line(input).unwrap_or_else(|_| self.text.clone());
                report.answer = task.answer_line(input, &answer.tokens).ok();
                report.fault = task.verify(input, &answer.tokens).err();
                report.valid = report.fault.is_none();
                if let Some(model) = &answer.model {
                    report.halted = Some(model.trace.halted);
                    report.steps = Some(model.trace.steps);
                    report.milliseconds = Some(model.time.as_secs_f64() * 1e3);
                    report.q_halt =
                        model.trace.thoughts.iter().map(hrm_infer::Thought::halt_probability).collect();
                }
            }
        }
        report
    }
}

fn print(
    out: &mut impl Write,
    request: &Request,
    groups: &[Group],
    report: &Report,
    entries: &[Entry],
    answers: &[Option<Solved>],
) -> Result<()> {
    let several = entries.len() > 1;
    for ((entry, answer), puzzle) in entries.iter().zip(answers).zip(&report.puzzles) {
        match (&entry.puzzle, answer) {
            (Ok(given), Some(answer)) if !several || request.verbose => {
                in_full(out, request, groups, report, puzzle, given, answer)?;
            }
            (Ok(_), Some(_)) => {
                let work =
                    puzzle.steps.map_or_else(String::new, |steps| format!(", {}", count(steps, "step")));
                writeln!(out, "{}  {}{work}", puzzle.place, verdict(request.family, puzzle))?;
            }
            _ => {
                let place = if entry.place.is_empty() { String::new() } else { format!("{}: ", entry.place) };
                out.flush()?;
                terminal::report_error(&format!("{place}{}", puzzle.error.as_deref().unwrap_or_default()));
            }
        }
    }
    if several {
        let Summary { puzzles, solved, wrong, rejected } = report.summary;
        writeln!(out, "\n{}: {solved} solved, {wrong} wrong, {rejected} rejected", count(puzzles, "puzzle"))?;
    }
    Ok(())
}

fn verdict(family: Family, puzzle: &PuzzleReport) -> String {
    match (&puzzle.fault, family) {
        (None, Family::Maze) => {
            let path = puzzle.answer.as_deref().unwrap_or_default().matches('o').count() + 1;
            format!("optimal: a shortest path of {}", count(path, "move"))
        }
        (None, _) => "valid: keeps the rules and what is given".to_owned(),
        (Some(fault), _) => format!("WRONG: {fault}"),
    }
}

fn in_full(
    out: &mut impl Write,
    request: &Request,
    groups: &[Group],
    report: &Report,
    puzzle: &PuzzleReport,
    Puzzle { task, input, group, .. }: &Puzzle,
    answer: &Solved,
) -> Result<()> {
    if !puzzle.place.is_empty() {
        writeln!(out, "{}", puzzle.place)?;
    }
    let draw = |answer| task.render(input, answer, request.style).unwrap_or_default();
    let panels = [
        Panel { title: "puzzle".to_owned(), body: draw(None) },
        Panel { title: "answer".to_owned(), body: draw(Some(answer.tokens.as_slice())) },
    ];
    writeln!(out, "{}", side_by_side(&panels))?;
    writeln!(out, "{}", verdict(request.family, puzzle))?;
    let Some(model) = &answer.model else { return Ok(()) };
    let ending = if model.trace.halted { "halted by itself" } else { "stopped at the last step" };
    writeln!(out, "steps     {}, {ending}", model.trace.steps)?;
    writeln!(out, "sure      {:.3}", model.trace.halt_probability())?;
    let backend = report.backend.unwrap_or_default();
    writeln!(out, "time      {:.1} ms on {backend}", puzzle.milliseconds.unwrap_or_default())?;
    let files = groups.get(*group).map(|group| group.files.as_slice()).unwrap_or_default();
    let files: Vec<String> = files.iter().map(|file| models::shown(file)).collect();
    writeln!(out, "model     {}", files.join(", "))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(family: Family, text: &str) -> Vec<Result<usize, String>> {
        let entries = parse(family, text, Path::new("in")).unwrap();
        entries.into_iter().map(|entry| entry.puzzle.map(|puzzle| puzzle.input.len())).collect()
    }

    #[test]
    fn puzzles_are_read_as_lines_drawings_and_csv() {
        assert_eq!(all(Family::Maze, "S   #   G\nS   #   G\n"), [Ok(9), Ok(9)]);
        assert_eq!(all(Family::Maze, "S  \n # \n  G\n\nS G\n   \n"), [Ok(9), Ok(6)]);
        assert_eq!(all(Family::Maze, "question,answer\nS   #   G,\n"), [Ok(9)]);
        let found = all(Family::Maze, "S   #   G\nS##G\nS#\n");
        assert_eq!(found[0], Ok(9));
        assert_eq!(found[1], Err("the maze has no path from S to G".to_owned()));
        assert!(found[2].is_err(), "{found:?}");
        assert_eq!(all(Family::Queens, ".Q..\n....\n....\n....\n"), [Ok(16)]);
        assert_eq!(
            all(Family::Queens, "................\n"),
            [Err("the puzzle has more than one solution".to_owned())]
        );
        assert!(parse(Family::Samurai, "", Path::new("in")).unwrap().is_empty());
    }

    #[test]
    fn a_wrong_answer_is_told_and_a_right_one_counted() {
        let mut entries = parse(Family::Maze, "S   #   G\nS   #   G\nS##G\n", Path::new("in")).unwrap();
        let right = entries[0].puzzle.as_ref().unwrap().solution.clone().unwrap();
        let wrong = entries[1].puzzle.as_ref().unwrap().input.clone();
        let answers = [Some(Solved::exact(right)), Some(Solved::exact(wrong)), None];
        let report = Report::new(Family::Maze, None, &[], &entries, &answers);
        let Summary { puzzles, solved, wrong, rejected } = report.summary;
        assert_eq!((puzzles, solved, wrong, rejected), (3, 1, 1, 1));
        assert_eq!(verdict(Family::Maze, &report.puzzles[0]), "optimal: a shortest path of 4 moves");
        assert!(verdict(Family::Maze, &report.puzzles[1]).starts_with("WRONG: the 0 marked cells"));
        // A model for other sizes is not used.
        let request = Request {
            family: Family::Maze,
            source: Source::Unsaid,
            checkpoints: Vec::new(),
            options: InferOptions::default(),
            exact: false,
            backend: None,
            json: false,
            verbose: false,
            style: Style::Plain,
        };
        assert!(assign(&mut entries, &request).unwrap().is_empty());
        let error = entries[0].puzzle.as_ref().err().unwrap();
        assert!(error.contains("no model for a 3x3 maze") && error.contains("--with bfs"), "{error}");
    }
}
