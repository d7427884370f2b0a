//! What may be believed at a start: the journal's history against what is on disk. Pure.
//!
//! For each piece, by its files ([`owner`](super::owner) says which are trusted):
//!
//! | its files                              | journal says    | so the piece is          |
//! |----------------------------------------|-----------------|--------------------------|
//! | one is filled from the parts file      | written         | verified; if bad, imported |
//! | one is missing or too short            | anything        | missing                  |
//! | one is not trusted                     | anything        | verified                 |
//! | all trusted                            | durable         | ours                     |
//! | all trusted, clean shutdown            | written         | ours                     |
//! | all trusted, any other end             | written         | verified                 |
//! | all trusted                            | nothing         | missing                  |

use std::collections::BTreeMap;
use std::ops::Range;

use bt_types::{Bitfield, Blank, Geometry, PieceIndex};

use super::history::History;
use super::layout::{Layout, Place, PlacedRange};
use super::owner::{Hold, Known, Owner, may_trust};
use super::record::{Expected, to_ranges};
use crate::{FileId, Stat, full_mask, span_count, span_length};

/// What is on disk: for each slot, and for the parts file, what it is if it is there.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) slots: Vec<Option<Stat>>,
    pub(super) parts: Option<Stat>,
    /// Whether files are created and written.
    pub(super) writes: bool,
}

/// What the store may believe and must do.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) have: Bitfield,
    /// What the journal keeps calling written: `have`, and what it said so of and is verified
    /// first.
    pub(super) claimed: Bitfield,
    pub(super) durable: Bitfield,
    pub(super) to_verify: Bitfield,
    /// The trusted files.
    pub(super) files: Vec<TorrentFile>,
    pub(super) pending: Pending,
    /// Masks of the blocks on disk, a mask a span, of pieces that are missing.
    pub(super) unfinished: BTreeMap<u32, Vec<u16>>,
}

/// A file that the torrent uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TorrentFile {
    pub(super) slot: u32,
    pub(super) hold: Hold,
    pub(super) id: FileId,
}

/// State that few torrents need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pending {
    /// Files that are ours to create.
    pub(super) expected: Expected,
    /// Slots whose bytes are in the parts file. Those that are selected now are there until their
    /// pieces are durable in their own place.
    pub(super) in_parts: Vec<Range<u32>>,
    /// Pieces with bytes in the parts file that are to be in files, until the check is finished.
    /// Ascending.
    pub(super) imports: Vec<u32>,
    /// Files that are not trusted, as they were when this launch began, until the check is
    /// finished. Ascending by slot.
    pub(super) untrusted: Vec<(u32, FileId, Known)>,
}

impl Blank for Pending {
    const BLANK: &'static Self = &Self {
        expected: Expected { boot: 0, slots: Vec::new() },
        in_parts: Vec::new(),
        imports: Vec::new(),
        untrusted: Vec::new(),
    };
}

/// What is known of one file.
#[derive(Debug, Clone, Copy)]
struct Judged {
    length: u64,
    is_trusted: bool,
    /// Whether the journal knew it.
    is_known: bool,
    /// Whether its bytes are in the parts file and are to be in a file of its own.
    is_imported: bool,
}

/// Whether a file is not there, not trusted, or trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    Missing,
    Untrusted,
    Trusted,
}

/// Compares `history` with what was `found`.
pub(super) fn plan(layout: &Layout, history: &History, found: &Found) -> Plan {
    let pieces = layout.geometry.piece_count();
    let judged = judge_all(layout, history, found);
    let mut plan = Plan {
        have: Bitfield::new(pieces),
        claimed: Bitfield::new(pieces),
        durable: Bitfield::new(pieces),
        to_verify: Bitfield::new(pieces),
        files: trusted_files(layout, history, found),
        pending: pending(layout, history, found),
        unfinished: BTreeMap::new(),
    };
    let is_clean = history.closed.is_some();
    for piece in layout.geometry.pieces() {
        let (written, durable) = (history.written.contains(piece), history.durable.contains(piece));
        let files = || layout.piece_ranges(piece).filter_map(|range| judged_at(range, &judged));
        let is_whole = |length| length == u64::from(layout.geometry.length_of(piece));
        let is_shared = !layout.piece_ranges(piece).any(|range| is_whole(range.length));
        if written && is_shared && files().any(|(file, _)| file.is_imported) {
            plan.pending.imports.push(piece.get());
            plan.claimed.insert(piece);
            plan.to_verify.insert(piece);
            continue;
        }
        match files().map(trust_of).min().unwrap_or(Trust::Trusted) {
            Trust::Missing => {}
            Trust::Trusted if durable || (written && is_clean) => {
                plan.have.insert(piece);
                plan.claimed.insert(piece);
                if durable {
                    plan.durable.insert(piece);
                }
            }
            Trust::Trusted if !written => {}
            Trust::Trusted | Trust::Untrusted => {
                plan.to_verify.insert(piece);
                if written {
                    plan.claimed.insert(piece);
                }
            }
        }
        if let Some(masks) = history.unfinished.get(&piece.get()).filter(|_| is_clean && !written)
            && fits(&layout.geometry, piece, masks)
            && files().all(keeps_blocks)
        {
            plan.unfinished.insert(piece.get(), masks.clone());
        }
    }
    plan
}

