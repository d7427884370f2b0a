//! Maps untrusted names to names on disk.
//!
//! The names in a torrent are arbitrary bytes. [`Naming`] says how they become names on disk;
//! [`map_element`] maps one. `crates/README.md`, "Names on disk", has a table of examples.
//!
//! Every naming accepts every name, and no name leads out of the folder. An element becomes one
//! component that is not empty, `.` or `..`, and has no `/` and no zero byte.

mod collisions;
mod version0;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use bt_types::InfoHashV1;
use sha1::{Digest, Sha1};

pub(crate) use collisions::{has_clash, key_of, resolve_collisions};

/// The longest element of a path, in bytes.
pub const MAX_ELEMENT_LENGTH: usize = 255;
/// The largest number of elements in a path.
pub const MAX_PATH_DEPTH: usize = 100;
/// The longest element under [`Naming::Short`], in bytes: the limit of eCryptfs.
const MAX_SHORT_LENGTH: usize = 143;
/// The longest extension that a cut name keeps, in bytes, including its dot.
const MAX_EXTENSION_LENGTH: usize = 32;

/// Why a path can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Occurs when a path has no elements.
    #[error("expected a path of at least one element, got an empty list")]
    Empty,
    /// Occurs when a path has too many elements.
    #[error("expected a path of at most {MAX_PATH_DEPTH} elements, got {got}")]
    TooDeep {
        /// The number of elements.
        got: usize,
    },
}

/// How a torrent's names become names on disk.
///
/// Under every naming:
///
/// - A torrent's name that is empty, `.` or `..` becomes the info-hash in hex.
/// - An element has at most [`Naming::max_length`] bytes.
/// - A file gets `~2`, `~3` before its extension if an earlier file or a folder has its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Naming {
    /// The raw bytes of an element, UTF-8 or not, if a Linux file system can hold them as one name;
    /// else as [`Naming::Unix`]. Finds files that other programs created.
    Raw,
    /// For the file systems of Linux, which hold nearly every name. This is the naming of
    /// [`FileEntry::disk_path`](crate::FileEntry::disk_path).
    ///
    /// | in the torrent | on disk |
    /// |---|---|
    /// | `/`, a zero byte, a control character, a mark that changes the direction of text | `_` |
    /// | an element that is empty, `.` or `..` | `_` |
    /// | a byte that is not UTF-8 | `%XX` |
    /// | more than 255 bytes | cut before the extension, `~` and 8 hex digits of the raw name's SHA-1 |
    Unix,
    /// For FAT, exFAT, NTFS and SMB: as [`Naming::Unix`], and further:
    ///
    /// | in the torrent | on disk |
    /// |---|---|
    /// | one of `\ : ? * " < > \|` | `_` |
    /// | a Windows device name, such as `con` or `con.txt` | `con_`, `con_.txt` |
    /// | a dot or space at the end | a `_` after it |
    /// | paths that differ in the case of letters only | `~2`, `~3` before the extension |
    Windows,
    /// As [`Naming::Windows`] with elements of at most 143 bytes, for file systems with that limit,
    /// such as eCryptfs.
    Short,
    /// The names of version 0.1.0 of this program. Finds files that it created. Elements that it
    /// refused are mapped as by [`Naming::Unix`].
    Version0,
}

impl Naming {
    /// Every naming, in the order in which to search for existing files.
    pub const ALL: [Self; 5] = [Self::Raw, Self::Unix, Self::Version0, Self::Windows, Self::Short];

    /// Returns the length of the longest element, in bytes.
    pub fn max_length(self) -> usize {
        if self == Self::Short { MAX_SHORT_LENGTH } else { MAX_ELEMENT_LENGTH }
    }

    /// Returns whether names that differ only in the case of letters are the same name.
    pub(crate) fn folds_case(self) -> bool {
        matches!(self, Self::Windows | Self::Short)
    }
}

/// Returns the name on disk of `raw`, one element of a torrent's path, under `naming`. It is a
/// single component that stays in its folder, whatever `raw` is.
///
/// ```
/// use metainfo::{Naming, map_element};
///
/// assert_eq!(map_element(b"read me.txt", Naming::Unix), "read me.txt");
/// assert_eq!(map_element(b"caf\xe9\x07.txt", Naming::Unix), "caf%E9_.txt");
/// assert_eq!(map_element(b"..", Naming::Unix), "_");
/// assert_eq!(map_element(b"aux.c", Naming::Unix), "aux.c");
/// assert_eq!(map_element(b"aux.c", Naming::Windows), "aux_.c");
/// ```
pub fn map_element(raw: &[u8], naming: Naming) -> OsString {
    OsString::from_vec(map_bytes(raw, naming))
}

