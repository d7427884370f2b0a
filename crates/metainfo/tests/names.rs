//! The table in `crates/README.md`, "Names on disk", must agree with the code.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bencode::{Owned, encode};
use metainfo::{Metainfo, Naming};

/// The placeholder for the info-hash in the table.
const INFO_HASH: &str = "INFO-HASH";

/// A line of the table.
struct Row {
    line: String,
    /// Whether the row is about the name of a single-file torrent, and not about files in a folder.
    is_torrent_name: bool,
    /// The paths of a torrent's files, as elements of raw bytes.
    raw: Vec<Vec<Vec<u8>>>,
    /// The paths under a naming, with the heading of their column. `None` if the files are found
    /// under the same paths as under [`Naming::Unix`].
    expected: [(&'static str, Naming, Option<Paths>); 4],
}

type Paths = Vec<Vec<u8>>;

impl Row {
    fn read(line: &str) -> Self {
        let cells: Vec<String> = cells(line);
        let [raw, ext4, fat, found] = &cells[..] else { panic!("no row of the table: {line}") };
        let paths = |cell: &str| names(cell).iter().map(|name| unescaped(name)).collect();
        let found = |label| found.split("; ").find_map(|cell| cell.strip_prefix(label)).map(paths);
        let elements = |path: &String| path.split('/').map(unescaped).collect();
        Self {
            line: line.to_owned(),
            is_torrent_name: raw.starts_with("torrent "),
            raw: names(raw).iter().map(elements).collect(),
            expected: [
                ("made on ext4", Naming::Unix, Some(paths(ext4))),
                ("made on FAT", Naming::Windows, Some(paths(fat))),
                ("found, raw", Naming::Raw, found("raw ")),
                ("found, 0.1.0", Naming::Version0, found("0.1.0 ")),
            ],
        }
    }

    fn torrent(&self) -> Metainfo {
        let first = &self.raw[0][0];
        let (name, content) = match self.is_torrent_name {
            true => (first.as_slice(), ("length", Owned::from(1))),
            false => (&b"t"[..], ("files", self.raw.iter().map(|path| file(path)).collect())),
        };
        let hashes = vec![0; 20];
        let info = Owned::dict([
            content,
            ("name", Owned::from(name)),
            ("piece length", Owned::from(16_384)),
            ("pieces", Owned::from(hashes)),
        ]);
        Metainfo::parse(encode(&Owned::dict([("info", info)]))).expect("a torrent")
    }

    /// Returns the differences between the row and the code.
    fn flaws(&self) -> Vec<String> {
        let torrent = self.torrent();
        let made = |naming| {
            let paths = torrent.info().disk_paths(naming);
            paths.iter().map(|path| self.shown(&torrent, path)).collect::<Vec<_>>()
        };
        let flaws = self.expected.iter().filter_map(|(column, naming, expected)| {
            let is_made = column.starts_with("made");
            let got = Some(made(*naming)).filter(|paths| is_made || *paths != made(Naming::Unix));
            let shown: Vec<_> = got.iter().flatten().map(|path| escaped(path)).collect();
            (got != *expected).then(|| format!("{}\n  {column}: {shown:?}", self.line))
        });
        flaws.collect()
    }

    /// Returns a path in the form of the table: relative to the folder, with a placeholder for the
    /// info-hash.
    fn shown(&self, torrent: &Metainfo, path: &Path) -> Vec<u8> {
        let path = if self.is_torrent_name { path } else { path.strip_prefix("t").expect("in t") };
        if path == Path::new(&torrent.info_hash().to_string()) {
            return INFO_HASH.into();
        }
        path.as_os_str().as_bytes().to_vec()
    }
}

fn file(path: &[Vec<u8>]) -> Owned {
    let path = path.iter().map(|element| Owned::from(element.as_slice()));
    Owned::dict([("length", Owned::from(1)), ("path", path.collect())])
}

/// Returns the rows of the table.
fn rows() -> Vec<Row> {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (_, section) = page.split_once("\n## Names on disk\n").expect("the section");
    let section = section.split("\n## ").next().expect("text");
    let lines = section.lines().skip_while(|line| !line.starts_with("| raw "));
    lines.skip(2).take_while(|line| line.starts_with('|')).map(Row::read).collect()
}

fn cells(line: &str) -> Vec<String> {
    let line = line.replace(r"\|", r"\x7c");
    let inner = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')).expect("a row");
    inner.split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// Returns the names in a cell, still escaped. They are separated by commas. A name consists of
/// strings in backticks, joined by ` + `; ` × N` after a string repeats it.
fn names(cell: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut is_next = true;
    let mut fields = cell.split('`').skip(1);
    while let Some(string) = fields.next() {
        let after = fields.next().unwrap_or_default().trim();
        let times =
            after.strip_prefix('×').map(|text| text.trim_end_matches([',', '+', ' ']).trim());
        let string = string.repeat(times.map_or(1, |times| times.parse().expect("a number")));
        match names.last_mut().filter(|_| !is_next) {
            Some(name) => name.push_str(&string),
            None => names.push(string),
        }
        is_next = !after.ends_with('+');
    }
    names
}

/// Decodes the escapes of `text`: `\xNN` is a byte, `\u{N}` a character, `\\` a backslash.
fn unescaped(text: &str) -> Vec<u8> {
    let mut chunks = text.split('\\');
    let mut bytes = chunks.next().unwrap_or_default().as_bytes().to_vec();
    while let Some(chunk) = chunks.next() {
        let hex = |digits: &str| u32::from_str_radix(digits, 16).expect("hex digits");
        let rest = match chunk.as_bytes() {
            [] => {
                bytes.push(b'\\');
                chunks.next().unwrap_or_default()
            }
            [b'x', ..] => {
                bytes.push(hex(&chunk[1..3]) as u8);
                &chunk[3..]
            }
            [b'u', ..] => {
                let (digits, rest) = chunk[2..].split_once('}').expect("a brace");
                let character = char::from_u32(hex(digits)).expect("a character");
                bytes.extend(character.to_string().as_bytes());
                rest
            }
            _ => panic!("no escape: {text}"),
        };
        bytes.extend(rest.as_bytes());
    }
    bytes
}

/// Returns `name` with the escapes of the table, as far as they can be derived.
fn escaped(name: &[u8]) -> String {
    name.utf8_chunks()
        .map(|chunk| {
            let invalid: String =
                chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
            chunk.valid().escape_debug().to_string() + &invalid
        })
        .collect()
}

#[test]
fn table_agrees_with_code() {
    let rows = rows();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    let flaws: Vec<String> = rows.iter().flat_map(Row::flaws).collect();
    assert!(flaws.is_empty(), "{}", flaws.join("\n"));
}

#[test]
fn escapes_are_decoded() {
    assert_eq!(unescaped(r"a\x2fb\\c\\\x00\u{202e}"), "a/b\\c\\\0\u{202e}".as_bytes());
    assert_eq!(names("`a`, `x` × 3 + `.c`, `b`"), ["a", "xxx.c", "b"]);
    assert_eq!(cells(r"| `a\|b` |  |"), [r"`a\x7cb`", ""]);
}
