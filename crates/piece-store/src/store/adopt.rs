//! Making files ours that are there already, unless somebody else has a claim on them.

use std::path::Path;

use super::Store;
use super::claims::{Claim, OtherClaims, Wanted};
use super::owner::{Hold, Known, Owner};
use super::resume::TorrentFile;
use crate::{Disk, FileId, Operation, StoreError};

impl<D: Disk> Store<D> {
    /// Makes files ours that are there, and that nobody else has a claim on. If one of them is refused,
    /// none becomes ours.
    pub(super) fn adopt_files(&self, slots: &[u32]) -> Result<(), StoreError> {
        let adopted = self.try_adopt_files(slots);
        if adopted.is_err() {
            slots.iter().try_for_each(|slot| self.forget(*slot))?;
        }
        adopted
    }

    fn try_adopt_files(&self, slots: &[u32]) -> Result<(), StoreError> {
        for number in slots {
            match self.adopt(*number) {
                Err(_) if !self.is_selected(*number) => self.disown(*number)?,
                adopted => _ = adopted?,
            }
        }
        let claims = if slots.is_empty() { None } else { self.other_claims()? };
        for number in slots {
            let Some(file) = self.ledger().file(*number) else { continue };
            match self.claim_of(file, claims.as_ref())? {
                None => self.ledger().record_file(TorrentFile { hold: Hold::Ours, ..file })?,
                Some(_) if !self.is_selected(*number) => self.disown(*number)?,
                Some(Claim::Torrent { in_use: false, .. }) if self.overwrite => {
                    self.disown(*number)?;
                    let removed = self.disk.remove(&self.folder, self.layout.path(*number));
                    removed.map_err(|error| self.slot_error(Operation::Remove, *number, &error))?;
                }
                Some(by) => {
                    return Err(by.refusal(self.full_path(*number)));
                }
            }
        }
        Ok(())
    }

    /// Makes a file ours that we created, unless somebody else has a claim on it by now.
    pub(super) fn take_created(&self, slot: u32) -> Result<(), StoreError> {
        let Some(file) = self.ledger().file(slot) else { return Ok(()) };
        if let Some(by) = self.claim_of(file, self.other_claims()?.as_ref())? {
            self.forget(slot)?;
            return Err(by.refusal(self.full_path(slot)));
        }
        self.ledger().record_file(TorrentFile { hold: Hold::Ours, ..file })
    }

    /// Who else has a claim on a file that is being adopted.
    fn claim_of(
        &self,
        file: TorrentFile,
        claims: Option<&OtherClaims<'_, D>>,
    ) -> Result<Option<Claim>, StoreError> {
        let Some(stat) = self.stat_path(self.layout.path(file.slot))? else { return Ok(None) };
        let path = self.full_path(file.slot);
        let wanted = Wanted { id: file.id, path: &path, stable: self.stable_ids };
        let claim = claims.map(|claims| claims.find(&wanted)).transpose()?.flatten();
        match Owner::of(Known::as_used(file), Some(&stat), true, claim) {
            Owner::Claimed { by } => Ok(Some(by)),
            _ => Ok(None),
        }
    }

    fn other_claims(&self) -> Result<Option<OtherClaims<'_, D>>, StoreError> {
        let Some(at) = self.parts.journal_at() else { return Ok(None) };
        OtherClaims::load(at.state(&*self.disk, &self.handles), at).map(Some)
    }

    fn is_selected(&self, number: u32) -> bool {
        self.layout.slots.get(number as usize).is_some_and(|slot| slot.selected)
    }

    /// Who else has a claim on the file `id` at `path`.
    pub(super) fn claim_on(&self, id: FileId, path: &Path) -> Result<Option<Claim>, StoreError> {
        if self.ledger().files.iter().any(|file| file.id.is(id)) {
            return Ok(Some(Claim::Entry));
        }
        let wanted = Wanted { id, path, stable: self.stable_ids };
        let claims = self.other_claims()?;
        claims.map_or(Ok(None), |claims| claims.find(&wanted))
    }
}
