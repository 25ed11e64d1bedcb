//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures Holdfast on this machine, and everything that it is compared with in the same run.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench")]
pub(crate) struct Options {
    /// What to measure [default: a tour of all, in about a minute]
    #[arg(value_enum)]
    pub(crate) names: Vec<Name>,
    /// How much to measure [default: full, and tour for the tour]
    #[arg(long, value_enum)]
    size: Option<Size>,
    /// How long each load goes on, in seconds
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Decides which products are ordered, in which order, and how long the model's answers take
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write what was found into this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw pictures of `clients` and `strategies` into this folder, as SVG
    #[arg(long, value_name = "DIR")]
    pub(crate) pictures: Option<PathBuf>,
    /// Let `scale` go up to a million products and reservations; takes 5 GB of memory and some minutes
    #[arg(long)]
    pub(crate) million: bool,
    /// Let `strategies` also measure a PostgreSQL server, such as postgres://postgres@127.0.0.1/postgres
    #[arg(long, value_name = "URL")]
    pub(crate) postgres: Option<String>,
}

/// A benchmark. Each has a file of this name, an arm in `measure` of `main.rs`, and, where it has a picture, a
/// function in `picture.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Calls and write units of every operation, against the least that the design allows
    Operations,
    /// What the SDK, the handler, the gateway and the function add to a transaction
    Overhead,
    /// 1 to 400 clients on one product and on 10,000: throughput and latency
    Clients,
    /// Holdfast against the usual ways to sell the last unit once
    Strategies,
    /// Many holds that are due at once
    Sweep,
    /// Order events: from the queue to the hold, and to the published event
    Events,
    /// Start of the runner and of a function; sizes of binaries and processes
    Start,
    /// Whether an operation stays as fast with many products and reservations in the table
    Scale,
}

impl Name {
    /// The name on the command line.
    pub(crate) fn as_str(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// Enough to see that it runs; the figures say nothing
    Tiny,
    /// Enough for a first impression
    Tour,
    /// Enough to be quoted
    Full,
}

impl Options {
    /// What is to be measured.
    pub(crate) fn chosen(&self) -> &[Name] {
        if self.names.is_empty() { Name::value_variants() } else { &self.names }
    }

    fn size(&self) -> Size {
        self.size.unwrap_or(if self.names.is_empty() { Size::Tour } else { Size::Full })
    }

    /// One of three by how much is to be measured.
    pub(crate) fn sized<T>(&self, tiny: T, tour: T, full: T) -> T {
        match self.size() {
            Size::Tiny => tiny,
            Size::Tour => tour,
            Size::Full => full,
        }
    }

    /// How long each load goes on.
    pub(crate) fn load(&self) -> Duration {
        let usual = self.sized(Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5));
        self.seconds.map_or(usual, Duration::from_secs)
    }

    /// The source of chance for one purpose.
    pub(crate) fn rng(&self, purpose: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.wrapping_mul(1_000_003).wrapping_add(purpose))
    }
}