/// Inserts `~` and `number` before the extension of the file name of `path`. Shortens the name if
/// it would be longer than `naming` permits. Returns a path without a file name unchanged.
///
/// ```
/// use std::path::Path;
///
/// use metainfo::{Naming, numbered};
///
/// let path = numbered(Path::new("album/README.txt"), 2, Naming::Unix);
/// assert_eq!(path, Path::new("album/README~2.txt"));
/// ```
pub fn numbered(path: &Path, number: u32, naming: Naming) -> PathBuf {
    let Some(name) = path.file_name() else { return path.to_path_buf() };
    let name = with_suffix(name.as_bytes(), &format!("~{number}"), naming.max_length());
    path.with_file_name(OsStr::from_bytes(&name))
}

/// Returns [`map_element`] as bytes.
pub(crate) fn map_bytes(raw: &[u8], naming: Naming) -> Vec<u8> {
    match naming {
        Naming::Raw if is_safe(raw) => raw.to_vec(),
        Naming::Raw | Naming::Unix => unix(raw).into_bytes(),
        Naming::Windows | Naming::Short => windows(raw, naming.max_length()).into_bytes(),
        Naming::Version0 => version0::element(raw).unwrap_or_else(|| unix(raw)).into_bytes(),
    }
}

/// Returns the name on disk of a torrent whose name is `raw`.
pub(crate) fn map_torrent_name(raw: &[u8], naming: Naming, hash: InfoHashV1) -> Vec<u8> {
    if is_no_name(raw) { hash.to_string().into_bytes() } else { map_bytes(raw, naming) }
}

/// Returns whether a quick check shows that [`Naming::Unix`] leaves `raw` unchanged. True for
/// nearly all names in ASCII.
pub(crate) fn is_plain(raw: &[u8]) -> bool {
    let plain = |byte: &u8| (0x20..0x7f).contains(byte) & (*byte != b'/');
    // Without an early exit the compiler can process many bytes at once.
    let all = raw.iter().fold(true, |all, byte| all & plain(byte));
    all && (1..=MAX_ELEMENT_LENGTH).contains(&raw.len()) && !is_no_name(raw)
}

/// Returns whether every naming leaves `name` unchanged.
pub(crate) fn is_same_everywhere(name: &[u8]) -> bool {
    let plain = |byte: &u8| (0x20..0x7f).contains(byte) & !is_bad_on_windows(*byte);
    // As in `is_plain`.
    let all = name.iter().fold(true, |all, byte| all & plain(byte));
    let fits = (1..=MAX_SHORT_LENGTH).contains(&name.len());
    let ends_well = !matches!(name.last(), Some(b'.' | b' '));
    let is_quick = all && fits && ends_well && !may_be_device(name);
    // The rules of `Short` include those of every other naming.
    is_quick || map_bytes(name, Naming::Short) == name
}

/// Returns `path` in lower case, for comparison as on file systems that ignore case.
pub(crate) fn folded(path: &[u8]) -> Vec<u8> {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    let path = String::from_utf8_lossy(path);
    path.chars().flat_map(char::to_lowercase).collect::<String>().into_bytes()
}

/// Returns whether a Linux file system can hold `raw` as one component of a path.
fn is_safe(raw: &[u8]) -> bool {
    !is_no_name(raw)
        && raw.len() <= MAX_ELEMENT_LENGTH
        && !raw.iter().any(|b| matches!(b, b'/' | 0))
}

fn is_no_name(raw: &[u8]) -> bool {
    matches!(raw, b"" | b"." | b"..")
}

fn unix(raw: &[u8]) -> String {
    if is_no_name(raw) {
        return "_".to_owned();
    }
    let name = replace_characters(raw, |character| character == '/' || is_invisible(character));
    cut(name, raw, MAX_ELEMENT_LENGTH)
}

fn windows(raw: &[u8], max_length: usize) -> String {
    if is_no_name(raw) {
        return "_".to_owned();
    }
    let is_bad =
        |character| u8::try_from(character).is_ok_and(is_bad_on_windows) || is_invisible(character);
    let name = mark_for_windows(replace_characters(raw, is_bad));
    cut(name, raw, max_length)
}

