//! A drawing of what was measured: the rate on the left, the latency on the right, as one SVG.

use super::{BenchError, Figures, report::profile};
use plotters::{
    chart::ChartContext,
    coord::{Shift, types::RangedCoordf64},
    prelude::{
        Cartesian2d, ChartBuilder, Circle, DashedLineSeries, DrawingArea, IntoDrawingArea,
        LineSeries, PathElement, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
    },
    style::{Color, IntoFont},
};
use std::{fs, ops::Range, path::Path};

/// The size of the picture.
const SIZE: (u32, u32) = (1080, 440);
/// Colours that people who see few of them tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const FONT: &str = "sans-serif";

/// A picture of what was measured.
#[derive(Debug, Clone)]
pub struct Plot {
    /// The title.
    pub title: String,
    /// The name of the axis that it runs along.
    pub along: &'static str,
    /// True if that doubles from one mark to the next.
    pub doubling: bool,
    /// Ours, and what it is compared with.
    pub lines: Vec<Line>,
}

/// One thing that was measured, several times.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// The figures, each with its place along the axis.
    pub points: Vec<(f64, Figures)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Plot {
    /// A picture of several things in a row.
    #[must_use]
    pub fn of_each<'a>(
        bench: &str,
        along: &'static str,
        each: impl Iterator<Item = &'a Figures>,
    ) -> Self {
        let points = (1..).map(f64::from).zip(each.copied());
        let line = Line {
            name: "ours".to_owned(),
            points: points.collect(),
        };
        Self {
            title: format!("bench {bench} ({})", profile()),
            along,
            doubling: false,
            lines: vec![line],
        }
    }

    /// Draws it into a file.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), BenchError> {
        let text = self.draw()?;
        fs::write(path, text)
            .map_err(|error| BenchError::new(format!("{}: {error}", path.display())))
    }

    /// Draws it: an SVG that needs nothing beside it.
    fn draw(&self) -> Result<String, BenchError> {
        let mut text = String::new();
        {
            let all = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
            all.fill(&WHITE).map_err(BenchError::new)?;
            let below = all.titled(&self.title, (FONT, 20).into_font());
            let below = below.map_err(BenchError::new)?;
            let (left, right) = below.split_horizontally(SIZE.0 / 2);
            self.rates(&left)?;
            self.latencies(&right)?;
            all.present().map_err(BenchError::new)?;
        }
        Ok(text)
    }

    fn rates(&self, area: &Area<'_>) -> Result<(), BenchError> {
        let highest = self.most(|figures| figures.per_second);
        let name = "per second";
        let mut chart = self.axes(area, 76, 0.0..highest * 1.15, name, &|rate| {
            thousands(*rate)
        })?;
        for (line, colour) in self.coloured() {
            let points = || {
                let points = line.points.iter();
                points.map(|(at, figures)| (self.along(*at), figures.per_second))
            };
            chart
                .draw_series(LineSeries::new(points(), colour.stroke_width(2)))
                .map_err(BenchError::new)?
                .label(&*line.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                });
            let dots = points().map(|point| Circle::new(point, 3, colour.filled()));
            chart.draw_series(dots).map_err(BenchError::new)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font((FONT, 13))
            .draw()
            .map_err(BenchError::new)
    }

    /// The median as a line, what 99 of a hundred did not exceed as a dashed one. Latencies differ by powers of ten.
    fn latencies(&self, area: &Area<'_>) -> Result<(), BenchError> {
        let lowest = self.least(|figures| figures.p50_ms).max(0.001);
        let highest = self.most(|figures| figures.p99_ms).max(lowest);
        let height = (lowest.log10() - 0.1)..(highest.log10() + 0.1);
        let name = "ms: half within, dashed 99 % within";
        let words = |exponent: &f64| short(10_f64.powf(*exponent));
        let mut chart = self.axes(area, 64, height, name, &words)?;
        for (line, colour) in self.coloured() {
            let points = |figure: fn(&Figures) -> f64| {
                let points = line.points.iter();
                points
                    .map(move |(at, figures)| (self.along(*at), figure(figures).max(0.001).log10()))
            };
            let half = points(|figures| figures.p50_ms);
            chart
                .draw_series(LineSeries::new(half, colour.stroke_width(2)))
                .map_err(BenchError::new)?;
            let most = points(|figures| figures.p99_ms);
            chart
                .draw_series(DashedLineSeries::new(most, 6, 4, colour.stroke_width(2)))
                .map_err(BenchError::new)?;
            let both: [fn(&Figures) -> f64; 2] =
                [|figures| figures.p50_ms, |figures| figures.p99_ms];
            for figure in both {
                let dots = points(figure).map(|point| Circle::new(point, 3, colour.filled()));
                chart.draw_series(dots).map_err(BenchError::new)?;
            }
        }
        Ok(())
    }

    /// Draws the axes: along the picture, and up by so much, with a name and the words of a mark.
    fn axes<'a>(
        &self,
        area: &Area<'a>,
        margin: u32,
        height: Range<f64>,
        name: &str,
        words: &dyn Fn(&f64) -> String,
    ) -> Result<Chart<'a>, BenchError> {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(margin)
            .build_cartesian_2d(self.width(), height)
            .map_err(BenchError::new)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .x_desc(self.along)
            .y_desc(name)
            .x_labels(self.marks())
            .x_label_formatter(&|at| self.place(*at))
            .y_label_formatter(&words)
            .draw()
            .map_err(BenchError::new)?;
        Ok(chart)
    }

    fn coloured(&self) -> impl Iterator<Item = (&Line, RGBColor)> {
        self.lines.iter().zip(COLOURS.into_iter().cycle())
    }

    /// The place of a point, in the coordinates of the picture.
    fn along(&self, at: f64) -> f64 {
        match self.doubling {
            true => at.max(1.0).log2(),
            false => at,
        }
    }

    /// A place in words.
    fn place(&self, at: f64) -> String {
        match self.doubling {
            true => thousands(at.exp2()),
            false => short(at),
        }
    }

    fn width(&self) -> Range<f64> {
        let places = || self.points().map(|(at, _)| self.along(at));
        let first = places().fold(f64::INFINITY, f64::min);
        let last = places().fold(f64::NEG_INFINITY, f64::max);
        match first < last {
            true => first..last,
            // One point alone, or none.
            false if first.is_finite() => first - 1.0..first + 1.0,
            false => 0.0..1.0,
        }
    }

    /// About how many marks the axis has: one for each place, where there are not many.
    fn marks(&self) -> usize {
        let width = self.width();
        ((width.end - width.start).round() as usize + 1).clamp(2, 12)
    }

    fn points(&self) -> impl Iterator<Item = (f64, &Figures)> {
        let all = self.lines.iter().flat_map(|line| &line.points);
        all.map(|(at, figures)| (*at, figures))
    }

    fn most(&self, figure: fn(&Figures) -> f64) -> f64 {
        let all = self.points().map(|(_, figures)| figure(figures));
        all.fold(f64::MIN_POSITIVE, f64::max)
    }

    fn least(&self, figure: fn(&Figures) -> f64) -> f64 {
        let all = self.points().map(|(_, figures)| figure(figures));
        let least = all.fold(f64::INFINITY, f64::min);
        if least.is_finite() { least } else { 1.0 }
    }
}

