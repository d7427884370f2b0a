//! A session's core and the machine that its own tests drive it by.

#[path = "../../../crates/session/tests/core/fuzz.rs"]
mod fuzz;

pub(crate) use fuzz::fuzz;
