//! Augmentations of a task: a symmetry of the square and a permutation of the colours, with the names the reference gives them.

use rand::Rng;
use thiserror::Error;

use crate::grid::{Dihedral, Grid};
use crate::random;

/// A symmetry of the square together with a permutation of colours that keeps 0 (black). They commute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transform {
    symmetry: Dihedral,
    colours: [u8; 10],
}

/// Who names the image of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// HRM: `ID_t3_0429158376`.
    #[default]
    Hrm,
    /// TRM: `ID|||t3|||0429158376`.
    Trm,
}

impl Names {
    const fn separator(self) -> &'static str {
        match self {
            Self::Hrm => "_",
            Self::Trm => "|||",
        }
    }
}

/// A permutation of colours that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected a permutation of the colours 0 to 9 that keeps 0, got {got:?}")]
pub struct NameError {
    /// The images of 0 to 9.
    pub got: Vec<u8>,
}

impl Default for Transform {
    fn default() -> Self {
        Self::IDENTITY
    }
}

impl Transform {
    /// The transform that changes nothing.
    pub const IDENTITY: Self = Self { symmetry: Dihedral::IDENTITY, colours: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] };

    /// A transform from its parts; `colours` are the images of 0 to 9.
    ///
    /// # Errors
    /// [`NameError`] if they are no permutation, or move 0.
    pub fn new(symmetry: Dihedral, colours: [u8; 10]) -> Result<Self, NameError> {
        let mut sorted = colours;
        sorted.sort_unstable();
        if colours[0] != 0 || sorted != Self::IDENTITY.colours {
            return Err(NameError { got: colours.to_vec() });
        }
        Ok(Self { symmetry, colours })
    }

    /// A random transform, all equally likely.
    pub fn random<R: Rng + ?Sized>(rng: &mut R) -> Self {
        let symmetry = Dihedral::ALL[random::below(rng, 8) as usize];
        let mut colours = Self::IDENTITY.colours;
        random::shuffle(rng, &mut colours[1..]);
        Self { symmetry, colours }
    }

    /// The symmetry of the square.
    pub const fn symmetry(&self) -> Dihedral {
        self.symmetry
    }

    /// The images of the colours 0 to 9.
    pub const fn colours(&self) -> &[u8; 10] {
        &self.colours
    }

    /// The image of a grid of colours; other tokens stay as they are.
    #[must_use]
    pub fn apply(&self, grid: &Grid) -> Grid {
        self.symmetry.apply(&grid.map(|t| self.colours.get(usize::from(t)).copied().unwrap_or(t)))
    }

    /// The transform that undoes this one.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let mut colours = [0; 10];
        for (from, &to) in self.colours.iter().enumerate() {
            colours[usize::from(to)] = from as u8;
        }
        Self { symmetry: self.symmetry.inverse(), colours }
    }

    /// The name of the image of a task.
    pub fn name(&self, id: &str, names: Names) -> String {
        let colours: String = self.colours.iter().map(|&c| char::from(b'0' + c)).collect();
        let separator = names.separator();
        format!("{id}{separator}t{}{separator}{colours}", self.symmetry.id())
    }

    /// The transform in 39 bits.
    pub(super) fn pack(&self) -> u64 {
        self.colours[1..].iter().fold(u64::from(self.symmetry.id()), |bits, &c| bits << 4 | u64::from(c))
    }

    /// The inverse of [`Transform::pack`].
    pub(super) fn unpack(bits: u64) -> Self {
        let mut colours = [0; 10];
        for (index, colour) in colours.iter_mut().enumerate().skip(1) {
            *colour = (bits >> (4 * (9 - index)) & 15) as u8;
        }
        Self { symmetry: Dihedral::ALL[(bits >> 36 & 7) as usize], colours }
    }
}

/// The task and the transform of an augmented name, as HRM (`ID_t3_0429158376`) or TRM (`ID|||t3|||0429158376`) writes it. A
/// name of another form is the task itself, so that a task's own name may hold underscores.
pub fn parse_name(name: &str) -> (&str, Transform) {
    let parse = |names: Names| parse_with(name, names.separator());
    parse(Names::Hrm).or_else(|| parse(Names::Trm)).unwrap_or((name, Transform::IDENTITY))
}

