//! A sheet with a title, a legend, and panels in two columns.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use strongroom_load::picture::Drawing;

const INK: RGBColor = RGBColor(0x1f, 0x29, 0x37);
const FAINT: RGBColor = RGBColor(0x6b, 0x72, 0x80);
const GRID: RGBColor = RGBColor(0xe5, 0xe7, 0xeb);

const WIDTH: u32 = 1200;
const MARGIN: i32 = 36;
const HEADLINE: i32 = 84;
const LEGEND: i32 = 34;
const PANEL: i32 = 270;
const FOOT: i32 = 18;
/// Of a panel: above the axis, left of it, below it.
const ABOVE: i32 = 40;
const LEFT: i32 = 44;
const BELOW: i32 = 34;

type Area<B> = DrawingArea<B, Shift>;
type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// What has one colour in all panels.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its colour.
    pub color: RGBColor,
}

/// One diagram: bars side by side, from zero.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// A value to compare with, drawn as a line across.
    pub reference: Option<f64>,
    /// Names along the axis.
    pub categories: Vec<String>,
    /// For each series a value for each category.
    pub values: Vec<Vec<Option<f64>>>,
    /// How a value is written.
    pub format: fn(f64) -> String,
}

/// A whole picture.
#[derive(Debug, Clone)]
pub struct Sheet {
    /// Its headline.
    pub title: String,
    /// What stands below that.
    pub below: String,
    /// The legend.
    pub series: Vec<Series>,
    /// The diagrams, two in a row.
    pub panels: Vec<Panel>,
}

impl Drawing for Sheet {
    fn size(&self) -> (u32, u32) {
        let rows = i32::try_from(self.rows()).unwrap_or(i32::MAX / PANEL);
        (WIDTH, (self.headline() + rows * PANEL + FOOT).unsigned_abs())
    }

    fn spoken(&self) -> String {
        let panels: Vec<&str> = self.panels.iter().map(|panel| panel.title.as_str()).collect();
        format!("{} ({}). {}", self.title, self.below, panels.join("; "))
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>, scale: u32) -> Result<(), String> {
        Pen { scale: scale.cast_signed() }.sheet(area, self).map_err(|error| error.to_string())
    }
}

impl Sheet {
    fn has_legend(&self) -> bool {
        self.series.len() > 1
    }

    fn headline(&self) -> i32 {
        if self.has_legend() { HEADLINE + LEGEND } else { HEADLINE }
    }

    fn columns(&self) -> usize {
        self.panels.len().clamp(1, 2)
    }

    fn rows(&self) -> usize {
        self.panels.len().div_ceil(self.columns())
    }
}

/// Draws in units of `scale` pixels.
struct Pen {
    scale: i32,
}

impl Pen {
    fn sheet<B: DrawingBackend>(&self, area: &Area<B>, sheet: &Sheet) -> Drawn<B> {
        area.fill(&WHITE)?;
        self.text(area, &sheet.title, (MARGIN, 32), (HPos::Left, 25.0), INK, true)?;
        self.text(area, &sheet.below, (MARGIN, 62), (HPos::Left, 14.0), FAINT, false)?;
        if sheet.has_legend() {
            self.legend(area, &sheet.series)?;
        }
        let columns = i32::try_from(sheet.columns()).unwrap_or(1);
        let width = (WIDTH.cast_signed() - MARGIN) / columns;
        for (number, panel) in (0..).zip(&sheet.panels) {
            let at = (MARGIN / 2 + number % columns * width, sheet.headline() + number / columns * PANEL);
            self.panel(area, sheet, panel, at, width - MARGIN / 2)?;
        }
        area.present()
    }

    fn legend<B: DrawingBackend>(&self, area: &Area<B>, series: &[Series]) -> Drawn<B> {
        let mut x = MARGIN;
        for one in series {
            self.rectangle(area, (x, 83), (x + 18, 95), one.color)?;
            self.text(area, &one.name, (x + 25, 89), (HPos::Left, 14.0), INK, false)?;
            let (width, _) = area.estimate_text_size(&one.name, &self.style(14.0, INK, false))?;
            x += 25 + i32::try_from(width).unwrap_or(0) / self.scale + 26;
        }
        Ok(())
    }

