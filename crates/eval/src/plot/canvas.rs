//! A sheet of pixels with lines, boxes and text, saved as a PNG.

use std::io::Write;
use std::path::Path;

use plotters::backend::BitMapBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::style::{Color, RGBColor};

use super::palette::{INK, PAPER};
use super::png;
use super::text::{Align, Line, TITLE};
use crate::error::EvalError;

/// Free space at the edges, in pixels.
pub(super) const MARGIN: i32 = 20;
/// Height of the strip that holds the title, in pixels.
pub(super) const TITLE_HEIGHT: i32 = 44;
/// Longest side, in pixels: about 500 MB of pixels at most would be of no use to anyone.
const LONGEST: i32 = 8_000;

/// What drawing may report.
pub(super) type Drawn<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A sheet under the pen.
pub(super) struct Canvas<'a> {
    area: DrawingArea<BitMapBackend<'a>, Shift>,
}

/// A plot whose parts have their places.
pub(super) trait Plan {
    /// Width and height in pixels.
    fn size(&self) -> (i32, i32);
    /// Draws it on a sheet of this size.
    fn draw(&self, canvas: &Canvas<'_>) -> Drawn;
}

/// Draws a plan and writes it to `path`.
pub(super) fn paint(path: &Path, plan: Drawn<impl Plan>) -> Result<(), EvalError> {
    let failed = |source| EvalError::Plot {
        path: path.into(),
        source,
    };
    let plan = plan.map_err(failed)?;
    let (width, height) = plan.size();
    let side = |pixels: i32| u32::try_from(pixels).ok().filter(|_| pixels <= LONGEST);
    let (Some(width), Some(height)) = (side(width), side(height)) else {
        return Err(failed(
            format!("{width} x {height} pixels are too many; plot fewer rows or series").into(),
        ));
    };
    let mut pixels = vec![0u8; width as usize * height as usize * 3];
    fill(&mut pixels, (width, height), &plan).map_err(failed)?;
    let written = std::fs::File::create(path).and_then(|file| {
        let mut file = std::io::BufWriter::new(file);
        png::write(&mut file, width, height, &pixels)?;
        file.flush()
    });
    written.map_err(|source| EvalError::Write {
        path: path.into(),
        source,
    })
}

fn fill(pixels: &mut [u8], size: (u32, u32), plan: &impl Plan) -> Drawn {
    let backend = BitMapBackend::with_buffer(pixels, size);
    let canvas = Canvas {
        area: backend.into_drawing_area(),
    };
    canvas.area.fill(&PAPER)?;
    plan.draw(&canvas)?;
    Ok(canvas.area.present()?)
}

impl Canvas<'_> {
    /// The title of the plot, at the top left.
    pub(super) fn title(&self, text: &str) -> Drawn {
        self.text(text, (MARGIN, MARGIN + 4), Align::Start, TITLE, INK)
    }

    /// Level text, in its height centred on `at`.
    pub(super) fn text(
        &self,
        text: &str,
        (x, y): (i32, i32),
        align: Align,
        size: f32,
        colour: RGBColor,
    ) -> Drawn {
        Line::new(text, size)?.dots(align, |(dx, dy), covered| {
            let ink = colour.mix(f64::from(covered));
            Ok(self.area.draw_pixel((x + dx, y + dy), &ink)?)
        })
    }

    /// Text that reads upwards.
    pub(super) fn upright(&self, text: &str, (x, y): (i32, i32), align: Align, size: f32) -> Drawn {
        Line::new(text, size)?.dots(align, |(dx, dy), covered| {
            let ink = INK.mix(f64::from(covered));
            Ok(self.area.draw_pixel((x + dy, y - dx), &ink)?)
        })
    }

    /// A line through points.
    pub(super) fn line(&self, points: &[(i32, i32)], colour: RGBColor, width: u32) -> Drawn {
        let style = colour.stroke_width(width);
        Ok(self.area.draw(&PathElement::new(points.to_vec(), style))?)
    }

    /// A filled box between two corners.
    pub(super) fn filled(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Drawn {
        Ok(self
            .area
            .draw(&Rectangle::new([from, to], colour.filled()))?)
    }

    /// A filled disc.
    pub(super) fn disc(&self, at: (i32, i32), radius: i32, colour: RGBColor) -> Drawn {
        Ok(self.area.draw(&Circle::new(at, radius, colour.filled()))?)
    }

    /// A filled shape.
    pub(super) fn shape(&self, corners: &[(i32, i32)], colour: RGBColor) -> Drawn {
        Ok(self
            .area
            .draw(&Polygon::new(corners.to_vec(), colour.filled()))?)
    }
}

/// Width that a title asks for, margins included.
pub(super) fn title_width(text: &str) -> Drawn<i32> {
    Ok(Line::new(text, TITLE)?.width() + 2 * MARGIN)
}
