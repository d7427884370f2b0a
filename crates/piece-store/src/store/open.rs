//! Opening a torrent: finds its files, compares them with the journal's history, and starts this
//! launch's journal.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use bt_types::{Bitfield, Geometry, PieceIndex};

use super::history::History;
use super::journal::{Journal, JournalKey, JournalLocation};
use super::layout::{Layout, Slot};
use super::ledger::Ledger;
use super::parts::{self, PartsFile};
use super::record::to_ranges;
use super::resume::{self, Found, Plan};
use super::shared::SharedDisk;
use super::{Store, names, owner};
use crate::disk;
use crate::hashing::range_count;
use crate::{Disk, Kind, OpenSpec, Opened, Operation, Stat, StoreError, StoreLayout};

impl<D: Disk> Store<D> {
    /// Opens a torrent's data. Trusts what the journal and the disk agree on.
    ///
    /// # Errors
    /// The disk fails; the torrent is in use; a folder has the name of a file.
    pub fn open(shared: Arc<SharedDisk<D>>, spec: &OpenSpec) -> Result<(Self, Opened), StoreError> {
        let folder = open_folder(&shared, spec)?;
        let (journal, history) = open_journal(&shared, spec, &folder.1)?;
        Self::open_in(shared, spec, folder, journal, history)
    }

    /// Opens a torrent's data in a folder with this canonical path. If the last launch's journal
    /// says anything that no longer holds, starts this launch's.
    pub(super) fn open_in(
        shared: Arc<SharedDisk<D>>,
        spec: &OpenSpec,
        (folder, folder_path): (D::Folder, Arc<Path>),
        journal: Option<Journal<D>>,
        mut history: History,
    ) -> Result<(Self, Opened), StoreError> {
        let recorded = history.save_path.as_ref().map(|save_path| save_path.naming);
        let info = spec.metainfo.info();
        let naming = names::choose(&shared, &folder, info, recorded, !spec.seed_only);
        let layout = Arc::new(Layout::new(spec, folder_path, naming));
        let single = parts::open_single(&*shared.disk, &folder, spec, &layout)?.map(Box::new);
        let parts = PartsFile::new(journal.as_ref().map(Journal::at));
        let search = Search {
            shared: &shared,
            folder: &folder,
            layout: &layout,
            parts: &parts,
            writes: !spec.seed_only,
        };
        let found = search.find_files(&mut history)?;
        let plan = resume::plan(&layout, &history, &found);
        put_missing_in_parts(&layout, &found);
        let opened = search.opened(&history, &plan)?;
        let stable_ids = shared.disk.has_stable_ids(&folder)
            && journal
                .as_ref()
                .is_none_or(|journal| shared.disk.has_stable_ids(&journal.at().folder));
        let as_closed = resume::is_as_closed(&history, &plan);
        let totals = (history.uploaded, history.downloaded);
        let mut ledger = Ledger::new(Arc::clone(&layout), plan, journal, as_closed, totals);
        if !as_closed {
            ledger.rewrite()?;
        }
        let store = Self {
            number: shared.files.new_store(),
            parts,
            single,
            preallocate: spec.preallocate,
            overwrite: spec.overwrite,
            seed_only: spec.seed_only,
            stable_ids,
            zero_piece: OnceLock::new(),
            ledger: Mutex::new(ledger),
            hashed: Condvar::new(),
            layout,
            folder,
            shared,
        };
        Ok((store, opened))
    }
}

/// The search for the files of a torrent that is being opened.
struct Search<'a, D: Disk> {
    shared: &'a SharedDisk<D>,
    folder: &'a D::Folder,
    layout: &'a Layout,
    parts: &'a PartsFile<D>,
    /// Whether files are created and written.
    writes: bool,
}

