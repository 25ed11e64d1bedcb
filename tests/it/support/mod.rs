//! The language of the tests: a runner, its answers, and the state of its tables.

mod api;
pub(crate) mod faults;
mod place;
pub(crate) mod process;
pub(crate) mod tables;

pub(crate) use api::{Answer, Api, lines};
pub(crate) use place::{Place, claims, template_without};
pub(crate) use process::Runner;
pub(crate) use tables::{Tables, conserved, deps};
