//! All of Holdfast on one machine, as it is deployed: it reads `template.yaml` and stands in for the
//! parts of AWS that the template uses. The modules in reading order:
//!
//! - [`cli`]: the options and commands; [`client`]: those that talk to a running one; [`redrive`]: the one for records
//!   that were given up
//! - [`template`]: what the template declares
//! - [`run`]: brings everything up and down
//! - [`gateway`]: API Gateway; [`auth`] issues and checks its tokens
//! - [`lambda`]: functions as processes, and the Runtime API that they poll
//! - [`sources`]: queues, streams and schedules that call functions
//! - [`aws`]: the endpoint that speaks the AWS protocols; behind it [`iam`], the functions' roles,
//!   [`dynamodb`], the embedded database,
//!   [`queues`] and the event [`bus`]

pub mod auth;
pub mod aws;
pub mod bus;
pub mod cli;
pub mod client;
pub mod dynamodb;
pub mod gateway;
pub mod iam;
pub mod lambda;
pub mod queues;
pub mod redrive;
pub mod run;
pub mod sources;
pub mod template;

pub use cli::main;
