//! Paths that more than one file has.
//!
//! Most torrents list their files in order, which one look at each pair of neighbours shows; then
//! no two paths can be equal.
//!
//! Otherwise every file and every folder gets a key: a hash of its path. Sorting the keys brings
//! equal paths together, and only those with equal hashes are compared in full. So 100,000 files are
//! checked in a few milliseconds, in any order, and paths made to have equal hashes cost no more
//! than sorting the paths themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::with_suffix;

/// Two files that can't both exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clash {
    /// Both have the same path.
    Duplicate { file: usize, other: usize },
    /// The path of `file` is a folder of `other`.
    FileIsFolder { file: usize, other: usize },
}

impl Clash {
    /// The file to blame.
    pub(crate) fn file(self) -> usize {
        match self {
            Self::Duplicate { file, .. } | Self::FileIsFolder { file, .. } => file,
        }
    }
}

/// The clash of the first file that has one, if any. `path` is asked for each of `files`; paths are
/// elements joined by `/`.
pub(crate) fn first_clash<'a>(
    files: impl Iterator<Item = usize> + Clone,
    path: impl Fn(usize) -> &'a [u8],
) -> Option<Clash> {
    if are_in_order(files.clone().map(&path)) {
        return None;
    }
    let mut keys = Keys::default();
    for file in files {
        keys.add(file, path(file));
    }
    let mut keys = keys.keys;
    keys.sort_unstable_by_key(|key| key.hash);
    let text = |key: &Key| path(key.file as usize).get(..key.length()).unwrap_or_default();
    let order = |a: &Key, b: &Key| text(a).cmp(text(b)).then_with(|| a.rank().cmp(&b.rank()));
    // Folders are shared by many files and clash with none of each other.
    let suspect = |keys: &&mut [Key]| keys.len() > 1 && !keys.iter().all(Key::is_folder);
    let alike = keys.chunk_by_mut(|a, b| a.hash == b.hash).filter(suspect);
    let clashes = alike.flat_map(|keys| {
        keys.sort_unstable_by(order);
        keys.array_windows().filter(|[a, b]| text(a) == text(b)).filter_map(clash)
    });
    clashes.min_by_key(|clash| clash.file())
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

    /// Files in front of folders, in order.
    fn rank(&self) -> (bool, u32) {
        (self.is_folder(), self.file)
    }
}

/// What two neighbours with the same path mean.
fn clash(pair: &[Key; 2]) -> Option<Clash> {
    let (first, second) = (pair[0].file as usize, pair[1].file as usize);
    match (pair[0].is_folder(), pair[1].is_folder()) {
        (false, false) => Some(Clash::Duplicate { file: second, other: first }),
        (false, true) => Some(Clash::FileIsFolder { file: first, other: second }),
        _ => None,
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

/// New paths for the files that clash only because paths were mapped: `~2`, `~3` in front of the
/// extension, in file order. The first of several files keeps its path; a file whose path is also a
/// folder gives way to it.
pub(crate) fn resolve_collisions<'a>(
    files: impl Iterator<Item = usize> + Clone,
    path: impl Fn(usize) -> &'a str,
) -> Vec<(usize, String)> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut folders: BTreeSet<&str> = BTreeSet::new();
    for file in files.clone() {
        taken.insert(path(file).to_owned());
        folders.extend(folders_of(path(file)));
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut next_number: BTreeMap<&str, u32> = BTreeMap::new();
    let mut renamed = Vec::new();
    for file in files {
        let path = path(file);
        if seen.insert(path) && !folders.contains(path) {
            continue;
        }
        let number = next_number.entry(path).or_insert(2);
        let free = loop {
            let candidate = numbered(path, *number);
            *number += 1;
            if !folders.contains(candidate.as_str()) && taken.insert(candidate.clone()) {
                break candidate;
            }
        };
        renamed.push((file, free));
    }
    renamed
}

fn folders_of(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(end, _)| path.get(..end))
}

fn numbered(path: &str, number: u32) -> String {
    let suffix = format!("~{number}");
    match path.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/{}", with_suffix(name, &suffix)),
        None => with_suffix(path, &suffix),
    }
}
