//! What a benchmark has found: tables and comparisons, printed and as JSON.

use std::fmt::{Display, Formatter, Result};

use serde_json::{Map, Value, json};

use crate::measure::{self, Sample};

/// The columns that [`latency_cells`] fills.
pub(crate) const LATENCY_COLUMNS: [&str; 5] = ["n", "mean ms", "p50 ms", "p95 ms", "p99 ms"];

/// One value of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// Words.
    Text(String),
    /// A whole number.
    Count(u64),
    /// A fraction.
    Number(f64),
    /// Nothing was measured.
    Nothing,
}

impl Cell {
    /// A number of things.
    pub(crate) fn count(count: usize) -> Self {
        Self::Count(count as u64)
    }

    /// A time in milliseconds.
    pub(crate) fn ms(time: std::time::Duration) -> Self {
        Self::Number(measure::ms(time))
    }

    /// The number; zero where there is none.
    pub(crate) fn value(&self) -> f64 {
        match self {
            Self::Count(count) => *count as f64,
            Self::Number(number) => *number,
            Self::Text(_) | Self::Nothing => 0.0,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Count(count) => (*count).into(),
            Self::Number(number) => (*number).into(),
            Self::Nothing => Value::Null,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Display for Cell {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Count(count) => f.pad(&count.to_string()),
            Self::Number(number) if *number >= 1_000.0 => f.pad(&format!("{number:.0}")),
            Self::Number(number) => f.pad(&format!("{number:.2}")),
            Self::Nothing => f.pad("–"),
        }
    }
}

/// How often something was measured, and how long it took.
pub(crate) fn latency_cells(sample: &Sample) -> [Cell; 5] {
    let [p50, p95, p99] = [50, 95, 99].map(|percent| Cell::ms(sample.percentile(percent)));
    [Cell::count(sample.len()), Cell::ms(sample.mean()), p50, p95, p99]
}

/// Rows under named columns. The first column says what the row is about.
#[derive(Debug)]
pub(crate) struct Table {
    /// What is measured.
    pub(crate) title: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(title: impl Into<String>, columns: &[&'static str]) -> Self {
        Self { title: title.into(), columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, a cell for each column.
    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = Cell>) {
        let row: Vec<Cell> = row.into_iter().collect();
        debug_assert_eq!(row.len(), self.columns.len(), "{}", self.title);
        self.rows.push(row);
    }

    /// The rows, each as the cells of these columns.
    pub(crate) fn select(&self, columns: &[&str]) -> Vec<Vec<Cell>> {
        let place = |name: &&str| self.columns.iter().position(|column| column == name);
        let places: Vec<usize> = columns.iter().filter_map(place).collect();
        self.rows.iter().map(|row| places.iter().map(|i| row[*i].clone()).collect()).collect()
    }

    fn to_json(&self) -> Value {
        let row = |row: &Vec<Cell>| {
            let cells = self.columns.iter().zip(row).map(|(name, cell)| ((*name).to_owned(), cell.to_json()));
            Value::Object(cells.collect::<Map<_, _>>())
        };
        json!({"title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>()})
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let texts: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::to_string).collect()).collect();
        let width = |i: usize| {
            let cells = texts.iter().map(|row| row[i].chars().count());
            cells.chain([self.columns[i].chars().count()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut line = |cells: &[&str]| -> Result {
            for (i, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                match i {
                    0 => write!(f, "  {cell:width$}")?,
                    _ => write!(f, "  {cell:>width$}")?,
                }
            }
            writeln!(f)
        };
        line(&self.columns)?;
        texts.iter().try_for_each(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()))
    }
}

/// A figure beside what it is to be.
#[derive(Debug)]
pub(crate) struct Comparison {
    what: String,
    measured: Cell,
    wanted: String,
    holds: bool,
}

impl Comparison {
    /// `holds` says whether the figure is as `wanted`.
    pub(crate) fn new(what: &str, measured: Cell, wanted: impl Into<String>, holds: bool) -> Self {
        Self { what: what.to_owned(), measured, wanted: wanted.into(), holds }
    }

    /// A fraction that is to be `most` at most.
    pub(crate) fn at_most(what: &str, measured: f64, most: f64) -> Self {
        Self::new(what, Cell::Number(measured), format!("at most {most}"), measured <= most)
    }

    /// A fraction that is to be `least` at least.
    pub(crate) fn at_least(what: &str, measured: f64, least: f64) -> Self {
        Self::new(what, Cell::Number(measured), format!("at least {least}"), measured >= least)
    }

    fn to_json(&self) -> Value {
        let measured = self.measured.to_json();
        json!({"what": self.what, "measured": measured, "wanted": self.wanted, "holds": self.holds})
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let missed = if self.holds { "" } else { ", NOT REACHED" };
        write!(f, "  {}: {} (to reach: {}{missed})", self.what, self.measured, self.wanted)
    }
}

/// What a benchmark has found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What was measured.
    pub(crate) tables: Vec<Table>,
    /// How it compares.
    pub(crate) comparisons: Vec<Comparison>,
}

impl Findings {
    /// As JSON, for the benchmark of this name.
    pub(crate) fn to_json(&self, name: &str) -> Value {
        let tables: Vec<Value> = self.tables.iter().map(Table::to_json).collect();
        let comparisons: Vec<Value> = self.comparisons.iter().map(Comparison::to_json).collect();
        json!({"benchmark": name, "tables": tables, "comparisons": comparisons})
    }
}

impl Display for Findings {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for table in &self.tables {
            write!(f, "\n  {}\n\n{table}", table.title)?;
        }
        if !self.comparisons.is_empty() {
            writeln!(f)?;
        }
        self.comparisons.iter().try_for_each(|comparison| writeln!(f, "{comparison}"))
    }
}
