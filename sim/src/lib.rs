//! The whole service in one process, on a virtual clock, under faults. The modules in reading order:
//!
//! - [`run`](mod@run): one run from its beginning to its checks; [`ops`]: what is done in it
//! - [`world`]: the service's functions as they are, called by [`queue`], schedule, stream and clients
//! - [`wire`]: where the cut is, between the SDK and AWS; [`faults`], [`requests`], [`refusals`], [`time`]
//! - [`history`]: what was committed; [`checks`], [`deliveries`] and [`answers`]: what must hold of it
//! - [`matrix`]: every operation with every fault, and every crash point; [`scenes`]: what they are made of
//! - [`histories`]: short runs whose histories must be [`linear`]
//! - [`shrink`](mod@shrink): makes a failing run small

#![recursion_limit = "256"]

pub mod answers;
pub mod checks;
pub mod deliveries;
pub mod faults;
pub mod histories;
pub mod history;
pub mod linear;
pub mod matrix;
pub mod ops;
pub mod queue;
pub mod refusals;
pub mod requests;
pub mod run;
pub mod scenes;
pub mod shrink;
pub mod time;
pub mod wire;
pub mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Does something with each item, on some threads. The results come in the order of the items.
pub fn spread<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some((i, item)) = {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    items.get(i).map(|item| (i, item))
                } {
                    let result = work(item);
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((i, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}
