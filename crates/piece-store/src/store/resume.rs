//! What may be believed at a start: the journal's history against what is on disk. Pure.
//!
//! A file is *trusted* if it looks as the journal left it: after an orderly end, by length and time;
//! after any other end, by being the same file (device and inode). A file that is there and not
//! trusted is *changed*, or the user's own, or one of ours that was to get bytes from the parts file.
//! Then, for each piece:
//!
//! | its files                       | journal says    | so it is                |
//! |---------------------------------|-----------------|-------------------------|
//! | one is missing or too short     | anything        | not had                 |
//! | one is gone and not wanted      | anything        | not had                 |
//! | one is changed                  | anything        | verified                |
//! | all trusted                     | durable         | had                     |
//! | all trusted, orderly end        | written         | had                     |
//! | all trusted, any other end      | written         | verified                |
//! | all trusted                     | nothing         | not had                 |

use std::collections::BTreeMap;
use std::ops::Range;

use bt_types::{Bitfield, Geometry, PieceIndex};

use super::layout::{Layout, Place, PlacedRange, Slot};
use super::record::{History, Unowned, to_ranges};
use crate::{FileId, Stat, full_mask, span_count, span_length};

/// What is on disk: for each slot, and for the parts file, what it is if it is there.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) slots: Vec<Option<Stat>>,
    pub(super) parts: Option<Stat>,
    /// Which start of the system this is; 0 if it is not known.
    pub(super) boot: u128,
    /// What is about to be copied from the parts file, ascending by slot.
    pub(super) moves: Vec<Move>,
}

/// What the parts file has of a file that is wanted now and has no bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) slot: u32,
    /// Ranges of the torrent, ascending.
    pub(super) ranges: Vec<Range<u64>>,
}

/// What follows from it.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) have: Bitfield,
    /// What the journal keeps calling written: `have`, and what it said so of and is verified first.
    pub(super) claimed: Bitfield,
    pub(super) durable: Bitfield,
    pub(super) to_verify: Bitfield,
    /// The trusted files.
    pub(super) owned: BTreeMap<u32, FileId>,
    /// What of the history's still counts, and the files that are changed now.
    pub(super) unowned: Unowned,
    /// Masks of the blocks on disk, a mask a span, of pieces that are not had.
    pub(super) unfinished: BTreeMap<u32, Vec<u16>>,
    /// Whether the parts file stands from now on for a file that earlier runs used.
    pub(super) gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Missing,
    /// Missing, though the journal saw it.
    Gone,
    Changed,
    Trusted,
}

#[derive(Debug, Clone, Copy)]
struct Judged {
    trust: Trust,
    length: u64,
}

/// Compares `history` with what was `found`.
pub(super) fn plan(layout: &Layout, history: &History, found: &Found) -> Plan {
    let pieces = layout.geometry.piece_count();
    let judged = judge_all(layout, history, found);
    let parts = judge(history, layout.parts_slot(), found.parts.as_ref());
    let mut plan = Plan {
        have: Bitfield::new(pieces),
        claimed: Bitfield::new(pieces),
        durable: Bitfield::new(pieces),
        to_verify: Bitfield::new(pieces),
        owned: owned(layout, found, &judged, parts),
        unowned: unowned(layout, history, found, &judged, parts),
        unfinished: BTreeMap::new(),
        gone: false,
    };
    let orderly = history.closed.is_some();
    let gone = pieces_gone(layout, history);
    plan.gone = !gone.is_empty();
    for piece in layout.geometry.pieces().filter(|piece| !gone.contains(*piece)) {
        let (written, durable) = (history.written.contains(piece), history.durable.contains(piece));
        match worst(layout.piece_ranges(piece), &judged, parts) {
            None | Some(Trust::Missing | Trust::Gone) => {}
            Some(Trust::Changed) => {
                plan.to_verify.insert(piece);
                if written {
                    plan.claimed.insert(piece);
                }
            }
            Some(Trust::Trusted) if durable || (written && orderly) => {
                plan.have.insert(piece);
                plan.claimed.insert(piece);
                if durable {
                    plan.durable.insert(piece);
                }
            }
            Some(Trust::Trusted) if written => {
                plan.claimed.insert(piece);
                plan.to_verify.insert(piece);
            }
            Some(Trust::Trusted) => {}
        }
        if let Some(masks) = history.unfinished.get(&piece.get()).filter(|_| orderly && !written)
            && fits(&layout.geometry, piece, masks)
            && layout
                .piece_ranges(piece)
                .all(|range| keeps_blocks(of(range, &judged, parts), parts))
        {
            plan.unfinished.insert(piece.get(), masks.clone());
        }
    }
    plan
}

