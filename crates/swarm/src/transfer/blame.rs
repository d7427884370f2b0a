//! Which peer sent the bad blocks of a piece whose hash did not match.
//!
//! If one peer sent the whole piece, it is to blame. Otherwise the blocks' digests are kept with
//! their senders, and the piece is fetched again from a single peer. If it verifies, the peers
//! whose digests differ from the good ones are to blame; if it does not, that single peer is. So
//! it matters little whether that peer is a suspect, and much that it sends: one that has sent
//! good blocks is preferred.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bt_types::{PieceIndex, Sha1Digest};

use crate::peer::{PeerTransfer, Peers, Sender};
use crate::vocabulary::PeerKey;

/// Bad attempts kept for one piece.
const MAX_ATTEMPTS: usize = 4;
/// How often a piece is asked of unsuspected peers before any responsive one may be asked. A
/// sequence of new peers that send nothing would keep it from an honest suspect.
const MAX_CLEAN_TRIES: u32 = 3;
/// A peer may fetch a piece under investigation if it sent at least one in so many of the good
/// blocks that the best peer sent. A peer that sent fewer is slow, and would delay the whole piece.
const PROVEN_SHARE: u32 = 4;
/// Blocks whose digests are kept, over all pieces: about 2 MiB.
const MAX_BLOCKS: usize = 65_536;

/// One fetch of a piece that did not match: the digest and the sender of each block.
#[derive(Debug)]
struct Attempt {
    digests: Vec<Sha1Digest>,
    /// By index in `Case::suspects`; `None` for a block that no connected peer sent.
    senders: Vec<Option<u16>>,
}

#[derive(Debug, Default)]
struct Case {
    attempts: Vec<Attempt>,
    suspects: Vec<Sender>,
    retry_from: RetryFrom,
    /// How many peers were asked for it since its hash did not match.
    tries: u32,
}

/// Which peers may fetch a piece under investigation. One of them fetches all of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum RetryFrom {
    /// Peers that sent at least so many blocks of verified pieces, and are not snubbed.
    Trusted(u32),
    /// Peers that are no suspects, and not snubbed: no peer is trusted.
    #[default]
    Unsuspected,
    /// Peers that are not snubbed: all are suspects, or the unsuspected ones did not send it.
    Responsive,
    /// Any peer: all are snubbed or choke us. Otherwise a snubbed peer would keep the piece from
    /// the others.
    Any,
}

/// The pieces under investigation.
#[derive(Debug, Default)]
pub(super) struct Blame {
    cases: BTreeMap<PieceIndex, Case>,
    blocks: usize,
}

impl Blame {
    /// A piece with these `digests`, sent by `senders` (one per block), did not match. Returns the
    /// peer to ban if it sent everything.
    pub(super) fn mismatch(
        &mut self,
        piece: PieceIndex,
        digests: Vec<Sha1Digest>,
        senders: &[Option<Sender>],
    ) -> Option<Sender> {
        let first = senders.first().copied().flatten();
        let sole = first.filter(|first| senders.iter().all(|other| *other == Some(*first)));
        let case = self.cases.entry(piece).or_default();
        (case.retry_from, case.tries) = (RetryFrom::Unsuspected, 0);
        if let Some(sole) = sole {
            case.suspect(sole);
            return Some(sole);
        }
        let senders: Vec<Option<u16>> =
            senders.iter().map(|sender| sender.map(|sender| case.suspect(sender))).collect();
        let room = self.blocks + senders.len() <= MAX_BLOCKS && case.attempts.len() < MAX_ATTEMPTS;
        if room && digests.len() == senders.len() {
            self.blocks += senders.len();
            case.attempts.push(Attempt { digests, senders });
        }
        None
    }

    /// A piece verified, with these digests if they were asked for. Returns the peers that sent
    /// other blocks in an earlier attempt.
    pub(super) fn verified(
        &mut self,
        piece: PieceIndex,
        digests: Option<&[Sha1Digest]>,
    ) -> Vec<Sender> {
        let Some(case) = self.cases.remove(&piece) else { return Vec::new() };
        self.blocks -= case.attempts.iter().map(|attempt| attempt.senders.len()).sum::<usize>();
        let Some(good) = digests else { return Vec::new() };
        let mut liars: Vec<Sender> = case
            .attempts
            .iter()
            .flat_map(|attempt| attempt.wrong(good))
            .filter_map(|sender| case.suspects.get(usize::from(sender)).copied())
            .collect();
        liars.sort_unstable();
        liars.dedup();
        liars
    }

