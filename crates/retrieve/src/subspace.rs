//! Leading eigenvectors of a large symmetric matrix that is known by its products only.
//!
//! Randomised subspace iteration (Halko, Martinsson, Tropp, "Finding structure with randomness",
//! 2011, section 5.3, with a symmetric operator): a handful of products with a block of vectors.

use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::Array2;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Columns beyond those asked for make the iteration accurate.
const OVERSAMPLING: usize = 16;
const ITERATIONS: usize = 3;
/// Share of the largest variance below which a column holds nothing but rounding.
const NOTHING: f32 = 1e-6;

/// A symmetric matrix.
pub trait Symmetric {
    /// Rows.
    fn size(&self) -> usize;
    /// Its product with `x`, `[size, k]`.
    fn times(&self, x: &Array2<f32>) -> Array2<f32>;
}

/// Eigenvalues by falling magnitude, and their eigenvectors as columns.
#[derive(Clone, Debug)]
pub struct Eigen {
    /// `[rank]`.
    pub values: Vec<f32>,
    /// `[size, rank]`.
    pub vectors: Array2<f32>,
}

/// The `rank` leading eigenpairs; `None` when `cancelled` says so or the small problem does not
/// converge. The same `rng` gives the same result.
pub fn leading_eigen(
    matrix: &impl Symmetric,
    rank: usize,
    rng: &mut ChaCha8Rng,
    cancelled: &dyn Fn() -> bool,
) -> Option<Eigen> {
    let n = matrix.size();
    let width = (rank + OVERSAMPLING).min(n);
    let mut basis = Array2::from_shape_fn((n, width), |_| rng.random::<f32>() - 0.5);
    basis = orthonormal(&basis)?;
    for _ in 0..ITERATIONS {
        if cancelled() {
            return None;
        }
        basis = orthonormal(&matrix.times(&basis))?;
    }
    let image = matrix.times(&basis);
    let small = basis.t().dot(&image);
    let small = DMatrix::from_fn(width, width, |i, j| 0.5 * (small[[i, j]] + small[[j, i]]));
    let eigen = SymmetricEigen::try_new(small, 1e-6, 10_000)?;
    let magnitude = |i: &usize| eigen.eigenvalues[*i].abs();
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|a, b| magnitude(b).total_cmp(&magnitude(a)).then(a.cmp(b)));
    order.truncate(rank);
    let rotation = Array2::from_shape_fn((width, order.len()), |(i, j)| {
        eigen.eigenvectors[(i, order[j])]
    });
    Some(Eigen {
        values: order.iter().map(|i| eigen.eigenvalues[*i]).collect(),
        vectors: basis.dot(&rotation),
    })
}

/// Orthonormal columns with the span of `x`'s; where `x` has less than full rank, some are zero.
///
/// From the eigenvectors of `x' x`, twice, because once is not enough in f32.
fn orthonormal(x: &Array2<f32>) -> Option<Array2<f32>> {
    let mut columns = x.clone();
    for _ in 0..2 {
        let gram = columns.t().dot(&columns);
        let width = gram.nrows();
        let gram = DMatrix::from_fn(width, width, |i, j| 0.5 * (gram[[i, j]] + gram[[j, i]]));
        let eigen = SymmetricEigen::try_new(gram, 1e-7, 10_000)?;
        let largest = eigen.eigenvalues.iter().copied().fold(0.0f32, f32::max);
        let scale = |j: usize| {
            let value = eigen.eigenvalues[j];
            if value > NOTHING * largest {
                1.0 / value.sqrt()
            } else {
                0.0
            }
        };
        let turn = Array2::from_shape_fn((width, width), |(i, j)| {
            eigen.eigenvectors[(i, j)] * scale(j)
        });
        columns = columns.dot(&turn);
    }
    Some(columns)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// `sum_i value_i v_i v_i'` with known orthonormal `v_i`.
    struct Known {
        values: Vec<f32>,
        vectors: Array2<f32>,
    }

    impl Symmetric for Known {
        fn size(&self) -> usize {
            self.vectors.nrows()
        }

        fn times(&self, x: &Array2<f32>) -> Array2<f32> {
            let mut inner = self.vectors.t().dot(x);
            for (mut row, value) in inner.rows_mut().into_iter().zip(&self.values) {
                row *= *value;
            }
            self.vectors.dot(&inner)
        }
    }

    #[test]
    fn known_eigenpairs_are_found() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let random = Array2::from_shape_fn((300, 30), |_| rng.random::<f32>() - 0.5);
        let vectors = orthonormal(&random).unwrap();
        let values: Vec<f32> = (0..30).map(|i| 100.0 * 0.7f32.powi(i)).collect();
        let known = Known { values, vectors };
        let found = leading_eigen(&known, 8, &mut rng, &|| false).unwrap();
        assert_eq!(found.vectors.dim(), (300, 8));
        for i in 0..8 {
            assert!((found.values[i] / known.values[i] - 1.0).abs() < 1e-3);
            let cosine = found.vectors.column(i).dot(&known.vectors.column(i));
            assert!(cosine.abs() > 0.999, "{i}: {cosine}");
        }
        assert!(leading_eigen(&known, 8, &mut rng, &|| true).is_none());
    }

    #[test]
    fn a_matrix_of_low_rank_gives_no_nan() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let vectors = Array2::from_shape_fn((20, 1), |_| 20f32.sqrt().recip());
        let known = Known {
            values: vec![2.0],
            vectors,
        };
        let found = leading_eigen(&known, 5, &mut rng, &|| false).unwrap();
        assert!((found.values[0] - 2.0).abs() < 1e-4);
        assert!(found.vectors.iter().all(|v| v.is_finite()));
    }
}
