//! Adopts existing files, unless another torrent or entry has a claim on them.

use super::Store;
use super::claims::{Claim, ClaimQuery, OtherClaims};
use super::owner::{Hold, Known, Owner};
use super::resume::TorrentFile;
use crate::{Access, Disk, FileId, Operation, StoreError};

impl<D: Disk> Store<D> {
    /// Makes existing files ours. Returns those that were given up instead: unselected files that
    /// cannot be ours, and files of idle torrents that the user allowed us to overwrite.
    ///
    /// # Errors
    /// A selected file cannot be opened, or there is another claim on it. Then none becomes ours.
    pub(super) fn adopt_files(&self, slots: &[u32]) -> Result<Vec<u32>, StoreError> {
        let mut given_up = Vec::new();
        for slot in slots {
            match self.open_adopted(*slot) {
                Err(_) if !self.layout.slot(*slot).selected => given_up.push(*slot),
                Err(error) => return self.forget_all(slots).and(Err(error)),
                Ok(()) => {}
            }
        }
        given_up.iter().try_for_each(|slot| self.disown(*slot))?;
        given_up.extend(self.take(slots)?);
        Ok(given_up)
    }

    /// Opens a file to be written, if it is still the one that was checked, and records that we are
    /// adopting it.
    fn open_adopted(&self, slot: u32) -> Result<(), StoreError> {
        let file = self.open_slot(slot, Access::Write);
        let file = file.map_err(|error| self.slot_error(Operation::Open, slot, &error))?;
        let stat = self.disk().file_stat(&file);
        let stat = stat.map_err(|error| self.slot_error(Operation::Stat, slot, &error))?;
        self.check_unchanged(slot, Some(stat))?;
        self.lock_slot(slot, &file)?;
        self.use_file(slot, file, Hold::Adopting).map(drop)
    }

    /// Makes recorded files ours on which there is no other claim. Returns the others, which were
    /// given up.
    ///
    /// # Errors
    /// There is another claim on a selected file. Then none becomes ours.
    pub(super) fn take(&self, slots: &[u32]) -> Result<Vec<u32>, StoreError> {
        let claimed = match self.claimed_among(slots) {
            Ok(claimed) => claimed,
            Err(error) => return self.forget_all(slots).and(Err(error)),
        };
        for slot in slots.iter().filter(|slot| !claimed.contains(slot)) {
            let Some(file) = self.ledger().file(*slot) else { continue };
            self.ledger().record_file(TorrentFile { hold: Hold::Ours, ..file })?;
        }
        for slot in &claimed {
            self.disown(*slot)?;
            if self.layout.slot(*slot).selected {
                let removed = self.disk().remove(&self.folder, self.layout.path(*slot));
                removed.map_err(|error| self.slot_error(Operation::Remove, *slot, &error))?;
            }
        }
        Ok(claimed)
    }

    /// Returns the recorded files with another claim on them, if we can do without those.
    fn claimed_among(&self, slots: &[u32]) -> Result<Vec<u32>, StoreError> {
        let claims = if slots.is_empty() { None } else { self.other_claims()? };
        let mut claimed = Vec::new();
        for slot in slots {
            let Some(file) = self.ledger().file(*slot) else { continue };
            let Some(by) = self.claim_of(file, claims.as_ref())? else { continue };
            let is_idle = matches!(by, Claim::Torrent { in_use: false, .. });
            if self.layout.slot(*slot).selected && !(is_idle && self.overwrite) {
                return Err(by.refusal(self.layout.full_path(*slot)));
            }
            claimed.push(*slot);
        }
        Ok(claimed)
    }

    /// Returns another torrent's claim on a file that is being adopted.
    fn claim_of(
        &self,
        file: TorrentFile,
        claims: Option<&OtherClaims<'_, D>>,
    ) -> Result<Option<Claim>, StoreError> {
        let Some(stat) = self.stat_path(self.layout.path(file.slot))? else { return Ok(None) };
        let claim = claims.map(|claims| claims.find(&self.claim_query(file.slot, file.id)));
        let claim = claim.transpose()?.flatten();
        match Owner::of(Known::as_used(file), Some(&stat), true, claim) {
            Owner::Claimed { by } => Ok(Some(by)),
            Owner::Absent | Owner::Expected | Owner::Ours | Owner::Linked | Owner::Foreign => {
                Ok(None)
            }
        }
    }

    fn claim_query(&self, slot: u32, id: FileId) -> ClaimQuery {
        let ledger = self.ledger();
        let inside: Vec<_> = self.layout.pieces_inside(self.layout.slot(slot)).collect();
        ClaimQuery {
            id,
            path: self.layout.full_path(slot),
            stable: self.stable_ids,
            // Without a piece of its own, nothing shows that the file is the same in both torrents.
            changes: inside.is_empty() || !inside.iter().all(|piece| ledger.have.contains(*piece)),
        }
    }

    fn other_claims(&self) -> Result<Option<OtherClaims<'_, D>>, StoreError> {
        let Some(at) = self.parts.journal_location() else { return Ok(None) };
        OtherClaims::load(at.state(&self.shared), at).map(Some)
    }

    /// Returns the claim of another entry or torrent on the file `id`, which has the path of
    /// `slot`.
    pub(super) fn claim_on(&self, slot: u32, id: FileId) -> Result<Option<Claim>, StoreError> {
        let is_entry = |file: &TorrentFile| file.slot != slot && file.id.is(id);
        if self.ledger().files.iter().any(is_entry) {
            return Ok(Some(Claim::Entry));
        }
        let claims = self.other_claims()?;
        claims.map_or(Ok(None), |claims| claims.find(&self.claim_query(slot, id)))
    }
}
