//! `length`, or `files` with a `length` and a `path` each.

use bencode::{Dict, List, Value};

use super::{Result, length};
use crate::files::{FileTable, PathText, attribute};
use crate::paths::{
    Clash, MAX_PATH_DEPTH, PathError, first_clash, is_plain, map_element, resolve_collisions,
};
use crate::{FileEntry, MetainfoError, MetainfoErrorKind as Kind};

/// Reads the files of `info`, whose name is `name`.
pub(super) fn read(
    info: Value<'_, '_>,
    keys: Dict<'_, '_>,
    name: Value<'_, '_>,
) -> Result<FileTable> {
    match (keys.get("length"), keys.get("files")) {
        (Some(length), None) => single(length, keys, name),
        (None, Some(files)) => several(files, name),
        (Some(_), Some(files)) => Err(MetainfoError::at(files, Kind::BothLengthAndFiles)),
        (None, None) => Err(MetainfoError::at(info, Kind::NeitherLengthNorFiles)),
    }
}

fn single(size: Value<'_, '_>, keys: Dict<'_, '_>, name: Value<'_, '_>) -> Result<FileTable> {
    let mut path = PathText::default();
    add_element(&mut path, name)?;
    // A torrent of nothing but padding would be no torrent.
    let attributes = attributes(keys.get("attr")) & !attribute::PAD;
    let mut table = FileTable::new(None);
    if !table.push(length(size)?, attributes, &path) {
        return Err(MetainfoError::at(size, Kind::TotalOverflow));
    }
    table.set_paths(path);
    table.shrink();
    Ok(table)
}

fn several(files: Value<'_, '_>, name: Value<'_, '_>) -> Result<FileTable> {
    let list = files.as_list().ok_or_else(|| MetainfoError::wrong_kind(files, "a list"))?;
    if list.is_empty() {
        return Err(MetainfoError::at(files, Kind::NoFiles));
    }
    let mut folder = PathText::default();
    add_element(&mut folder, name)?;
    let mut reader = Reader::new(folder.into_text());
    reader.table.reserve(list.len());
    list.iter().try_for_each(|file| reader.file(file))?;
    reader.finish(list)
}

/// The state while the list is read.
struct Reader {
    table: FileTable,
    path: PathText,
    /// The raw paths of the files whose path was mapped, by index.
    mapped: Vec<(usize, Vec<u8>)>,
}

/// One element of `files`, not looked at closely.
#[derive(Default)]
struct FileKeys<'a, 'd> {
    length: Option<Value<'a, 'd>>,
    path: Option<Value<'a, 'd>>,
    path_utf8: Option<Value<'a, 'd>>,
    attributes: u8,
}

impl Reader {
    fn new(folder: String) -> Self {
        Self { table: FileTable::new(Some(folder)), path: PathText::default(), mapped: Vec::new() }
    }

    fn file(&mut self, file: Value<'_, '_>) -> Result<()> {
        let keys = FileKeys::read(file)?;
        let length = keys.length(file)?;
        self.path(file, &keys, length)?;
        if !self.table.push(length, keys.attributes, &self.path) {
            return Err(MetainfoError::at(keys.length.unwrap_or(file), Kind::TotalOverflow));
        }
        if let Some(raw) = self.path.original.take() {
            self.mapped.push((self.table.view().len() - 1, raw));
        }
        Ok(())
    }

    /// Puts the path of a file together.
    fn path(&mut self, file: Value<'_, '_>, keys: &FileKeys<'_, '_>, length: u64) -> Result<()> {
        self.path.begin();
        let in_utf8 = keys.path_utf8.filter(|path| is_path(*path));
        match in_utf8.or(keys.path) {
            Some(path) => add_path(&mut self.path, path),
            // Pad files need no path (BEP 47, "Padding files"); this is the one it recommends.
            None if keys.attributes & attribute::PAD != 0 => {
                self.path.mapped.extend(format!(".pad/{length}").as_bytes());
                Ok(())
            }
            None => Err(MetainfoError::missing(file, "path")),
        }
    }

