//! Oddities of a usable `.torrent` file.

use std::fmt;

use bencode::{DecodeErrorKind, DuplicateKey, KeyPath, OwnedDocument, PathStep};

use crate::MetainfoError;

/// The largest number of duplicate keys in a torrent. A torrent with more is refused.
pub const MAX_DUPLICATE_KEYS: usize = 100;

/// A violation of BEP 3 that does not change what the torrent is. Other clients accept it too.
///
/// Keys out of order are not a warning, because no value is lost by them.
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
    /// A dictionary has the same key twice. The first value is used, as in libtorrent. The
    /// exception is `private`: any of its values can make the torrent private.
    DuplicateKey {
        /// The offset of the repeated key, in bytes from the start of the file.
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

/// Returns the warnings about `document`, which is followed by `trailing` bytes.
///
/// # Errors
/// If a key that describes the data is a duplicate.
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

/// Returns whether two values of the key could mean two different torrents, with other data or
/// names. Clients that choose different values could not exchange data.
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
