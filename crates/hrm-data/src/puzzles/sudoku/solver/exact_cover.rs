//! Exact cover by dancing links (Knuth, "Dancing Links", 2000): choose rows so that every primary column is covered once and
//! every secondary column at most once.

use std::ops::ControlFlow;

/// What happens during a search. Every method may end it.
pub(super) trait Observer {
    /// A search state is entered: the root, and one for each row chosen.
    fn enter(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// The primary column with the fewest rows, `options` of them, is to be covered next; none is a dead end.
    fn branch(&mut self, _column: usize, _options: usize) {}

    /// A row of the column is chosen.
    fn choose(&mut self, _row: usize, _column: usize, _options: usize) {}

    /// The row chosen last is given up again.
    fn give_up(&mut self, _row: usize, _column: usize, _options: usize) {}

    /// Rows that cover everything, in the order in which they were chosen.
    fn solution(&mut self, rows: &[usize]) -> ControlFlow<()>;
}

/// A problem, with its entries in doubly linked lists.
#[derive(Clone, Debug)]
pub(super) struct ExactCover {
    /// Neighbours in the list of open primary columns; the last element is its head.
    left: Vec<u32>,
    right: Vec<u32>,
    /// Neighbours in a column. The first nodes are the heads of the columns.
    up: Vec<u32>,
    down: Vec<u32>,
    /// The column of each node.
    column: Vec<u32>,
    /// The row of each node; no row for heads.
    row: Vec<u32>,
    /// Rows left in each column.
    size: Vec<u32>,
    /// Where each row's nodes begin; they are consecutive.
    starts: Vec<u32>,
}

impl ExactCover {
    /// A problem with `primary` columns that must be covered (0 to `primary - 1`), `secondary` ones that may be covered once
    /// (the numbers that follow), and rows as the columns that each covers, all of them different.
    pub(super) fn new(primary: usize, secondary: usize, rows: &[Vec<usize>]) -> Self {
        let columns = primary + secondary;
        let heads = 0..columns as u32;
        let mut this = Self {
            left: Vec::with_capacity(primary + 1),
            right: Vec::with_capacity(primary + 1),
            up: heads.clone().collect(),
            down: heads.clone().collect(),
            column: heads.collect(),
            row: vec![u32::MAX; columns],
            size: vec![0; columns],
            starts: vec![columns as u32],
        };
        let ring = primary as u32 + 1;
        this.left.extend((0..ring).map(|i| (i + ring - 1) % ring));
        this.right.extend((0..ring).map(|i| (i + 1) % ring));
        for (row, entries) in rows.iter().enumerate() {
            for &column in entries {
                let node = this.column.len() as u32;
                let last = this.up[column];
                this.up.push(last);
                this.down.push(column as u32);
                this.down[last as usize] = node;
                this.up[column] = node;
                this.column.push(column as u32);
                this.row.push(row as u32);
                this.size[column] += 1;
            }
            this.starts.push(this.column.len() as u32);
        }
        this
    }

    /// Searches all solutions depth first, until the observer ends it. Returns whether everything was searched.
    pub(super) fn search(&mut self, observer: &mut impl Observer) -> bool {
        let mut chosen = Vec::new();
        self.descend(&mut chosen, observer).is_continue()
    }

    fn descend(&mut self, chosen: &mut Vec<usize>, observer: &mut impl Observer) -> ControlFlow<()> {
        observer.enter()?;
        let Some(column) = self.smallest() else { return observer.solution(chosen) };
        let options = self.size[column] as usize;
        observer.branch(column, options);
        if options == 0 {
            return ControlFlow::Continue(());
        }
        self.cover(column);
        let mut node = self.down[column] as usize;
        let mut flow = ControlFlow::Continue(());
        while node != column && flow.is_continue() {
            let row = self.row[node] as usize;
            observer.choose(row, column, options);
            chosen.push(row);
            let entries = self.starts[row] as usize..self.starts[row + 1] as usize;
            for other in entries.clone().filter(|&other| other != node) {
                self.cover(self.column[other] as usize);
            }
            flow = self.descend(chosen, observer);
            for other in entries.rev().filter(|&other| other != node) {
                self.uncover(self.column[other] as usize);
            }
            chosen.pop();
            if flow.is_continue() {
                observer.give_up(row, column, options);
            }
            node = self.down[node] as usize;
        }
        self.uncover(column);
        flow
    }

    /// The open primary column with the fewest rows, the first of several; `None` if all are covered.
    fn smallest(&self) -> Option<usize> {
        let head = self.left.len() - 1;
        let mut best = None;
        let mut fewest = u32::MAX;
        let mut column = self.right[head] as usize;
        while column != head {
            if self.size[column] < fewest {
                fewest = self.size[column];
                best = Some(column);
            }
            column = self.right[column] as usize;
        }
        best
    }

