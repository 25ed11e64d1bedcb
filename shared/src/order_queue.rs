//! The queue of order events, for the function that puts orders into it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_config::ConfigLoader;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;

use crate::aws;

/// The way to the queue. Cheap to clone. The client is made when a message is sent for the first time: most functions send
/// none, and most callers of the one that does wait for the outcome.
#[derive(Clone)]
pub struct OrderQueue(Arc<Connection>);

struct Connection {
    config: Box<dyn Fn() -> ConfigLoader + Send + Sync>,
    client: OnceLock<Client>,
}

impl OrderQueue {
    /// A queue that is reached as `config` says. Nothing is connected yet.
    #[must_use]
    pub fn new(config: impl Fn() -> ConfigLoader + Send + Sync + 'static) -> Self {
        Self(Arc::new(Connection { config: Box::new(config), client: OnceLock::new() }))
    }

    /// Sends a message to the queue at `url`, once.
    ///
    /// # Errors
    /// If the queue has not said that it has the message. It may have it all the same.
    pub async fn send(&self, url: &str, message: String) -> Result<(), String> {
        let sent = self.client().await.send_message().queue_url(url).message_body(message).send().await;
        sent.map(drop).map_err(|e| format!("an order was not queued: {}", DisplayErrorContext(&e)))
    }

    async fn client(&self) -> &Client {
        if let Some(client) = self.0.client.get() {
            return client;
        }
        let client = Client::new(&aws::load((self.0.config)()).await);
        // Another request may have made one meanwhile.
        self.0.client.get_or_init(|| client)
    }
}

impl fmt::Debug for OrderQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OrderQueue")
    }
}
