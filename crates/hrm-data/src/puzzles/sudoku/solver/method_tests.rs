//! The classical solvers against each other, and their traces replayed.

use proptest::prelude::*;

use super::tests::thinned;
use super::*;
use crate::puzzles::sudoku::generator::full_grid;
use crate::testdata;

const HARD: &str = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4..";

/// The boards at the solution steps of a trace, by doing what it says.
fn replay(puzzle: &Board, trace: &Trace) -> Vec<Board> {
    let mut board = puzzle.clone();
    let mut before_guess = Vec::new();
    let mut solutions = Vec::new();
    for step in &trace.steps {
        if matches!(step.action, Action::Guess) {
            before_guess.push(board.clone());
        }
        assert_eq!(step.depth, before_guess.len(), "{step}");
        match step.action {
            Action::Place | Action::Guess => {
                let (row, column) = (step.row.unwrap(), step.column.unwrap());
                assert_eq!(board.get(row, column), Some(0), "{step}");
                board.set(row, column, step.value.unwrap()).unwrap();
            }
            Action::Backtrack => board = before_guess.pop().unwrap(),
            Action::Contradiction => assert!(!board.is_solved(), "{step}"),
            Action::Solution => {
                assert!(board.is_solution_of(puzzle), "{step}");
                solutions.push(board.clone());
            }
        }
    }
    solutions
}

#[test]
fn traces_replay_to_the_solutions() {
    let mut puzzles: Vec<Board> = vec![HARD.parse().unwrap(), Board::empty(Geometry::S9)];
    for side in [4, 6, 9, 12] {
        let geometry = Geometry::from_side(side).unwrap();
        puzzles.push(thinned(&full_grid(geometry, 3), geometry.cells() * 2 / 5, 3));
    }
    for puzzle in &puzzles {
        for method in Method::ALL {
            let limits = Limits { solutions: 3, nodes: 200_000, steps: 1_000_000 };
            let (search, trace) = method.traced(puzzle, &limits);
            assert_ne!(search.stop, Stop::NodeLimit, "{method} {puzzle:?}");
            assert_eq!(trace.dropped, 0);
            let solutions = replay(puzzle, &trace);
            assert_eq!(solutions.len() as u64, search.solutions, "{method}");
            assert_eq!(solutions.first(), search.first.as_ref(), "{method}");
            assert_eq!(solutions.get(1), search.second.as_ref(), "{method}");
            let untraced = method.search(puzzle, &limits);
            assert_eq!((untraced.solutions, untraced.stop), (search.solutions, search.stop));
            if method != Method::Dfs {
                assert_eq!(untraced, search);
            }
            let (_, short) = method.traced(puzzle, &Limits { steps: 5, ..limits });
            assert_eq!(short.steps, trace.steps[..trace.steps.len().min(5)]);
            assert_eq!(short.dropped, trace.steps.len().saturating_sub(5) as u64);
        }
    }
}

#[test]
fn limits_hold() {
    let hard: Board = HARD.parse().unwrap();
    for method in Method::ALL {
        let cut = method.search(&hard, &Limits { nodes: 10, ..Limits::default() });
        assert_eq!((cut.stop, cut.work.nodes), (Stop::NodeLimit, 10), "{method}");
        let none = method.search(&hard, &Limits { solutions: 0, ..Limits::default() });
        assert_eq!((none.solutions, none.work.nodes), (0, 0), "{method}");
        let many = method.search(&Board::empty(Geometry::S9), &Limits { solutions: 50, ..Limits::default() });
        assert_eq!((many.solutions, many.stop), (50, Stop::SolutionLimit), "{method}");
        let all =
            method.search(&Board::empty(Geometry::S4), &Limits { solutions: 1000, ..Limits::default() });
        assert_eq!((all.solutions, all.stop), (288, Stop::Exhausted), "{method}");
    }
}

#[test]
fn boards_without_a_solution_say_why() {
    let twice: Board = "11..............".parse().unwrap();
    for method in Method::ALL {
        let (search, trace) = method.traced(&twice, &Limits::default());
        assert_eq!((search.solutions, search.stop, search.first), (0, Stop::Exhausted, None), "{method}");
        assert!(matches!(trace.steps.last().unwrap().action, Action::Contradiction), "{method}");
    }
    // Row 1 lacks 4 in its last cell, which column 4 forbids.
    let stuck: Board = "123...4........4".parse().unwrap();
    for method in Method::ALL {
        assert_eq!(method.search(&stuck, &Limits::default()).solutions, 0, "{method}");
    }
}

