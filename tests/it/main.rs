//! One binary for all tests that need a table or a process.
//!
//! - [`support`]: a runner as a process and the domain's verbs over HTTP; tables without a runner
//! - `readme`: the tour, command by command; `walks`: what the README promises beyond it
//! - `orders`, `stock`: the scenarios of `docs/scenarios.md`, by number
//! - `accepted`: orders that are accepted at once and decided later
//! - `events`: orders as events, from the queue to what is published; `sweeps`: holds that end by themselves
//! - `edges`: what comes from outside and is odd, or too much for one answer
//! - `levels`: how stock stands to its threshold; `reconciles`: whether everything adds up while it moves
//! - `storage`: the store against the embedded DynamoDB, with calls and write units counted
//! - `combining`: requests of one process that share transactions
//! - `faults`: a proxy before DynamoDB that misbehaves as the simulation does
//! - `e2e`: the suite that also runs on a deployed stack
//! - `openapi`: the document, and that every answer is as it says
//! - `operations`: metrics, alarms, runbook; `deployment`: what production needs is declared
//! - `modules`: that a crate's modules can be read one after the other
//! - `access`: tokens and roles; `policies`: permissions; `contract`: template, samples and routes; `runner`: processes
//!   and options; `at_once`: several requests in one process
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod accepted;
mod access;
mod at_once;
mod combining;
mod contract;
mod deployment;
mod e2e;
mod edges;
mod events;
mod faults;
mod levels;
mod modules;
mod openapi;
mod operations;
mod orders;
mod policies;
mod readme;
mod reconciles;
mod runner;
mod stock;
mod storage;
mod support;
mod sweeps;
mod walks;