/// A number with commas.
fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.round());
    let first = digits.len() % 3;
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && at % 3 == first {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with as many digits as say something.
fn short(number: f64) -> String {
    match number {
        _ if number >= 100.0 => thousands(number),
        _ if number >= 10.0 || (number - number.round()).abs() < 0.005 => format!("{number:.0}"),
        _ if number >= 1.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(per_second: f64) -> Figures {
        Figures::of_one(
            1_000,
            std::time::Duration::from_secs_f64(1_000.0 / per_second),
        )
    }

    fn plot(points: &[f64], doubling: bool) -> Plot {
        let points = points.iter().map(|at| (*at, figures(at * 100.0 + 1.0)));
        Plot {
            title: "bench <commands> & more".to_owned(),
            along: "commands in flight",
            doubling,
            lines: ["ours", "publish"]
                .map(|name| Line {
                    name: name.to_owned(),
                    points: points.clone().collect(),
                })
                .into(),
        }
    }

    #[test]
    fn a_plot_is_an_svg_with_its_names_and_nothing_from_elsewhere() {
        for (points, doubling) in [
            (&[1.0, 2.0, 3.0][..], false),
            (&[1.0, 4.0, 1024.0], true),
            (&[1.0], false),
            (&[], true),
        ] {
            let text = plot(points, doubling).draw().unwrap();
            assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
            for word in ["ours", "publish", "commands in flight", "per second"] {
                assert!(text.contains(word), "{word}");
            }
            assert!(text.contains("&lt;commands&gt; &amp; more"), "{text}");
            assert!(!text.contains("NaN") && !text.contains("href") && !text.contains("<script"));
        }
        let text = plot(&[1.0, 2.0, 4.0, 1024.0], true).draw().unwrap();
        assert!(text.contains("1,024"), "{text}");
    }

    #[test]
    fn numbers_are_told_with_as_many_digits_as_say_something() {
        for (number, told) in [
            (0.0, "0"),
            (0.123, "0.12"),
            (3.16, "3.2"),
            (4.0, "4"),
            (31.6, "32"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(short(number), told);
        }
        assert_eq!(thousands(100_000.0), "100,000");
        assert_eq!(thousands(999.0), "999");
    }
}
