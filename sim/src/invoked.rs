//! An invocation, as the wire knows it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

tokio::task_local! {
    /// The invocation that is being polled.
    static INVOKED: Arc<Invoked>;
}

/// An invocation, as the wire knows it.
#[derive(Debug)]
pub struct Invoked {
    /// Its name in traces and plans.
    pub label: String,
    /// Told when its process ends.
    pub killed: Notify,
    calls: AtomicU32,
    planned: Mutex<Vec<u32>>,
}

impl Invoked {
    /// A new one.
    #[must_use]
    pub fn new(label: &str) -> Arc<Self> {
        let (killed, calls, planned) = (Notify::new(), AtomicU32::new(0), Mutex::default());
        Arc::new(Self { label: label.to_owned(), killed, calls, planned })
    }

    /// Runs something as this invocation.
    pub async fn run<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        INVOKED.scope(Arc::clone(self), work).await
    }

    /// The one that is being polled; a stand-in where none is.
    #[must_use]
    pub fn current() -> Arc<Self> {
        INVOKED.try_with(Arc::clone).unwrap_or_else(|_| Self::new("outside"))
    }

    /// Counts a call, and answers which of its calls it is, from 0.
    pub fn begin_call(&self) -> u32 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// For each planned fault, how many calls there were that it applies to.
    pub fn planned(&self) -> MutexGuard<'_, Vec<u32>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many calls it has made.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}