fn parse_with<'a>(name: &'a str, separator: &str) -> Option<(&'a str, Transform)> {
    let (rest, colours) = name.rsplit_once(separator)?;
    let (id, symmetry) = rest.rsplit_once(separator)?;
    let symmetry = symmetry.strip_prefix('t').filter(|s| s.len() == 1)?.parse::<u8>().ok()?;
    let digits = colours.bytes().map(|c| c.is_ascii_digit().then(|| c - b'0')).collect::<Option<Vec<_>>>()?;
    let transform = Transform::new(Dihedral::try_from(symmetry).ok()?, digits.try_into().ok()?).ok()?;
    Some((id, transform))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use crate::testdata::{flat, parity_json};
    use proptest::prelude::*;

    fn grid(value: &serde_json::Value) -> Grid {
        let rows: Vec<Vec<u8>> = value.as_array().unwrap().iter().map(flat).collect();
        Grid::new(rows.len(), rows[0].len(), rows.concat()).unwrap()
    }

    #[test]
    fn names_and_images_are_those_of_the_reference() {
        let Some(vectors) = parity_json() else { return };
        for case in vectors["inverse_aug"].as_array().unwrap() {
            let (id, transform) = parse_name(case["hrm_name"].as_str().unwrap());
            assert_eq!(parse_name(case["trm_name"].as_str().unwrap()), (id, transform));
            assert_eq!(id, "abcd");
            assert_eq!(transform.name(id, Names::Hrm), case["hrm_name"].as_str().unwrap());
            assert_eq!(transform.name(id, Names::Trm), case["trm_name"].as_str().unwrap());
            assert_eq!(transform.apply(&grid(&case["grid"])), grid(&case["augmented"]));
            assert_eq!(transform.inverse().apply(&grid(&case["augmented"])), grid(&case["hrm_inverse"]));
        }
        let drawn = &vectors["arc_augment_np_seed42"];
        let pairs = |value: &serde_json::Value| {
            let pairs = value.as_array().unwrap().iter();
            pairs.map(|p| (grid(&p["input"]), grid(&p["output"]))).collect::<Vec<_>>()
        };
        for (index, id) in drawn["ids"].as_array().unwrap().iter().enumerate() {
            let (id, transform) = parse_name(id.as_str().unwrap());
            assert_eq!(id, "p0");
            for (source, images) in [("train", "train_examples"), ("test", "test_examples")] {
                let images = pairs(&drawn[images][index]);
                for ((input, output), image) in pairs(&drawn["puzzle"][source]).iter().zip(images) {
                    assert_eq!((transform.apply(input), transform.apply(output)), image);
                }
            }
        }
    }

    #[test]
    fn other_names_are_tasks() {
        for name in [
            "AboveBelow1",
            "a_b",
            "a_t8_0123456789",
            "a_t1_1023456789",
            "a_t1_012345678",
            "a_t1_0113456789",
            "t1_0123456789",
            "",
        ] {
            assert_eq!(parse_name(name), (name, Transform::IDENTITY));
        }
        let (id, transform) = parse_name("my_task_t2_0213456789");
        assert_eq!((id, transform.symmetry().id(), transform.colours()[1]), ("my_task", 2, 2));
    }

    proptest! {
        #[test]
        fn transforms_are_inverted(seed in any::<u64>(), name in "[a-z_|0-9]{0,20}") {
            let mut rng = stream(seed, Purpose::Other, 0, 0);
            let transform = Transform::random(&mut rng);
            let grid = Grid::new(2, 5, (0..10).collect()).unwrap();
            prop_assert_eq!(transform.inverse().apply(&transform.apply(&grid)), grid);
            prop_assert_eq!(Transform::unpack(transform.pack()), transform);
            for names in [Names::Hrm, Names::Trm] {
                let full = transform.name(&name, names);
                prop_assert_eq!(parse_name(&full), (name.as_str(), transform));
            }
            let _ = parse_name(&name);
        }
    }
}
