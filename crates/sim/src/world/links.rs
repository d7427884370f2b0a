//! Connections: how they start, carry bytes, stall and end.

use std::net::SocketAddr;
use std::time::Duration;

use session::engine::{LinkKey, Outgoing};
use session::limits::{MAX_HALF_OPEN, REFILL_INTERVAL};

use super::{Event, Input, ProcessId, World};
use crate::liar::LiarAction;
use crate::network::{At, End, Party, Quality, Segment};
use crate::node::{liar_address, node_address};
use crate::site::Truth;
use crate::watch::Broken;

/// How soon a machine that can't accept a connection now is tried again.
const RETRY_ACCEPT: Duration = Duration::from_millis(200);
/// The most bytes of a liar that wait in a wire.
const MAX_LIES: usize = 256 * 1024;

impl World {
    /// An attempt to connect reaches the peer, or is lost.
    pub(super) fn dial(&mut self, id: ProcessId, link: LinkKey, to: SocketAddr) {
        let node = id.node;
        let alive = self.process(id).is_some_and(|process| process.connecting.contains(&link));
        if !alive || self.rng.chance(self.scenario.network.lost_connects) {
            return;
        }
        let party = self.party_at(to);
        let quality = self.quality_to(party);
        let from = End { party: Party::Node(node), link: Some(link), open: true };
        let there = match party {
            Some(Party::Liar(liar)) => {
                Some(End { party: Party::Liar(liar), link: None, open: true })
            }
            Some(Party::Node(other)) => match self.accept(other, node_address(node)) {
                Accepted::Yes(link) => {
                    Some(End { party: Party::Node(other), link: Some(link), open: true })
                }
                Accepted::No => None,
                Accepted::Later => {
                    return self.after(RETRY_ACCEPT, Event::Process(id, Input::Dial { link, to }));
                }
            },
            // There is no peer: half of the time the attempt is refused, otherwise it is lost.
            None if self.rng.chance(50) => return,
            None => None,
        };
        let wire = there.map(|there| self.network.join([from, there], quality));
        if let (Some(wire), Some(there)) = (wire, there) {
            self.register(there, (wire, 1));
        }
        self.after(quality.latency, Event::Process(id, Input::Dialed { link, wire }));
    }

    fn quality_to(&mut self, party: Option<Party>) -> Quality {
        let wire = match party {
            Some(Party::Liar(liar)) => self.scenario.wires.get(liar).copied(),
            Some(Party::Node(_)) | None => None,
        };
        wire.unwrap_or_else(|| self.quality())
    }

    fn quality(&mut self) -> Quality {
        let plan = self.scenario.network;
        Quality {
            capacity: plan.capacity,
            rate: self.rng.within(plan.rates.0..plan.rates.1 + 1),
            latency: self.rng.millis(0..plan.max_latency + 1),
        }
    }

    fn party_at(&self, address: SocketAddr) -> Option<Party> {
        let nodes = (0..self.nodes.len()).filter(|node| self.nodes[*node].process.is_some());
        let node = nodes.map(|node| (node_address(node), Party::Node(node)));
        let liars = (0..self.liars.len()).map(|liar| (liar_address(liar), Party::Liar(liar)));
        node.chain(liars).find(|(at, _)| *at == address).map(|(_, party)| party)
    }

    fn accept(&mut self, node: usize, from: SocketAddr) -> Accepted {
        let from = SocketAddr::new(from.ip(), 40_000 + self.rng.below(20_000) as u16);
        let now = self.now;
        let Some(process) = &mut self.nodes[node].process else { return Accepted::No };
        if process.engine.is_crowded() {
            return Accepted::Later;
        }
        process.engine.handle_accepted(now, from).map_or(Accepted::No, Accepted::Yes)
    }

    fn register(&mut self, end: End, at: At) {
        match (end.party, end.link) {
            (Party::Node(node), Some(link)) => {
                if let Some(process) = &mut self.nodes[node].process {
                    process.wires.insert(link, at);
                }
            }
            (Party::Liar(liar), _) => {
                let actions = self.liars[liar].opened(at);
                self.act_as_liar(actions);
            }
            (Party::Node(_), None) => {}
        }
    }

    pub(super) fn dialed(&mut self, id: ProcessId, link: LinkKey, wire: Option<u64>) {
        let now = self.now;
        let waited = self.process(id).is_some_and(|process| process.connecting.remove(&link));
        match (wire, waited) {
            (Some(wire), false) => self.close_end((wire, 0), true),
            (Some(wire), true) => {
                self.update(id, |process| {
                    process.wires.insert(link, (wire, 0));
                    process.engine.handle_connected(now, link);
                });
                // Take what arrived in the meantime.
                self.schedule_arrival(now, (wire, 0));
            }
            (None, true) => self.update(id, |process| {
                process.engine.handle_connect_failed(now, link, "connection refused");
            }),
            (None, false) => {}
        }
    }

