//! Paths that more than one file has.
//!
//! Most torrents list their files in order, which one look at each pair of neighbours shows; then
//! no two paths can be equal.
//!
//! Otherwise every file and every folder gets a key: a hash of its path. Sorting the keys brings
//! equal paths together, and only those with equal hashes are compared in full. So 100,000 files
//! are checked in a few milliseconds, in any order, and paths made to have equal hashes cost no
//! more than sorting the paths themselves.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{Naming, folded, with_suffix};

/// Whether two files have one path, or the path of one is a folder of another. `path` is asked for
/// each of `files`; paths are elements joined by `/`.
pub(crate) fn has_clash<'a>(
    files: impl Iterator<Item = usize> + Clone,
    path: impl Fn(usize) -> &'a [u8],
) -> bool {
    if are_in_order(files.clone().map(&path)) {
        return false;
    }
    let mut keys = Keys::default();
    for file in files {
        keys.add(file, path(file));
    }
    let mut keys = keys.keys;
    keys.sort_unstable_by_key(|key| key.hash);
    let text = |key: &Key| path(key.file as usize).get(..key.length()).unwrap_or_default();
    let order =
        |a: &Key, b: &Key| text(a).cmp(text(b)).then_with(|| a.is_folder().cmp(&b.is_folder()));
    // Folders are shared by many files and clash with none of each other.
    let suspect = |keys: &&mut [Key]| keys.len() > 1 && !keys.iter().all(Key::is_folder);
    let mut alike = keys.chunk_by_mut(|a, b| a.hash == b.hash).filter(suspect);
    alike.any(|keys| {
        keys.sort_unstable_by(order);
        // Files come in front of folders.
        keys.array_windows().any(|[a, b]| !a.is_folder() && text(a) == text(b))
    })
}

/// Whether each path sorts after the one before it, element by element, and none is a folder of the
/// next. What lies below a folder follows it at once in this order, so then no two paths clash.
fn are_in_order<'a>(mut paths: impl Iterator<Item = &'a [u8]>) -> bool {
    let Some(mut before) = paths.next() else { return true };
    paths.all(|path| {
        let shared = shared_length(path, before);
        let next = (before.get(shared), path.get(shared));
        before = path;
        match next {
            // An element that goes on sorts behind one that ends.
            (None | Some(b'/'), Some(path)) => *path != b'/',
            (Some(before), Some(path)) => *path != b'/' && before < path,
            (_, None) => false,
        }
    })
}

/// A file's path or one of its folders.
#[derive(Clone, Copy)]
struct Key {
    hash: u64,
    file: u32,
    /// How much of the file's path it is, and in the lowest bit whether it is a folder.
    length: u32,
}

impl Key {
    fn length(&self) -> usize {
        (self.length >> 1) as usize
    }

    fn is_folder(&self) -> bool {
        self.length & 1 == 1
    }
}

/// The keys of paths, made one path after the other.
#[derive(Default)]
struct Keys<'a> {
    keys: Vec<Key>,
    before: &'a [u8],
    /// The folders of the path before, outermost first: where each ends, and its hash.
    folders: Vec<(usize, u64)>,
}

impl<'a> Keys<'a> {
    /// Adds the keys of `path` and of those of its folders that the path before had not.
    fn add(&mut self, file: usize, path: &'a [u8]) {
        let shared = shared_length(path, self.before);
        self.before = path;
        while self.folders.last().is_some_and(|(end, _)| *end >= shared) {
            self.folders.pop();
        }
        let (mut end, mut hash) = match self.folders.last() {
            Some((end, hash)) => (end + 1, *hash),
            None => (0, 0),
        };
        for element in path.get(end..).unwrap_or_default().split(|byte| *byte == b'/') {
            hash = mix(hash, element);
            end += element.len();
            let is_folder = end < path.len();
            if is_folder {
                self.folders.push((end, hash));
            }
            let length = (end as u32) << 1 | u32::from(is_folder);
            self.keys.push(Key { hash, file: file as u32, length });
            end += 1;
        }
    }
}

/// How many bytes `a` and `b` have in common at their start.
fn shared_length(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 16;
    let equal = a.chunks_exact(STEP).zip(b.chunks_exact(STEP)).take_while(|(a, b)| a == b);
    let start = equal.count() * STEP;
    let rest = a[start..].iter().zip(&b[start..]).take_while(|(a, b)| a == b);
    start + rest.count()
}

