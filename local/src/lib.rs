//! All of Holdfast on one machine, as it is deployed: it reads `template.yaml` and stands in for the
//! parts of AWS that the template uses. The modules in reading order, lowest first; none uses one that stands below it:
//!
//! - [`account`]: where on AWS this machine pretends to be; [`clock`]: what time it is
//! - [`template`]: what the template declares
//! - [`iam`]: the functions' roles; [`dynamodb`]: the embedded database; [`queues`]: SQS
//! - [`lambda`]: functions as processes, and the Runtime API that they poll
//! - [`bus`]: the event bus; [`sources`]: queues, streams and schedules that call functions
//! - [`aws`]: the endpoint that speaks the AWS protocols, in front of them
//! - [`auth`]: issues and checks tokens; [`gateway`]: API Gateway
//! - [`run`]: brings everything up and down
//! - [`client`]: commands that talk to a running one; [`redrive`]: the one for records that were given up
//! - [`cli`]: the options and commands

pub mod account;
pub mod auth;
pub mod aws;
pub mod bus;
pub mod cli;
pub mod client;
pub mod clock;
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
