use super::*;
use crate::puzzles::sudoku::Stop;

const TEXT: &str = "AABB\nCABD\nCCDD\nAAAD\n7 6 8 13 6";

fn read(text: &str) -> Result<Killer, String> {
    text.parse::<Killer>().map_err(|error| error.to_string())
}

/// All full boards of a shape that keep the rules and the sums, by plain enumeration.
fn brute_force(killer: &Killer) -> Vec<Board> {
    fn extend(killer: &Killer, board: &mut Board, cell: usize, found: &mut Vec<Board>) {
        let side = board.side();
        if cell == side * side {
            if killer.faults(board).is_empty() {
                found.push(board.clone());
            }
            return;
        }
        for digit in 1..=side as u8 {
            board.set(cell / side, cell % side, digit).unwrap();
            if board.validate().is_ok() {
                extend(killer, board, cell + 1, found);
            }
        }
        board.set(cell / side, cell % side, 0).unwrap();
    }
    let mut found = Vec::new();
    extend(killer, &mut Board::empty(killer.geometry()), 0, &mut found);
    found
}

#[test]
fn text_is_read_and_written() {
    // The sum of four different digits up to 4 is 10.
    let text = TEXT.replace("13", "10");
    let killer = read(&text).unwrap();
    assert_eq!(killer.to_string(), text.replace("CABD\nCCDD\nAAAD", "BABA\nBBAA\nCCCA"));
    assert_eq!(killer.to_line(), "AABBBABABBAACCCA;7 6 8 10 6");
    assert_eq!(read("aabb cabd,ccdd;aaad;7,6,8,10,6"), Ok(killer.clone()));
    assert_eq!(killer.geometry(), Geometry::S4);
    let cages: Vec<(Vec<usize>, u32)> =
        killer.cages().iter().map(|cage| (cage.cells.clone(), cage.sum)).collect();
    let expected = [
        (vec![0, 1, 5], 7),
        (vec![2, 3, 6], 6),
        (vec![4, 8, 9], 8),
        (vec![7, 10, 11, 15], 10),
        (vec![12, 13, 14], 6),
    ];
    assert_eq!(cages, expected);
}

#[test]
fn errors_say_where_and_what() {
    assert_eq!(
        read(TEXT).unwrap_err(),
        "cage 4 (at row 2, column 4): 4 different digits have a sum of 10 to 10, got 13"
    );
    let good = TEXT.replace("13", "10");
    assert!(read(&good).is_ok());
    assert_eq!(
        read(&good.replace("10 6", "10")).unwrap_err(),
        "expected 5 sums, one for each connected region of a letter in the order of first cells, got 4"
    );
    assert!(read("AAB\n7").unwrap_err().ends_with("got 3 letters"));
    assert!(read("").unwrap_err().ends_with("got 0 letters"));
    assert_eq!(
        read(&good.replace('D', "?")).unwrap_err(),
        "line 2, character 4: expected a letter for a cell, digits of a sum, or a separator (space , ;), got \"?\""
    );
    assert!(read("AABB 7\nCABD").unwrap_err().contains("line 2, character 1: expected only sums"));
    assert!(read(&good.replace("7 6", "99999999999999999999 6")).unwrap_err().contains("got 4294967295"));
    assert!(read(&format!("{} 136", "A".repeat(256))).unwrap_err().contains("got 256 letters"));
    assert!(
        read(&format!("{} 45", "A".repeat(81))).unwrap_err().contains("expected at most 9 cells, got 81")
    );
    let cage = |cells: &[usize], sum| Cage { cells: cells.to_vec(), sum };
    let new = |cages: Vec<Cage>| Killer::new(Geometry::S4, cages).unwrap_err().to_string();
    assert_eq!(new(vec![]), "row 1, column 1: expected one cage, got 0");
    assert_eq!(new(vec![cage(&[16], 1)]), "cage 1: expected cells below 16, got 16");
    let mut cages: Vec<Cage> = (0..16).map(|cell| cage(&[cell], 1)).collect();
    assert!(Killer::new(Geometry::S4, cages.clone()).is_ok());
    cages[0].cells = vec![0, 2];
    assert_eq!(new(cages.clone()), "row 1, column 3: expected one cage, got 2");
    cages.remove(2);
    assert_eq!(new(cages), "cage 1: expected cells that are connected, got 2 parts");
    assert!(matches!(Killer::new(Geometry::S16, vec![]), Err(KillerError::Geometry { .. })));
}

#[test]
fn the_search_finds_what_enumeration_finds() {
    // Random cages on random boards, unique or not, some of them with a sum changed.
    let mut counts = std::collections::BTreeMap::new();
    for index in 0..60 {
        let generator = Generator::new(Geometry::S4, 9).unwrap().with_largest_cage(2 + index as usize % 3);
        let made = generator.generate(index);
        let mut cages = made.puzzle.cages().to_vec();
        if index % 3 == 1
            && let Some(pair) = (1..cages.len()).find_map(|b| {
                (0..b)
                    .find(|&a| {
                        cages[a].cells.iter().any(|&x| cages[b].cells.iter().any(|&y| touch(4, x, y)))
                            && cages[a].cells.len() + cages[b].cells.len() <= 4
                    })
                    .map(|a| (a, b))
            })
        {
            let other = cages.remove(pair.1);
            cages[pair.0].cells.extend(other.cells);
            cages[pair.0].sum += other.sum;
        }
        if index % 3 == 2 {
            cages[0].sum += 1;
        }
        let Ok(puzzle) = Killer::new(Geometry::S4, cages) else { continue };
        let all = brute_force(&puzzle);
        let search = puzzle.search(u64::MAX, u64::MAX);
        assert_eq!(search.solutions, all.len() as u64, "{puzzle}");
        assert_eq!(search.stop, Stop::Exhausted);
        assert!(search.first.iter().chain(&search.second).all(|board| all.contains(board)));
        *counts.entry(all.len().min(2)).or_insert(0) += 1;
    }
    assert!(counts.len() == 3, "no solution, one and several were all met: {counts:?}");
}

