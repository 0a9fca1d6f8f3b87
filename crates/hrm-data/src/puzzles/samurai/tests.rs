use super::*;
use crate::puzzles::sudoku::{Solver, Stop};
use crate::random::{Purpose, stream};
use crate::render::Style;
use crate::task::Task;

#[test]
fn the_canvas_has_five_boards() {
    assert_eq!(INSIDE.len(), BOARD_CELLS);
    let mut boards_of = vec![0; CELLS];
    (0..5).flat_map(canvas_cells).for_each(|cell| boards_of[cell] += 1);
    for (cell, &boards) in boards_of.iter().enumerate() {
        assert_eq!(boards > 0, is_inside(cell / SIDE, cell % SIDE));
    }
    assert_eq!(boards_of.iter().filter(|&&boards| boards == 2).count(), 36, "four shared boxes");
    assert!(!is_inside(21, 0) && !is_inside(0, 21));
    assert_eq!(canvas_cells(5).count(), 0);
}

#[test]
fn text_is_read_and_written() {
    let made = Generator::new(1).with_clues(200, 250).generate(0);
    for boards in [&made.puzzle, &made.solution, &Samurai::empty()] {
        let text = boards.to_string();
        assert_eq!((text.lines().count(), boards.to_line().len()), (21, 441));
        assert!(text.lines().all(|line| line.len() == 21));
        assert_eq!(text.parse().as_ref(), Ok(boards));
        assert_eq!(format!("\n{text}\r\n").parse().as_ref(), Ok(boards));
        assert_eq!(boards.to_line().parse().as_ref(), Ok(boards));
        let spaces: Vec<String> =
            text.replace('#', " ").lines().map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(spaces.join("\n").parse().as_ref(), Ok(boards), "spaces, cut at line ends");
    }
}

#[test]
fn errors_say_where_and_what() {
    let text = Samurai::empty().to_string();
    let read = |text: &str| text.parse::<Samurai>().unwrap_err().to_string();
    assert_eq!(read(""), "expected 21 lines (or one of 441 characters), got 0");
    assert_eq!(read("123"), "expected 21 lines (or one of 441 characters), got 1 of 3 characters");
    assert_eq!(read(&text[..text.len() - 1]), "line 21: expected 21 characters, got 20");
    assert_eq!(read(&format!("{text}.")), "line 21: expected 21 characters, got 22");
    assert_eq!(
        read(&text.replacen('.', "x", 1)),
        "row 1, column 1: expected a digit, or `.` for blank, got 'x'"
    );
    assert_eq!(
        read(&text.replacen('#', "5", 1)),
        "row 1, column 10: expected `#` outside of the boards, got '5'"
    );
    assert_eq!(Samurai::from_cells(vec![0; 3]).unwrap_err().to_string(), "expected 441 cells, got 3");
    let mut cells = vec![0; CELLS];
    cells[9] = 1;
    assert_eq!(
        Samurai::from_cells(cells).unwrap_err().to_string(),
        "row 1, column 10: expected 0 outside of the boards, got 1"
    );
    let twice: Samurai = text.replacen("..", "55", 1).parse().unwrap();
    assert_eq!(
        twice.validate().unwrap_err().to_string(),
        "the boards break the rules: upper left board: value 5 stands twice in row 1 (columns 1 and 2); upper left board: value 5 stands twice in box 1 (row 1 column 1 and row 1 column 2)"
    );
}

#[test]
fn generated_puzzles_have_one_solution_on_any_number_of_threads() {
    let generator = Generator::new(7);
    let made = generator.generate_many(0..2);
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| generator.generate_many(0..2)), made);
    assert_ne!(made[0], made[1]);
    assert_ne!(Generator::new(8).generate(0), made[0]);
    for Generated { puzzle, solution, minimal } in &made {
        assert!(solution.is_solution_of(puzzle) && solution.validate().is_ok());
        let search = puzzle.search(2, u64::MAX);
        assert_eq!((search.is_unique(), search.first.as_ref()), (Some(true), Some(solution)));
        assert!(puzzle.clues() < 170, "{}", puzzle.clues());
        // Who knows the answer never guesses wrong.
        let knows = |cell: usize, digit: u8| f32::from(u8::from(solution.cells()[cell] == digit));
        let right = puzzle.search_preferring(1, u64::MAX, &knows);
        assert_eq!((right.first.as_ref(), right.work.nodes), (Some(solution), right.work.guesses + 1));
        assert!(right.work.nodes <= puzzle.search(1, u64::MAX).work.nodes);
        if *minimal {
            for cell in (0..CELLS).filter(|&cell| puzzle.cells[cell] != 0).step_by(9) {
                let mut fewer = puzzle.clone();
                fewer.cells[cell] = 0;
                assert_eq!(fewer.search(2, u64::MAX).solutions, 2, "cell {cell}");
            }
        }
    }
    let some = Generator::new(7).with_clues(180, 190).generate(3);
    assert!((180..=190).contains(&some.puzzle.clues()));
    assert!(!some.minimal && some.puzzle.search(2, u64::MAX).is_unique() == Some(true));
}

