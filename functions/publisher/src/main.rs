//! The Lambda function `publisher`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::Error> {
    publisher::run().await
}
