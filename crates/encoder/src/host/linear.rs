//! A linear layer with 8-bit weights, for inputs quantised row by row.
//!
//! Weights: one scale per output. Activations: scale and zero point per row, from that row alone,
//! so a text's result does not depend on what else is in the batch. Products are exact integers
//! (`u8 x i8 -> i32`), computed by `rten-gemm`, which picks its instructions at run time.

use pulp::{NullaryFnOnce, Simd, WithSimd};
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use crate::error::EncoderError;
use crate::kernels::compute;

thread_local! {
    /// The machine's best integer product. One per thread: it cannot be shared, and finding out what
    /// the processor can do takes longer than a product.
    static EXECUTOR: GemmExecutor<u8, i8, i32> = GemmExecutor::new();
}

/// `[inputs, outputs]` weights and `[outputs]` bias.
pub(super) struct Linear {
    weights: PackedBMatrix<i8>,
    /// What one unit of each output's weights stands for, `[outputs]`.
    scales: Vec<f32>,
    /// Sum of each output's weights, which the code of zero adds to a product, `[outputs]`.
    totals: Vec<i32>,
    bias: Vec<f32>,
    inputs: usize,
}

/// Working space of products; kept between calls.
#[derive(Default)]
pub(super) struct Products {
    codes: Vec<u8>,
    zeros: Vec<i32>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

impl Linear {
    /// Quantises weights `[outputs, inputs]`, as PyTorch stores them.
    pub(super) fn new(weights: &[f32], bias: Vec<f32>) -> Result<Self, EncoderError> {
        let outputs = bias.len();
        let inputs = weights.len() / outputs.max(1);
        // Processors without a real dot product of bytes add pairs in 16 bits first.
        let saturates = EXECUTOR.with(GemmExecutor::may_saturate);
        let most = if saturates { 63.0 } else { 127.0 };
        let mut scales = Vec::with_capacity(outputs);
        let mut totals = Vec::with_capacity(outputs);
        let mut codes: Vec<i8> = Vec::with_capacity(weights.len());
        for row in weights.chunks_exact(inputs.max(1)) {
            let largest = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let scale = if largest > 0.0 { largest / most } else { 1.0 };
            let start = codes.len();
            codes.extend(row.iter().map(|x| (x / scale).round() as i8));
            totals.push(codes[start..].iter().map(|code| i32::from(*code)).sum());
            scales.push(scale);
        }
        let matrix = NdTensorView::try_from_data([outputs, inputs], &codes[..]).map_err(compute)?;
        Ok(Linear {
            weights: EXECUTOR.with(|executor| executor.prepack_b(matrix.transposed())),
            scales,
            totals,
            bias,
            inputs,
        })
    }

    pub(super) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// `[rows, inputs] -> [rows, outputs]`.
    pub(super) fn forward(
        &self,
        input: &[f32],
        output: &mut [f32],
        space: &mut Products,
    ) -> Result<(), EncoderError> {
        space.quantise(input, self.inputs);
        let rows = space.zeros.len();
        let a =
            NdTensorView::try_from_data([rows, self.inputs], &space.codes[..]).map_err(compute)?;
        space.sums.resize(rows * self.outputs(), 0);
        let (a, b) = (GemmInputA::Unpacked(a), GemmInputB::Packed(&self.weights));
        EXECUTOR
            .with(|executor| executor.gemm(&mut space.sums, a, b, GemmOptions::default()))
            .map_err(compute)?;
        self.dequantise(space, output);
        Ok(())
    }

    fn dequantise(&self, space: &Products, output: &mut [f32]) {
        let width = self.outputs();
        let rows = output.chunks_exact_mut(width);
        let sums = space.sums.chunks_exact(width);
        let parameters = space.zeros.iter().zip(&space.scales);
        for ((output, sums), (zero, scale)) in rows.zip(sums).zip(parameters) {
            pulp::Arch::new().dispatch(Dequantise {
                linear: self,
                sums,
                zero: *zero,
                scale: *scale,
                output,
            });
        }
    }
}

/// A row of products and what it becomes.
struct Dequantise<'a> {
    linear: &'a Linear,
    sums: &'a [i32],
    zero: i32,
    scale: f32,
    output: &'a mut [f32],
}

