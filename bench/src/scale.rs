//! `scale`: what operations cost while the table grows: products, and reservations that hold stock.

use std::time::Duration;

use local::dynamodb::DynamoDb;
use serde_json::{Value, json};
use shared::Error;
use shared::domain::{OrderId, ReservationId};

use crate::embedded::{self, CALLER, Handlers};
use crate::measure::{Sample, time};
use crate::options::Options;
use crate::report::{Cell, Comparison, Findings, LATENCY_COLUMNS, Table, latency_cells};

/// How much slower an operation may be in the largest table than in the smallest.
const REACH: f64 = 1.5;
/// The operations, in the order in which they are measured.
const OPERATIONS: [&str; 7] = [
    "reserve",
    "confirm",
    "release",
    "one product",
    "a page of products",
    "check, 100 products",
    "sweep, nothing due",
];

/// Runs it.
pub(crate) async fn measure(options: &Options) -> Result<Findings, Error> {
    let mut sizes = options.sized(vec![10, 100], vec![1_000, 10_000], vec![1_000, 10_000, 100_000]);
    if options.million {
        sizes.push(1_000_000);
    }
    let rounds = options.sized(2, 100, 500);
    let database = embedded::database()?;
    let url = embedded::serve(&database).await?;
    let handlers = Handlers::over(shared::aws::config_for(&url, CALLER)).await?;
    let columns: Vec<&str> =
        ["operation", "products and reservations"].into_iter().chain(LATENCY_COLUMNS).collect();
    let mut table = Table::new("One client; each product has stock, each reservation holds some", &columns);
    let (mut there, mut smallest) = (0, None);
    let mut comparisons = Vec::new();
    let mut rng = options.rng(0);
    for size in sizes {
        fill(&handlers, &database, there, size).await?;
        there = size;
        let samples = round_robin(&handlers, size, rounds, &mut rng).await?;
        for (operation, sample) in OPERATIONS.iter().zip(&samples) {
            let row = [Cell::from(*operation), Cell::count(size)];
            table.push(row.into_iter().chain(latency_cells(sample)));
        }
        comparisons.clear();
        let smallest = smallest.get_or_insert_with(|| samples.clone());
        for (operation, (now, before)) in OPERATIONS.iter().zip(samples.iter().zip(smallest.iter())) {
            let what = format!("{operation}, largest to smallest table, medians");
            comparisons.push(Comparison::at_most(&what, now.ratio_to(before), REACH));
        }
    }
    Ok(Findings { tables: vec![table], comparisons })
}

/// Lets the table grow from so many products, each with a reservation, to so many.
async fn fill(handlers: &Handlers, database: &DynamoDb, from: usize, to: usize) -> Result<(), Error> {
    let products: Vec<String> = (from..to).map(|i| format!("S-{i}")).collect();
    embedded::stock(handlers, database, &products, 1_000_000).await?;
    let order = format!("filled-{from}");
    let body = json!({"orderId": order, "productId": products[0], "quantity": 1, "ttlSeconds": 86_400});
    handlers.succeed("", "POST /reserve", &body).await?;
    let pk = |order: &str| -> Result<String, Error> {
        Ok(format!("RES#{}", ReservationId::of(&OrderId::parse(order)?)))
    };
    let item = embedded::item(database, &pk(&order)?, "RES")?;
    let copies: Result<Vec<Value>, Error> = (from + 1..to)
        .map(|i| {
            let (mut copy, order) = (item.clone(), format!("filled-{i}"));
            copy["pk"]["S"] = pk(&order)?.into();
            copy["orderId"]["S"] = order.into();
            copy["expiryShard"]["N"] = (i % 16).to_string().into();
            Ok(copy)
        })
        .collect();
    embedded::put_all(database, copies?.into_iter())
}

/// Every operation in turn, so many times.
async fn round_robin(
    handlers: &Handlers,
    size: usize,
    rounds: usize,
    rng: &mut fastrand::Rng,
) -> Result<Vec<Sample>, Error> {
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); OPERATIONS.len()];
    // The first round warms up.
    for round in 0..=rounds {
        let product = format!("S-{}", rng.usize(0..size));
        let hundred: Vec<String> = (0..100).map(|_| format!("S-{}", rng.usize(0..size))).collect();
        let reserve = |order: &str| json!({"orderId": order, "productId": product, "quantity": 1});
        let [kept, back] = ["kept", "back"].map(|name| format!("{name}-{size}-{round}"));
        handlers.succeed("", "POST /reserve", &reserve(&back)).await?;
        let requests = [
            ("POST /reserve", reserve(&kept)),
            ("POST /confirm", json!({"orderId": kept})),
            ("POST /release", json!({"orderId": back})),
            ("GET /{productId}", Value::Null),
            ("GET /", Value::Null),
            ("POST /check", json!(hundred)),
        ];
        let mut took = Vec::new();
        for (route, body) in &requests {
            let (done, time) = time(handlers.succeed(&product, route, body)).await;
            done?;
            took.push(time);
        }
        let (done, time) = time(handlers.sweep(handlers.now())).await;
        done?;
        took.push(time);
        if round > 0 {
            times.iter_mut().zip(took).for_each(|(times, time)| times.push(time));
        }
    }
    Ok(times.into_iter().map(Sample::from_iter).collect())
}
