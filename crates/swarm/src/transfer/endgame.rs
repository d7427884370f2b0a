//! The endgame: every missing block is asked for, and some are asked of a second peer.

use bt_types::{BlockRequest, PieceIndex};

use super::Context;
use super::downloads::Downloads;
use crate::vocabulary::PeerKey;

/// The most peers asked for the same block in the endgame. The last of them must have sent a good
/// block: peers that send nothing could otherwise keep the block until they are snubbed.
const ENDGAME_COPIES: u16 = 3;

impl Downloads {
    /// Returns, in the endgame, the block that is expected last of those that other peers owe, if
    /// this peer would send it sooner.
    pub(super) fn latest_of_others(
        &self,
        cx: &Context<'_>,
        key: PeerKey,
    ) -> Option<(PieceIndex, u32)> {
        let in_endgame = self.picker.in_endgame(&self.unfinished);
        let peer = cx.peers.transfer(key).filter(|_| in_endgame)?;
        let most = if peer.proven > 0 { ENDGAME_COPIES } else { ENDGAME_COPIES - 1 };
        let may_double = |request: BlockRequest| {
            let open = self.unfinished.get(request.piece()).filter(|open| open.admits(key));
            let owed = open.and_then(|open| open.requests(request.block()));
            owed.is_some_and(|owed| (1..most).contains(&owed))
                && peer.may_send(request.piece())
                && !peer.asked.iter().any(|asked| asked.request == request)
        };
        let mut latest = peer.next_answer(cx.now);
        let mut found = None;
        for (_, other) in cx.peers.transfers().filter(|(_, other)| !other.snubbed) {
            let mut later = other.answers(cx.now).take_while(|(at, _)| *at > latest);
            if let Some((at, request)) = later.find(|(_, request)| may_double(*request)) {
                (latest, found) = (at, Some((request.piece(), request.block())));
            }
        }
        found
    }
}
