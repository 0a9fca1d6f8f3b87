use super::*;
use crate::puzzles::sudoku::decode_tokens;
use crate::puzzles::sudoku::generator::full_grid;
use crate::random::{Purpose, below, shuffle, stream};
use crate::testdata;
use crate::testdata::read_records;

/// Givens of `grid` at `clues` random cells.
pub(super) fn thinned(grid: &Board, clues: usize, seed: u64) -> Board {
    let mut cells: Vec<usize> = (0..grid.cells().len()).collect();
    shuffle(&mut stream(seed, Purpose::Other, 5, 0), &mut cells);
    let mut puzzle = Board::empty(grid.geometry());
    for &cell in &cells[..clues] {
        puzzle.cells_mut()[cell] = grid.cells()[cell];
    }
    puzzle
}

/// Number of solutions by trying every value in every blank cell in order: slow and obviously right.
fn brute_force(board: &mut Board, from: usize) -> u64 {
    let side = board.side();
    let Some(cell) = (from..board.cells().len()).find(|&c| board.cells()[c] == 0) else {
        return u64::from(board.is_solved());
    };
    let mut count = 0;
    for value in 1..=side as u8 {
        board.cells_mut()[cell] = value;
        if board.validate().is_ok() {
            count += brute_force(board, cell + 1);
        }
    }
    board.cells_mut()[cell] = 0;
    count
}

#[test]
fn empty_small_boards_have_the_known_number_of_solutions() {
    let mut solver = Solver::new();
    let four = solver.search(&Board::empty(Geometry::S4), u64::MAX);
    assert_eq!((four.solutions, four.stop), (288, Stop::Exhausted));
    // 6x6 with 2x3 boxes: 28,200,960 grids; with the first row fixed 28,200,960 / 6!.
    let six: Board = format!("123456{}", ".".repeat(30)).parse().unwrap();
    assert_eq!(solver.count_solutions(&six, u64::MAX), 28_200_960 / 720);
}

#[test]
fn agrees_with_brute_force_on_small_boards() {
    let mut solver = Solver::new();
    for seed in 0..60 {
        for (geometry, clues) in
            [(Geometry::S4, 3 + seed as usize % 6), (Geometry::S6, 16 + seed as usize % 5)]
        {
            let mut puzzle = thinned(&full_grid(geometry, seed), clues, seed);
            if seed % 3 == 0 {
                // Often contradictory: a random value in a random cell.
                let mut rng = stream(seed, Purpose::Other, 6, 0);
                let cell = below(&mut rng, geometry.cells() as u32) as usize;
                puzzle.cells_mut()[cell] = below(&mut rng, geometry.side() as u32) as u8 + 1;
            }
            assert_eq!(
                solver.count_solutions(&puzzle, u64::MAX),
                brute_force(&mut puzzle.clone(), 0),
                "{puzzle:?}"
            );
        }
    }
}

#[test]
fn both_engines_agree() {
    let mut solver = Solver::new();
    for seed in 0..150 {
        let grid = full_grid(Geometry::S9, seed);
        let mut puzzle = thinned(&grid, 22 + seed as usize % 16, seed);
        if seed % 4 == 0 {
            let mut rng = stream(seed, Purpose::Other, 7, 0);
            puzzle.cells_mut()[below(&mut rng, 81) as usize] = below(&mut rng, 9) as u8 + 1;
        }
        let fast = solver.search(&puzzle, 500);
        let general = solver.search_general(&puzzle, 500);
        assert_eq!((fast.solutions, fast.stop), (general.solutions, general.stop), "{puzzle:?}");
        for solution in [&fast.first, &fast.second, &general.first, &general.second].into_iter().flatten() {
            assert!(solution.is_solution_of(&puzzle), "{puzzle:?} -> {solution:?}");
        }
        if fast.solutions >= 2 {
            assert_ne!(fast.first, fast.second);
        }
    }
}

#[test]
fn verdicts() {
    let mut solver = Solver::new();
    let unique: Board =
        "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79".parse().unwrap();
    let solution = solver.solve(&unique).unwrap();
    assert_eq!(solver.classify(&unique), Solutions::Unique(solution.clone()));
    assert_eq!(
        solver.search(&unique, 2).work,
        Work { guesses: 0, nodes: 1 },
        "an easy puzzle needs no guess"
    );
    // A given that the rules allow but the solution does not.
    let mut wrong = unique.clone();
    wrong.set(0, 2, 1).unwrap();
    assert!(wrong.validate().is_ok());
    assert_eq!(solver.classify(&wrong), Solutions::None);
    let mut broken = unique.clone();
    broken.set(0, 2, 5).unwrap();
    assert_eq!(solver.classify(&broken), Solutions::None);
    let empty = Board::empty(Geometry::S9);
    assert!(
        matches!(solver.classify(&empty), Solutions::Several(a, b) if a != b && a.is_solved() && b.is_solved())
    );
    assert_eq!(solver.count_solutions(&empty, 1000), 1000);
    assert_eq!(solver.search(&empty, 0).solutions, 0);
    assert_eq!(solver.classify(&solution), Solutions::Unique(solution.clone()));
    let mut full_but_wrong = solution.clone();
    full_but_wrong.cells_mut().swap(0, 80);
    assert_eq!(solver.classify(&full_but_wrong), Solutions::None);
}

