//! Names that are safe and possible to create, made from names that anybody may have written.
//!
//! A name is refused if it tries to leave its folder, and mapped, always the same way, if some
//! common file system can't hold it:
//!
//! | in the torrent | on disk |
//! |---|---|
//! | a byte that is not UTF-8 | `%XX` |
//! | a control character, `\`, a mark that changes the direction of text | `_` |
//! | a Windows device name, as `con` or `con.txt` | `con_`, `con_.txt` |
//! | a dot or space at the end | a `_` after it |
//! | more than 255 bytes | cut before the extension, `~` and 8 hex digits of the raw name's SHA-1 |
//! | a path that another file has too, but only after mapping | `~2`, `~3` before the extension |

mod collisions;

use sha1::{Digest, Sha1};

pub(crate) use collisions::{Clash, first_clash, resolve_collisions};

/// The longest element of a path, in bytes.
pub const MAX_ELEMENT_LENGTH: usize = 255;
/// The most elements of a path.
pub const MAX_PATH_DEPTH: usize = 100;
/// The longest extension that is kept when a name is cut, in bytes, with its dot.
const MAX_EXTENSION_LENGTH: usize = 32;

/// A path that no file may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Occurs when a path has no elements.
    #[error("expected a path of at least one element, got an empty list")]
    Empty,
    /// Occurs when an element is the empty string.
    #[error("expected a name, got an empty one")]
    EmptyElement,
    /// Occurs when an element is `.` or `..`.
    #[error("expected a name, got '{got}', which is a way through folders")]
    Dots {
        /// Which of the two.
        got: &'static str,
    },
    /// Occurs when an element has a `/` in it.
    #[error("expected a name, got one with '/' in it")]
    Slash,
    /// Occurs when an element has a zero byte in it.
    #[error("expected a name, got one with a zero byte in it")]
    Nul,
    /// Occurs when a path has too many elements.
    #[error("expected a path of at most {MAX_PATH_DEPTH} elements, got {got}")]
    TooDeep {
        /// How many it has.
        got: usize,
    },
    /// Occurs when two files have the same path.
    #[error("expected a path of its own, got that of file {other} again")]
    Duplicate {
        /// The number of the file that has it too.
        other: usize,
    },
    /// Occurs when a file's path is also a folder of another file.
    #[error("expected the path of a file, got a folder of file {other}")]
    FileIsFolder {
        /// The number of the file below it.
        other: usize,
    },
}

/// The name on disk of `raw`, one element of a torrent's path; see the table in [`FileEntry::path`]'s
/// crate documentation: invalid UTF-8 becomes `%XX`, control characters, `\` and bidirectional marks
/// `_`; names that Windows can't hold get a `_`; long ones are cut.
///
/// ```
/// use metainfo::{PathError, map_element};
///
/// assert_eq!(map_element(b"read me.txt")?, "read me.txt");
/// assert_eq!(map_element(b"caf\xe9\x07.txt")?, "caf%E9_.txt");
/// assert_eq!(map_element(b"aux.c")?, "aux_.c");
/// assert_eq!(map_element(b".."), Err(PathError::Dots { got: ".." }));
/// # Ok::<(), PathError>(())
/// ```
///
/// [`FileEntry::path`]: crate::FileEntry::path
///
/// # Errors
/// If the element is empty, `.` or `..`, or has `/` or a zero byte in it.
pub fn map_element(raw: &[u8]) -> Result<String, PathError> {
    check_element(raw)?;
    let mut name = replace_characters(raw);
    if let Some(end) = device_stem(&name) {
        name.insert(end, '_');
    }
    if name.ends_with(['.', ' ']) {
        name.push('_');
    }
    if name.len() > MAX_ELEMENT_LENGTH {
        name = shorten(&name, raw);
    }
    Ok(name)
}

/// Whether `raw` is a name that stays as it is, seen without looking at it closely. True of nearly
/// all names in ASCII.
pub(crate) fn is_plain(raw: &[u8]) -> bool {
    let plain = |byte: &u8| (0x20..0x7f).contains(byte) & (*byte != b'/') & (*byte != b'\\');
    // Without an early end the compiler looks at many bytes at once.
    let all = raw.iter().fold(true, |all, byte| all & plain(byte));
    let fits = (1..=MAX_ELEMENT_LENGTH).contains(&raw.len());
    let last = raw.last().is_some_and(|last| !matches!(last, b'.' | b' '));
    let is_device = || str::from_utf8(raw).is_ok_and(|name| device_stem(name).is_some());
    all && fits && last && !(may_be_device(raw) && is_device())
}

fn check_element(raw: &[u8]) -> Result<(), PathError> {
    match raw {
        b"" => Err(PathError::EmptyElement),
        b"." => Err(PathError::Dots { got: "." }),
        b".." => Err(PathError::Dots { got: ".." }),
        _ if raw.contains(&b'/') => Err(PathError::Slash),
        _ if raw.contains(&0) => Err(PathError::Nul),
        _ => Ok(()),
    }
}

fn replace_characters(raw: &[u8]) -> String {
    let mut name = String::with_capacity(raw.len().min(2 * MAX_ELEMENT_LENGTH));
    for chunk in raw.utf8_chunks() {
        name.extend(chunk.valid().chars().map(|character| match character {
            '\\' => '_',
            _ if character.is_control() || is_direction_mark(character) => '_',
            _ => character,
        }));
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

/// Marks that let `gpj.exe` be shown as `exe.jpg`.
fn is_direction_mark(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Whether `name` begins as a device of Windows does: [`device_stem`] must look at it.
fn may_be_device(name: &[u8]) -> bool {
    let Some(start) = name.get(..3) else { return false };
    [b"aux", b"com", b"con", b"lpt", b"nul", b"prn"]
        .iter()
        .any(|device| start.eq_ignore_ascii_case(*device))
}

/// Where the part of `name` ends that Windows takes for a device, if it does: what is in front of
/// the first dot, spaces at its end aside.
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

/// `name` cut to fit, made distinct by a digest of what it was.
fn shorten(name: &str, raw: &[u8]) -> String {
    let digest = Sha1::digest(raw);
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    with_suffix(name, &format!("~{digits}"))
}

/// `name` with `suffix` in front of its extension, cut in front of that so that it fits.
pub(crate) fn with_suffix(name: &str, suffix: &str) -> String {
    let (stem, extension) = split_extension(name);
    let room = MAX_ELEMENT_LENGTH.saturating_sub(suffix.len() + extension.len());
    let end = (0..=room.min(stem.len())).rev().find(|end| stem.is_char_boundary(*end));
    let stem = stem.get(..end.unwrap_or(0)).unwrap_or_default();
    format!("{stem}{suffix}{extension}")
}

/// `name` in front of its last dot, and from there on.
fn split_extension(name: &str) -> (&str, &str) {
    let dot = name.rfind('.').filter(|dot| *dot > 0 && name.len() - dot <= MAX_EXTENSION_LENGTH);
    name.split_at_checked(dot.unwrap_or(name.len())).unwrap_or((name, ""))
}

#[cfg(test)]
mod tests;
