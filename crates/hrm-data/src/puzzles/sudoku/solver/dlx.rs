//! Sudoku as exact cover: every cell takes one value, every unit every value once.

use std::ops::ControlFlow;

use super::Run;
use super::exact_cover::{ExactCover, Observer};
use super::trace::{Action, Why};
use crate::puzzles::sudoku::board::{Board, Unit};

/// What a column stands for.
#[derive(Clone, Copy)]
enum Constraint {
    Cell(usize),
    Place(Unit, u8),
}

/// Searches a board that keeps the rules.
pub(super) fn search(puzzle: &Board, run: &mut Run<'_>) {
    let geometry = puzzle.geometry();
    let (side, cells) = (geometry.side(), geometry.cells());
    let units: Vec<Unit> = geometry.units().collect();
    let units_of = geometry.units_of_cells();
    let mut placed = vec![false; units.len() * side];
    for (cell, &value) in puzzle.cells().iter().enumerate().filter(|(_, v)| **v != 0) {
        for unit in units_of[cell] {
            placed[unit * side + usize::from(value - 1)] = true;
        }
    }
    // Columns only for what the givens leave open.
    let mut columns = Vec::new();
    let mut column_of_cell = vec![usize::MAX; cells];
    let mut column_of_place = vec![usize::MAX; placed.len()];
    for cell in (0..cells).filter(|&c| puzzle.cells()[c] == 0) {
        column_of_cell[cell] = columns.len();
        columns.push(Constraint::Cell(cell));
    }
    for place in (0..placed.len()).filter(|&p| !placed[p]) {
        column_of_place[place] = columns.len();
        columns.push(Constraint::Place(units[place / side], (place % side) as u8 + 1));
    }
    let (mut rows, mut choices) = (Vec::new(), Vec::new());
    for cell in (0..cells).filter(|&c| puzzle.cells()[c] == 0) {
        for value in 0..side {
            let places = units_of[cell].map(|unit| unit * side + value);
            if places.iter().all(|&p| !placed[p]) {
                let [a, b, c] = places.map(|p| column_of_place[p]);
                rows.push(vec![column_of_cell[cell], a, b, c]);
                choices.push((cell, value as u8 + 1));
            }
        }
    }
    let mut watch = Watch { puzzle, columns: &columns, choices: &choices, depth: 0, run };
    ExactCover::new(columns.len(), 0, &rows).search(&mut watch);
}

struct Watch<'a, 'run> {
    puzzle: &'a Board,
    columns: &'a [Constraint],
    /// Cell and value of each row.
    choices: &'a [(usize, u8)],
    depth: usize,
    run: &'a mut Run<'run>,
}

impl Observer for Watch<'_, '_> {
    fn enter(&mut self) -> ControlFlow<()> {
        if self.run.enter() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn branch(&mut self, column: usize, options: usize) {
        match options {
            0 => {
                let (cell, value, why) = match self.columns[column] {
                    Constraint::Cell(cell) => (Some(cell), None, Why::NoValue),
                    Constraint::Place(unit, value) => (None, Some(value), Why::NoPlace(unit)),
                };
                self.run.tracer.note(Action::Contradiction, self.depth, cell, value, why);
            }
            1 => {}
            _ => self.run.work.guesses += 1,
        }
    }

    fn choose(&mut self, row: usize, column: usize, options: usize) {
        let (cell, value) = self.choices[row];
        let why = match (self.columns[column], options) {
            (Constraint::Cell(_), 1) => Why::OnlyValue,
            (Constraint::Place(unit, _), 1) => Why::OnlyPlace(unit),
            (Constraint::Cell(_), _) => Why::OneOfValues(options),
            (Constraint::Place(unit, _), _) => Why::OneOfPlaces(unit, options),
        };
        self.depth += usize::from(options > 1);
        let action = if options > 1 { Action::Guess } else { Action::Place };
        self.run.tracer.note(action, self.depth, Some(cell), Some(value), why);
    }

    fn give_up(&mut self, row: usize, _column: usize, options: usize) {
        if options > 1 {
            let (cell, value) = self.choices[row];
            self.run.tracer.note(Action::Backtrack, self.depth, Some(cell), Some(value), Why::Searched);
            self.depth -= 1;
        }
    }

    fn solution(&mut self, rows: &[usize]) -> ControlFlow<()> {
        self.run.tracer.note(Action::Solution, self.depth, None, None, Why::Full);
        let (puzzle, choices) = (self.puzzle, self.choices);
        self.run.found(|| {
            let mut cells = puzzle.cells().to_vec();
            for &(cell, value) in rows.iter().map(|&row| &choices[row]) {
                cells[cell] = value;
            }
            cells
        });
        if self.run.done() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
