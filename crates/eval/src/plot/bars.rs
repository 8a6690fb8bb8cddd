//! Bars of several series side by side, group by group.

use std::path::Path;

use super::axis::{Axis, drawable, range, written};
use super::canvas::{Canvas, Drawn, MARGIN, Plan, TITLE_HEIGHT, paint, title_width};
use super::palette::{GRID, INK, series as colour};
use super::text::{Align, Line, SMALL, TEXT, label, widest};
use crate::error::EvalError;

/// Width of a row of groups that is not exceeded while a row has more than one group, in pixels.
const ROW_WIDTH: i32 = 1_500;
/// Height of the bars of a row, in pixels.
const ROW_HEIGHT: i32 = 300;
/// Room for the upright number of a bar, in pixels.
const NUMBER: i32 = 52;
/// Widths of a bar and of the space between two groups, in pixels.
const BAR: i32 = 21;
const WIDEST_BAR: i32 = 56;
const GAP: i32 = 34;
/// Room for the numbers of the axis and its name, in pixels.
const AXIS_WIDTH: i32 = 68;
/// Height of a line of the legend, in pixels.
const LEGEND_LINE: i32 = 26;

/// Draws one group of bars per entry of `groups` and in it one bar per series, its value above it.
/// The axis starts at 0. A value that is not finite leaves a gap.
///
/// # Errors
/// [`EvalError::Plot`] if there is nothing to draw, if a series does not have one value per group, or
/// if there are more bars than a readable plot can hold; [`EvalError::Write`] if the file cannot be
/// written.
pub fn grouped_bars(
    path: &Path,
    title: &str,
    y_label: &str,
    groups: &[String],
    series: &[(String, Vec<f64>)],
) -> Result<(), EvalError> {
    paint(path, Bars::new(title, y_label, groups, series))
}

struct Bars<'a> {
    title: &'a str,
    y_label: &'a str,
    series: &'a [(String, Vec<f64>)],
    /// Lowest and highest of the axis.
    values: (f64, f64),
    width: i32,
    height: i32,
    /// Rows of groups, and how many groups all but the last have.
    rows: usize,
    per_row: usize,
    group_width: i32,
    bar: i32,
    groups: Vec<String>,
    /// Text, and where it stands relative to the legend's corner.
    legend: Vec<(String, (i32, i32))>,
    legend_height: i32,
    row_height: i32,
}

impl Plan for Bars<'_> {
    fn size(&self) -> (i32, i32) {
        (self.width, self.height)
    }

    fn draw(&self, canvas: &Canvas<'_>) -> Drawn {
        canvas.title(self.title)?;
        self.draw_legend(canvas)?;
        (0..self.rows).try_for_each(|row| self.draw_row(canvas, row))
    }
}