    /// Handles what arrived at this end of a wire.
    pub(super) fn arrive(&mut self, at: At) -> Result<(), Broken> {
        let now = self.now;
        let Some(wire) = self.network.get_mut(at.0).filter(|wire| !wire.dead) else {
            return Ok(());
        };
        let end = wire.ends[at.1];
        let pipe = &mut wire.pipes[1 - at.1];
        if !pipe.take_alarm(now) {
            return Ok(());
        }
        let Some(due) = pipe.next_at().filter(|_| end.open) else { return Ok(()) };
        if due > now {
            self.schedule_arrival(due, at);
            return Ok(());
        }
        match (end.party, end.link) {
            (Party::Node(node), Some(link)) => self.arrive_at_node(node, link, at),
            (Party::Liar(liar), _) => {
                self.arrive_at_liar(liar, at);
                Ok(())
            }
            (Party::Node(_), None) => Ok(()),
        }
    }

    fn arrive_at_node(&mut self, node: usize, link: LinkKey, at: At) -> Result<(), Broken> {
        let now = self.now;
        let portion = 1 + self.rng.below(self.scenario.network.portion) as usize;
        let pieces = self.nodes[node].site.payload.pieces();
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        if process.wires.get(&link) != Some(&at) {
            // Not established on this side yet.
            return Ok(());
        }
        let quota = process.engine.receive_quota(now, link);
        if quota == 0 {
            self.schedule_arrival(now + REFILL_INTERVAL, at);
            return Ok(());
        }
        match self.take(at, portion.min(quota)) {
            Some(Segment::Bytes(mut bytes)) => {
                self.note(node, "receives", [at.0, bytes.len() as u64], || {
                    format!("{} bytes on wire {}", bytes.len(), at.0)
                });
                let (number, node) = (node, &mut self.nodes[node]);
                node.watch.set_time(now);
                node.watch.received(link, &bytes, pieces);
                let frames = std::mem::take(&mut node.watch.log);
                if let Some(process) = &mut node.process {
                    process.engine.handle_bytes(now, link, &mut bytes);
                }
                self.trace_frames(number, at, frames);
                self.schedule_arrival(now, at);
            }
            Some(Segment::End { reset }) => {
                let error = reset.then_some("connection reset by peer");
                if let Some(process) = &mut self.nodes[node].process {
                    process.engine.handle_closed(now, link, error);
                }
            }
            None => {}
        }
        self.wake_sender(at);
        self.settle(node)
    }

    fn take(&mut self, at: At, most: usize) -> Option<Segment> {
        self.network.get_mut(at.0)?.pipes[1 - at.1].take(most)
    }

    /// What was taken out at `at` makes room for the other end to send.
    fn wake_sender(&mut self, at: At) {
        let Some(wire) = self.network.get(at.0) else { return };
        let other = wire.ends[1 - at.1];
        if let (Party::Node(node), Some(link), true) = (other.party, other.link, other.open) {
            self.after(Duration::ZERO, Event::Process(self.id_of(node), Input::Refill(link)));
        }
    }

    fn arrive_at_liar(&mut self, liar: usize, at: At) {
        match self.take(at, usize::MAX) {
            Some(Segment::Bytes(bytes)) => {
                let actions = self.liars[liar].received(at, &bytes);
                self.act_as_liar(actions);
                self.schedule_arrival(self.now, at);
                self.wake_sender(at);
            }
            Some(Segment::End { .. }) => {
                self.liars[liar].closed(at);
                self.close_end(at, false);
            }
            None => {}
        }
    }

    pub(super) fn act_as_liar(&mut self, actions: Vec<LiarAction>) {
        for act in actions {
            match act {
                LiarAction::Send(at, bytes) => {
                    let room = self.network.get(at.0).is_some_and(|wire| {
                        wire.ends[at.1].open && wire.pipes[at.1].room() + MAX_LIES > bytes.len()
                    });
                    if room {
                        self.send(at, Segment::Bytes(bytes));
                    }
                }
                LiarAction::Close(at, reset) => {
                    if let Some(Party::Liar(liar)) = self.party_of(at) {
                        self.liars[liar].closed(at);
                    }
                    self.close_end(at, reset);
                }
            }
        }
    }

    fn party_of(&self, at: At) -> Option<Party> {
        self.network.get(at.0).map(|wire| wire.ends[at.1].party)
    }

    /// Connects each liar to a node, unless it has enough connections.
    pub(super) fn connect_liars(&mut self) {
        for liar in 0..self.liars.len() {
            let node = self.rng.below(self.nodes.len() as u64) as usize;
            let connects = self.scenario.wires.is_empty();
            if !connects || self.liars[liar].connections() >= 3 || self.closing {
                continue;
            }
            let Accepted::Yes(link) = self.accept(node, liar_address(liar)) else { continue };
            let quality = self.quality();
            let ends = [
                End { party: Party::Liar(liar), link: None, open: true },
                End { party: Party::Node(node), link: Some(link), open: true },
            ];
            let wire = self.network.join(ends, quality);
            self.register(ends[1], (wire, 1));
            self.register(ends[0], (wire, 0));
        }
    }

