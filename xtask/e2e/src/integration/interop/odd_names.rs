//! Rng files and folders with every kind of name that a Linux folder can have.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::rng::Rng;

/// The longest name that a Linux folder can have, in bytes.
const MAX_NAME: usize = 255;
/// The most files in a drawn folder.
const MAX_FILES: u64 = 6;
/// The most folders between the drawn folder and a file.
const MAX_DEPTH: u64 = 3;
/// The sizes of files, in bytes. Shorter files could be equal.
const SIZES: std::ops::Range<u64> = 16..40_000;

/// Whole names that some system or program treats specially, separated by slashes.
const WHOLE: &str = "\
    con/CON/con.txt/aux.c/nul.tar.gz/com1/lpt9.txt/prn .x/conin$/.../. ./ /~/~2/a/a~2/A/a.txt/\
    a~2.txt/A.TXT/.hidden/..hidden/-rf/--help/%/%2e%2e/_/__/0/data/.torrent/a.parts/.pad/\
    desktop.ini/nul/é/e\u{301}/é.txt/e\u{301}.txt/ﬁ/fi/\u{212b}/Å/A\u{30a}/ß/SS/\u{202e}/\n/\
    \u{301}/\u{feff}/😀/\u{1}/\\/a\\b/..\\..\\a/C:/C:\\a/*/?/trailing./trailing /trailing/a:b/\
    a_b/a?b";

/// The parts of which other names consist, separated by slashes.
const PIECES: &str = "\
    a/B/name/x.txt/.tar.gz/./../ /  /\t/\n/\r/\u{1b}[31m/\u{7f}/\u{85}/\u{1}/\\/:/?/*/\"/</>/\
    |/%/%41/~/~2/_/-/$HOME/`/'/&/;/#/[1]/{x}/!/\u{202e}/\u{2066}/\u{200f}/\u{200d}/\u{feff}/\
    \u{301}/é/e\u{301}/ß/İ/ı/ﬁ/\u{212b}/日本/한/\u{1112}\u{1161}\u{11ab}/😀/👩\u{200d}👧/\u{fffd}/\
    \u{ffff}/\u{10ffff}/\u{e000}";

/// The characters of long names, of one to four bytes.
const FILLERS: &str = "x/é/日/😀/e\u{301}";

/// Bytes that are not UTF-8: Latin-1, a cut character, a surrogate, an overlong encoding.
const NOT_UTF8: [&[u8]; 4] = [b"\xe9", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf"];

/// A file or folder to share.
pub(super) struct Drawn {
    /// Its path. The folder that contains it has no other content.
    pub(super) root: PathBuf,
    /// The ASCII part of a name in it that is not UTF-8, if there is one.
    pub(super) marker: Option<String>,
}

impl Drawn {
    /// Returns the folder that contains it.
    pub(super) fn parent(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }
}

/// Rng a file, or a folder of at most [`MAX_FILES`] files, and writes it into `parent`. No two
/// files have the same bytes, not even in folders with different numbers.
pub(super) fn draw(rng: &mut Rng, parent: &Path, number: u64) -> Result<Drawn> {
    fs::create_dir_all(parent)?;
    let mut names = Names { rng, seen: Vec::new() };
    let (root, first) = (parent.join(names.name()), number * (MAX_FILES + 1));
    if names.rng.below(5) == 0 {
        write(&root, first, names.rng)?;
        return Ok(Drawn { root, marker: None });
    }
    fs::create_dir(&root)?;
    for file in 0..=names.rng.below(MAX_FILES) {
        let path = names.path(&root);
        write(&path, first + file, names.rng)?;
    }
    let drawn = Drawn { root, marker: None };
    if names.rng.below(8) == 0 { spoil(drawn, names.rng, first + MAX_FILES) } else { Ok(drawn) }
}

/// Gives a file, a folder or the drawn folder itself a name that is not UTF-8.
fn spoil(drawn: Drawn, rng: &mut Rng, seed: u64) -> Result<Drawn> {
    let marker = format!("spoilt-{seed}");
    let rest = NOT_UTF8[rng.below(NOT_UTF8.len() as u64) as usize];
    let name = OsString::from_vec([marker.as_bytes(), rest].concat());
    let mut root = drawn.root;
    match rng.below(3) {
        0 => write(&root.join(name), seed, rng)?,
        1 => {
            fs::create_dir(root.join(&name))?;
            write(&root.join(name).join("file"), seed, rng)?;
        }
        _ => {
            let spoilt = root.with_file_name(name);
            fs::rename(&root, &spoilt)?;
            root = spoilt;
        }
    }
    Ok(Drawn { root, marker: Some(marker) })
}

/// Writes a file, unless something else has its path or that of a folder above it.
fn write(path: &Path, seed: u64, rng: &mut Rng) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    if fs::create_dir_all(folder).is_err() || path.exists() {
        return Ok(());
    }
    let length = SIZES.start + rng.below(SIZES.end - SIZES.start);
    Ok(File::create_new(path)?.write_all(&testkit::bytes(seed, length))?)
}