impl NullaryFnOnce for Dequantise<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let n = self.output.len();
        let (output, sums) = (&mut self.output[..n], &self.sums[..n]);
        let (totals, bias) = (&self.linear.totals[..n], &self.linear.bias[..n]);
        let scales = &self.linear.scales[..n];
        for i in 0..n {
            let sum = sums[i].wrapping_sub(self.zero.wrapping_mul(totals[i]));
            output[i] = sum as f32 * (scales[i] * self.scale) + bias[i];
        }
    }
}

impl Products {
    /// Codes of every row of `input`: `x = scale * (code - zero)`.
    fn quantise(&mut self, input: &[f32], width: usize) {
        let rows = input.len() / width;
        self.codes.resize(input.len(), 0);
        self.zeros.resize(rows, 0);
        self.scales.resize(rows, 0.0);
        let codes = self.codes.chunks_exact_mut(width);
        let parameters = self.zeros.iter_mut().zip(&mut self.scales);
        for ((row, codes), (zero, scale)) in input.chunks_exact(width).zip(codes).zip(parameters) {
            (*zero, *scale) = pulp::Arch::new().dispatch(Row { row, codes });
        }
    }
}

/// A row to be quantised; yields the code of zero and what one unit stands for.
struct Row<'a> {
    row: &'a [f32],
    codes: &'a mut [u8],
}

impl WithSimd for Row<'_> {
    type Output = (i32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (i32, f32) {
        // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low mantissa bits.
        const ROUND: f32 = 12_582_912.0;
        let (lanes, rest) = S::as_simd_f32s(self.row);
        let (mut least, mut most) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
        for x in lanes {
            least = simd.min_f32s(least, *x);
            most = simd.max_f32s(most, *x);
        }
        let least = rest
            .iter()
            .copied()
            .fold(simd.reduce_min_f32s(least), f32::min);
        let most = rest
            .iter()
            .copied()
            .fold(simd.reduce_max_f32s(most), f32::max);
        let scale = (most - least) / 255.0;
        if scale <= 0.0 {
            self.codes.fill(0);
            return (0, 0.0);
        }
        let inverse = 1.0 / scale;
        let zero = (-least * inverse).round();
        for (code, x) in self.codes.iter_mut().zip(self.row) {
            let value = (x * inverse + zero).clamp(0.0, 255.0);
            *code = (value + ROUND).to_bits() as u8;
        }
        (zero as i32, scale)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn products_are_close_to_exact_ones_and_rows_do_not_see_each_other() {
        for (inputs, outputs, rows) in [(384, 96, 5), (384, 1152, 64), (1536, 384, 13), (24, 8, 3)]
        {
            let value = |i: usize| (((i * 7919) % 1009) as f32 / 504.5 - 1.0) * 0.1;
            let weights: Vec<f32> = (0..inputs * outputs).map(value).collect();
            let bias: Vec<f32> = (0..outputs).map(|i| i as f32 * 0.01).collect();
            let linear = Linear::new(&weights, bias.clone()).unwrap();
            // Rows of very different sizes; some are zero.
            let input: Vec<f32> = (0..rows * inputs)
                .map(|i| value(i * 31 + 5) * [1.0, 100.0, 0.01, 3.0, 0.0][i / inputs % 5])
                .collect();
            let mut space = Products::default();
            let mut output = vec![0.0; rows * outputs];
            linear.forward(&input, &mut output, &mut space).unwrap();
            for (i, x) in input.chunks_exact(inputs).enumerate() {
                let size = x.iter().map(|x| x * x).sum::<f32>().sqrt();
                for (j, w) in weights.chunks_exact(inputs).enumerate() {
                    let exact = bias[j] + x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
                    let error = (output[i * outputs + j] - exact).abs();
                    assert!(
                        error <= 0.02 * size + 1e-6,
                        "{inputs} {outputs} {i} {j}: {error} of {size}"
                    );
                }
                let mut alone = vec![0.0; outputs];
                linear.forward(x, &mut alone, &mut space).unwrap();
                let same = alone == output[i * outputs..][..outputs];
                assert!(same, "{inputs} {outputs}: row {i}");
            }
        }
    }
}
