//! The Lambda function `order-events`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::Error> {
    order_events::run().await
}