impl<D: Disk> Search<'_, D> {
    /// Finds the files of the torrent. Skips a file whose bytes are in the parts file, unless it is
    /// to be written or ours: a file with its name is the user's.
    fn find_files(&self, history: &mut History) -> Result<Found, StoreError> {
        history.find_old_parts(self.layout.parts_slot());
        let boot = self.shared.disk.boot();
        let mut slots = Vec::with_capacity(self.layout.slots.len());
        for (number, slot) in self.layout.numbered() {
            slots.push(self.find_file(number, slot, history, boot)?);
        }
        let is_recorded = |slot| history.is_ours(slot);
        names::find_numbered(&*self.shared.disk, self.folder, self.layout, &mut slots, is_recorded);
        for ((number, slot), stat) in self.layout.numbered().zip(&slots) {
            slot.note_length(*stat);
            // The file that we created may have a numbered path.
            if let (true, Some(stat)) = (history.was_created(number, boot), stat) {
                history.record_created(number, slot.path(), stat);
            }
        }
        let parts = self.shared.make_room(|| self.parts.stat(&*self.shared.disk));
        let parts = parts.map_err(|error| {
            let path = self.parts.path(&self.layout.folder_path);
            StoreError::disk(Operation::Stat, &path, &error)
        })?;
        Ok(Found { slots, parts, writes: self.writes })
    }

    /// Returns the `Stat` of a slot's own file, and decides whether its bytes are in the parts
    /// file.
    fn find_file(
        &self,
        number: u32,
        slot: &Slot,
        history: &mut History,
        boot: u128,
    ) -> Result<Option<Stat>, StoreError> {
        if let Some(file) = history.files.get(&number)
            && file.path != Path::new("")
            && file.path != slot.path()
        {
            slot.rename(&file.path);
        }
        let is_written = slot.selected && self.writes;
        let in_parts = history.is_in_parts(number) && !is_written;
        let was_created = history.was_created(number, boot);
        let is_looked_for = !in_parts || was_created || history.is_ours(number);
        let stat = if !slot.pad && is_looked_for { self.stat_slot(slot)? } else { None };
        if let (true, Some(stat)) = (was_created, &stat) {
            history.record_created(number, slot.path(), stat);
        }
        let known = history.known(number);
        let stat = stat.filter(|stat| {
            // An empty or too long unselected file is used only if the journal knows it.
            let has_likely_length = (1..=slot.length).contains(&stat.length);
            slot.selected || has_likely_length || owner::may_trust(known, stat)
        });
        let length = stat.map_or(0, |stat| stat.length);
        let is_filled = resume::is_filled(self.layout, history, number, length);
        let is_absent = stat.is_none() && !history.files.contains_key(&number);
        let is_left = !slot.selected && (is_absent || was_created);
        slot.set_in_parts((in_parts && !is_filled) || is_left);
        Ok(stat.filter(|_| slot.has_own_file()))
    }

    /// Returns the `Stat` of a slot's file, or `None` if it is missing. Fails if anything but a
    /// file has the name of a file that we write.
    fn stat_slot(&self, slot: &Slot) -> Result<Option<Stat>, StoreError> {
        let is_written = slot.selected && self.writes;
        let stat = self.shared.make_room(|| self.shared.disk.stat(self.folder, slot.path()));
        let stat = match stat {
            Err(error) if !is_written && self.cannot_exist(slot, &error) => None,
            stat => {
                stat.map_err(|error| self.layout.error(Operation::Stat, slot.path(), &error))?
            }
        };
        let error = match stat.map(|stat| stat.kind) {
            None | Some(Kind::File) => return Ok(stat),
            Some(_) if !is_written => return Ok(None),
            Some(Kind::Folder) => io::ErrorKind::IsADirectory.into(),
            Some(Kind::Other) => disk::not_a_file(),
        };
        Err(self.layout.error(Operation::Open, slot.path(), &error))
    }

    /// Whether an error says that no file of the torrent can have this path. After any other error
    /// the file may be found later, so that the store must not forget what the journal says about
    /// it.
    fn cannot_exist(&self, slot: &Slot, error: &io::Error) -> bool {
        let is_refused = || {
            error.kind() == io::ErrorKind::PermissionDenied
                || self.shared.disk.naming_after(error).is_some()
        };
        error.kind() == io::ErrorKind::NotADirectory || (!slot.selected && is_refused())
    }

    fn opened(&self, history: &History, plan: &Plan) -> Result<Opened, StoreError> {
        let system = self.shared.disk.file_system(self.folder);
        let (file_system, free) =
            system.map_err(|error| self.layout.error(Operation::Stat, Path::new(""), &error))?;
        let geometry = &self.layout.geometry;
        Ok(Opened {
            have: plan.have.clone(),
            to_verify: verify_ranges(geometry, &plan.to_verify),
            wanted: self.layout.wanted.clone(),
            unfinished: unfinished_blocks(geometry, &plan.unfinished),
            uploaded: history.uploaded,
            downloaded: history.downloaded,
            file_system,
            free,
            naming: self.layout.naming,
        })
    }
}

