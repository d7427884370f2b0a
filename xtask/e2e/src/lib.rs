//! bt-cli as its users run it: a process, against real sockets, files and other people's programs.
//!
//! - [`integration`]: suites of cases, each with its verdict
//! - [`demo`]: a download to watch; [`soak`]: a swarm that runs for a long time
//! - [`clients`]: how each BitTorrent program is started on a torrent; [`bt_cli`]: how ours is run.
//!   The benchmarks use them too.
//!
//! ```no_run
//! use e2e::integration::{Options, Suite};
//!
//! // Everything that plays peers or trackers against bt-cli on loopback.
//! e2e::integration::run(Some(Suite::Loopback), Options::default())?;
//! # Ok::<(), anyhow::Error>(())
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Real sockets, files and clocks.

pub mod bt_cli;
pub mod clients;
pub mod demo;
mod draws;
pub mod integration;
pub mod soak;
