//! The fixed random rotation of token states and of vectors that are stored in few bits.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use nalgebra::DMatrix;
use ndarray::{Array2, ArrayView1, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::linalg::dot;

/// Rows of a query at most. A product of so few is quick without the matrix kernel, whose threads
/// would spin beside the query's own (FEASIBILITY.md: `MATMUL_NUM_THREADS`).
const FEW_ROWS: usize = 64;

type Rotations = HashMap<(usize, u64), Arc<Array2<f32>>>;
/// Rotations made so far: a decomposition of a 384 x 384 matrix each.
static ROTATIONS: LazyLock<Mutex<Rotations>> = LazyLock::new(Mutex::default);

/// A random rotation. Row convention: `rotated = x · matrix`.
#[derive(Clone, Debug)]
pub struct Rotation(Arc<Array2<f32>>);

impl Rotation {
    /// The rotation of `dims` dimensions with a seed; made once per process.
    pub fn new(dims: usize, seed: u64) -> Self {
        // A poisoned lock holds complete entries only, so its content can be used.
        let mut cache = ROTATIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let made = cache
            .entry((dims, seed))
            .or_insert_with(|| Arc::new(random_rotation(dims, seed)));
        Self(Arc::clone(made))
    }

    /// Rotates one vector, `[d]`; one of another width counts as zero.
    pub fn apply(&self, vector: &[f32]) -> Vec<f32> {
        let dims = self.0.nrows();
        ArrayView2::from_shape((1, dims), vector).map_or_else(
            |_| vec![0.0; dims],
            |row| self.rows(row).into_raw_vec_and_offset().0,
        )
    }

    /// Rotates rows `[n, d]`.
    pub(super) fn rows(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        if x.nrows() > FEW_ROWS {
            return x.dot(&*self.0);
        }
        let mut rotated = Array2::zeros(x.raw_dim());
        if let (Some(rows), Some(axes), Some(out)) = (
            x.as_standard_layout().as_slice(),
            self.0.as_slice(),
            rotated.as_slice_mut(),
        ) {
            let width = x.ncols();
            pulp::Arch::new().dispatch(Rotate {
                rows,
                axes,
                out,
                width,
            });
        }
        rotated
    }

    /// Rotates one vector `[d]` back.
    pub(super) fn back(&self, rotated: &[f32]) -> Vec<f32> {
        let row = |r: ArrayView1<'_, f32>| r.as_slice().map_or(0.0, |r| dot(r, rotated));
        self.0.rows().into_iter().map(row).collect()
    }
}

/// `rows [n, width] · axes [width, width]` into `out`, which is zero: reads the axes once.
struct Rotate<'a> {
    rows: &'a [f32],
    axes: &'a [f32],
    out: &'a mut [f32],
    width: usize,
}

impl pulp::NullaryFnOnce for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.width.max(1);
        // Four axes at a time, so that a sum is loaded and stored a quarter as often.
        for (block, axes) in self.axes.chunks(4 * width).enumerate() {
            let rows = self.rows.chunks_exact(width);
            for (row, out) in rows.zip(self.out.chunks_exact_mut(width)) {
                let weights = &row[4 * block..];
                if let ([w0, w1, w2, w3, ..], true) = (weights, axes.len() == 4 * width) {
                    let (a0, rest) = axes.split_at(width);
                    let (a1, rest) = rest.split_at(width);
                    let (a2, a3) = rest.split_at(width);
                    let axes = a0.iter().zip(a1).zip(a2.iter().zip(a3));
                    for (o, ((a0, a1), (a2, a3))) in out.iter_mut().zip(axes) {
                        *o += (w0 * a0 + w1 * a1) + (w2 * a2 + w3 * a3);
                    }
                } else {
                    for (weight, axis) in weights.iter().zip(axes.chunks_exact(width)) {
                        out.iter_mut().zip(axis).for_each(|(o, x)| *o += weight * x);
                    }
                }
            }
        }
    }
}

/// Orthogonal matrix, uniform over all rotations and reflections: QR of a Gaussian matrix with the
/// signs of R's diagonal taken out.
fn random_rotation(dims: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut gaussian = || {
        // Box-Muller; 1 - u is never 0.
        let (u, v): (f64, f64) = (rng.random(), rng.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let mut matrix = DMatrix::<f64>::zeros(dims, dims);
    matrix.iter_mut().for_each(|x| *x = gaussian());
    let (q, r) = matrix.qr().unpack();
    Array2::from_shape_fn((dims, dims), |(i, j)| {
        (if r[(j, j)] < 0.0 {
            -q[(i, j)]
        } else {
            q[(i, j)]
        }) as f32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rotation_is_orthogonal_and_depends_on_the_seed_alone() {
        let Rotation(rotation) = Rotation::new(384, 0);
        let product = rotation.t().dot(&*rotation);
        for ((i, j), x) in product.indexed_iter() {
            assert!((x - if i == j { 1.0 } else { 0.0 }).abs() < 1e-5);
        }
        let first = rotation.row(0).to_vec();
        assert_eq!(first, random_rotation(384, 0).row(0).to_vec());
        assert_ne!(first, random_rotation(384, 1).row(0).to_vec());
        // What is stored depends on it: another matrix is another `KeySpec::version`.
        let stored = [
            -0.076_836_06_f32,
            0.039_901_93,
            -0.058_235_224,
            0.005_421_677,
        ];
        for (found, stored) in first.iter().zip(stored) {
            assert!((found - stored).abs() < 1e-6, "{:?}", &first[..4]);
        }
    }
}
