//! Draws pictures as SVG and PNG. A report's has latency over time above, throughput and errors below.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea as _};
use plotters_backend::DrawingBackend;

use crate::report::Report;
use crate::text::{Fonts, Line};

mod canvas;
mod panels;

use canvas::Canvas;

/// Width and height of a report's picture, in the units that sizes are given in.
const SIZE: (u32, u32) = (1200, 720);
/// plotters places things at whole pixels. The SVG is drawn larger, and shown at its size.
const SVG_SCALE: u32 = 4;
/// Pixels of the PNG for one unit, as halves: 3 are one and a half.
const PNG_SCALE: u32 = 2;
/// The PNG is drawn larger by this much and then averaged, which smooths slanted lines.
const OVERSAMPLING: u32 = 2;

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Shapes.
    Svg,
    /// Pixels.
    Png,
}

/// Why a picture could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The name ends neither in .svg nor in .png.
    #[error("a picture's name must end in .svg or .png")]
    Format,
    /// plotters failed.
    #[error("cannot draw: {0}")]
    Draw(String),
    /// The PNG cannot be encoded.
    #[error("cannot encode: {0}")]
    Encode(#[from] png::EncodingError),
    /// The file cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
}

impl Format {
    /// The format that a file's name asks for.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?;
        if extension.eq_ignore_ascii_case("svg") {
            Some(Self::Svg)
        } else if extension.eq_ignore_ascii_case("png") {
            Some(Self::Png)
        } else {
            None
        }
    }
}

/// Something that can be drawn, with the size of the sheet.
pub trait Drawing {
    /// Width and height, in the units of all sizes.
    fn size(&self) -> (u32, u32);

    /// Says in a sentence what the picture shows.
    fn spoken(&self) -> String;

    /// Draws everything. `scale` is the number of pixels in a unit.
    ///
    /// # Errors
    ///
    /// plotters' words.
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: u32) -> Result<(), String>;
}

impl Drawing for Report {
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn spoken(&self) -> String {
        panels::spoken(self)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: u32) -> Result<(), String> {
        panels::draw(area, self, scale)
    }
}

/// Draws into a file whose name tells the format.
///
/// # Errors
///
/// If the name does not tell, or the file cannot be written.
pub fn save(drawing: &impl Drawing, path: &Path) -> Result<(), PictureError> {
    let bytes = match Format::of(path).ok_or(PictureError::Format)? {
        Format::Svg => svg(drawing)?.into_bytes(),
        Format::Png => png(drawing)?,
    };
    Ok(std::fs::write(path, bytes)?)
}

/// Draws as an SVG document without text elements: it needs no font.
///
/// # Errors
///
/// If plotters fails.
pub fn svg(drawing: &impl Drawing) -> Result<String, PictureError> {
    let size = drawing.size();
    let fonts = Rc::new(fonts()?);
    let lines = Rc::new(RefCell::new(Vec::new()));
    let mut document = String::new();
    let (width, height) = (size.0 * SVG_SCALE, size.1 * SVG_SCALE);
    {
        let backend = SVGBackend::with_string(&mut document, (width, height));
        let canvas = Canvas::new(backend, Rc::clone(&fonts), Rc::clone(&lines));
        drawing.draw(&canvas.into_drawing_area(), SVG_SCALE).map_err(PictureError::Draw)?;
    }
    let mut text = String::new();
    for line in lines.borrow().iter() {
        let (r, g, b) = line.color;
        text.push_str(&format!("<path fill=\"#{r:02x}{g:02x}{b:02x}\" d=\"{}\"/>\n", fonts.path(line)));
    }
    text.push_str("</svg>");
    // The letters lie on top of everything, and what they say is there to be found.
    let spoken = escaped(&drawing.spoken());
    Ok(document
        .replacen(
            &format!("width=\"{width}\" height=\"{height}\""),
            &format!("width=\"{}\" height=\"{}\"", size.0, size.1),
            1,
        )
        .replacen(">\n", &format!(" role=\"img\">\n<title>{spoken}</title>\n"), 1)
        .replace("</svg>", &text))
}

