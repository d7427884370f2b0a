//! The end of a check: decides who owns each file, and makes the torrent ready to be written.
//!
//! First the store decides about every file and changes none. Then it adopts files, which claims of
//! others may prevent. Then it cuts files, creates them, and fills them from the parts file. See
//! [`owner`](super::owner) for what each kind of file may be used for.

use std::path::Path;
use std::sync::atomic::Ordering;

use bt_types::{Bitfield, PieceIndex};

use super::claims::Claim;
use super::files::is_zero;
use super::layout::{Location, Slot};
use super::ledger::Phase;
use super::owner::{Hold, Known, Owner};
use super::record::{Expected, to_ranges};
use super::resume::TorrentFile;
use super::{STRIP_LENGTH, Store, changed, names};
use crate::hashing::hash_zeros;
use crate::{Access, Disk, Operation, Stat, StoreError, Unrelated};

/// A file of the torrent, as it is after everything was verified.
#[derive(Debug, Clone, Copy)]
struct Checked<'a> {
    number: u32,
    slot: &'a Slot,
    stat: Option<Stat>,
}

/// How the torrent will use a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// The torrent writes the file, which is ours or will be created.
    Write,
    /// The torrent only reads the file, which is complete, whoever owns it.
    Read,
    /// The torrent must write the file, which is not ours yet.
    Adopt,
    /// The torrent does not use the file, which is unselected. Its boundary bytes go to the parts
    /// file.
    Leave,
}

impl<D: Disk> Store<D> {
    /// Ends the check, after everything was verified without an error. Fails if a file is not ours
    /// to write, else makes the torrent ready to be written. Returns the pieces that we have now.
    ///
    /// # Errors
    /// [`StoreError::UnrelatedFile`], [`StoreError::Claimed`], [`StoreError::Linked`]; the disk
    /// fails.
    pub fn finish_check(&self) -> Result<Bitfield, StoreError> {
        let is_checking = matches!(self.ledger().phase, Phase::Checking(_));
        if is_checking {
            self.settle_files()?;
        }
        Ok(self.have())
    }

    fn settle_files(&self) -> Result<(), StoreError> {
        let files = self.stat_own_files()?;
        files.iter().try_for_each(|file| self.check_unchanged(file.number, file.stat))?;
        if self.seed_only {
            files.iter().try_for_each(|file| self.record_read(file))?;
        } else {
            let files = self.separate_entries(files)?;
            self.apply_decisions(files.clone())?;
            self.cut_files(&files)?;
            self.expect_files()?;
            self.make_files()?;
            self.import()?;
        }
        self.own_parts()?;
        self.sync_records()?;
        self.ledger().end_check();
        Ok(())
    }

