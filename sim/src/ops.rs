//! The operations of the shop, its people and its machines in a run. In reading order:
//!
//! - `lines`: products and quantities; `op`: what is done
//! - `sent`: as requests and events; `decided`: as the domain takes it, for comparison
//! - `random`: the operations of a run

mod decided;
mod lines;
mod op;
mod random;
mod sent;

pub use decided::{DEFAULT_TTL, delivery, reservation_id};
pub use lines::{Lines, has_lines, sum_by_product, totals_of};
pub use op::{Ask, Change, Kind, Op};
pub use random::{lines_of, random};
pub use sent::{Request, event};
