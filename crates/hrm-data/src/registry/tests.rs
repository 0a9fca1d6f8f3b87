use std::sync::Arc;

use super::*;
use crate::puzzles::sudoku::Geometry;
use crate::render::Style;
use crate::sampler::{SamplerConfig, TrainSampler};
use crate::task::{Augmentation, GenerateOptions, Record, Solutions};

/// One small shape of every family that makes puzzles, with what to make.
fn shapes() -> Vec<(Shape, GenerateOptions, usize)> {
    let usual = GenerateOptions::default();
    let mazes = GenerateOptions {
        kind: Some("unique".to_owned()),
        min_path: Some(6),
        max_path: Some(40),
        ..usual.clone()
    };
    let givens = |few, many| GenerateOptions { givens: Some((few, many)), ..usual.clone() };
    let of = |family, rows, cols| Shape::of_size(family, Size::new(rows, cols)).unwrap();
    let mut shapes = Vec::new();
    for &family in Family::ALL {
        shapes.extend(match family {
            Family::Sudoku => vec![
                (of(family, 4, 4), givens(4, 9), 10),
                (of(family, 6, 6), usual.clone(), 10),
                (of(family, 9, 9), usual.clone(), 10),
                (of(family, 16, 16), givens(140, 160), 2),
            ],
            Family::Maze => {
                vec![(of(family, 7, 7), mazes.clone(), 10), (of(family, 5, 9), mazes.clone(), 10)]
            }
            Family::Arc => vec![],
            Family::Killer => [4, 6, 9].map(|side| (of(family, side, side), usual.clone(), 5)).to_vec(),
            Family::Samurai => vec![(of(family, 21, 21), givens(180, 240), 3)],
            Family::Queens => vec![(of(family, 8, 8), usual.clone(), 10)],
        });
    }
    shapes
}

fn made(shape: Shape, options: &GenerateOptions, count: usize) -> Vec<Record> {
    let split = shape.task().split(options, 3, (count, 0)).unwrap_or_else(|why| panic!("{shape}: {why}"));
    assert_eq!((split.train.len(), split.test.len()), (count, 0), "{shape}");
    split.train
}

#[test]
fn every_family_has_its_name() {
    for &family in Family::ALL {
        assert_eq!(family.name().parse(), Ok(family));
        assert_eq!(serde_json::to_string(&family).unwrap(), format!("\"{family}\""));
        assert!(!family.methods().is_empty());
        // What is tried on all families below is tried on this one.
        assert!(
            family == Family::Arc || shapes().iter().any(|(shape, ..)| shape.family() == family),
            "{family}"
        );
    }
    let error = "chess".parse::<Family>().unwrap_err().to_string();
    assert!(error.contains("sudoku, maze, arc"), "{error}");
}

#[test]
fn sizes_tell_the_shape() {
    let of = |family, rows, cols| Shape::of_size(family, Size::new(rows, cols)).unwrap();
    let others = [
        of(Family::Maze, 10, 10),
        of(Family::Maze, 30, 30),
        of(Family::Arc, 30, 30),
        of(Family::Queens, 24, 24),
    ];
    for shape in shapes().into_iter().map(|(shape, ..)| shape).chain(others) {
        let (seq_len, vocab_size) = shape.tokens();
        if shape.size().is_none_or(|(rows, cols)| rows == cols) {
            assert_eq!(Shape::of(seq_len, vocab_size, None), Some(shape), "{shape}");
            assert_eq!(Shape::of(seq_len, vocab_size, Some(shape.family())), Some(shape), "{shape}");
        }
    }
    assert_eq!(Shape::of(16, 6, Some(Family::Maze)), Some(of(Family::Maze, 4, 4)));
    assert_eq!(Shape::of(81, 11, Some(Family::Maze)), None);
    assert_eq!(Shape::of(7, 3, None), None);
    assert!(Shape::of_size(Family::Queens, Size::new(3, 3)).is_err());
    assert_eq!(of(Family::Samurai, 1, 1).folder(), "samurai");
    assert_eq!(of(Family::Maze, 3, 4).folder(), "maze-3x4");
}

