//! An invocation, or a process that many share, as the wire knows it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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
    is_killed: AtomicBool,
    calls: AtomicU32,
    planned: Mutex<Vec<u32>>,
}

impl Invoked {
    /// A new one.
    #[must_use]
    pub fn new(label: &str) -> Arc<Self> {
        let (killed, is_killed) = (Notify::new(), AtomicBool::new(false));
        let (calls, planned) = (AtomicU32::new(0), Mutex::default());
        Arc::new(Self { label: label.to_owned(), killed, is_killed, calls, planned })
    }

    /// Runs something as this invocation.
    pub async fn run<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        INVOKED.scope(Arc::clone(self), work).await
    }

    /// The invocation that is being polled. What no invocation does is done by the process; a stand-in where there is
    /// none.
    #[must_use]
    pub fn current(process: Option<&Arc<Self>>) -> Arc<Self> {
        let outside = |_| process.map_or_else(|| Self::new("outside"), Arc::clone);
        INVOKED.try_with(Arc::clone).unwrap_or_else(outside)
    }

    /// Ends it. Of a process, everything that waits for it hears of it.
    pub fn kill(&self) {
        self.is_killed.store(true, Ordering::Relaxed);
        self.killed.notify_waiters();
        self.killed.notify_one();
    }

    /// Whether it has been ended.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Relaxed)
    }

    /// The label of the process that takes the place of this one: `process2.0`, `process2.1`, …
    #[must_use]
    pub fn next_label(&self) -> String {
        let (name, number) = self.label.rsplit_once('.').unwrap_or((&self.label, "0"));
        format!("{name}.{}", number.parse::<u32>().map_or(1, |number| number + 1))
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
