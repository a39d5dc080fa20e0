//! What is on the picture: headline, two panels, legends.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Report, Slice};
use crate::summary;

const INK: RGBColor = RGBColor(0x1f, 0x29, 0x37);
const FAINT: RGBColor = RGBColor(0x6b, 0x72, 0x80);
const GRID: RGBColor = RGBColor(0xe5, 0xe7, 0xeb);
const MEDIAN: RGBColor = RGBColor(0x25, 0x63, 0xeb);
const P99: RGBColor = RGBColor(0xea, 0x8a, 0x00);
const MAX: RGBColor = RGBColor(0xc4, 0xb5, 0xa3);
const RATE: RGBColor = RGBColor(0x0d, 0x94, 0x88);
const ERRORS: RGBColor = RGBColor(0xdc, 0x26, 0x26);

const MARGIN: i32 = 36;
const AXIS_WIDTH: u32 = 64;
const HEADLINE: i32 = 110;
const LATENCY_HEIGHT: i32 = 308;
const PANEL_TITLE: i32 = 30;

/// Latencies that span more than this are drawn on a logarithmic axis.
const WIDE_SPAN: f64 = 12.0;
/// The last slice is left out when less of it than this was measured: its rate means little.
const SHORTEST_SLICE: f64 = 0.3;

type Area<B> = DrawingArea<B, Shift>;

/// What a series shows of a slice, in microseconds.
type Value = fn(&Slice) -> Option<u64>;

/// One series: its name in the legend and its colour.
type Key = (&'static str, RGBColor);

/// Draws everything. `scale` is the number of pixels in a unit.
pub fn draw<B: DrawingBackend>(area: &Area<B>, report: &Report, scale: u32) -> Result<(), String> {
    let sheet = Sheet { scale, report, slices: shown(report) };
    sheet.draw(area).map_err(|error| error.to_string())
}

/// Says in a sentence what the picture shows.
pub fn spoken(report: &Report) -> String {
    format!("{}: {}. {}", title(report), summary::load(report), figures(report))
}

fn title(report: &Report) -> &str {
    if report.label.is_empty() { &report.target } else { &report.label }
}

fn figures(report: &Report) -> String {
    let mut figures = format!(
        "{} handshakes in {:.1} s ({}/s)",
        summary::grouped(report.handshakes),
        report.duration_s,
        summary::rate(report.rate_per_s)
    );
    if let Some(latency) = &report.latency_us {
        for (name, value) in
            [("p50", latency.p50), ("p99", latency.p99), ("p99.9", latency.p999), ("max", latency.max)]
        {
            figures.push_str(&format!(" · {name} {}", summary::latency(value)));
        }
    }
    let gap = whole(report.longest_gap_ms * 1e3);
    figures.push_str(&format!(" · longest gap {}", summary::latency(gap)));
    match report.error_count() {
        0 => figures.push_str(" · no errors"),
        n => figures.push_str(&format!(" · {} errors", summary::grouped(n))),
    }
    figures
}

fn shown(report: &Report) -> &[Slice] {
    match report.timeline.split_last() {
        Some((last, others))
            if !others.is_empty() && report.duration_s - last.t_s < SHORTEST_SLICE * report.interval_s =>
        {
            others
        }
        _ => &report.timeline,
    }
}

struct Sheet<'a> {
    scale: u32,
    report: &'a Report,
    slices: &'a [Slice],
}

type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