/// Whether the last run ended in order and everything is as it left it: then its journal says what
/// the plan does.
pub(super) fn is_as_closed(history: &History, plan: &Plan) -> bool {
    history.closed.is_some()
        && !plan.gone
        && plan.to_verify.is_empty()
        && (&plan.have, &plan.durable) == (&history.written, &history.durable)
        && plan.unfinished == history.unfinished
        && plan.unowned.awaited == history.unowned.awaited
}

/// The pieces of files that earlier runs used and that are there no longer, nor wanted. From now on the
/// parts file stands for those files, but what was in them never was in it.
fn pieces_gone(layout: &Layout, history: &History) -> Bitfield {
    let mut gone = Bitfield::new(layout.geometry.piece_count());
    let slots = (0u32..).zip(&layout.slots).filter(|(_, slot)| !slot.pad && !slot.in_place());
    for (_, slot) in slots.filter(|(number, _)| history.used(*number)) {
        layout.pieces_touching(slot).for_each(|piece| _ = gone.insert(piece));
    }
    gone
}

/// Whether the blocks recorded of an unfinished piece are still in a file. It may be missing or short
/// from the start: then none of them are in it, unless they were kept in the parts file.
fn keeps_blocks(file: Judged, parts: Judged) -> bool {
    match file.trust {
        Trust::Trusted => true,
        Trust::Missing => parts.trust == Trust::Missing,
        Trust::Gone | Trust::Changed => false,
    }
}

/// Whether these are masks of blocks that `piece` has.
fn fits(geometry: &Geometry, piece: PieceIndex, masks: &[u16]) -> bool {
    let full = |span| full_mask(span_length(geometry, piece, span));
    masks.len() == span_count(geometry, piece) as usize
        && (0u32..).zip(masks).all(|(span, mask)| mask & !full(span) == 0)
}

/// What is to be copied from the parts file, so that a boundary piece had before is had again. It is
/// copied once more if a run was killed amid it.
pub(super) fn moves(layout: &Layout, history: &History, found: &Found) -> Vec<Move> {
    let parts = found.parts.as_ref();
    if !parts.is_some_and(|stat| looks_same(history, layout.parts_slot(), stat)) {
        return Vec::new();
    }
    let slots = (0u32..).zip(layout.slots.iter().zip(&found.slots));
    slots
        .filter(|(number, (slot, stat))| {
            slot.selected && !has_bytes(history, *number, stat.as_ref())
        })
        .map(|(number, (slot, _))| Move { slot: number, ranges: boundaries(layout, history, slot) })
        .filter(|moved| !moved.ranges.is_empty())
        .collect()
}

/// The bytes that the first and the last piece of `slot` have in it, where they were had.
pub(super) fn boundaries(layout: &Layout, history: &History, slot: &Slot) -> Vec<Range<u64>> {
    let mut pieces = layout.pieces_touching(slot);
    let ends = [pieces.next(), pieces.last()].into_iter().flatten();
    let part = |piece| {
        let from = layout.geometry.offset_of(piece);
        let end = from + u64::from(layout.geometry.length_of(piece));
        from.max(slot.offset)..end.min(slot.end())
    };
    ends.filter(|piece| history.written.contains(*piece)).map(part).collect()
}

/// Judges the files as they are once everything is copied: what was, was not written by the torrent.
fn judge_all(layout: &Layout, history: &History, found: &Found) -> Vec<Judged> {
    let slots = (0u32..).zip(&found.slots);
    let mut judged: Vec<Judged> =
        slots.map(|(slot, stat)| judge(history, slot, stat.as_ref())).collect();
    for moved in &found.moves {
        let (file, slot) = (moved.slot as usize, layout.slots.get(moved.slot as usize));
        if let (Some(judged), Some(slot), Some(last)) =
            (judged.get_mut(file), slot, moved.ranges.last())
        {
            let length = judged.length.max(last.end - slot.offset);
            *judged = Judged { trust: Trust::Changed, length };
        }
    }
    judged
}

fn judge(history: &History, slot: u32, stat: Option<&Stat>) -> Judged {
    let Some(stat) = stat.filter(|stat| stat.length > 0) else {
        let seen = history.closed.as_ref().and_then(|files| files.get(&slot));
        let gone = seen.is_some_and(|file| file.length > 0);
        return Judged { trust: if gone { Trust::Gone } else { Trust::Missing }, length: 0 };
    };
    let trust = if looks_same(history, slot, stat) { Trust::Trusted } else { Trust::Changed };
    Judged { trust, length: stat.length }
}

