//! How a puzzle was solved, as a picture that moves: `--gif` and `--svg`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use hrm_data::render::Film;
use hrm_engine::Weights;

use super::{
    Attempt, By,
    report::{Reporter, Tally},
};
use crate::{
    puzzles::{Entry, Puzzle},
    terminal::count,
};

/// Seconds of the puzzle before anything happens.
const PUZZLE: f32 = 1.5;
/// Seconds of all steps together, and of one, at most.
const STEPS: f32 = 10.0;
const STEP: f32 = 0.6;
/// Seconds of the answer.
const LAST: f32 = 3.0;

/// Pixels that a GIF is wide at least, if twice its size is.
const WIDTH: f32 = 400.0;

/// Where films go.
#[derive(Debug)]
pub(super) struct Films {
    pub gif: Option<PathBuf>,
    pub svg: Option<PathBuf>,
}

impl Films {
    /// An option that asks for a film, if one does.
    pub(super) fn option(&self) -> Option<&'static str> {
        let options = [(&self.gif, "--gif"), (&self.svg, "--svg")];
        options.iter().find(|(file, _)| file.is_some()).map(|(_, option)| *option)
    }

    /// A reporter that also makes the films.
    pub(super) fn around<'a>(self, reporter: Box<dyn Reporter + 'a>) -> Box<dyn Reporter + 'a> {
        match self.option() {
            None => reporter,
            Some(_) => Box::new(Filmed { films: self, reporter }),
        }
    }
}

struct Filmed<'a> {
    films: Films,
    reporter: Box<dyn Reporter + 'a>,
}

impl Reporter for Filmed<'_> {
    fn uses(&mut self, files: &[Weights]) {
        self.reporter.uses(files);
    }

    fn rejected(&mut self, entry: &Entry, reason: &str) -> Result<()> {
        self.reporter.rejected(entry, reason)
    }

    fn solved(&mut self, entry: &Entry, puzzle: &Puzzle, attempt: &Attempt<'_>) -> Result<()> {
        self.reporter.solved(entry, puzzle, attempt)?;
        let film = film(puzzle, attempt).map_err(anyhow::Error::msg)?;
        if let Some(file) = &self.films.gif {
            // Small boards are drawn larger.
            let scale = (WIDTH / film.size().0).clamp(1.0, 2.0);
            write(file, &film.gif(scale)?)?;
        }
        if let Some(file) = &self.films.svg {
            write(file, film.svg().as_bytes())?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Tally> {
        self.reporter.finish()
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    // Standard output may be JSON.
    note!("wrote {}", file.display());
    Ok(())
}

/// The puzzle, what the model made of it step by step, and the answer.
fn film(puzzle: &Puzzle, attempt: &Attempt<'_>) -> Result<Film, String> {
    let Puzzle { task, record, solution, .. } = puzzle;
    let picture = |answer: Option<&[u8]>, left: &str, right: &str| {
        Ok::<_, String>(task.picture(&record.input, answer, solution.as_deref())?.captioned(left, right))
    };
    let mut film = Film::default();
    let givens = task.givens(&record.input).map_or_else(String::new, |givens| count(givens, "given"));
    film.push(picture(None, "puzzle", &givens)?, PUZZLE);
    if let By::Models(answer, _) = attempt.by {
        let thoughts = &answer.trace.thoughts;
        let seconds = (STEPS / thoughts.len() as f32).min(STEP);
        for (index, thought) in thoughts.iter().enumerate() {
            let sure = format!("{:.0} % sure", 100.0 * thought.halt_probability());
            film.push(picture(Some(&thought.tokens), &format!("step {}", index + 1), &sure)?, seconds);
        }
    }
    let verdict = if attempt.fault.is_none() { "solved" } else { "wrong" };
    film.push(picture(Some(&attempt.tokens), verdict, "")?, LAST);
    Ok(film)
}
