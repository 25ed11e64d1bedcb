//! All of Holdfast on one machine, as it is deployed: it reads `template.yaml` and stands in for the
//! parts of AWS that the template uses. The modules in reading order:
//!
//! - [`cli`]: the options and commands
//! - [`template`]: what the template declares
//! - [`run`]: brings everything up and down
//! - [`gateway`]: API Gateway; [`auth`] issues and checks its tokens
//! - [`lambda`]: functions as processes, and the Runtime API that they poll
//! - [`aws`]: the endpoint that speaks the AWS protocols; [`dynamodb`] is the embedded database

pub mod auth;
pub mod aws;
pub mod cli;
pub mod dynamodb;
pub mod gateway;
pub mod lambda;
pub mod run;
pub mod template;

pub use cli::main;
