//! The engine without sockets, on a virtual clock: every action is carried out or answered by the
//! test.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // The store has threads.

mod announces;
mod chaos;
mod connections;
mod crowd;
mod dht;
mod fuzz;
mod goals;
mod links;
mod local;
mod memory;
mod metadata;
mod net;
mod node;
mod pex;
mod stops;
mod transfer;
mod wire;
