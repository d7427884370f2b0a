//! The contents of a journal: all its records together.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bt_types::{Bitfield, Geometry};

use super::owner::{Hold, Known, LastSeen};
use super::record::{
    ClosedFile, Expected, Header, JournalName, NO_ID, Record, SavePath, in_ranges, split_record,
    to_ranges,
};
use crate::{FileId, Stat};

/// The hold on a file that version 0.1.0 was filling from the parts file.
const FILLING: Hold = Hold::Adopting;

/// What a journal says about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordedFile {
    pub(super) id: FileId,
    pub(super) hold: Hold,
    /// Below the download folder; empty if the record does not say.
    pub(super) path: PathBuf,
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct History {
    pub(super) written: Bitfield,
    pub(super) durable: Bitfield,
    pub(super) files: BTreeMap<u32, RecordedFile>,
    pub(super) expected: Expected,
    /// Files whose bytes are in the parts file; `None` in a journal of version 0.1.0, until
    /// [`Self::find_old_parts`].
    in_parts: Option<Vec<Range<u32>>>,
    /// Whether version 0.1.0 used a parts file and did not record what is in it.
    pub(super) has_old_parts: bool,
    /// Files that were used before and looked different, in a journal of version 0.1.0.
    changed: Vec<Range<u32>>,
    /// The files as they were after a clean shutdown; `None` after any other end.
    pub(super) closed: Option<BTreeMap<u32, ClosedFile>>,
    pub(super) unfinished: BTreeMap<u32, Vec<u16>>,
    pub(super) save_path: Option<SavePath>,
    pub(super) uploaded: u64,
    pub(super) downloaded: u64,
    /// When the journal was written last.
    pub(super) modified: (i64, u32),
}

impl History {
    /// The history of an unknown torrent.
    pub(super) fn new(pieces: u32) -> Self {
        Self {
            written: Bitfield::new(pieces),
            durable: Bitfield::new(pieces),
            files: BTreeMap::new(),
            expected: Expected::default(),
            in_parts: None,
            has_old_parts: false,
            changed: Vec::new(),
            closed: None,
            unfinished: BTreeMap::new(),
            save_path: None,
            uploaded: 0,
            downloaded: 0,
            modified: (0, 0),
        }
    }

    /// Drops everything but the names of the files.
    pub(super) fn into_names(self) -> Self {
        let forget = |file: RecordedFile| RecordedFile { id: NO_ID, hold: Hold::Read, ..file };
        let named = self.files.into_iter().filter(|(_, file)| file.path != Path::new(""));
        let files = named.map(|(slot, file)| (slot, forget(file))).collect();
        Self { files, save_path: self.save_path, ..Self::new(self.written.pieces()) }
    }

    /// What the journal knows about the file of `slot`.
    pub(super) fn known(&self, slot: u32) -> Known {
        let Some(file) = self.recorded(slot) else { return Known::Nothing };
        let last_seen = match &self.closed {
            None if file.hold == Hold::Read => Some(LastSeen::NoLaterThan(file.id, self.modified)),
            None => Some(LastSeen::As(file.id)),
            Some(files) => files.get(&slot).copied().map(LastSeen::Closed),
        };
        let recorded = |last_seen| Known::Recorded { hold: file.hold, last_seen };
        last_seen.map_or(Known::Nothing, recorded)
    }

    fn recorded(&self, slot: u32) -> Option<&RecordedFile> {
        self.files.get(&slot).filter(|file| file.id != NO_ID)
    }

    /// Whether a file found in `slot` is one that we created and whose record a power cut removed.
    /// `boot` is the present start of the system.
    pub(super) fn was_created(&self, slot: u32, boot: u128) -> bool {
        self.recorded(slot).is_none() && self.expected.was_created(slot, boot)
    }

    /// Adds the lost record of a file that we created, unless the file is another entry's.
    pub(super) fn record_created(&mut self, slot: u32, path: &Path, stat: &Stat) {
        if self.files.values().any(|file| file.id.is(stat.id)) {
            return;
        }
        // Another torrent may have claimed it since.
        let file = RecordedFile { id: stat.id, hold: Hold::Adopting, path: path.to_owned() };
        self.files.insert(slot, file);
        if let Some(closed) = &mut self.closed {
            let (length, modified, id) = (stat.length, stat.modified, Some(stat.id));
            closed.insert(slot, ClosedFile { slot, length, modified, id });
        }
    }

    /// Whether the boundary bytes of the file of `slot` are in the parts file.
    pub(super) fn is_in_parts(&self, slot: u32) -> bool {
        self.in_parts.as_ref().is_some_and(|slots| in_ranges(slots, slot))
    }