    fn send(&mut self, at: At, segment: Segment) {
        let now = self.now;
        let Some(wire) = self.network.get_mut(at.0).filter(|wire| !wire.dead) else { return };
        let arrives = wire.pipes[at.1].send(now, segment);
        if wire.ends[1 - at.1].open {
            self.schedule_arrival(arrives, (at.0, 1 - at.1));
        }
    }

    /// Schedules [`Event::Arrive`] at this end of a wire.
    fn schedule_arrival(&mut self, time: Duration, at: At) {
        let time = time.max(self.now);
        let wire = self.network.get_mut(at.0);
        if wire.is_some_and(|wire| wire.pipes[1 - at.1].set_alarm(time)) {
            self.at(time, Event::Arrive(at));
        }
    }

    /// Closes this end.
    pub(super) fn close_end(&mut self, at: At, reset: bool) {
        if let Some(arrives) = self.network.close(self.now, at, reset) {
            self.schedule_arrival(arrives, (at.0, 1 - at.1));
        }
    }

    /// Sends what a link has to send, as far as the wire has room.
    pub(super) fn transmit(&mut self, node: usize, link: LinkKey) -> Result<(), Broken> {
        let now = self.now;
        loop {
            let this = &mut self.nodes[node];
            this.watch.set_time(now);
            let Some(process) = &mut this.process else { return Ok(()) };
            let Some(at) = process.wires.get(&link).copied() else { return Ok(()) };
            let wire = self.network.get(at.0).filter(|wire| !wire.dead);
            let room = wire.map_or(0, |wire| wire.pipes[at.1].room());
            if room == 0 {
                // `wake_sender` continues when the other end has taken something.
                return Ok(());
            }
            let next = process.engine.poll_transmit(now, link).next();
            let bytes = match next {
                None => {
                    this.watch
                        .drained(link)
                        .map_err(|broken| format!("{}: {broken}", this.name))?;
                    self.wait_for_refill(node, link);
                    return Ok(());
                }
                Some(Outgoing::Bytes { bytes, .. }) => bytes[..bytes.len().min(room)].to_vec(),
                Some(Outgoing::Payload { extent, fresh }) => {
                    let evictions = u64::from(self.scenario.evictions);
                    if !fresh && evictions > 0 && self.rng.below(evictions) == 0 {
                        process.engine.refresh_upload(now, link);
                        return Ok(());
                    }
                    extent.file.bytes(extent.offset, room.min(extent.length as usize))
                }
            };
            let want = this.plan.want(this.launch);
            let truth = Truth { site: &this.site, want };
            this.watch
                .sent(link, &bytes, truth)
                .map_err(|broken| format!("{} on wire {}: {broken}", this.name, at.0))?;
            process.engine.handle_transmitted(now, link, bytes.len());
            let frames = std::mem::take(&mut this.watch.log);
            self.trace_frames(node, at, frames);
            self.note(node, "sends", [at.0, bytes.len() as u64], || {
                format!("{} bytes on wire {}", bytes.len(), at.0)
            });
            self.send(at, Segment::Bytes(bytes));
        }
    }

    fn trace_frames(&mut self, node: usize, at: At, frames: Vec<String>) {
        for line in frames {
            let (now, who) = (self.now, &self.nodes[node].name);
            self.trace.remark(now, who, &format!("wire {}: {line}", at.0));
        }
    }

    /// The engine has nothing to send on the link: at all, or until its rate limit has room.
    fn wait_for_refill(&mut self, node: usize, link: LinkKey) {
        let (now, id) = (self.now, self.id_of(node));
        if self.process(id).is_some_and(|process| process.engine.is_send_throttled(now, link)) {
            self.after(REFILL_INTERVAL, Event::Process(id, Input::Refill(link)));
        }
    }

    /// Checks the named limits on connections.
    pub(super) fn check_connections(&self, node: usize) -> Result<(), Broken> {
        let this = &self.nodes[node];
        let Some(process) = &this.process else { return Ok(()) };
        let links = process.wires.len() + process.connecting.len();
        if links > this.plan.max_connections {
            let most = this.plan.max_connections;
            return Err(format!("{}: {links} connections, {most} at most", this.name));
        }
        let connecting = process.connecting.len();
        match connecting > MAX_HALF_OPEN {
            true => Err(format!("{}: {connecting} half-open connections", this.name)),
            false => Ok(()),
        }
    }
}

enum Accepted {
    Yes(LinkKey),
    No,
    /// Not now: the attempt waits in the listen queue.
    Later,
}
