//! Carries out what an engine wants, and checks what it reports.

use std::net::SocketAddr;
use std::time::Duration;

use piece_store::Job;
use session::engine::{Action, LinkKey};
use session::limits::MAX_PEER_BUFFERS;
use session::{ErrorClass, EventKind, PeerState, StopReason, TorrentError};

use super::{Event, Input, ProcessId, World};
use crate::node::{liar_address, node_address};
use crate::scenario::Start;
use crate::tracker::TRACKER_IP;
use crate::watch::Broken;

/// The most known peers of a torrent (`crates/README.md`, constants).
const MAX_KNOWN_PEERS: usize = 10_000;
/// The time until a user resumes a torrent once its disk is repaired.
const USER_TIME: Duration = Duration::from_secs(1);
/// How often a user resumes one of two torrents after both gave way to the other.
const MAX_RETRIES: u32 = 10;
/// How many times in a row an engine's timer may be due at once.
const MAX_IDLE_WAKES: u32 = 1000;

pub(super) fn tracker_address() -> SocketAddr {
    SocketAddr::new(TRACKER_IP, 6969)
}

impl World {
    /// Carries out everything that the node's engine wants, and sets its alarm.
    pub(super) fn settle(&mut self, node: usize) -> Result<(), Broken> {
        loop {
            while let Some(action) = self.poll_action(node) {
                self.handle_action(node, action)?;
            }
            let Some(link) = self.next_sending(node) else { break };
            self.transmit(node, link)?;
        }
        self.check_connections(node)?;
        self.leave_if_idle(node)?;
        self.set_alarm(node)
    }

    fn poll_action(&mut self, node: usize) -> Option<Action> {
        self.nodes[node].process.as_mut()?.engine.poll_action()
    }

    fn next_sending(&mut self, node: usize) -> Option<LinkKey> {
        self.nodes[node].process.as_mut()?.sending.pop_first()
    }

    fn set_alarm(&mut self, node: usize) -> Result<(), Broken> {
        let now = self.now;
        let this = &mut self.nodes[node];
        let Some(process) = &mut this.process else { return Ok(()) };
        let Some(due) = process.engine.poll_timeout().map(|due| due.max(now)) else {
            return Ok(());
        };
        process.idle_wakes = if due == now { process.idle_wakes + 1 } else { 0 };
        if process.idle_wakes > MAX_IDLE_WAKES {
            eprintln!("{:#?}", process.engine);
            return Err(format!("{}: its timer never stops being due", this.name));
        }
        if process.alarm.is_none_or(|alarm| due < alarm) {
            process.alarm = Some(due);
            self.at(due, Event::Process(self.id_of(node), Input::Wake));
        }
        Ok(())
    }

    fn handle_action(&mut self, node: usize, action: Action) -> Result<(), Broken> {
        let id = self.id_of(node);
        match action {
            Action::Connect { link, address } => {
                self.update(id, |process| _ = process.connecting.insert(link));
                let delay = self.rng.millis(0..self.scenario.network.max_latency + 1);
                self.after(delay, Event::Process(id, Input::Dial { link, to: address }));
            }
            Action::Close { link } => self.close_link(node, link),
            Action::Transmit { link } => {
                self.update(id, |process| _ = process.sending.insert(link));
            }
            Action::Store(job) => self.submit(node, job),
            Action::Fetch { key, leg, url: _, request, family: _ } => {
                let result =
                    self.trackers.fetch(self.now, (node_address(node), id.launch), &request);
                let delay = self.trackers.delay();
                let result = Box::new(result);
                self.after(delay, Event::Process(id, Input::Fetched { key, leg, result }));
                return self.check_trackers();
            }
            Action::Resolve { host, of_peer: _ } => {
                let delay = self.trackers.delay();
                let result = Ok(vec![TRACKER_IP]);
                self.after(delay, Event::Process(id, Input::Resolved { host, result }));
            }
            Action::Datagram { bytes, .. } => {
                let delay = self.trackers.delay();
                self.after(delay, Event::Asked(id, bytes));
            }
            Action::Multicast { .. } => return Err("a node looked for local peers".to_owned()),
            Action::Event(event) => return self.handle_report(node, event.kind),
        }
        Ok(())
    }

    pub(super) fn ask_tracker(&mut self, id: ProcessId, bytes: &[u8]) -> Result<(), Broken> {
        let from = (node_address(id.node), id.launch);
        for bytes in self.trackers.datagram(self.now, from, bytes) {
            let delay = self.trackers.delay();
            self.after(delay, Event::Process(id, Input::Datagram(bytes)));
        }
        self.check_trackers()
    }

