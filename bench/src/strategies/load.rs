//! Clients that order, and what they were told.

use std::time::Duration;

use futures::future::try_join_all;
use shared::Error;
use tokio::time::Instant;

use crate::measure::{Sample, rate, ratio};
use crate::report::Cell;

/// The columns of each table.
pub(super) const COLUMNS: [&str; 10] = [
    "way",
    "orders",
    "held",
    "sold out",
    "gave up",
    "success %",
    "oversold",
    "mean ms",
    "p95 ms",
    "held a second",
];

/// What a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is yours.
    Held,
    /// There is none left.
    SoldOut,
    /// It was not found out in time, or in the tries that there were.
    GaveUp,
}

/// Who orders how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) clients: usize,
    /// Orders of each client.
    pub(super) orders: usize,
    pub(super) products: usize,
    pub(super) seed: u64,
}

impl Load {
    fn all_orders(self) -> usize {
        self.clients * self.orders
    }

    /// Units of each product.
    pub(super) fn stock(self) -> usize {
        if self.products == 1 { self.all_orders() * 4 / 5 } else { self.all_orders() }
    }

    /// Who orders what, and where.
    pub(super) fn title(self, place: &str) -> String {
        let products =
            if self.products == 1 { "one product".to_owned() } else { format!("{} products", self.products) };
        format!("{} clients on {products}, {place}", self.clients)
    }

    /// Lets the clients order.
    pub(super) async fn run(
        self,
        order: impl AsyncFn(String, usize) -> Result<Answer, Error>,
    ) -> Result<Told, Error> {
        let began = Instant::now();
        let order = &order;
        let client = |client: usize| async move {
            let mut rng = fastrand::Rng::with_seed(self.seed.wrapping_add(client as u64));
            let mut told = Vec::new();
            for i in 0..self.orders {
                let (name, product) = (format!("{client}-{i}"), rng.usize(0..self.products));
                let sent = Instant::now();
                let answer = order(name, product).await?;
                told.push((answer, sent.elapsed()));
            }
            Ok::<_, Error>(told)
        };
        let answers = try_join_all((0..self.clients).map(client)).await?.concat();
        Ok(Told { answers, took: began.elapsed() })
    }
}

/// What all clients were told, and when.
#[derive(Debug, Default)]
pub(super) struct Told {
    answers: Vec<(Answer, Duration)>,
    took: Duration,
}

impl Told {
    /// How many were told this.
    pub(super) fn count(&self, of: Answer) -> usize {
        self.answers.iter().filter(|(answer, _)| *answer == of).count()
    }

    /// Units that were promised and are not there.
    pub(super) fn oversold(&self, load: Load) -> usize {
        self.count(Answer::Held).saturating_sub(load.stock() * load.products)
    }

    /// A row of a table with [`COLUMNS`].
    pub(super) fn row(&self, way: &str, load: Load) -> Vec<Cell> {
        let [held, sold_out, gave_up] =
            [Answer::Held, Answer::SoldOut, Answer::GaveUp].map(|a| self.count(a));
        let oversold = self.oversold(load);
        let right = (held - oversold + sold_out) as f64;
        let success = 100.0 * ratio(right, self.answers.len() as f64);
        let times: Sample = self.answers.iter().map(|(_, time)| *time).collect();
        let counts = [self.answers.len(), held, sold_out, gave_up].map(Cell::count);
        let latency = [Cell::ms(times.mean()), Cell::ms(times.percentile(95))];
        let (name, per_second) = (Cell::from(way), Cell::Number(rate(held, self.took)));
        [name]
            .into_iter()
            .chain(counts)
            .chain([Cell::Number(success), Cell::count(oversold)])
            .chain(latency)
            .chain([per_second])
            .collect()
    }
}