/// Adds a `_` where Windows would take `name` for a device or drop its last character.
fn mark_for_windows(mut name: String) -> String {
    if let Some(end) = device_stem(&name) {
        name.insert(end, '_');
    }
    if name.ends_with(['.', ' ']) {
        name.push('_');
    }
    name
}

/// Returns `raw` as text, with `_` for bad characters and `%XX` for bytes that are not UTF-8.
fn replace_characters(raw: &[u8], is_bad: impl Fn(char) -> bool) -> String {
    let mut name = String::with_capacity(raw.len().min(2 * MAX_ELEMENT_LENGTH));
    for chunk in raw.utf8_chunks() {
        let characters = chunk.valid().chars();
        name.extend(characters.map(|c| if is_bad(c) { '_' } else { c }));
        for byte in chunk.invalid() {
            name.push('%');
            name.extend([byte >> 4, byte & 15].map(upper_hex));
        }
    }
    name
}

fn upper_hex(digit: u8) -> char {
    char::from(if digit < 10 { b'0' + digit } else { b'A' + digit - 10 })
}

/// Returns whether `character` is invisible: a control character, or a bidirectional mark, which
/// can make `gpj.exe` look like `exe.jpg`.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Returns whether FAT, exFAT, NTFS and SMB forbid the character `byte`.
fn is_bad_on_windows(byte: u8) -> bool {
    // No early exit here either.
    [b'/', b'\\', b':', b'?', b'*', b'"', b'<', b'>', b'|']
        .iter()
        .fold(false, |any, bad| any | (*bad == byte))
}

/// Returns whether `name` starts like a device name of Windows, so that [`device_stem`] must check
/// it.
fn may_be_device(name: &[u8]) -> bool {
    let Some(start) = name.get(..3) else { return false };
    [b"aux", b"com", b"con", b"lpt", b"nul", b"prn"]
        .iter()
        .any(|device| start.eq_ignore_ascii_case(*device))
}

/// Returns the length of the stem of `name` if Windows takes `name` for a device. The stem is the
/// text before the first dot, without trailing spaces.
fn device_stem(name: &str) -> Option<usize> {
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ');
    let is = |device: &str| stem.eq_ignore_ascii_case(device);
    let numbered = |start: &str| {
        let number =
            stem.get(3..).filter(|_| stem.get(..3).is_some_and(|s| s.eq_ignore_ascii_case(start)));
        number.is_some_and(|number| {
            matches!(number.as_bytes(), [b'1'..=b'9']) || matches!(number, "¹" | "²" | "³")
        })
    };
    let device = match stem.len() {
        3 => is("con") || is("prn") || is("aux") || is("nul"),
        4 | 5 => numbered("com") || numbered("lpt"),
        6 | 7 => is("conin$") || is("conout$"),
        _ => false,
    };
    device.then_some(stem.len())
}

/// Returns `name` if it fits; else cuts it and adds a digest of `raw`, so that it stays distinct.
fn cut(name: String, raw: &[u8], max_length: usize) -> String {
    if name.len() <= max_length {
        return name;
    }
    let digest = Sha1::digest(raw);
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let name = with_suffix(name.as_bytes(), &format!("~{digits}"), max_length);
    String::from_utf8_lossy(&name).into_owned()
}

/// Inserts `suffix` before the extension. Shortens the stem if the name would be too long, between
/// characters if it is UTF-8.
pub(crate) fn with_suffix(name: &[u8], suffix: &str, max_length: usize) -> Vec<u8> {
    let (stem, extension) = split_extension(name);
    let room = max_length.saturating_sub(suffix.len() + extension.len());
    let starts_character = |end: &usize| stem.get(*end).is_none_or(|byte| byte & 0xc0 != 0x80);
    let most = room.min(stem.len());
    // A character has at most four bytes.
    let end = (0..=most).rev().take(4).find(starts_character).unwrap_or(most);
    let stem = stem.get(..end).unwrap_or_default();
    [stem, suffix.as_bytes(), extension].concat()
}

/// Splits `name` before its last dot, if the extension is a short one.
fn split_extension(name: &[u8]) -> (&[u8], &[u8]) {
    let dot = name.iter().rposition(|byte| *byte == b'.');
    let dot = dot.filter(|dot| *dot > 0 && name.len() - dot <= MAX_EXTENSION_LENGTH);
    name.split_at_checked(dot.unwrap_or(name.len())).unwrap_or((name, b""))
}

#[cfg(test)]
mod tests;
