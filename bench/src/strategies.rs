//! `strategies`: Holdfast against the usual ways to sell the last unit once, each done properly, on the same database:
//! the embedded one, and the model of DynamoDB on a clock of its own. On request also the usual ways on PostgreSQL.
//!
//! Clients order one unit, again as soon as they are answered. One product has stock for four of five orders, so that
//! it can be oversold; many products have enough.

mod load;
mod postgres;
mod rivals;

use aws_sdk_dynamodb::Client;
use local::dynamodb::DynamoDb;
use serde_json::json;
use shared::Error;

use crate::embedded::{self, CALLER, Handlers};
use crate::model::Model;
use crate::options::Options;
use crate::raw;
use crate::report::{Cell, Comparison, Findings, Table};

use load::{Answer, COLUMNS, Load, Told};
use postgres::Postgres;
use rivals::Rival;

/// The columns that the picture shows.
pub(crate) const PICTURED: [&str; 5] = ["way", "success %", "oversold", "p95 ms", "held a second"];
/// How the titles of the tables end that the picture shows: these figures do not depend on the machine.
pub(crate) const MODEL: &str = "model of DynamoDB";
const OURS: &str = "Holdfast";

/// Runs it.
pub(crate) async fn measure(options: &Options) -> Result<Findings, Error> {
    let (clients, orders) = options.sized((4, 2), (100, 2), (100, 5));
    let many = options.sized(10, 1_000, 10_000);
    let loads = [1, many].map(|products| Load { clients, orders, products, seed: options.seed });
    let mut findings = Findings::default();
    for load in loads {
        findings.add(embedded_place(load).await?, load, "embedded database");
    }
    for load in loads {
        let modelled = tokio::task::spawn_blocking(move || modelled_place(load));
        findings.add(modelled.await??, load, MODEL);
    }
    if let Some(url) = &options.postgres {
        let postgres = Postgres::connect(url).await?;
        for load in loads {
            let mut table = Table::new(load.title("PostgreSQL"), &COLUMNS);
            for way in postgres::Way::ALL {
                table.push(postgres.sell(way, load).await?.row(way.name(), load));
            }
            findings.tables.push(table);
        }
        postgres.clear().await?;
    }
    Ok(findings)
}

impl Findings {
    /// Adds what every way did under a load, ours first.
    fn add(&mut self, ways: Vec<(&'static str, Told)>, load: Load, place: &str) {
        let mut table = Table::new(load.title(place), &COLUMNS);
        ways.iter().for_each(|(way, told)| table.push(told.row(way, load)));
        self.tables.push(table);
        let Some((_, ours)) = ways.iter().find(|(way, _)| *way == OURS) else { return };
        let of_ours = |what: &str| format!("{OURS}, {}: {what}", load.title(place));
        let oversold = ours.oversold(load);
        let (none, what) = (oversold == 0, of_ours("oversold"));
        self.comparisons.push(Comparison::new(&what, Cell::count(oversold), "0", none));
        let gave_up = ours.count(Answer::GaveUp);
        let (none, what) = (gave_up == 0, of_ours("gave up"));
        self.comparisons.push(Comparison::new(&what, Cell::count(gave_up), "0", none));
    }
}

async fn embedded_place(load: Load) -> Result<Vec<(&'static str, Told)>, Error> {
    let database = embedded::database()?;
    let url = embedded::serve(&database).await?;
    let handlers = Handlers::over(shared::aws::config_for(&url, CALLER)).await?;
    sell_everywhere(load, &handlers, &raw::client(&url), &database).await
}

/// On a clock and a thread of its own, so that waiting takes no time, and the seed decides everything.
fn modelled_place(load: Load) -> Result<Vec<(&'static str, Told)>, Error> {
    // The pauses between tries.
    fastrand::seed(load.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(async {
        let database = embedded::database()?;
        let http = Model::new(database.clone(), fastrand::Rng::with_seed(load.seed)).client();
        let url = "http://model.invalid";
        let handlers = Handlers::over(shared::aws::config_for(url, CALLER).http_client(http.clone())).await?;
        let client = Client::from_conf(raw::config(url).http_client(http).build());
        sell_everywhere(load, &handlers, &client, &database).await
    })
}

/// Every way under the same load, one after the other.
async fn sell_everywhere(
    load: Load,
    handlers: &Handlers,
    client: &Client,
    database: &DynamoDb,
) -> Result<Vec<(&'static str, Told)>, Error> {
    let names: Vec<String> = (0..load.products).map(|i| format!("OURS-{i}")).collect();
    embedded::stock(handlers, database, &names, load.stock() as u64).await?;
    let ours = load.run(async |order, product| reserve(handlers, &order, &names[product]).await).await?;
    let mut all = vec![(OURS, ours)];
    for way in rivals::Way::ALL {
        let rival = Rival { client, way };
        embedded::put_all(database, (0..load.products).map(|i| rival.stock(i, load.stock())))?;
        let told = load.run(async |order, product| rival.sell(&order, product).await).await?;
        all.push((way.name(), told));
    }
    Ok(all)
}

/// One order through the handler.
async fn reserve(handlers: &Handlers, order: &str, product: &str) -> Result<Answer, Error> {
    let body = json!({"orderId": order, "productId": product, "quantity": 1});
    match handlers.call("POST /reserve", &body).await? {
        (201, _) => Ok(Answer::Held),
        (409, answer) if answer["code"] == "insufficient_stock" => Ok(Answer::SoldOut),
        (503, _) => Ok(Answer::GaveUp),
        (status, answer) => Err(format!("{status} {answer}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_figures_on_the_model() {
        let sell = |seed| {
            let load = Load { clients: 8, orders: 3, products: 1, seed };
            let ways = modelled_place(load).expect("every way ends");
            ways.iter().map(|(way, told)| told.row(way, load)).collect::<Vec<_>>()
        };
        assert_eq!(sell(1), sell(1));
        assert_ne!(sell(1), sell(2));
    }
}
