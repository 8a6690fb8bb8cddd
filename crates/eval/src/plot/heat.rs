//! A table whose cells are coloured by their numbers.

use std::path::Path;

use plotters::style::RGBColor;

use super::axis::{drawable, range, signed, written};
use super::canvas::{Canvas, Drawn, MARGIN, Plan, TITLE_HEIGHT, paint, title_width};
use super::palette::{GREY, INK, diverging, sequential, text_on};
use super::text::{Align, SMALL, TEXT, label, widest};
use crate::error::EvalError;

/// Height of a cell, in pixels.
const CELL_HEIGHT: i32 = 36;
/// Least width of a cell, in pixels.
const CELL_WIDTH: i32 = 72;
/// Longest column label that stands level; longer ones stand upright.
const LEVEL_LABEL: i32 = 120;
/// Height of the colour scale and its numbers, in pixels.
const SCALE_HEIGHT: i32 = 64;
/// Width of the colour scale, in pixels.
const SCALE_WIDTH: i32 = 260;

/// Draws one cell per row and column with its number in it; `None`, or a number that is not finite,
/// leaves a blank. With `diverging` the colours run from orange over white at 0 to blue, with equal
/// weight on both sides; else from pale to dark blue over the range of the numbers.
///
/// # Errors
/// [`EvalError::Plot`] if there is nothing to draw, if `values` does not have one row per entry of
/// `rows` and in it one number per entry of `columns`, or if there are more cells than a readable plot
/// can hold; [`EvalError::Write`] if the file cannot be written.
pub fn heat_map(
    path: &Path,
    title: &str,
    rows: &[String],
    columns: &[String],
    values: &[Vec<Option<f64>>],
    diverging: bool,
) -> Result<(), EvalError> {
    paint(path, Heat::new(title, rows, columns, values, diverging))
}

struct Heat<'a> {
    title: &'a str,
    rows: Vec<String>,
    columns: Vec<String>,
    values: &'a [Vec<Option<f64>>],
    diverging: bool,
    /// The numbers at the ends of the colour scale.
    scale: (f64, f64),
    width: i32,
    height: i32,
    cell_width: i32,
    /// Whether the column labels stand upright.
    upright: bool,
    /// Corner of the first cell.
    left: i32,
    top: i32,
}

impl<'a> Heat<'a> {
    fn new(
        title: &'a str,
        rows: &[String],
        columns: &[String],
        values: &'a [Vec<Option<f64>>],
        diverging: bool,
    ) -> Drawn<Heat<'a>> {
        if rows.is_empty() || columns.is_empty() {
            return Err("there is nothing to draw".into());
        }
        let (n, m) = (rows.len(), columns.len());
        if values.len() != n || values.iter().any(|row| row.len() != m) {
            return Err(format!("the values are not {n} rows of {m} each").into());
        }
        let rows: Vec<String> = rows.iter().map(|row| label(row)).collect();
        let columns: Vec<String> = columns.iter().map(|column| label(column)).collect();
        let label_width = widest(columns.iter().map(String::as_str), TEXT)?;
        let upright = label_width + 12 > LEVEL_LABEL;
        let cell_width = if upright {
            CELL_WIDTH
        } else {
            CELL_WIDTH.max(label_width + 12)
        };
        let left = MARGIN + widest(rows.iter().map(String::as_str), TEXT)? + 14;
        let top = TITLE_HEIGHT + MARGIN + if upright { label_width + 10 } else { 30 };
        let (low, high) = range(values.iter().flatten().filter_map(|value| *value));
        let far = low.abs().max(high.abs());
        let cells = (cell_width.saturating_mul(i32::try_from(m)?)).max(SCALE_WIDTH + 80);
        Ok(Heat {
            title,
            values,
            diverging,
            scale: if diverging { (-far, far) } else { (low, high) },
            width: left
                .saturating_add(cells)
                .saturating_add(MARGIN)
                .max(title_width(title)?),
            height: CELL_HEIGHT
                .saturating_mul(i32::try_from(n)?)
                .saturating_add(top + SCALE_HEIGHT + MARGIN),
            cell_width,
            upright,
            left,
            top,
            rows,
            columns,
        })
    }

    fn colour(&self, value: f64) -> RGBColor {
        let (low, high) = self.scale;
        let share = if high > low {
            (value - low) / (high - low)
        } else {
            0.5
        };
        if self.diverging {
            diverging(share * 2.0 - 1.0)
        } else {
            sequential(share)
        }
    }

    fn number(&self, value: f64) -> String {
        if self.diverging {
            signed(value)
        } else {
            written(value)
        }
    }

    fn draw_labels(&self, canvas: &Canvas<'_>) -> Drawn {
        for (index, name) in (0i32..).zip(&self.columns) {
            let x = self.left + self.cell_width * index + self.cell_width / 2;
            if self.upright {
                canvas.upright(name, (x, self.top - 8), Align::Start, TEXT)?;
            } else {
                canvas.text(name, (x, self.top - 16), Align::Middle, TEXT, INK)?;
            }
        }
        for (index, name) in (0i32..).zip(&self.rows) {
            let y = self.top + CELL_HEIGHT * index + CELL_HEIGHT / 2;
            canvas.text(name, (self.left - 10, y), Align::End, TEXT, INK)?;
        }
        Ok(())
    }

    fn draw_cell(&self, canvas: &Canvas<'_>, row: i32, column: i32, value: f64) -> Drawn {
        let ground = self.colour(value);
        let (x, y) = (
            self.left + self.cell_width * column,
            self.top + CELL_HEIGHT * row,
        );
        let to = (x + self.cell_width - 2, y + CELL_HEIGHT - 2);
        canvas.filled((x, y), to, ground)?;
        let middle = (x + self.cell_width / 2, y + CELL_HEIGHT / 2);
        canvas.text(
            &self.number(value),
            middle,
            Align::Middle,
            SMALL,
            text_on(ground),
        )
    }

    fn draw_scale(&self, canvas: &Canvas<'_>) -> Drawn {
        let y = self.height - MARGIN - SCALE_HEIGHT + 26;
        let (low, high) = self.scale;
        for x in 0..SCALE_WIDTH {
            let share = f64::from(x) / f64::from(SCALE_WIDTH - 1);
            let colour = self.colour(low + share * (high - low));
            canvas.line(&[(self.left + x, y), (self.left + x, y + 14)], colour, 1)?;
        }
        let ends = [
            (0, low),
            (SCALE_WIDTH / 2, (low + high) / 2.0),
            (SCALE_WIDTH, high),
        ];
        for (x, value) in ends {
            let x = self.left + x;
            canvas.line(&[(x, y + 14), (x, y + 19)], GREY, 1)?;
            canvas.text(&self.number(value), (x, y + 30), Align::Middle, SMALL, INK)?;
        }
        Ok(())
    }
}

impl Plan for Heat<'_> {
    fn size(&self) -> (i32, i32) {
        (self.width, self.height)
    }

    fn draw(&self, canvas: &Canvas<'_>) -> Drawn {
        canvas.title(self.title)?;
        self.draw_labels(canvas)?;
        for (row, values) in (0i32..).zip(self.values) {
            for (column, value) in (0i32..).zip(values) {
                if let Some(value) = value.filter(|value| drawable(*value)) {
                    self.draw_cell(canvas, row, column, value)?;
                }
            }
        }
        self.draw_scale(canvas)
    }
}
