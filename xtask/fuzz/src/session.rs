//! A session's engine and the machine that its own tests drive it by.

#[path = "../../../crates/session/tests/engine/fuzz.rs"]
mod fuzz;

pub(crate) use fuzz::fuzz;
