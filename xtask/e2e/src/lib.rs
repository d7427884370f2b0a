//! Runs bt-cli like its users: as a process, with real sockets, files and other programs.
//!
//! - [`integration`]: suites of cases, each with its outcome
//! - [`demo`]: a download to watch; [`soak`]: a swarm that runs for a long time
//! - [`clients`]: how each BitTorrent program is started on a torrent; [`bt_cli`]: how ours is run.
//!   The benchmarks use them too.
//!
//! ```no_run
//! use e2e::integration::{Options, Suite};
//!
//! // Our own peers and trackers against bt-cli, on loopback.
//! e2e::integration::run(Some(Suite::Loopback), Options::default())?;
//! # Ok::<(), anyhow::Error>(())
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets, files and clocks.

pub mod bt_cli;
pub mod clients;
pub mod demo;
pub mod integration;
mod rng;
pub mod soak;