    /// A peer that sends `completed` must have sent `started` (BEP 3).
    fn check_trackers(&self) -> Result<(), Broken> {
        self.trackers.unstarted().map_or(Ok(()), |peer| {
            Err(format!("{peer} sent `completed` to a tracker without `started`"))
        })
    }

    fn close_link(&mut self, node: usize, link: LinkKey) {
        let this = &mut self.nodes[node];
        this.watch.close(link);
        let Some(process) = &mut this.process else { return };
        process.connecting.remove(&link);
        process.sending.remove(&link);
        if let Some(at) = process.wires.remove(&link) {
            self.close_end(at, false);
        }
    }

    fn submit(&mut self, node: usize, job: Job) {
        self.jobs += 1;
        let number = self.jobs;
        let this = &mut self.nodes[node];
        let time = Duration::from_micros(this.rng.below(this.plan.job_time + 1));
        let Some(process) = &mut this.process else { return };
        process.jobs.insert(number, job);
        self.after(time, Event::Process(self.id_of(node), Input::Job(number)));
    }

    /// Checks an event that the engine reports to its user.
    fn handle_report(&mut self, node: usize, kind: EventKind) -> Result<(), Broken> {
        self.note(node, "reports", [0; 2], || format!("{kind:?}"));
        let name = self.nodes[node].name.clone();
        match kind {
            EventKind::PieceVerified(piece) => self.nodes[node].watch.gain(piece.get()),
            EventKind::PieceFailed(piece) => {
                self.nodes[node].watch.forget_blocks(piece.get());
                if !self.liars.iter().any(crate::liar::Liar::sends_wrong_data) {
                    return Err(format!("{name}: piece {} failed without a liar", piece.get()));
                }
            }
            EventKind::MetadataReceived(metainfo) => {
                let this = &mut self.nodes[node];
                // Its user keeps it for later launches.
                this.has_torrent = true;
                if metainfo.raw_info() != this.site.payload.metainfo.raw_info() {
                    return Err(format!("{name}: wrong metadata"));
                }
            }
            EventKind::Started { .. } => return self.check_start(node),
            EventKind::Completed => return self.check_completed(node),
            EventKind::Stopped { reason: StopReason::Failed(error) } => {
                return self.stopped(node, &error);
            }
            EventKind::Peer { address, state: PeerState::Banned, .. } => {
                self.bans.push(self.now);
                return self.check_ban(&name, address);
            }
            EventKind::Peer { address, state: PeerState::Disconnected, reason, .. } => {
                return self.check_disconnect(&name, address, &reason.unwrap_or_default());
            }
            EventKind::Peer { state: PeerState::Connected | PeerState::Failed, .. }
            | EventKind::Checking { .. }
            | EventKind::Tracker { .. }
            | EventKind::Warning(_)
            | EventKind::Stopped { .. } => {}
        }
        self.check_status(node)
    }

    fn check_ban(&self, name: &str, address: SocketAddr) -> Result<(), Broken> {
        let liar = (0..self.liars.len()).find(|liar| liar_address(*liar).ip() == address.ip());
        match liar.is_some_and(|liar| self.liars[liar].may_be_banned()) {
            true => Ok(()),
            false => Err(format!("{name}: banned {address}, which sent no wrong data")),
        }
    }

    /// Checks the reason of a disconnect: no node sees another one break a rule of the protocol.
    fn check_disconnect(&self, name: &str, address: SocketAddr, why: &str) -> Result<(), Broken> {
        const FAIR: [&str; 12] = [
            "no data arrives",
            "closed by the peer",
            "connection reset by peer",
            "the peer has another connection to us",
            "both ends have everything they want",
            "the torrent is stopped",
            "a limit of the session was reached",
            "no handshake",
            "nothing received for",
            "the peer was silent",
            "it held the most memory",
            "it is connected to again, for a bitfield",
        ];
        let honest = (0..self.nodes.len()).any(|node| node_address(node).ip() == address.ip());
        match !honest || FAIR.iter().any(|fair| why.contains(fair)) {
            true => Ok(()),
            false => Err(format!("{name}: dropped honest {address}: {why}")),
        }
    }

    /// Checks that buffers and tables stay under their named limits.
    fn check_status(&self, node: usize) -> Result<(), Broken> {
        let this = &self.nodes[node];
        let Some(process) = &this.process else { return Ok(()) };
        let Some(status) = process.engine.status_of(process.torrent) else { return Ok(()) };
        let most = (this.plan.span_memory + MAX_PEER_BUFFERS) as u64;
        if status.buffers_peak > most {
            return Err(format!("{}: {} bytes of buffers", this.name, status.buffers_peak));
        }
        match status.peers_known > MAX_KNOWN_PEERS {
            true => Err(format!("{}: knows {} peers", this.name, status.peers_known)),
            false => Ok(()),
        }
    }

