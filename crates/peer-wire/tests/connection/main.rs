//! Tests of `Connection` through its public API: dialogues between two ends, broken rules, limits,
//! timers, and streams split in any way.

mod corpus;
mod dialogue;
mod early;
mod extensions;
#[path = "../fuzz/mod.rs"]
mod fuzz;
mod limits;
mod rules;
mod splits;
mod timers;
mod util;