    /// Returns the slots that have their own files, with the state of each file. Omits those with
    /// nothing of the torrent if they are unselected or the torrent is seed-only. Unless the
    /// torrent is seed-only, the boundary bytes of the omitted slots go to the parts file.
    fn stat_own_files(&self) -> Result<Vec<Checked<'_>>, StoreError> {
        let slots = self.layout.numbered().filter(|(_, slot)| slot.has_own_file());
        let mut files = Vec::new();
        for (number, slot) in slots {
            let is_recorded = self.ledger().file(number).is_some();
            let is_written = slot.selected && !self.seed_only;
            if is_written || is_recorded || self.has_verified(number, slot, |_| true) {
                let stat = self.stat_path(slot.path())?;
                files.push(Checked { number, slot, stat });
            } else if !self.seed_only {
                self.leave(number)?;
            }
        }
        Ok(files)
    }

    /// Fails if another program removed, replaced or cut the file since the check started. Its
    /// pieces may be recorded, but the file that now has the name was not verified.
    pub(super) fn check_unchanged(
        &self,
        number: u32,
        stat: Option<Stat>,
    ) -> Result<(), StoreError> {
        let slot = self.layout.slot(number);
        let known = {
            let ledger = self.ledger();
            let used = ledger.file(number).map(|file| file.id);
            used.or_else(|| ledger.untrusted(number).map(|(id, _)| id))
        };
        let known = self.present_id(known, stat);
        let length = slot.known_length.load(Ordering::Relaxed);
        let unchanged = changed::compare(known, length, stat);
        unchanged.map_err(|error| self.layout.error(Operation::Stat, slot.path(), &error))
    }

    /// Gives each entry a file of its own where several entries share one that will be written.
    /// Entries that reach it by a symbolic link are given up, or are an error if selected.
    fn separate_entries<'a>(
        &self,
        mut files: Vec<Checked<'a>>,
    ) -> Result<Vec<Checked<'a>>, StoreError> {
        let found: Vec<_> = files.iter().map(|file| file.stat).collect();
        for shared in names::sharing(&found) {
            let is_written = |at: &usize| {
                let Checked { slot, stat, .. } = files[*at];
                stat.is_some_and(|stat| !stat.linked && self.needs_write(slot, &stat))
            };
            if !shared.iter().any(is_written) {
                continue;
            }
            // The recorded entry keeps the file, else the first one does.
            let is_recorded = |at: &&usize| self.ledger().file(files[**at].number).is_some();
            let (mut others, linked): (Vec<usize>, Vec<usize>) =
                shared.into_iter().partition(|at| files[*at].stat.is_some_and(|stat| !stat.linked));
            let keeper = others.iter().position(|at| is_recorded(&at)).unwrap_or(0);
            others.remove(keeper);
            for at in others {
                let Checked { number, slot, .. } = files[at];
                self.disown(number)?;
                self.give_number(slot)?;
                files[at].stat = None;
            }
            // The target of a link is about to change.
            for Checked { number, slot, .. } in linked.into_iter().map(|at| files[at]) {
                if slot.selected {
                    return Err(StoreError::Linked { path: self.layout.full_path(number) });
                }
                self.disown(number)?;
            }
        }
        Ok(files)
    }

    /// Decides about every file and applies the decisions. Starts again whenever a file was given
    /// up: its boundary pieces are now missing, so a neighbouring file may have to be written.
    fn apply_decisions(&self, mut files: Vec<Checked<'_>>) -> Result<(), StoreError> {
        loop {
            let decisions = files.iter().map(|file| self.decide(file));
            let decisions = decisions.collect::<Result<Vec<_>, _>>()?;
            let numbers = |which| {
                let all = files.iter().zip(&decisions);
                all.filter(move |(_, decision)| **decision == which).map(|(file, _)| file.number)
            };
            let mut given_up: Vec<u32> = numbers(Decision::Leave).collect();
            given_up.iter().try_for_each(|number| self.leave(*number))?;
            if given_up.is_empty() {
                let read = files.iter().zip(&decisions);
                let read = read.filter(|(_, decision)| **decision == Decision::Read);
                read.map(|(file, _)| file).try_for_each(|file| self.record_read(file))?;
                given_up = self.adopt_files(&numbers(Decision::Adopt).collect::<Vec<_>>())?;
            }
            if given_up.is_empty() {
                return Ok(());
            }
            files.retain(|file| !given_up.contains(&file.number));
        }
    }

    fn decide(&self, file: &Checked<'_>) -> Result<Decision, StoreError> {
        let Checked { number, slot, stat } = *file;
        let Some(stat) = stat.filter(|_| self.single.is_none()) else {
            let is_left = !slot.selected && self.single.is_none();
            return Ok(if is_left { Decision::Leave } else { Decision::Write });
        };
        let owner = self.owner(number, &stat);
        // Another torrent may have claimed a file that we created before a power cut.
        let is_held = self.ledger().file(number).is_some_and(|file| file.hold == Hold::Ours);
        let is_ours = is_held && owner.may_write();
        if !self.needs_write(slot, &stat) {
            return Ok(if is_ours { Decision::Write } else { Decision::Read });
        }
        if owner == Owner::Linked {
            return match slot.selected {
                true => Err(StoreError::Linked { path: self.layout.full_path(number) }),
                false => Ok(Decision::Leave),
            };
        }
        if let Some(reason) = self.unrelated(file, &stat, &owner)? {
            if !slot.selected {
                return Ok(Decision::Leave);
            }
            let path = self.layout.full_path(number);
            return Err(match self.claim_on(number, stat.id)? {
                Some(by @ Claim::Torrent { .. }) => by.refusal(path),
                Some(Claim::Entry) | None => StoreError::UnrelatedFile { path, reason },
            });
        }
        Ok(if is_ours { Decision::Write } else { Decision::Adopt })
    }

    /// Returns the owner of the file of a slot, found as `stat`.
    fn owner(&self, slot: u32, stat: &Stat) -> Owner {
        let ledger = self.ledger();
        let known = match (ledger.file(slot), ledger.untrusted(slot)) {
            (Some(file), _) => {
                let id = self.present_id(Some(file.id), Some(*stat)).unwrap_or(file.id);
                Known::as_used(TorrentFile { id, ..file })
            }
            (None, Some((_, known))) => known,
            (None, None) => Known::Nothing,
        };
        Owner::of(known, Some(stat), !self.seed_only, None)
    }

    /// Whether an existing file will be written: a piece in it is missing that is wanted or
    /// imported, or the file is selected and too long.
    fn needs_write(&self, slot: &Slot, stat: &Stat) -> bool {
        let ledger = self.ledger();
        let is_missing = |piece: PieceIndex| {
            let is_needed = self.layout.wanted.contains(piece) || ledger.is_import(piece.get());
            is_needed && !ledger.have.contains(piece)
        };
        (slot.selected && stat.length > slot.length)
            || self.layout.pieces_touching(slot).any(is_missing)
    }

    /// Returns why a file is unrelated, or `None`.
    fn unrelated(
        &self,
        file: &Checked<'_>,
        stat: &Stat,
        owner: &Owner,
    ) -> Result<Option<Unrelated>, StoreError> {
        let (expected, got) = (file.slot.length, stat.length);
        if self.overwrite && file.slot.selected {
            return Ok(None);
        }
        if got > expected && file.slot.selected {
            return Ok(Some(Unrelated::TooLong { expected, got }));
        }
        let nothing_verifies = !owner.may_write() && self.is_unrelated(file)?;
        Ok(nothing_verifies.then_some(Unrelated::NothingVerifies))
    }

    /// Whether a piece of a file for which `counts` returns true is verified, or is claimed by the
    /// journal and still to be verified. For a file whose bytes are in the parts file, only
    /// verified pieces count.
    fn has_verified(&self, number: u32, slot: &Slot, counts: impl Fn(PieceIndex) -> bool) -> bool {
        let ledger = self.ledger();
        let verified = if ledger.is_in_parts(number) { &ledger.have } else { &ledger.claimed };
        self.layout.pieces_touching(slot).any(|piece| verified.contains(piece) && counts(piece))
    }

    /// Whether a piece has the full length and only zeros. Such bytes may be in any file.
    fn is_zeros(&self, piece: PieceIndex) -> bool {
        let (geometry, info) = (self.layout.geometry, self.layout.metainfo.info());
        let full = geometry.piece_length();
        let zeros = || *self.zero_piece.get_or_init(|| hash_zeros(full));
        geometry.length_of(piece) == full && info.piece_hash(piece) == zeros()
    }

    /// Whether a file has data, none of which belongs to the torrent. If no piece is inside the
    /// file, and the file was there when this launch started, the torrent's other files decide.
    fn is_unrelated(&self, file: &Checked<'_>) -> Result<bool, StoreError> {
        let Checked { number, slot, .. } = *file;
        let untrusted = self.ledger().untrusted(number).map(|(_, known)| known);
        let by_others = self.layout.pieces_inside(slot).next().is_none() && {
            let ledger = self.ledger();
            // A journal without this file, or the parts file, is better evidence than other files.
            let may_be_used = match untrusted {
                Some(Known::Nothing) => ledger.durable.is_empty(),
                known => known.is_some(),
            };
            !ledger.have.is_empty() && may_be_used && !ledger.is_in_parts(number)
        };
        // Zeros say nothing about a file, unless it was the torrent's before.
        let counts = |piece| untrusted != Some(Known::Nothing) || !self.is_zeros(piece);
        let is_known =
            self.ledger().file(number).is_some() || self.has_verified(number, slot, counts);
        Ok(!is_known && !by_others && self.has_data(slot.path())?)
    }

    /// Whether a file has any byte that is not zero.
    fn has_data(&self, path: &Path) -> Result<bool, StoreError> {
        let failed = |error| self.layout.error(Operation::Read, path, &error);
        let open = || self.disk().open(&self.folder, path, Access::Read);
        let file = self.make_room(open).map_err(failed)?;
        let mut strip = vec![0; STRIP_LENGTH];
        let mut at = 0;
        while let Some(data) = self.disk().next_data(&file, at).map_err(failed)? {
            let count = self.disk().read_at(&file, &mut strip, data).map_err(failed)?;
            if count == 0 {
                break;
            }
            if !is_zero(&strip[..count]) {
                return Ok(true);
            }
            at = data + count as u64;
        }
        Ok(false)
    }

    /// Records a file that is only read, if something in it is the torrent's.
    fn record_read(&self, file: &Checked<'_>) -> Result<(), StoreError> {
        let Checked { number, slot, stat } = *file;
        let Some(stat) = stat else { return Ok(()) };
        let known = self.ledger().file(number);
        let is_complete = !self.seed_only;
        if known.is_some() || is_complete || self.has_verified(number, slot, |_| true) {
            let hold = known.map_or(Hold::Read, |file| file.hold);
            self.ledger().record_file(TorrentFile { slot: number, hold, id: stat.id })?;
            slot.note_length(Some(stat));
        }
        Ok(())
    }

    /// Gives up a file. Its pieces are missing afterwards.
    pub(super) fn disown(&self, number: u32) -> Result<(), StoreError> {
        self.forget(number)?;
        self.leave(number)
    }

    /// Closes files and forgets them.
    pub(super) fn forget_all(&self, numbers: &[u32]) -> Result<(), StoreError> {
        numbers.iter().try_for_each(|number| self.forget(*number))
    }

    fn forget(&self, number: u32) -> Result<(), StoreError> {
        self.shared.files.close_file((self.number, number));
        self.ledger().forget_file(number)
    }

    /// Stops using a file. Its boundary bytes go to the parts file, or to a new file if it is
    /// selected. Its pieces are lost, except those that are imported from the parts file.
    fn leave(&self, number: u32) -> Result<(), StoreError> {
        let slot = self.layout.slot(number);
        slot.set_in_parts(!slot.selected);
        slot.known_length.store(0, Ordering::Relaxed);
        let mut ledger = self.ledger();
        let in_parts = ledger.is_in_parts(number);
        let (imports, lost): (Vec<_>, Vec<_>) = self
            .layout
            .pieces_touching(slot)
            .partition(|piece| in_parts && ledger.is_import(piece.get()));
        imports.into_iter().for_each(|piece| _ = ledger.have.remove(piece));
        ledger.lose(&lost.into_iter().map(PieceIndex::get).collect::<Vec<_>>()).1
    }

    /// Cuts selected files that are too long, if the user allowed them to be overwritten. The new
    /// length is on the disk before anything relies on it.
    fn cut_files(&self, files: &[Checked<'_>]) -> Result<(), StoreError> {
        let is_long = |file: &&Checked<'_>| {
            file.slot.selected && file.stat.is_some_and(|stat| stat.length > file.slot.length)
        };
        for Checked { number, slot, .. } in files.iter().filter(is_long) {
            let Some(stat) = self.stat_path(slot.path())? else { continue };
            let owner = self.owner(*number, &stat);
            if stat.length <= slot.length || !owner.may_cut(self.overwrite) {
                continue;
            }
            let file = self.writable(Location::File(*number))?;
            let cut = self.disk().set_length(&file, slot.length);
            let cut = cut.and_then(|()| {
                // If the sync fails, the next launch must find the file too long again.
                let undo = |_: &std::io::Error| _ = self.disk().set_length(&file, stat.length);
                self.disk().sync_file(&file).inspect_err(undo)
            });
            cut.map_err(|error| self.layout.error(Operation::Write, slot.path(), &error))?;
        }
        Ok(())
    }

    /// Creates the selected files that are empty, and, in order, those whose names the file system
    /// may fold. If preallocation is on, reserves space for all selected files that we write.
    fn make_files(&self) -> Result<(), StoreError> {
        let folded = names::folded(&self.layout);
        for (number, slot) in self.layout.numbered().filter(|(_, slot)| slot.selected) {
            let used = self.ledger().file(number);
            let is_done = used.is_some_and(|file| file.hold == Hold::Read || slot.length == 0);
            if is_done || (slot.length > 0 && !self.preallocate && !folded.contains(&number)) {
                continue;
            }
            let file = self.writable(Location::File(number))?;
            if slot.length > 0 && self.preallocate {
                let allocated = self.disk().allocate(&file, slot.length);
                allocated
                    .map_err(|error| self.layout.error(Operation::Allocate, slot.path(), &error))?;
            }
        }
        Ok(())
    }

    /// Records which missing files are ours to create, and which files have their bytes in the
    /// parts file. These records must be on the disk before the data is. Without them, our files
    /// would look unrelated after a power cut.
    fn expect_files(&self) -> Result<(), StoreError> {
        let slots = || self.layout.numbered().filter(|(_, slot)| !slot.pad);
        let mut ledger = self.ledger();
        let is_expected =
            |(number, slot): &(u32, &Slot)| slot.has_own_file() && ledger.file(*number).is_none();
        let missing = slots().filter(is_expected).map(|(number, _)| number);
        let expected = Expected::new(self.disk().boot(), to_ranges(missing));
        ledger.record_expected(expected)?;
        let in_parts = slots().filter(|(number, slot)| {
            // Imported slots stay there until they are durable.
            !slot.has_own_file() || ledger.is_in_parts(*number)
        });
        let in_parts = to_ranges(in_parts.map(|(number, _)| number));
        ledger.record_in_parts(in_parts)?;
        drop(ledger);
        self.sync_records()
    }

    /// Records that the parts file is ours. Fails if another program removed or replaced it since
    /// the check started, because pieces may rely on its bytes.
    fn own_parts(&self) -> Result<(), StoreError> {
        if !self.parts.has_name() {
            return Ok(());
        }
        let (slot, stat) = (self.layout.parts_slot(), self.stat_parts()?);
        let known = self.present_id(self.ledger().file(slot).map(|file| file.id), stat);
        let same = changed::compare(known, 0, stat);
        same.map_err(|error| self.location_error(Operation::Stat, Location::Parts, &error))?;
        let record = |stat: Stat| {
            self.ledger().record_file(TorrentFile { slot, hold: Hold::Ours, id: stat.id })
        };
        stat.map_or(Ok(()), record)
    }
}
