//! What inference may know of a task beyond its tokens: symmetries, rules, a classical solver.

use std::fmt;

use hrm_data::{
    groups::{Groups, Kind},
    random::{Purpose, stream},
    registry::Shape,
    task::{AnyTask, Beliefs, Exact, TokenSymmetry},
};
use hrm_model::{GroupKind, Structure};

use crate::Query;

/// Draws in a row that give nothing new, after which a symmetry group counts as used up.
const PATIENCE: usize = 200;

/// A task as inference sees it. Queries and answers are rows of tokens. By default a task has no symmetries and no rules: tokens
/// in, tokens out.
pub trait Puzzles {
    /// A short name, for messages.
    fn name(&self) -> &str;

    /// At most `count` different ways to look at a puzzle, the puzzle itself (number 0) included: fewer if the task has not so
    /// many symmetries.
    fn views(&self, count: usize) -> usize {
        let _ = count;
        1
    }

    /// The puzzle under view `number`, which is below what [`views`](Self::views) gave.
    fn image(&self, query: &Query, number: usize) -> Query {
        let _ = number;
        query.clone()
    }

    /// An answer to that image as an answer to the puzzle.
    fn back(&self, query: &Query, number: usize, answer: Vec<u8>) -> Vec<u8> {
        let _ = (query, number);
        answer
    }

    /// Beliefs about that image as beliefs about the puzzle.
    fn beliefs_back(&self, query: &Query, number: usize, beliefs: Beliefs) -> Beliefs {
        let _ = (query, number);
        beliefs
    }

    /// The token of a cell whose value is left open, where each greater token is a value that might as well be given; `None` where no
    /// part of an answer could be.
    fn blank(&self) -> Option<u8> {
        None
    }

    /// Whether there are rules to check answers by.
    fn has_rules(&self) -> bool {
        false
    }

    /// Whether an answer keeps the rules of the puzzle; `None` if it has no rules, or is no puzzle of the task.
    fn check(&self, query: &Query, answer: &[u8]) -> Option<bool> {
        let _ = (query, answer);
        None
    }

    /// Whether there is a classical solver.
    fn has_search(&self) -> bool {
        false
    }

    /// An answer by exact search within `max_nodes` search states, guided by what a model believes.
    fn search(&self, query: &Query, beliefs: Option<&Beliefs>, max_nodes: u64) -> Option<Exact> {
        let _ = (query, beliefs, max_nodes);
        None
    }
}

/// A task without known symmetries or rules.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unknown;

impl Puzzles for Unknown {
    fn name(&self) -> &str {
        "puzzles of an unknown kind"
    }
}

/// What a puzzle tells a model that mixes by groups; `None` if its task knows no groups.
pub fn structure(shape: Shape) -> Option<Structure> {
    let groups = shape.task().groups()?;
    let kind = |Kind { name, groups, own }: Kind| GroupKind { name: name.to_owned(), groups, own };
    let Groups { first_value, after_values, distinct_values, kinds } = groups;
    let groups = kinds.into_iter().map(kind).collect();
    Some(Structure { first_value, after_values, distinct_values, groups })
}

/// Any [`Task`](hrm_data::task::Task) of `hrm-data`: its random symmetries are the views, the same for every puzzle.
#[derive(Debug, Clone)]
pub struct TaskPuzzles {
    task: AnyTask,
    /// Different symmetries with their inverses, the identity first.
    views: Vec<(TokenSymmetry, TokenSymmetry)>,
}

impl TaskPuzzles {
    /// A task with at most `views` views, a function of the seed.
    pub fn new(task: AnyTask, views: usize, seed: u64) -> Self {
        let identity = TokenSymmetry::identity(task.seq_len());
        let mut found = vec![(identity.clone(), identity)];
        let mut misses = 0;
        let mut draw = 0;
        while found.len() < views && misses < PATIENCE {
            draw += 1;
            let symmetry = task.symmetry(&mut stream(seed, Purpose::View, draw, 0));
            if found.iter().any(|(known, _)| *known == symmetry) {
                misses += 1;
                continue;
            }
            misses = 0;
            let inverse = symmetry.inverse();
            found.push((symmetry, inverse));
        }
        Self { task, views: found }
    }
}

impl Puzzles for TaskPuzzles {
    fn name(&self) -> &str {
        self.task.name()
    }

    fn views(&self, count: usize) -> usize {
        count.min(self.views.len())
    }

    fn image(&self, query: &Query, number: usize) -> Query {
        Query { tokens: self.views[number].0.apply(&query.tokens), identifier: query.identifier }
    }

    fn back(&self, _: &Query, number: usize, answer: Vec<u8>) -> Vec<u8> {
        self.views[number].1.apply(&answer)
    }

    fn beliefs_back(&self, _: &Query, number: usize, beliefs: Beliefs) -> Beliefs {
        self.views[number].1.apply_beliefs(&beliefs)
    }

    fn blank(&self) -> Option<u8> {
        self.task.takes_hints().then_some(1)
    }

    fn has_rules(&self) -> bool {
        self.task.has_rules()
    }

    fn check(&self, query: &Query, answer: &[u8]) -> Option<bool> {
        Some(self.task.verify(&query.tokens, answer).is_ok())
    }

    fn has_search(&self) -> bool {
        self.task.has_rules()
    }

    fn search(&self, query: &Query, beliefs: Option<&Beliefs>, max_nodes: u64) -> Option<Exact> {
        self.task.search(&query.tokens, beliefs, max_nodes).ok()?
    }
}

/// Puzzles of a shape; without one, tokens only.
pub fn of_shape(shape: Option<Shape>, views: usize, seed: u64) -> Box<dyn Puzzles> {
    match shape.map(Shape::task) {
        Some(task) => Box::new(TaskPuzzles::new(task, views, seed)),
        None => Box::new(Unknown),
    }
}

impl fmt::Debug for dyn Puzzles + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
