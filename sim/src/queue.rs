//! The queue of order events as SQS has it: at least once, in any order, visible again after a while, set
//! aside after five receives.

use fastrand::Rng;
use serde_json::{Value, json};

/// After so many receives a message is set aside.
const MAX_RECEIVES: u32 = 5;
/// How long a message that was received is not seen, in milliseconds.
const VISIBILITY_MS: i64 = 20_000;
/// Most messages in a batch.
const BATCH: usize = 10;

#[derive(Debug, Clone)]
struct Message {
    id: String,
    body: Value,
    receives: u32,
    visible_at: i64,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    messages: Vec<Message>,
    dead: Vec<Message>,
    sent: u32,
}

impl Queue {
    /// Takes a message in.
    pub fn send(&mut self, body: Value, visible_at: i64) {
        self.sent += 1;
        let id = format!("message-{}", self.sent);
        self.messages.push(Message { id, body, receives: 0, visible_at });
    }

    /// A batch of what is visible, in any order; sometimes a message is handed out without being hidden.
    pub fn receive(&mut self, now: i64, rng: &mut Rng) -> Vec<Value> {
        let (dead, alive) = std::mem::take(&mut self.messages)
            .into_iter()
            .partition(|m| m.visible_at <= now && m.receives >= MAX_RECEIVES);
        self.messages = alive;
        self.dead.extend::<Vec<Message>>(dead);
        let mut visible: Vec<usize> =
            (0..self.messages.len()).filter(|i| self.messages[*i].visible_at <= now).collect();
        rng.shuffle(&mut visible);
        visible.truncate(rng.usize(1..=BATCH));
        let hand_out = |i: usize| {
            let message = &mut self.messages[i];
            message.receives += 1;
            if rng.u8(0..20) > 0 {
                message.visible_at = now + VISIBILITY_MS;
            }
            json!({"messageId": message.id, "body": message.body.to_string()})
        };
        visible.into_iter().map(hand_out).collect()
    }

    /// Those that were worked on are done; the others of the batch come again.
    pub fn answered(&mut self, batch: &[Value], failures: &Value) {
        let failed = |id: &str| {
            failures.as_array().into_iter().flatten().any(|failure| failure["itemIdentifier"] == *id)
        };
        let done: Vec<&str> =
            batch.iter().filter_map(|record| record["messageId"].as_str()).filter(|id| !failed(id)).collect();
        self.messages.retain(|message| !done.contains(&message.id.as_str()));
    }

    /// Sends the messages that were set aside once more.
    pub fn redrive(&mut self) {
        for mut message in self.dead.drain(..) {
            message.receives = 0;
            self.messages.push(message);
        }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bodies of what was set aside.
    pub fn dead(&self) -> impl Iterator<Item = &Value> {
        self.dead.iter().map(|message| &message.body)
    }
}
