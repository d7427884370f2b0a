//! Oddities of a `.torrent` file that is used all the same.

use std::fmt;

use bencode::{DecodeErrorKind, DuplicateKey, KeyPath, OwnedDocument, PathStep};

use crate::MetainfoError;

/// The most duplicate keys that a torrent may have. With more it is refused.
pub const MAX_DUPLICATE_KEYS: usize = 100;

/// Something that BEP 3 forbids and that does not change what the torrent is. Other clients accept
/// it too.
///
/// Keys out of order are no warning, because no reader loses a value by them.
/// [`Metainfo::unsorted`](crate::Metainfo::unsorted) reports them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetainfoWarning {
    /// Bytes follow the torrent, often a line feed. The parser ignores them.
    TrailingBytes {
        /// Where the torrent ends, in bytes from the start of the file.
        offset: usize,
        /// How many bytes follow.
        count: usize,
    },
    /// One dictionary has a key twice. The first value is used, as in libtorrent. `private` is the
    /// exception: any of its values can make the torrent private.
    DuplicateKey {
        /// Where the key is repeated, in bytes from the start of the file.
        offset: usize,
        /// The key.
        path: KeyPath,
    },
}

impl fmt::Display for MetainfoWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrailingBytes { offset, count: 1 } => {
                write!(f, "ignored 1 byte after the end of the torrent at byte {offset}")
            }
            Self::TrailingBytes { offset, count } => {
                write!(f, "ignored {count} bytes after the end of the torrent at byte {offset}")
            }
            Self::DuplicateKey { offset, path } => {
                let used = match is_private(path) {
                    true => "the torrent is private if any value says so",
                    false => "its first value is used",
                };
                write!(f, "duplicate key {path} at byte {offset}: {used}")
            }
        }
    }
}

/// The warnings about `document`, which `trailing` bytes follow.
///
/// # Errors
/// A key that says which data the torrent has is repeated.
pub(crate) fn warnings(
    document: &OwnedDocument,
    trailing: usize,
) -> Result<Box<[MetainfoWarning]>, MetainfoError> {
    let mut warnings = Vec::new();
    for DuplicateKey { offset, path } in document.duplicates() {
        if describes_data(&path) {
            return Err(MetainfoError { kind: DecodeErrorKind::DuplicateKey.into(), offset, path });
        }
        warnings.push(MetainfoWarning::DuplicateKey { offset, path });
    }
    if trailing > 0 {
        let offset = document.bytes().len();
        warnings.push(MetainfoWarning::TrailingBytes { offset, count: trailing });
    }
    Ok(warnings.into())
}

/// Whether two values of the key could be two different torrents: other data, other names. No
/// reader can tell which one was meant, and clients that differ would not find each other.
fn describes_data(path: &KeyPath) -> bool {
    let mut steps = path.steps().iter();
    if !is_key(steps.next(), &["info"]) {
        return false;
    }
    let file: &[&str] = &["attr", "length", "path", "path.utf-8", "symlink path"];
    let info: &[&str] = &[
        "attr",
        "file tree",
        "files",
        "length",
        "meta version",
        "name",
        "name.utf-8",
        "piece length",
        "pieces",
        "symlink path",
    ];
    match (steps.next(), steps.next(), steps.next(), steps.next()) {
        (None, ..) => true,
        (key, None, ..) => is_key(key, info),
        (key, Some(PathStep::Index(_)), file_key, None) if is_key(key, &["files"]) => {
            is_key(file_key, file)
        }
        (key, ..) => is_key(key, &["file tree"]),
    }
}

fn is_private(path: &KeyPath) -> bool {
    let [info, private] = path.steps() else { return false };
    is_key(Some(info), &["info"]) && is_key(Some(private), &["private"])
}

fn is_key(step: Option<&PathStep>, keys: &[&str]) -> bool {
    matches!(step, Some(PathStep::Key(key)) if keys.iter().any(|name| name.as_bytes() == key))
}
