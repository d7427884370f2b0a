//! The parts of the benchmarks that run in processes of their own, so that their cost is separate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::floor::{self, Terms};
use super::line::Line;
use super::{bare, discard, serve};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Sends the bytes of a payload to every connection
    Send { payload: PathBuf, folder: PathBuf, address: SocketAddr },
    /// Receives, hashes and writes a payload, or does only one of these
    Floor { payload: PathBuf, folder: PathBuf, address: SocketAddr, terms: Terms },
    /// Hashes the only file of a payload with so many threads
    Hash { payload: PathBuf, folder: PathBuf, threads: u64 },
    /// Seeds the payloads in the root folders from memory
    Serve {
        requested: PathBuf,
        roots: Vec<PathBuf>,
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Seeds the payload in the root folder over lines with these rates, in KB/s, and this round
    /// trip
    ServeOver {
        root: PathBuf,
        #[arg(long, value_delimiter = ',')]
        rates: Vec<u64>,
        /// In milliseconds
        #[arg(long)]
        rtt: u64,
    },
    /// Downloads and discards: a share of the payload over each connection, or for so long
    Discard {
        payload: PathBuf,
        #[arg(long)]
        seconds: Option<u64>,
        #[arg(long, default_value_t = 1)]
        connections: usize,
        addresses: Vec<SocketAddr>,
    },
}

/// Runs a part to its end, or until it is killed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.role {
        Role::Send { payload, folder, address } => bare::send(payload, folder, *address),
        Role::Floor { payload, folder, address, terms } => {
            floor::run(payload, folder, *address, *terms)
        }
        Role::Hash { payload, folder, threads } => floor::hash(payload, folder, *threads),
        Role::Serve { requested, roots, limit } => serve::serve(roots, requested, *limit),
        Role::ServeOver { root, rates, rtt } => {
            let line =
                |rate: &u64| Line { rate: rate * 1000, round_trip: Duration::from_millis(*rtt) };
            serve::serve_over(root, rates.iter().map(line).collect())
        }
        Role::Discard { payload, seconds, connections, addresses } => {
            discard::run(payload, addresses, *connections, *seconds)
        }
    }
}
