//! The endgame: every missing block is asked for, and some are asked of a second peer.

use bt_types::{BlockRequest, PieceIndex};

use super::Swarm;
use crate::vocabulary::PeerKey;

/// The most peers asked for the same block in the endgame. The last of them must have proven that
/// it sends good pieces: peers that send nothing could otherwise keep the block until they are
/// snubbed.
const ENDGAME_COPIES: u16 = 3;

impl Swarm {
    /// In the endgame, the block that is expected last of those that others owe, if this peer would
    /// send it sooner.
    pub(super) fn latest_of_others(&self, key: PeerKey) -> Option<(PieceIndex, u32)> {
        let peer = self.peers.get(&key).filter(|_| self.pieces.in_endgame())?;
        let most = if peer.proven > 0 { ENDGAME_COPIES } else { ENDGAME_COPIES - 1 };
        let may_double = |request: BlockRequest| {
            let open = self.pieces.open.get(&request.piece()).filter(|open| open.admits(key));
            let owed = open.and_then(|open| open.requests(request.block()));
            owed.is_some_and(|owed| (1..most).contains(&owed))
                && peer.may_send(request.piece())
                && !peer.asked.iter().any(|asked| asked.request == request)
        };
        let mut latest = peer.next_answer(self.now);
        let mut found = None;
        for other in self.peers.values().filter(|other| !other.snubbed) {
            let mut later = other.answers(self.now).take_while(|(at, _)| *at > latest);
            if let Some((at, request)) = later.find(|(_, request)| may_double(*request)) {
                (latest, found) = (at, Some((request.piece(), request.block())));
            }
        }
        found
    }
}
