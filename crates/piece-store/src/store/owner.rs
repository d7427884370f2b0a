//! Decides who owns a file. No other module does. Pure.
//!
//! | the journal says about the file | under its name is | so it is |
//! |---|---|---|
//! | anything | nothing, and it is ours to create | [`Owner::Expected`] |
//! | anything | nothing, and we do not create files | [`Owner::Absent`] |
//! | anything | something that a symbolic link leads to | [`Owner::Linked`] |
//! | ours, and it is as the journal left it | a file | [`Owner::Ours`] |
//! | anything else, and another torrent or entry has it | a file | [`Owner::Claimed`] |
//! | anything else | a file | [`Owner::Foreign`] |
//!
//! | | may read | may write | may cut |
//! |---|---|---|---|
//! | Absent | no | no | no |
//! | Expected | no | yes | no |
//! | Ours | yes | yes | with `--overwrite` |
//! | Claimed, Linked | yes | no | no |
//! | Foreign | yes | once it is adopted: then it is ours | no |
//!
//! The store trusts the journal about a file, without reading the file, if the file is as the
//! journal left it: by length, time and [`FileId`] after a clean shutdown, by [`FileId`] after any
//! other end. A file that we only read must also be no newer than the journal, because another
//! torrent may have written to it since.

use super::claims::Claim;
use super::record::ClosedFile;
use super::resume::TorrentFile;
use crate::{FileId, Stat};

/// What the journal knows about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    /// The torrent used it.
    Recorded {
        hold: Hold,
        last_seen: LastSeen,
    },
}

/// How a torrent uses a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// It only reads it.
    Read,
    /// It wants to write it, and has not checked yet whether another torrent has a claim on it.
    Adopting,
    /// It writes it.
    Ours,
}

impl Known {
    /// What is known about a file that this launch uses.
    pub(super) fn as_used(file: TorrentFile) -> Self {
        Self::Recorded { hold: file.hold, last_seen: LastSeen::As(file.id) }
    }
}

/// What a file was when the journal recorded it last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastSeen {
    /// This file, during a launch without a clean shutdown.
    As(FileId),
    /// This file, which was only read, during a launch whose journal was written last at that time.
    NoLaterThan(FileId, (i64, u32)),
    /// Exactly this, at a clean shutdown.
    Closed(ClosedFile),
}

/// Whose a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nothing has the name, and we do not create files.
    Absent,
    /// Nothing has the name, and the file is ours to create.
    Expected,
    /// We created or adopted it.
    Ours,
    /// Another torrent, or another entry of this one, writes to it.
    Claimed { by: Claim },
    /// A symbolic link leads to it.
    Linked,
    /// Its owner is unknown.
    Foreign,
}

impl Owner {
    /// Returns the owner, given what the journal knows, the file found under the name, whether a
    /// missing file is to be `created`, and another's `claim` on the file that was found.
    pub(super) fn of(
        known: Known,
        found: Option<&Stat>,
        created: bool,
        claim: Option<Claim>,
    ) -> Self {
        let Some(stat) = found else {
            return if created { Self::Expected } else { Self::Absent };
        };
        match (known, claim) {
            _ if stat.linked => Self::Linked,
            (Known::Recorded { hold: Hold::Ours, .. }, _) if may_trust(known, stat) => Self::Ours,
            (_, Some(by)) => Self::Claimed { by },
            _ => Self::Foreign,
        }
    }

    pub(super) fn may_read(&self) -> bool {
        !matches!(self, Self::Absent | Self::Expected)
    }

    pub(super) fn may_write(&self) -> bool {
        matches!(self, Self::Expected | Self::Ours)
    }

    /// Whether a file that is too long may be cut, if its user said `overwrite`.
    pub(super) fn may_cut(&self, overwrite: bool) -> bool {
        overwrite && matches!(self, Self::Ours)
    }
}

