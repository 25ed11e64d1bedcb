//! The Lambda function `settle`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::Error> {
    settle::run().await
}
