//! The processes that the functions run in: some have one request at a time, others share their transactions.

use std::cell::RefCell;
use std::sync::Arc;

use shared::function::{Clock, Deps};
use shared::order_queue::OrderQueue;
use shared::settings::Settings;
use shared::store::Store;

use crate::faults::source;
use crate::invoked::Invoked;
use crate::wire::Wire;

/// How many instances of the functions there are, each with a clock of its own.
const INSTANCES: usize = 4;

/// An instance of the functions.
pub struct Instance {
    /// By how much its clock is off, in milliseconds.
    pub skew_ms: i64,
    /// The dependencies of a function that has one request at a time.
    pub alone: Arc<Deps>,
    /// The process whose requests share transactions.
    shared: RefCell<Shared>,
}

/// A process whose requests share transactions.
#[derive(Clone)]
pub struct Shared {
    /// The dependencies of its functions.
    pub deps: Arc<Deps>,
    /// The process, as the wire knows it.
    pub process: Arc<Invoked>,
}

impl Instance {
    /// All of them, with clocks that are off by at most so much.
    pub async fn all(wire: &Wire, seed: u64, skew_ms: i64, settings: &Settings) -> Vec<Self> {
        let store = Store::connect(wire.config(), settings.store.clone()).await;
        let mut instances = Vec::new();
        for i in 0..INSTANCES {
            let mut rng = source(seed, "clock", u32::try_from(i).unwrap_or(0));
            let skew_ms = rng.i64(-skew_ms..=skew_ms);
            let time = wire.time;
            let clock = Clock::new(move || time.shown(skew_ms));
            let alone = Arc::new(deps(store.clone(), settings.clone(), clock));
            let shared = RefCell::new(Shared::start(wire, &alone, &format!("process{i}.0")).await);
            instances.push(Self { skew_ms, alone, shared });
        }
        instances
    }

    /// The process whose requests share transactions. Where it was killed, another is started.
    pub async fn shared(&self, wire: &Wire) -> Shared {
        let current = self.shared.borrow().clone();
        if !current.process.is_killed() {
            return current;
        }
        let next = Shared::start(wire, &self.alone, &current.process.next_label()).await;
        self.shared.borrow_mut().clone_from(&next);
        next
    }
}

impl Shared {
    async fn start(wire: &Wire, alone: &Deps, label: &str) -> Self {
        let process = Invoked::new(label);
        let mut settings = alone.settings.clone();
        settings.store.combines = true;
        let store = Store::connect(wire.of_process(&process).config(), settings.store.clone()).await;
        Self { deps: Arc::new(deps(store, settings, alone.clock.clone())), process }
    }
}

fn deps(store: Store, settings: Settings, clock: Clock) -> Deps {
    // Nobody here prefers an answer before the work is done, so nothing goes this way.
    let order_queue = OrderQueue::new(|| shared::aws::config_for("http://localhost", "sim"));
    Deps { store, order_queue, settings, clock }
}