#[test]
fn the_search_agrees_with_that_of_one_board() {
    // With the other boards full, what is left is one Sudoku.
    let made = Generator::new(5).with_clues(250, 250).generate(0);
    for board in 0..5 {
        let mut puzzle = made.solution.clone();
        let shared = |cell: usize| (0..5).filter(|&b| canvas_cells(b).any(|c| c == cell)).count() > 1;
        let mut left = 0;
        for (index, cell) in canvas_cells(board).enumerate() {
            if !shared(cell) && (index * 7 + board) % 5 != 0 {
                puzzle.cells[cell] = 0;
                left += 1;
            }
        }
        assert!(left > 30);
        let alone = Solver::new().count_solutions(&puzzle.board(board), 1000);
        let all = puzzle.search(1000, u64::MAX);
        assert_eq!(all.solutions, alone);
        assert!(all.first.unwrap().is_solution_of(&puzzle));
    }
    let mut clash = made.puzzle;
    let cell = canvas_cells(2).next().unwrap();
    clash.cells[cell] = made.solution.cells[cell] % 9 + 1;
    clash.cells[cell + 1] = clash.cells[cell];
    assert_eq!(clash.search(1, u64::MAX).solutions, 0);
    assert_eq!(Samurai::empty().search(5, 1_000_000).stop, Stop::SolutionLimit);
    assert_eq!(Samurai::empty().search(u64::MAX, 100).stop, Stop::NodeLimit);
}

#[test]
fn symmetries_keep_rules_and_answers() {
    let made = Generator::new(2).with_clues(200, 200).generate(0);
    let (input, label) =
        (SamuraiTask.encode(&made.puzzle), SamuraiTask.encode_solution(&made.puzzle, &made.solution));
    let mut rng = stream(1, Purpose::Other, 0, 0);
    let mut images = std::collections::HashSet::new();
    for _ in 0..50 {
        let symmetry = SamuraiTask.symmetry(&mut rng);
        let puzzle = SamuraiTask.decode(&symmetry.apply(&input)).unwrap();
        assert_eq!(SamuraiTask.verify(&puzzle, &symmetry.apply(&label)), Ok(()));
        images.insert(puzzle);
    }
    assert_eq!(images.len(), 50);
}

#[test]
fn answers_are_judged() {
    let made = Generator::new(2).with_clues(200, 200).generate(1);
    let label = SamuraiTask.encode_solution(&made.puzzle, &made.solution);
    assert_eq!(SamuraiTask.verify(&made.puzzle, &label), Ok(()));
    let error = |cell: usize, token: u8| {
        let mut answer = label.clone();
        answer[cell] = token;
        SamuraiTask.verify(&made.puzzle, &answer).map_err(|e| e.to_string())
    };
    assert_eq!(error(9, 200), Ok(()), "outside of the boards");
    let given = (0..CELLS).find(|&cell| made.puzzle.cells[cell] != 0).unwrap();
    assert!(error(given, 1).unwrap_err().contains("the given"));
    let free = (0..CELLS).find(|&c| made.puzzle.cells[c] == 0 && made.solution.cells[c] != 0).unwrap();
    assert!(error(free, 1).unwrap_err().ends_with("is blank"));
    assert!(error(free, label[free] % 10 + 2).is_err());
    assert!(error(free, 12).unwrap_err().contains("got 11"));
    let input = SamuraiTask.encode(&made.puzzle);
    assert!(SamuraiTask.decode(&input[1..]).unwrap_err().to_string().contains("got 440"));
    for (cell, token) in [(0, 0), (0, 11), (9, 1)] {
        let mut wrong = input.clone();
        wrong[cell] = token;
        assert!(SamuraiTask.decode(&wrong).is_err());
    }
    let text = SamuraiTask.render(&made.puzzle, None, Style::Plain);
    assert_eq!(text.lines().count(), 21);
}

/// Speed, printed: `cargo test -p hrm-data --lib -- samurai_speed --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn samurai_speed() {
    let start = std::time::Instant::now();
    let made = Generator::new(1).generate_many(0..20);
    println!("20 puzzles in {:?} on {} threads", start.elapsed(), rayon::current_num_threads());
    let clues: Vec<usize> = made.iter().map(|made| made.puzzle.clues()).collect();
    println!("clues {clues:?}, {} minimal", made.iter().filter(|made| made.minimal).count());
    for made in &made {
        let start = std::time::Instant::now();
        let search = made.puzzle.search(2, u64::MAX);
        println!("{:?} {:?} {:?}", search.solutions, search.work, start.elapsed());
    }
}
