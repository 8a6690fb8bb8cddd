//! Vectors in a byte a dimension, with a scale of their own.

/// Largest magnitude of an entry.
const MAX: f32 = 127.0;

/// Appends a vector: the value of one step as little-endian `f32`, then a signed byte an entry. An entry is
/// off by about half a step, a 254th of the largest magnitude; the step is such that the length is kept.
/// Not finite numbers become 0.
pub fn encode_bytes(vector: &[f32], out: &mut Vec<u8>) {
    let finite = |x: f32| if x.is_finite() { x } else { 0.0 };
    let largest = vector.iter().fold(0.0f32, |m, x| m.max(finite(*x).abs()));
    let inverse = if largest > 0.0 { MAX / largest } else { 0.0 };
    let code = |x: &f32| (finite(*x) * inverse).round();
    let length = |square: f32| square.sqrt();
    let exact = length(vector.iter().map(|x| finite(*x).powi(2)).sum());
    let coded = length(vector.iter().map(|x| code(x).powi(2)).sum());
    let step = if coded > 0.0 { exact / coded } else { 0.0 };
    out.extend(step.to_le_bytes());
    out.extend(vector.iter().map(|x| code(x) as i8 as u8));
}

/// Reads what [`encode_bytes`] wrote; nothing where the scale is missing.
pub fn decode_bytes(bytes: &[u8]) -> Vec<f32> {
    let Some((step, entries)) = bytes.split_first_chunk::<4>() else {
        return Vec::new();
    };
    let step = f32::from_le_bytes(*step);
    entries.iter().map(|x| f32::from(*x as i8) * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
