//! Classical ways through a maze, each with its trace and its count of steps: baselines for a model.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use serde::{Deserialize, Serialize};

use super::board::{Direction, Maze};

crate::named! {
    /// A classical solver.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Method {
        /// Breadth-first search; its path is the canonical label. A step takes a cell from the queue.
        Bfs = "bfs",
        /// A* with the Manhattan distance to the goal. A step takes a cell from the heap.
        Astar = "astar",
        /// A walker that keeps its left hand at the wall. A step is a move.
        WallLeft = "wall-left",
        /// A walker that keeps its right hand at the wall. A step is a move.
        WallRight = "wall-right",
        /// Trémaux's rule: a walker that marks the passages it takes, sees only the cell it stands on, and never takes a passage
        /// a third time. A step is a move.
        Tremaux = "tremaux",
        /// Fills dead ends until none is left. A step fills a cell.
        DeadEnd = "dead-end",
    }
}

impl Method {
    /// Solves a maze.
    pub fn solve(self, maze: &Maze) -> Run {
        let (found, trace) = match self {
            Self::Bfs => {
                let (path, visited) = maze.shortest_path_within(|_| true);
                (path.ok_or(Outcome::NoPath), visited)
            }
            Self::Astar => astar(maze),
            Self::WallLeft => follow_wall(maze, Direction::turned_left),
            Self::WallRight => follow_wall(maze, Direction::turned_right),
            Self::Tremaux => tremaux(maze),
            Self::DeadEnd => fill_dead_ends(maze),
        };
        // A walk is listed with the cell it starts from; a search and a filling only with what they did.
        let walks = matches!(self, Self::WallLeft | Self::WallRight | Self::Tremaux);
        let steps = trace.len() - usize::from(walks);
        let (outcome, path) = match found {
            Err(outcome) => (outcome, None),
            Ok(path) => match maze.distance() {
                Some(shortest) if shortest < path.len() - 1 => (Outcome::Longer { shortest }, Some(path)),
                _ => (Outcome::Shortest, Some(path)),
            },
        };
        Run { method: self, outcome, path, steps, trace }
    }
}

/// How a solver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Outcome {
    /// It found a shortest path.
    Shortest,
    /// It found a path, but not a shortest one.
    Longer {
        /// Moves of a shortest path.
        shortest: usize,
    },
    /// It came back to where it had been, looking the same way: it would walk in circles for ever.
    Loop,
    /// It made sure that there is no path.
    NoPath,
    /// It stopped with several ways left.
    Undecided {
        /// Cells left, start and goal included.
        remaining: usize,
    },
}

/// What a solver did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The solver.
    pub method: Method,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The path it found, start and goal included; of a walker, its walk without the detours.
    pub path: Option<Vec<usize>>,
    /// Its work, in the unit of the [`Method`].
    pub steps: usize,
    /// The cells in the order in which they were taken up, walked over or filled; walks begin with the start.
    pub trace: Vec<usize>,
}

type Found = (Result<Vec<usize>, Outcome>, Vec<usize>);

fn astar(maze: &Maze) -> Found {
    let cols = maze.cols();
    let (goal_row, goal_col) = (maze.goal() / cols, maze.goal() % cols);
    let estimate = |cell: usize| (cell / cols).abs_diff(goal_row) + (cell % cols).abs_diff(goal_col);
    let mut moves = vec![usize::MAX; maze.tokens().len()];
    let mut parent = moves.clone();
    let mut done = vec![false; moves.len()];
    let mut visited = Vec::new();
    moves[maze.start()] = 0;
    // Smallest sum first; of equal ones the one nearer to the goal, then the one found first.
    let mut heap =
        BinaryHeap::from([Reverse((estimate(maze.start()), estimate(maze.start()), 0, maze.start()))]);
    let mut found = 0;
    while let Some(Reverse((.., cell))) = heap.pop() {
        if std::mem::replace(&mut done[cell], true) {
            continue;
        }
        visited.push(cell);
        if cell == maze.goal() {
            return (Ok(maze.path_by(&parent)), visited);
        }
        for next in maze.neighbours(cell) {
            if moves[cell] + 1 < moves[next] {
                moves[next] = moves[cell] + 1;
                parent[next] = cell;
                found += 1;
                heap.push(Reverse((moves[next] + estimate(next), estimate(next), found, next)));
            }
        }
    }
    (Err(Outcome::NoPath), visited)
}

