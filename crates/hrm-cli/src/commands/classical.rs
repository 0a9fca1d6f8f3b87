//! `hrm solve --with METHOD` and `hrm compare maze`: classical solvers in the model's place, with their work counted.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Result, bail};
use hrm_data::{
    maze::{
        self, Maze, SYMBOLS,
        solvers::{Method as MazeMethod, Outcome, Run},
    },
    render::{self, Style},
    sudoku::{Limits, Method, Stop, Trace},
};
use serde::Serialize;

use crate::{
    puzzles::{Entry, Puzzle},
    terminal::{Panel, count, side_by_side},
};

/// How to say what was found.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON object.
    pub json: bool,
    /// The steps too.
    pub trace: bool,
    /// Drawings even of several.
    pub verbose: bool,
    /// How to draw.
    pub style: Style,
}

/// One puzzle's answer.
#[derive(Debug, Serialize)]
struct SudokuAnswer {
    place: String,
    puzzle: String,
    solution: Option<String>,
    guesses: u64,
    nodes: u64,
    milliseconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<Trace>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Summary {
    puzzles: usize,
    solved: usize,
    rejected: usize,
}

#[derive(Debug, Serialize)]
struct SudokuReport {
    method: &'static str,
    puzzles: Vec<SudokuAnswer>,
    summary: Summary,
}

/// Solves Sudokus by a classical solver. Exit code 0 if every puzzle has exactly one solution and it was found.
pub fn sudoku(name: &str, entries: &[Entry], output: Output) -> Result<ExitCode> {
    let method: Method = name.parse()?;
    let answers: Vec<SudokuAnswer> =
        entries.iter().map(|entry| solve_sudoku(method, entry, output)).collect();
    let solved = answers.iter().filter(|answer| answer.solution.is_some()).count();
    let rejected = answers.iter().filter(|answer| answer.error.is_some()).count();
    let code = if solved == answers.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let mut out = io::stdout().lock();
    if output.json {
        let summary = Summary { puzzles: answers.len(), solved, rejected };
        let report = SudokuReport { method: method.name(), puzzles: answers, summary };
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(code);
    }
    for (answer, entry) in answers.iter().zip(entries) {
        print_sudoku(&mut out, method, answer, entry, answers.len() == 1, output)?;
    }
    if answers.len() > 1 {
        let total = |of: fn(&SudokuAnswer) -> f64| answers.iter().map(of).sum::<f64>();
        writeln!(
            out,
            "\n{}, {solved} solved, {rejected} rejected; {} guesses and {} nodes in {:.1} ms by {method}",
            count(answers.len(), "puzzle"),
            total(|a| a.guesses as f64),
            total(|a| a.nodes as f64),
            total(|a| a.milliseconds)
        )?;
    }
    Ok(code)
}

fn solve_sudoku(method: Method, entry: &Entry, output: Output) -> SudokuAnswer {
    let mut answer = SudokuAnswer {
        place: entry.place.clone(),
        puzzle: entry.text.clone(),
        solution: None,
        guesses: 0,
        nodes: 0,
        milliseconds: 0.0,
        trace: None,
        error: None,
    };
    let board = match &entry.puzzle {
        Ok(Puzzle { board, .. }) => board,
        Err(reason) => {
            answer.error = Some(reason.clone());
            return answer;
        }
    };
    answer.puzzle = board.to_line();
    // One solution is asked for: that it is the only one was made sure when the puzzle was read.
    let limits = Limits { solutions: 1, ..Limits::default() };
    let start = Instant::now();
    let search = if output.trace {
        let (search, trace) = method.traced(board, &limits);
        answer.trace = Some(trace);
        search
    } else {
        method.search(board, &limits)
    };
    answer.milliseconds = start.elapsed().as_secs_f64() * 1e3;
    (answer.guesses, answer.nodes) = (search.work.guesses, search.work.nodes);
    match (search.first, search.stop) {
        (Some(solution), _) if solution.is_solution_of(board) => answer.solution = Some(solution.to_line()),
        (Some(_), _) => answer.error = Some(format!("{method} gave a board that breaks the rules")),
        (None, Stop::NodeLimit) => answer.error = Some(format!("{method} gave up")),
        (None, _) => answer.error = Some(format!("{method} found no solution")),
    }
    answer
}

fn print_sudoku(
    out: &mut impl Write,
    method: Method,
    answer: &SudokuAnswer,
    entry: &Entry,
    alone: bool,
    output: Output,
) -> Result<()> {
    if let Some(error) = &answer.error {
        writeln!(out, "{}not solved: {error}", entry.prefix())?;
        return Ok(());
    }
    let solution = answer.solution.as_deref().unwrap_or_default();
    if alone || output.verbose {
        if let (Ok(puzzle), Ok(solved)) = (&entry.puzzle, solution.parse()) {
            let board = &puzzle.board;
            let panels = [
                Panel {
                    title: format!("puzzle, {} givens", board.clues()),
                    body: render::attempt(board, None, board, output.style),
                },
                Panel {
                    title: "solution".to_owned(),
                    body: render::attempt(board, Some(board), &solved, output.style),
                },
            ];
            writeln!(out, "{}", side_by_side(&panels))?;
        }
        if let Some(trace) = &answer.trace {
            writeln!(out, "{trace}")?;
        }
        writeln!(out, "solution  {solution}")?;
        writeln!(
            out,
            "work      {} and {} by {method}",
            count(answer.guesses as usize, "guess"),
            count(answer.nodes as usize, "node")
        )?;
        writeln!(out, "time      {:.3} ms", answer.milliseconds)?;
    } else {
        if let Some(trace) = &answer.trace {
            writeln!(out, "{}\n{trace}", answer.place)?;
        }
        writeln!(out, "{}  {solution}  {} guesses, {} nodes", answer.place, answer.guesses, answer.nodes)?;
    }
    Ok(())
}

/// One maze's answer.
#[derive(Debug, Serialize)]
struct MazeAnswer {
    row: usize,
    #[serde(flatten)]
    outcome: Outcome,
    /// Moves of the path found.
    moves: Option<usize>,
    /// Work, in the unit of the method.
    steps: usize,
    milliseconds: f64,
    /// The maze with the path marked, in one line; for `bfs` the canonical label.
    answer: Option<String>,
    #[serde(skip)]
    path: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<Vec<usize>>,
}

#[derive(Debug, Serialize)]
struct MazeReport {
    method: &'static str,
    rows: usize,
    cols: usize,
    mazes: Vec<MazeAnswer>,
    summary: MazeSummary,
}

#[derive(Debug, Serialize)]
struct MazeSummary {
    mazes: usize,
    reached: usize,
    shortest: usize,
    mean_steps: f64,
}

/// Solves mazes by a classical solver. Exit code 0 if it reaches every goal.
pub fn mazes(name: &str, source: &MazeSource, output: Output) -> Result<ExitCode> {
    let method: MazeMethod = name.parse()?;
    let mazes = source.read()?;
    let mut answers = Vec::with_capacity(mazes.len());
    for (index, maze) in mazes.iter().enumerate() {
        let start = Instant::now();
        let Run { outcome, path, steps, trace, .. } = method.solve(maze);
        answers.push(MazeAnswer {
            row: index + 1,
            outcome,
            moves: path.as_ref().map(|path| path.len() - 1),
            steps,
            milliseconds: start.elapsed().as_secs_f64() * 1e3,
            answer: path.as_ref().map(|path| line(&maze.mark(path))),
            path,
            trace: output.trace.then_some(trace),
        });
    }
    let reached = answers.iter().filter(|answer| answer.answer.is_some()).count();
    let code = if reached == answers.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let summary = MazeSummary {
        mazes: answers.len(),
        reached,
        shortest: answers.iter().filter(|answer| answer.outcome == Outcome::Shortest).count(),
        mean_steps: answers.iter().map(|a| a.steps as f64).sum::<f64>() / answers.len() as f64,
    };
    let mut out = io::stdout().lock();
    if output.json {
        let (rows, cols) = mazes.first().map_or((0, 0), |maze| (maze.rows(), maze.cols()));
        let report = MazeReport { method: method.name(), rows, cols, mazes: answers, summary };
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(code);
    }
    for (answer, maze) in answers.iter().zip(&mazes) {
        if answers.len() == 1 || output.verbose {
            writeln!(out, "{}", render::maze(maze, answer.path.as_deref(), output.style))?;
        }
        if let Some(trace) = &answer.trace {
            let cells =
                trace.iter().map(|cell| format!("r{}c{}", cell / maze.cols() + 1, cell % maze.cols() + 1));
            writeln!(out, "{}", cells.collect::<Vec<_>>().join(" "))?;
        }
        writeln!(
            out,
            "maze {}: {}, {} by {method}",
            answer.row,
            described(answer),
            count(answer.steps, "step")
        )?;
    }
    if answers.len() > 1 {
        writeln!(
            out,
            "\n{}: {reached} reach the goal, {} by a shortest path; {:.0} steps in the mean",
            count(summary.mazes, "maze"),
            summary.shortest,
            summary.mean_steps
        )?;
    }
    Ok(code)
}

fn described(answer: &MazeAnswer) -> String {
    let moves = answer.moves.unwrap_or_default();
    match answer.outcome {
        Outcome::Shortest => format!("a shortest path of {}", count(moves, "move")),
        Outcome::Longer { shortest } => format!("a path of {} (shortest: {shortest})", count(moves, "move")),
        Outcome::Loop => "walks in circles, no path".to_owned(),
        Outcome::NoPath => "there is no path".to_owned(),
        Outcome::Undecided { remaining } => format!("undecided, {remaining} cells are left"),
    }
}

fn line(tokens: &[u8]) -> String {
    tokens.iter().map(|&token| SYMBOLS[usize::from(token) - 1]).collect()
}

/// Where mazes come from.
#[derive(Debug, Clone)]
pub enum MazeSource {
    /// A maze on the command line, one line for each row.
    Argument(String),
    /// A CSV file, also gzipped.
    File(PathBuf),
}

impl MazeSource {
    /// The mazes.
    pub fn read(&self) -> Result<Vec<Maze>> {
        match self {
            Self::Argument(text) => Ok(vec![text.parse()?]),
            Self::File(path) => read_mazes(path),
        }
    }
}

fn read_mazes(path: &Path) -> Result<Vec<Maze>> {
    let mazes: Vec<Maze> = maze::read_records(path)?.into_iter().map(|record| record.maze).collect();
    if mazes.is_empty() {
        bail!("{}: no maze in it; expected CSV with a column `question`", path.display());
    }
    Ok(mazes)
}