/// Moves the boundary bytes of missing unselected files to the parts file.
fn put_missing_in_parts(layout: &Layout, found: &Found) {
    for (slot, stat) in layout.slots.iter().zip(&found.slots) {
        if !slot.selected && stat.is_none() {
            slot.set_in_parts(true);
        }
    }
}

/// Opens the download folder. Also returns its canonical path.
pub(super) fn open_folder<D: Disk>(
    shared: &SharedDisk<D>,
    spec: &OpenSpec,
) -> Result<(D::Folder, Arc<Path>), StoreError> {
    let path = match &spec.layout {
        StoreLayout::Torrent => spec.folder.as_path(),
        StoreLayout::SinglePiece { output, .. } => output.parent().unwrap_or(Path::new("")),
    };
    let opened = shared.make_room(|| shared.disk.folder(path, !spec.seed_only));
    let opened = opened.map_err(|error| StoreError::disk(Operation::OpenFolder, path, &error));
    opened.map(|(folder, path)| (folder, shared.share_path(&path)))
}

fn open_journal<D: Disk>(
    shared: &Arc<SharedDisk<D>>,
    spec: &OpenSpec,
    save_path: &Path,
) -> Result<(Option<Journal<D>>, History), StoreError> {
    let geometry = spec.metainfo.info().geometry();
    let (Some(state_dir), StoreLayout::Torrent) = (&spec.state_dir, &spec.layout) else {
        return Ok((None, History::new(geometry.piece_count())));
    };
    let key = JournalKey { info_hash: spec.metainfo.info_hash(), save_path, geometry };
    let at = JournalLocation::open(shared, state_dir, &key, true)?;
    let (journal, history) = Journal::open(Arc::clone(shared), at, save_path, &geometry)?;
    Ok((Some(journal), if spec.resume { history } else { history.into_names() }))
}

/// Reads the journal without locking the torrent. `None` if there is no journal.
pub(super) fn recorded_history<D: Disk>(
    shared: &SharedDisk<D>,
    spec: &OpenSpec,
    save_path: &Path,
) -> Result<Option<(JournalLocation<D>, History)>, StoreError> {
    let geometry = spec.metainfo.info().geometry();
    let Some(state_dir) = &spec.state_dir else { return Ok(None) };
    let key = JournalKey { info_hash: spec.metainfo.info_hash(), save_path, geometry };
    let at = match JournalLocation::open(shared, state_dir, &key, false) {
        Err(StoreError::Disk { kind: io::ErrorKind::NotFound, .. }) => return Ok(None),
        at => at?,
    };
    let history = at.history(shared, &geometry)?;
    Ok(history.map(|(history, _)| (at, history)))
}

/// Cuts a set of pieces into ranges that one worker verifies at a time.
fn verify_ranges(geometry: &Geometry, pieces: &Bitfield) -> Vec<Range<u32>> {
    let most = range_count(geometry);
    let cut = |range: Range<u32>| {
        let starts = range.clone().step_by(most as usize);
        starts.map(move |start| start..range.end.min(start + most))
    };
    to_ranges(pieces.iter()).into_iter().flat_map(cut).collect()
}

fn unfinished_blocks(
    geometry: &Geometry,
    unfinished: &BTreeMap<u32, Vec<u16>>,
) -> Vec<(PieceIndex, Vec<u32>)> {
    let blocks = |masks: &[u16]| {
        let bit = |(span, mask): (u32, u16)| {
            (0..u16::BITS)
                .filter(move |bit| mask >> bit & 1 == 1)
                .map(move |bit| span * u16::BITS + bit)
        };
        (0u32..).zip(masks.iter().copied()).flat_map(bit).collect()
    };
    let piece = |(piece, masks): (&u32, &Vec<u16>)| Some((geometry.piece(*piece)?, blocks(masks)));
    unfinished.iter().filter_map(piece).collect()
}
