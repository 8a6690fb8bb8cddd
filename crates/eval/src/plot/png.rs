//! Pixels to a PNG file: eight bits of red, green and blue, one compressed block.
//!
//! Written here because the usual crate turns on features of crates below the tensor library, and
//! with them a rebuild of half of the workspace, for these few lines.

use std::io::{self, Write};

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Bits per channel, colour type RGB, then the only compression, filter method and no interlacing.
const FORMAT: [u8; 5] = [8, 2, 0, 0, 0];
/// Filter of a row: each byte as the difference to the one above, which makes flat areas zeros.
const UP: u8 = 2;

/// Writes `pixels`, `[height, width, 3]`, as a PNG.
pub(super) fn write(
    out: &mut impl Write,
    width: u32,
    height: u32,
    pixels: &[u8],
) -> io::Result<()> {
    out.write_all(&SIGNATURE)?;
    let mut header = Vec::with_capacity(13);
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&height.to_be_bytes());
    header.extend_from_slice(&FORMAT);
    chunk(out, *b"IHDR", &header)?;

    let row_bytes = width as usize * 3;
    let mut above = vec![0; row_bytes];
    let mut compressed = ZlibEncoder::new(Vec::new(), Compression::default());
    for row in pixels.chunks_exact(row_bytes.max(1)) {
        let differences: Vec<u8> = row
            .iter()
            .zip(&above)
            .map(|(a, b)| a.wrapping_sub(*b))
            .collect();
        compressed.write_all(&[UP])?;
        compressed.write_all(&differences)?;
        above.copy_from_slice(row);
    }
    chunk(out, *b"IDAT", &compressed.finish()?)?;
    chunk(out, *b"IEND", &[])
}

fn chunk(out: &mut impl Write, name: [u8; 4], data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len()).map_err(io::Error::other)?;
    let mut crc = Crc::new();
    crc.update(&name);
    crc.update(data);
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&name)?;
    out.write_all(data)?;
    out.write_all(&crc.sum().to_be_bytes())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;

    use super::*;

    /// Reads back what [`write`] wrote, checking every checksum: width, height, pixels.
    pub(in crate::plot) fn read(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut rest = bytes.strip_prefix(&SIGNATURE).unwrap();
        let (mut size, mut compressed) = ((0, 0), Vec::new());
        while !rest.is_empty() {
            let word = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
            let end = 8 + word(0) as usize;
            let mut crc = Crc::new();
            crc.update(&rest[4..end]);
            assert_eq!(crc.sum(), word(end));
            match &rest[4..8] {
                b"IHDR" => {
                    size = (word(8), word(12));
                    assert_eq!(rest[16..end], FORMAT);
                }
                b"IDAT" => compressed.extend_from_slice(&rest[8..end]),
                other => assert_eq!(other, b"IEND"),
            }
            rest = &rest[end + 4..];
        }
        let mut raw = Vec::new();
        flate2::read::ZlibDecoder::new(&compressed[..])
            .read_to_end(&mut raw)
            .unwrap();
        let row_bytes = size.0 as usize * 3;
        let mut pixels = Vec::new();
        let mut above = vec![0u8; row_bytes];
        for row in raw.chunks_exact(row_bytes + 1) {
            assert_eq!(row[0], UP);
            for (above, difference) in above.iter_mut().zip(&row[1..]) {
                *above = above.wrapping_add(*difference);
            }
            pixels.extend_from_slice(&above);
        }
        (size.0, size.1, pixels)
    }

    #[test]
    fn pixels_come_back() {
        let pixels: Vec<u8> = (0..5 * 3 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, 5, 3, &pixels).unwrap();
        assert_eq!(read(&bytes), (5, 3, pixels));
    }
}
