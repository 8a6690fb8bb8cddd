//! Token states to bytes and back, and products of query rows with coded tokens.

use half::f16;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};

mod bytes;
mod half_precision;
mod pool;
mod rotation;
mod sentences;
mod sign;
mod tokens;

pub use bytes::{decode_bytes, encode_bytes};
use half_precision::{decode_f16, encode_f16};
pub use rotation::Rotation;
pub use sentences::SentenceCodes;
pub(crate) use sentences::SentenceQuery;
pub use tokens::{CodedTokens, TokenCodes};

use crate::keys::{KeySpec, NOT_POOLED, TokenCode};
use crate::linalg::dot;
use sign::SignTables;
use tokens::{BYTE_CODES, gain, gain_code};

/// Query rows are handled in groups of this many, one group per vector accumulator.
pub(crate) const LANES: usize = 16;

/// Most codes of a passage whose tokens are pooled.
const MAX_CODES: usize = 4096;

/// Encodes and decodes the token states of one [`KeySpec`].
#[derive(Clone, Debug)]
pub struct TokenCodec {
    spec: KeySpec,
    rotation: Rotation,
}

/// Query rows prepared for products with coded tokens.
#[derive(Clone, Debug)]
pub struct CodecRows {
    /// Rows, and rows padded to a multiple of [`LANES`].
    rows: usize,
    lanes: usize,
    /// Rows as they were given, `[rows, d]`; empty for `f16`.
    plain: Array2<f32>,
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
        Self {
            spec: spec.clone(),
            rotation: Rotation::new(usize::from(spec.dims), spec.rotation_seed),
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
        self.rotation.rows(x)
    }

    /// Rotates one vector `[d]` back.
    pub fn unrotate(&self, rotated: &[f32]) -> Vec<f32> {
        self.rotation.back(rotated)
    }

    /// Codes of unit states `[seq, d]`, unrotated, of a passage with the unit pooled vector `vector`, `[d]`.
    ///
    /// Signs are those of what is left of a state when its share of the passage's vector is taken off:
    /// the tokens of a passage resemble each other, and what is left is a fifth shorter and so is its error. The gain of a
    /// token makes the estimate exact for a query in the residual's direction (Gao and Long, "RaBitQ", 2024:
    /// codes of residuals with a factor each). States that resemble each other share a code: see `codec/pool.rs`.
    pub fn encode(&self, unit_states: ArrayView2<'_, f32>, vector: &[f32]) -> TokenCodes {
        if unit_states.ncols() != self.dims() {
            return TokenCodes::default();
        }
        let mut made = TokenCodes::default();
        let mut slots = Vec::new();
        let mut rotated = self.rotate(unit_states);
        if self.spec.code == TokenCode::Sign1 {
            let centre = self.rotation.apply(vector);
            let square = dot(&centre, &centre);
            if let Some(mean) = rotated.mean_axis(Axis(0))
                && square > 0.0
            {
                made.centre = dot(&centre, mean.as_slice().unwrap_or_default()) / square;
            }
            for mut row in rotated.rows_mut() {
                row.iter_mut()
                    .zip(&centre)
                    .for_each(|(x, c)| *x -= made.centre * c);
            }
        }
        if self.spec.pooling > NOT_POOLED {
            let per_code = f32::from(self.spec.pooling) / f32::from(NOT_POOLED);
            // `f16` has no gains, by whose number slots of two bytes are told.
            let most = match self.spec.code {
                TokenCode::Sign1 => MAX_CODES,
                TokenCode::F16 => BYTE_CODES,
            };
            slots = pool::slots(&rotated, per_code, most);
            rotated = pool::merged(&rotated, &slots);
        }
        made.codes
            .reserve(rotated.nrows() * self.spec.bytes_per_code());
        for row in rotated.rows() {
            let row = row.as_slice().unwrap_or_default();
            match self.spec.code {
                TokenCode::Sign1 => {
                    made.codes.extend(row.chunks(8).map(|bits| {
                        bits.iter()
                            .enumerate()
                            .fold(0u8, |byte, (k, x)| byte | (u8::from(*x >= 0.0) << k))
                    }));
                    let magnitude: f32 = row.iter().map(|x| x.abs()).sum();
                    let gain = dot(row, row) / (magnitude * self.sign_scale() + f32::MIN_POSITIVE);
                    made.gains.push(gain_code(gain));
                }
                TokenCode::F16 => encode_f16(row, &mut made.codes),
            }
        }
        made.set_slots(&slots);
        made
    }

