//! Intervals under each other, on both sides of 0.

use std::path::Path;

use plotters::style::RGBColor;

use super::axis::{Axis, drawable, padded, range, signed};
use super::canvas::{Canvas, Drawn, MARGIN, Plan, TITLE_HEIGHT, paint, title_width};
use super::palette::{BETTER, GREY, GRID, INK, WORSE};
use super::text::{Align, Line, SMALL, TEXT, label, widest};
use crate::error::EvalError;

/// Height of a row, in pixels.
const ROW: i32 = 31;
/// Width of the axis, in pixels.
const PLOT_WIDTH: i32 = 620;
/// Height of axis, its name and the legend, in pixels.
const FOOT: i32 = 100;

/// Draws one row per `(label, low, mean, high)`: the interval as a line, the mean as a disc, the three
/// numbers beside them, and a line at 0. The colour says on which side of 0 the interval lies as a
/// whole, or that it holds 0. A row with a number that is not finite stays empty.
///
/// # Errors
/// [`EvalError::Plot`] if there is nothing to draw or more rows than a readable plot can hold;
/// [`EvalError::Write`] if the file cannot be written.
pub fn forest(
    path: &Path,
    title: &str,
    x_label: &str,
    rows: &[(String, f64, f64, f64)],
) -> Result<(), EvalError> {
    paint(path, Forest::new(title, x_label, rows))
}

struct Forest<'a> {
    title: &'a str,
    x_label: &'a str,
    rows: Vec<Row>,
    width: i32,
    height: i32,
    axis: Axis,
    left: i32,
}

struct Row {
    label: String,
    /// Low end, mean, high end, and the three as a text.
    interval: Option<([f64; 3], String)>,
}

impl<'a> Forest<'a> {
    fn new(
        title: &'a str,
        x_label: &'a str,
        rows: &[(String, f64, f64, f64)],
    ) -> Drawn<Forest<'a>> {
        if rows.is_empty() {
            return Err("there is nothing to draw".into());
        }
        let rows: Vec<Row> = rows.iter().map(Row::new).collect();
        let labels = widest(rows.iter().map(|row| row.label.as_str()), TEXT)?;
        let numbers = widest(rows.iter().filter_map(Row::numbers), SMALL)?;
        let ends = rows.iter().filter_map(|row| row.interval.as_ref());
        let shown = range(ends.flat_map(|(interval, _)| *interval).chain([0.0]));
        let left = MARGIN + labels + 16;
        Ok(Forest {
            title,
            x_label,
            width: (left + PLOT_WIDTH + 16 + numbers + MARGIN).max(title_width(title)?),
            height: ROW
                .saturating_mul(i32::try_from(rows.len())?)
                .saturating_add(TITLE_HEIGHT + FOOT + 2 * MARGIN),
            axis: Axis::new(padded(shown), left, left + PLOT_WIDTH),
            left,
            rows,
        })
    }

    fn draw_legend(&self, canvas: &Canvas<'_>, y: i32) -> Drawn {
        let mut x = self.left;
        let words = [(BETTER, "above 0"), (GREY, "holds 0"), (WORSE, "below 0")];
        for (colour, word) in words {
            canvas.disc((x + 6, y), 6, colour)?;
            canvas.text(word, (x + 18, y), Align::Start, SMALL, INK)?;
            x += 18 + Line::new(word, SMALL)?.width() + 24;
        }
        Ok(())
    }

    fn draw_row(&self, canvas: &Canvas<'_>, row: &Row, y: i32) -> Drawn {
        let at = (self.left - 14, y);
        canvas.text(&row.label, at, Align::End, TEXT, INK)?;
        let Some((interval, numbers)) = &row.interval else {
            return Ok(());
        };
        let colour = side(interval);
        let [low, mean, high] = interval.map(|value| self.axis.at(value));
        canvas.line(&[(low, y), (high, y)], colour, 3)?;
        for end in [low, high] {
            canvas.line(&[(end, y - 5), (end, y + 5)], colour, 3)?;
        }
        canvas.disc((mean, y), 6, colour)?;
        let at = (self.left + PLOT_WIDTH + 16, y);
        canvas.text(numbers, at, Align::Start, SMALL, INK)
    }
}

impl Plan for Forest<'_> {
    fn size(&self) -> (i32, i32) {
        (self.width, self.height)
    }

    fn draw(&self, canvas: &Canvas<'_>) -> Drawn {
        canvas.title(self.title)?;
        let top = TITLE_HEIGHT + MARGIN;
        let bottom = self.height - FOOT - MARGIN + 6;
        for (x, text) in self.axis.ticks(8) {
            canvas.line(&[(x, top), (x, bottom)], GRID, 1)?;
            canvas.text(&text, (x, bottom + 14), Align::Middle, SMALL, INK)?;
        }
        let zero = self.axis.at(0.0);
        canvas.line(&[(zero, top), (zero, bottom)], INK, 2)?;
        for (index, row) in (0i32..).zip(&self.rows) {
            self.draw_row(canvas, row, top + ROW / 2 + ROW * index)?;
        }
        let name = (self.left + PLOT_WIDTH / 2, bottom + 42);
        canvas.text(&label(self.x_label), name, Align::Middle, TEXT, INK)?;
        self.draw_legend(canvas, bottom + 76)
    }
}

impl Row {
    fn new((name, low, mean, high): &(String, f64, f64, f64)) -> Row {
        let interval = [*low, *mean, *high];
        let numbers = || format!("{} [{}, {}]", signed(*mean), signed(*low), signed(*high));
        Row {
            label: label(name),
            interval: interval
                .iter()
                .all(|v| drawable(*v))
                .then(|| (interval, numbers())),
        }
    }

    fn numbers(&self) -> Option<&str> {
        self.interval.as_ref().map(|(_, text)| text.as_str())
    }
}

fn side([low, _, high]: &[f64; 3]) -> RGBColor {
    if *low > 0.0 {
        BETTER
    } else if *high < 0.0 {
        WORSE
    } else {
        GREY
    }
}
