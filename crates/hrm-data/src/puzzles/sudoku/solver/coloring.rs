//! Sudoku as graph colouring: cells are vertices, cells that share a unit are adjacent, values are colours. The search is
//! DSATUR (Brélaz, "New methods to color the vertices of a graph", 1979) with backtracking.

use std::fmt::Write as _;

use super::Run;
use super::trace::{Action, Why};
use crate::puzzles::sudoku::board::{Board, Geometry};

/// The graph of a geometry: one vertex for each cell, an edge between any two that share a row, column or box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstraintGraph {
    geometry: Geometry,
    neighbours: Vec<Vec<usize>>,
}

impl ConstraintGraph {
    /// The graph: 81 vertices of degree 20 for 9x9.
    pub fn new(geometry: Geometry) -> Self {
        Self { geometry, neighbours: geometry.peers() }
    }

    /// The neighbours of a cell (an index into [`Board::cells`]) in order; none if there is no such cell.
    pub fn neighbours(&self, cell: usize) -> &[usize] {
        self.neighbours.get(cell).map_or(&[], Vec::as_slice)
    }

    /// Every edge once, as (smaller, larger) cell.
    pub fn edges(&self) -> impl Iterator<Item = (usize, usize)> {
        let all = self.neighbours.iter().enumerate();
        all.flat_map(|(cell, of)| {
            of.iter().filter(move |&&other| other > cell).map(move |&other| (cell, other))
        })
    }

    /// The graph in the language of Graphviz, laid out as the board (`neato -n2` keeps the positions). Values of `board`
    /// become labels and fill colours; those of a board of another geometry are left out.
    pub fn to_dot(&self, board: Option<&Board>) -> String {
        let side = self.geometry.side();
        let values = board.filter(|b| b.geometry() == self.geometry).map_or(&[][..], Board::cells);
        let mut dot = format!("graph sudoku {{\n  label=\"{}\";\n", self.geometry);
        dot.push_str("  node [shape=circle, width=0.4, fixedsize=true, style=filled, fillcolor=white];\n");
        dot.push_str("  edge [color=\"#00000030\"];\n");
        let name = |cell: usize| format!("r{}c{}", cell / side + 1, cell % side + 1);
        for cell in 0..self.neighbours.len() {
            let (x, y) = (72 * (cell % side), 72 * (side - 1 - cell / side));
            // Writing to a string does not fail.
            let _ = write!(dot, "  {} [pos=\"{x},{y}\"", name(cell));
            let _ = match values.get(cell) {
                Some(&value) if value != 0 => {
                    let hue = f64::from(value - 1) / side as f64;
                    writeln!(dot, ", label=\"{value}\", fillcolor=\"{hue:.3} 0.400 1.000\"];")
                }
                _ => writeln!(dot, ", label=\"\"];"),
            };
        }
        for (a, b) in self.edges() {
            let _ = writeln!(dot, "  {} -- {};", name(a), name(b));
        }
        dot.push_str("}\n");
        dot
    }
}

/// A partial colouring.
struct Coloring<'g> {
    graph: &'g ConstraintGraph,
    side: usize,
    /// Colour of each vertex, 0 for none.
    colours: Vec<u8>,
    /// How many neighbours of a vertex have a colour: `[vertices, side]`.
    used: Vec<u8>,
    /// Colours that no neighbour has: the complement of the saturation.
    free: Vec<u32>,
    /// Uncoloured neighbours.
    degree: Vec<usize>,
}

/// Searches a board that keeps the rules.
pub(super) fn search(puzzle: &Board, run: &mut Run<'_>) {
    let graph = ConstraintGraph::new(puzzle.geometry());
    let (side, cells) = (puzzle.side(), puzzle.cells().len());
    let mut coloring = Coloring {
        graph: &graph,
        side,
        colours: vec![0; cells],
        used: vec![0; cells * side],
        free: vec![((1u64 << side) - 1) as u32; cells],
        degree: (0..cells).map(|cell| graph.neighbours(cell).len()).collect(),
    };
    for (cell, &value) in puzzle.cells().iter().enumerate().filter(|(_, v)| **v != 0) {
        coloring.paint(cell, value);
    }
    coloring.descend(0, run);
}

impl Coloring<'_> {
    fn paint(&mut self, vertex: usize, colour: u8) {
        self.colours[vertex] = colour;
        for &other in self.graph.neighbours(vertex) {
            let used = &mut self.used[other * self.side + usize::from(colour - 1)];
            *used += 1;
            self.free[other] &= !(1 << (colour - 1));
            self.degree[other] -= 1;
        }
    }

    fn wipe(&mut self, vertex: usize) {
        let colour = std::mem::take(&mut self.colours[vertex]);
        for &other in self.graph.neighbours(vertex) {
            let used = &mut self.used[other * self.side + usize::from(colour - 1)];
            *used -= 1;
            if *used == 0 {
                self.free[other] |= 1 << (colour - 1);
            }
            self.degree[other] += 1;
        }
    }

    /// The uncoloured vertex of the highest saturation; of several the one with the most uncoloured neighbours, then the
    /// first.
    fn choose(&self) -> Option<usize> {
        (0..self.colours.len())
            .filter(|&vertex| self.colours[vertex] == 0)
            .min_by_key(|&vertex| (self.free[vertex].count_ones(), usize::MAX - self.degree[vertex]))
    }

    fn descend(&mut self, depth: usize, run: &mut Run<'_>) {
        if !run.enter() {
            return;
        }
        let Some(vertex) = self.choose() else {
            run.tracer.note(Action::Solution, depth, None, None, Why::Full);
            run.found(|| self.colours.clone());
            return;
        };
        let options = self.free[vertex].count_ones() as usize;
        if options == 0 {
            run.tracer.note(Action::Contradiction, depth, Some(vertex), None, Why::NoValue);
            return;
        }
        let guess = options > 1;
        run.work.guesses += u64::from(guess);
        let below = depth + usize::from(guess);
        let (action, why) = match options {
            1 => (Action::Place, Why::OnlyValue),
            _ => (Action::Guess, Why::OneOfValues(options)),
        };
        for colour in
            (1..=self.side as u8).filter(|c| self.free[vertex] >> (c - 1) & 1 == 1).collect::<Vec<_>>()
        {
            run.tracer.note(action, below, Some(vertex), Some(colour), why);
            self.paint(vertex, colour);
            self.descend(below, run);
            self.wipe(vertex);
            if run.done() {
                return;
            }
            if guess {
                run.tracer.note(Action::Backtrack, below, Some(vertex), Some(colour), Why::Searched);
            }
        }
    }
}
