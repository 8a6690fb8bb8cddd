//! Self-attention of single texts in f32: small products that fit the first-level cache.

use pulp::{Simd, WithSimd};

use super::LANES;
use crate::kernels::softmax;

/// Query tokens handled together, so that each key and value is read once for all of them.
const GROUP: usize = 8;

/// One number for each query token of a group.
type Group = [f32; GROUP];

/// Working space; kept between texts.
#[derive(Default)]
pub(super) struct Attention {
    /// Keys of one head, `[head_dim, padded]`.
    keys: Vec<f32>,
    /// Values of one head, `[seq, head_dim]`, rows padded.
    values: Vec<f32>,
    /// Queries of a group, `[head_dim]`.
    queries: Vec<Group>,
    /// Scores of a group, then its weights, `[GROUP, padded]`.
    scores: Vec<f32>,
    /// The weights again, `[seq]`.
    weights: Vec<Group>,
    /// Context of a group, `[GROUP, head_dim]`, rows padded.
    sums: Vec<f32>,
}

impl Attention {
    /// Attends within one text: `qkv` is `[seq, 3 * d]` (queries, keys, values side by side),
    /// `context` becomes `[seq, d]`.
    pub(super) fn text(&mut self, qkv: &[f32], context: &mut [f32], d: usize, heads: usize) {
        let (seq, head_dim) = (context.len() / d, d / heads);
        let padded = seq.next_multiple_of(LANES);
        let width = head_dim.next_multiple_of(LANES);
        let fill = |space: &mut Vec<f32>, length| {
            space.clear();
            space.resize(length, 0.0);
        };
        fill(&mut self.keys, head_dim * padded);
        fill(&mut self.values, seq * width);
        fill(&mut self.scores, GROUP * padded);
        fill(&mut self.sums, GROUP * width);
        self.queries.resize(head_dim, Group::default());
        self.weights.resize(seq, Group::default());
        pulp::Arch::new().dispatch(Text {
            qkv,
            context,
            d,
            head_dim,
            padded,
            width,
            space: self,
        });
    }
}

/// One text, its space prepared.
struct Text<'a> {
    qkv: &'a [f32],
    context: &'a mut [f32],
    d: usize,
    head_dim: usize,
    /// Length of a row of keys and scores, and of values.
    padded: usize,
    width: usize,
    space: &'a mut Attention,
}

impl WithSimd for Text<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Text {
            qkv,
            context,
            d,
            head_dim,
            padded,
            width,
            space,
        } = self;
        let seq = context.len() / d;
        let scale = 1.0 / (head_dim as f32).sqrt();
        for first_column in (0..d).step_by(head_dim) {
            let part =
                |row: usize, part: usize| &qkv[row * 3 * d + part * d + first_column..][..head_dim];
            for (j, value) in space.values.chunks_exact_mut(width).enumerate() {
                value[..head_dim].copy_from_slice(part(j, 2));
                let keys = space.keys.chunks_exact_mut(padded);
                part(j, 1).iter().zip(keys).for_each(|(x, k)| k[j] = *x);
            }
            for first in (0..seq).step_by(GROUP) {
                let rows = GROUP.min(seq - first);
                for r in 0..rows {
                    let query = space.queries.iter_mut().zip(part(first + r, 0));
                    query.for_each(|(q, x)| q[r] = *x);
                }
                weighted_sums(simd, &space.queries, &space.keys, &mut space.scores);
                let scores = space.scores.chunks_exact_mut(padded).take(rows);
                for (r, scores) in scores.enumerate() {
                    softmax(&mut scores[..seq], scale);
                    let weights = space.weights.iter_mut().zip(scores);
                    weights.for_each(|(w, s)| w[r] = *s);
                }
                weighted_sums(simd, &space.weights, &space.values, &mut space.sums);
                for (r, sums) in space.sums.chunks_exact(width).take(rows).enumerate() {
                    let to = (first + r) * d + first_column;
                    context[to..][..head_dim].copy_from_slice(&sums[..head_dim]);
                }
            }
        }
    }
}

/// Sums over `rows` `[n, width]`, each with its weight for every query token of the group:
/// `[GROUP, width]`. Keys weighted by queries are scores, values weighted by attention a context.
#[inline(always)]
fn weighted_sums<S: Simd>(simd: S, weights: &[Group], rows: &[f32], sums: &mut [f32]) {
    let width = sums.len() / GROUP;
    for at in 0..width / S::F32_LANES {
        let mut lanes = [simd.splat_f32s(0.0); GROUP];
        for (weights, row) in weights.iter().zip(rows.chunks_exact(width)) {
            let x = S::as_simd_f32s(row).0[at];
            for r in 0..GROUP {
                lanes[r] = simd.mul_add_e_f32s(simd.splat_f32s(weights[r]), x, lanes[r]);
            }
        }
        for (sums, lanes) in sums.chunks_exact_mut(width).zip(lanes) {
            S::as_mut_simd_f32s(sums).0[at] = lanes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_matches_its_definition() {
        let heads = 3;
        for (d, seq) in [(96, 1), (96, 2), (36, 7), (96, 33), (96, 70)] {
            let qkv: Vec<f32> = (0..seq * 3 * d)
                .map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0)
                .collect();
            let mut context = vec![0.0; seq * d];
            Attention::default().text(&qkv, &mut context, d, heads);
            let head_dim = d / heads;
            let part = |token: usize, part: usize, head: usize| {
                &qkv[token * 3 * d + part * d + head * head_dim..][..head_dim]
            };
            for (head, token) in (0..heads).flat_map(|h| (0..seq).map(move |t| (h, t))) {
                let weights: Vec<f64> = (0..seq)
                    .map(|j| {
                        let pairs = part(token, 0, head).iter().zip(part(j, 1, head));
                        let product: f64 = pairs.map(|(a, b)| f64::from(a * b)).sum();
                        (product / (head_dim as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                for i in 0..head_dim {
                    let want: f64 = (0..seq)
                        .map(|j| weights[j] / total * f64::from(part(j, 2, head)[i]))
                        .sum();
                    let got = f64::from(context[token * d + head * head_dim + i]);
                    assert!((got - want).abs() < 2e-6, "{seq} {head} {token} {i}");
                }
            }
        }
    }
}
