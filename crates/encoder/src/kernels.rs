//! Host kernels for what a BERT layer does besides its matrix products.
//!
//! burn-flex computes GELU through `libm::erff` and softmax through the scalar `exp`, one element
//! at a time: together about half of a batch's CPU time. These versions are branch-free loops that
//! the compiler vectorises; `pulp` picks the instruction set at run time. They are used by the 8-bit
//! encoder (`host`) and on `flex`, whose tensors give up and take back their buffer without a copy;
//! the other devices compute the same with burn's own operations, so each checks the other in the
//! golden test.
//!
//! A closure given to `pulp` has to take something it captured by value (`let scores = scores;`).
//! Otherwise it is called through a shim that is compiled for the oldest processor, four times as
//! slow.

use burn::tensor::Tensor;
use burn::tensor::TensorData;

use crate::error::EncoderError;

/// Runs `kernel` over the elements of a tensor that lives in host memory.
pub(crate) fn on_host<const D: usize>(
    tensor: Tensor<D>,
    kernel: impl FnOnce(&mut [f32]),
) -> Result<Tensor<D>, EncoderError> {
    let device = tensor.device();
    let mut data: TensorData = tensor.try_into_data().map_err(compute)?;
    kernel(data.as_mut_slice::<f32>().map_err(compute)?);
    Ok(Tensor::from_data(data, &device))
}

/// A burn error in the middle of an encoding.
pub(crate) fn compute(error: impl std::fmt::Debug) -> EncoderError {
    EncoderError::Compute(format!("{error:?}"))
}

/// GELU in place: `x / 2 * (1 + erf(x / sqrt 2))`, max absolute error 5e-7.
pub(crate) fn gelu(values: &mut [f32]) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for x in values {
                let half = 0.5 * *x;
                *x = half + half * erf(*x * std::f32::consts::FRAC_1_SQRT_2);
            }
        },
    );
}

/// Softmax of `scale * row` in place over the first `lengths[i]` columns of each row, zero in the
/// others.
///
/// `scores` is `[batch, rows_per_text, row_len]`; all rows of text `i` share `lengths[i]`.
pub(crate) fn masked_softmax(
    scores: &mut [f32],
    row_len: usize,
    rows_per_text: usize,
    lengths: &[usize],
    scale: f32,
) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let scores = scores;
            let texts = scores.chunks_exact_mut(row_len * rows_per_text);
            for (text, &length) in texts.zip(lengths) {
                for row in text.chunks_exact_mut(row_len) {
                    let (live, padding) = row.split_at_mut(length.min(row_len));
                    softmax(live, scale);
                    padding.fill(0.0);
                }
            }
        },
    );
}

/// Softmax of `scale * row` in place, for callers that have dispatched already.
#[inline(always)]
pub(crate) fn softmax(row: &mut [f32], scale: f32) {
    let most = lanes_max(row) * scale;
    for x in row.iter_mut() {
        *x = exp(*x * scale - most);
    }
    let inverse = 1.0 / lanes_sum(row, |x| x);
    for x in row.iter_mut() {
        *x *= inverse;
    }
}

/// Layer norm of each row in place: `(x - mean) / sqrt(variance + epsilon) * weight + bias`.
pub(crate) fn layer_norm(rows: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let rows = rows;
            for row in rows.chunks_exact_mut(weight.len()) {
                let n = row.len() as f32;
                let mean = lanes_sum(row, |x| x) / n;
                let variance = lanes_sum(row, |x| (x - mean) * (x - mean)) / n;
                let scale = 1.0 / (variance + epsilon).sqrt();
                for ((x, w), b) in row.iter_mut().zip(weight).zip(bias) {
                    *x = (*x - mean) * scale * w + b;
                }
            }
        },
    );
}

/// Independent partial results, because the compiler must not reorder one running float result.
const LANES: usize = 32;

#[inline(always)]
fn lanes_max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    rest.iter()
        .chain(&lanes)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
}

#[inline(always)]
fn lanes_sum(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += term(x);
        }
    }
    rest.iter().map(|x| term(*x)).sum::<f32>() + lanes.iter().sum::<f32>()
}

