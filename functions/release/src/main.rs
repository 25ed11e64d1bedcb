//! The Lambda function `release`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::Error> {
    release::run().await
}
