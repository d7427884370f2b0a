//! The files of a torrent and their ranges of the data.
//!
//! A torrent may have hundreds of thousands of files. Therefore a file takes 16 bytes in a table,
//! its path is a range of one long string, and [`FileEntry`] is a view made on demand.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::paths::is_plain;

/// The attributes of a file (BEP 47), one bit each.
pub(crate) mod attribute {
    pub(crate) const PAD: u8 = 1;
    pub(crate) const EXECUTABLE: u8 = 2;
    pub(crate) const HIDDEN: u8 = 4;
    pub(crate) const SYMLINK: u8 = 8;
}

/// The files of a torrent. Invariants: offsets never decrease and start at 0; every path is a range
/// of `paths`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FileTable {
    entries: Vec<Entry>,
    paths: String,
    /// The original paths of the files whose path on disk differs, ordered by file index.
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
    /// Makes an empty table for files below `folder`, or for a single file without a folder.
    pub(crate) fn new(folder: Option<String>) -> Self {
        Self { folder, ..Self::default() }
    }

    pub(crate) fn reserve(&mut self, files: usize) {
        self.entries.reserve(files);
    }

    /// Appends a file, whose path is the current one of `path`. Returns false and leaves the table
    /// unchanged if the sizes overflow.
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

    /// Stores the paths of all files.
    pub(crate) fn set_paths(&mut self, paths: PathText) {
        self.paths = paths.into_text();
    }

    /// Gives file `index` another path on disk.
    pub(crate) fn rename(&mut self, index: usize, path: &str) {
        let (path_start, path_length) = (self.paths.len() as u32, path.len() as u16);
        self.paths.push_str(path);
        let old = self.entries[index];
        self.entries[index] = Entry { path_start, path_length, ..old };
        if let Err(position) = self.original_index(index) {
            let original = self.text(old).to_owned().into_boxed_str();
            self.originals.insert(position, (index as u32, original));
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

    /// Returns whether every path on disk is the original one.
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

    /// Returns where the data of file `index` ends.
    fn end(&self, index: usize) -> u64 {
        self.entries.get(index + 1).map_or(self.total, |next| next.offset)
    }
}

/// Builds paths one after the other in a single buffer.
#[derive(Debug, Default)]
pub(crate) struct PathText {
    /// The paths on disk of all files so far, elements joined by `/`. They are UTF-8, which
    /// [`Self::into_text`] checks once for all of them.
    pub(crate) mapped: Vec<u8>,
    /// Where the current path starts.
    start: usize,
    /// The raw elements of the current path joined by `/`, if they differ from the mapped ones.
    pub(crate) original: Option<Vec<u8>>,
}

impl PathText {
    /// Starts the next path.
    pub(crate) fn begin(&mut self) {
        self.start = self.mapped.len();
        self.original = None;
    }

    /// Appends the element `raw`, mapped by `map` unless it is plain.
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

    /// Returns the current path so far.
    pub(crate) fn current(&self) -> &[u8] {
        self.mapped.get(self.start..).unwrap_or_default()
    }

    /// Returns all paths as one string.
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

/// The files of a torrent, in the order of their data.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    table: &'a FileTable,
}

impl<'a> Files<'a> {
    /// Returns the number of files, including pad files.
    pub fn len(self) -> usize {
        self.table.entries.len()
    }

    /// Returns whether there are no files. Every torrent has at least one.
    pub fn is_empty(self) -> bool {
        self.table.entries.is_empty()
    }

    /// Returns file `index`, counted from 0.
    pub fn get(self, index: usize) -> Option<FileEntry<'a>> {
        (index < self.len()).then_some(FileEntry { table: self.table, index })
    }

    /// Returns the files in order.
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
    /// Returns the file's index, counted from 0.
    pub fn index(self) -> usize {
        self.index
    }

    /// Returns where the file starts in the torrent's data, in bytes.
    pub fn offset(self) -> u64 {
        self.entry().offset
    }

    /// Returns the length of the file, in bytes.
    pub fn length(self) -> u64 {
        self.table.end(self.index) - self.offset()
    }

    /// Returns the file's path under [`Naming::Unix`](crate::Naming::Unix), elements joined by `/`.
    /// It is relative to the torrent's folder, or the file's own name if the torrent is a single
    /// file.
    ///
    /// The path is safe to create below a folder on a file system of Linux. It is relative. No
    /// element is empty, `.` or `..`, has control characters, or is longer than
    /// [`MAX_ELEMENT_LENGTH`](crate::MAX_ELEMENT_LENGTH) bytes. Except for pad files, no other file
    /// of the torrent has the same path or is below it. For other file systems see
    /// [`Info::disk_paths`](crate::Info::disk_paths).
    pub fn path(self) -> &'a str {
        self.table.path(self.index)
    }

    /// Returns the elements of [`Self::path`].
    pub fn components(self) -> impl DoubleEndedIterator<Item = &'a str> + Clone {
        self.path().split('/')
    }

    /// Returns the path as it is in the torrent, with `U+FFFD` for bytes that are not UTF-8. It may
    /// have control characters.
    pub fn original_path(self) -> &'a str {
        match self.table.original_index(self.index) {
            Ok(found) => &self.table.originals[found].1,
            Err(_) => self.path(),
        }
    }

    /// Returns the file's path relative to the download folder, including the torrent's name, under
    /// [`Naming::Unix`](crate::Naming::Unix).
    pub fn disk_path(self) -> PathBuf {
        match &self.table.folder {
            Some(folder) => [folder.as_str()].into_iter().chain(self.components()).collect(),
            None => PathBuf::from(self.path()),
        }
    }

    /// Returns [`Self::disk_path`] as text.
    pub fn full_path(self) -> Cow<'a, str> {
        match &self.table.folder {
            Some(folder) => Cow::Owned(format!("{folder}/{}", self.path())),
            None => Cow::Borrowed(self.path()),
        }
    }

    /// Returns whether this is a pad file: zeros that fill up a piece and are not written to disk
    /// (BEP 47).
    pub fn is_pad(self) -> bool {
        self.has(attribute::PAD)
    }

    /// Returns whether the file should be executable (BEP 47).
    pub fn is_executable(self) -> bool {
        self.has(attribute::EXECUTABLE)
    }

    /// Returns whether the file should be hidden (BEP 47).
    pub fn is_hidden(self) -> bool {
        self.has(attribute::HIDDEN)
    }

    /// Returns whether the entry is a symbolic link (BEP 47), which has no data.
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
    /// The index of the file.
    pub file: usize,
    /// Where the range starts in the file, in bytes.
    pub offset: u64,
    /// The length of the range, in bytes; never 0.
    pub length: u64,
}

/// An iterator over the file ranges that make up a range of the torrent's data, in order.
#[derive(Debug, Clone)]
pub struct FileRanges<'a> {
    table: &'a FileTable,
    file: usize,
    /// The current offset in the data.
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
