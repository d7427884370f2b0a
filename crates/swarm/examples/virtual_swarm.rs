//! A seeder and a leecher exchange a torrent on a virtual clock, and print what happens.
//!
//! ```text
//! cargo run -p swarm --example virtual_swarm [MiB]
//! ```
//!
//! The link between them takes 50 ms each way and carries 4 MiB per second. There is no payload,
//! because a swarm never sees any.

use std::collections::VecDeque;
use std::time::Duration;

use swarm::{
    BeginTransferError, Bitfield, BlockFate, BlockRequest, Committed, ConnectedPeer, Geometry,
    Output, PeerId, PeerKey, SpanBudget, SpanLayout, Swarm, SwarmConfig,
};

const DELAY: Duration = Duration::from_millis(50);
const BYTES_PER_SECOND: u64 = 4 << 20;
/// Either end knows the other by this key.
const OTHER: PeerKey = PeerKey(1);

/// One end, with what is on its way to it, in order of arrival.
struct End {
    name: &'static str,
    swarm: Swarm,
    layout: SpanLayout,
    budget: SpanBudget,
    inbox: VecDeque<(Duration, Message)>,
    /// The requests of the other end that are not answered.
    wants: VecDeque<BlockRequest>,
    /// When its link is free again.
    busy_until: Duration,
    quiet: u32,
}

enum Message {
    Wire(Output),
    Block(BlockRequest),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mebibytes: u64 = std::env::args().nth(1).map_or(Ok(16), |text| text.parse())?;
    let geometry = Geometry::new(mebibytes << 20, 1 << 20)?;
    let mut ends = [
        End::new("seeder ", geometry, Bitfield::full(geometry.piece_count()), 1)?,
        End::new("leecher", geometry, Bitfield::new(geometry.piece_count()), 2)?,
    ];
    let mut now = Duration::ZERO;
    for end in 0..2 {
        let port = 6881 + end as u16;
        let other = ConnectedPeer {
            address: ([192, 0, 2, 1], port).into(),
            outgoing: end == 0,
            fast: false,
            peer_id: PeerId([2 - end as u8; 20]),
        };
        ends[end].swarm.handle_connected(now, OTHER, other)?;
        let theirs = ends[1 - end].have().clone();
        ends[end].swarm.handle_bitfield(now, OTHER, 0, &theirs.as_bytes(), true);
    }

    while !ends[1].swarm.is_complete() {
        for end in 0..2 {
            let sent = ends[end].act(now);
            ends[1 - end].inbox.extend(sent);
        }
        let Some(next) = ends.iter().filter_map(|end| end.next(now)).min() else { break };
        now = next.max(now);
        for end in &mut ends {
            end.wake(now);
        }
    }
    let [seeder, leecher] = &ends;
    println!(
        "{} pieces in {:.2} s; {} bytes sent, {} received, {} wasted",
        leecher.have().count(),
        now.as_secs_f64(),
        seeder.swarm.uploaded(),
        leecher.swarm.downloaded(),
        leecher.swarm.wasted()
    );
    Ok(())
}

impl End {
    fn new(
        name: &'static str,
        geometry: Geometry,
        have: Bitfield,
        id: u8,
    ) -> Result<Self, BeginTransferError> {
        let now = Duration::ZERO;
        let mut swarm = Swarm::new(now, &SwarmConfig::new(PeerId([id; 20])));
        let wanted = Bitfield::full(geometry.piece_count());
        swarm.begin_transfer(now, geometry, have, wanted, &[])?;
        Ok(Self {
            name,
            swarm,
            layout: SpanLayout::new(geometry),
            budget: SpanBudget::new(8 << 20),
            inbox: VecDeque::new(),
            wants: VecDeque::new(),
            busy_until: Duration::ZERO,
            quiet: 0,
        })
    }

    fn have(&self) -> &Bitfield {
        self.swarm.pieces().expect("the transfer has started").have()
    }

    /// Carries out the outputs. Returns what goes to the other end, and when it arrives.
    fn act(&mut self, now: Duration) -> Vec<(Duration, Message)> {
        let mut sent = Vec::new();
        while let Some(output) = self.swarm.poll_output(now, &mut self.budget) {
            self.show(now, &output);
            if matches!(output, Output::Choke { .. }) {
                self.wants.clear();
            }
            match output {
                Output::Commit { piece, .. } => {
                    // The hash matches, and the disk takes no time.
                    self.budget.release(self.layout.cost(piece));
                    self.swarm.handle_committed(now, piece, Committed::Verified { digests: None });
                }
                Output::OpenSpans { .. } | Output::Completed => {}
                message => sent.push((now + DELAY, Message::Wire(message))),
            }
        }
        while self.busy_until <= now + DELAY
            && let Some(request) = self.wants.pop_front()
        {
            let took = u64::from(request.length()) * 1_000_000 / BYTES_PER_SECOND;
            self.busy_until = self.busy_until.max(now) + Duration::from_micros(took);
            self.swarm.handle_sent(now, OTHER, request.length());
            sent.push((self.busy_until + DELAY, Message::Block(request)));
        }
        sent
    }

    /// Receives what has arrived, and lets timers expire.
    fn wake(&mut self, now: Duration) {
        while let Some((_, message)) = self.inbox.pop_front_if(|(at, _)| *at <= now) {
            match message {
                Message::Wire(output) => self.receive(now, &output),
                Message::Block(request) => {
                    self.swarm.handle_payload(now, OTHER, request.length());
                    if self.swarm.handle_part(now, OTHER, request, 0) == BlockFate::Discard {
                        println!(
                            "{:7.3} {} did not need {request:?}",
                            now.as_secs_f64(),
                            self.name
                        );
                    }
                    self.swarm.handle_block(now, OTHER, request);
                }
            }
        }
        if self.swarm.poll_timeout().is_some_and(|at| at <= now) {
            self.swarm.handle_timeout(now);
        }
    }

    fn receive(&mut self, now: Duration, said: &Output) {
        match *said {
            Output::Interested { .. } => self.swarm.handle_interested(now, OTHER),
            Output::NotInterested { .. } => self.swarm.handle_not_interested(now, OTHER),
            Output::Choke { .. } => self.swarm.handle_choke(now, OTHER),
            Output::Unchoke { .. } => self.swarm.handle_unchoke(now, OTHER),
            Output::Have { piece, .. } => self.swarm.handle_have(now, OTHER, piece),
            Output::Request { request, .. } if self.swarm.serves(OTHER, request.piece()) => {
                self.wants.push_back(request);
            }
            Output::Cancel { request, .. } => self.wants.retain(|want| *want != request),
            _ => {}
        }
    }

    /// Returns when something happens next.
    fn next(&self, now: Duration) -> Option<Duration> {
        let arrival = self.inbox.front().map(|(at, _)| *at);
        let link = (!self.wants.is_empty()).then(|| self.busy_until.saturating_sub(DELAY).max(now));
        [arrival, self.swarm.poll_timeout(), link].into_iter().flatten().min()
    }

    /// Prints an output; of requests in a row only the first.
    fn show(&mut self, now: Duration, output: &Output) {
        if let Output::Request { request, .. } = output {
            self.quiet += 1;
            if self.quiet == 1 {
                let window = self.swarm.peer(OTHER).map_or(0, |peer| peer.window);
                println!(
                    "{:7.3} {} asks for piece {} from block {}; window {window}",
                    now.as_secs_f64(),
                    self.name,
                    request.piece(),
                    request.block()
                );
            }
            return;
        }
        self.quiet = 0;
        println!("{:7.3} {} {output:?}", now.as_secs_f64(), self.name);
    }
}
