//! Who sent the bad blocks of a piece whose hash did not match.
//!
//! If one peer sent the whole piece, it did. Otherwise the blocks' digests are kept with their
//! senders, and the piece is fetched again from a single peer. Either it verifies, and the peers whose
//! digests differ from the good ones are known; or it does not, and that peer is. So it matters little
//! whether that peer is under suspicion, and much that it sends: one that has sent good pieces is
//! preferred.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bt_types::{Blank, PeerId, PieceIndex, Sha1Digest};

use crate::peer::Peer;
use crate::vocabulary::PeerKey;

/// Bad attempts kept for one piece.
const MAX_ATTEMPTS: usize = 4;
/// How often a piece is left to peers above suspicion before any that answers may be asked. Ever new
/// ones that send nothing would keep it from an honest peer under suspicion.
const MAX_CLEAN_TRIES: u32 = 3;
/// Blocks whose digests are kept, over all pieces: about 2 MiB.
const MAX_BLOCKS: usize = 65_536;

/// Who sent a block. The address outlives the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sender {
    pub(crate) key: PeerKey,
    pub(crate) address: SocketAddr,
    pub(crate) peer_id: PeerId,
}

/// One fetch of a piece that did not match: the digest and the sender of each block.
#[derive(Debug)]
struct Attempt {
    digests: Vec<Sha1Digest>,
    /// By place in `Case::suspects`; `None` for a block that no connected peer sent.
    senders: Vec<Option<u16>>,
}

#[derive(Debug, Default)]
struct Case {
    attempts: Vec<Attempt>,
    suspects: Vec<Sender>,
    /// Who may be asked for all of it.
    source: Source,
    /// How many were asked for it since it came with a wrong hash.
    tries: u32,
}

/// From whom a piece under investigation is fetched, all of it from one peer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A peer that sent so many blocks of verified pieces, or more, and is not snubbed.
    Proven(u32),
    /// A peer that is not under suspicion, and not snubbed, for nobody has proven anything.
    #[default]
    Clean,
    /// One that is not snubbed, for there is no other, or others came to nothing.
    Answering,
    /// Anyone, for all are snubbed or choke us. While that is not so a snubbed peer must not be asked:
    /// it would keep the piece from the others.
    Anyone,
}

/// The pieces under investigation.
#[derive(Debug, Default)]
pub(crate) struct Blame {
    cases: BTreeMap<PieceIndex, Case>,
    blocks: usize,
}

impl Blank for Blame {
    const BLANK: &'static Self = &Self { cases: BTreeMap::new(), blocks: 0 };
}

impl Blame {
    /// A piece with these `digests`, sent by `senders` (one a block), did not match. Returns the
    /// peer to ban if it sent everything.
    pub(crate) fn mismatch(
        &mut self,
        piece: PieceIndex,
        digests: Vec<Sha1Digest>,
        senders: &[Option<Sender>],
    ) -> Option<Sender> {
        let first = senders.first().copied().flatten();
        let sole = first.filter(|first| senders.iter().all(|other| *other == Some(*first)));
        let case = self.cases.entry(piece).or_default();
        (case.source, case.tries) = (Source::Clean, 0);
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

    /// A piece verified, with these digests if they were asked for. Returns the peers that had
    /// sent something else.
    pub(crate) fn verified(
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

    /// Whether `piece` is under investigation: it must come from one peer, and its digests are
    /// wanted even if it verifies.
    pub(crate) fn concerns(&self, piece: PieceIndex) -> bool {
        !self.cases.is_empty() && self.cases.contains_key(&piece)
    }

    /// Whether `key` may be asked for `piece`.
    pub(crate) fn may_fetch(&self, piece: PieceIndex, key: PeerKey, peer: &Peer) -> bool {
        self.cases.get(&piece).is_none_or(|case| match case.source {
            Source::Proven(least) => !peer.snubbed && peer.proven >= least,
            Source::Clean => !peer.snubbed && !case.suspects(key),
            Source::Answering => !peer.snubbed,
            Source::Anyone => true,
        })
    }

    /// A peer is asked for `piece`, all of it; says whether it is under investigation, so that nobody
    /// else may be asked.
    pub(crate) fn begin(&mut self, piece: PieceIndex) -> bool {
        let case = self.cases.get_mut(&piece);
        case.map(|case| case.tries = case.tries.saturating_add(1)).is_some()
    }

    /// Decides anew for each piece who may be asked, by `source(piece, is_suspect)`.
    pub(crate) fn review(
        &mut self,
        source: impl Fn(PieceIndex, &dyn Fn(PeerKey) -> bool) -> Source,
    ) {
        for (piece, case) in &mut self.cases {
            case.source = match source(*piece, &|key| case.suspects(key)) {
                Source::Clean if case.tries >= MAX_CLEAN_TRIES => Source::Answering,
                source => source,
            };
        }
    }

    /// Whether nothing is under investigation.
    pub(crate) fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }
}

impl Case {
    fn suspects(&self, key: PeerKey) -> bool {
        self.suspects.iter().any(|sender| sender.key == key)
    }

    /// The place of `sender` among the suspects, where it is put if it is not there.
    fn suspect(&mut self, sender: Sender) -> u16 {
        let known = self.suspects.iter().position(|other| *other == sender);
        let place = known.unwrap_or_else(|| {
            self.suspects.push(sender);
            self.suspects.len() - 1
        });
        place as u16
    }
}

impl Attempt {
    /// Who sent the blocks whose digests are not the `good` ones.
    fn wrong<'a>(&'a self, good: &'a [Sha1Digest]) -> impl Iterator<Item = u16> + 'a {
        let pairs = self.digests.iter().zip(good).zip(&self.senders);
        pairs.filter(|((bad, good), _)| bad != good).filter_map(|(_, sender)| *sender)
    }
}