/// Whether a file is as the journal left it, so that its pieces are as the journal says.
pub(super) fn may_trust(known: Known, found: &Stat) -> bool {
    match known {
        Known::Nothing => false,
        Known::Recorded { last_seen: LastSeen::As(id), .. } => id.is(found.id),
        Known::Recorded { last_seen: LastSeen::NoLaterThan(id, time), .. } => {
            id.is(found.id) && found.modified <= time
        }
        Known::Recorded { last_seen: LastSeen::Closed(file), .. } => {
            (file.length, file.modified) == (found.length, found.modified)
                && file.id.is_none_or(|id| id.is(found.id))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    const ID: FileId = FileId { device: 1, inode: 7, born: 70 };
    const OTHER: FileId = FileId { device: 1, inode: 8, born: 80 };
    /// Another file that got the number of the first.
    const REUSED: FileId = FileId { device: 1, inode: 7, born: 71 };
    const STAT: Stat =
        Stat { kind: Kind::File, linked: false, id: ID, length: 10, modified: (5, 6) };

    const HOLDS: [Hold; 3] = [Hold::Read, Hold::Adopting, Hold::Ours];

    fn closed(id: Option<FileId>) -> LastSeen {
        LastSeen::Closed(ClosedFile { slot: 0, length: 10, modified: (5, 6), id })
    }

    fn recorded(hold: Hold, last_seen: LastSeen) -> Known {
        Known::Recorded { hold, last_seen }
    }

    fn claim() -> Claim {
        Claim::Torrent { torrent: "the other".to_owned(), in_use: false }
    }

    /// Everything that a journal may say, ours and not.
    fn everything_known() -> Vec<Known> {
        let all = [
            LastSeen::As(ID),
            LastSeen::As(OTHER),
            LastSeen::NoLaterThan(ID, (5, 6)),
            LastSeen::NoLaterThan(ID, (5, 5)),
            LastSeen::NoLaterThan(OTHER, (5, 6)),
            closed(None),
            closed(Some(ID)),
            closed(Some(OTHER)),
        ];
        let recorded =
            all.iter().flat_map(|last_seen| HOLDS.map(|hold| recorded(hold, *last_seen)));
        recorded.chain([Known::Nothing]).collect()
    }

    /// Those of which a file found as `STAT` is as the journal left it.
    fn unchanged(hold: Hold) -> [Known; 4] {
        let all =
            [LastSeen::As(ID), LastSeen::NoLaterThan(ID, (5, 6)), closed(None), closed(Some(ID))];
        all.map(|last_seen| recorded(hold, last_seen))
    }

    #[test]
    fn missing_file_is_expected_or_absent() {
        for known in everything_known() {
            for claim in [None, Some(claim())] {
                assert_eq!(Owner::of(known, None, true, claim.clone()), Owner::Expected);
                assert_eq!(Owner::of(known, None, false, claim), Owner::Absent);
            }
        }
    }

    #[test]
    fn link_is_linked_whatever_is_known() {
        let stat = Stat { linked: true, ..STAT };
        for known in everything_known() {
            for (created, claim) in [(true, None), (false, Some(claim()))] {
                let owner = Owner::of(known, Some(&stat), created, claim);
                assert_eq!(owner, Owner::Linked, "{known:?}");
            }
        }
    }

    #[test]
    fn present_file_is_ours_claimed_or_foreign() {
        let ours = unchanged(Hold::Ours);
        for known in everything_known() {
            for created in [true, false] {
                let of = |claim| Owner::of(known, Some(&STAT), created, claim);
                let without_claim = match known {
                    _ if ours.contains(&known) => Owner::Ours,
                    _ => Owner::Foreign,
                };
                assert_eq!(of(None), without_claim, "{known:?}");
                let with_claim = match known {
                    _ if ours.contains(&known) => Owner::Ours,
                    _ => Owner::Claimed { by: claim() },
                };
                assert_eq!(of(Some(claim())), with_claim, "{known:?}");
            }
        }
    }

    #[test]
    fn owner_says_what_is_allowed() {
        let owners = [
            (Owner::Absent, false, false, false),
            (Owner::Expected, false, true, false),
            (Owner::Ours, true, true, true),
            (Owner::Claimed { by: Claim::Entry }, true, false, false),
            (Owner::Claimed { by: claim() }, true, false, false),
            (Owner::Linked, true, false, false),
            (Owner::Foreign, true, false, false),
        ];
        for (owner, read, write, cut) in owners {
            let allowed = (owner.may_read(), owner.may_write(), owner.may_cut(true));
            assert_eq!(allowed, (read, write, cut), "{owner:?}");
            assert!(!owner.may_cut(false), "{owner:?}");
        }
    }

    #[test]
    fn unchanged_file_is_trusted() {
        for known in everything_known() {
            let expected = HOLDS.iter().any(|hold| unchanged(*hold).contains(&known));
            assert_eq!(may_trust(known, &STAT), expected, "{known:?}");
        }
    }

    #[test]
    fn changed_file_is_not_trusted() {
        let changed = [
            Stat { length: 11, ..STAT },
            Stat { modified: (5, 7), ..STAT },
            Stat { modified: (4, 6), ..STAT },
            Stat { id: OTHER, ..STAT },
            Stat { id: REUSED, ..STAT },
        ];
        for stat in changed {
            assert!(!may_trust(recorded(Hold::Ours, closed(Some(ID))), &stat), "{stat:?}");
            let by_id = stat.id == ID;
            assert_eq!(may_trust(recorded(Hold::Ours, LastSeen::As(ID)), &stat), by_id, "{stat:?}");
        }
    }

    #[test]
    fn unknown_birth_is_no_difference() {
        let stat = Stat { id: FileId { born: 0, ..ID }, ..STAT };
        assert!(may_trust(recorded(Hold::Ours, LastSeen::As(ID)), &stat));
        assert!(may_trust(recorded(Hold::Ours, closed(Some(ID))), &stat));
    }
}