/// Whether the last launch ended with a clean shutdown and everything is as it left it: then its
/// journal says what the plan does.
pub(super) fn is_as_closed(history: &History, plan: &Plan) -> bool {
    history.closed.is_some()
        && history.place.is_some()
        && plan.to_verify.is_empty()
        && plan.pending.imports.is_empty()
        && (&plan.have, &plan.durable) == (&history.written, &history.durable)
        && plan.unfinished == history.unfinished
        && history.expected == Expected::default()
}

/// All files, the parts file last.
fn judge_all(layout: &Layout, history: &History, found: &Found) -> Vec<Judged> {
    let parts_slot = layout.parts_slot();
    let all = (0u32..).zip(found.slots.iter().chain([&found.parts]));
    all.map(|(slot, stat)| {
        let known = history.known(slot);
        let owner = Owner::of(known, stat.as_ref(), found.writes, None);
        let stat = stat.as_ref().filter(|stat| owner.may_read() && stat.length > 0);
        Judged {
            length: stat.map_or(0, |stat| stat.length),
            is_trusted: stat.is_some_and(|stat| may_trust(known, stat)),
            is_known: history.files.contains_key(&slot),
            is_imported: slot != parts_slot && is_imported(layout, history, found, slot),
        }
    })
    .collect()
}

/// Whether the bytes of a slot are in the parts file, and are to be in a file of its own: it is
/// selected now, or was filled by a launch that was killed.
fn is_imported(layout: &Layout, history: &History, found: &Found, slot: u32) -> bool {
    let place = layout.slots.get(slot as usize);
    let length = found.slots.get(slot as usize).copied().flatten().map_or(0, |stat| stat.length);
    let is_wanted = found.writes && place.is_some_and(|slot| slot.selected && slot.length > 0);
    let in_parts = history.is_in_parts(slot);
    (in_parts && (is_wanted || is_filled(layout, history, slot, length)))
        || (is_wanted && length == 0 && history.has_old_parts)
}

/// Whether a file whose bytes are in the parts file too is used in its own place: it is ours, and
/// has bytes for every piece that was written. Then the import was done, and pieces may have been
/// written to it since.
pub(super) fn is_filled(layout: &Layout, history: &History, slot: u32, length: u64) -> bool {
    let Some(place) = layout.slots.get(slot as usize) else { return false };
    let geometry = &layout.geometry;
    let written = layout.pieces_touching(place).filter(|piece| history.written.contains(*piece));
    let end = |piece| {
        place.end().min(geometry.offset_of(piece) + u64::from(geometry.length_of(piece)))
            - place.offset
    };
    history.is_ours(slot) && length > 0 && written.map(end).all(|end| end <= length)
}

/// What is known of the file that a range is in, and where the range ends in it; `None` for
/// padding.
fn judged_at(range: PlacedRange, judged: &[Judged]) -> Option<(Judged, u64)> {
    let file = match range.place {
        Place::File(slot) => judged.get(slot),
        Place::Parts => judged.last(),
        Place::Zeros => None,
    };
    file.map(|file| (*file, range.offset + range.length))
}

fn trust_of((file, end): (Judged, u64)) -> Trust {
    match file.is_trusted {
        _ if file.length < end => Trust::Missing,
        true => Trust::Trusted,
        false => Trust::Untrusted,
    }
}

/// Whether the blocks recorded of an unfinished piece are still in a file. If the journal does not
/// know it, there were none in it.
fn keeps_blocks((file, _): (Judged, u64)) -> bool {
    !file.is_imported && (file.is_trusted || (file.length == 0 && !file.is_known))
}

/// Whether these are masks of blocks that `piece` has.
fn fits(geometry: &Geometry, piece: PieceIndex, masks: &[u16]) -> bool {
    let full = |span| full_mask(span_length(geometry, piece, span));
    masks.len() == span_count(geometry, piece) as usize
        && (0u32..).zip(masks).all(|(span, mask)| mask & !full(span) == 0)
}

/// The files that are as the journal left them, and those that were not looked for.
fn trusted_files(layout: &Layout, history: &History, found: &Found) -> Vec<TorrentFile> {
    let all = (0u32..).zip(found.slots.iter().chain([&found.parts]));
    let trusted = all.filter_map(|(slot, stat)| {
        let known = history.known(slot);
        let place = layout.slots.get(slot as usize);
        if place.is_some_and(|place| !place.pad && !place.in_place()) {
            let file = history.files.get(&slot)?;
            // It is not written while its bytes are in the parts file.
            return Some(TorrentFile { slot, hold: Hold::Read, id: file.id });
        }
        let stat = stat.as_ref()?;
        let owner = Owner::of(known, Some(stat), found.writes, None);
        let ours = owner.may_write() || slot == layout.parts_slot();
        let hold = if ours { Hold::Ours } else { Hold::Read };
        may_trust(known, stat).then_some(TorrentFile { slot, hold, id: stat.id })
    });
    trusted.collect()
}

fn pending(layout: &Layout, history: &History, found: &Found) -> Pending {
    let parts_slot = layout.parts_slot();
    let untrusted = (0u32..).zip(&found.slots).filter_map(|(slot, stat)| {
        let (known, stat) = (history.known(slot), stat.as_ref()?);
        (!may_trust(known, stat)).then_some((slot, stat.id, known))
    });
    let in_parts = (0..parts_slot)
        .filter(|slot| history.is_in_parts(*slot) || is_imported(layout, history, found, *slot));
    Pending {
        expected: Expected::default(),
        in_parts: to_ranges(in_parts),
        imports: Vec::new(),
        untrusted: untrusted.collect(),
    }
}
