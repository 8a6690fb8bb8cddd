//! Colours that readers with any kind of colour vision tell apart, and that survive a grey printer
//! where they stand for a size.

use plotters::style::RGBColor;

/// Paper.
pub(super) const PAPER: RGBColor = RGBColor(255, 255, 255);
/// Text and axes.
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
/// Text and marks of less weight.
pub(super) const GREY: RGBColor = RGBColor(118, 118, 118);
/// Grid lines.
pub(super) const GRID: RGBColor = RGBColor(226, 226, 226);
/// Better than the other side of a comparison.
pub(super) const BETTER: RGBColor = RGBColor(0, 114, 178);
/// Worse than the other side of a comparison.
pub(super) const WORSE: RGBColor = RGBColor(213, 94, 0);

/// The eight colours of Okabe and Ito, their black as a dark grey, and four that differ from these in
/// lightness as well as in hue.
const SERIES: [RGBColor; 12] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
    RGBColor(240, 228, 66),
    RGBColor(77, 77, 77),
    RGBColor(51, 34, 136),
    RGBColor(153, 153, 51),
    RGBColor(190, 190, 190),
    RGBColor(136, 34, 85),
];

/// Colour of the series with this index; beyond the last the same ones again in pale.
pub(super) fn series(index: usize) -> RGBColor {
    let colour = SERIES[index % SERIES.len()];
    let pale = (index / SERIES.len()).min(2) as f64;
    blend(colour, PAPER, 0.45 * pale)
}

/// From pale (0) to dark (1) blue.
pub(super) fn sequential(share: f64) -> RGBColor {
    let (pale, middle, dark) = (
        RGBColor(225, 237, 248),
        RGBColor(86, 160, 206),
        RGBColor(8, 48, 107),
    );
    if share < 0.5 {
        blend(pale, middle, share * 2.0)
    } else {
        blend(middle, dark, share * 2.0 - 1.0)
    }
}

/// From orange (-1) over white (0) to blue (1).
pub(super) fn diverging(share: f64) -> RGBColor {
    let end = if share < 0.0 { WORSE } else { BETTER };
    blend(PAPER, end, share.abs())
}

/// Ink or paper, whichever is read more easily on `ground`.
pub(super) fn text_on(ground: RGBColor) -> RGBColor {
    let RGBColor(r, g, b) = ground;
    let luma = 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
    if luma < 140.0 { PAPER } else { INK }
}

/// `from` with a share of `to`, 0..=1.
fn blend(from: RGBColor, to: RGBColor, share: f64) -> RGBColor {
    let share = share.clamp(0.0, 1.0);
    let mix = |a: u8, b: u8| (f64::from(a) * (1.0 - share) + f64::from(b) * share).round() as u8;
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_series_have_twenty_colours() {
        let colours: Vec<(u8, u8, u8)> = (0..20)
            .map(|index| {
                let RGBColor(r, g, b) = series(index);
                (r, g, b)
            })
            .collect();
        for (at, colour) in colours.iter().enumerate() {
            assert!(!colours[..at].contains(colour), "{at}");
        }
    }

    #[test]
    fn text_is_light_on_dark_and_dark_on_light() {
        assert_eq!(text_on(sequential(1.0)), PAPER);
        assert_eq!(text_on(sequential(0.0)), INK);
        assert_eq!(text_on(diverging(0.0)), INK);
    }
}
