//! Standard output.

use std::io::Write;

use anyhow::Result;

/// Writes text and a line break. A reader that went away (`moerag-bench … | head`) is no failure.
pub(crate) fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
