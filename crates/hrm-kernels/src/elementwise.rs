//! Sums of tensors, on several threads.

use crate::scratch::{Shared, for_each_range};

/// `out = a + b`.
///
/// # Shapes
/// all of one length
pub fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(
        a.len() == b.len() && a.len() == out.len(),
        "add: a has {} floats, b {}, out {}",
        a.len(),
        b.len(),
        out.len()
    );
    let out = Shared::new(out);
    for_each_range(a.len(), 1, |range| {
        // SAFETY: ranges are disjoint and inside `out`.
        let out = unsafe { std::slice::from_raw_parts_mut(out.get().add(range.start), range.len()) };
        out.iter_mut().zip(&a[range.clone()]).zip(&b[range]).for_each(|((out, a), b)| *out = a + b);
    });
}

/// `a += b`.
///
/// # Shapes
/// both of one length
pub fn add_assign(a: &mut [f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "add_assign: a has {} floats, b {}", a.len(), b.len());
    let len = a.len();
    let a = Shared::new(a);
    for_each_range(len, 1, |range| {
        // SAFETY: ranges are disjoint and inside `a`.
        let a = unsafe { std::slice::from_raw_parts_mut(a.get().add(range.start), range.len()) };
        a.iter_mut().zip(&b[range]).for_each(|(a, b)| *a += b);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_pools, random};

    #[test]
    fn adds() {
        let (a, b) = (random(100_003, 1), random(100_003, 2));
        let sum = in_pools(|| {
            let mut out = vec![0.0; a.len()];
            add(&a, &b, &mut out);
            let mut a = a.clone();
            add_assign(&mut a, &b);
            assert_eq!(a, out);
            out
        });
        assert!((0..a.len()).all(|i| sum[i] == a[i] + b[i]));
    }
}
