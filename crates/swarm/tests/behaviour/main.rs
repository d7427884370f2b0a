//! What a swarm does, seen through its public methods, on a virtual clock. Each behaviour has a test
//! of its own.

mod bench;
mod model;

mod blame;
mod choking;
mod early;
mod memory;
mod peers;
mod pex;
mod picking;
mod properties;
mod requests;
mod slow;
mod trackers;
mod transfer;
mod uploads;
