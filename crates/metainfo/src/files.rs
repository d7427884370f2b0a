//! The files of a torrent and where the data lies in them.
//!
//! A torrent may have hundreds of thousands of files, so a file is 16 bytes in a table and its path
//! a range of one long string; [`FileEntry`] is a view made when asked for.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::paths::is_plain;

/// What BEP 47 says about a file, one bit each.
pub(crate) mod attribute {
    pub(crate) const PAD: u8 = 1;
    pub(crate) const EXECUTABLE: u8 = 2;
    pub(crate) const HIDDEN: u8 = 4;
    pub(crate) const SYMLINK: u8 = 8;
}

/// The files as they are kept. Invariants: offsets never decrease and begin at 0; every path lies
/// in `paths`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FileTable {
    entries: Vec<Entry>,
    paths: String,
    /// The paths as the maker wrote them, of the files whose path had to be changed, by index.
    originals: Vec<(u32, Box<str>)>,
    /// The size of the data.
    total: u64,
    /// The folder's name on disk; `None` for a single file.
    folder: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    offset: u64,
    path_start: u32,
    path_length: u16,
    attributes: u8,
}

impl FileTable {
    /// A table without files below `folder`, or for a single file if there is none.
    pub(crate) fn new(folder: Option<String>) -> Self {
        Self { folder, ..Self::default() }
    }

    pub(crate) fn reserve(&mut self, files: usize) {
        self.entries.reserve(files);
    }

    /// Appends a file, whose path is the current one of `path`. Returns false, and leaves the table
    /// alone, if the sizes overflow.
    pub(crate) fn push(&mut self, length: u64, attributes: u8, path: &PathText) -> bool {
        let Some(total) = self.total.checked_add(length) else { return false };
        let index = self.entries.len() as u32;
        let (path_start, path_length) = (path.start as u32, path.current().len() as u16);
        self.entries.push(Entry { offset: self.total, path_start, path_length, attributes });
        if let Some(original) = &path.original {
            let original = String::from_utf8_lossy(original).into_owned();
            self.originals.push((index, original.into_boxed_str()));
        }
        self.total = total;
        true
    }

    /// Takes over the paths of all files.
    pub(crate) fn set_paths(&mut self, paths: PathText) {
        self.paths = paths.into_text();
    }

    /// Gives file `index` another path on disk.
    pub(crate) fn rename(&mut self, index: usize, path: &str) {
        let (path_start, path_length) = (self.paths.len() as u32, path.len() as u16);
        self.paths.push_str(path);
        let old = self.entries[index];
        self.entries[index] = Entry { path_start, path_length, ..old };
        if let Err(place) = self.original_index(index) {
            let original = self.text(old).to_owned().into_boxed_str();
            self.originals.insert(place, (index as u32, original));
        }
    }

    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        self.paths.shrink_to_fit();
        self.originals.shrink_to_fit();
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn is_single(&self) -> bool {
        self.folder.is_none()
    }

    /// Whether every path is what its maker wrote.
    pub(crate) fn is_unmapped(&self) -> bool {
        self.originals.is_empty()
    }

    pub(crate) fn disk_name(&self) -> &str {
        match &self.folder {
            Some(folder) => folder,
            None => self.path(0),
        }
    }

    pub(crate) fn view(&self) -> Files<'_> {
        Files { table: self }
    }

    pub(crate) fn ranges(&self, offset: u64, length: u64) -> FileRanges<'_> {
        let end = offset.saturating_add(length).min(self.total);
        let after = self.entries.partition_point(|entry| entry.offset <= offset);
        FileRanges { table: self, file: after.saturating_sub(1), offset, end }
    }

    pub(crate) fn path(&self, index: usize) -> &str {
        self.text(self.entries[index])
    }

    fn text(&self, entry: Entry) -> &str {
        let start = entry.path_start as usize;
        &self.paths[start..start + usize::from(entry.path_length)]
    }

    fn original_index(&self, index: usize) -> Result<usize, usize> {
        self.originals.binary_search_by_key(&(index as u32), |(file, _)| *file)
    }

    /// Where the data of file `index` ends.
    fn end(&self, index: usize) -> u64 {
        self.entries.get(index + 1).map_or(self.total, |next| next.offset)
    }
}

