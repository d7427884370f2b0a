//! The Mainline DHT as one state machine without I/O.

mod address;
mod bloom;
pub mod message;
mod node_id;

pub use address::Family;
pub use bloom::{BLOOM_LENGTH, Bloom};
pub use node_id::{Distance, NodeId};
