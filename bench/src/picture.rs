//! Pictures of what was found, as SVG. A benchmark with a picture has an arm in [`draw`]; curves over a number that
//! grows are drawn by `draw_curves`.

use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use shared::Error;

use crate::clients;
use crate::options::Name;
use crate::report::{Cell, Findings, Table};
use crate::strategies;

/// Width of a picture, in pixels.
const WIDTH: u32 = 960;
/// Height of a row of curves.
const CURVES_HEIGHT: u32 = 300;
/// Height of a bar with its margin.
const BAR_HEIGHT: i32 = 28;
/// Height of a title.
const TITLE_HEIGHT: i32 = 34;
/// Where bars begin, and how long one of 100 % is.
const BAR_LEFT: i32 = 190;
const BAR_LENGTH: f64 = 330.0;
/// Colours that are told apart by those who do not see red and green as well.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(120, 120, 120)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A curve: its name, and its points.
type Curve = (String, Vec<(f64, f64)>);

/// Draws the picture of a benchmark into a folder, if it has one.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn draw(name: Name, findings: &Findings, folder: &Path) -> Result<(), Error> {
    let file = folder.join(format!("{}.svg", name.as_str()));
    match name {
        Name::Clients => draw_clients(findings, &file),
        Name::Strategies => draw_strategies(findings, &file),
        _ => Ok(()),
    }
}

fn text_of(cell: &Cell) -> String {
    cell.to_string()
}

/// Throughput above, latency below; one column for each number of products.
fn draw_clients(findings: &Findings, file: &Path) -> Result<(), Error> {
    let rows = findings.tables.iter().flat_map(|table| table.select(&clients::PICTURED)).collect::<Vec<_>>();
    let mut products: Vec<String> = rows.iter().map(|row| text_of(&row[0])).collect();
    products.dedup();
    let root = SVGBackend::new(file, (WIDTH, 2 * CURVES_HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let areas = root.split_evenly((2, products.len()));
    for (column, products_here) in products.iter().enumerate() {
        let here: Vec<_> = rows.iter().filter(|row| text_of(&row[0]) == *products_here).collect();
        let curve = |way: &str, value: usize| {
            let points = here.iter().filter(|row| row[1] == Cell::from(way));
            points.map(|row| (row[2].value(), row[value].value())).collect::<Vec<_>>()
        };
        let ways: Vec<String> = {
            let mut ways: Vec<String> = here.iter().map(|row| text_of(&row[1])).collect();
            ways.sort();
            ways.dedup();
            ways.reverse();
            ways
        };
        let throughput: Vec<Curve> = ways.iter().map(|way| (way.clone(), curve(way, 3))).collect();
        let title = if products_here == "1" { "One product" } else { "Many products" };
        draw_curves(&areas[column], &format!("{title}: orders a second"), &throughput, false)?;
        let latency: Vec<Curve> = ways
            .iter()
            .flat_map(|way| {
                [4, 5].map(|value| {
                    let percentile = if value == 4 { "p50" } else { "p99" };
                    (format!("{way}, {percentile}"), curve(way, value))
                })
            })
            .collect();
        draw_curves(&areas[products.len() + column], &format!("{title}: ms for an order"), &latency, true)?;
    }
    root.present()?;
    Ok(())
}

/// Curves over a number of clients, whose axis grows by factors; the other one does if `by_factors`.
fn draw_curves(area: &Area<'_>, title: &str, curves: &[Curve], by_factors: bool) -> Result<(), Error> {
    let points = || curves.iter().flat_map(|(_, points)| points);
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(1.0, f64::max);
    let (right, top) = (most(&mut points().map(|p| p.0)) * 1.1, most(&mut points().map(|p| p.1)) * 1.3);
    let mut builder = ChartBuilder::on(area);
    builder.caption(title, ("sans-serif", 20)).margin(12).x_label_area_size(32).y_label_area_size(56);
    let clients: Range<f64> = 0.9..right;
    if by_factors {
        let mut chart = builder.build_cartesian_2d(clients.log_scale(), (0.5..top).log_scale())?;
        chart.configure_mesh().light_line_style(TRANSPARENT).x_desc("clients").draw()?;
        draw_series(&mut chart, curves)?;
    } else {
        let mut chart = builder.build_cartesian_2d(clients.log_scale(), 0.0..top)?;
        chart.configure_mesh().light_line_style(TRANSPARENT).x_desc("clients").draw()?;
        draw_series(&mut chart, curves)?;
    }
    Ok(())
}

fn draw_series<'a, X>(chart: &mut ChartContext<'a, SVGBackend<'a>, X>, curves: &[Curve]) -> Result<(), Error>
where
    X: CoordTranslate<From = (f64, f64)>,
{
    for ((name, points), colour) in curves.iter().zip(COLOURS.into_iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
            .label(name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    let mut labels = chart.configure_series_labels();
    let labels = labels.background_style(WHITE.mix(0.8)).position(SeriesLabelPosition::UpperLeft);
    labels.label_font(("sans-serif", 14)).draw()?;
    Ok(())
}

/// A bar for each way: how many orders were answered as they should be. What else there is to say stands beside it.
fn draw_strategies(findings: &Findings, file: &Path) -> Result<(), Error> {
    let rows = |table: &Table| table.select(&strategies::PICTURED);
    let tables = || findings.tables.iter().filter(|table| table.title.ends_with(strategies::MODEL));
    let height: i32 = tables()
        .map(|table| 2 * TITLE_HEIGHT + BAR_HEIGHT * i32::try_from(rows(table).len()).unwrap_or(0))
        .sum();
    let size = (WIDTH, u32::try_from(height).unwrap_or(CURVES_HEIGHT));
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (small, large) = (("sans-serif", 16).into_font(), ("sans-serif", 20).into_font());
    let mut y = TITLE_HEIGHT / 2;
    for table in tables() {
        root.draw(&Text::new(table.title.clone(), (16, y), large.clone()))?;
        y += TITLE_HEIGHT;
        for (i, row) in rows(table).iter().enumerate() {
            let [way, success, oversold, p95, rate] = row.as_slice() else { continue };
            let length = (success.value() / 100.0 * BAR_LENGTH) as i32;
            let colour = if i == 0 { COLOURS[0] } else { COLOURS[3] };
            let bar = [(BAR_LEFT, y), (BAR_LEFT + length.max(1), y + BAR_HEIGHT - 10)];
            root.draw(&Rectangle::new(bar, colour.filled()))?;
            root.draw(&Text::new(text_of(way), (16, y + 2), small.clone()))?;
            let oversold = match oversold.value() {
                0.0 => String::new(),
                _ => format!(" · {oversold} OVERSOLD"),
            };
            let said = format!("{success} % · p95 {p95} ms · {rate} held a second{oversold}");
            let place = (BAR_LEFT + BAR_LENGTH as i32 + 14, y + 2);
            root.draw(&Text::new(said, place, small.clone()))?;
            y += BAR_HEIGHT;
        }
        y += TITLE_HEIGHT;
    }
    root.present()?;
    Ok(())
}