    /// Decodes into rotated space, `[codes, d]`; `out` is replaced when its shape does not fit. Sign
    /// bits are scaled so that the product with a float query is an unbiased estimate of the cosine.
    pub fn decode_into(&self, tokens: CodedTokens<'_>, out: &mut Array2<f32>) {
        let (bytes, dims) = (self.spec.bytes_per_code(), self.dims());
        let count = tokens.codes.len() / bytes.max(1);
        if out.dim() != (count, dims) {
            *out = Array2::zeros((count, dims));
        }
        let Some(out) = out.as_slice_mut() else {
            return;
        };
        let rows = tokens
            .codes
            .chunks_exact(bytes.max(1))
            .zip(out.chunks_exact_mut(dims.max(1)));
        match self.spec.code {
            TokenCode::Sign1 => {
                let centre = self.rotation.apply(tokens.vector);
                for ((code, row), gain_code) in rows.zip(tokens.gains) {
                    let scale = self.sign_scale() * gain(*gain_code);
                    for (k, (x, c)) in row.iter_mut().zip(&centre).enumerate() {
                        let sign = if code[k / 8] >> (k % 8) & 1 == 1 {
                            scale
                        } else {
                            -scale
                        };
                        *x = tokens.centre * c + sign;
                    }
                }
            }
            TokenCode::F16 => rows.for_each(|(code, row)| decode_f16(code, row)),
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
        let none = Array2::zeros((0, 0));
        let (plain, rotated, signs) = match self.spec.code {
            TokenCode::F16 => (none, rotated, None),
            TokenCode::Sign1 => {
                let tables = SignTables::new(&rotated, self.sign_scale());
                let plain = match rows.ncols() == self.dims() {
                    true => rows.as_standard_layout().into_owned(),
                    false => Array2::zeros((rows.nrows(), self.dims())),
                };
                (plain, none, Some(tables))
            }
        };
        CodecRows {
            rows: rows.nrows(),
            lanes,
            plain,
            rotated,
            signs,
        }
    }

    /// Products of all rows with all codes into `out`, `[codes, lanes]` row-major; `decoded` is
    /// working space. Returns the number of codes.
    ///
    /// Sign codes need no decoding: see `codec/sign.rs`.
    pub fn products(
        &self,
        rows: &CodecRows,
        tokens: CodedTokens<'_>,
        decoded: &mut Vec<f32>,
        out: &mut Vec<f32>,
    ) -> usize {
        let (bytes, dims, lanes) = (self.spec.bytes_per_code().max(1), self.dims(), rows.lanes);
        let count = tokens.codes.len() / bytes;
        out.resize(count * lanes, 0.0);
        if lanes == 0 {
            return count;
        }
        match self.spec.code {
            TokenCode::Sign1 => {
                if let Some(tables) = &rows.signs {
                    let mut base = vec![0.0; lanes];
                    if tokens.vector.len() == dims {
                        let plain = rows.plain.rows().into_iter();
                        for (base, row) in base.iter_mut().zip(plain) {
                            let row = row.to_slice().unwrap_or_default();
                            *base = tokens.centre * dot(row, tokens.vector);
                        }
                    }
                    tables.products(tokens, &base, out);
                }
            }
            TokenCode::F16 => {
                decoded.resize(count * dims, 0.0);
                for (code, row) in tokens
                    .codes
                    .chunks_exact(bytes)
                    .zip(decoded.chunks_exact_mut(dims))
                {
                    decode_f16(code, row);
                }
                let states = ArrayView2::from_shape((count, dims), &decoded[..count * dims]);
                let result = ArrayViewMut2::from_shape((count, lanes), &mut out[..]);
                if let (Ok(states), Ok(mut result)) = (states, result) {
                    general_mat_mul(1.0, &states, &rows.rotated.t(), 0.0, &mut result);
                }
            }
        }
        count
    }

    /// Products of unrotated rows `[r, d]` with all codes, `[codes, r]`.
    pub fn similarities(&self, rows: ArrayView2<'_, f32>, tokens: CodedTokens<'_>) -> Array2<f32> {
        let rows = self.prepare(rows);
        let mut out = Vec::new();
        let count = self.products(&rows, tokens, &mut Vec::new(), &mut out);
        Array2::from_shape_fn((count, rows.rows), |(j, r)| out[j * rows.lanes + r])
    }

    /// Cosine of two coded tokens of one passage. For sign codes the angle between their residuals is
    /// estimated from the number of equal signs, which unlike a product of two decoded states has no
    /// bias; with `|a - b|^2 = 2 - 2 cos(a, b)` for unit states the centre does not matter.
    pub(crate) fn cosine(&self, tokens: &TokenCodes, a: usize, b: usize) -> f32 {
        let (a, b) = (tokens.slot(a), tokens.slot(b));
        let bytes = self.spec.bytes_per_code();
        let token = |at: usize| {
            let span = at * bytes..(at + 1) * bytes;
            tokens.codes.get(span).unwrap_or_default()
        };
        match self.spec.code {
            TokenCode::Sign1 => {
                let different: u32 = token(a)
                    .iter()
                    .zip(token(b))
                    .map(|(x, y)| (x ^ y).count_ones())
                    .sum();
                let angle = std::f32::consts::PI * different as f32 / self.dims().max(1) as f32;
                let (a, b) = (tokens.gain(a), tokens.gain(b));
                1.0 - (a * a + b * b - 2.0 * a * b * angle.cos()) / 2.0
            }
            TokenCode::F16 => {
                let value = |c: &[u8; 2]| f16::from_le_bytes(*c).to_f32();
                let (a, b) = (token(a).as_chunks::<2>().0, token(b).as_chunks::<2>().0);
                a.iter().zip(b).map(|(x, y)| value(x) * value(y)).sum()
            }
        }
    }

    /// Mean squared length of the error of code `at` when it is decoded.
    pub fn coding_noise(&self, tokens: &TokenCodes, at: usize) -> f32 {
        match self.spec.code {
            TokenCode::Sign1 => {
                let gain = tokens.gain(at);
                (std::f32::consts::FRAC_PI_2 - 1.0) * gain * gain
            }
            TokenCode::F16 => 0.0,
        }
    }

    /// A unit state's rotated entry has mean magnitude `sqrt(2 / (pi d))`; its inverse, spread over
    /// `d` entries, makes `q · sign(t)` estimate `q · t`.
    fn sign_scale(&self) -> f32 {
        (std::f32::consts::FRAC_PI_2 / self.dims().max(1) as f32).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::normalise;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn unit_rows(n: usize, seed: u64) -> Array2<f32> {
        unit_rows_of(384, n, seed)
    }

    fn unit_rows_of(dims: usize, n: usize, seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rows = Array2::from_shape_fn((n, dims), |_| rng.random::<f32>() - 0.5);
        unit(rows)
    }

    fn unit(mut rows: Array2<f32>) -> Array2<f32> {
        rows.rows_mut()
            .into_iter()
            .for_each(|mut r| normalise(r.as_slice_mut().unwrap()));
        rows
    }

    /// States that resemble each other as those of a real passage do, and the passage's vector.
    fn passage(n: usize, seed: u64) -> (Array2<f32>, Vec<f32>) {
        let vector = unit_rows(1, seed + 1000);
        let states = unit(unit_rows(n, seed) + &(&vector * 0.7));
        (states, vector.row(0).to_vec())
    }

    fn codec(code: TokenCode) -> TokenCodec {
        TokenCodec::new(&KeySpec {
            code,
            pooling: NOT_POOLED,
            ..KeySpec::default()
        })
    }

    #[test]
    fn vectors_come_back_from_a_rotation() {
        let (a, x) = (codec(TokenCode::Sign1), unit_rows(1, 3));
        let back = a.unrotate(a.rotate(x.view()).as_slice().unwrap());
        assert!(back.iter().zip(&x).all(|(b, x)| (b - x).abs() < 1e-5));
    }

    #[test]
    fn products_agree_with_decoded_states_and_with_the_exact_ones() {
        let (queries, (states, vector)) = (unit_rows(19, 1), passage(40, 2));
        let exact = states.dot(&queries.t());
        for (code, bytes, limit) in [(TokenCode::Sign1, 48, 0.2), (TokenCode::F16, 768, 2e-4)] {
            let codec = codec(code);
            let made = codec.encode(states.view(), &vector);
            assert_eq!(made.codes.len(), 40 * bytes);
            let mut decoded = Array2::zeros((0, 0));
            codec.decode_into(made.of(&vector), &mut decoded);
            let slow = decoded.dot(&codec.rotate(queries.view()).t());
            let fast = codec.similarities(queries.view(), made.of(&vector));
            for ((f, s), e) in fast.iter().zip(&slow).zip(&exact) {
                assert!((f - s).abs() < 5e-4, "{f} {s}");
                assert!((f - e).abs() < limit, "{f} {e}");
            }
        }
    }

    #[test]
    fn any_width_of_an_encoder_will_do() {
        for dims in [31, 36, 300, 768] {
            let codec = TokenCodec::new(&KeySpec::of_dims(dims));
            let (states, queries) = (unit_rows_of(dims, 20, 1), unit_rows_of(dims, 3, 2));
            let made = codec.encode(states.view(), &[]);
            assert_eq!(made.codes.len() % codec.spec().bytes_per_code(), 0);
            let mut decoded = Array2::zeros((0, 0));
            codec.decode_into(made.of(&[]), &mut decoded);
            let slow = decoded.dot(&codec.rotate(queries.view()).t());
            let fast = codec.similarities(queries.view(), made.of(&[]));
            assert_eq!(fast.dim(), slow.dim(), "{dims}");
            let worst = (&fast - &slow).mapv(f32::abs);
            assert!(worst.iter().all(|off| *off < 5e-4), "{dims}: {worst}");
        }
    }

    #[test]
    fn taking_the_passages_vector_off_makes_the_error_smaller() {
        let codec = codec(TokenCode::Sign1);
        let (states, vector) = passage(200, 7);
        // Queries near some of the states, as those are that matter.
        let near = states.slice_axis(Axis(0), (..10).into());
        let queries = unit(&unit_rows(10, 8) + &near);
        let exact = states.dot(&queries.t());
        let error = |vector: &[f32]| {
            let made = codec.encode(states.view(), vector);
            let found = codec.similarities(queries.view(), made.of(vector));
            (&found - &exact).iter().map(|x| x * x).sum::<f32>()
        };
        let (with, without) = (error(&vector), error(&[]));
        assert!(with < 0.8 * without, "{with} {without}");
    }

    #[test]
    fn tokens_that_resemble_each_other_share_a_code() {
        let (pooled, own) = (
            TokenCodec::new(&KeySpec::default()),
            codec(TokenCode::Sign1),
        );
        // Of three tokens two resemble each other.
        let (states, vector) = passage(60, 11);
        let near = unit(&passage(60, 12).0 * 0.2 + &states);
        let mut all = Array2::zeros((90, 384));
        for j in 0..30 {
            all.row_mut(3 * j).assign(&states.row(2 * j));
            all.row_mut(3 * j + 1).assign(&states.row(2 * j + 1));
            all.row_mut(3 * j + 2).assign(&near.row(2 * j));
        }
        let exact = all.dot(&all.t());
        let error = |codec: &TokenCodec| {
            let made = codec.encode(all.view(), &vector);
            let found = codec.similarities(all.view(), made.of(&vector));
            let errors = exact.indexed_iter().map(|((q, j), exact)| {
                let off = found[[made.slot(j), q]] - exact;
                off * off
            });
            (made.gains.len(), errors.sum::<f32>())
        };
        let ((few, pooled), (many, own)) = (error(&pooled), error(&own));
        assert_eq!((few, many), (60, 90));
        assert!(pooled < 1.2 * own, "{pooled} {own}");
    }

    #[test]
    fn sign_codes_estimate_cosines_without_bias() {
        let codec = codec(TokenCode::Sign1);
        let (a, noise) = (unit_rows(200, 4), unit_rows(200, 5));
        let b = unit(&a + &(&noise * 0.8));
        let (mut product, mut angle, mut exact) = (0.0, 0.0, 0.0);
        for j in 0..200 {
            let pair = ndarray::stack![Axis(0), a.row(j), b.row(j)];
            let vector = unit(&a + &noise).row(j).to_vec();
            let made = codec.encode(pair.view(), &vector);
            let row = a.slice_axis(Axis(0), (j..j + 1).into());
            product += codec.similarities(row, made.of(&vector))[[1, 0]] / 200.0;
            angle += codec.cosine(&made, 0, 1) / 200.0;
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
            let made = codec.encode(none.view(), &[]);
            assert_eq!(made, TokenCodes::default());
            let found = codec.similarities(none.view(), made.of(&[]));
            assert_eq!(found.dim(), (0, 0));
            let found = codec.similarities(unit_rows(2, 1).view(), made.of(&[]));
            assert_eq!(found.dim(), (0, 2));
        }
    }
}