/// A quick hash. That it can be attacked is why equal hashes are never taken for equal paths.
fn mix(hash: u64, element: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    let (words, rest) = element.as_chunks::<8>();
    let hash = words.iter().fold(hash, |hash, word| step(hash, u64::from_le_bytes(*word)));
    let tail = rest.iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
    step(step(hash, tail), element.len() as u64 + 1)
}

/// New paths for the files that clash: `~2`, `~3` in front of the extension, in file order. The
/// first of several files keeps its path; a file whose path is also a folder gives way to it.
/// `key` is [`key_of`] the path under `naming`.
pub(crate) fn resolve_collisions<'a>(
    files: impl Iterator<Item = usize> + Clone,
    path: impl Fn(usize) -> &'a [u8],
    key: impl Fn(usize) -> &'a [u8],
    naming: Naming,
) -> Vec<(usize, Vec<u8>)> {
    let mut numbers = Numbers::new(naming);
    for file in files.clone() {
        numbers.take(key(file));
    }
    let mut seen: BTreeSet<&[u8]> = BTreeSet::new();
    let mut renamed = Vec::new();
    for file in files {
        if !seen.insert(key(file)) || numbers.folders.contains(key(file)) {
            renamed.push((file, numbers.free(path(file))));
        }
    }
    renamed
}

/// Returns the key that is equal for paths that name the same file on disk.
pub(crate) fn key_of(path: &[u8], naming: Naming) -> Cow<'_, [u8]> {
    if naming.folds_case() { Cow::Owned(folded(path)) } else { Cow::Borrowed(path) }
}

/// The paths in use, and the next free numbers.
struct Numbers<'a> {
    naming: Naming,
    /// The keys of all files.
    taken: BTreeSet<Cow<'a, [u8]>>,
    /// The keys of all folders.
    folders: BTreeSet<&'a [u8]>,
    /// The next number to try. Long paths that differ only where they are cut get the same numbered
    /// paths, so they share their numbers, and no path is tried twice. How much is cut depends on
    /// how many digits the number has, so each count of digits has numbers of its own.
    next: BTreeMap<(usize, Vec<u8>), u32>,
}

impl<'a> Numbers<'a> {
    fn new(naming: Naming) -> Self {
        let (taken, folders) = (BTreeSet::new(), BTreeSet::new());
        Self { naming, taken, folders, next: BTreeMap::new() }
    }

    /// Notes a file and its folders.
    fn take(&mut self, key: &'a [u8]) {
        self.taken.insert(Cow::Borrowed(key));
        let ends = key.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        // The innermost folder that is known has known folders only.
        for folder in ends.rev().map(|(end, _)| &key[..end]) {
            if !self.folders.insert(folder) {
                break;
            }
        }
    }

    /// Returns an unused path for a further file with this `path`.
    fn free(&mut self, path: &[u8]) -> Vec<u8> {
        let least_with = |digits: usize| 10_u32.saturating_pow(digits as u32 - 1);
        // There are fewer files than numbers of nine digits.
        let found = (1..=9).find_map(|digits| {
            let numbers = least_with(digits).max(2)..least_with(digits + 1);
            self.free_among(path, digits, numbers)
        });
        found.unwrap_or_else(|| path.to_vec())
    }

    fn free_among(&mut self, path: &[u8], digits: usize, numbers: Range<u32>) -> Option<Vec<u8>> {
        let naming = self.naming;
        let cut = with_number(path, &"0".repeat(digits), naming);
        let next = self.next.entry((digits, key_of(&cut, naming).into_owned()));
        let next = next.or_insert(numbers.start);
        while *next < numbers.end {
            let candidate = with_number(path, &next.to_string(), naming);
            *next += 1;
            let key = key_of(&candidate, naming).into_owned();
            if !self.folders.contains(key.as_slice()) && self.taken.insert(Cow::Owned(key)) {
                return Some(candidate);
            }
        }
        None
    }
}

/// `path` with `~` and `number` before the extension of its last element.
fn with_number(path: &[u8], number: &str, naming: Naming) -> Vec<u8> {
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at(start);
    let name = with_suffix(name, &format!("~{number}"), naming.max_length());
    [folder, &name].concat()
}
