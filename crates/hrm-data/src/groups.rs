//! Which cells of a puzzle belong together: what a model that mixes by groups is told of it.

/// The structure of a puzzle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// The first token that is a value of a cell: those before it (padding, a blank) say that none is given.
    pub first_value: usize,
    /// Tokens after the values that are none either: no value can be in such a cell.
    pub after_values: usize,
    /// So many of the values, the first ones, are told apart; the others could change places.
    pub distinct_values: usize,
    /// The kinds of groups.
    pub kinds: Vec<Kind>,
}

/// One kind of groups of cells, the rows of a board for example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name. Weights that were trained on one puzzle fit another one whose kinds have the same names.
    pub name: &'static str,
    /// The cells of each group.
    pub groups: Vec<Vec<u32>>,
    /// Whether group `i` is that of cell `i` alone, as neighbourhoods are; else a cell belongs to every group that it lies in.
    pub own: bool,
}

/// The cells of a board of `rows` times `cols` by a number of each.
pub fn by_number((rows, cols): (usize, usize), number: impl Fn(usize, usize) -> usize) -> Vec<Vec<u32>> {
    let mut groups = std::collections::BTreeMap::<usize, Vec<u32>>::new();
    for cell in 0..rows * cols {
        groups.entry(number(cell / cols, cell % cols)).or_default().push(cell as u32);
    }
    groups.into_values().collect()
}