#[test]
fn generated_puzzles_have_one_solution_on_any_number_of_threads() {
    for (geometry, count) in [(Geometry::S4, 40), (Geometry::S6, 20), (Geometry::S9, 6)] {
        let generator = Generator::new(geometry, 3).unwrap();
        let made = generator.generate_many(0..count);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(|| generator.generate_many(0..count)), made);
        assert_eq!(generator.generate(1), made[1]);
        assert_ne!(Generator::new(geometry, 4).unwrap().generate(1), made[1]);
        for Generated { puzzle, solution } in &made {
            let search = puzzle.search(2, u64::MAX);
            assert_eq!(search.is_unique(), Some(true));
            assert_eq!(search.first.as_ref(), Some(solution));
            assert!(puzzle.cages().iter().all(|cage| cage.cells.len() <= 5));
            assert_eq!(Killer::new(geometry, puzzle.cages().to_vec()).as_ref(), Ok(puzzle));
            assert_eq!(puzzle.to_string().parse().as_ref(), Ok(puzzle));
            assert_eq!(puzzle.to_line().parse().as_ref(), Ok(puzzle));
        }
        let mean = made.iter().map(|made| made.puzzle.cages().len()).sum::<usize>() as f64 / count as f64;
        assert!(mean < geometry.cells() as f64 / 1.6, "cages are not all single cells: {mean}");
    }
}

#[test]
fn faults_are_named() {
    let made = Generator::new(Geometry::S4, 8).unwrap().generate(0);
    assert!(made.puzzle.faults(&made.solution).is_empty());
    let mut blank = made.solution.clone();
    blank.set(2, 1, 0).unwrap();
    assert_eq!(made.puzzle.faults(&blank), ["row 3, column 2 is blank"]);
    let rotated: Vec<u8> = made.solution.cells().iter().map(|d| d % 4 + 1).collect();
    let rotated = Board::from_cells(Geometry::S4, rotated).unwrap();
    let faults = made.puzzle.faults(&rotated);
    assert!(faults.iter().all(|fault| fault.contains("expected a sum of")) && !faults.is_empty());
    assert!(!made.puzzle.faults(&Board::empty(Geometry::S9)).is_empty());
}

#[test]
fn splits_hold_no_puzzle_twice() {
    let generator = Generator::new(Geometry::S6, 2).unwrap();
    let (train, test) = generate_split(&generator, 30, 10);
    assert_eq!((train.len(), test.len()), (30, 10));
    let keys: std::collections::HashSet<Killer> =
        train.iter().chain(&test).map(|made| made.puzzle.canonical()).collect();
    assert_eq!(keys.len(), 40);
    assert_eq!(generate_split(&generator, 30, 10), (train, test));
    assert!(Generator::new(Geometry::S16, 2).is_err());
}

#[test]
fn who_knows_the_answer_never_guesses_wrong() {
    let (mut knowing, mut without, mut misled) = (0, 0, 0);
    for made in Generator::new(Geometry::S9, 5).unwrap().generate_many(0..6) {
        let knows = |cell: usize, digit: u8| f32::from(u8::from(made.solution.cells()[cell] == digit));
        let right = made.puzzle.search_preferring(1, u64::MAX, &knows);
        let wrong = made.puzzle.search_preferring(1, u64::MAX, &|cell, digit| -knows(cell, digit));
        assert_eq!((right.first.as_ref(), right.work.nodes), (Some(&made.solution), right.work.guesses + 1));
        assert_eq!(wrong.first.as_ref(), Some(&made.solution));
        knowing += right.work.nodes;
        without += made.puzzle.search(1, u64::MAX).work.nodes;
        misled += wrong.work.nodes;
    }
    assert!(knowing < without && without < misled, "{knowing}, {without}, {misled}");
}

/// Speed, printed: `cargo test -p hrm-data --lib --release -- killer_speed --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn killer_speed() {
    let start = std::time::Instant::now();
    let made = Generator::new(Geometry::S9, 1).unwrap().generate_many(0..100);
    println!("100 puzzles of 9x9 in {:?} on {} threads", start.elapsed(), rayon::current_num_threads());
    let start = std::time::Instant::now();
    let searches: Vec<_> = made.iter().map(|made| made.puzzle.search(2, u64::MAX)).collect();
    let total = |of: fn(&Search<Board>) -> u64| searches.iter().map(of).sum::<u64>() as f64 / 100.0;
    println!(
        "solved (with proof) in {:?} each; {} guesses, {} nodes each (most {})",
        start.elapsed() / 100,
        total(|s| s.work.guesses),
        total(|s| s.work.nodes),
        searches.iter().map(|s| s.work.nodes).max().unwrap_or(0)
    );
    let cages: usize = made.iter().map(|made| made.puzzle.cages().len()).sum();
    let single: usize =
        made.iter().map(|m| m.puzzle.cages().iter().filter(|c| c.cells.len() == 1).count()).sum();
    println!("{} cages each, {} of one cell", cages as f64 / 100.0, single as f64 / 100.0);
}
