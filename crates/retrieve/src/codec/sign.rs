//! Products of query rows with sign codes, by table look-up.
//!
//! Half a byte of signs selects one of 16 partial sums of a query row, so a token of 384 signs costs
//! 96 additions for all rows of a query at once, without decoding anything.

use ndarray::Array2;

use super::{CodedTokens, LANES};

/// Sums for half a byte of sign bits, one row per value.
///
/// In 16 bits the tables of a query take 49 KB, about a first-level cache; in f32 they would take two.
/// One unit is the query row's sum of magnitudes over 2^15, so that no sum overflows; rounding adds
/// an error of 1e-4 to a similarity whose sign code has one of 5e-2.
type HalfByteTable = [[i16; LANES]; 16];

/// Half bytes in a word of sign bits.
const WORD: usize = 16;
/// Words whose tables, 8 KB each, are used for all tokens before the next ones: 24 KB stay in a
/// first-level cache, all of a query's do not.
const RESIDENT: usize = 3;

/// The tables of a query.
#[derive(Clone, Debug)]
pub(super) struct SignTables {
    /// `[lanes / LANES, words_per_token * WORD]`, zero beyond the last byte.
    tables: Vec<HalfByteTable>,
    /// What one unit of the tables stands for, `[lanes / LANES]`.
    units: Vec<[f32; LANES]>,
    /// Bytes per token.
    bytes: usize,
}

impl SignTables {
    /// Tables of rotated rows `[lanes, d]`; a sign stands for `scale`.
    pub(super) fn new(rotated: &Array2<f32>, scale: f32) -> Self {
        let dims = rotated.ncols();
        let bytes = dims.div_ceil(8);
        // Room for the rounding of every entry.
        let most = f32::from(i16::MAX) - (2 * bytes) as f32;
        let magnitude = |row: usize| rotated.row(row).iter().map(|x| x.abs()).sum::<f32>();
        let units: Vec<[f32; LANES]> = (0..rotated.nrows() / LANES)
            .map(|group| std::array::from_fn(|lane| magnitude(group * LANES + lane) / most))
            .collect();
        let halves = bytes.next_multiple_of(8) * 2;
        let mut tables = vec![[[0i16; LANES]; 16]; units.len() * halves];
        for (at, table) in tables.iter_mut().enumerate() {
            let (group, half) = (at / halves, at % halves);
            if half >= 2 * bytes {
                continue;
            }
            let inverse = units[group].map(|unit| 1.0 / (unit + f32::MIN_POSITIVE));
            let terms: [[f32; LANES]; 4] = std::array::from_fn(|k| {
                // The last byte may have bits that stand for no dimension.
                let value = |lane| match half * 4 + k {
                    dim if dim < dims => rotated[(group * LANES + lane, dim)],
                    _ => 0.0,
                };
                std::array::from_fn(|lane| value(lane) * inverse[lane])
            });
            for (sums, exact) in table.iter_mut().zip(signed_sums(&terms)) {
                *sums = exact.map(nearest);
            }
        }
        Self {
            tables,
            units: units.into_iter().map(|u| u.map(|u| u * scale)).collect(),
            bytes,
        }
    }

    /// Products of all rows with all coded tokens, `[seq, lanes]`; `base`, `[lanes]`, are those with the
    /// part of the passage's vector that all its tokens share.
    pub(super) fn products(&self, tokens: CodedTokens<'_>, base: &[f32], out: &mut [f32]) {
        pulp::Arch::new().dispatch(Products {
            tables: self,
            tokens,
            base,
            out,
        });
    }
}

/// The sums of four terms under each of the 16 choices of signs.
fn signed_sums(terms: &[[f32; LANES]; 4]) -> [[f32; LANES]; 16] {
    let mut sums = [[0.0f32; LANES]; 16];
    // All signs negative, then each entry from the one that has its lowest bit off.
    for term in terms {
        sums[0].iter_mut().zip(term).for_each(|(s, t)| *s -= t);
    }
    for entry in 1..16usize {
        sums[entry] = sums[entry & (entry - 1)];
        let term = &terms[entry.trailing_zeros() as usize];
        sums[entry]
            .iter_mut()
            .zip(term)
            .for_each(|(s, t)| *s += 2.0 * t);
    }
    sums
}

/// The nearest integer of a number within 16 bits; `f32::round` is a call into the C library.
#[inline]
fn nearest(x: f32) -> i16 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND).to_bits() as i16
}

/// [`SignTables::products`], compiled for the widest registers of this processor.
struct Products<'a> {
    tables: &'a SignTables,
    tokens: CodedTokens<'a>,
    base: &'a [f32],
    out: &'a mut [f32],
}

impl pulp::NullaryFnOnce for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let SignTables {
            tables,
            units,
            bytes,
        } = self.tables;
        let bytes = (*bytes).max(1);
        let width = units.len() * LANES;
        let words = bytes.div_ceil(8);
        let groups = tables.as_chunks::<WORD>().0.chunks_exact(words).zip(units);
        self.out.fill(0.0);
        for (group, (tables, units)) in groups.enumerate() {
            for (part, tables) in tables.chunks(RESIDENT).enumerate() {
                let span = part * RESIDENT * 8..bytes.min((part + 1) * RESIDENT * 8);
                let tokens = self.tokens.codes.chunks_exact(bytes);
                for (code, out) in tokens.zip(self.out.chunks_exact_mut(width)) {
                    let mut sums = [[0i16; LANES]; 2];
                    let (full, rest) = code[span.clone()].as_chunks::<8>();
                    for (word, tables) in full.iter().zip(tables) {
                        add(&mut sums, *word, tables);
                    }
                    if !rest.is_empty() {
                        let mut word = [0; 8];
                        word[..rest.len()].copy_from_slice(rest);
                        add(&mut sums, word, &tables[full.len()]);
                    }
                    // On copies: writing through the reference keeps the loop from being vectorised.
                    let out = &mut out.as_chunks_mut::<LANES>().0[group];
                    let mut products = *out;
                    for i in 0..LANES {
                        products[i] += f32::from(sums[0][i].wrapping_add(sums[1][i])) * units[i];
                    }
                    *out = products;
                }
            }
        }
        let base = self.base.as_chunks::<LANES>().0;
        let tokens = self.out.chunks_exact_mut(width.max(1));
        for (out, code) in tokens.zip(self.tokens.gains) {
            let gain = super::gain(*code);
            for (out, base) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(base) {
                let mut products = *out;
                for i in 0..LANES {
                    products[i] = base[i] + gain * products[i];
                }
                *out = products;
            }
        }
    }
}

/// Adds the entries of eight bytes. Two sums, so that one addition does not wait for the other.
#[inline(always)]
fn add(sums: &mut [[i16; LANES]; 2], word: [u8; 8], tables: &[HalfByteTable; WORD]) {
    let [mut low, mut high] = *sums;
    for (byte, tables) in word.iter().zip(tables.as_chunks::<2>().0) {
        let (l, h) = (
            &tables[0][usize::from(byte & 15)],
            &tables[1][usize::from(byte >> 4)],
        );
        for i in 0..LANES {
            low[i] = low[i].wrapping_add(l[i]);
            high[i] = high[i].wrapping_add(h[i]);
        }
    }
    *sums = [low, high];
}
