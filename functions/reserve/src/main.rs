//! The Lambda function `reserve`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::Error> {
    reserve::run().await
}
