//! Recognises content that is not a torrent.

use std::fmt;

/// How many bytes are examined to recognise text.
const EXAMINED_TEXT: usize = 1024;

/// The apparent kind of content that is not a torrent, for an error message.
///
/// ```
/// use metainfo::Appearance;
///
/// let page = b"<!DOCTYPE html><title>Please log in</title>";
/// assert_eq!(Appearance::of(page), Some(Appearance::WebPage));
/// assert_eq!(Appearance::WebPage.to_string(), "a web page");
/// assert_eq!(Appearance::of(b"d8:announce3:x:x"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appearance {
    /// No bytes at all.
    Empty,
    /// HTML.
    WebPage,
    /// XML that is not HTML.
    Xml,
    /// JSON.
    Json,
    /// A magnet link in a file.
    MagnetLink,
    /// A pointer file that Git keeps in place of a large file (Git LFS).
    LfsPointer,
    /// The `._name` file that macOS puts beside a file on other file systems (AppleDouble).
    CompanionFile,
    /// Data compressed with gzip, which may be a torrent once it is unpacked.
    Gzip,
    /// A zip archive.
    Zip,
    /// An archive, or compressed data, of another format.
    Archive,
    /// An image.
    Image,
    /// A video or audio file.
    Media,
    /// A PDF document.
    Pdf,
    /// A program or a library.
    Program,
    /// Plain text.
    Text,
}

impl Appearance {
    /// Returns what `bytes` look like; `None` if they may be a torrent or are unknown.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::Empty);
        }
        if matches!(bytes, [b'd'] | [b'd', b'e'] | [b'd', b'0'..=b'9', ..]) {
            return None;
        }
        let signature = SIGNATURES.iter().find(|(offset, start, _)| {
            bytes.get(*offset..).is_some_and(|rest| rest.starts_with(start))
        });
        signature.map(|(.., appearance)| *appearance).or_else(|| of_text(bytes))
    }
}

impl fmt::Display for Appearance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file",
            Self::WebPage => "a web page",
            Self::Xml => "XML",
            Self::Json => "JSON",
            Self::MagnetLink => "a magnet link in a file",
            Self::LfsPointer => "a Git LFS pointer; git lfs pull fetches the file",
            Self::CompanionFile => "a companion file of macOS; the torrent has no ._ in front",
            Self::Gzip => "gzip-compressed data; gunzip unpacks it",
            Self::Zip => "a zip archive; unzip unpacks it",
            Self::Archive => "an archive",
            Self::Image => "an image",
            Self::Media => "a video or audio file",
            Self::Pdf => "a PDF document",
            Self::Program => "a program",
            Self::Text => "plain text",
        })
    }
}

/// Magic numbers: an offset, the bytes at it, and their format.
const SIGNATURES: &[(usize, &[u8], Appearance)] = &[
    (0, b"\x00\x05\x16\x07", Appearance::CompanionFile),
    (0, b"\x00\x05\x16\x00", Appearance::CompanionFile),
    (0, b"\x1f\x8b", Appearance::Gzip),
    (0, b"PK\x03\x04", Appearance::Zip),
    (0, b"PK\x05\x06", Appearance::Zip),
    (0, b"7z\xbc\xaf\x27\x1c", Appearance::Archive),
    (0, b"Rar!\x1a\x07", Appearance::Archive),
    (0, b"\xfd7zXZ\x00", Appearance::Archive),
    (0, b"BZh", Appearance::Archive),
    (0, b"\x28\xb5\x2f\xfd", Appearance::Archive),
    (257, b"ustar", Appearance::Archive),
    (0, b"\x89PNG\r\n", Appearance::Image),
    (0, b"\xff\xd8\xff", Appearance::Image),
    (0, b"GIF8", Appearance::Image),
    (0, b"\x1a\x45\xdf\xa3", Appearance::Media),
    (4, b"ftyp", Appearance::Media),
    (0, b"RIFF", Appearance::Media),
    (0, b"OggS", Appearance::Media),
    (0, b"fLaC", Appearance::Media),
    (0, b"ID3", Appearance::Media),
    (0, b"%PDF-", Appearance::Pdf),
    (0, b"\x7fELF", Appearance::Program),
    (0, b"MZ", Appearance::Program),
    (0, b"version https://git-lfs.github.com/", Appearance::LfsPointer),
];