    fn panel<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        sheet: &Sheet,
        panel: &Panel,
        (left, top): (i32, i32),
        width: i32,
    ) -> Drawn<B> {
        self.text(area, &panel.title, (left + MARGIN / 2, top + 14), (HPos::Left, 15.0), INK, true)?;
        let plot = Plot {
            left: left + LEFT,
            right: left + width,
            top: top + ABOVE,
            bottom: top + PANEL - BELOW,
            highest: panel.highest(),
        };
        for tick in plot.ticks() {
            let y = plot.y(tick);
            self.line(area, (plot.left, y), (plot.right, y), GRID, 1)?;
            self.text(area, &tick_label(tick), (plot.left - 6, y), (HPos::Right, 12.0), FAINT, false)?;
        }
        if let Some(reference) = panel.reference {
            let y = plot.y(reference);
            self.line(area, (plot.left, y), (plot.right, y), INK, 1)?;
        }
        let groups = i32::try_from(panel.categories.len().max(1)).unwrap_or(1);
        let group = (plot.right - plot.left) / groups;
        let bars = i32::try_from(panel.values.len().max(1)).unwrap_or(1);
        let bar = ((group - 14) / bars).clamp(2, 64);
        for (number, category) in (0..).zip(&panel.categories) {
            let middle = plot.left + number * group + group / 2;
            self.text(area, category, (middle, plot.bottom + 14), (HPos::Center, 13.0), INK, false)?;
            for (place, (values, series)) in (0..).zip(panel.values.iter().zip(&sheet.series)) {
                let value = usize::try_from(number).ok().and_then(|at| values.get(at).copied().flatten());
                let Some(value) = value else { continue };
                let from = middle - bars * bar / 2 + place * bar;
                self.rectangle(area, (from + 1, plot.y(value)), (from + bar - 1, plot.bottom), series.color)?;
                let (label, above) = ((panel.format)(value), (from + bar / 2, plot.y(value) - 7));
                let (wide, _) = area.estimate_text_size(&label, &self.style(10.5, INK, false))?;
                let half = i32::try_from(wide).unwrap_or(0) / self.scale / 2 + 1;
                // The number stands before the lines that cross it.
                self.rectangle(area, (above.0 - half, above.1 - 5), (above.0 + half, above.1 + 5), WHITE)?;
                self.text(area, &label, above, (HPos::Center, 10.5), INK, false)?;
            }
        }
        self.line(area, (plot.left, plot.bottom), (plot.right, plot.bottom), FAINT, 1)
    }

    fn line<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        from: (i32, i32),
        to: (i32, i32),
        color: RGBColor,
        width: i32,
    ) -> Drawn<B> {
        let style = color.stroke_width((width * self.scale).unsigned_abs());
        area.draw(&PathElement::new(vec![self.px(from), self.px(to)], style))
    }

    fn rectangle<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        from: (i32, i32),
        to: (i32, i32),
        color: RGBColor,
    ) -> Drawn<B> {
        area.draw(&Rectangle::new([self.px(from), self.px(to)], color.filled()))
    }

    fn text<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        text: &str,
        at: (i32, i32),
        (anchor, size): (HPos, f64),
        color: RGBColor,
        bold: bool,
    ) -> Drawn<B> {
        let style = self.style(size, color, bold).pos(Pos::new(anchor, VPos::Center));
        area.draw_text(text, &style, self.px(at))
    }

    fn style(&self, size: f64, color: RGBColor, bold: bool) -> TextStyle<'static> {
        let weight = if bold { FontStyle::Bold } else { FontStyle::Normal };
        FontDesc::new(FontFamily::SansSerif, size * f64::from(self.scale), weight).color(&color)
    }

    fn px(&self, at: (i32, i32)) -> (i32, i32) {
        (at.0 * self.scale, at.1 * self.scale)
    }
}

impl Panel {
    fn highest(&self) -> f64 {
        let values = self.values.iter().flatten().copied().flatten();
        values.chain(self.reference).filter(|value| value.is_finite()).fold(0.0, f64::max).max(1e-9)
    }
}

/// Where a panel's values lie.
struct Plot {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    highest: f64,
}

impl Plot {
    #[allow(clippy::cast_possible_truncation)] // units of a sheet
    fn y(&self, value: f64) -> i32 {
        // Room for the number above the highest bar.
        let part = value / (self.highest * 1.1);
        self.bottom - (f64::from(self.bottom - self.top) * part).round() as i32
    }

    /// Round values from zero to the highest.
    fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        let rough = self.highest / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(power * 10.0);
        let highest = self.highest * 1.05;
        (0..12).map(move |number| f64::from(number) * step).take_while(move |tick| *tick <= highest)
    }
}

fn tick_label(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{}k", value / 1000.0),
        value => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strongroom_load::picture::{png, svg};

    fn sheet(values: Vec<Vec<Option<f64>>>) -> Sheet {
        let panel = Panel {
            title: "a panel".into(),
            reference: Some(1.0),
            categories: vec!["one".into(), "two".into()],
            values,
            format: |value| format!("{value:.2}"),
        };
        Sheet {
            title: "a < b".into(),
            below: "today".into(),
            series: vec![
                Series { name: "here".into(), color: INK },
                Series { name: "there".into(), color: FAINT },
            ],
            panels: vec![panel.clone(), panel.clone(), panel],
        }
    }

    #[test]
    fn a_sheet_is_drawn_in_both_formats() {
        let sheet = sheet(vec![vec![Some(0.7), Some(2.0)], vec![None, Some(1.1)]]);
        assert_eq!(sheet.size(), (1200, 84 + 34 + 2 * 270 + 18));
        let document = svg(&sheet).unwrap();
        assert!(
            document.contains("<title>a &lt; b (today). a panel; a panel; a panel"),
            "{}",
            &document[..300]
        );
        assert!(png(&sheet).unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn nothing_measured_can_be_drawn() {
        svg(&sheet(vec![])).unwrap();
        svg(&sheet(vec![vec![None, None], vec![Some(0.0), Some(f64::NAN)]])).unwrap();
    }

    #[test]
    fn ticks_are_round() {
        let plot = Plot { left: 0, right: 1, top: 0, bottom: 100, highest: 2.4 };
        assert_eq!(plot.ticks().collect::<Vec<_>>(), [0.0, 1.0, 2.0]);
        let plot = Plot { highest: 81_000.0, ..plot };
        assert_eq!(plot.ticks().last(), Some(75_000.0));
    }
}
