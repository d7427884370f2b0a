//! What is drawn from a seed: the size of the network, its quality, and what happens to it.

use std::fmt;
use std::time::Duration;

use super::net::Quality;
use crate::rng::Rng;

/// The most nodes at the start.
const MAX_NODES: u64 = 250;

/// Something that happens to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Theme {
    /// Further nodes join.
    Join,
    /// Nodes come and go.
    Churn,
    /// A node starts with saved nodes, most of them dead, and dead routers.
    Saved,
    /// One node, or all, have no network for a while.
    Outage,
    /// Nodes behind NATs join.
    Nat,
    /// One of two families fails.
    Families,
    /// Addresses change while liars vote.
    Address,
    /// Sybils surround a torrent.
    Eclipse,
    /// Nodes name nodes that do not exist, or victims.
    Pollute,
    /// Queries and answers with forged addresses.
    Spoof,
    /// Stores are filled.
    Flood,
}

const THEMES: [Theme; 11] = [
    Theme::Join,
    Theme::Churn,
    Theme::Saved,
    Theme::Outage,
    Theme::Nat,
    Theme::Families,
    Theme::Address,
    Theme::Eclipse,
    Theme::Pollute,
    Theme::Spoof,
    Theme::Flood,
];

#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// In the order in which they are played.
    pub(super) themes: Vec<Theme>,
    pub(super) nodes: usize,
    /// Whether there are two families.
    pub(super) has_v6: bool,
    pub(super) quality: Quality,
    /// The time between two nodes that join, in milliseconds.
    pub(super) gap: u64,
    /// The time until the network is expected to work.
    pub(super) settle: Duration,
}

impl Plan {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let count = 1 + usize::from(rng.chance(30)) + usize::from(rng.chance(15));
        let mut themes = THEMES.to_vec();
        rng.shuffle(&mut themes);
        themes.truncate(count);
        let largest = match rng.below(100) {
            0..80 => 60,
            80..97 => 120,
            _ => MAX_NODES,
        };
        let delay = rng.within(5..60);
        Self {
            has_v6: themes.contains(&Theme::Families),
            themes,
            nodes: rng.within(24..largest) as usize,
            quality: Quality {
                loss: rng.below(30),
                twice: rng.below(20),
                delay: delay..delay + rng.within(20..200),
            },
            gap: rng.within(50..1500),
            settle: Duration::from_secs(rng.within(180..360)),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quality { loss, twice, delay } = &self.quality;
        writeln!(f, "{:?}", self.themes)?;
        writeln!(f, "{} nodes, a second family: {}", self.nodes, self.has_v6)?;
        writeln!(f, "{loss} of 1000 datagrams are lost, {twice} doubled; {delay:?} ms")?;
        write!(f, "a node joins every {} ms, then {:?}", self.gap, self.settle)
    }
}