impl<'a> Bars<'a> {
    fn new(
        title: &'a str,
        y_label: &'a str,
        groups: &[String],
        series: &'a [(String, Vec<f64>)],
    ) -> Drawn<Bars<'a>> {
        if groups.is_empty() || series.is_empty() {
            return Err("there is nothing to draw".into());
        }
        if let Some((name, values)) = series.iter().find(|(_, v)| v.len() != groups.len()) {
            let (found, wanted) = (values.len(), groups.len());
            return Err(format!("{name} has {found} values for {wanted} groups").into());
        }
        let bars = i32::try_from(series.len())?;
        let groups: Vec<String> = groups.iter().map(|group| label(group)).collect();
        let label_width = widest(groups.iter().map(String::as_str), TEXT)? + 16;
        let least = (bars.saturating_mul(BAR).saturating_add(GAP)).max(label_width);
        let fit = usize::try_from(((ROW_WIDTH - AXIS_WIDTH) / least).max(1))?;
        let rows = groups.len().div_ceil(fit);
        let per_row = groups.len().div_ceil(rows);
        let columns = i32::try_from(per_row)?;
        // Few bars get wider, so that a small plot does not look lost.
        let roomy = ((900 / columns - GAP) / bars).clamp(BAR, WIDEST_BAR);
        let bar = if rows == 1 { roomy } else { BAR };
        let group_width = (bars.saturating_mul(bar).saturating_add(GAP)).max(label_width);
        let width = (2 * MARGIN + AXIS_WIDTH)
            .saturating_add(columns.saturating_mul(group_width))
            .max(title_width(title)?);
        let (legend, legend_height) = legend(series, width - 2 * MARGIN)?;
        let row_height = ROW_HEIGHT + NUMBER + 52;
        let rows_height = row_height.saturating_mul(i32::try_from(rows)?);
        let (low, high) = range(series.iter().flat_map(|(_, values)| values.iter().copied()));
        Ok(Bars {
            title,
            y_label,
            series,
            values: (low.min(0.0), high.max(0.0)),
            width,
            height: rows_height.saturating_add(TITLE_HEIGHT + legend_height + 2 * MARGIN),
            rows,
            per_row,
            group_width,
            bar,
            groups,
            legend,
            legend_height,
            row_height,
        })
    }

    fn draw_legend(&self, canvas: &Canvas<'_>) -> Drawn {
        for (index, (text, (x, y))) in self.legend.iter().enumerate() {
            let (x, y) = (MARGIN + x, TITLE_HEIGHT + MARGIN / 2 + y);
            canvas.filled((x, y + 4), (x + 16, y + 20), colour(index))?;
            canvas.text(text, (x + 23, y + 12), Align::Start, TEXT, INK)?;
        }
        Ok(())
    }

    fn draw_row(&self, canvas: &Canvas<'_>, row: usize) -> Drawn {
        let top = TITLE_HEIGHT
            + self.legend_height
            + MARGIN
            + self.row_height * i32::try_from(row)?
            + NUMBER;
        // Negative bars have their numbers below them.
        let below = if self.values.0 < 0.0 { NUMBER } else { 0 };
        let bottom = top + ROW_HEIGHT - below;
        let axis = Axis::new(self.values, bottom, top);
        let left = MARGIN + AXIS_WIDTH;
        let start = row * self.per_row;
        let shown = &self.groups[start..self.groups.len().min(start + self.per_row)];
        let right = left + self.group_width * i32::try_from(shown.len())?;
        for (y, text) in axis.ticks(7) {
            canvas.line(&[(left, y), (right, y)], GRID, 1)?;
            canvas.text(&text, (left - 8, y), Align::End, SMALL, INK)?;
        }
        canvas.upright(
            &label(self.y_label),
            (MARGIN + 10, (top + bottom) / 2),
            Align::Middle,
            TEXT,
        )?;
        for (column, group) in (0i32..).zip(shown) {
            let middle = left + self.group_width * column + self.group_width / 2;
            let bars = self.bar * i32::try_from(self.series.len())?;
            for (index, (_, of_groups)) in self.series.iter().enumerate() {
                let value = of_groups[start + usize::try_from(column)?];
                let x = middle - bars / 2 + self.bar * i32::try_from(index)?;
                if drawable(value) {
                    self.draw_bar(canvas, &axis, index, x, value)?;
                }
            }
            let at = (middle, bottom + below + 24);
            canvas.text(group, at, Align::Middle, TEXT, INK)?;
        }
        canvas.line(&[(left, axis.at(0.0)), (right, axis.at(0.0))], INK, 1)
    }

    fn draw_bar(
        &self,
        canvas: &Canvas<'_>,
        axis: &Axis,
        index: usize,
        x: i32,
        value: f64,
    ) -> Drawn {
        let (zero, end) = (axis.at(0.0), axis.at(value));
        canvas.filled(
            (x + 1, zero.min(end)),
            (x + self.bar - 2, zero.max(end)),
            colour(index),
        )?;
        let middle = x + self.bar / 2;
        let (at, h) = if value < 0.0 {
            (end + 5, Align::End)
        } else {
            (end - 5, Align::Start)
        };
        canvas.upright(&written(value), (middle, at), h, SMALL)
    }
}

type Legend = Vec<(String, (i32, i32))>;

/// Places the names of the series in lines of `room` pixels; with the height of all.
fn legend(series: &[(String, Vec<f64>)], room: i32) -> Drawn<(Legend, i32)> {
    let (mut x, mut y) = (0, 0);
    let mut placed = Vec::with_capacity(series.len());
    for (name, _) in series {
        let text = label(name);
        let wide = Line::new(&text, TEXT)?.width() + 23 + 22;
        if x > 0 && x + wide > room {
            (x, y) = (0, y + LEGEND_LINE);
        }
        placed.push((text, (x, y)));
        x += wide;
    }
    Ok((placed, y + LEGEND_LINE))
}