    /// Whether `piece` is under investigation: it has to come from one peer, and its digests are
    /// needed even if it verifies.
    pub(super) fn concerns(&self, piece: PieceIndex) -> bool {
        !self.cases.is_empty() && self.cases.contains_key(&piece)
    }

    /// Whether `key` may be asked for `piece`.
    pub(super) fn may_fetch(&self, piece: PieceIndex, key: PeerKey, peer: &PeerTransfer) -> bool {
        self.cases.get(&piece).is_none_or(|case| match case.retry_from {
            RetryFrom::Trusted(least) => !peer.snubbed && peer.proven >= least,
            RetryFrom::Unsuspected => !peer.snubbed && !case.suspects(key),
            RetryFrom::Responsive => !peer.snubbed,
            RetryFrom::Any => true,
        })
    }

    /// A peer is about to be asked for `piece`. Says whether no other peer may be: it is under
    /// investigation.
    pub(super) fn count_try(&mut self, piece: PieceIndex) -> bool {
        let case = self.cases.get_mut(&piece);
        case.map(|case| case.tries = case.tries.saturating_add(1)).is_some()
    }

    /// Decides again for each piece which of the peers that have it may fetch it: those that sent
    /// the most good blocks, or nearly so; if no peer sent any, the unsuspected ones; suspects and
    /// snubbed peers only if no other answers.
    pub(super) fn review(&mut self, peers: &Peers) {
        if self.is_empty() {
            return;
        }
        let answers =
            |peer: &PeerTransfer| !peer.snubbed && !peer.peer_choking && peer.hold_until.is_none();
        let mut answering: Vec<(PeerKey, &PeerTransfer)> =
            peers.transfers().filter(|(_, peer)| answers(peer)).collect();
        answering.sort_by_key(|(_, peer)| Reverse(peer.proven));
        for (piece, case) in &mut self.cases {
            let have = answering.iter().filter(|(_, peer)| peer.has.contains(*piece));
            case.retry_from = case.choose(have);
        }
    }

    /// Whether nothing is under investigation.
    pub(super) fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }
}

impl Case {
    /// Returns which peers may fetch the piece, of those in `have`, the most trusted first.
    fn choose<'a>(
        &self,
        mut have: impl Iterator<Item = &'a (PeerKey, &'a PeerTransfer)>,
    ) -> RetryFrom {
        let Some((best, peer)) = have.next() else { return RetryFrom::Any };
        if peer.proven > 0 {
            return RetryFrom::Trusted(peer.proven.div_ceil(PROVEN_SHARE));
        }
        let unsuspected = !self.suspects(*best) || have.any(|(key, _)| !self.suspects(*key));
        if unsuspected && self.tries < MAX_CLEAN_TRIES {
            RetryFrom::Unsuspected
        } else {
            RetryFrom::Responsive
        }
    }

    fn suspects(&self, key: PeerKey) -> bool {
        self.suspects.iter().any(|sender| sender.key == key)
    }

    /// Returns the index of `sender` among the suspects, after adding it if necessary.
    fn suspect(&mut self, sender: Sender) -> u16 {
        let known = self.suspects.iter().position(|other| *other == sender);
        let index = known.unwrap_or_else(|| {
            self.suspects.push(sender);
            self.suspects.len() - 1
        });
        index as u16
    }
}

impl Attempt {
    /// Returns the senders of the blocks whose digests are not the `good` ones.
    fn wrong<'a>(&'a self, good: &'a [Sha1Digest]) -> impl Iterator<Item = u16> + 'a {
        let pairs = self.digests.iter().zip(good).zip(&self.senders);
        pairs.filter(|((bad, good), _)| bad != good).filter_map(|(_, sender)| *sender)
    }
}
