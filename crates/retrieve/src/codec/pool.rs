//! Tokens of a passage that say nearly the same share a code.
//!
//! Token pooling (Clavié, Chaffin and Adams, "Reducing the Footprint of Multi-Vector Retrieval with
//! Minimal Performance Impact via Token Pooling", 2024): the states are clustered and a cluster is
//! stored as one. Unlike there every token keeps its place, as the number of its code, so that
//! phrases, windows and sentences are still seen.

use kodama::{Method, linkage};
use ndarray::{Array2, ArrayView1, Axis};

use crate::linalg::{norm, normalise};

/// The code of each row of `[seq, d]`, numbered as they come first, so that on average `per_code` rows
/// share one and there are at most `most`: average linkage of their cosines, cut where enough clusters are left.
pub(super) fn slots(rows: &Array2<f32>, per_code: f32, most: usize) -> Vec<u16> {
    let seq = rows.nrows();
    let codes = ((seq as f32 / per_code.max(1.0)).ceil() as usize).clamp(1, most);
    let mut parents: Vec<usize> = (0..2 * seq).collect();
    if seq > codes {
        let steps = linkage(&mut distances(rows), seq, Method::Average);
        // Steps come by growing distance; the cluster that one makes is the next number after the rows.
        for (step, made) in steps.steps().iter().zip(seq..).take(seq - codes) {
            parents[step.cluster1] = made;
            parents[step.cluster2] = made;
        }
    }
    let root = |row: usize| {
        let mut at = row;
        while parents[at] != at {
            at = parents[at];
        }
        at
    };
    let mut numbers = vec![None; 2 * seq];
    let mut next = 0..=u16::MAX;
    let number = |row| *numbers[root(row)].get_or_insert_with(|| next.next().unwrap_or(u16::MAX));
    (0..seq).map(number).collect()
}

/// `1 - cosine` of every pair of rows, in the order of [`kodama`].
fn distances(rows: &Array2<f32>) -> Vec<f32> {
    let mut unit = rows.clone();
    for mut row in unit.rows_mut() {
        normalise(row.as_slice_mut().unwrap_or_default());
    }
    let cosines = unit.dot(&unit.t());
    let after = |(i, row): (usize, ArrayView1<'_, f32>)| -> Vec<f32> {
        let far = |cosine: &f32| {
            if cosine.is_finite() {
                1.0 - cosine
            } else {
                2.0
            }
        };
        row.iter().skip(i + 1).map(far).collect()
    };
    cosines
        .rows()
        .into_iter()
        .enumerate()
        .flat_map(after)
        .collect()
}

/// One row for those of each code, `[codes, d]`: in the direction of their mean, as long as they are on
/// average. The mean itself is shorter, and a query looks for its best match among them, not for their mean.
pub(super) fn merged(rows: &Array2<f32>, slots: &[u16]) -> Array2<f32> {
    let codes = slots.iter().max().map_or(0, |last| usize::from(*last) + 1);
    let mut merged = Array2::<f32>::zeros((codes, rows.ncols()));
    let mut lengths = vec![(0.0f32, 0.0f32); codes];
    for (row, slot) in rows.rows().into_iter().zip(slots) {
        let slot = usize::from(*slot);
        merged.row_mut(slot).scaled_add(1.0, &row);
        lengths[slot].0 += norm(row.as_slice().unwrap_or_default());
        lengths[slot].1 += 1.0;
    }
    for (mut sum, (length, count)) in merged.axis_iter_mut(Axis(0)).zip(lengths) {
        let own = norm(sum.as_slice().unwrap_or_default());
        sum *= length / count / (own + f32::MIN_POSITIVE);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_resemble_each_other_share_a_code() {
        // Three directions, in turn, with a little of the next dimension.
        let rows = Array2::from_shape_fn((9, 4), |(j, k)| match k {
            3 => j as f32 * 0.01,
            k => f32::from(u8::from(j % 3 == k)),
        });
        assert_eq!(slots(&rows, 3.0, 256), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        let merged = merged(&rows, &slots(&rows, 3.0, 256));
        assert_eq!(merged.dim(), (3, 4));
        // (0, 1, 0, .04), and as long as the three: the root of 1.0001, 1.0016 and 1.0049 on average.
        assert!((merged[[1, 3]] / merged[[1, 1]] - 0.04).abs() < 1e-6);
        assert!((norm(&merged.row(1).to_vec()) - 1.0011).abs() < 1e-4);
        assert_eq!(slots(&rows, 1.0, 256), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn odd_rows_have_slots_and_never_too_many() {
        assert_eq!(slots(&Array2::zeros((0, 4)), 1.5, 256), [0u16; 0]);
        assert_eq!(slots(&Array2::zeros((1, 4)), 1.5, 256), [0]);
        let nan = Array2::from_elem((2, 4), f32::NAN);
        assert_eq!(slots(&nan, 1.5, 256).len(), 2);
        let many = Array2::from_shape_fn((600, 4), |(j, k)| ((j * 7 + k * 3) as f32).sin());
        for (most, last) in [(256, 255), (4096, 399)] {
            let slots = slots(&many, 1.5, most);
            assert_eq!((slots.len(), slots.iter().max()), (600, Some(&last)));
        }
    }
}