    /// Derives what is in the parts file, whose own slot is `parts_slot`, if the journal does not
    /// say so. Version 0.1.0 put into it the bytes of every file that it did not know or was
    /// filling.
    pub(super) fn find_old_parts(&mut self, parts_slot: u32) {
        let is_known = |slot| self.files.contains_key(&slot) || in_ranges(&self.changed, slot);
        if self.in_parts.is_none() && is_known(parts_slot) {
            let is_filling =
                |slot: &u32| self.files.get(slot).is_some_and(|file| file.hold == FILLING);
            let kept = (0..parts_slot).filter(|slot| !is_known(*slot) || is_filling(slot));
            (self.in_parts, self.has_old_parts) = (Some(to_ranges(kept)), true);
        }
    }

    /// Whether the file of `slot` is ours to write.
    pub(super) fn is_ours(&self, slot: u32) -> bool {
        self.files.get(&slot).is_some_and(|file| file.hold == Hold::Ours)
    }

    /// Reads a journal's bytes up to the first torn or damaged record. Returns the history and how
    /// many bytes are good, or `None` if it is not the journal that `header` names.
    pub(super) fn replay(
        bytes: &[u8],
        header: &Header,
        geometry: &Geometry,
    ) -> Option<(Self, usize)> {
        let mut history = Self::new(geometry.piece_count());
        let mut rest = bytes.strip_prefix(header.encode().as_slice())?;
        while let Some((kind, payload, after)) = split_record(rest, bytes.len() - rest.len()) {
            history.read(kind, payload, geometry);
            rest = after;
        }
        Some((history, bytes.len() - rest.len()))
    }

    fn read(&mut self, kind: u8, payload: &[u8], geometry: &Geometry) {
        if kind == 9 {
            // Version 0.1.0 was filling this file from the parts file.
            let Some(Record::File { slot, id, path, .. }) = Record::decode(5, payload) else {
                return;
            };
            self.files.insert(slot, RecordedFile { id, hold: FILLING, path });
        } else if let Some(record) = Record::decode(kind, payload) {
            self.apply(record, geometry);
        }
    }

    fn apply(&mut self, record: Record, geometry: &Geometry) {
        match record {
            Record::Open { uploaded, downloaded } => {
                (self.uploaded, self.downloaded) = (uploaded, downloaded);
                self.closed = None;
                self.unfinished.clear();
            }
            Record::Written(pieces) => fill(&mut self.written, &pieces, geometry),
            Record::Durable(pieces) => {
                fill(&mut self.written, &pieces, geometry);
                fill(&mut self.durable, &pieces, geometry);
            }
            Record::Lost(pieces) => {
                remove(&mut self.written, &pieces, geometry);
                remove(&mut self.durable, &pieces, geometry);
            }
            Record::File { slot, id, hold, path } => {
                self.files.insert(slot, RecordedFile { id, hold, path });
            }
            Record::Expected(expected) => self.expected = expected,
            Record::Changed(slots) => self.changed = slots,
            Record::InParts(slots) => self.in_parts = Some(slots),
            Record::SavePath(save_path) => self.save_path = Some(save_path),
            Record::Unfinished { piece, masks } => {
                self.unfinished.insert(piece, masks);
            }
            Record::Closed { uploaded, downloaded, files } => {
                (self.uploaded, self.downloaded) = (uploaded, downloaded);
                self.closed = Some(files.into_iter().map(|file| (file.slot, file)).collect());
                self.changed.clear();
            }
        }
    }
}

/// What any torrent's journal says about files.
#[derive(Debug)]
pub(super) struct JournalClaims {
    pub(super) name: JournalName,
    /// The torrent's name.
    pub(super) torrent: String,
    /// Its download folder.
    pub(super) folder: PathBuf,
    /// The files that it uses.
    pub(super) files: Vec<RecordedFile>,
}

/// Returns what the journal in `bytes` says about files, or `None` if it is no journal or does not
/// say where the files are.
pub(super) fn claims_in(bytes: &[u8]) -> Option<JournalClaims> {
    let header = Header::decode(bytes)?;
    let no_pieces = Geometry::new(1, 1).ok()?;
    let (history, _) = History::replay(bytes, &header, &no_pieces)?;
    let SavePath { folder, name: torrent, .. } = history.save_path?;
    let is_named = |file: &RecordedFile| file.id != NO_ID && file.path != Path::new("");
    let files = history.files.into_values().filter(is_named).collect();
    Some(JournalClaims { name: header.name(), torrent, folder, files })
}

fn fill(set: &mut Bitfield, ranges: &[Range<u32>], geometry: &Geometry) {
    each(ranges, geometry, |piece| {
        set.insert(piece);
    });
}

fn remove(set: &mut Bitfield, ranges: &[Range<u32>], geometry: &Geometry) {
    each(ranges, geometry, |piece| {
        set.remove(piece);
    });
}

fn each(ranges: &[Range<u32>], geometry: &Geometry, work: impl FnMut(bt_types::PieceIndex)) {
    let clamp = |range: &Range<u32>| range.start..range.end.min(geometry.piece_count());
    ranges.iter().flat_map(clamp).filter_map(|index| geometry.piece(index)).for_each(work);
}
