//! Progress of long work: a bar on a terminal, a line every few seconds elsewhere.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{duration, note};

const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Progress of one piece of work, drawn on standard error.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    plain: RefCell<Plain>,
}

struct Plain {
    label: String,
    last: Option<Instant>,
}

impl Progress {
    /// Begins with a label and no known end.
    pub(crate) fn new(label: &str) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_message(label.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Progress {
            bar,
            plain: RefCell::new(Plain {
                label: label.to_owned(),
                last: None,
            }),
        }
    }

    /// Shows `done` of `total` (0: not known), a label and what else is worth saying.
    pub(crate) fn update(&self, label: &str, done: u64, total: u64, detail: &str) {
        match &self.bar {
            Some(bar) => {
                if total > 0 {
                    if bar.length() != Some(total) {
                        bar.set_length(total);
                        bar.set_style(style());
                    }
                    bar.set_position(done.min(total));
                }
                bar.set_message(super::plain(&format!("{label}  {detail}")));
            }
            None => {
                let mut plain = self.plain.borrow_mut();
                let new_label = plain.label != label;
                if new_label || plain.last.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) {
                    plain.label = label.to_owned();
                    plain.last = Some(Instant::now());
                    let of = if total > 0 {
                        format!("{done}/{total}  ")
                    } else {
                        String::new()
                    };
                    note(format!("{label}  {of}{detail}").trim_end());
                }
            }
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Pieces of work that have to be done before the next ones can be foretold: a few documents may be of
/// any length.
const ENOUGH: u64 = 10;

/// `ETA 12 s`, or nothing while it cannot be known.
pub(crate) fn eta(started: Instant, done: u64, total: u64) -> String {
    if done < ENOUGH || total <= done {
        return String::new();
    }
    let left = started.elapsed().as_secs_f64() / done as f64 * (total - done) as f64;
    format!("ETA {}", duration(left))
}

fn style() -> ProgressStyle {
    // The template is a constant; if it were wrong the default style would still show the position.
    ProgressStyle::with_template("{bar:30.cyan/dim} {pos}/{len}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▉▊▋▌▍▎▏ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_foretold_once_enough_is_done() {
        let Some(started) = Instant::now().checked_sub(std::time::Duration::from_secs(20)) else {
            return;
        };
        assert_eq!(eta(started, 9, 100), "");
        assert!(eta(started, 10, 100).starts_with("ETA "));
        assert_eq!(eta(started, 100, 100), "");
    }
}
