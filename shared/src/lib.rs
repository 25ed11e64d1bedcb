//! What the functions of Holdfast share. The modules in reading order:
//!
//! - [`domain`]: the business, pure. [`domain::decide()`] is the whole of it
//! - [`store`]: the tables, and the loop that commits a decision
//! - [`http`]: requests, answers and problems, as every HTTP function speaks them
//! - [`settings`] and [`telemetry`]: what a function is set to, and what it logs

pub mod domain;
pub mod http;
pub mod settings;
pub mod store;
pub mod telemetry;

/// What a function's `main` ends with.
pub use lambda_http::Error;
