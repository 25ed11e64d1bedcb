//! The usual ways on PostgreSQL, over a pool of connections as services have one.

use std::sync::{Mutex, PoisonError};

use shared::Error;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls, Statement};

use super::load::{Answer, Load, Told};
use super::rivals::{BACKOFF, TRIES};

/// Connections of the pool.
const CONNECTIONS: usize = 20;

/// How it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One statement that takes a unit if there is one.
    Statement,
    /// `SELECT … FOR UPDATE`, then two writes.
    ForUpdate,
    /// Read, then write if the version is as read; three tries.
    Version,
    /// An advisory lock of the product around a read and two writes.
    Advisory,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::Statement, Self::ForUpdate, Self::Version, Self::Advisory];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Statement => "one statement",
            Self::ForUpdate => "SELECT … FOR UPDATE",
            Self::Version => "version column",
            Self::Advisory => "advisory lock",
        }
    }
}

/// A connection, and its statements.
struct Connection {
    client: Client,
    take_if_there: Statement,
    take_if_version: Statement,
    take: Statement,
    insert_order: Statement,
    read: Statement,
    read_for_update: Statement,
    lock: Statement,
}

/// A server, with tables in a schema of their own.
pub(super) struct Postgres {
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Postgres {
    pub(super) async fn connect(url: &str) -> Result<Self, Error> {
        let mut idle = Vec::new();
        for i in 0..CONNECTIONS {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            tokio::spawn(connection);
            if i == 0 {
                client
                    .batch_execute(
                        "DROP SCHEMA IF EXISTS holdfast_bench CASCADE;
                     CREATE SCHEMA holdfast_bench;
                     CREATE TABLE holdfast_bench.stock
                         (product TEXT PRIMARY KEY, available BIGINT NOT NULL, version BIGINT NOT NULL);
                     CREATE TABLE holdfast_bench.orders (id TEXT PRIMARY KEY, product TEXT NOT NULL);",
                    )
                    .await?;
            }
            client.batch_execute("SET search_path TO holdfast_bench").await?;
            idle.push(Connection::prepare(client).await?);
        }
        Ok(Self { idle: Mutex::new(idle), permits: Semaphore::new(CONNECTIONS) })
    }

    /// Removes what was made.
    pub(super) async fn clear(&self) -> Result<(), Error> {
        let connection = self.take_idle()?;
        connection.client.batch_execute("DROP SCHEMA holdfast_bench CASCADE").await?;
        Ok(())
    }

    fn take_idle(&self) -> Result<Connection, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.ok_or_else(|| "no connection is idle".into())
    }

    /// What clients were told under a load.
    pub(super) async fn sell(&self, way: Way, load: Load) -> Result<Told, Error> {
        let connection = self.take_idle()?;
        connection.client.batch_execute("TRUNCATE stock, orders").await?;
        let fill = "INSERT INTO stock SELECT i::text, $1, 1 FROM generate_series(0, $2::bigint - 1) AS i";
        let (units, products) = (load.stock() as i64, load.products as i64);
        connection.client.execute(fill, &[&units, &products]).await?;
        self.give_back(connection);
        load.run(async |order, product| {
            let _permit = self.permits.acquire().await?;
            let connection = self.take_idle()?;
            let answer = connection.sell(way, &order, &product.to_string()).await;
            self.give_back(connection);
            answer
        })
        .await
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

impl Connection {
    async fn prepare(client: Client) -> Result<Self, Error> {
        let taking = |condition: &str| {
            format!(
                "WITH taken AS (UPDATE stock SET available = available - 1, version = version + 1
                     WHERE product = $1 AND {condition} RETURNING product)
                 INSERT INTO orders SELECT $2, product FROM taken"
            )
        };
        Ok(Self {
            take_if_there: client.prepare(&taking("available >= 1")).await?,
            take_if_version: client.prepare(&taking("version = $3")).await?,
            take: client.prepare("UPDATE stock SET available = available - 1 WHERE product = $1").await?,
            insert_order: client.prepare("INSERT INTO orders VALUES ($2, $1)").await?,
            read: client.prepare("SELECT available, version FROM stock WHERE product = $1").await?,
            read_for_update: client
                .prepare("SELECT available, version FROM stock WHERE product = $1 FOR UPDATE")
                .await?,
            lock: client.prepare("SELECT pg_advisory_xact_lock(hashtext($1))").await?,
            client,
        })
    }

    async fn sell(&self, way: Way, order: &str, product: &str) -> Result<Answer, Error> {
        match way {
            Way::Statement => {
                let taken = self.client.execute(&self.take_if_there, &[&product, &order]).await?;
                Ok(if taken == 1 { Answer::Held } else { Answer::SoldOut })
            }
            Way::ForUpdate => {
                self.client.batch_execute("BEGIN").await?;
                self.sell_in_transaction(&self.read_for_update, order, product).await
            }
            Way::Version => self.sell_by_version(order, product).await,
            Way::Advisory => {
                self.client.batch_execute("BEGIN").await?;
                self.client.execute(&self.lock, &[&product]).await?;
                self.sell_in_transaction(&self.read, order, product).await
            }
        }
    }

    async fn sell_in_transaction(
        &self,
        read: &Statement,
        order: &str,
        product: &str,
    ) -> Result<Answer, Error> {
        let available: i64 = self.client.query_one(read, &[&product]).await?.get(0);
        if available < 1 {
            self.client.batch_execute("ROLLBACK").await?;
            return Ok(Answer::SoldOut);
        }
        self.client.execute(&self.take, &[&product]).await?;
        self.client.execute(&self.insert_order, &[&product, &order]).await?;
        self.client.batch_execute("COMMIT").await?;
        Ok(Answer::Held)
    }

    async fn sell_by_version(&self, order: &str, product: &str) -> Result<Answer, Error> {
        let mut pause = BACKOFF;
        for attempt in 1..=TRIES {
            let row = self.client.query_one(&self.read, &[&product]).await?;
            let (available, version): (i64, i64) = (row.get(0), row.get(1));
            if available < 1 {
                return Ok(Answer::SoldOut);
            }
            let taken = self.client.execute(&self.take_if_version, &[&product, &order, &version]).await?;
            if taken == 1 {
                return Ok(Answer::Held);
            }
            if attempt < TRIES {
                sleep(pause).await;
                pause *= 2;
            }
        }
        Ok(Answer::GaveUp)
    }
}
