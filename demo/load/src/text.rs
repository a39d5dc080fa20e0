//! Text as shapes.
//!
//! A server often has no fonts installed, and then both an SVG with text elements and a renderer that asks the
//! system come out without a single letter. The pictures bring their font (Noto Sans) as bytes: an SVG gets
//! outlines, a PNG gets pixels, and both look the same everywhere.

use std::fmt::Write as _;

use ab_glyph::{Font as _, FontRef, Outline, OutlineCurve, Point, PxScale, ScaleFont as _, point};

/// The two fonts.
#[derive(Debug)]
pub struct Fonts {
    regular: FontRef<'static>,
    bold: FontRef<'static>,
}

/// A line of text on a picture.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it says.
    pub text: String,
    /// Left end of the baseline, in pixels.
    pub at: (f32, f32),
    /// Height of the em, in pixels.
    pub size: f32,
    /// Heavy letters.
    pub bold: bool,
    /// Red, green, blue.
    pub color: (u8, u8, u8),
}

impl Fonts {
    /// Reads the embedded fonts.
    ///
    /// # Errors
    ///
    /// Never with the fonts of this crate.
    pub fn load() -> Result<Self, ab_glyph::InvalidFont> {
        Ok(Self {
            regular: FontRef::try_from_slice(notosans::REGULAR_TTF)?,
            bold: FontRef::try_from_slice(notosans::BOLD_TTF)?,
        })
    }

    /// The width of a text in pixels.
    pub fn width(&self, text: &str, size: f32, bold: bool) -> f32 {
        let font = self.font(bold).as_scaled(self.scale(size, bold));
        text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum()
    }

    /// The height of capital letters, which is what text is centred by.
    pub fn cap_height(size: f32) -> f32 {
        size * 0.714
    }

    /// Tells whether the font has every letter of `text`.
    pub fn covers(&self, text: &str) -> bool {
        text.chars().all(|c| self.regular.glyph_id(c).0 != 0 && self.bold.glyph_id(c).0 != 0)
    }

    /// The outline of a line as the `d` attribute of an SVG path.
    pub fn path(&self, line: &Line) -> String {
        let font = self.font(line.bold);
        let unit = line.size / font.units_per_em().unwrap_or(1000.0);
        let mut path = String::new();
        let mut x = line.at.0;
        for c in line.text.chars() {
            let id = font.glyph_id(c);
            if let Some(outline) = font.outline(id) {
                let place = |p: Point| (x + p.x * unit, line.at.1 - p.y * unit);
                append(&mut path, &outline, place);
            }
            x += font.h_advance_unscaled(id) * unit;
        }
        path
    }

    /// Paints a line; `blend` gets the position of each pixel and how much of it is covered.
    pub fn paint(&self, line: &Line, mut blend: impl FnMut(i32, i32, f32)) {
        let scale = self.scale(line.size, line.bold);
        let font = self.font(line.bold);
        let mut x = line.at.0;
        for c in line.text.chars() {
            let id = font.glyph_id(c);
            let glyph = id.with_scale_and_position(scale, point(x, line.at.1));
            if let Some(outlined) = font.outline_glyph(glyph) {
                let bounds = outlined.px_bounds();
                #[allow(clippy::cast_possible_truncation)] // whole pixels of a picture
                let (left, top) = (bounds.min.x as i32, bounds.min.y as i32);
                outlined.draw(|x, y, coverage| {
                    blend(left.saturating_add_unsigned(x), top.saturating_add_unsigned(y), coverage);
                });
            }
            x += font.as_scaled(scale).h_advance(id);
        }
    }

    fn font(&self, bold: bool) -> &FontRef<'static> {
        if bold { &self.bold } else { &self.regular }
    }

    /// ab_glyph scales by the font's height, everyone else by the em.
    fn scale(&self, size: f32, bold: bool) -> PxScale {
        let font = self.font(bold);
        PxScale::from(size * font.height_unscaled() / font.units_per_em().unwrap_or(1000.0))
    }
}

fn append(path: &mut String, outline: &Outline, place: impl Fn(Point) -> (f32, f32)) {
    let mut pen: Option<Point> = None;
    let mut go = |command: char, points: &[Point]| {
        path.push(command);
        for (index, p) in points.iter().enumerate() {
            let (x, y) = place(*p);
            // Writing to a String cannot fail.
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { "" } else { " " });
        }
    };
    for curve in &outline.curves {
        let (start, end) = match *curve {
            OutlineCurve::Line(start, end)
            | OutlineCurve::Quad(start, _, end)
            | OutlineCurve::Cubic(start, _, _, end) => (start, end),
        };
        if pen != Some(start) {
            if pen.is_some() {
                go('Z', &[]);
            }
            go('M', &[start]);
        }
        match *curve {
            OutlineCurve::Line(_, end) => go('L', &[end]),
            OutlineCurve::Quad(_, control, end) => go('Q', &[control, end]),
            OutlineCurve::Cubic(_, first, second, end) => go('C', &[first, second, end]),
        }
        pen = Some(end);
    }
    if pen.is_some() {
        go('Z', &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { text: text.into(), at: (10.0, 50.0), size: 40.0, bold: false, color: (0, 0, 0) }
    }

    #[test]
    fn both_renderings_have_the_same_extent() {
        let fonts = Fonts::load().unwrap();
        let line = line("Hjx");
        let (mut left, mut right, mut top, mut bottom) = (i32::MAX, 0, i32::MAX, 0);
        fonts.paint(&line, |x, y, coverage| {
            if coverage > 0.5 {
                (left, right) = (left.min(x), right.max(x));
                (top, bottom) = (top.min(y), bottom.max(y));
            }
        });
        let path = fonts.path(&line);
        let numbers: Vec<f32> = path
            .split(|c: char| !c.is_ascii_digit() && c != '.' && c != '-')
            .filter_map(|number| number.parse().ok())
            .collect();
        let xs = numbers.iter().step_by(2).copied();
        let ys = numbers.iter().skip(1).step_by(2).copied();
        let near = |a: f32, b: i32| (a - b as f32).abs() < 2.0;
        assert!(near(xs.clone().fold(f32::MAX, f32::min), left));
        assert!(near(xs.fold(0.0, f32::max), right));
        assert!(near(ys.clone().fold(f32::MAX, f32::min), top));
        assert!(near(ys.fold(0.0, f32::max), bottom));
        assert!(near(50.0 - Fonts::cap_height(40.0), top), "the H reaches the cap height");
        let width = fonts.width("Hjx", 40.0, false);
        assert!((10.0 + width) as i32 - right <= 3, "width {width}, right {right}");
    }

    #[test]
    fn the_font_has_what_the_pictures_say() {
        let fonts = Fonts::load().unwrap();
        assert!(fonts.covers("µs · p99.9 – 12,345/s ÄÖÜ éñ “quoted” …"));
        assert!(!fonts.covers("漢"));
    }
}
