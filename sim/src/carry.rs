//! How a request and its reply fare between a caller and a server: what each fault makes of them.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::sleep;

use crate::faults::Fault;
use crate::refusals::refusal_of;
use crate::requests::{Call, Reply};

/// The services of AWS, or the way to them.
pub trait Server: Sync {
    /// Carries a request out, which takes a while.
    fn serve(&self, call: &Call, takes: Duration, how: How) -> impl Future<Output = Reply> + Send;

    /// Is told of a fault that did not happen: what was refused does not come twice.
    fn spare(&self, _call: &Call, _fault: Fault) {}
}

/// How a request is carried out.
#[derive(Debug)]
pub enum How {
    /// As it was asked.
    Whole,
    /// A transaction that is under way all the time that it takes.
    Stuck,
    /// Only a part of a batch.
    Part(Rng),
    /// As if it had been asked before.
    Stale(Rng),
}

/// What chance decides of a request.
#[derive(Debug)]
pub struct Chance {
    /// How long it takes there, to be carried out, and back.
    pub latency: Duration,
    /// How long a late or stuck one takes besides; how much later a second copy comes.
    pub delay: Duration,
    /// Whether a lost answer is a connection that ends; whether the answer is that of the first of two copies.
    pub coin: bool,
    /// What the server may choose by.
    pub rng: Rng,
}

/// Carries a request to a server and its reply to the caller, as far as a fault lets them through. What happens on the
/// other side goes on after the answer.
pub async fn carry(
    server: &impl Server,
    call: &Call,
    fault: Option<Fault>,
    chance: Chance,
    answer: impl FnOnce(Reply) + Send,
) {
    let Chance { latency, delay, coin, rng } = chance;
    match fault {
        Some(Fault::KillBefore) => return answer(Reply::Killed),
        Some(Fault::Drop) => return answer(Reply::Reset),
        Some(Fault::Hang) => return,
        Some(Fault::Late) => sleep(delay).await,
        _ => {}
    }
    sleep(latency / 4).await;
    let serve = |how| server.serve(call, latency / 2, how);
    let reply = match fault {
        Some(refused @ (Fault::ErrorBefore | Fault::Throttle | Fault::Conflict)) => refusal_of(refused, call),
        Some(Fault::InProgress) => {
            answer(refusal_of(Fault::InProgress, call));
            server.serve(call, delay, How::Stuck).await;
            return;
        }
        Some(Fault::Partial) => serve(How::Part(rng)).await,
        Some(Fault::Stale) => serve(How::Stale(rng)).await,
        _ => serve(How::Whole).await,
    };
    sleep(latency / 4).await;
    match fault {
        Some(Fault::Lose) if coin => answer(Reply::Reset),
        Some(Fault::Lose | Fault::Late) => {}
        Some(Fault::ErrorAfter) => answer(refusal_of(Fault::ErrorAfter, call)),
        Some(Fault::KillAfter) => answer(Reply::Killed),
        // Twice means that it was applied once. What was refused does not come back by itself.
        Some(Fault::Dup) if !matches!(reply, Reply::Answer(200, _)) => {
            server.spare(call, Fault::Dup);
            answer(reply);
        }
        Some(Fault::Dup) if coin => {
            answer(reply);
            sleep(delay).await;
            serve(How::Whole).await;
        }
        Some(Fault::Dup) => answer(serve(How::Whole).await),
        _ => answer(reply),
    }
}
