//! Which peers are unchoked.

use super::Context;
use super::choker::{self, Candidate, Choker};
use crate::peer::{Peer, PeerTransfer};
use crate::vocabulary::{Output, PeerKey};

/// The upload side of a transfer.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    choker: Choker,
    /// Whether a peer became interested or lost interest. To fill slots takes a look at every
    /// peer, so it is done once for many messages.
    interest_changed: bool,
}

impl Uploads {
    /// The peer wants our pieces, or none of them any longer.
    pub(crate) fn handle_interest(&mut self, cx: &mut Context<'_>, key: PeerKey, interested: bool) {
        if let Some(peer) = cx.peers.transfer_mut(key) {
            peer.peer_interested = interested;
            self.interest_changed = true;
        }
    }

    /// Fills slots if some peer's interest changed. Says whether it did.
    pub(crate) fn fill_if_due(&mut self, cx: &mut Context<'_>) -> bool {
        let due = std::mem::take(&mut self.interest_changed);
        if due {
            self.fill(cx);
        }
        due
    }

    /// Unchokes interested peers while there are free slots.
    pub(crate) fn fill(&mut self, cx: &mut Context<'_>) {
        let used = |peer: &PeerTransfer| peer.peer_interested && !peer.am_choking;
        let used = cx.peers.transfers().filter(|(_, peer)| used(peer)).count();
        let free = slots(cx).saturating_sub(used);
        if free == 0 {
            return;
        }
        let waiting = candidates(cx, |peer| peer.am_choking);
        let seeding = cx.pieces.is_complete();
        for key in choker::fill(cx.now, free, seeding, waiting, cx.rng) {
            unchoke(cx, key);
        }
    }

    /// Unchokes more peers while seeding, once more flows than those unchoked can take.
    pub(crate) fn widen(&mut self, cx: &mut Context<'_>) {
        if cx.pieces.is_complete() {
            self.fill(cx);
        }
    }

    /// Decides again which peers are unchoked.
    pub(crate) fn decide(&mut self, cx: &mut Context<'_>) {
        let candidates = candidates(cx, |_| true);
        let seeding = cx.pieces.is_complete();
        let slots = slots(cx);
        let chosen = self.choker.round(cx.now, slots, seeding, candidates, cx.rng);
        for key in cx.peers.keys() {
            if !chosen.contains(&key) {
                choke(cx, key);
            }
        }
        chosen.into_iter().for_each(|key| unchoke(cx, key));
    }
}

/// Returns how many peers are unchoked at a time: while seeding, as many as the line serves well.
fn slots(cx: &Context<'_>) -> usize {
    if cx.pieces.is_complete() {
        choker::seeding_slots(cx.upload_slots, cx.traffic.up.per_second(cx.now))
    } else {
        cx.upload_slots
    }
}

fn candidates(cx: &Context<'_>, which: impl Fn(&PeerTransfer) -> bool) -> Vec<Candidate> {
    let candidate = |(key, peer): (PeerKey, &Peer)| {
        let transfer = peer.transfer.as_ref()?;
        let chosen = transfer.peer_interested && which(transfer);
        chosen.then(|| Candidate {
            key,
            rate: transfer.down.per_second(cx.now),
            snubbed: transfer.snubbed,
            connected_at: peer.connected_at,
            unchoked: !transfer.am_choking,
            unchoked_at: transfer.unchoked_at,
        })
    };
    cx.peers.iter().filter_map(candidate).collect()
}

fn unchoke(cx: &mut Context<'_>, key: PeerKey) {
    let Some(peer) = cx.peers.transfer_mut(key).filter(|peer| peer.am_choking) else { return };
    peer.am_choking = false;
    peer.unchoked_at = Some(cx.now);
    cx.outputs.push_back(Output::Unchoke { peer: key });
}

fn choke(cx: &mut Context<'_>, key: PeerKey) {
    let Some(peer) = cx.peers.transfer_mut(key).filter(|peer| !peer.am_choking) else { return };
    peer.am_choking = true;
    cx.outputs.push_back(Output::Choke { peer: key });
}