    /// The torrent stopped with an error. There must be a cause; the user resumes the torrent when
    /// the cause is gone.
    fn stopped(&mut self, node: usize, error: &TorrentError) -> Result<(), Broken> {
        let now = self.now;
        let this = &mut self.nodes[node];
        this.completed = false;
        let failures = this.disk().failures;
        let cause = std::mem::replace(&mut this.failures_seen, failures) < failures;
        if error.class != ErrorClass::Disk || !cause {
            if self.is_for_mate(node, error) {
                return self.give_way(node);
            }
            if let Some(file) = self.link_to_write(node, error) {
                return self.replace_link(node, file);
            }
            let name = &self.nodes[node].name;
            return Err(format!("{name}: stopped without a cause: {}", error.message));
        }
        let at = this.faulty_until.max(now) + USER_TIME;
        self.at(at, Event::Process(self.id_of(node), Input::Resume));
        Ok(())
    }

    /// Whether the mate may be the cause: the error is about the file that both want.
    fn is_for_mate(&self, node: usize, error: &TorrentError) -> bool {
        let this = &self.nodes[node];
        let (Some(file), Some(mate)) = (this.contested, this.mate) else { return false };
        let path = this.site.usual_path(file).display().to_string();
        let mate = &self.nodes[mate];
        let was_there = mate.plan.start != Start::Nothing || !mate.plan.unrelated.is_empty();
        (mate.launch > 0 || was_there) && error.message.contains(&path)
    }

    /// Returns the link that needs a write, if that is the error.
    fn link_to_write(&self, node: usize, error: &TorrentError) -> Option<usize> {
        let this = &self.nodes[node];
        let is_named = |file: &usize| {
            let path = this.site.usual_path(*file).display();
            error.message.starts_with(&format!("{path} is a symbolic link"))
        };
        let file = this.plan.links.iter().copied().find(is_named)?;
        let truth = this.truth();
        let mut pieces = this.site.payload.pieces_in(file);
        let needs_write = |piece| {
            !truth.shows(piece) || truth.has_long_unwanted(piece) || this.is_beside_left_link(piece)
        };
        // A failed sync loses pieces of all files, also of those that are only read.
        let may_lack = this.failures_seen > 0 || truth.length_differs(file);
        (may_lack || pieces.any(needs_write)).then_some(file)
    }

    /// The user follows the advice of the message and resumes the torrent.
    fn replace_link(&mut self, node: usize, file: usize) -> Result<(), Broken> {
        self.check_files(node)?;
        let this = &self.nodes[node];
        let truth = this.truth();
        // A copy in which nothing verifies would be an unrelated file.
        let is_found = |piece| truth.shows(piece) && !this.is_beside_left_link(piece);
        let is_related = this.site.payload.pieces_in(file).any(is_found);
        let is_doubtful = this.doubtful;
        let moves_away = !is_related || (!is_doubtful && self.rng.chance(50));
        let what = format!("file {file}, {}", if moves_away { "moved away" } else { "copied" });
        self.note(node, "unlinked", [file as u64, 0], || what);
        let this = &mut self.nodes[node];
        this.plan.links.retain(|link| *link != file);
        let path = this.site.usual_path(file).to_owned();
        let bytes = this.disk().content(&path);
        this.disk().remove_file(&path);
        if moves_away {
            this.lose(&this.site.payload.pieces_in(file));
        } else {
            this.disk().put(&path, bytes);
            this.doubtful = true;
        }
        this.stamps = this.site.disk.state().stamps();
        self.after(USER_TIME, Event::Process(self.id_of(node), Input::Resume));
        Ok(())
    }

    /// Leaves the file to the mate. If the mate has given way too, it is resumed, and one of the
    /// two must be able to continue.
    fn give_way(&mut self, node: usize) -> Result<(), Broken> {
        self.nodes[node].give_way();
        let Some(mate) = self.nodes[node].mate.filter(|mate| self.nodes[*mate].gave_way) else {
            return Ok(());
        };
        let this = &mut self.nodes[mate];
        (this.gave_way, this.retries) = (false, this.retries + 1);
        if this.retries > MAX_RETRIES {
            return Err(format!("{}: neither torrent on its machine can continue", this.name));
        }
        self.after(USER_TIME, Event::Process(self.id_of(mate), Input::Resume));
        Ok(())
    }

    pub(super) fn resume(&mut self, id: ProcessId) -> Result<(), Broken> {
        let (now, node) = (self.now, id.node);
        if self.closing || self.nodes[node].leaving || self.process(id).is_none() {
            return Ok(());
        }
        self.nodes[node].promised = self.nodes[node].have.clone();
        self.begin_opening(node);
        self.update(id, |process| process.engine.resume(now, process.torrent));
        self.settle(node)
    }
}