/// What a task encodes it decodes, its copies are right, its label solves it, what it writes it reads, what the sampler draws on
/// the fly is right too, and not always the example itself.
#[test]
fn every_task_keeps_the_contract() {
    for (shape, options, count) in shapes() {
        let task = shape.task();
        let records = made(shape, &options, count);
        assert_eq!(made(shape, &options, count), records, "{shape}: the same for the same seed");
        let data = task.dataset(&records, 3, 1).unwrap();
        let set = &data.sets()[0];
        assert_eq!((data.groups(), data.examples()), (count, count * 4));
        for i in 0..set.examples() {
            let (input, label) = (set.input(i), set.label(i));
            assert_eq!(task.verify(input, label), Ok(()), "{shape}");
            assert!(task.verify(input, input).is_err());
            let line = task.line(input).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(task.parse(&line).as_deref(), Ok(input), "{line}");
            assert_ne!(task.answer_line(input, label).unwrap(), line);
            assert_eq!(Shape::of_text(shape.family(), &line), Ok(shape));
            // What is drawn is read as well, but for cages.
            if shape.family() != Family::Killer {
                let drawn = task.render(input, None, Style::Plain).unwrap();
                assert_eq!(task.parse(&drawn).as_deref(), Ok(input), "{drawn}");
            }
            let drawn = |answer| task.render(input, answer, Style::Plain).unwrap();
            assert_ne!(drawn(Some(label)), drawn(None));
            assert_ne!(task.frame(input, input, label, Style::Plain).unwrap(), drawn(None));
            assert!(!task.measures(input, label).unwrap().is_empty());
        }
        let (input, label) = (set.input(0), set.label(0));
        assert!((1..4).any(|copy| set.input(copy) != input), "{shape}: copies differ");
        assert!(task.picture(input, Some(label), None).unwrap().png(0.3).is_ok());
        for method in task.methods() {
            let worked = task.work(input, method, true).unwrap();
            assert!(worked.work.iter().all(|(_, amount)| *amount < 1_000_000) && !worked.work.is_empty());
            assert!(worked.answer.is_some() || worked.outcome.is_some(), "{shape} by {method}");
        }
        let usual = task.work(input, task.methods()[0], false).unwrap();
        assert_eq!(task.verify(input, &usual.answer.unwrap()), Ok(()), "{shape}");
        assert!(task.work(input, "magic", false).is_err() || task.methods() == ["exact"]);
        if count < 5 {
            continue;
        }
        match task.solutions(input).unwrap() {
            Solutions::Unique(found) => assert_eq!(found, label, "{shape}"),
            other => panic!("{shape}: {other:?}"),
        }
        assert_eq!(task.proper(input).unwrap().as_deref(), Some(label));
        let plain = Arc::new(task.dataset(&records, 0, 0).unwrap());
        let task = task.of_dataset(&plain).unwrap();
        let config =
            SamplerConfig { augmentation: Augmentation::Task(task.clone()), ..SamplerConfig::new(count, 1) };
        let batch = TrainSampler::new(Arc::clone(&plain), config).unwrap().next_batch();
        let bytes = |row: &[i32]| row.iter().map(|&t| u8::try_from(t.max(0)).unwrap()).collect::<Vec<u8>>();
        let drawn: Vec<_> =
            (0..batch.rows).map(|row| (bytes(batch.input(row)), bytes(batch.label(row)))).collect();
        assert!(drawn.iter().all(|(input, label)| task.verify(input, label).is_ok()), "{shape}");
        let known = |input: &Vec<u8>| (0..plain.examples()).any(|i| plain.sets()[0].input(i) == input);
        assert!(drawn.iter().any(|(input, _)| !known(input)), "{shape}");
        // Images have one class, others another.
        let classes: Vec<_> = drawn.iter().map(|(input, _)| task.class(input).unwrap()).collect();
        let of_records: Vec<_> = records.iter().map(|record| task.class(&record.input).unwrap()).collect();
        assert!(shape.family() == Family::Samurai || classes.iter().all(|class| of_records.contains(class)));
        assert_eq!(task.leaks(&records, &records).unwrap().all().len(), count, "{shape}");
        assert!(task.verify(&[1], label).is_err() && task.line(&[1]).is_err() && task.parse("?").is_err());
        assert!(task.dataset(&[], 0, 0).is_err());
    }
}

