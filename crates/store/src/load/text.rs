//! One text file: read whole, checked to be text.

use std::io::Read;
use std::path::Path;

use super::LoadError;

/// Bytes looked at to tell a binary file from text.
const SNIFF: usize = 8 * 1024;

/// Reads a UTF-8 text file of at most `max_bytes`; a byte order mark is dropped.
pub(super) fn read(path: &Path, max_bytes: u64) -> Result<String, LoadError> {
    let fail = |reason: String, remedy: &'static str| LoadError {
        path: path.to_owned(),
        line: None,
        reason,
        remedy,
    };
    let unreadable = |error: std::io::Error| {
        fail(
            format!("cannot be read: {}", error.kind()),
            "make it readable for this user or leave it out",
        )
    };
    let file = fs_err::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte more than allowed: the size in the metadata may change while reading.
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if let Some(found) = binary_kind(&bytes) {
        return Err(fail(
            format!("is not text but {found}"),
            "convert it to text or Markdown first, or leave it out",
        ));
    }
    if bytes.len() as u64 > max_bytes {
        return Err(fail(
            format!("is larger than {max_bytes} bytes"),
            "split it or raise the file size limit",
        ));
    }
    utf8(bytes).map_err(|reason| fail(reason, "convert it to UTF-8 (for example with iconv)"))
}

/// What the bytes are, if they are no text: a known binary format, or data with NUL bytes.
fn binary_kind(bytes: &[u8]) -> Option<String> {
    let head = &bytes[..bytes.len().min(SNIFF)];
    let text_like = [infer::MatcherType::Text, infer::MatcherType::Doc];
    if utf16(head) {
        return None;
    }
    // Two letters are a magic number of some formats ("BM", "MZ"), and a text may begin with them. Only a
    // PDF looks like a text at first.
    let is_control = |b: &u8| *b < 0x20 && !b"\t\n\r\x0c\x1b".contains(b);
    let is_broken = std::str::from_utf8(head).is_err_and(|error| error.error_len().is_some());
    if let Some(kind) = infer::get(head)
        && (is_broken || head.iter().any(is_control) || kind.mime_type() == "application/pdf")
        && (!text_like.contains(&kind.matcher_type()) || head.contains(&0))
    {
        return Some(format!("{} data", kind.mime_type()));
    }
    head.contains(&0)
        .then(|| "binary data (it has NUL bytes)".to_owned())
}

fn utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff])
}

/// The text, without a byte order mark; the reason why it is none otherwise.
pub(super) fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    if utf16(&bytes) {
        return Err("is UTF-16".into());
    }
    let mut text = String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}