/// `exp(x)` for `x <= 0`, relative error 2e-7: Cody-Waite reduction and Cephes' polynomial.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Below this the result is subnormal; the clamp keeps the exponent arithmetic in range.
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let mantissa = p * (r * r) + r + 1.0;
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    mantissa * power
}

/// The error function, max absolute error 3e-7: a rational minimax approximation on [-4, 4], the
/// one that Eigen and XLA use.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let x2 = x * x;
    let mut p = -2.726_142_3e-10;
    p = p * x2 + 2.770_681_4e-8;
    p = p * x2 - 2.101_024e-6;
    p = p * x2 - 5.692_506_4e-5;
    p = p * x2 - 7.349_906_3e-4;
    p = p * x2 - 2.954_6e-3;
    p = p * x2 - 1.609_603_4e-2;
    let mut q = -1.456_607_2e-5;
    q = q * x2 - 2.133_740_6e-4;
    q = q * x2 - 1.682_827e-3;
    q = q * x2 - 7.373_329_4e-3;
    q = q * x2 - 1.426_473_9e-2;
    x * p / q
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Integral of the defining series in f64, good to 1e-12 on the range tested.
    fn erf_reference(x: f64) -> f64 {
        let steps = 4000;
        let h = x / f64::from(steps);
        let f = |t: f64| (-t * t).exp();
        let inner: f64 = (1..steps)
            .map(|i| f(f64::from(i) * h) * if i % 2 == 0 { 2.0 } else { 4.0 })
            .sum();
        (f(0.0) + inner + f(x)) * h / 3.0 * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn gelu_matches_its_definition() {
        let xs: Vec<f32> = (-1200..=1200).map(|i| i as f32 * 0.01).collect();
        let mut got = xs.clone();
        gelu(&mut got);
        for (x, y) in xs.iter().zip(got) {
            let x = f64::from(*x);
            let want = 0.5 * x * (1.0 + erf_reference(x / 2f64.sqrt()));
            assert!(
                (f64::from(y) - want).abs() < 5e-7 * x.abs().max(1.0),
                "{x}: {y} {want}"
            );
        }
    }

    #[test]
    fn exp_matches_the_standard_library() {
        for i in 0..=8700 {
            let x = -(i as f32) * 0.01;
            let want = f64::from(x).exp();
            let relative = (f64::from(exp(x)) - want).abs() / want;
            assert!(relative < 3e-7, "{x}: {relative}");
        }
        assert!(exp(-1e4) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn layer_norm_matches_its_definition() {
        let width = 70;
        let rows: Vec<f32> = (0..3 * width).map(|i| ((i * 37) % 101) as f32).collect();
        let weight: Vec<f32> = (0..width).map(|i| i as f32 * 0.1).collect();
        let bias: Vec<f32> = (0..width).map(|i| 3.0 - i as f32).collect();
        let mut got = rows.clone();
        layer_norm(&mut got, &weight, &bias, 1e-12);
        for (row, got) in rows.chunks(width).zip(got.chunks(width)) {
            let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
            let square = |x: &f32| (f64::from(*x) - mean).powi(2);
            let deviation = (row.iter().map(square).sum::<f64>() / width as f64).sqrt();
            for (i, (x, got)) in row.iter().zip(got).enumerate() {
                let unit = (f64::from(*x) - mean) / deviation;
                let want = unit * f64::from(weight[i]) + f64::from(bias[i]);
                assert!((f64::from(*got) - want).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn softmax_masks_and_sums_to_one() {
        let row_len = 70;
        let lengths = [70, 3, 1];
        let mut scores: Vec<f32> = (0..3 * 2 * row_len)
            .map(|i| ((i * 37) % 101) as f32)
            .collect();
        let before = scores.clone();
        masked_softmax(&mut scores, row_len, 2, &lengths, 0.25);
        for (i, row) in scores.chunks(row_len).enumerate() {
            let length = lengths[i / 2];
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!(row[length..].iter().all(|x| *x == 0.0));
            let raw = &before[i * row_len..][..length];
            let total: f64 = raw.iter().map(|x| (f64::from(*x) * 0.25).exp()).sum();
            for (x, got) in raw.iter().zip(row) {
                let want = (f64::from(*x) * 0.25).exp() / total;
                assert!((f64::from(*got) - want).abs() < 1e-6);
            }
        }
    }
}
