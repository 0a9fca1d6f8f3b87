//! Draws one of everything into a folder, as SVG and PNG: `cargo run -p hrm-data --example pictures -- FOLDER [ARC.json]`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use hrm_data::arc::{self, ArcTask};
use hrm_data::maze::{GenerateOptions, Kind, generate_split};
use hrm_data::render::{self, Picture};
use hrm_data::sudoku::{Board, Generator, Geometry};
use hrm_data::task::{Task, queens::Queens};
use hrm_data::variants::{killer, samurai};

fn save(folder: &Path, name: &str, picture: &Picture) -> Result<(), Box<dyn Error>> {
    fs::write(folder.join(name).with_extension("svg"), picture.svg())?;
    fs::write(folder.join(name).with_extension("png"), picture.png(2.0)?)?;
    Ok(())
}

/// The solution with every fifth cell emptied and a digit changed, if it is not a given.
fn attempt(puzzle: &Board, solution: &Board) -> Result<Board, Box<dyn Error>> {
    let side = puzzle.side();
    let mut board = solution.clone();
    for cell in (0..side * side).filter(|&cell| puzzle.cells()[cell] == 0) {
        match cell % 10 {
            0 | 5 => board.set(cell / side, cell % side, 0)?,
            7 => board.set(cell / side, cell % side, solution.cells()[cell] % side as u8 + 1)?,
            _ => {}
        }
    }
    Ok(board)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("expected a folder")?;
    fs::create_dir_all(&folder)?;
    for geometry in [Geometry::S4, Geometry::S6, Geometry::S9, Geometry::S16] {
        let clues = geometry.cells() / 2;
        let made = Generator::new(geometry, 1).with_clues(clues, clues).generate(0);
        let answer = attempt(&made.puzzle, &made.solution)?;
        let name = format!("sudoku-{}", geometry.side());
        save(&folder, &name, &render::sudoku_picture(&made.puzzle, Some(&answer), None))?;
        let judged = render::sudoku_picture(&made.puzzle, Some(&answer), Some(&made.solution));
        save(&folder, &format!("{name}-judged"), &judged)?;
    }
    let kind = Kind::Unique { rows: 21, cols: 21, shortest: 40, longest: 120 };
    let split = generate_split(&GenerateOptions { kind, seed: 1, train: 1, test: 0 })?;
    if let Some(record) = split.train.first() {
        let mut answer = record.maze.label().unwrap_or_default();
        save(&folder, "maze", &render::maze_picture(&record.maze, &answer))?;
        answer.iter_mut().step_by(37).for_each(|token| *token = 5);
        save(&folder, "maze-faulty", &render::maze_picture(&record.maze, &answer))?;
    }
    let made = killer::Generator::new(Geometry::S9, 1)?.generate(0);
    save(&folder, "killer", &render::killer_picture(&made.puzzle, None, None))?;
    let answer = attempt(&Board::empty(Geometry::S9), &made.solution)?;
    save(&folder, "killer-answer", &render::killer_picture(&made.puzzle, Some(&answer), None))?;
    fs::write(folder.join("killer.txt"), made.puzzle.to_string())?;
    let made = samurai::Generator::new(1).with_clues(160, 160).generate(0);
    save(&folder, "samurai", &render::samurai_picture(&made.puzzle, None, None))?;
    save(&folder, "samurai-solved", &render::samurai_picture(&made.puzzle, Some(&made.solution), None))?;
    let queens = Queens::new(8)?;
    let (puzzle, solution) = queens.generate(1, 0);
    save(&folder, "queens", &queens.picture(&puzzle, Some(&queens.encode(&solution)), None))?;
    let letters = "0123456789\nABCDEFGHIJKLM\nNOPQRSTUVWXYZ\n. , : ! ? - + = * < > / | ( ) _ ' \" #";
    save(&folder, "letters", &Picture::of_text(letters))?;
    if let Some(file) = arguments.next() {
        let tasks = arc::load(&file)?;
        for task in tasks.iter().take(2) {
            save(&folder, &format!("arc-{}", task.id), &render::arc_task_picture(task))?;
        }
        let withheld = |task: &ArcTask| {
            let mut task = task.clone();
            task.test.iter_mut().for_each(|pair| pair.output = None);
            task
        };
        if let Some(task) = tasks.get(2).map(withheld) {
            save(&folder, &format!("arc-{}-withheld", task.id), &render::arc_task_picture(&task))?;
            if let Some((pair, other)) = task.train.first().zip(task.train.last()) {
                let picture = render::arc_pair_picture(pair, other.output.as_ref());
                save(&folder, "arc-prediction", &picture)?;
            }
        }
    }
    Ok(())
}
