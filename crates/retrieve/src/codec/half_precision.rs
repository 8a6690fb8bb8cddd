//! Numbers in half precision as bytes.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Appends numbers in half precision, two little-endian bytes each.
pub(super) fn encode_f16(row: &[f32], out: &mut Vec<u8>) {
    out.extend(row.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
}

/// Reads what [`encode_f16`] wrote, as far as both reach.
pub(super) fn decode_f16(code: &[u8], row: &mut [f32]) {
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