    /// Checks that every file has a path of its own, and gives it one where that is our fault.
    fn finish(mut self, list: List<'_, '_>) -> Result<FileTable> {
        self.table.set_paths(self.path);
        let table = &self.table;
        let real = || table.view().iter().filter(|file| !file.is_pad()).map(FileEntry::index);
        let raw = |file| match self.mapped.binary_search_by_key(&file, |(file, _)| *file) {
            Ok(found) => self.mapped[found].1.as_slice(),
            Err(_) => table.path(file).as_bytes(),
        };
        if let Some(clash) = first_clash(real(), raw) {
            return Err(clash_error(list, clash));
        }
        let on_disk = |file| table.path(file).as_bytes();
        if !self.mapped.is_empty() && first_clash(real(), on_disk).is_some() {
            for (file, path) in resolve_collisions(real(), |file| table.path(file)) {
                self.table.rename(file, &path);
            }
        }
        self.table.shrink();
        Ok(self.table)
    }
}

impl<'a, 'd> FileKeys<'a, 'd> {
    fn read(file: Value<'a, 'd>) -> Result<Self> {
        let dict = file.as_dict();
        let dict = dict.ok_or_else(|| MetainfoError::wrong_kind(file, "a dictionary"))?;
        let mut keys = Self::default();
        for (key, value) in dict {
            match key {
                b"length" => keys.length = Some(value),
                b"path" => keys.path = Some(value),
                b"path.utf-8" => keys.path_utf8 = Some(value),
                b"attr" => keys.attributes = attributes(Some(value)),
                _ => {}
            }
        }
        Ok(keys)
    }

    /// The length in bytes. That of a symbolic link is 0 and may be left out (BEP 47, "Symlinks").
    fn length(&self, file: Value<'_, '_>) -> Result<u64> {
        match self.length {
            Some(value) => length(value),
            None if self.attributes & attribute::SYMLINK != 0 => Ok(0),
            None => Err(MetainfoError::missing(file, "length")),
        }
    }
}

/// `attr`: a string of letters, unknown ones ignored (BEP 47).
fn attributes(value: Option<Value<'_, '_>>) -> u8 {
    let letters = value.and_then(Value::as_bytes).unwrap_or_default();
    letters.iter().fold(0, |attributes, letter| {
        attributes
            | match letter {
                b'p' => attribute::PAD,
                b'x' => attribute::EXECUTABLE,
                b'h' => attribute::HIDDEN,
                b'l' => attribute::SYMLINK,
                _ => 0,
            }
    })
}

/// Whether `value` is a list of texts, not empty.
fn is_path(value: Value<'_, '_>) -> bool {
    let elements = value.as_list();
    elements.is_some_and(|list| !list.is_empty() && list.iter().all(|one| one.as_str().is_some()))
}

fn add_path(path: &mut PathText, value: Value<'_, '_>) -> Result<()> {
    let elements = value.as_list();
    let elements = elements.ok_or_else(|| MetainfoError::wrong_kind(value, "a list"))?;
    let mut depth = 0;
    for element in elements {
        depth += 1;
        if depth > MAX_PATH_DEPTH {
            return Err(MetainfoError::at(value, PathError::TooDeep { got: elements.len() }));
        }
        add_element(path, element)?;
    }
    if depth == 0 {
        return Err(MetainfoError::at(value, PathError::Empty));
    }
    Ok(())
}

/// Appends one element to the path on disk, and to the original if they differ.
fn add_element(path: &mut PathText, element: Value<'_, '_>) -> Result<()> {
    let raw = element.as_bytes();
    let raw = raw.ok_or_else(|| MetainfoError::wrong_kind(element, "a byte string"))?;
    let parent = path.current().len();
    if is_plain(raw) {
        if parent > 0 {
            path.mapped.push(b'/');
        }
        path.mapped.extend_from_slice(raw);
    } else {
        let name = map_element(raw).map_err(|error| MetainfoError::at(element, error))?;
        if name.as_bytes() != raw && path.original.is_none() {
            path.original = Some(path.current().to_vec());
        }
        if parent > 0 {
            path.mapped.push(b'/');
        }
        path.mapped.extend_from_slice(name.as_bytes());
    }
    if let Some(original) = &mut path.original {
        if parent > 0 {
            original.push(b'/');
        }
        original.extend_from_slice(raw);
    }
    Ok(())
}

#[cold]
fn clash_error(list: List<'_, '_>, clash: Clash) -> MetainfoError {
    let file = list.get(clash.file()).unwrap_or(list.value());
    let path = file.get("path.utf-8").filter(|path| is_path(*path)).or_else(|| file.get("path"));
    let error = match clash {
        Clash::Duplicate { other, .. } => PathError::Duplicate { other },
        Clash::FileIsFolder { other, .. } => PathError::FileIsFolder { other },
    };
    MetainfoError::at(path.unwrap_or(file), error)
}
