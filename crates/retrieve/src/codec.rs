//! Token states to bytes and back, and products of query rows with coded tokens.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use half::f16;
use half::slice::HalfFloatSliceExt;
use nalgebra::DMatrix;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod sign;

use sign::SignTables;

use crate::keys::{KeySpec, TokenCode};
use crate::linalg::dot;

/// Query rows are handled in groups of this many, one group per vector accumulator.
pub(crate) const LANES: usize = 16;
/// Rows of a query at most. A product of so few is quick without the matrix kernel, whose threads
/// would spin beside the query's own (FEASIBILITY.md: `MATMUL_NUM_THREADS`).
const FEW_ROWS: usize = 64;

type Rotations = HashMap<(u16, u64), Arc<Array2<f32>>>;
/// Rotations made so far: a decomposition of a 384 x 384 matrix each.
static ROTATIONS: LazyLock<Mutex<Rotations>> = LazyLock::new(Mutex::default);

/// Encodes and decodes the token states of one [`KeySpec`].
#[derive(Clone, Debug)]
pub struct TokenCodec {
    spec: KeySpec,
    /// Row convention: `rotated = x · rotation`, `[d, d]`.
    rotation: Arc<Array2<f32>>,
}

/// Query rows prepared for products with coded tokens.
#[derive(Clone, Debug)]
pub struct CodecRows {
    /// Rows, and rows padded to a multiple of [`LANES`].
    rows: usize,
    lanes: usize,
    /// Rotated rows, zero-padded, `[lanes, d]`; empty for sign codes.
    rotated: Array2<f32>,
    /// For sign codes.
    signs: Option<SignTables>,
}

impl CodecRows {
    /// Number of rows before padding.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Width of a row of products: the rows padded to a multiple of 16.
    pub fn lanes(&self) -> usize {
        self.lanes
    }
}

impl TokenCodec {
    /// Codec of a specification; the rotation is made once per process and seed.
    pub fn new(spec: &KeySpec) -> Self {
        let key = (spec.dims, spec.rotation_seed);
        // A poisoned lock holds complete entries only, so its content can be used.
        let mut cache = ROTATIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let rotation = cache.entry(key).or_insert_with(|| {
            Arc::new(random_rotation(usize::from(spec.dims), spec.rotation_seed))
        });
        Self {
            spec: spec.clone(),
            rotation: Arc::clone(rotation),
        }
    }

    /// The specification.
    pub fn spec(&self) -> &KeySpec {
        &self.spec
    }

    /// Dimensions of a state.
    pub fn dims(&self) -> usize {
        usize::from(self.spec.dims)
    }

