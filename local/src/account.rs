//! Where on AWS this machine pretends to be.

/// The stack; resources are named after it.
pub const STACK_NAME: &str = "holdfast";
/// The region.
pub const REGION: &str = "us-east-1";
/// The account.
pub const ACCOUNT_ID: &str = "000000000000";
