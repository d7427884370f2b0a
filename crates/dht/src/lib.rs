//! The Mainline DHT as one state machine without I/O.

#![allow(dead_code)] // The state machine that uses the parts follows.

mod address;
mod bloom;
mod calls;
pub mod message;
mod node_id;
mod peer_store;
mod rate;
mod send_budget;
mod table;
mod throttle;
mod tokens;
mod votes;

pub use address::Family;
pub use bloom::{BLOOM_LENGTH, Bloom};
pub use node_id::{Distance, NodeId};