impl Sheet<'_> {
    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B> {
        area.fill(&WHITE)?;
        let (_, rest) = area.split_vertically(self.px(HEADLINE));
        let (latency, throughput) = rest.split_vertically(self.px(LATENCY_HEIGHT));
        self.text(area, title(self.report), (MARGIN, 30), 27.0, INK, true)?;
        let load = if self.report.label.is_empty() {
            summary::load(self.report)
        } else {
            format!("{} · {}", self.report.target, summary::load(self.report))
        };
        self.text(area, &load, (MARGIN, 63), 15.0, FAINT, false)?;
        self.text(area, &figures(self.report), (MARGIN, 86), 15.0, FAINT, false)?;

        let keys = [("p50", MEDIAN), ("p99", P99), ("max", MAX)];
        self.header(&latency, "Latency until the handshake is done", &keys)?;
        self.latency(&latency.margin(self.px(PANEL_TITLE), 0, 0, 0))?;
        let keys = [("handshakes/s", RATE), ("errors/s", ERRORS)];
        self.header(&throughput, "Throughput", &keys)?;
        self.throughput(&throughput.margin(self.px(PANEL_TITLE), 0, 0, 0))?;
        area.present()
    }

    fn latency<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B> {
        let medians = self.slices.iter().filter_map(|slice| slice.p50_us);
        let highest = self.slices.iter().filter_map(|slice| slice.max_us).max().map_or(1.0, millis);
        let lowest = medians.min().map_or(0.1, millis).max(0.001);
        if highest / lowest > WIDE_SPAN {
            // From a round value below to just above the highest.
            let from = round_below(lowest * 0.9);
            self.latency_on(area, (from..highest * 1.5).log_scale(), from)
        } else {
            self.latency_on(area, 0.0..highest * 1.1, 0.0)
        }
    }

    fn latency_on<B, Y>(&self, area: &Area<B>, axis: Y, floor: f64) -> Drawn<B>
    where
        B: DrawingBackend,
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .margin_left(self.px(MARGIN))
            .margin_right(self.px(MARGIN))
            .set_label_area_size(LabelAreaPosition::Left, self.px(AXIS_WIDTH.cast_signed()))
            .set_label_area_size(LabelAreaPosition::Bottom, self.px(12))
            .build_cartesian_2d(0.0..self.length(), axis)?;
        self.mesh(&mut chart, false, &|ms| {
            if *ms <= 0.0 { "0".into() } else { summary::tick(whole(ms * 1e3)) }
        })?;
        let series: [(Value, RGBColor, u32); 3] = [
            (|slice| slice.max_us, MAX, 3),
            (|slice| slice.p99_us, P99, 4),
            (|slice| slice.p50_us, MEDIAN, 5),
        ];
        for (value, color, halves) in series {
            let style = color.stroke_width((halves * self.scale / 2).max(1));
            for run in self.runs(value) {
                match run.as_slice() {
                    // A single point makes no line.
                    [only] => {
                        chart.draw_series([Circle::new(*only, 2 * self.scale, color.filled())])?;
                    }
                    _ => {
                        let points = run.into_iter().map(|(t, ms)| (t, ms.max(floor)));
                        chart.draw_series(LineSeries::new(points, style))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn throughput<B: DrawingBackend>(&self, area: &Area<B>) -> Drawn<B> {
        let highest = self
            .slices
            .iter()
            .map(|slice| slice.rate_per_s.max(self.errors_per_s(slice)))
            .fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(area)
            .margin_left(self.px(MARGIN))
            .margin_right(self.px(MARGIN))
            .set_label_area_size(LabelAreaPosition::Left, self.px(AXIS_WIDTH.cast_signed()))
            .set_label_area_size(LabelAreaPosition::Bottom, self.px(46))
            .margin_bottom(self.px(14))
            .build_cartesian_2d(0.0..self.length(), 0.0..highest * 1.12)?;
        self.mesh(&mut chart, true, &|rate| {
            if highest < 10.0 { format!("{rate:.1}") } else { summary::grouped(whole(*rate)) }
        })?;
        let rate: Vec<_> = self.slices.iter().map(|slice| (self.middle(slice), slice.rate_per_s)).collect();
        chart.draw_series(AreaSeries::new(rate.iter().copied(), 0.0, RATE.mix(0.18)))?;
        chart.draw_series(LineSeries::new(rate, RATE.stroke_width(2 * self.scale)))?;
        let errors = self.slices.iter().filter(|slice| slice.errors > 0);
        chart.draw_series(errors.map(|slice| {
            let end = (slice.t_s + self.report.interval_s).min(self.length());
            Rectangle::new([(slice.t_s, 0.0), (end, self.errors_per_s(slice))], ERRORS.mix(0.75).filled())
        }))?;
        Ok(())
    }

    fn mesh<B, Y>(
        &self,
        chart: &mut ChartContext<'_, B, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>,
        names: bool,
        format: &dyn Fn(&f64) -> String,
    ) -> Drawn<B>
    where
        B: DrawingBackend,
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let label = self.style(13.0, FAINT, false);
        let decimals = match self.length() {
            length if length < 0.08 => 3,
            length if length < 0.8 => 2,
            length if length < 8.0 => 1,
            _ => 0,
        };
        let seconds = move |t: &f64| format!("{t:.decimals$}");
        let nothing = |_: &f64| String::new();
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(self.scale))
            .axis_style(FAINT.stroke_width(self.scale))
            .set_all_tick_mark_size(self.px(4))
            .label_style(label.clone())
            .x_labels(12)
            .y_labels(6)
            .y_label_formatter(&format);
        if names {
            mesh.x_desc("seconds since the start").axis_desc_style(label).x_label_formatter(&seconds).draw()
        } else {
            mesh.x_label_formatter(&nothing).draw()
        }
    }

    /// A panel's title, and its legend to the right.
    fn header<B: DrawingBackend>(&self, area: &Area<B>, title: &str, keys: &[Key]) -> Drawn<B> {
        self.text(area, title, (MARGIN, 14), 16.0, INK, true)?;
        let style = self.style(14.0, INK, false);
        let (width, _) = area.dim_in_pixel();
        let mut right = i32::try_from(width).unwrap_or(i32::MAX) - self.px(MARGIN);
        for (name, color) in keys.iter().rev() {
            let (text, _) = area.estimate_text_size(name, &style)?;
            right -= i32::try_from(text).unwrap_or(0);
            area.draw_text(name, &style.pos(Pos::new(HPos::Left, VPos::Center)), (right, self.px(14)))?;
            right -= self.px(8);
            let swatch = [(right - self.px(22), self.px(12)), (right, self.px(16))];
            area.draw(&Rectangle::new(swatch, color.filled()))?;
            right -= self.px(22 + 24);
        }
        Ok(())
    }

    fn text<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        text: &str,
        at: (i32, i32),
        size: f64,
        color: RGBColor,
        bold: bool,
    ) -> Drawn<B> {
        let (width, _) = area.estimate_text_size(text, &self.style(size, color, bold))?;
        let (room, _) = area.dim_in_pixel();
        let room = f64::from(room) - 2.0 * f64::from(self.px(MARGIN));
        // A long label gets smaller letters rather than none at its end.
        let size = size * (room / f64::from(width.max(1))).min(1.0);
        let style = self.style(size, color, bold).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw_text(text, &style, (self.px(at.0), self.px(at.1)))
    }

    fn style(&self, size: f64, color: RGBColor, bold: bool) -> TextStyle<'static> {
        let weight = if bold { FontStyle::Bold } else { FontStyle::Normal };
        FontDesc::new(FontFamily::SansSerif, size * f64::from(self.scale), weight).color(&color)
    }

    fn px(&self, units: i32) -> i32 {
        units * self.scale.cast_signed()
    }

    fn length(&self) -> f64 {
        self.report.duration_s.max(0.001)
    }

    fn middle(&self, slice: &Slice) -> f64 {
        let end = (slice.t_s + self.report.interval_s).min(self.length());
        f64::midpoint(slice.t_s, end.max(slice.t_s))
    }

    #[allow(clippy::cast_precision_loss)] // far below 2^52
    fn errors_per_s(&self, slice: &Slice) -> f64 {
        let width = (self.length() - slice.t_s).min(self.report.interval_s).max(0.001);
        slice.errors as f64 / width
    }

    /// The points of a series in milliseconds, broken where there is no value.
    fn runs(&self, value: Value) -> Vec<Vec<(f64, f64)>> {
        self.slices
            .split(|slice| value(slice).is_none())
            .map(|run| {
                run.iter().filter_map(|slice| Some((self.middle(slice), millis(value(slice)?)))).collect()
            })
            .filter(|run: &Vec<_>| !run.is_empty())
            .collect()
    }
}

#[allow(clippy::cast_precision_loss)] // far below 2^52
fn millis(us: u64) -> f64 {
    us as f64 / 1e3
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive, far below 2^64
fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// The largest of 1, 2, 5, 10, 20, … times a power of ten that is not above `value`.
fn round_below(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0].map(|step| step * power).into_iter().find(|step| *step <= value).unwrap_or(power)
}
