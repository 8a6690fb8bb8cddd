//! What people see: colours, bars, tables, progress.

pub(crate) mod bars;
pub(crate) mod passage;
pub(crate) mod progress;

use std::io::{IsTerminal, Write};

use anyhow::Result;
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};

/// Decides once whether standard output is coloured: only on a terminal, never with `NO_COLOR`
/// set (<https://no-color.org>) or a dumb terminal.
pub(crate) fn set_colors() {
    let asked_off = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    console::set_colors_enabled(std::io::stdout().is_terminal() && !asked_off && !dumb);
    console::set_colors_enabled_stderr(std::io::stderr().is_terminal() && !asked_off && !dumb);
}

/// Width to wrap at: the terminal's, at most 100 columns; 100 when it is not a terminal.
pub(crate) fn width() -> usize {
    let term = console::Term::stdout();
    match term.size_checked() {
        Some((_, columns)) => usize::from(columns).clamp(40, 100),
        None => 100,
    }
}

/// Text from a document or a service as it may be shown to people: control characters other than line
/// break and tab become spaces, so that no document can rewrite the terminal.
pub(crate) fn plain(text: &str) -> String {
    let shown = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars()
        .map(|c| if shown(c) { c } else { ' ' })
        .collect()
}

/// Writes text to standard output. A reader that went away (`moerag … | head`) is no failure.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// [`print()`] with a line break at the end.
pub(crate) fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// One JSON value and a line break.
pub(crate) fn json(value: &serde_json::Value) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// A note for people on standard error, as [`plain`] text: errors repeat what services say.
pub(crate) fn note(text: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "{}", plain(text));
}

/// A table with a header, as wide as the terminal.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─')));
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.to_vec());
    if console::Term::stdout().size_checked().is_none() {
        table.set_width(120);
    }
    table
}

/// Whole seconds as people say them: `8 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = if seconds.is_finite() {
        seconds.max(0.0).round() as u64
    } else {
        0
    };
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_spaces() {
        let text = "a\u{1b}[2Jb\rc\u{7}\u{7f}\u{9b}d\n\té";
        assert_eq!(plain(text), "a [2Jb c   d\n\té");
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(0.4), "0 s");
        assert_eq!(duration(119.0), "119 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(7500.0), "2 h 5 min");
        assert_eq!(duration(f64::NAN), "0 s");
        assert_eq!(duration(-1.0), "0 s");
    }
}
