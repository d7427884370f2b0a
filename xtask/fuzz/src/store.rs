//! A store on the in-memory disk that its own tests use.

#![allow(dead_code, unused_imports)] // The tests use more of it.

#[path = "../../../crates/piece-store/tests/common/mod.rs"]
mod common;

pub(crate) use common::fuzz::fuzz;
