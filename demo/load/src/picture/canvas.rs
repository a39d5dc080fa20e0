//! A plotters backend that leaves shapes to another one and keeps text for [`crate::text`].

use std::cell::RefCell;
use std::rc::Rc;

use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontStyle,
};

use crate::text::{Fonts, Line};

type Drawn<B> = Result<(), DrawingErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Draws shapes with `B`, and collects lines of text.
pub struct Canvas<B> {
    shapes: B,
    fonts: Rc<Fonts>,
    lines: Rc<RefCell<Vec<Line>>>,
}

impl<B: DrawingBackend> Canvas<B> {
    /// Collects into `lines`.
    pub fn new(shapes: B, fonts: Rc<Fonts>, lines: Rc<RefCell<Vec<Line>>>) -> Self {
        Self { shapes, fonts, lines }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)] // pixels
impl<B: DrawingBackend> DrawingBackend for Canvas<B> {
    type ErrorType = B::ErrorType;

    /// Turned text is not needed, and not supported.
    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Drawn<B> {
        let size = style.size() as f32;
        let bold = matches!(style.style(), FontStyle::Bold);
        let width = self.fonts.width(text, size, bold);
        let x = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => width / 2.0,
            HPos::Right => width,
        };
        let cap = Fonts::cap_height(size);
        let y = match style.anchor().v_pos {
            VPos::Top => cap,
            VPos::Center => cap / 2.0,
            VPos::Bottom => 0.0,
        };
        self.lines.borrow_mut().push(Line {
            text: text.to_owned(),
            at: (at.0 as f32 - x, at.1 as f32 + y),
            size,
            bold,
            color: style.color().rgb,
        });
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Self::ErrorType>> {
        let size = style.size() as f32;
        let bold = matches!(style.style(), FontStyle::Bold);
        Ok((self.fonts.width(text, size, bold).ceil() as u32, Fonts::cap_height(size).ceil() as u32))
    }

    fn get_size(&self) -> (u32, u32) {
        self.shapes.get_size()
    }

    fn ensure_prepared(&mut self) -> Drawn<B> {
        self.shapes.ensure_prepared()
    }

    fn present(&mut self) -> Drawn<B> {
        self.shapes.present()
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn<B> {
        self.shapes.draw_pixel(point, color)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn<B> {
        self.shapes.draw_line(from, to, style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn<B> {
        self.shapes.draw_rect(from, to, style, fill)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn<B> {
        self.shapes.draw_path(path, style)
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn<B> {
        self.shapes.draw_circle(center, radius, style, fill)
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        corners: I,
        style: &S,
    ) -> Drawn<B> {
        self.shapes.fill_polygon(corners, style)
    }
}
