//! Scenarios that are not drawn: one node downloads from seeders of given rates. The result is how
//! long that takes.

use std::fmt;
use std::iter::repeat_n;
use std::time::Duration;

use session::limits::{DEFAULT_MAX_MEMORY, span_memory};

use super::{NetworkPlan, NodePlan, Scenario, Start, TrackerPlan, Trick, Want};
use crate::network::Quality;
use crate::payload::Layout;

/// A swarm of seeders with given rates, from which one node downloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The most that each seeder sends, in bytes per second: an entry per seeder, 250 at most.
    pub rates: Vec<u64>,
    /// The time from a request to its answer, without queueing.
    pub round_trip: Duration,
    /// The size of the torrent, in bytes.
    pub size: u64,
    /// The length of its pieces, in bytes.
    pub piece_length: u32,
    /// The node's memory for payload, in bytes.
    pub span_memory: usize,
    /// Which of the seeders send wrong bytes in half of their blocks.
    pub liars: Vec<usize>,
}

/// Swarms of seeders like those of `cargo xtask bench swarm`, with a session's default memory for
/// payload on two cores. Each has the least share of the ideal rate that is expected, in percent.
/// The last one is the second with liars of each rate.
pub fn shapes() -> Vec<(Shape, f64)> {
    let shape = |each: usize, kilobytes: &[u64], round_trip, mebibytes: u64, piece_length| Shape {
        rates: kilobytes.iter().flat_map(|rate| repeat_n(rate * 1000, each)).collect(),
        round_trip: Duration::from_millis(round_trip),
        size: mebibytes << 20,
        piece_length,
        span_memory: span_memory(DEFAULT_MAX_MEMORY, 2),
        liars: Vec::new(),
    };
    let unequal = shape(10, &[100, 300, 1000, 3000], 150, 192, 1 << 20);
    let with_liars = Shape { liars: vec![0, 10, 20, 30], ..unequal.clone() };
    vec![
        (shape(20, &[2000], 80, 256, 1 << 20), 93.0),
        (unequal, 82.0),
        (shape(20, &[50, 100, 300, 1000], 120, 512, 4 << 20), 94.0),
        (with_liars, 65.0),
    ]
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peers, round_trip) = (self.rates.len(), self.round_trip.as_millis());
        let (size, piece) = (self.size >> 20, self.piece_length >> 10);
        let liars = match self.liars.len() {
            0 => String::new(),
            count => format!(", {count} of them liars"),
        };
        write!(
            f,
            "{peers} seeders{liars}, RTT {round_trip} ms, {size} MiB in pieces of {piece} KiB"
        )
    }
}

impl Shape {
    /// Returns how long the download takes if every seeder sends at its rate from start to end.
    pub fn ideal(&self) -> Duration {
        let rate: u64 = self.rates.iter().sum();
        Duration::from_secs_f64(self.size as f64 / rate.max(1) as f64)
    }
}

impl Scenario {
    /// A scenario in which nothing is drawn and nothing goes wrong: a torrent of one file.
    pub(crate) fn quiet(size: u64, piece_length: u32, nodes: Vec<NodePlan>) -> Self {
        let files = vec![(String::new(), size)];
        Self {
            layout: Layout { files, piece_length, trackers: Vec::new(), zeros: 0 },
            nodes,
            liars: Vec::new(),
            network: NetworkPlan {
                max_latency: 0,
                rates: (1, 1),
                capacity: 0,
                lost_connects: 0,
                portion: 1 << 20,
            },
            wires: Vec::new(),
            trackers: TrackerPlan {
                down_until: Duration::ZERO,
                failing: 0,
                rubbish: 0,
                interval: 1800,
                faulty_until: Duration::ZERO,
                returns_dead_peers: false,
            },
            incidents: Vec::new(),
            missing: None,
            rival: None,
            evictions: 0,
        }
    }

    /// A node that downloads from the seeders of `shape`.
    pub(crate) fn shaped(shape: &Shape) -> Self {
        let (capacity, latency) = (usize::MAX / 8, shape.round_trip / 2);
        let wire = |rate: &u64| Quality { capacity, rate: *rate, latency };
        let wrong_bytes = |seeder| if shape.liars.contains(&seeder) { 50 } else { 0 };
        let downloader = NodePlan {
            span_memory: shape.span_memory,
            named_liars: shape.rates.len(),
            ..NodePlan::new(Start::Nothing, vec![Want::All])
        };
        let seeders = 0..shape.rates.len();
        Self {
            liars: seeders.map(|seeder| Trick::WrongBytes(wrong_bytes(seeder))).collect(),
            wires: shape.rates.iter().map(wire).collect(),
            ..Self::quiet(shape.size, shape.piece_length, vec![downloader])
        }
    }
}
