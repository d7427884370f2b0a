//! The paths of all files under any naming.
//!
//! A torrent's file table stores the paths of [`Naming::Unix`]. Those of other namings are computed
//! from the document.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use bencode::Value;

use crate::paths::{
    folded, has_clash, is_same_everywhere, key_of, map_bytes, map_torrent_name, resolve_collisions,
};
use crate::{FileEntry, Info, Naming, parse};

impl Info {
    /// Returns the paths of all files under `naming`, in file order. They are relative to the
    /// download folder, include the torrent's name, and consist of ordinary names. Except for pad
    /// files, no two files share a path and none is a folder of another. [`Naming::Windows`] and
    /// [`Naming::Short`] ensure this even if the case of letters is ignored.
    pub fn disk_paths(&self, naming: Naming) -> Vec<PathBuf> {
        if naming == Naming::Unix || self.has_plain_names() {
            return self.files().iter().map(FileEntry::disk_path).collect();
        }
        self.mapped_paths(naming)
    }

    /// Computes [`Self::disk_paths`] from the document, even if all names are plain.
    fn mapped_paths(&self, naming: Naming) -> Vec<PathBuf> {
        let name = map_torrent_name(self.raw_name(), naming, self.fields.hashes.wire());
        if self.is_single_file() {
            return vec![into_path(name)];
        }
        let paths = self.with_unique_paths(self.paths_below(naming), naming);
        paths.iter().map(|path| into_path([&name, &b"/"[..], path].concat())).collect()
    }

    /// Returns whether every naming gives the same paths, because all names are plain. Takes time
    /// proportional to the length of all paths.
    pub fn has_plain_names(&self) -> bool {
        let is_same = |name: &str| is_same_everywhere(name.as_bytes());
        self.fields.files.is_unmapped()
            && self.name() == self.disk_name()
            && is_same(self.disk_name())
            && self.files().iter().flat_map(FileEntry::components).all(is_same)
            && !self.has_paths_equal_but_for_case()
    }

    /// Returns whether two paths differ in the case of letters only.
    fn has_paths_equal_but_for_case(&self) -> bool {
        let folded: Vec<_> =
            self.files().iter().map(|file| folded(file.path().as_bytes())).collect();
        has_clash(self.real_files(), |file| &folded[file])
    }

    /// Returns the indices of the files that are not pad files.
    fn real_files(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        self.files().iter().filter(|file| !file.is_pad()).map(FileEntry::index)
    }

    fn raw_name(&self) -> &[u8] {
        let info = self.document.root().get("info");
        let name = info.and_then(|info| parse::name(info, info.as_dict()?).ok()?.as_bytes());
        name.unwrap_or_default()
    }

    /// Returns the mapped path of each file of a folder, elements joined by `/`. Some may be equal.
    fn paths_below(&self, naming: Naming) -> Vec<Vec<u8>> {
        let list = self.get("files").and_then(Value::as_list);
        let paths = list.into_iter().flatten().zip(self.files()).map(|(value, file)| {
            let Some(path) = parse::raw_path(value) else { return file.path().into() };
            let elements =
                path.iter().map(|raw| map_bytes(raw.as_bytes().unwrap_or_default(), naming));
            elements.collect::<Vec<_>>().join(&b'/')
        });
        paths.collect()
    }

    /// Renames some of `paths`, so that none appears twice or is a folder of another.
    fn with_unique_paths(&self, mut paths: Vec<Vec<u8>>, naming: Naming) -> Vec<Vec<u8>> {
        let keys: Vec<Cow<'_, [u8]>> = paths.iter().map(|path| key_of(path, naming)).collect();
        let key = |file: usize| &*keys[file];
        if !has_clash(self.real_files(), key) {
            return paths;
        }
        let path = |file: usize| paths[file].as_slice();
        let renamed = resolve_collisions(self.real_files(), path, key, naming);
        for (file, path) in renamed {
            paths[file] = path;
        }
        paths
    }
}

fn into_path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}
