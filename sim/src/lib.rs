//! The whole service in one process, on a virtual clock, under faults. The modules in reading order, lowest first; none
//! uses one that stands below it:
//!
//! - [`time`]: the virtual clock; [`faults`]: what can go wrong; [`threads`]: several runs at the same time
//! - [`linear`]: whether a history is linearizable
//! - [`history`]: what was committed, and what must hold after every commit
//! - [`ops`]: what the shop, its people and its machines do
//! - [`requests`]: what goes over the wire; [`refusals`]: how AWS refuses; [`carry`](mod@carry): what each fault makes of a
//!   request; [`backend`]: the services on the other side
//! - [`invoked`]: an invocation; [`wire`]: where the cut is, between the SDK and AWS
//! - [`processes`]: the processes that the functions run in
//! - [`queue`]: order events on their way; [`world`]: the service's functions as they are, called by queue, schedule,
//!   stream and clients
//! - [`deliveries`], [`checks`] and [`answers`]: what must hold in the end; [`ends`]: how a run ended
//! - [`run`](mod@run): one run from its beginning to its checks
//! - [`scenes`]: what the matrix is made of; [`matrix`]: every operation with every fault, and every crash point
//! - [`histories`]: short runs whose histories must be linearizable
//! - [`shrink`](mod@shrink): makes a failing run small

#![recursion_limit = "256"]

pub mod answers;
pub mod backend;
pub mod carry;
pub mod checks;
pub mod deliveries;
pub mod ends;
pub mod faults;
pub mod histories;
pub mod history;
pub mod invoked;
pub mod linear;
pub mod matrix;
pub mod ops;
pub mod processes;
pub mod queue;
pub mod refusals;
pub mod requests;
pub mod run;
pub mod scenes;
pub mod shrink;
pub mod threads;
pub mod time;
pub mod wire;
pub mod world;
