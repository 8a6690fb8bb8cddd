//! Plots for reports: plain numbers in, PNG files out.
//!
//! Sizes follow from what is drawn, so that labels never overlap; colours suit every kind of colour
//! vision; the font is compiled in. What has no finite number stays blank.

mod axis;
mod bars;
mod canvas;
mod curve;
mod forest;
mod heat;
mod palette;
mod png;
#[cfg(test)]
mod tests;
mod text;

pub use bars::grouped_bars;
pub use curve::curve;
pub use forest::forest;
pub use heat::heat_map;