/// Walks with one hand at the wall; `hand` turns towards it.
fn follow_wall(maze: &Maze, hand: fn(Direction) -> Direction) -> Found {
    let mut at = maze.start();
    let mut walk = vec![at];
    // Facing so that a wall is at the hand and the way ahead is free, if there is such a direction.
    let open = |d: &Direction| maze.step(at, *d).is_some();
    let beside_wall = |d: &Direction| open(d) && !open(&hand(*d));
    let all = Direction::CANONICAL;
    let Some(mut heading) = all.into_iter().find(beside_wall).or_else(|| all.into_iter().find(open)) else {
        return (Err(Outcome::NoPath), walk);
    };
    let mut seen = HashSet::from([(at, heading)]);
    while at != maze.goal() {
        // Towards the hand, straight on, away from the hand, back.
        let towards = hand(heading);
        let choices = [towards, heading, towards.reversed(), heading.reversed()];
        // The first move goes ahead: turning to a missing wall at once would only circle.
        let first = usize::from(walk.len() == 1);
        let Some((direction, next)) = choices[first..].iter().find_map(|&d| Some((d, maze.step(at, d)?)))
        else {
            return (Err(Outcome::NoPath), walk);
        };
        (heading, at) = (direction, next);
        walk.push(at);
        if !seen.insert((at, heading)) {
            return (Err(Outcome::Loop), walk);
        }
    }
    (Ok(without_detours(&walk)), walk)
}

/// A walk with every return to an earlier cell cut out.
fn without_detours(walk: &[usize]) -> Vec<usize> {
    let mut path: Vec<usize> = Vec::new();
    for &cell in walk {
        match path.iter().position(|&earlier| earlier == cell) {
            Some(index) => path.truncate(index + 1),
            None => path.push(cell),
        }
    }
    path
}

fn tremaux(maze: &Maze) -> Found {
    /// Chalk at the passages of the cell: what a walker sees where it stands.
    type Marks = [u8; 4];
    let index = |direction: Direction| direction as usize;
    let mut marks: Vec<Marks> = vec![[0; 4]; maze.tokens().len()];
    let mut at = maze.start();
    let mut walk = vec![at];
    let mut back: Option<Direction> = None;
    while at != maze.goal() {
        let here = marks[at];
        let ways = Direction::CANONICAL.into_iter().filter(|&d| maze.step(at, d).is_some());
        // Came by a fresh passage to a place known already: turn round.
        let known = back.is_some_and(|b| here.iter().enumerate().any(|(i, &m)| m > 0 && i != index(b)));
        let fresh = back.filter(|&b| here[index(b)] == 1 && (known || at == maze.start()));
        let least = |wanted: u8| ways.clone().find(|&d| here[index(d)] == wanted && Some(d) != back);
        let chosen =
            fresh.or_else(|| least(0)).or_else(|| least(1)).or_else(|| back.filter(|&b| here[index(b)] < 2));
        let Some((direction, next)) = chosen.and_then(|d| Some((d, maze.step(at, d)?))) else {
            return (Err(Outcome::NoPath), walk);
        };
        marks[at][index(direction)] += 1;
        marks[next][index(direction.reversed())] += 1;
        back = Some(direction.reversed());
        at = next;
        walk.push(at);
    }
    // The passages marked once lead from the start to the goal.
    let mut path = vec![maze.start()];
    let mut from: Option<Direction> = None;
    let mut cell = maze.start();
    while cell != maze.goal() {
        let next = Direction::CANONICAL
            .into_iter()
            .filter(|&d| marks[cell][index(d)] == 1 && Some(d) != from)
            .find_map(|d| Some((d, maze.step(cell, d)?)));
        match next {
            Some((direction, next)) if path.len() <= marks.len() => {
                from = Some(direction.reversed());
                cell = next;
                path.push(cell);
            }
            _ => return (Ok(without_detours(&walk)), walk),
        }
    }
    (Ok(path), walk)
}

fn fill_dead_ends(maze: &Maze) -> Found {
    let mut filled: Vec<bool> = (0..maze.tokens().len()).map(|cell| maze.is_wall(cell)).collect();
    let mut order = Vec::new();
    let is_dead_end = |cell: usize, filled: &[bool]| {
        let ways = maze.neighbours(cell).filter(|&next| !filled[next]).count();
        ways <= 1 && !filled[cell] && cell != maze.start() && cell != maze.goal()
    };
    let mut open: Vec<usize> = (0..filled.len()).filter(|&cell| is_dead_end(cell, &filled)).collect();
    while let Some(cell) = open.pop() {
        if !is_dead_end(cell, &filled) {
            continue;
        }
        filled[cell] = true;
        order.push(cell);
        open.extend(maze.neighbours(cell).filter(|&next| is_dead_end(next, &filled)));
    }
    // What is left and joined to the start: a single path, or several.
    let mut joined = vec![maze.start()];
    let mut seen = filled.clone();
    seen[maze.start()] = true;
    let mut next = 0;
    while let Some(&cell) = joined.get(next) {
        next += 1;
        for neighbour in maze.neighbours(cell) {
            if !std::mem::replace(&mut seen[neighbour], true) {
                joined.push(neighbour);
            }
        }
    }
    let found = match maze.shortest_path_within(|cell| !filled[cell]).0 {
        None => Err(Outcome::NoPath),
        Some(path) if path.len() < joined.len() => Err(Outcome::Undecided { remaining: joined.len() }),
        Some(path) => Ok(path),
    };
    (found, order)
}

