//! The table of names in `crates/README.md`, "Names on disk", is what the code makes.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bencode::{Owned, encode};
use metainfo::{Metainfo, Naming};

/// Stands for the info-hash in the table.
const INFO_HASH: &str = "INFO-HASH";

/// A line of the table.
struct Row {
    line: String,
    /// Whether the name is that of a torrent of one file, and not of a file in a folder.
    is_torrent_name: bool,
    /// The paths of a torrent's files: elements of raw bytes.
    raw: Vec<Vec<Vec<u8>>>,
    made_on_ext4: Vec<Vec<u8>>,
    made_on_fat: Vec<Vec<u8>>,
    found_raw: Option<Vec<Vec<u8>>>,
    found_version_0: Option<Vec<Vec<u8>>>,
}

impl Row {
    fn read(line: &str) -> Self {
        let cells: Vec<String> = cells(line);
        let [raw, ext4, fat, found] = &cells[..] else { panic!("no row of the table: {line}") };
        let found = |label: &str| {
            let found = found.split("; ").find_map(|found| found.strip_prefix(label))?;
            Some(names(found).iter().map(|name| unescaped(name)).collect())
        };
        let made = |cell: &str| names(cell).iter().map(|name| unescaped(name)).collect();
        let elements = |path: &String| path.split('/').map(unescaped).collect();
        Self {
            line: line.to_owned(),
            is_torrent_name: raw.starts_with("torrent "),
            raw: names(raw).iter().map(elements).collect(),
            made_on_ext4: made(ext4),
            made_on_fat: made(fat),
            found_raw: found("raw "),
            found_version_0: found("0.1.0 "),
        }
    }

    fn torrent(&self) -> Metainfo {
        let one = &self.raw[0][0];
        let (name, content) = match self.is_torrent_name {
            true => (one.as_slice(), ("length", Owned::from(1))),
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

    /// What is wrong with the row.
    fn flaws(&self) -> Vec<String> {
        let torrent = self.torrent();
        let made = |naming| {
            let paths = torrent.info().disk_paths(naming);
            paths.iter().map(|path| self.shown(&torrent, path)).collect::<Vec<_>>()
        };
        let differs = |naming| Some(made(naming)).filter(|paths| *paths != made(Naming::Unix));
        let check = |column: &str, expected: Option<&Vec<Vec<u8>>>, got: Option<Vec<Vec<u8>>>| {
            let got = got.as_ref();
            let shown = |paths: Option<&Vec<Vec<u8>>>| {
                paths.map(|paths| paths.iter().map(|one| escaped(one)).collect::<Vec<_>>())
            };
            let flaw = || format!("{}\n  {column}: {:?}", self.line, shown(got));
            (got != expected).then(flaw)
        };
        let flaws = [
            check("made on ext4", Some(&self.made_on_ext4), Some(made(Naming::Unix))),
            check("made on FAT", Some(&self.made_on_fat), Some(made(Naming::Windows))),
            check("found, raw", self.found_raw.as_ref(), differs(Naming::Raw)),
            check("found, 0.1.0", self.found_version_0.as_ref(), differs(Naming::Version0)),
        ];
        flaws.into_iter().flatten().collect()
    }

    /// A path as the table has it: below the folder, and without a hash that nobody can read.
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

/// The rows of the table.
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

/// The names in a cell, separated by commas. A name is made of parts in backticks, joined by ` + `;
/// ` × N` after a part repeats it. Still escaped.
fn names(cell: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut is_next = true;
    let mut parts = cell.split('`').skip(1);
    while let Some(part) = parts.next() {
        let behind = parts.next().unwrap_or_default().trim();
        let times =
            behind.strip_prefix('×').map(|text| text.trim_end_matches([',', '+', ' ']).trim());
        let part = part.repeat(times.map_or(1, |times| times.parse().expect("a number")));
        match names.last_mut().filter(|_| !is_next) {
            Some(name) => name.push_str(&part),
            None => names.push(part),
        }
        is_next = !behind.ends_with('+');
    }
    names
}

/// `\xNN` is a byte, `\u{N}` a character, `\\` a backslash.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    while let Some(part) = parts.next() {
        let hex = |digits: &str| u32::from_str_radix(digits, 16).expect("hex digits");
        let rest = match part.as_bytes() {
            [] => {
                bytes.push(b'\\');
                parts.next().unwrap_or_default()
            }
            [b'x', ..] => {
                bytes.push(hex(&part[1..3]) as u8);
                &part[3..]
            }
            [b'u', ..] => {
                let (digits, rest) = part[2..].split_once('}').expect("a brace");
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

/// What a row says of `name`, as far as it can be told.
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
fn table_is_what_code_makes() {
    let rows = rows();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    let flaws: Vec<String> = rows.iter().flat_map(Row::flaws).collect();
    assert!(flaws.is_empty(), "{}", flaws.join("\n"));
}

#[test]
fn escapes_are_undone() {
    assert_eq!(unescaped(r"a\x2fb\\c\\\x00\u{202e}"), "a/b\\c\\\0\u{202e}".as_bytes());
    assert_eq!(names("`a`, `x` × 3 + `.c`, `b`"), ["a", "xxx.c", "b"]);
    assert_eq!(cells(r"| `a\|b` |  |"), [r"`a\x7cb`", ""]);
}
