//! Vectors in a byte a dimension, with a scale of their own.

/// Largest magnitude of an entry.
const MAX: f32 = 127.0;

/// Appends a vector: what 127 stands for as little-endian `f32`, then a signed byte an entry. An entry is
/// off by about half a step, a 254th of the largest magnitude; the scale is such that the length is kept to
/// a four-thousandth. What [`decode_bytes`] gives is encoded to the same bytes again, so a vector may be
/// read and stored as often as one likes. Not finite numbers become 0.
pub fn encode_bytes(vector: &[f32], out: &mut Vec<u8>) {
    let vector = || vector.iter().map(|x| if x.is_finite() { *x } else { 0.0 });
    let largest = vector().fold(0.0f32, |m, x| m.max(x.abs()));
    let inverse = if largest > 0.0 { MAX / largest } else { 0.0 };
    let codes = || vector().map(|x| (x * inverse).round());
    let exact = vector().map(|x| x * x).sum::<f32>();
    let coded = codes().map(|x| x * x).sum::<f32>();
    let step = if coded > 0.0 {
        (exact / coded).sqrt()
    } else {
        0.0
    };
    out.extend(round_mantissa(MAX * step).to_le_bytes());
    out.extend(codes().map(|x| x as i8 as u8));
}

/// `x` with 11 bits after the point of its mantissa: coarser than the rounding of a sum of squares, so that
/// the same scale comes out of a vector that was made with it.
fn round_mantissa(x: f32) -> f32 {
    const LOST: u32 = 12;
    f32::from_bits((x.to_bits() + (1 << (LOST - 1))) >> LOST << LOST)
}

/// Reads what [`encode_bytes`] wrote; nothing where the scale is missing.
pub fn decode_bytes(bytes: &[u8]) -> Vec<f32> {
    let Some((scale, entries)) = bytes.split_first_chunk::<4>() else {
        return Vec::new();
    };
    let scale = f32::from_le_bytes(*scale);
    // The product is exact, so that 127 is the scale itself.
    let entry = |x: &u8| f32::from(*x as i8) * scale / MAX;
    entries.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::norm;

    fn back(vector: &[f32]) -> Vec<f32> {
        let mut bytes = Vec::new();
        encode_bytes(vector, &mut bytes);
        assert_eq!(bytes.len(), 4 + vector.len());
        decode_bytes(&bytes)
    }

    #[test]
    fn entries_come_back_to_half_a_step() {
        let vector: Vec<f32> = (0..384).map(|i| (i as f32 * 0.7).sin() * 0.2).collect();
        for (a, b) in vector.iter().zip(back(&vector)) {
            assert!((a - b).abs() <= 0.6 * 0.2 / 127.0, "{a} {b}");
        }
        assert_eq!(back(&[0.0, -0.0]), [0.0, 0.0]);
        assert_eq!(back(&[f32::NAN, 1.0, f32::INFINITY]), [0.0, 1.0, 0.0]);
        assert!(back(&[]).is_empty() && decode_bytes(&[1, 2]).is_empty());
    }

    #[test]
    fn what_was_read_is_stored_to_the_same_bytes_and_lengths_are_kept() {
        for dim in [2, 3, 16, 384] {
            for seed in 0..200 {
                let vector: Vec<f32> = (0..dim)
                    .map(|i| ((i * 31 + seed * 17) as f32 * 0.7).sin() * 0.1 * (1.0 + seed as f32))
                    .collect();
                let once = back(&vector);
                assert_eq!(back(&once), once, "{dim} {seed}");
                let ratio = norm(&once) / norm(&vector);
                assert!((ratio - 1.0).abs() < 2.5e-4, "{dim} {seed} {ratio}");
            }
        }
    }
}
