//! Mean and principal directions of the passage vectors (view `dcen`).

use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::linalg::{dot, norm};

/// Principal directions taken away by [`Geometry::centre`].
pub const DIRECTIONS: usize = 2;
/// Vectors per matrix product while fitting.
const CHUNK: usize = 512;

/// Mean vector and first principal directions of a collection's passage vectors.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Geometry {
    /// Mean of the passage vectors, `[d]`; empty before the first fit.
    pub mean: Vec<f32>,
    /// Orthonormal principal directions, at most [`DIRECTIONS`], `[d]` each.
    pub directions: Vec<Vec<f32>>,
}

impl Geometry {
    /// Fits mean and directions. Directions without variance are left out.
    pub fn fit<'a>(vectors: impl Iterator<Item = &'a [f32]>) -> Self {
        let mut moments = Moments::default();
        vectors.for_each(|v| moments.push(v));
        moments.finish()
    }

    /// `unit(x - mean - projections on the directions)`; zero where nothing is left of `x`.
    pub fn centre(&self, x: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(x);
        out.iter_mut().zip(&self.mean).for_each(|(o, m)| *o -= m);
        for direction in &self.directions {
            let along = dot(out, direction);
            out.iter_mut()
                .zip(direction)
                .for_each(|(o, d)| *o -= along * d);
        }
        let scale = 1.0 / (norm(out) + 1e-9);
        out.iter_mut().for_each(|o| *o *= scale);
    }
}

/// First and second moments, accumulated chunk by chunk.
#[derive(Default)]
struct Moments {
    dim: usize,
    count: usize,
    rows: Vec<f32>,
    sum: Vec<f64>,
    second: DMatrix<f64>,
}

impl Moments {
    fn push(&mut self, vector: &[f32]) {
        if self.count == 0 {
            self.dim = vector.len();
            self.sum = vec![0.0; self.dim];
            self.second = DMatrix::zeros(self.dim, self.dim);
        }
        if vector.len() != self.dim {
            return;
        }
        self.count += 1;
        self.sum
            .iter_mut()
            .zip(vector)
            .for_each(|(s, x)| *s += f64::from(*x));
        self.rows.extend_from_slice(vector);
        if self.rows.len() >= CHUNK * self.dim {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let n = rows.len() / self.dim.max(1);
        let Ok(x) = Array2::from_shape_vec((n, self.dim), rows) else {
            return;
        };
        let product = x.t().dot(&x);
        for (s, p) in self.second.iter_mut().zip(product.iter()) {
            *s += f64::from(*p);
        }
    }

    fn finish(mut self) -> Geometry {
        if self.count == 0 || self.dim == 0 {
            return Geometry::default();
        }
        self.flush();
        let n = self.count as f64;
        let mean: Vec<f64> = self.sum.iter().map(|s| s / n).collect();
        let dim = self.dim;
        let covariance =
            DMatrix::from_fn(dim, dim, |i, j| self.second[(i, j)] / n - mean[i] * mean[j]);
        let trace = covariance.trace();
        let eigen = SymmetricEigen::new(covariance);
        let mut order: Vec<usize> = (0..dim).collect();
        order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
        let directions = order
            .into_iter()
            .take(DIRECTIONS)
            .filter(|i| eigen.eigenvalues[*i] > 1e-6 * trace.max(1e-6))
            .map(|i| {
                oriented(
                    eigen
                        .eigenvectors
                        .column(i)
                        .iter()
                        .map(|x| *x as f32)
                        .collect(),
                )
            })
            .collect();
        Geometry {
            mean: mean.into_iter().map(|m| m as f32).collect(),
            directions,
        }
    }
}

/// An eigenvector has no sign of its own: its largest entry is made positive.
fn oriented(mut v: Vec<f32>) -> Vec<f32> {
    let largest = v.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
    if largest.is_some_and(|x| x < 0.0) {
        v.iter_mut().for_each(|x| *x = -*x);
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mean_and_the_directions_of_largest_variance() {
        let vectors: Vec<Vec<f32>> = (0..600)
            .map(|i| {
                let (a, b) = ((i as f32 * 0.37).sin(), (i as f32 * 0.11).cos());
                vec![0.5 + 3.0 * a, -0.25, 2.0 * b, 0.1 * a * b]
            })
            .collect();
        let g = Geometry::fit(vectors.iter().map(Vec::as_slice));
        assert!((g.mean[1] + 0.25).abs() < 1e-5);
        assert_eq!(g.directions.len(), 2);
        assert!(g.directions[0][0] > 0.99 && g.directions[1][2] > 0.99);
        let mut out = Vec::new();
        g.centre(&[1.0, 0.75, 1.0, 0.0], &mut out);
        assert!((norm(&out) - 1.0).abs() < 1e-4);
        assert!(dot(&out, &g.directions[0]).abs() < 1e-4);
    }

    #[test]
    fn degenerate_corpora_give_finite_geometry() {
        let mut out = Vec::new();
        for vectors in [vec![], vec![vec![1.0, 0.0]], vec![vec![1.0, 0.0]; 5]] {
            let g = Geometry::fit(vectors.iter().map(|v: &Vec<f32>| v.as_slice()));
            assert!(g.directions.is_empty());
            g.centre(&[1.0, 0.0], &mut out);
            assert!(out.iter().all(|x| x.is_finite()));
        }
    }
}
