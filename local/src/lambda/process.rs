//! One process of a function, and the invocations that are under way in it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use tokio::process::{Child, ChildStdin};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::error::InvokeError;
use crate::clock::now_ms;

/// Longest start of a process until it asks for its first invocation, as on AWS.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// An invocation as it is handed out.
pub(super) struct Invocation {
    pub(super) id: String,
    pub(super) deadline_ms: i64,
    pub(super) event: Bytes,
}

/// A process.
pub(super) struct Process {
    function: String,
    child: Mutex<Child>,
    /// The process ends when this is closed, also where nobody is left to end it.
    _stdin: Option<ChildStdin>,
    /// The most invocations at once.
    capacity: usize,
    /// What is to be handed out.
    sender: mpsc::Sender<Invocation>,
    receiver: AsyncMutex<mpsc::Receiver<Invocation>>,
    /// Whether it has asked for an invocation.
    is_ready: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    has_ended: bool,
    /// The invocations under way, by their ids.
    places: HashMap<String, Place>,
}

/// What is kept of an invocation until the process has answered it.
struct Place {
    /// Where the answer is waited for; none if the invocation has timed out.
    caller: Option<oneshot::Sender<Result<Bytes, InvokeError>>>,
    _permit: OwnedSemaphorePermit,
}

/// An invocation that has a place in a process.
pub(super) struct Ticket {
    id: String,
    answer: oneshot::Receiver<Result<Bytes, InvokeError>>,
}

