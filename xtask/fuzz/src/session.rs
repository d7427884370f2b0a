//! A session's engine and the model that its own tests drive it with.

#[path = "../../../crates/session/tests/engine/fuzz.rs"]
mod fuzz;

pub(crate) use fuzz::fuzz;
