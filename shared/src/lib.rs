//! The code that the functions of Holdfast share. The modules in reading order:
//!
//! - [`domain`]: the business, pure. [`domain::decide()`] is the whole of it
//! - [`store`]: the tables, and the loop that commits a decision
//! - [`http`]: requests, answers and problems, as every HTTP function speaks them
//! - [`publishing`]: events as JSON, and the way to the bus
//! - [`order_queue`]: the queue of order events, for a caller that does not wait
//! - [`function`]: the frame of every function
//! - [`aws`]: the configuration of AWS clients; [`settings`]: a function's settings
//! - [`mod@planted`]: bugs for tests to find; none is in a build without its feature
//! - [`telemetry`] and [`metrics`]: logs and metrics

pub mod aws;
pub mod domain;
pub mod function;
pub mod http;
pub mod metrics;
pub mod order_queue;
pub mod planted;
pub mod publishing;
pub mod settings;
pub mod store;
pub mod telemetry;

/// The error of a function's `main`.
pub use lambda_http::Error;
pub use planted::planted;