#[test]
fn symmetries_have_their_published_numbers() {
    let of =
        |family, rows, cols| Shape::of_size(family, Size::new(rows, cols)).unwrap().task().symmetries().0;
    assert_eq!(of(Family::Sudoku, 9, 9), 2.0 * 6f64.powi(8) * 362_880.0);
    assert_eq!(of(Family::Sudoku, 4, 4), 2.0 * 8f64.powi(2) * 24.0);
    assert_eq!(of(Family::Maze, 4, 7), 4.0);
    assert_eq!(of(Family::Arc, 30, 30), 2_903_040.0);
}

#[test]
fn puzzles_are_measured() {
    let measured = |family, text: &str| {
        let shape = Shape::of_text(family, text).unwrap();
        let task = shape.task();
        task.measures(&task.parse(text).unwrap(), &[]).unwrap()
    };
    assert_eq!(measured(Family::Sudoku, "1....3...2....4.")[0], ("givens", 4.0));
    assert!(measured(Family::Maze, "S   #   G").contains(&("moves of a shortest path", 4.0)));
    assert_eq!(measured(Family::Queens, ".Q..............")[0], ("queens given", 1.0));
    let mut canvas = [0u8; crate::puzzles::arc::SEQ_LEN];
    let grid = crate::grid::Grid::new(1, 3, vec![1, 1, 0]).unwrap();
    crate::puzzles::arc::encode(&grid, (2, 3), &mut canvas);
    let arc = Shape::Arc(crate::puzzles::arc::Arc::default()).task();
    assert_eq!(
        arc.measures(&canvas, &[]),
        Ok(vec![("cells of the input", 3.0), ("colours of the input", 2.0)])
    );
    assert!(!arc.has_rules() && arc.verify(&canvas, &canvas).is_err());
    assert!(Shape::of_text(Family::Arc, "").is_err());
}

#[test]
fn searches_tell_puzzles_apart() {
    for (family, text, solutions) in [
        (Family::Sudoku, "1....3...2....4.", Some(1)),
        (Family::Maze, "S   #   G", Some(1)),
        (Family::Maze, "S# #   #G", Some(0)),
        (Family::Killer, "AABBCCDDBBAADDCC;3 7 7 3 3 7 7 3", Some(2)),
        (Family::Queens, ".Q...............", None),
        (Family::Queens, ".Q..............", Some(1)),
        (Family::Queens, "Q...............", Some(0)),
    ] {
        let found = Shape::of_text(family, text).ok().map(|shape| {
            let task = shape.task();
            let input = task.parse(text).unwrap();
            match task.solutions(&input).unwrap() {
                Solutions::None => 0,
                Solutions::Unique(_) => 1,
                Solutions::Several(..) => 2,
                Solutions::Unknown => panic!("{text}"),
            }
        });
        assert_eq!(found, solutions, "{text}");
    }
    assert!(Shape::of_text(Family::Sudoku, "1...").is_err());
    let killer = Shape::of_size(Family::Killer, Size::new(16, 16)).unwrap_err();
    assert!(!killer.is_empty());
    assert_eq!(Shape::Sudoku(Sudoku { geometry: Geometry::S9 }).to_string(), "9x9 Sudoku");
}