    /// Rotates rows `[n, d]`.
    pub fn rotate(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        if x.nrows() > FEW_ROWS {
            return x.dot(&*self.rotation);
        }
        let mut rotated = Array2::zeros(x.raw_dim());
        if let (Some(rows), Some(axes), Some(out)) = (
            x.as_standard_layout().as_slice(),
            self.rotation.as_slice(),
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
    pub fn unrotate(&self, rotated: &[f32]) -> Vec<f32> {
        let row = |r: ndarray::ArrayView1<'_, f32>| r.as_slice().map_or(0.0, |r| dot(r, rotated));
        self.rotation.rows().into_iter().map(row).collect()
    }

    /// Codes of unit states `[seq, d]` (unrotated), `[seq * bytes_per_token]`.
    pub fn encode(&self, unit_states: ArrayView2<'_, f32>) -> Vec<u8> {
        if unit_states.ncols() != self.dims() {
            return Vec::new();
        }
        let rotated = self.rotate(unit_states);
        let mut codes = Vec::with_capacity(rotated.nrows() * self.spec.bytes_per_token());
        for row in rotated.rows() {
            let row = row.as_slice().unwrap_or_default();
            match self.spec.code {
                TokenCode::Sign1 => codes.extend(row.chunks(8).map(|bits| {
                    bits.iter()
                        .enumerate()
                        .fold(0u8, |byte, (k, x)| byte | (u8::from(*x >= 0.0) << k))
                })),
                TokenCode::F16 => encode_f16(row, &mut codes),
            }
        }
        codes
    }

    /// Decodes into rotated space, `[seq, d]`; `out` is replaced when its shape does not fit. Sign
    /// bits are scaled so that the product with a float query is an unbiased estimate of the cosine.
    pub fn decode_into(&self, codes: &[u8], out: &mut Array2<f32>) {
        let (bytes, dims) = (self.spec.bytes_per_token(), self.dims());
        let seq = codes.len() / bytes.max(1);
        if out.dim() != (seq, dims) {
            *out = Array2::zeros((seq, dims));
        }
        let Some(out) = out.as_slice_mut() else {
            return;
        };
        for (code, row) in codes
            .chunks_exact(bytes.max(1))
            .zip(out.chunks_exact_mut(dims.max(1)))
        {
            match self.spec.code {
                TokenCode::Sign1 => {
                    let scale = self.sign_scale();
                    for (k, x) in row.iter_mut().enumerate() {
                        *x = if code[k / 8] >> (k % 8) & 1 == 1 {
                            scale
                        } else {
                            -scale
                        };
                    }
                }
                TokenCode::F16 => decode_f16(code, row),
            }
        }
    }

    /// Prepares unrotated rows `[r, d]`. Rows of another width count as zero.
    pub fn prepare(&self, rows: ArrayView2<'_, f32>) -> CodecRows {
        let lanes = rows.nrows().next_multiple_of(LANES);
        let mut rotated = Array2::zeros((lanes, self.dims()));
        if rows.ncols() == self.dims() {
            rotated
                .slice_axis_mut(Axis(0), (..rows.nrows()).into())
                .assign(&self.rotate(rows));
        }
        let (rotated, signs) = match self.spec.code {
            TokenCode::F16 => (rotated, None),
            TokenCode::Sign1 => {
                let tables = SignTables::new(&rotated, self.sign_scale());
                (Array2::zeros((0, 0)), Some(tables))
            }
        };
        CodecRows {
            rows: rows.nrows(),
            lanes,
            rotated,
            signs,
        }
    }

    /// Products of all rows with all coded tokens into `out`, `[seq, lanes]` row-major; `decoded` is
    /// working space. Returns `seq`.
    ///
    /// Sign codes need no decoding: see `codec/sign.rs`.
    pub fn products(
        &self,
        rows: &CodecRows,
        codes: &[u8],
        decoded: &mut Vec<f32>,
        out: &mut Vec<f32>,
    ) -> usize {
        let (bytes, dims, lanes) = (self.spec.bytes_per_token().max(1), self.dims(), rows.lanes);
        let seq = codes.len() / bytes;
        out.resize(seq * lanes, 0.0);
        if lanes == 0 {
            return seq;
        }
        match self.spec.code {
            TokenCode::Sign1 => {
                if let Some(tables) = &rows.signs {
                    tables.products(codes, out);
                }
            }
            TokenCode::F16 => {
                decoded.resize(seq * dims, 0.0);
                for (code, row) in codes
                    .chunks_exact(bytes)
                    .zip(decoded.chunks_exact_mut(dims))
                {
                    decode_f16(code, row);
                }
                let states = ArrayView2::from_shape((seq, dims), &decoded[..seq * dims]);
                let result = ArrayViewMut2::from_shape((seq, lanes), &mut out[..]);
                if let (Ok(states), Ok(mut result)) = (states, result) {
                    general_mat_mul(1.0, &states, &rows.rotated.t(), 0.0, &mut result);
                }
            }
        }
        seq
    }

    /// Products of unrotated rows `[r, d]` with all coded tokens, `[seq, r]`.
    pub fn similarities(&self, rows: ArrayView2<'_, f32>, codes: &[u8]) -> Array2<f32> {
        let rows = self.prepare(rows);
        let mut out = Vec::new();
        let seq = self.products(&rows, codes, &mut Vec::new(), &mut out);
        Array2::from_shape_fn((seq, rows.rows), |(j, r)| out[j * rows.lanes + r])
    }

    /// Cosine of two coded tokens. For sign codes the angle is estimated from the number of equal
    /// signs, which unlike a product of two decoded states has no bias.
    pub(crate) fn cosine(&self, codes: &[u8], a: usize, b: usize) -> f32 {
        let bytes = self.spec.bytes_per_token();
        let token = |j: usize| codes.get(j * bytes..(j + 1) * bytes).unwrap_or_default();
        match self.spec.code {
            TokenCode::Sign1 => {
                let different: u32 = token(a)
                    .iter()
                    .zip(token(b))
                    .map(|(x, y)| (x ^ y).count_ones())
                    .sum();
                (std::f32::consts::PI * different as f32 / self.dims().max(1) as f32).cos()
            }
            TokenCode::F16 => {
                let value = |c: &[u8; 2]| f16::from_le_bytes(*c).to_f32();
                let (a, b) = (token(a).as_chunks::<2>().0, token(b).as_chunks::<2>().0);
                a.iter().zip(b).map(|(x, y)| value(x) * value(y)).sum()
            }
        }
    }

    /// Mean squared length of the error of a decoded state.
    pub(crate) fn coding_noise(&self) -> f32 {
        match self.spec.code {
            TokenCode::Sign1 => std::f32::consts::FRAC_PI_2 - 1.0,
            TokenCode::F16 => 0.0,
        }
    }

    /// A unit state's rotated entry has mean magnitude `sqrt(2 / (pi d))`; its inverse, spread over
    /// `d` entries, makes `q · sign(t)` estimate `q · t`.
    fn sign_scale(&self) -> f32 {
        (std::f32::consts::FRAC_PI_2 / self.dims().max(1) as f32).sqrt()
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

/// Appends numbers in half precision, two little-endian bytes each.
pub fn encode_f16(row: &[f32], out: &mut Vec<u8>) {
    out.extend(row.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
}

/// Reads what [`encode_f16`] wrote, as far as both reach.
pub fn decode_f16(code: &[u8], row: &mut [f32]) {
    // In pieces, so that the conversion uses the processor's instruction for it where there is one.
    let mut halves = [f16::ZERO; 64];
    for (out, bytes) in row.chunks_mut(64).zip(code.chunks(128)) {
        let halves = &mut halves[..out.len()];
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves.convert_to_f32_slice(out);
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
    use crate::linalg::normalise;

    fn unit_rows(n: usize, seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut rows = Array2::from_shape_fn((n, 384), |_| rng.random::<f32>() - 0.5);
        rows.rows_mut()
            .into_iter()
            .for_each(|mut r| normalise(r.as_slice_mut().unwrap()));
        rows
    }

    fn codec(code: TokenCode) -> TokenCodec {
        TokenCodec::new(&KeySpec {
            code,
            ..KeySpec::default()
        })
    }

    #[test]
    fn the_rotation_is_orthogonal_and_depends_on_the_seed_alone() {
        let a = codec(TokenCode::Sign1);
        let product = a.rotation.t().dot(&*a.rotation);
        for ((i, j), x) in product.indexed_iter() {
            assert!((x - if i == j { 1.0 } else { 0.0 }).abs() < 1e-5);
        }
        let first = a.rotation.row(0).to_vec();
        assert_eq!(first, random_rotation(384, 0).row(0).to_vec());
        assert_ne!(first, random_rotation(384, 1).row(0).to_vec());
        let x = unit_rows(1, 3);
        let back = a.unrotate(a.rotate(x.view()).as_slice().unwrap());
        assert!(back.iter().zip(&x).all(|(b, x)| (b - x).abs() < 1e-5));
    }

    #[test]
    fn products_agree_with_decoded_states_and_with_the_exact_ones() {
        let (queries, states) = (unit_rows(19, 1), unit_rows(40, 2));
        let exact = states.dot(&queries.t());
        for (code, bytes, limit) in [(TokenCode::Sign1, 48, 0.2), (TokenCode::F16, 768, 2e-4)] {
            let codec = codec(code);
            let codes = codec.encode(states.view());
            assert_eq!(codes.len(), 40 * bytes);
            let mut decoded = Array2::zeros((0, 0));
            codec.decode_into(&codes, &mut decoded);
            let slow = decoded.dot(&codec.rotate(queries.view()).t());
            let fast = codec.similarities(queries.view(), &codes);
            for ((f, s), e) in fast.iter().zip(&slow).zip(&exact) {
                assert!((f - s).abs() < 5e-4, "{f} {s}");
                assert!((f - e).abs() < limit, "{f} {e}");
            }
        }
    }

    #[test]
    fn sign_codes_estimate_cosines_without_bias() {
        let codec = codec(TokenCode::Sign1);
        let (a, noise) = (unit_rows(200, 4), unit_rows(200, 5));
        let mut b = &a + &(&noise * 0.8);
        b.rows_mut()
            .into_iter()
            .for_each(|mut r| normalise(r.as_slice_mut().unwrap()));
        let codes = [codec.encode(a.view()), codec.encode(b.view())].concat();
        let (mut product, mut angle, mut exact) = (0.0, 0.0, 0.0);
        for j in 0..200 {
            let row = a.slice_axis(Axis(0), (j..j + 1).into());
            product += codec.similarities(row, &codes)[[200 + j, 0]] / 200.0;
            angle += codec.cosine(&codes, j, 200 + j) / 200.0;
            exact += a.row(j).dot(&b.row(j)) / 200.0;
        }
        assert!(
            (product - exact).abs() < 0.01 && (angle - exact).abs() < 0.01,
            "{product} {angle} {exact}"
        );
    }

    #[test]
    fn nothing_in_nothing_out() {
        for code in [TokenCode::Sign1, TokenCode::F16] {
            let codec = codec(code);
            let none = Array2::zeros((0, 384));
            assert!(codec.encode(none.view()).is_empty());
            assert_eq!(codec.similarities(none.view(), &[]).dim(), (0, 0));
            assert_eq!(
                codec.similarities(unit_rows(2, 1).view(), &[]).dim(),
                (0, 2)
            );
        }
    }
}