/// Paths while they are put together, one after the other in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct PathText {
    /// What is created on disk, of all files so far: elements joined by `/`. In UTF-8, which is
    /// looked at once for all of them.
    pub(crate) mapped: Vec<u8>,
    /// Where the current one begins.
    start: usize,
    /// The raw elements of the current one joined by `/`, where they differ.
    pub(crate) original: Option<Vec<u8>>,
}

impl PathText {
    /// Begins another path.
    pub(crate) fn begin(&mut self) {
        self.start = self.mapped.len();
        self.original = None;
    }

    /// Appends the element `raw`, which `map` maps unless it is plain.
    pub(crate) fn add(&mut self, raw: &[u8], map: impl Fn(&[u8]) -> Vec<u8>) {
        let is_first = self.current().is_empty();
        if is_plain(raw) {
            append(&mut self.mapped, is_first, raw);
        } else {
            let name = map(raw);
            if name != raw && self.original.is_none() {
                self.original = Some(self.current().to_vec());
            }
            append(&mut self.mapped, is_first, &name);
        }
        if let Some(original) = &mut self.original {
            append(original, is_first, raw);
        }
    }

    /// The current path, as far as it is.
    pub(crate) fn current(&self) -> &[u8] {
        self.mapped.get(self.start..).unwrap_or_default()
    }

    /// All paths.
    pub(crate) fn into_text(self) -> String {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        String::from_utf8(self.mapped).unwrap_or_else(|error| lossy(error.as_bytes()))
    }
}

fn append(path: &mut Vec<u8>, is_first: bool, element: &[u8]) {
    if !is_first {
        path.push(b'/');
    }
    path.extend_from_slice(element);
}

/// The files of a torrent, in the order in which the data runs through them.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    table: &'a FileTable,
}

impl<'a> Files<'a> {
    /// How many files there are, pad files included.
    pub fn len(self) -> usize {
        self.table.entries.len()
    }

    /// Whether there is none, which no torrent has.
    pub fn is_empty(self) -> bool {
        self.table.entries.is_empty()
    }

    /// File number `index`, from 0.
    pub fn get(self, index: usize) -> Option<FileEntry<'a>> {
        (index < self.len()).then_some(FileEntry { table: self.table, index })
    }

    /// The files in order.
    pub fn iter(self) -> FilesIter<'a> {
        FilesIter { files: self, next: 0 }
    }
}

impl<'a> IntoIterator for Files<'a> {
    type Item = FileEntry<'a>;
    type IntoIter = FilesIter<'a>;

    fn into_iter(self) -> FilesIter<'a> {
        self.iter()
    }
}

/// An iterator over [`Files`].
#[derive(Debug, Clone)]
pub struct FilesIter<'a> {
    files: Files<'a>,
    next: usize,
}

impl<'a> Iterator for FilesIter<'a> {
    type Item = FileEntry<'a>;

    fn next(&mut self) -> Option<FileEntry<'a>> {
        let file = self.files.get(self.next)?;
        self.next += 1;
        Some(file)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.files.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for FilesIter<'_> {}

/// One file of a torrent.
#[derive(Clone, Copy)]
pub struct FileEntry<'a> {
    table: &'a FileTable,
    index: usize,
}

impl<'a> FileEntry<'a> {
    /// The file's number, from 0.
    pub fn index(self) -> usize {
        self.index
    }

    /// Where in the torrent's data the file begins, in bytes.
    pub fn offset(self) -> u64 {
        self.entry().offset
    }

