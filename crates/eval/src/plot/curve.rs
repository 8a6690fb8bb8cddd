//! Lines of several series over one number.

use std::path::Path;

use super::axis::{Axis, drawable, padded, range};
use super::canvas::{Canvas, Drawn, MARGIN, Plan, TITLE_HEIGHT, paint, title_width};
use super::palette::{GREY, GRID, INK, series as colour};
use super::text::{Align, SMALL, TEXT, label, widest};
use crate::error::EvalError;

/// Size of the plot itself, in pixels.
const PLOT: (i32, i32) = (780, 440);
/// Room for the numbers of the y axis and its name, in pixels.
const AXIS_WIDTH: i32 = 80;
/// Height of the numbers of the x axis and its name, in pixels.
const FOOT: i32 = 66;
/// Height of a line of the legend, in pixels.
const LEGEND_LINE: i32 = 28;
/// Width of the line and mark before a name in the legend, in pixels.
const SAMPLE: i32 = 40;

/// Draws one line with a mark at every `(x, y)` per series, in the order of the points; colours and
/// marks differ. Both axes cover the points and need not start at 0. A point with a number that is
/// not finite interrupts its line.
///
/// # Errors
/// [`EvalError::Plot`] if there is nothing to draw or if there are more series than a readable plot can
/// hold; [`EvalError::Write`] if the file cannot be written.
pub fn curve(
    path: &Path,
    title: &str,
    x_label: &str,
    y_label: &str,
    series: &[(String, Vec<(f64, f64)>)],
) -> Result<(), EvalError> {
    paint(path, Curve::new(title, x_label, y_label, series))
}

struct Curve<'a> {
    title: &'a str,
    x_label: &'a str,
    y_label: &'a str,
    names: Vec<String>,
    series: &'a [(String, Vec<(f64, f64)>)],
    width: i32,
    height: i32,
    x: Axis,
    y: Axis,
}

const LEFT: i32 = MARGIN + AXIS_WIDTH;
const RIGHT: i32 = LEFT + PLOT.0;
const TOP: i32 = TITLE_HEIGHT + MARGIN;
const BOTTOM: i32 = TOP + PLOT.1;

impl<'a> Curve<'a> {
    fn new(
        title: &'a str,
        x_label: &'a str,
        y_label: &'a str,
        series: &'a [(String, Vec<(f64, f64)>)],
    ) -> Drawn<Curve<'a>> {
        if series.iter().all(|(_, points)| points.is_empty()) {
            return Err("there is nothing to draw".into());
        }
        let names: Vec<String> = series.iter().map(|(name, _)| label(name)).collect();
        let points = || series.iter().flat_map(|(_, points)| points);
        let drawn = || points().filter(|(x, y)| drawable(*x) && drawable(*y));
        let legend = SAMPLE + widest(names.iter().map(String::as_str), TEXT)?;
        let lines = LEGEND_LINE.saturating_mul(i32::try_from(series.len())?);
        Ok(Curve {
            title,
            x_label,
            y_label,
            width: (RIGHT + 20 + legend + MARGIN).max(title_width(title)?),
            height: PLOT.1.max(lines).saturating_add(TOP + FOOT + MARGIN),
            x: Axis::new(padded(range(drawn().map(|(x, _)| *x))), LEFT, RIGHT),
            y: Axis::new(padded(range(drawn().map(|(_, y)| *y))), BOTTOM, TOP),
            names,
            series,
        })
    }

    fn draw_axes(&self, canvas: &Canvas<'_>) -> Drawn {
        for (x, text) in self.x.ticks(10) {
            canvas.line(&[(x, TOP), (x, BOTTOM)], GRID, 1)?;
            canvas.text(&text, (x, BOTTOM + 16), Align::Middle, SMALL, INK)?;
        }
        for (y, text) in self.y.ticks(8) {
            canvas.line(&[(LEFT, y), (RIGHT, y)], GRID, 1)?;
            canvas.text(&text, (LEFT - 8, y), Align::End, SMALL, INK)?;
        }
        canvas.line(&[(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], GREY, 1)?;
        let middle = ((LEFT + RIGHT) / 2, BOTTOM + 46);
        canvas.text(&label(self.x_label), middle, Align::Middle, TEXT, INK)?;
        let middle = (MARGIN + 10, (TOP + BOTTOM) / 2);
        canvas.upright(&label(self.y_label), middle, Align::Middle, TEXT)
    }
}

impl Plan for Curve<'_> {
    fn size(&self) -> (i32, i32) {
        (self.width, self.height)
    }

    fn draw(&self, canvas: &Canvas<'_>) -> Drawn {
        canvas.title(self.title)?;
        self.draw_axes(canvas)?;
        let lines = self.series.iter().zip(&self.names).enumerate();
        for (index, ((_, points), name)) in lines {
            for run in points.split(|(x, y)| !drawable(*x) || !drawable(*y)) {
                let places: Vec<(i32, i32)> = run
                    .iter()
                    .map(|(x, y)| (self.x.at(*x), self.y.at(*y)))
                    .collect();
                canvas.line(&places, colour(index), 3)?;
                places.iter().try_for_each(|at| mark(canvas, index, *at))?;
            }
            let y = TOP + LEGEND_LINE / 2 + LEGEND_LINE * i32::try_from(index)?;
            let x = RIGHT + 20;
            canvas.line(&[(x, y), (x + 30, y)], colour(index), 3)?;
            mark(canvas, index, (x + 15, y))?;
            canvas.text(name, (x + SAMPLE, y), Align::Start, TEXT, INK)?;
        }
        Ok(())
    }
}

/// A disc, a square, a triangle or a diamond, so that lines differ by more than their colour.
fn mark(canvas: &Canvas<'_>, index: usize, (x, y): (i32, i32)) -> Drawn {
    let colour = colour(index);
    match index % 4 {
        0 => canvas.disc((x, y), 6, colour),
        1 => canvas.filled((x - 5, y - 5), (x + 5, y + 5), colour),
        2 => canvas.shape(&[(x, y - 7), (x + 7, y + 6), (x - 7, y + 6)], colour),
        _ => canvas.shape(&[(x, y - 8), (x + 8, y), (x, y + 8), (x - 8, y)], colour),
    }
}