#[test]
fn node_limit_is_kept() {
    let hard: Board =
        "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4..".parse().unwrap();
    let full = Solver::new().search(&hard, 2);
    assert_eq!((full.solutions, full.stop), (1, Stop::Exhausted));
    assert!(full.work.nodes > 5);
    let cut = Solver::with_node_limit(3).search(&hard, 2);
    assert_eq!((cut.stop, cut.work.nodes), (Stop::NodeLimit, 3));
    assert_eq!(Solver::with_node_limit(3).classify(&hard), Solutions::Unknown);
    assert_eq!(Solver::with_node_limit(3).is_unique(&hard), None);
    let sixteen = Board::empty(Geometry::S16);
    assert_eq!(Solver::with_node_limit(10).search(&sixteen, 5).stop, Stop::NodeLimit);
}

#[test]
fn large_boards_are_solved() {
    let mut solver = Solver::new();
    for (side, clues) in [(12, 80), (15, 140), (16, 150), (20, 270), (25, 430)] {
        let geometry = Geometry::from_side(side).unwrap();
        let puzzle = thinned(&full_grid(geometry, 1), clues, 1);
        let solution = solver.solve(&puzzle).unwrap();
        assert!(solution.is_solution_of(&puzzle), "{geometry}");
    }
}

#[test]
fn tdoku_test_puzzles() {
    let Some(dir) = testdata::data_dir() else { return };
    let text = std::fs::read_to_string(dir.join("testcases/tdoku-test_puzzles.txt")).unwrap();
    let mut solver = Solver::new();
    let mut rows = 0;
    for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
        let mut fields = line.trim().split(':');
        let puzzle: Board = fields.next().unwrap().parse().unwrap();
        let count: u64 = fields.next().unwrap().parse().unwrap();
        // A limit far above every count of the file, so that a wrong engine cannot run for ever.
        let search = solver.search(&puzzle, 2_000_000);
        assert_eq!(search.solutions, count, "{line}");
        if let Some(solution) = fields.next().filter(|s| count == 1 && !s.is_empty()) {
            assert_eq!(search.first.unwrap().to_line(), solution);
        }
        assert_eq!(solver.search_general(&puzzle, 2_000).solutions, count.min(2_000), "{line}");
        rows += 1;
    }
    assert_eq!(rows, 43);
}

/// CPU time of this thread: unlike the clock it does not depend on what else the machine does.
fn thread_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds: f64 = stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(f64::NAN);
    nanoseconds / 1e9
}

/// Every `step`-th row of every Sudoku file; returns the rows solved.
fn solve_files(step: usize) -> usize {
    let Some(dir) = testdata::data_dir() else { return 0 };
    let mut solver = Solver::new();
    let mut total = 0;
    for file in [
        "sudoku/sudoku-extreme-1k-train.csv",
        "sudoku/sudoku-extreme-test-5k.csv.gz",
        "sudoku/extra-hard-train.csv.gz",
        "sudoku/extra-mixed-train.csv.gz",
        "sudoku/generated-vicinity-train.csv.gz",
        "testcases/forum_hardest_1106-raw.csv",
        "testcases/sudoku_exchange_diabolical-500.csv",
    ] {
        let records = read_records(&dir.join(file), "sudoku");
        let start = thread_seconds();
        let (mut rows, mut guesses) = (0u32, 0);
        for record in records.iter().step_by(step) {
            let puzzle = decode_tokens(&record.input).unwrap();
            let label = record.label.as_ref().map(|label| decode_tokens(label).unwrap());
            let search = solver.search(&puzzle, 2);
            assert_eq!(search.stop, Stop::Exhausted);
            assert_eq!(search.first, label, "{file}: {puzzle:?}");
            assert_eq!(search.solutions, 1, "{file}: {puzzle:?}");
            rows += 1;
            guesses += search.work.guesses;
        }
        let rate = f64::from(rows) / (thread_seconds() - start);
        println!(
            "{file}: {rows} of {} rows, {rate:.0} puzzles/s, {:.2} guesses each",
            records.len(),
            guesses as f64 / f64::from(rows)
        );
        total += rows as usize;
    }
    total
}

#[test]
fn files_are_solved_to_their_stated_answers_sampled() {
    solve_files(25);
}

#[test]
#[ignore = "all 193,000 rows: a few seconds more than the sampled test"]
fn files_are_solved_to_their_stated_answers_in_full() {
    solve_files(1);
}

#[test]
fn a_preference_changes_the_effort_and_nothing_else() {
    let mut solver = Solver::new();
    for geometry in [Geometry::S6, Geometry::S9, Geometry::S16] {
        let clues = match geometry.side() {
            6 => 8,
            9 => 24,
            _ => 140,
        };
        let (mut with, mut against) = (0, 0);
        for seed in 0..10 {
            let grid = full_grid(geometry, seed);
            let puzzle = thinned(&grid, clues, seed);
            // One that knows the answer never guesses wrong: each guess is one node more.
            let cells = grid.cells().to_vec();
            let knows = |cell: usize, value: u8| f32::from(u8::from(cells[cell] == value));
            let search = solver.search_preferring(&puzzle, 1, &knows);
            assert_eq!(search.first.as_ref(), Some(&grid));
            assert_eq!(search.work.nodes, search.work.guesses + 1);
            with += search.work.guesses;
            // One that is always wrong still finds all there is.
            let search = solver.search_preferring(&puzzle, 200, &|cell, value| -knows(cell, value));
            let plain = solver.search(&puzzle, 200);
            assert_eq!((search.solutions, search.stop), (plain.solutions, plain.stop));
            assert!(search.first.is_some_and(|board| board.is_solution_of(&puzzle)));
            against += search.work.guesses;
        }
        assert!(with > 0 && against > with, "{geometry}: {with} {against}");
    }
}