impl Process {
    pub(super) fn new(function: &str, mut child: Child, capacity: usize) -> Self {
        let (sender, receiver) = mpsc::channel(capacity);
        Self {
            function: function.to_owned(),
            _stdin: child.stdin.take(),
            child: Mutex::new(child),
            capacity,
            sender,
            receiver: AsyncMutex::new(receiver),
            is_ready: watch::Sender::new(false),
            state: Mutex::default(),
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it can be given invocations.
    pub(super) fn is_alive(&self) -> bool {
        !self.state().has_ended && matches!(self.child().try_wait(), Ok(None))
    }

    /// A place for one more invocation, if there is one. It keeps the permit until the process has answered.
    pub(super) fn take_place(&self, permit: &mut Option<OwnedSemaphorePermit>) -> Option<Ticket> {
        let mut state = self.state();
        if state.has_ended || state.places.len() >= self.capacity {
            return None;
        }
        let (caller, answer) = oneshot::channel();
        let id = uuid::Uuid::new_v4().to_string();
        let place = Place { caller: Some(caller), _permit: permit.take()? };
        state.places.insert(id.clone(), place);
        Some(Ticket { id, answer })
    }

    /// Runs an invocation once the process has started, and waits for its answer.
    ///
    /// # Errors
    /// If there is none within the time-out.
    pub(super) async fn run(
        &self,
        Ticket { id, mut answer }: Ticket,
        event: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, InvokeError> {
        let ended = |what: &str| InvokeError::Ended(self.function.clone(), what.to_owned());
        tokio::select! {
            biased;
            answer = &mut answer => return answer.unwrap_or_else(|_| Err(ended("the runner ends"))),
            () = self.started() => {}
        }
        let deadline_ms = now_ms() + i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let invocation = Invocation { id: id.clone(), deadline_ms, event };
        // There is room, because there is a place.
        self.sender.try_send(invocation).map_err(|_| ended("it takes no invocation"))?;
        match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(ended("the runner ends"))),
            Err(_) => {
                self.time_out(&id);
                Err(InvokeError::TimedOut(self.function.clone(), timeout))
            }
        }
    }

    /// Gives up an invocation. The others in the process go on, as on Managed Instances, and its place stays taken until
    /// the process answers it. If there are no others, the process is ended, as on Lambda otherwise.
    /// Source: AWS Lambda Developer Guide, "Understanding the Lambda Managed Instances execution environment".
    fn time_out(&self, id: &str) {
        let mut state = self.state();
        if let Some(place) = state.places.get_mut(id) {
            place.caller = None;
        }
        let is_idle = state.places.values().all(|place| place.caller.is_none());
        drop(state);
        if is_idle {
            self.end(|function| InvokeError::Ended(function, "it took too long".to_owned()));
        }
    }

    /// The next invocation for the process, when there is one. The first call says that it has started.
    pub(super) async fn next(&self) -> Option<Invocation> {
        self.is_ready.send_replace(true);
        loop {
            let invocation = self.receiver.lock().await.recv().await?;
            let mut state = self.state();
            match state.places.get(&invocation.id) {
                Some(Place { caller: Some(_), .. }) => return Some(invocation),
                // Nobody waits for it any more.
                _ => drop(state.places.remove(&invocation.id)),
            }
        }
    }

    /// Passes an answer on to the caller. False if there is no such invocation.
    pub(super) fn answer(&self, id: &str, answer: Result<Bytes, String>) -> bool {
        let Some(place) = self.state().places.remove(id) else { return false };
        let answer = answer.map_err(|error| InvokeError::Failed(self.function.clone(), error));
        if let Some(caller) = place.caller {
            // A caller that has gone needs no answer.
            drop(caller.send(answer));
        }
        true
    }

    /// Follows the process to its end, and answers for it then.
    pub(super) async fn follow(&self) {
        let status = tokio::select! {
            started = tokio::time::timeout(INIT_TIMEOUT, self.started()) => {
                if started.is_err() {
                    self.fail_to_start("it does not ask for an invocation");
                }
                self.exited().await
            }
            status = self.exited() => status,
        };
        let what = status.map_or_else(|e| e.to_string(), |status| status.to_string());
        if *self.is_ready.borrow() {
            self.end(|function| InvokeError::Ended(function, what.clone()));
        } else {
            self.fail_to_start(&what);
        }
    }

    /// Ends a process that could not start.
    pub(super) fn fail_to_start(&self, why: &str) {
        self.end(|function| InvokeError::NotStarted(function, why.to_owned()));
    }

    /// Waits until it asks for an invocation.
    async fn started(&self) {
        drop(self.is_ready.subscribe().wait_for(|is_ready| *is_ready).await);
    }

    async fn exited(&self) -> std::io::Result<ExitStatus> {
        // The lock is not held while it waits.
        poll_fn(|context| pin!(self.child().wait()).poll(context)).await
    }

    /// Ends it, and answers everything that is under way in it.
    fn end(&self, error: impl Fn(String) -> InvokeError) {
        let places = {
            let mut state = self.state();
            state.has_ended = true;
            std::mem::take(&mut state.places)
        };
        let mut child = self.child();
        if matches!(child.try_wait(), Ok(None))
            && let Err(e) = child.start_kill()
        {
            eprintln!("function {}: its process cannot be ended: {e}", self.function);
        }
        drop(child);
        for caller in places.into_values().filter_map(|place| place.caller) {
            // A caller that has gone needs no answer.
            drop(caller.send(Err(error(self.function.clone()))));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::sync::Arc;

    use tokio::process::Command;
    use tokio::sync::Semaphore;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    /// A process that lives until it is ended; the test asks for invocations in its stead.
    fn process(capacity: usize) -> Arc<Process> {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        Arc::new(Process::new("f", command.spawn().unwrap(), capacity))
    }

    fn ticket(process: &Process) -> Option<Ticket> {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        process.take_place(&mut Some(permit))
    }

    /// Runs an invocation in the background; answers with its id as well.
    fn start(
        process: &Arc<Process>,
        timeout: Duration,
    ) -> (String, tokio::task::JoinHandle<Result<Bytes, InvokeError>>) {
        let (process, ticket) = (Arc::clone(process), ticket(process).unwrap());
        let id = ticket.id.clone();
        (id, tokio::spawn(async move { process.run(ticket, Bytes::new(), timeout).await }))
    }

    #[tokio::test]
    async fn a_time_out_leaves_the_others_alone() {
        let process = process(2);
        let (late, timing_out) = start(&process, SHORT);
        let (other, going_on) = start(&process, LONG);
        assert!(ticket(&process).is_none(), "it is full");
        let handed_out = [process.next().await.unwrap().id, process.next().await.unwrap().id];
        assert!(handed_out.contains(&late) && handed_out.contains(&other));
        let outcome = timing_out.await.unwrap();
        assert!(matches!(outcome, Err(InvokeError::TimedOut(..))), "{outcome:?}");
        assert!(process.is_alive());
        assert!(ticket(&process).is_none(), "the process still works on it");
        assert!(process.answer(&other, Ok(Bytes::from_static(b"done"))));
        assert_eq!(going_on.await.unwrap().unwrap(), "done");
        assert!(process.answer(&late, Ok(Bytes::new())), "late, and for nobody");
        assert!(!process.answer(&late, Ok(Bytes::new())), "there is no such invocation any more");
        assert!(ticket(&process).is_some());
    }

    #[tokio::test]
    async fn a_process_whose_invocations_have_all_timed_out_is_ended() {
        let process = process(2);
        let both = [start(&process, SHORT), start(&process, SHORT)];
        process.next().await.unwrap();
        for (_, timing_out) in both {
            let outcome = timing_out.await.unwrap();
            assert!(matches!(outcome, Err(InvokeError::TimedOut(..))), "{outcome:?}");
        }
        assert!(!process.is_alive());
        assert!(ticket(&process).is_none());
        assert!(!process.exited().await.unwrap().success());
    }

    #[tokio::test]
    async fn nobody_is_handed_what_nobody_waits_for() {
        let process = process(3);
        let (_, going_on) = start(&process, LONG);
        let first = process.next().await.unwrap().id;
        let (_, timing_out) = start(&process, SHORT);
        assert!(matches!(timing_out.await.unwrap(), Err(InvokeError::TimedOut(..))));
        let (last, waiting) = start(&process, LONG);
        assert_eq!(process.next().await.unwrap().id, last);
        for id in [&first, &last] {
            assert!(process.answer(id, Err("on purpose".to_owned())));
        }
        for failing in [going_on, waiting] {
            let outcome = failing.await.unwrap();
            assert!(matches!(outcome, Err(InvokeError::Failed(_, why)) if why == "on purpose"));
        }
    }

    #[tokio::test]
    async fn an_end_is_answered_for_at_once() {
        let process = process(2);
        let both = [start(&process, LONG), start(&process, LONG)];
        process.next().await.unwrap();
        let following = {
            let process = Arc::clone(&process);
            tokio::spawn(async move { process.follow().await })
        };
        process.child().start_kill().unwrap();
        for (_, running) in both {
            let outcome = running.await.unwrap();
            assert!(matches!(outcome, Err(InvokeError::Ended(..))), "{outcome:?}");
        }
        following.await.unwrap();
        assert!(!process.is_alive());
    }

    #[tokio::test]
    async fn an_end_before_the_first_poll_is_a_failed_start() {
        let process = process(1);
        let (_, waiting) = start(&process, LONG);
        process.fail_to_start("a setting is bad");
        let outcome = waiting.await.unwrap();
        assert!(matches!(outcome, Err(InvokeError::NotStarted(_, why)) if why == "a setting is bad"));
    }
}