/// Returns the contents of all non-empty files in `folder`; names do not matter.
pub(super) fn contents(folder: &Path) -> Result<BTreeSet<Vec<u8>>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.append(&mut contents(&path)?);
        } else {
            found.insert(fs::read(path)?);
        }
    }
    found.remove(&Vec::new());
    Ok(found)
}

/// Rng names.
struct Names<'a> {
    rng: &'a mut Rng,
    /// The drawn names, of which later ones can be variants.
    seen: Vec<String>,
}

impl Names<'_> {
    /// Rng a path below `root`, partly through existing folders.
    fn path(&mut self, root: &Path) -> PathBuf {
        let mut path = root.to_owned();
        for _ in 0..self.rng.below(MAX_DEPTH + 1) {
            path = path.join(self.name());
        }
        path.join(self.name())
    }

    fn name(&mut self) -> OsString {
        let name = match self.rng.below(8) {
            0 | 1 => self.pick(WHOLE).to_owned(),
            2 => self.long(),
            3 | 4 if !self.seen.is_empty() => self.variant(),
            _ => (0..=self.rng.below(4)).map(|_| self.pick(PIECES)).collect(),
        };
        let name = match name.as_str() {
            "" | "." | ".." => "...".to_owned(),
            _ => cut(&name, MAX_NAME).to_owned(),
        };
        self.seen.push(name.clone());
        OsStr::from_bytes(name.as_bytes()).to_owned()
    }

    /// Rng one of the parts between slashes.
    fn pick(&mut self, list: &'static str) -> &'static str {
        let count = list.split('/').count() as u64;
        list.split('/').nth(self.rng.below(count) as usize).unwrap_or_default()
    }

    /// Rng a name of 255 bytes, or a little less if the last character does not fit.
    fn long(&mut self) -> String {
        let filler = self.pick(FILLERS);
        let extension = self.pick("/.txt/.tar.gz/./ ");
        let shift = "abc".get(..self.rng.below(4) as usize).unwrap_or_default();
        let name = shift.to_owned() + &filler.repeat(MAX_NAME);
        cut(&name, MAX_NAME - extension.len()).to_owned() + extension
    }

    /// Rng a name that some system treats as equal to an earlier one.
    fn variant(&mut self) -> String {
        let name = self.seen[self.rng.below(self.seen.len() as u64) as usize].clone();
        match self.rng.below(9) {
            0 => name.to_uppercase(),
            1 => name.to_lowercase(),
            2 => name.replace('é', "e\u{301}"),
            3 => name.replace("e\u{301}", "é"),
            4 => name.clone() + self.pick("./ "),
            5 => name.replace(|c: char| c.is_control() || ":?*\\\"<>|".contains(c), "_"),
            6 => match name.rsplit_once('.') {
                Some((stem, extension)) => format!("{stem}~2.{extension}"),
                None => name + "~2",
            },
            7 => name.replace("~2", ""),
            _ => name,
        }
    }
}

/// Returns as many characters as fit into so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
