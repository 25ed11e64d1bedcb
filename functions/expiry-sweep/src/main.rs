//! The Lambda function `expiry-sweep`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::Error> {
    expiry_sweep::run().await
}
