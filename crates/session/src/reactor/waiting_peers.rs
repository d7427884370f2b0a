//! A limit on the peers in events that the caller does not take.

use std::sync::{Arc, Weak};

use bt_types::TrackerPeer;

use crate::event::{Event, EventKind};
use crate::limits;

/// The peers in trackers' answers that the caller still holds.
#[derive(Default)]
pub(super) struct WaitingPeers(Vec<Weak<Vec<TrackerPeer>>>);

impl WaitingPeers {
    /// Returns whether there is room for the peers in this event. If so, they count from now on.
    pub(super) fn admit(&mut self, event: &Event) -> bool {
        let EventKind::Tracker { result: Ok(report), .. } = &event.kind else { return true };
        self.0.retain(|peers| peers.strong_count() > 0);
        let held: usize = self.0.iter().filter_map(Weak::upgrade).map(|peers| peers.len()).sum();
        let room = held + report.peers.len() <= limits::MAX_WAITING_PEERS;
        if room && !report.peers.is_empty() {
            self.0.push(Arc::downgrade(&report.peers));
        }
        room
    }
}
