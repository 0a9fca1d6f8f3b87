//! Answers without a model: what any result is to be compared with, and what stands in a submission where nothing better is
//! known.

use super::submission::ATTEMPTS;
use super::task::{ArcTask, Pair};
use crate::grid::{Dihedral, Grid};

/// A way to answer without a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// The input itself.
    Identity,
    /// The symmetry of the square with a map of colours that turns most demonstrations' inputs into their outputs; the second
    /// attempt is the next best one.
    Transform,
}

impl Baseline {
    /// The attempts at each test of a task.
    pub fn answers(self, task: &ArcTask) -> Vec<[Grid; ATTEMPTS]> {
        let transforms = match self {
            Self::Identity => Vec::new(),
            Self::Transform => transforms(&task.train),
        };
        let answer = |pair: &Pair| {
            let mut found: Vec<Grid> = Vec::new();
            for (symmetry, map) in &transforms {
                let grid = apply(&pair.input, *symmetry, map);
                if !found.contains(&grid) {
                    found.push(grid);
                }
            }
            let mut next = found.into_iter();
            let first = next.next().unwrap_or_else(|| pair.input.clone());
            let second = next.next().unwrap_or_else(|| first.clone());
            [first, second]
        };
        task.test.iter().map(answer).collect()
    }
}

/// Where each colour goes, as far as the demonstrations say.
type Map = [Option<u8>; 10];

fn apply(grid: &Grid, symmetry: Dihedral, map: &Map) -> Grid {
    let colour = |c: u8| map.get(usize::from(c)).copied().flatten().unwrap_or(c);
    symmetry.apply(&grid.map(colour))
}

/// The symmetries that fit at least one demonstration, with the map of colours of those that they fit, best first.
fn transforms(demonstrations: &[Pair]) -> Vec<(Dihedral, Map)> {
    let fit = |symmetry: Dihedral| {
        let (mut map, mut fits) = (Map::default(), 0usize);
        for pair in demonstrations {
            let grown =
                pair.output.as_ref().and_then(|output| extend(&map, &symmetry.apply(&pair.input), output));
            if let Some(grown) = grown {
                map = grown;
                fits += 1;
            }
        }
        (fits, symmetry, map)
    };
    let mut found: Vec<_> = Dihedral::ALL.into_iter().map(fit).filter(|(fits, ..)| *fits > 0).collect();
    // Stable: of equally good ones the identity comes first.
    found.sort_by_key(|(fits, ..)| std::cmp::Reverse(*fits));
    found.into_iter().map(|(_, symmetry, map)| (symmetry, map)).collect()
}

/// The map with what it takes to turn one grid into the other; `None` if no map does.
fn extend(map: &Map, from: &Grid, to: &Grid) -> Option<Map> {
    if (from.rows(), from.cols()) != (to.rows(), to.cols()) {
        return None;
    }
    let mut map = *map;
    for (&from, &to) in from.cells().iter().zip(to.cells()) {
        let slot = map.get_mut(usize::from(from))?;
        if *slot.get_or_insert(to) != to {
            return None;
        }
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(rows: &[&[u8]]) -> Grid {
        Grid::new(rows.len(), rows[0].len(), rows.concat()).unwrap()
    }

    fn task(pairs: &[(Grid, Grid)], test: Grid) -> ArcTask {
        let train = pairs.iter().map(|(a, b)| Pair { input: a.clone(), output: Some(b.clone()) }).collect();
        ArcTask { id: "t".to_owned(), train, test: vec![Pair { input: test, output: None }] }
    }

    #[test]
    fn the_transform_of_most_demonstrations_answers() {
        let (a, b) = (grid(&[&[1, 2], &[0, 0]]), grid(&[&[1, 0], &[3, 3]]));
        // Mirrored, 1 becomes 5; the third demonstration fits nothing.
        let mirrored = |g: &Grid| {
            let rows: Vec<Vec<u8>> = g.iter_rows().map(|row| row.iter().rev().copied().collect()).collect();
            grid(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>()).map(|c| if c == 1 { 5 } else { c })
        };
        let odd = (grid(&[&[1]]), grid(&[&[1, 1, 1]]));
        let test = grid(&[&[1, 7, 0]]);
        let task = task(&[(a.clone(), mirrored(&a)), odd, (b.clone(), mirrored(&b))], test.clone());
        assert_eq!(Baseline::Transform.answers(&task)[0][0], grid(&[&[0, 7, 5]]));
        assert_eq!(Baseline::Identity.answers(&task), [[test.clone(), test]]);
    }

    #[test]
    fn without_a_fit_the_input_stands() {
        let test = grid(&[&[4, 4]]);
        let task =
            task(&[(grid(&[&[1, 1]]), grid(&[&[1, 2]])), (grid(&[&[1]]), grid(&[&[0], &[0]]))], test.clone());
        assert_eq!(Baseline::Transform.answers(&task), [[test.clone(), test]]);
    }
}
