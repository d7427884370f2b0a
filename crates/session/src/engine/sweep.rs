//! Once a second, every link is looked over: deadlines, keep-alives, memory.

use swarm::DisconnectReason;

use super::Engine;
use super::keys::LinkKey;
use super::link::Stage;
use super::peers::LinkEnd;
use crate::limits::{CONNECT_TIMEOUT, MAX_PEER_BUFFERS};

impl<F> Engine<F> {
    pub(super) fn sweep_links(&mut self) {
        for slot in 0..self.links.slots() {
            if let Some(key) = self.links.key_at(slot) {
                self.sweep_link(key);
            }
        }
        self.disk.reads.expire(self.now);
        self.shed_buffers();
    }

    fn sweep_link(&mut self, key: LinkKey) {
        let now = self.now;
        let Some(link) = self.links.get_mut(key) else { return };
        if let Stage::Connecting { deadline, .. } = link.stage {
            if deadline <= now {
                let text = format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
                self.end_link(key, LinkEnd::new(DisconnectReason::Failed, &text));
            }
            return;
        }
        if link.connection.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        match link.connection.handle_timeout(now) {
            Some(expired) => {
                let end = LinkEnd::new(DisconnectReason::Idle, &expired.to_string());
                self.end_link(key, end);
            }
            None => self.transmit_if_due(key),
        }
    }

    /// Counts the memory of this link, which may grow far in the second between two sweeps. Looks
    /// at all links only if together they hold too much: many have long queues of requests.
    pub(super) fn check_buffers(&mut self, key: LinkKey) {
        let held = self.links.count_buffers(key);
        self.messages_peak = self.messages_peak.max(held);
        if held > MAX_PEER_BUFFERS {
            self.shed_buffers();
        }
    }

    /// Drops the peer that holds most memory while all together hold too much.
    fn shed_buffers(&mut self) {
        while let (held, Some(most)) = self.links.count_all_buffers() {
            self.messages_peak = self.messages_peak.max(held);
            if held <= MAX_PEER_BUFFERS {
                return;
            }
            self.end_link(most, LinkEnd::new(DisconnectReason::Limit, "it held the most memory"));
        }
    }
}