#[test]
fn steps_read_well_and_serialise() {
    let puzzle: Board = "12..34..........".parse().unwrap();
    let (_, trace) = Method::Dfs.traced(&puzzle, &Limits { solutions: 1, ..Limits::default() });
    let text = trace.to_string();
    assert!(text.lines().any(|l| l.trim_start().starts_with("guess ") && l.contains("one of 2")), "{text}");
    assert!(text.ends_with("solution: every cell has a value\n"), "{text}");
    let json = serde_json::to_string(&trace).unwrap();
    assert!(json.contains(r#""action":"guess""#), "{json}");
    assert_eq!(serde_json::from_str::<Trace>(&json).unwrap(), trace);
    let step = Step {
        action: Action::Place,
        depth: 1,
        row: Some(2),
        column: Some(4),
        value: Some(7),
        why: Why::OnlyPlace(crate::puzzles::sudoku::Unit::Box(1)),
    };
    assert_eq!(step.to_string(), "  place 7 at r3c5: the only place left in box 2");
}

#[test]
fn names_round_trip() {
    for method in Method::ALL {
        assert_eq!(method.name().parse::<Method>(), Ok(method));
        assert_eq!(serde_json::to_value(method).unwrap(), method.name());
    }
    let error = "dsatur".parse::<Method>().unwrap_err().to_string();
    assert_eq!(error, "expected dfs, dlx or coloring, got \"dsatur\"");
}

#[test]
fn the_graph_and_its_dot() {
    let graph = ConstraintGraph::new(Geometry::S9);
    assert_eq!(graph.edges().count(), 810);
    assert!((0..81).all(|cell| graph.neighbours(cell).len() == 20));
    assert_eq!(graph.neighbours(81), &[] as &[usize]);
    let board: Board = HARD.parse().unwrap();
    let dot = graph.to_dot(Some(&board));
    assert_eq!(dot.matches(" -- ").count(), 810);
    assert_eq!(dot.matches("label=\"\"").count(), 81 - board.clues());
    assert!(dot.starts_with("graph sudoku {") && dot.ends_with("}\n"));
    assert!(dot.contains("  r1c1 -- r2c2;\n") && !dot.contains("r1c1 -- r4c2;"), "{dot}");
    assert_eq!(graph.to_dot(Some(&Board::empty(Geometry::S4))), graph.to_dot(None));
}

#[test]
fn all_agree_on_the_tdoku_test_puzzles() {
    let Some(dir) = testdata::data_dir() else { return };
    let text = std::fs::read_to_string(dir.join("testcases/tdoku-test_puzzles.txt")).unwrap();
    let mut decided = 0;
    let mut rows = 0;
    for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
        let mut fields = line.trim().split(':');
        let puzzle: Board = fields.next().unwrap().parse().unwrap();
        let count: u64 = fields.next().unwrap().parse().unwrap();
        rows += 1;
        for method in Method::ALL {
            // Colouring has no hidden singles, and takes millions of nodes for the worst of these.
            let search = method.search(&puzzle, &Limits { solutions: 1_000, nodes: 300_000, steps: 0 });
            if search.stop == Stop::NodeLimit {
                assert!(search.solutions <= count, "{method} {line}");
                continue;
            }
            decided += 1;
            assert_eq!(search.solutions, count.min(1_000), "{method} {line}");
            if count == 1 {
                assert_eq!(search.first, Solver::new().solve(&puzzle), "{method} {line}");
            }
        }
    }
    assert_eq!(rows, 43);
    assert!(decided >= 3 * rows - 6, "{decided} of {}", 3 * rows);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn all_agree(seed in any::<u64>(), shape in 0usize..4, thin in 40usize..75, spoil in any::<bool>()) {
        let geometry = [Geometry::S4, Geometry::S6, Geometry::S9, Geometry::new(2, 4).unwrap()][shape];
        let clues = geometry.cells() * (100 - thin) / 100;
        let mut puzzle = thinned(&full_grid(geometry, seed), clues, seed);
        if spoil {
            let cell = seed as usize % geometry.cells();
            puzzle.cells_mut()[cell] = (seed >> 32) as u8 % geometry.side() as u8 + 1;
        }
        let limits = Limits { solutions: 100, nodes: u64::MAX, steps: 0 };
        let counts = Method::ALL.map(|method| {
            let search = method.search(&puzzle, &limits);
            for board in [&search.first, &search.second].into_iter().flatten() {
                assert!(board.is_solution_of(&puzzle), "{method}");
            }
            search.solutions
        });
        prop_assert_eq!(counts, [counts[0]; 3]);
    }
}
