//! The embedded DynamoDB: `dynoxide` over SQLite, behind a front-end of our own.
//!
//! The front-end exists for three reasons, each measured: calls block, so they run on threads meant for
//! that; the crate's cache of transaction tokens is searched from end to end by every transaction, so
//! tokens are kept here; and stream records are looked up without an index, so one is made.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dynoxide::Database;
use dynoxide::errors::DynoxideError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::template::Table;

/// How long a `ClientRequestToken` protects. Source: Amazon DynamoDB API Reference, TransactWriteItems.
const TOKEN_LIFE: Duration = Duration::from_secs(600);

/// An index on the emulator's own table of stream records; without it every write looks for the highest
/// sequence number by reading all of them. The crate's version is pinned for this.
const STREAM_INDEX: &str = "CREATE INDEX IF NOT EXISTS stream_sequence \
    ON _stream_records (table_name, CAST(sequence_number AS INTEGER))";

/// The operations whose write units are counted.
const WRITES: [&str; 4] = ["PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"];

/// The database, and what has been asked of it.
#[derive(Clone)]
pub struct DynamoDb {
    database: Database,
    tokens: Arc<Mutex<Tokens>>,
    calls: Arc<Mutex<Calls>>,
    written: Arc<Notify>,
    /// ARN and shard of each table's stream. Asking for them reads all records, so it is done once.
    streams: Arc<Mutex<HashMap<String, (String, String)>>>,
}

/// How often each operation was called, and the write units it took, by who called it.
pub type Calls = BTreeMap<(String, String), Usage>;

/// The operation as which a read of a key without an item is counted: functions read it when they start.
pub const HEALTH_CHECK: &str = "HealthCheck";

fn is_health_check(operation: &str, body: &str) -> bool {
    operation == "GetItem" && body.contains(r#"{"S":"HEALTH"}"#)
}

/// The use of an operation so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Calls, refused ones too.
    pub calls: u64,
    /// Write units of the tables, without those of their indexes.
    pub table_write_units: f64,
}

/// An answer on the wire.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: String,
}