/// Draws as a PNG file.
///
/// # Errors
///
/// If plotters or the encoder fails.
pub fn png(drawing: &impl Drawing) -> Result<Vec<u8>, PictureError> {
    let size = drawing.size();
    let fonts = Rc::new(fonts()?);
    let lines = Rc::new(RefCell::new(Vec::new()));
    let scale = PNG_SCALE * OVERSAMPLING;
    let large = (size.0 * scale, size.1 * scale);
    let mut pixels = vec![0xff; 3 * large.0 as usize * large.1 as usize];
    {
        let backend = BitMapBackend::with_buffer(&mut pixels, large);
        let canvas = Canvas::new(backend, Rc::clone(&fonts), Rc::clone(&lines));
        drawing.draw(&canvas.into_drawing_area(), scale).map_err(PictureError::Draw)?;
    }
    let (width, height) = (size.0 * PNG_SCALE, size.1 * PNG_SCALE);
    let mut pixels = averaged(&pixels, width as usize, height as usize, OVERSAMPLING as usize);
    for line in lines.borrow().iter() {
        #[allow(clippy::cast_precision_loss)] // 2
        let by = OVERSAMPLING as f32;
        let line = Line { at: (line.at.0 / by, line.at.1 / by), size: line.size / by, ..line.clone() };
        let ink = [line.color.0, line.color.1, line.color.2];
        fonts.paint(&line, |x, y, coverage| blend(&mut pixels, width, x, y, ink, coverage));
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(file)
}

fn fonts() -> Result<Fonts, PictureError> {
    Fonts::load().map_err(|error| PictureError::Draw(error.to_string()))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Shrinks a picture of `by` times `width` and `height`: each pixel is the mean of the square that it was.
fn averaged(pixels: &[u8], width: usize, height: usize, by: usize) -> Vec<u8> {
    let mut small = Vec::with_capacity(3 * width * height);
    let mut sums = vec![0_u32; 3 * width];
    for rows in pixels.chunks_exact(3 * width * by * by) {
        sums.fill(0);
        for row in rows.chunks_exact(3 * width * by) {
            for (sum, square) in sums.chunks_exact_mut(3).zip(row.chunks_exact(3 * by)) {
                for pixel in square.chunks_exact(3) {
                    for (sum, channel) in sum.iter_mut().zip(pixel) {
                        *sum += u32::from(*channel);
                    }
                }
            }
        }
        let squares = u32::try_from(by * by).unwrap_or(1);
        small.extend(sums.iter().map(|sum| u8::try_from(sum / squares).unwrap_or(u8::MAX)));
    }
    small
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a mean of two bytes
fn blend(pixels: &mut [u8], width: u32, x: i32, y: i32, ink: [u8; 3], coverage: f32) {
    let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
    let width = width as usize;
    if x >= width {
        return;
    }
    let start = 3 * (y * width + x);
    let Some(pixel) = pixels.get_mut(start..start + 3) else { return };
    for (channel, ink) in pixel.iter_mut().zip(ink) {
        let (under, over) = (f32::from(*channel), f32::from(ink));
        *channel = (under + (over - under) * coverage.clamp(0.0, 1.0)).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Latency, Slice};

    fn report(label: &str, slices: usize) -> Report {
        let slice = |n: usize| Slice {
            t_s: n as f64 * 0.125,
            ok: if n % 7 == 3 { 0 } else { 500 },
            errors: if n % 7 == 3 { 20 } else { 0 },
            rate_per_s: if n % 7 == 3 { 0.0 } else { 4000.0 },
            p50_us: (n % 7 != 3).then_some(900 + n as u64),
            p99_us: (n % 7 != 3).then_some(2000 + 10 * n as u64),
            max_us: (n % 7 != 3).then_some(30_000),
        };
        Report {
            label: label.into(),
            target: "localhost:8443".into(),
            tls: "1.3".into(),
            concurrency: 64,
            duration_s: slices as f64 * 0.125,
            interval_s: 0.125,
            handshakes: 500 * slices as u64,
            rate_per_s: 4000.0,
            latency_us: (slices > 0).then(Latency::default),
            timeline: (0..slices).map(slice).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn svg_needs_no_font_and_escapes_the_label() {
        let document = svg(&report("a < b & c", 40)).unwrap();
        assert!(!document.contains("<text") && !document.contains("font-family"));
        assert!(document.contains("<title>a &lt; b &amp; c"));
        assert_eq!(document.matches("</svg>").count(), 1);
        assert!(document.contains("width=\"1200\" height=\"720\""), "{}", &document[..200]);
        assert!(document.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn a_label_changes_the_png() {
        let (one, other) = (png(&report("one", 8)).unwrap(), png(&report("other", 8)).unwrap());
        assert!(one.starts_with(b"\x89PNG"));
        assert_ne!(one, other);
    }

    #[test]
    fn runs_without_success_or_length_can_be_drawn() {
        for slices in [0, 1, 2] {
            svg(&report("", slices)).unwrap();
        }
        let mut failed = report("all failed", 5);
        failed.latency_us = None;
        failed.handshakes = 0;
        for slice in &mut failed.timeline {
            *slice = Slice { t_s: slice.t_s, errors: 3, ..Slice::default() };
        }
        svg(&failed).unwrap();
        png(&failed).unwrap();
    }

    #[test]
    fn averaging_keeps_the_mean() {
        // Two by one pixels, each the mean of a two by two square.
        let large = [0, 10, 20, 4, 10, 20, 255, 0, 0, 255, 0, 0, 0, 10, 20, 4, 10, 20, 255, 0, 0, 255, 0, 0];
        assert_eq!(averaged(&large, 2, 1, 2), [2, 10, 20, 255, 0, 0]);
    }

    #[test]
    fn names_tell_the_format() {
        assert_eq!(Format::of(Path::new("a.SVG")), Some(Format::Svg));
        assert_eq!(Format::of(Path::new("a/b.png")), Some(Format::Png));
        assert_eq!(Format::of(Path::new("png")), None);
    }
}
