//! The Lambda function `check`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::Error> {
    check::run().await
}
