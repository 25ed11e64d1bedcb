//! The Lambda function `stock-admin`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), shared::Error> {
    stock_admin::run().await
}