    /// How long the file is, in bytes.
    pub fn length(self) -> u64 {
        self.table.end(self.index) - self.offset()
    }

    /// The file's path under [`Naming::Unix`](crate::Naming::Unix), elements joined by `/`: below
    /// the torrent's folder, or the file's own name if the torrent is a single file.
    ///
    /// Safe to create below a folder on a file system of Linux: relative, no element is empty, `.`
    /// or `..`, each is at most [`MAX_ELEMENT_LENGTH`](crate::MAX_ELEMENT_LENGTH) bytes, without
    /// control characters. No other file of the torrent (pad files aside) has it, nor is it a
    /// folder of one. For other file systems see [`Info::disk_paths`](crate::Info::disk_paths).
    pub fn path(self) -> &'a str {
        self.table.path(self.index)
    }

    /// The elements of [`Self::path`].
    pub fn components(self) -> impl DoubleEndedIterator<Item = &'a str> + Clone {
        self.path().split('/')
    }

    /// The path as the torrent's maker wrote it, for display: `U+FFFD` stands for what is not
    /// UTF-8. Not cleaned of control characters.
    pub fn original_path(self) -> &'a str {
        match self.table.original_index(self.index) {
            Ok(found) => &self.table.originals[found].1,
            Err(_) => self.path(),
        }
    }

    /// The file's path relative to the download folder, which includes the torrent's name, under
    /// [`Naming::Unix`](crate::Naming::Unix).
    pub fn disk_path(self) -> PathBuf {
        match &self.table.folder {
            Some(folder) => [folder.as_str()].into_iter().chain(self.components()).collect(),
            None => PathBuf::from(self.path()),
        }
    }

    /// [`Self::disk_path`] as text.
    pub fn full_path(self) -> Cow<'a, str> {
        match &self.table.folder {
            Some(folder) => Cow::Owned(format!("{folder}/{}", self.path())),
            None => Cow::Borrowed(self.path()),
        }
    }

    /// Whether this is a pad file: zeros that only fill a piece up, not to be written (BEP 47).
    pub fn is_pad(self) -> bool {
        self.has(attribute::PAD)
    }

    /// Whether the file wants to be executable (BEP 47).
    pub fn is_executable(self) -> bool {
        self.has(attribute::EXECUTABLE)
    }

    /// Whether the file wants to be hidden (BEP 47).
    pub fn is_hidden(self) -> bool {
        self.has(attribute::HIDDEN)
    }

    /// Whether the entry stands for a symbolic link (BEP 47). It has no data.
    pub fn is_symlink(self) -> bool {
        self.has(attribute::SYMLINK)
    }

    fn has(self, attribute: u8) -> bool {
        self.entry().attributes & attribute != 0
    }

    fn entry(self) -> Entry {
        self.table.entries[self.index]
    }
}

impl std::fmt::Debug for FileEntry<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileEntry")
            .field("index", &self.index)
            .field("path", &self.path())
            .field("offset", &self.offset())
            .field("length", &self.length())
            .field("pad", &self.is_pad())
            .finish()
    }
}

/// A range of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRange {
    /// The file's number.
    pub file: usize,
    /// Where in the file the range begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; never 0.
    pub length: u64,
}

/// The ranges of files that a range of the data consists of, in order.
#[derive(Debug, Clone)]
pub struct FileRanges<'a> {
    table: &'a FileTable,
    file: usize,
    /// Where in the data we are.
    offset: u64,
    end: u64,
}

impl Iterator for FileRanges<'_> {
    type Item = FileRange;

    fn next(&mut self) -> Option<FileRange> {
        while self.offset < self.end {
            let file = self.file;
            let start = self.table.entries[file].offset;
            self.file += 1;
            let length = self.table.end(file).min(self.end) - self.offset;
            if length > 0 {
                let offset = self.offset - start;
                self.offset += length;
                return Some(FileRange { file, offset, length });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