/// Starts of text, in lower case.
const TEXT_STARTS: &[(&str, Appearance)] = &[
    ("<!doctype html", Appearance::WebPage),
    ("<html", Appearance::WebPage),
    ("<head", Appearance::WebPage),
    ("<body", Appearance::WebPage),
    ("<script", Appearance::WebPage),
    ("<!--", Appearance::WebPage),
    ("<?xml", Appearance::Xml),
    ("{", Appearance::Json),
    ("[", Appearance::Json),
    ("magnet:?", Appearance::MagnetLink),
];

fn of_text(bytes: &[u8]) -> Option<Appearance> {
    let start = &bytes[..bytes.len().min(EXAMINED_TEXT)];
    let text = match str::from_utf8(start) {
        Ok(text) => text,
        // The last character may be cut.
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return None,
    };
    let text = text.trim_start_matches('\u{feff}');
    let is_binary = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}');
    if text.chars().any(is_binary) {
        return None;
    }
    let text = text.trim_start().to_ascii_lowercase();
    let known = TEXT_STARTS.iter().find(|(start, _)| text.starts_with(start));
    let appearance = known.map_or(Appearance::Text, |(_, appearance)| *appearance);
    let is_page = appearance == Appearance::Xml && text.contains("<html");
    Some(if is_page { Appearance::WebPage } else { appearance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appearance_of_every_kind() {
        let tar = [&[b'a'; 257][..], b"ustar\x0000"].concat();
        let cut = ["ä".repeat(600).as_bytes(), b"\xc3"].concat();
        let rows: &[(&[u8], Option<Appearance>)] = &[
            (b"", Some(Appearance::Empty)),
            (b"<!DOCTYPE html><html>", Some(Appearance::WebPage)),
            (b"\xef\xbb\xbf\r\n  <HTML lang=en>", Some(Appearance::WebPage)),
            (b"<?xml version=\"1.0\"?>\n<!DOCTYPE html>\n<html>", Some(Appearance::WebPage)),
            (b"<?xml version=\"1.0\"?><rss>", Some(Appearance::Xml)),
            (b"{\"error\": \"log in\"}", Some(Appearance::Json)),
            (b"magnet:?xt=urn:btih:0\n", Some(Appearance::MagnetLink)),
            (b"version https://git-lfs.github.com/spec/v1\noid", Some(Appearance::LfsPointer)),
            (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", Some(Appearance::CompanionFile)),
            (b"\x1f\x8b\x08\0\xff\xfe", Some(Appearance::Gzip)),
            (b"PK\x03\x04\x14", Some(Appearance::Zip)),
            (b"Rar!\x1a\x07\x01", Some(Appearance::Archive)),
            (&tar, Some(Appearance::Archive)),
            (b"\x89PNG\r\n\x1a\n", Some(Appearance::Image)),
            (b"\x1a\x45\xdf\xa3\x01", Some(Appearance::Media)),
            (b"\0\0\0\x20ftypisom", Some(Appearance::Media)),
            (b"%PDF-1.7", Some(Appearance::Pdf)),
            (b"\x7fELF\x02", Some(Appearance::Program)),
            (b"Hello, this is the content.\n", Some(Appearance::Text)),
            (b"dear all", Some(Appearance::Text)),
            (&cut, Some(Appearance::Text)),
            // May be a torrent, complete or not.
            (b"d", None),
            (b"de", None),
            (b"d8:announce", None),
            // Unknown.
            (b"\x01\x02\x03", None),
            (b"\xff\xfe\xfd", None),
        ];
        for (bytes, expected) in rows {
            assert_eq!(Appearance::of(bytes), *expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn text_is_examined_to_limit() {
        let text = |length: usize| [vec![b'x'; length], vec![0xff]].concat();
        assert_eq!(Appearance::of(&text(EXAMINED_TEXT)), Some(Appearance::Text));
        assert_eq!(Appearance::of(&text(EXAMINED_TEXT - 1)), None);
    }
}
