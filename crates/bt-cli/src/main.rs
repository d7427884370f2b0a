//! bt-cli
fn main() {}