#[cfg(test)]
mod tests {
    use super::super::generator::Blocks;
    use super::super::{HardMazes, UniqueMazes};
    use super::*;

    fn maze(text: &str) -> Maze {
        text.parse().unwrap()
    }

    /// What every run must satisfy.
    fn check(run: &Run, maze: &Maze) {
        let walks = matches!(run.method, Method::WallLeft | Method::WallRight | Method::Tremaux);
        if walks {
            assert_eq!(run.trace[0], maze.start());
            assert!(run.trace.windows(2).all(|w| maze.neighbours(w[0]).any(|next| next == w[1])), "a walk");
            assert_eq!(run.steps, run.trace.len() - 1);
        } else {
            assert_eq!(run.steps, run.trace.len());
        }
        assert_eq!(run.path.is_some(), matches!(run.outcome, Outcome::Shortest | Outcome::Longer { .. }));
        if let Some(path) = &run.path {
            let marked = maze.mark(path);
            assert_eq!((path.first(), path.last()), (Some(&maze.start()), Some(&maze.goal())));
            assert!(path.windows(2).all(|w| maze.neighbours(w[0]).any(|next| next == w[1])));
            assert_eq!(
                maze.check_optimal(&marked).is_ok(),
                run.outcome == Outcome::Shortest || path.len() - 1 == maze.distance().unwrap()
            );
        }
    }

    #[test]
    fn a_small_maze_by_every_method() {
        // A square room with the goal behind a detour.
        let maze = maze("S  \n # \n  G");
        for method in Method::ALL {
            let run = method.solve(&maze);
            check(&run, &maze);
            assert_eq!(method.name().parse(), Ok(method));
            match method {
                Method::DeadEnd => assert_eq!(run.outcome, Outcome::Undecided { remaining: 8 }),
                _ => assert_eq!(run.outcome, Outcome::Shortest, "{method}"),
            }
        }
        assert_eq!(Method::Bfs.solve(&maze).path, maze.shortest_path());
        assert!("dfs".parse::<Method>().unwrap_err().to_string().contains("got \"dfs\""));
    }

    #[test]
    fn walls_that_lead_nowhere() {
        // The goal stands on an island: the outer wall leads round it for ever.
        let island = maze("S    \n     \n  G  \n     \n     ");
        for method in [Method::WallLeft, Method::WallRight] {
            let run = method.solve(&island);
            check(&run, &island);
            assert_eq!(run.outcome, Outcome::Loop, "{method}");
        }
        assert_eq!(Method::Astar.solve(&island).outcome, Outcome::Shortest);
        // One of the two hands takes the long way.
        let ring = maze("#     \nS ###G\n# ### \n#     ");
        let outcomes = [Method::WallLeft, Method::WallRight].map(|m| m.solve(&ring).outcome);
        assert_eq!(outcomes, [Outcome::Shortest, Outcome::Longer { shortest: 7 }]);
        let shut = maze("S#G\n # \n # ");
        for method in Method::ALL {
            let run = method.solve(&shut);
            check(&run, &shut);
            let expected = match method {
                Method::WallLeft | Method::WallRight => Outcome::Loop,
                _ => Outcome::NoPath,
            };
            assert_eq!(run.outcome, expected, "{method}");
        }
        assert_eq!(Method::WallLeft.solve(&maze("S##G")).outcome, Outcome::NoPath);
    }

    #[test]
    fn perfect_mazes_are_solved_by_all() {
        for maze in UniqueMazes::new(21, 21, 20, 200, 1).unwrap().block(0) {
            for method in Method::ALL {
                let run = method.solve(&maze);
                check(&run, &maze);
                assert_eq!(run.outcome, Outcome::Shortest, "{method}");
                assert_eq!(run.path, maze.shortest_path());
            }
        }
    }

    #[test]
    fn searches_on_open_mazes() {
        let mazes = HardMazes::new(16, 16, 30, 1).unwrap().block(0);
        assert!(mazes.len() > 20);
        let (mut bfs, mut astar, mut loops) = (0, 0, 0);
        for maze in &mazes {
            let runs = Method::ALL.map(|method| method.solve(maze));
            runs.iter().for_each(|run| check(run, maze));
            bfs += runs[0].steps;
            astar += runs[1].steps;
            loops += usize::from(runs[2].outcome == Outcome::Loop);
            assert_eq!((runs[0].outcome, runs[1].outcome), (Outcome::Shortest, Outcome::Shortest));
            assert!(runs[4].path.is_some(), "Trémaux always arrives");
            // No passage is taken a third time.
            assert!(runs[4].steps <= 2 * maze.tokens().len() * 2);
        }
        assert!(astar <= bfs, "{astar} cells against {bfs}");
        assert!(loops < mazes.len());
    }
}
