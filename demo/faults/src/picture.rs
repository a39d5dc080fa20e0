//! Throughput over time, a panel for each fault, with the times marked at which it befell the cluster.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use strongroom_load::picture::Drawing;
use strongroom_load::summary::grouped;

use crate::results::{Outcome, Results};

const INK: RGBColor = RGBColor(0x1f, 0x29, 0x37);
const FAINT: RGBColor = RGBColor(0x6b, 0x72, 0x80);
const GRID: RGBColor = RGBColor(0xe5, 0xe7, 0xeb);
const RATE: RGBColor = RGBColor(0x0d, 0x94, 0x88);
const FAULT: RGBColor = RGBColor(0xea, 0x8a, 0x00);
const MENDING: RGBColor = RGBColor(0xf6, 0xc9, 0x80);
const FAILED: RGBColor = RGBColor(0xdc, 0x26, 0x26);

const WIDTH: u32 = 1200;
const MARGIN: i32 = 36;
const HEADLINE: i32 = 84;
const PANEL: i32 = 150;
const FOOT: i32 = 12;

type Area<B> = DrawingArea<B, Shift>;
type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// The picture of a run.
#[derive(Debug)]
pub struct Timeline<'a>(pub &'a Results);

/// Says in a sentence what the picture shows.
pub fn spoken(results: &Results) -> String {
    format!(
        "Handshakes a second while faults befall a cluster of three nodes, {} connections",
        results.connections
    )
}

impl Drawing for Timeline<'_> {
    fn size(&self) -> (u32, u32) {
        let panels = i32::try_from(self.0.outcomes.len()).unwrap_or(100);
        (WIDTH, (HEADLINE + panels * PANEL + FOOT).unsigned_abs())
    }

    fn spoken(&self) -> String {
        spoken(self.0)
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>, scale: u32) -> Result<(), String> {
        let pen = Pen { scale: scale.cast_signed() };
        pen.all(area, self.0).map_err(|error| error.to_string())
    }
}

struct Pen {
    scale: i32,
}

impl Pen {
    fn all<B: DrawingBackend>(&self, area: &Area<B>, results: &Results) -> Drawn<B> {
        area.fill(&WHITE)?;
        self.text(area, "Handshakes a second while faults befall the cluster", (MARGIN, 28), 25.0, INK)?;
        let below = "dark: while the fault lasts · light: until all nodes do all that they should · red: failed handshakes";
        self.text(area, below, (MARGIN, 58), 14.0, FAINT)?;
        let (_, mut rest) = area.split_vertically(self.px(HEADLINE));
        for outcome in &results.outcomes {
            let (panel, others) = rest.split_vertically(self.px(PANEL));
            self.panel(&panel, outcome)?;
            rest = others;
        }
        area.present()
    }

    fn panel<B: DrawingBackend>(&self, area: &Area<B>, outcome: &Outcome) -> Drawn<B> {
        let title = format!(
            "{}: {} times, {} handshakes, {} failed",
            outcome.fault.title().replace('`', ""),
            outcome.moments.len(),
            grouped(outcome.handshakes),
            grouped(outcome.failed)
        );
        self.text(area, &title, (MARGIN, 10), 15.0, INK)?;
        let highest = outcome.timeline.iter().map(|point| point.per_s).fold(1.0, f64::max) * 1.1;
        let length = outcome.seconds.max(1.0);
        let mut chart = ChartBuilder::on(area)
            .margin_left(self.px(MARGIN))
            .margin_right(self.px(MARGIN))
            .margin_top(self.px(24))
            .margin_bottom(self.px(6))
            .set_label_area_size(LabelAreaPosition::Left, self.px(52))
            .set_label_area_size(LabelAreaPosition::Bottom, self.px(24))
            .build_cartesian_2d(0.0..length, 0.0..highest)?;
        let bands = outcome.moments.iter().flat_map(|moment| {
            let band = |from, to, color: RGBColor| {
                Rectangle::new([(from, 0.0), (f64::min(to, length), highest)], color.mix(0.35).filled())
            };
            [band(moment.begin_s, moment.end_s, FAULT), band(moment.end_s, moment.whole_s, MENDING)]
        });
        chart.draw_series(bands)?;
        let label = self.style(12.0, FAINT);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(self.scale.unsigned_abs()))
            .axis_style(FAINT.stroke_width(self.scale.unsigned_abs()))
            .set_all_tick_mark_size(self.px(4))
            .label_style(label)
            .x_labels(12)
            .y_labels(4)
            .x_label_formatter(&|t: &f64| format!("{t:.0} s"))
            .y_label_formatter(&|rate: &f64| grouped(rate.max(0.0) as u64))
            .draw()?;
        let points: Vec<_> = outcome.timeline.iter().map(|point| (point.t_s, point.per_s)).collect();
        chart.draw_series(AreaSeries::new(points.iter().copied(), 0.0, RATE.mix(0.2)))?;
        chart.draw_series(LineSeries::new(points, RATE.stroke_width((3 * self.scale / 2).unsigned_abs())))?;
        let failed = outcome.timeline.iter().filter(|point| point.failed > 0);
        chart.draw_series(failed.map(|point| {
            let end = (point.t_s + (length / 300.0).max(0.5)).min(length);
            Rectangle::new([(point.t_s, 0.0), (end, highest)], FAILED.mix(0.8).filled())
        }))?;
        Ok(())
    }

    fn text<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        text: &str,
        at: (i32, i32),
        size: f64,
        color: RGBColor,
    ) -> Drawn<B> {
        let style = self.style(size, color).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw_text(text, &style, (self.px(at.0), self.px(at.1)))
    }

    fn style(&self, size: f64, color: RGBColor) -> TextStyle<'static> {
        FontDesc::new(FontFamily::SansSerif, size * f64::from(self.scale), FontStyle::Normal).color(&color)
    }

    fn px(&self, units: i32) -> i32 {
        units * self.scale
    }
}