/// Whether a file has bytes, and not only what was being copied from the parts file.
pub(super) fn has_bytes(history: &History, slot: u32, stat: Option<&Stat>) -> bool {
    stat.is_some_and(|stat| stat.length > 0 && !history.is_moving(slot, stat.id))
}

/// Whether a file looks as the journal left it.
pub(super) fn looks_same(history: &History, slot: u32, stat: &Stat) -> bool {
    match &history.closed {
        Some(files) => files
            .get(&slot)
            .is_some_and(|file| file.length == stat.length && file.modified == stat.modified),
        None => history.owned.get(&slot) == Some(&stat.id),
    }
}

/// Whether the file of a slot of `length` bytes that is not wanted may be one of ours or the torrent's:
/// neither is longer, unless somebody added to it and it was ours before.
pub(super) fn may_be_used(history: &History, slot: u32, length: u64, stat: &Stat) -> bool {
    has_bytes(history, slot, Some(stat))
        && (stat.length <= length || looks_same(history, slot, stat))
}

fn owned(
    layout: &Layout,
    found: &Found,
    judged: &[Judged],
    parts: Judged,
) -> BTreeMap<u32, FileId> {
    let slots = (0u32..).zip(found.slots.iter().zip(judged.iter().copied()));
    let all = slots.chain([(layout.parts_slot(), (&found.parts, parts))]);
    all.filter(|(_, (_, judged))| judged.trust == Trust::Trusted)
        .filter_map(|(slot, (stat, _))| stat.map(|stat| (slot, stat.id)))
        .collect()
}

fn unowned(
    layout: &Layout,
    history: &History,
    found: &Found,
    judged: &[Judged],
    parts: Judged,
) -> Unowned {
    let is_seen = |slot: usize| judged.get(slot).is_some_and(|file| file.trust == Trust::Changed);
    let seen = (0u32..).zip(&found.slots).filter(|(slot, _)| is_seen(*slot as usize));
    let before = &history.unowned;
    let all = (0u32..).zip(judged.iter().copied()).chain([(layout.parts_slot(), parts)]);
    let changed =
        all.filter(|(slot, judged)| judged.trust == Trust::Changed && history.used(*slot));
    Unowned {
        awaited: before.awaited.after(found.boot, |slot| {
            !history.owned.contains_key(&slot) && may_be_there(layout, found, slot)
        }),
        moving: still_moving(layout, &before.moving, found),
        changed: to_ranges(changed.map(|(slot, _)| slot)),
        seen: seen.filter_map(|(slot, stat)| stat.map(|stat| (slot, stat.id))).collect(),
    }
}

/// Whether the file of a slot was found, or is not wanted and was not looked for.
fn may_be_there(layout: &Layout, found: &Found, slot: u32) -> bool {
    let is_wanted = layout.slots.get(slot as usize).is_some_and(|slot| slot.selected);
    !is_wanted || found.slots.get(slot as usize).is_some_and(Option::is_some)
}

/// The files that were to get bytes from the parts file, but for those that are gone: a power cut may take
/// their names. What is kept apart was not looked at.
fn still_moving(
    layout: &Layout,
    moving: &BTreeMap<u32, FileId>,
    found: &Found,
) -> BTreeMap<u32, FileId> {
    let is_apart = |slot: u32| layout.slots.get(slot as usize).is_some_and(|slot| !slot.in_place());
    let id = |slot: u32| found.slots.get(slot as usize)?.map(|stat| stat.id);
    let all = moving.iter().map(|(slot, id)| (*slot, *id));
    all.filter(|(slot, known)| is_apart(*slot) || id(*slot) == Some(*known)).collect()
}

/// The judgement that counts for a piece with these ranges; `None` if it has none.
fn worst(
    ranges: impl Iterator<Item = PlacedRange>,
    judged: &[Judged],
    parts: Judged,
) -> Option<Trust> {
    let mut worst = None;
    for range in ranges {
        let file = of(range, judged, parts);
        let trust =
            if file.length < range.offset + range.length { Trust::Missing } else { file.trust };
        worst = match (worst, trust) {
            (_, Trust::Missing | Trust::Gone) => return Some(Trust::Missing),
            (Some(Trust::Changed), _) | (_, Trust::Changed) => Some(Trust::Changed),
            _ => Some(Trust::Trusted),
        };
    }
    worst
}

fn of(range: PlacedRange, judged: &[Judged], parts: Judged) -> Judged {
    let nothing = Judged { trust: Trust::Missing, length: 0 };
    match range.place {
        Place::File(slot) => judged.get(slot).copied().unwrap_or(nothing),
        Place::Parts => parts,
        Place::Zeros => Judged { trust: Trust::Trusted, length: u64::MAX },
    }
}