impl DynamoDb {
    /// Opens a database: in a folder, where it outlives the process, or in memory.
    ///
    /// # Errors
    /// If the folder's file cannot be opened or is none of ours.
    pub fn open(folder: Option<&Path>) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("the database cannot be opened: {e}");
        let database = match folder {
            Some(folder) => {
                let file = folder.join("dynamodb.sqlite");
                prepare(&file).map_err(|e| failed(&e))?;
                let database = Database::new(&file.to_string_lossy()).map_err(|e| failed(&e))?;
                // Survives the end of the process at any moment; only a power cut may cost the last writes.
                database.disable_bulk_loading().map_err(|e| failed(&e))?;
                database
            }
            None => {
                let scratch = tempfile::tempdir().map_err(|e| failed(&e))?;
                let file = scratch.path().join("empty.sqlite");
                prepare(&file).map_err(|e| failed(&e))?;
                let database = Database::memory().map_err(|e| failed(&e))?;
                database.restore_from(&file.to_string_lossy()).map_err(|e| failed(&e))?;
                database
            }
        };
        Ok(Self {
            database,
            tokens: Arc::default(),
            calls: Arc::default(),
            written: Arc::default(),
            streams: Arc::default(),
        })
    }

    /// Creates the tables that are not there yet.
    ///
    /// # Errors
    /// If one cannot be created as it is declared.
    pub fn create_tables(&self, tables: &[Table]) -> Result<(), String> {
        let there = self.execute("ListTables", "{}").map_err(|e| e.to_string())?;
        for table in tables {
            let failed = |e: DynoxideError| format!("table {} cannot be created: {e}", table.name);
            if there.contains(&format!("\"{}\"", table.name)) {
                continue;
            }
            self.execute("CreateTable", &table.create.to_string()).map_err(failed)?;
            if let Some(attribute) = &table.ttl_attribute {
                let ttl = serde_json::json!({
                    "TableName": table.name,
                    "TimeToLiveSpecification": {"AttributeName": attribute, "Enabled": true},
                });
                self.execute("UpdateTimeToLive", &ttl.to_string()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The calls so far.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until something may have been written since the last time.
    pub async fn changed(&self) {
        self.written.notified().await;
    }

    /// The stream records of a table after a sequence number (empty: from the beginning), as Lambda passes
    /// them on.
    ///
    /// # Errors
    /// If the table has no stream.
    pub async fn stream_after(&self, table: &str, position: &str, limit: u64) -> Result<Vec<Value>, String> {
        let (database, table, position) = (self.clone(), table.to_owned(), position.to_owned());
        let read = tokio::task::spawn_blocking(move || database.read_stream(&table, &position, limit));
        read.await.map_err(|e| e.to_string())?
    }

    /// The same, without a thread of its own. Blocks.
    ///
    /// # Errors
    /// If the table has no stream.
    pub fn read_stream(&self, table: &str, position: &str, limit: u64) -> Result<Vec<Value>, String> {
        let call = |operation: &str, request: Value| -> Result<Value, String> {
            let answer = self.execute(operation, &request.to_string()).map_err(|e| e.to_string())?;
            serde_json::from_str(&answer).map_err(|e| e.to_string())
        };
        let known = self.streams.lock().unwrap_or_else(PoisonError::into_inner).get(table).cloned();
        let (arn, shard) = match known {
            Some(known) => known,
            None => {
                let streams = call("ListStreams", json!({"TableName": table}))?;
                let arn = streams["Streams"][0]["StreamArn"].as_str().ok_or("it has no stream")?.to_owned();
                let described = call("DescribeStream", json!({"StreamArn": arn}))?;
                let shard = described["StreamDescription"]["Shards"][0]["ShardId"].as_str();
                let known = (arn, shard.ok_or("its stream has no shard")?.to_owned());
                let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
                streams.insert(table.to_owned(), known.clone());
                known
            }
        };
        let mut start = json!({"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
        if !position.is_empty() {
            start["ShardIteratorType"] = "AFTER_SEQUENCE_NUMBER".into();
            start["SequenceNumber"] = position.into();
        }
        let iterator = call("GetShardIterator", start)?;
        let mut answer =
            call("GetRecords", json!({"ShardIterator": iterator["ShardIterator"], "Limit": limit}))?;
        let Value::Array(records) = answer["Records"].take() else { return Ok(Vec::new()) };
        let source = |mut record: Value| {
            record["eventSourceARN"] = arn.as_str().into();
            record
        };
        Ok(records.into_iter().map(source).collect())
    }

    /// Answers one request. Blocks.
    #[must_use]
    pub fn answer(&self, caller: &str, operation: &str, body: &str) -> Answer {
        let outcome = if operation == "TransactWriteItems" {
            self.transact(body)
        } else {
            self.execute(operation, &with_consumed_capacity(operation, body))
        };
        let counted_as = if is_health_check(operation, body) { HEALTH_CHECK } else { operation };
        self.count(caller, counted_as, outcome.as_ref().ok().map(String::as_str));
        if outcome.is_ok() && operation != "Query" && operation != "GetItem" {
            self.written.notify_one();
        }
        match outcome {
            Ok(body) => Answer { status: 200, body },
            Err(error) => Answer { status: error.status_code(), body: error.to_json() },
        }
    }

    /// The same for a caller whose calls are not counted; neither requests nor answers are read for that. Blocks.
    #[must_use]
    pub fn answer_uncounted(&self, operation: &str, body: &str) -> Answer {
        let outcome = match operation {
            "TransactWriteItems" => self.transact(body),
            _ => self.execute(operation, body),
        };
        match outcome {
            Ok(body) => Answer { status: 200, body },
            Err(error) => Answer { status: error.status_code(), body: error.to_json() },
        }
    }

    fn count(&self, caller: &str, operation: &str, body: Option<&str>) {
        let writes = WRITES.contains(&operation);
        let units = body.filter(|_| writes).map_or(0.0, table_write_units);
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let usage = calls.entry((caller.to_owned(), operation.to_owned())).or_default();
        usage.calls += 1;
        #[expect(clippy::float_arithmetic, reason = "DynamoDB gives capacity as a fraction")]
        {
            usage.table_write_units += units;
        }
    }

    /// A transaction, once for each token.
    fn transact(&self, body: &str) -> Result<String, DynoxideError> {
        let mut request: Value =
            serde_json::from_str(body).map_err(|e| DynoxideError::SerializationException(e.to_string()))?;
        request["ReturnConsumedCapacity"] = "INDEXES".into();
        let token = request.as_object_mut().and_then(|map| map.remove("ClientRequestToken"));
        let body = request.to_string();
        let Some(token) = token.as_ref().and_then(Value::as_str) else {
            return self.execute("TransactWriteItems", &body);
        };
        // Locked over the write, so that two requests with one token cannot both be applied. The database
        // takes one write at a time anyway.
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, answer)) = tokens.find(token) {
            if before != body {
                let message = "the token came before with another request".to_owned();
                return Err(DynoxideError::IdempotentParameterMismatchException(message));
            }
            return Ok(answer);
        }
        let answer = self.execute("TransactWriteItems", &body)?;
        tokens.remember_answer(token.to_owned(), body, answer.clone());
        Ok(answer)
    }

    fn execute(&self, operation: &str, body: &str) -> Result<String, DynoxideError> {
        let db = &self.database;
        match operation {
            "PutItem" => run(body, |r| db.put_item(r)),
            "GetItem" => run(body, |r| db.get_item(r)),
            "UpdateItem" => run(body, |r| db.update_item(r)),
            "DeleteItem" => run(body, |r| db.delete_item(r)),
            "Query" => run(body, |r| db.query(r)),
            "Scan" => run(body, |r| db.scan(r)),
            "BatchGetItem" => run(body, |r| db.batch_get_item(r)),
            "BatchWriteItem" => run(body, |r| db.batch_write_item(r)),
            "TransactWriteItems" => run(body, |r| db.transact_write_items(r)),
            "TransactGetItems" => run(body, |r| db.transact_get_items(r)),
            "ListTables" => run(body, |r| db.list_tables(r)),
            "CreateTable" => run(body, |r| db.create_table(r)),
            "DescribeTable" => run(body, |r| db.describe_table(r)),
            "DeleteTable" => run(body, |r| db.delete_table(r)),
            "UpdateTimeToLive" => run(body, |r| db.update_time_to_live(r)),
            "DescribeTimeToLive" => run(body, |r| db.describe_time_to_live(r)),
            "ListStreams" => run(body, |r| db.list_streams(r)),
            "DescribeStream" => run(body, |r| db.describe_stream(r)),
            "GetShardIterator" => run(body, |r| db.get_shard_iterator(r)),
            "GetRecords" => run(body, |r| db.get_records(r)),
            "ExecuteStatement" => run(body, |r| db.execute_statement(r)),
            other => {
                Err(DynoxideError::ValidationException(format!("{other} is not spoken on this machine")))
            }
        }
    }
}

fn run<Request: DeserializeOwned, Response: Serialize>(
    body: &str,
    call: impl FnOnce(Request) -> Result<Response, DynoxideError>,
) -> Result<String, DynoxideError> {
    let request =
        serde_json::from_str(body).map_err(|e| DynoxideError::ValidationException(e.to_string()))?;
    let response = call(request)?;
    serde_json::to_string(&response).map_err(|e| DynoxideError::InternalServerError(e.to_string()))
}

/// Creates a database file, if there is none, and the index that streams need.
fn prepare(file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    drop(Database::new(&file.to_string_lossy())?);
    rusqlite::Connection::open(file)?.execute_batch(STREAM_INDEX)?;
    Ok(())
}

/// Asks a write for its write units, so that they can be counted.
fn with_consumed_capacity(operation: &str, body: &str) -> String {
    match serde_json::from_str::<Value>(body) {
        Ok(mut request) if WRITES.contains(&operation) && request.is_object() => {
            request["ReturnConsumedCapacity"] = "INDEXES".into();
            request.to_string()
        }
        _ => body.to_owned(),
    }
}

/// The write units that an answer says the table itself took.
fn table_write_units(body: &str) -> f64 {
    let Ok(answer) = serde_json::from_str::<Value>(body) else { return 0.0 };
    let units = |capacity: &Value| {
        let table = &capacity["Table"];
        table["WriteCapacityUnits"].as_f64().or(table["CapacityUnits"].as_f64()).unwrap_or(0.0)
    };
    match &answer["ConsumedCapacity"] {
        Value::Array(tables) => tables.iter().map(units).sum(),
        one => units(one),
    }
}

/// The answers of transactions by token.
#[derive(Default)]
struct Tokens {
    answers: HashMap<String, (String, String)>,
    by_age: VecDeque<(Instant, String)>,
}

impl Tokens {
    fn find(&mut self, token: &str) -> Option<(String, String)> {
        while let Some((kept, oldest)) = self.by_age.front() {
            if kept.elapsed() < TOKEN_LIFE {
                break;
            }
            self.answers.remove(oldest);
            self.by_age.pop_front();
        }
        self.answers.get(token).cloned()
    }

    fn remember_answer(&mut self, token: String, request: String, answer: String) {
        self.by_age.push_back((Instant::now(), token.clone()));
        self.answers.insert(token, (request, answer));
    }
}
