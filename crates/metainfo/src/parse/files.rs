//! Parses `length`, or `files` with a `length` and a `path` each.

use bencode::{Dict, List, Value};

use bt_types::InfoHashV1;

use super::{Result, length};
use crate::files::{FileTable, PathText, attribute};
use crate::paths::{
    MAX_PATH_DEPTH, Naming, PathError, has_clash, map_bytes, map_torrent_name, resolve_collisions,
};
use crate::{FileEntry, MetainfoError, MetainfoErrorKind as Kind};

/// Parses the files of `info`, whose name is `name` and whose info-hash is `hash`.
pub(super) fn read(
    info: Value<'_, '_>,
    keys: Dict<'_, '_>,
    name: &[u8],
    hash: InfoHashV1,
) -> Result<FileTable> {
    let mut path = PathText::default();
    path.add(name, |raw| map_torrent_name(raw, Naming::Unix, hash));
    match (keys.get("length"), keys.get("files")) {
        (Some(length), None) => single(length, keys, path),
        (None, Some(files)) => several(files, path.into_text()),
        (Some(_), Some(files)) => Err(MetainfoError::at(files, Kind::BothLengthAndFiles)),
        (None, None) => Err(MetainfoError::at(info, Kind::NeitherLengthNorFiles)),
    }
}

fn single(size: Value<'_, '_>, keys: Dict<'_, '_>, path: PathText) -> Result<FileTable> {
    // The only file of a torrent is never padding.
    let attributes = attributes(keys.get("attr")) & !attribute::PAD;
    let mut table = FileTable::new(None);
    if !table.push(length(size)?, attributes, &path) {
        return Err(MetainfoError::at(size, Kind::TotalOverflow));
    }
    table.set_paths(path);
    table.shrink();
    Ok(table)
}

fn several(files: Value<'_, '_>, folder: String) -> Result<FileTable> {
    let list = files.as_list().ok_or_else(|| MetainfoError::wrong_kind(files, "a list"))?;
    if list.is_empty() {
        return Err(MetainfoError::at(files, Kind::NoFiles));
    }
    let mut builder =
        TableBuilder { table: FileTable::new(Some(folder)), path: PathText::default() };
    builder.table.reserve(list.len());
    list.iter().try_for_each(|file| builder.add(file))?;
    Ok(builder.finish())
}

/// Returns the original path of `file`, an element of `files` in an accepted torrent: a list of
/// byte strings. `None` for a pad file without a path.
pub(crate) fn raw_path<'a, 'd>(file: Value<'a, 'd>) -> Option<List<'a, 'd>> {
    FileKeys::read(file).ok()?.path()?.as_list()
}

/// Builds the table from the elements of `files`.
struct TableBuilder {
    table: FileTable,
    path: PathText,
}

/// The keys of one element of `files`, unchecked except for the attributes.
#[derive(Default)]
struct FileKeys<'a, 'd> {
    length: Option<Value<'a, 'd>>,
    path: Option<Value<'a, 'd>>,
    path_utf8: Option<Value<'a, 'd>>,
    attributes: u8,
}

impl TableBuilder {
    fn add(&mut self, file: Value<'_, '_>) -> Result<()> {
        let keys = FileKeys::read(file)?;
        let length = keys.length(file)?;
        self.build_path(file, &keys, length)?;
        if !self.table.push(length, keys.attributes, &self.path) {
            return Err(MetainfoError::at(keys.length.unwrap_or(file), Kind::TotalOverflow));
        }
        Ok(())
    }

    /// Builds the path of a file.
    fn build_path(
        &mut self,
        file: Value<'_, '_>,
        keys: &FileKeys<'_, '_>,
        length: u64,
    ) -> Result<()> {
        self.path.begin();
        match keys.path() {
            Some(path) => add_path(&mut self.path, path),
            // Pad files need no path; this is the recommended one (BEP 47, "Padding files").
            None if keys.attributes & attribute::PAD != 0 => {
                self.path.mapped.extend(format!(".pad/{length}").as_bytes());
                Ok(())
            }
            None => Err(MetainfoError::missing(file, "path")),
        }
    }

    /// Renames files so that no two share a path, except for pad files.
    fn finish(mut self) -> FileTable {
        self.table.set_paths(self.path);
        let table = &self.table;
        let real = || table.view().iter().filter(|file| !file.is_pad()).map(FileEntry::index);
        let path = |file| table.path(file).as_bytes();
        if has_clash(real(), path) {
            for (file, path) in resolve_collisions(real(), path, path, Naming::Unix) {
                self.table.rename(file, &String::from_utf8_lossy(&path));
            }
        }
        self.table.shrink();
        self.table
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

    /// Returns the value of `path.utf-8` if it is valid, else that of `path`.
    fn path(&self) -> Option<Value<'a, 'd>> {
        self.path_utf8.filter(|path| is_path(*path)).or(self.path)
    }

    /// Returns the length in bytes. That of a symbolic link is 0 and optional (BEP 47, "Symlinks").
    fn length(&self, file: Value<'_, '_>) -> Result<u64> {
        match self.length {
            Some(value) => length(value),
            None if self.attributes & attribute::SYMLINK != 0 => Ok(0),
            None => Err(MetainfoError::missing(file, "length")),
        }
    }
}

/// Reads `attr`, a string of letters; ignores unknown ones (BEP 47).
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

/// Returns whether `value` is a list of at least one text.
fn is_path(value: Value<'_, '_>) -> bool {
    let elements = value.as_list();
    elements.is_some_and(|list| !list.is_empty() && list.iter().all(|name| name.as_str().is_some()))
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

/// Appends one element to `path`.
fn add_element(path: &mut PathText, element: Value<'_, '_>) -> Result<()> {
    let raw = element.as_bytes();
    let raw = raw.ok_or_else(|| MetainfoError::wrong_kind(element, "a byte string"))?;
    path.add(raw, |raw| map_bytes(raw, Naming::Unix));
    Ok(())
}