    /// Takes a column out of the list of columns, and its rows out of all other columns.
    fn cover(&mut self, column: usize) {
        if column + 1 < self.left.len() {
            let (left, right) = (self.left[column], self.right[column]);
            self.right[left as usize] = right;
            self.left[right as usize] = left;
        }
        let mut node = self.down[column] as usize;
        while node != column {
            let row = self.row[node] as usize;
            for other in self.starts[row] as usize..self.starts[row + 1] as usize {
                if other != node {
                    let (up, down) = (self.up[other], self.down[other]);
                    self.down[up as usize] = down;
                    self.up[down as usize] = up;
                    self.size[self.column[other] as usize] -= 1;
                }
            }
            node = self.down[node] as usize;
        }
    }

    /// Undoes [`Self::cover`]: in exactly the opposite order, which is what makes the links dance.
    fn uncover(&mut self, column: usize) {
        let mut node = self.up[column] as usize;
        while node != column {
            let row = self.row[node] as usize;
            for other in (self.starts[row] as usize..self.starts[row + 1] as usize).rev() {
                if other != node {
                    let (up, down) = (self.up[other], self.down[other]);
                    self.down[up as usize] = other as u32;
                    self.up[down as usize] = other as u32;
                    self.size[self.column[other] as usize] += 1;
                }
            }
            node = self.up[node] as usize;
        }
        if column + 1 < self.left.len() {
            let (left, right) = (self.left[column], self.right[column]);
            self.right[left as usize] = column as u32;
            self.left[right as usize] = column as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Collect(Vec<Vec<usize>>, usize);

    impl Observer for Collect {
        fn solution(&mut self, rows: &[usize]) -> ControlFlow<()> {
            let mut rows = rows.to_vec();
            rows.sort_unstable();
            self.0.push(rows);
            if self.0.len() == self.1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    fn solutions(primary: usize, secondary: usize, rows: &[Vec<usize>]) -> Vec<Vec<usize>> {
        let mut found = Collect(Vec::new(), usize::MAX);
        assert!(ExactCover::new(primary, secondary, rows).search(&mut found));
        found.0.sort();
        found.0
    }

    #[test]
    fn the_example_of_the_paper() {
        let rows = [vec![2, 4, 5], vec![0, 3, 6], vec![1, 2, 5], vec![0, 3], vec![1, 6], vec![3, 4, 6]];
        assert_eq!(solutions(7, 0, &rows), [vec![0, 3, 4]]);
    }

    #[test]
    fn queens_with_diagonals_as_secondary_columns() {
        for (n, count) in [(4, 2), (5, 10), (6, 4), (7, 40), (8, 92)] {
            let rows: Vec<Vec<usize>> = (0..n * n)
                .map(|i| (i / n, i % n))
                .map(|(r, c)| vec![r, n + c, 2 * n + r + c, 4 * n - 1 + r + n - 1 - c])
                .collect();
            assert_eq!(solutions(2 * n, 4 * n - 2, &rows).len(), count, "{n} queens");
        }
    }

    #[test]
    fn a_search_can_be_ended_and_repeated() {
        let rows = [vec![0], vec![0], vec![0], vec![1], vec![1]];
        let mut problem = ExactCover::new(2, 0, &rows);
        let mut some = Collect(Vec::new(), 2);
        assert!(!problem.search(&mut some));
        assert_eq!(some.0.len(), 2);
        let mut all = Collect(Vec::new(), usize::MAX);
        assert!(problem.search(&mut all), "the links are as before");
        assert_eq!(all.0.len(), 6);
    }

    proptest! {
        /// Against trying every subset of the rows.
        #[test]
        fn agrees_with_all_subsets(
            rows in prop::collection::vec(prop::collection::btree_set(0usize..6, 1..4), 0..9),
            primary in 1usize..=6,
        ) {
            let rows: Vec<Vec<usize>> = rows.into_iter().map(|r| r.into_iter().collect()).collect();
            let mut expected = Vec::new();
            for subset in 0u32..1 << rows.len() {
                let chosen: Vec<usize> = (0..rows.len()).filter(|r| subset >> r & 1 == 1).collect();
                let mut covered = [0; 6];
                for &column in chosen.iter().flat_map(|&r| &rows[r]) {
                    covered[column] += 1;
                }
                // A row of secondary columns only is never needed, so never chosen.
                let needed = chosen.iter().all(|&r| rows[r].iter().any(|&c| c < primary));
                let exact = covered[..primary].iter().all(|&n| n == 1);
                if needed && exact && covered[primary..].iter().all(|&n| n <= 1) {
                    expected.push(chosen);
                }
            }
            expected.sort();
            prop_assert_eq!(solutions(primary, 6 - primary, &rows), expected);
        }
    }
}
