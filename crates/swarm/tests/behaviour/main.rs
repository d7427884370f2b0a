//! What a swarm does, seen through its public door. Each behaviour is a test of its own, on a
//! virtual clock.

mod bench;
mod model;
mod net;

mod blame;
mod choking;
mod determinism;
mod memory;
mod peers;
mod picking;
mod properties;
mod requests;
mod slow;
mod trackers;
mod transfer;
mod uploads;
