//! A swarm and the model that its own tests check it with.

#![allow(dead_code)] // The tests use more of it.

#[path = "../../../crates/swarm/tests/behaviour/bench.rs"]
mod bench;
#[path = "../../../crates/swarm/tests/behaviour/model.rs"]
mod model;

pub(crate) use model::fuzz;
