//! Text as pixels.
//!
//! The one font is DejaVu Sans, compiled in (its licence, that of Bitstream Vera, allows it), so that
//! a plot looks the same on every machine and needs nothing of the system.

use ab_glyph::{Font, FontRef, OutlinedGlyph, Point, PxScale, ScaleFont, point};

use super::canvas::Drawn;

/// Size of ordinary text: height of a line in pixels.
pub(super) const TEXT: f32 = 17.0;
/// Size of numbers.
pub(super) const SMALL: f32 = 14.5;
/// Size of titles, which are bold.
pub(super) const TITLE: f32 = 23.0;
/// Characters of a label that are shown.
const LABEL_CHARS: usize = 40;

/// Which point of a text is given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Align {
    /// Its start.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// A line of text with its glyphs in place. The origin is its start at half the height of a capital.
pub(super) struct Line {
    glyphs: Vec<OutlinedGlyph>,
    width: f32,
}

impl Line {
    /// Sets a text.
    pub(super) fn new(text: &str, size: f32) -> Drawn<Line> {
        let bold = size >= TITLE;
        let bytes = if bold {
            dejavu::sans::bold()
        } else {
            dejavu::sans::regular()
        };
        let font = FontRef::try_from_slice(bytes)?;
        let scaled = font.as_scaled(PxScale::from(size));
        let capital = font
            .outline_glyph(font.glyph_id('H').with_scale(size))
            .map_or(0.0, |outline| outline.px_bounds().height());
        let mut glyphs = Vec::new();
        let (mut x, mut before) = (0.0, None);
        for c in text.chars() {
            let id = font.glyph_id(c);
            x += before.map_or(0.0, |before| scaled.kern(before, id));
            let at: Point = point(x, (capital / 2.0).round());
            glyphs.extend(font.outline_glyph(id.with_scale_and_position(size, at)));
            x += scaled.h_advance(id);
            before = Some(id);
        }
        Ok(Line { glyphs, width: x })
    }

    /// Its width in whole pixels.
    pub(super) fn width(&self) -> i32 {
        self.width.ceil() as i32
    }

    /// Calls `dot` with the place of each pixel and the share of it that ink covers, the given point
    /// of the text being the origin.
    pub(super) fn dots(
        &self,
        align: Align,
        mut dot: impl FnMut((i32, i32), f32) -> Drawn,
    ) -> Drawn {
        let shift = match align {
            Align::Start => 0,
            Align::Middle => self.width() / 2,
            Align::End => self.width(),
        };
        for glyph in &self.glyphs {
            let corner = glyph.px_bounds().min;
            let (left, top) = (corner.x as i32 - shift, corner.y as i32);
            let mut result = Ok(());
            glyph.draw(|x, y, covered| {
                if result.is_ok() && covered > 0.0 {
                    result = dot((left + x as i32, top + y as i32), covered.min(1.0));
                }
            });
            result?;
        }
        Ok(())
    }
}

/// Width of the widest of some texts in pixels; 0 without any.
pub(super) fn widest<'a>(mut texts: impl Iterator<Item = &'a str>, size: f32) -> Drawn<i32> {
    texts.try_fold(0, |most, text| Ok(most.max(Line::new(text, size)?.width())))
}

/// The label, shortened if it is very long.
pub(super) fn label(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = chars.by_ref().take(LABEL_CHARS).collect();
    if chars.next().is_some() {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_longer_or_larger_text_is_wider_and_its_dots_lie_within() {
        let wide = |text, size| Line::new(text, size).unwrap().width();
        assert!(wide("moe", TEXT) < wide("moe - prior", TEXT));
        assert!(wide("moe", SMALL) < wide("moe", TEXT));
        let line = Line::new("moe - prior", TEXT).unwrap();
        let mut dots = 0;
        line.dots(Align::End, |(x, y), _| {
            dots += 1;
            assert!(
                (-line.width() - 1..=1).contains(&x) && (-12..=12).contains(&y),
                "{x} {y}"
            );
            Ok(())
        })
        .unwrap();
        assert!(dots > 100);
    }

    #[test]
    fn a_long_label_is_cut_between_characters() {
        assert_eq!(label("moe\n- é"), "moe - é");
        let cut = label(&"é".repeat(100));
        assert_eq!(cut.chars().count(), LABEL_CHARS);
        assert!(cut.ends_with('…'));
    }
}
