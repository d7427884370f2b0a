//! Decides what to trust at a start: compares the journal's history with the files on disk. Pure.
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

use bt_types::{Bitfield, Geometry, PieceIndex};

use super::history::History;
use super::layout::{Layout, Location, Segment};
use super::owner::{Hold, Known, Owner, may_trust};
use super::record::{Expected, to_ranges};
use crate::{FileId, Stat, full_mask, span_count, span_length};

/// The files on disk: one `Stat` for each slot, and that of the parts file.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) slots: Vec<Option<Stat>>,
    pub(super) parts: Option<Stat>,
    /// Whether files are created and written.
    pub(super) writes: bool,
}

/// What the store may trust and must do.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) have: Bitfield,
    /// What the journal keeps calling written: `have`, and pieces that must be verified first.
    pub(super) claimed: Bitfield,
    pub(super) durable: Bitfield,
    pub(super) to_verify: Bitfield,
    /// The trusted files.
    pub(super) files: Vec<TorrentFile>,
    pub(super) pending: Pending,
    pub(super) checking: Checking,
    /// The blocks on disk of missing pieces: one mask for each span.
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
    /// Slots whose bytes are in the parts file. Selected slots stay here until their pieces are
    /// durable in their own files.
    pub(super) in_parts: Vec<Range<u32>>,
}

/// What the store must remember until the check is finished.
#[derive(Debug, Clone, Default)]
pub(super) struct Checking {
    /// Pieces with bytes in the parts file that belong into files, ascending.
    pub(super) imports: Vec<u32>,
    /// Untrusted files, as they were when this launch started, ascending by slot.
    pub(super) untrusted: Vec<(u32, FileId, Known)>,
}

/// What is known about one file.
#[derive(Debug, Clone, Copy)]
struct Judged {
    length: u64,
    is_trusted: bool,
    /// Whether the journal knew it.
    is_known: bool,
    /// Whether its bytes are in the parts file and belong into a file of its own.
    is_imported: bool,
}

/// How far a file is trusted.
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
        checking: Checking { imports: Vec::new(), untrusted: untrusted_files(history, found) },
        unfinished: BTreeMap::new(),
    };
    let is_clean = history.closed.is_some();
    for piece in layout.geometry.pieces() {
        let (written, durable) = (history.written.contains(piece), history.durable.contains(piece));
        let files =
            || layout.piece_segments(piece).filter_map(|segment| judged_at(segment, &judged));
        let is_whole = |length| length == u64::from(layout.geometry.length_of(piece));
        let is_shared = !layout.piece_segments(piece).any(|segment| is_whole(segment.length));
        if written && is_shared && files().any(|(file, _)| file.is_imported) {
            plan.checking.imports.push(piece.get());
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

/// Whether the last launch ended with a clean shutdown and nothing has changed since. Then its
/// journal says the same as the plan.
pub(super) fn is_as_closed(history: &History, plan: &Plan) -> bool {
    history.closed.is_some()
        && history.save_path.is_some()
        && plan.to_verify.is_empty()
        && plan.checking.imports.is_empty()
        && (&plan.have, &plan.durable) == (&history.written, &history.durable)
        && plan.unfinished == history.unfinished
        && history.expected == Expected::default()
}

/// Judges all files, the parts file last.
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

/// Whether the bytes of a slot are in the parts file and belong into a file of its own: the slot is
/// selected now, or a launch that was killed has filled its file.
fn is_imported(layout: &Layout, history: &History, found: &Found, number: u32) -> bool {
    let slot = layout.slot(number);
    let length = found.slots[number as usize].map_or(0, |stat| stat.length);
    let is_wanted = found.writes && slot.selected && slot.length > 0;
    let in_parts = history.is_in_parts(number);
    (in_parts && (is_wanted || is_filled(layout, history, number, length)))
        || (is_wanted && length == 0 && history.has_old_parts)
}

/// Whether a file is used although its bytes are in the parts file too: it is ours, and is long
/// enough for every written piece. Then the import was done, and pieces may have been written to
/// the file since.
pub(super) fn is_filled(layout: &Layout, history: &History, number: u32, length: u64) -> bool {
    let (geometry, slot) = (&layout.geometry, layout.slot(number));
    let written = layout.pieces_touching(slot).filter(|piece| history.written.contains(*piece));
    let end = |piece| {
        slot.end().min(geometry.offset_of(piece) + u64::from(geometry.length_of(piece)))
            - slot.offset
    };
    history.is_ours(number) && length > 0 && written.map(end).all(|end| end <= length)
}

/// Returns what is known about the file of a segment, and where the segment ends in it; `None` for
/// padding.
fn judged_at(segment: Segment, judged: &[Judged]) -> Option<(Judged, u64)> {
    let index = match segment.location {
        Location::File(slot) => slot as usize,
        Location::Parts => judged.len() - 1,
        Location::Zeros => return None,
    };
    Some((judged[index], segment.offset + segment.length))
}

fn trust_of((file, end): (Judged, u64)) -> Trust {
    match file.is_trusted {
        _ if file.length < end => Trust::Missing,
        true => Trust::Trusted,
        false => Trust::Untrusted,
    }
}

/// Whether the recorded blocks of an unfinished piece are still in a file. A file that the journal
/// does not know had none.
fn keeps_blocks((file, _): (Judged, u64)) -> bool {
    !file.is_imported && (file.is_trusted || (file.length == 0 && !file.is_known))
}

/// Whether `piece` has the blocks of all `masks`.
fn fits(geometry: &Geometry, piece: PieceIndex, masks: &[u16]) -> bool {
    let full = |span| full_mask(span_length(geometry, piece, span));
    masks.len() == span_count(geometry, piece) as usize
        && (0u32..).zip(masks).all(|(span, mask)| mask & !full(span) == 0)
}

/// Returns the files that are as the journal left them, and those that were not looked for.
fn trusted_files(layout: &Layout, history: &History, found: &Found) -> Vec<TorrentFile> {
    let all = (0u32..).zip(found.slots.iter().chain([&found.parts]));
    let trusted = all.filter_map(|(slot, stat)| {
        let known = history.known(slot);
        let is_file = slot != layout.parts_slot();
        if is_file && !layout.slot(slot).pad && !layout.slot(slot).has_own_file() {
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
    let mut trusted: Vec<TorrentFile> = trusted.collect();
    // Every idle torrent keeps it.
    trusted.shrink_to_fit();
    trusted
}

fn pending(layout: &Layout, history: &History, found: &Found) -> Pending {
    let in_parts = (0..layout.parts_slot())
        .filter(|slot| history.is_in_parts(*slot) || is_imported(layout, history, found, *slot));
    Pending { expected: Expected::default(), in_parts: to_ranges(in_parts) }
}

fn untrusted_files(history: &History, found: &Found) -> Vec<(u32, FileId, Known)> {
    let untrusted = (0u32..).zip(&found.slots).filter_map(|(slot, stat)| {
        let (known, stat) = (history.known(slot), stat.as_ref()?);
        (!may_trust(known, stat)).then_some((slot, stat.id, known))
    });
    untrusted.collect()
}
