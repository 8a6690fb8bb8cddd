//! Where a number lies on an axis, and which numbers are written beside it.

use plotters::coord::ranged1d::{BoldPoints, Ranged};
use plotters::coord::types::RangedCoordf64;

/// Numbers beyond this are not drawn: nothing that is plotted here is so large, and positions on an
/// axis would lose their meaning.
const LARGEST: f64 = 1e9;

/// Whether there is a place for a number; what has none is left out of a plot.
pub(super) fn drawable(value: f64) -> bool {
    value.abs() <= LARGEST
}

/// A straight map from numbers to pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    start: i32,
    end: i32,
}

impl Axis {
    /// An axis from `low` at pixel `start` to `high` at pixel `end`; a range that is too small to show
    /// is widened.
    pub(super) fn new((low, high): (f64, f64), start: i32, end: i32) -> Axis {
        let least = 1e-6 * low.abs().max(high.abs()).max(1e-3);
        let wider = if high - low < least {
            0.5 * low.abs().max(0.1)
        } else {
            0.0
        };
        Axis {
            low: low - wider,
            high: high + wider,
            start,
            end,
        }
    }

    /// The pixel of a number.
    pub(super) fn at(&self, value: f64) -> i32 {
        let share = (value - self.low) / (self.high - self.low);
        self.start + (share * f64::from(self.end - self.start)).round() as i32
    }

    /// Round numbers on the axis with their texts, at most `most` of them.
    pub(super) fn ticks(&self, most: usize) -> Vec<(i32, String)> {
        let points = RangedCoordf64::from(self.low..self.high).key_points(BoldPoints(most));
        let step = points
            .windows(2)
            .map(|w| w[1] - w[0])
            .fold(f64::NAN, f64::min);
        let decimals = if step < 1.0 {
            (-(step * 1.001).log10()).ceil() as usize
        } else {
            0
        };
        points
            .iter()
            .map(|value| (self.at(*value), plain(*value, decimals.min(9))))
            .collect()
    }
}

/// Smallest and largest of the numbers that can be drawn; 0 to 1 if there is none.
pub(super) fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| drawable(*value))
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

/// A range with a twentieth of its width added on both sides.
pub(super) fn padded((low, high): (f64, f64)) -> (f64, f64) {
    let pad = (high - low) / 20.0;
    (low - pad, high + pad)
}

/// A number as it is written beside a mark: three decimals, fewer for large numbers.
pub(super) fn written(value: f64) -> String {
    let decimals = match value.abs() {
        large if large >= 999.5 => 0,
        middle if middle >= 9.995 => 1,
        _ => 3,
    };
    plain(value, decimals)
}

/// The same with a plus sign where it applies.
pub(super) fn signed(value: f64) -> String {
    let text = written(value);
    if text.starts_with('-') || is_zero(&text) {
        text
    } else {
        format!("+{text}")
    }
}

/// Never "-0.000".
fn plain(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if is_zero(rest) => rest.to_owned(),
        _ => text,
    }
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_lie_on_the_axis() {
        let axis = Axis::new((0.0, 0.87), 400, 0);
        let ticks = axis.ticks(8);
        assert_eq!(ticks[0], (400, "0.0".to_owned()));
        assert!(ticks.iter().any(|(_, text)| text == "0.4"), "{ticks:?}");
        assert!(ticks.len() <= 10 && ticks.iter().all(|(at, _)| (0..=400).contains(at)));
        let small = Axis::new((-0.012, 0.03), 0, 300).ticks(7);
        assert!(small.iter().any(|(_, text)| text == "-0.01"), "{small:?}");
    }

    #[test]
    fn a_range_of_one_number_and_odd_numbers_are_no_trouble() {
        for (low, high) in [(0.0, 0.0), (5.0, 5.0), (-1e9, 1e9), (1.0, 1.0 + 1e-12)] {
            let axis = Axis::new((low, high), 0, 100);
            assert!((0..=100).contains(&axis.at(low)), "{low}");
            assert!(axis.ticks(6).len() < 20);
        }
        assert_eq!(
            range([f64::NAN, f64::INFINITY, 1e300].into_iter()),
            (0.0, 1.0)
        );
        assert_eq!(range([f64::NAN, 2.0, -1.0].into_iter()), (-1.0, 2.0));
    }

    #[test]
    fn numbers_are_short_and_have_no_negative_zero() {
        assert_eq!(written(0.7786), "0.779");
        assert_eq!(written(1234.5), "1234");
        assert_eq!(written(12.34), "12.3");
        assert_eq!(signed(0.01), "+0.010");
        assert_eq!(signed(-0.0001), "0.000");
        assert_eq!(signed(0.0), "0.000");
    }
}
