//! Chooses the names of a torrent's files: one naming for all of them, and numbered paths for
//! entries that would share a file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;

use metainfo::{Info, Naming, map_element};

use super::layout::Layout;
use super::shared::SharedDisk;
use crate::{Access, Disk, FileId, Stat};

/// Characters that some file system refuses.
const REFUSED: &str = "\\:?*\"<>|";

/// Chooses the naming of a torrent's files in `folder`: the `recorded` one if a file has such a
/// name, else the one under which most files are present, else one that the file system accepts.
pub(super) fn choose<D: Disk>(
    shared: &SharedDisk<D>,
    folder: &D::Folder,
    info: &Info,
    recorded: Option<Naming>,
    creates: bool,
) -> Naming {
    let usual = recorded.unwrap_or_else(|| shared.disk.naming(folder));
    if info.has_plain_names() {
        return usual;
    }
    let mut best = (count_files(&*shared.disk, folder, info, usual), usual);
    if recorded.is_some() && best.0 > 0 {
        return usual;
    }
    for naming in Naming::ALL.into_iter().filter(|naming| *naming != usual) {
        let count = count_files(&*shared.disk, folder, info, naming);
        if count > best.0 {
            best = (count, naming);
        }
    }
    match best {
        (0, _) if creates && recorded.is_none() => try_names(shared, folder, info, usual),
        (_, naming) => naming,
    }
}

fn count_files<D: Disk>(disk: &D, folder: &D::Folder, info: &Info, naming: Naming) -> usize {
    let paths = info.disk_paths(naming);
    let files = info.files().iter().zip(&paths).filter(|(file, _)| !file.is_pad());
    files.filter(|(_, path)| matches!(disk.stat(folder, path), Ok(Some(_)))).count()
}

/// Returns a naming that the file system accepts. Creates a file for each kind of name, and removes
/// it at once.
fn try_names<D: Disk>(
    shared: &SharedDisk<D>,
    folder: &D::Folder,
    info: &Info,
    mut naming: Naming,
) -> Naming {
    for name in unusual_names(info) {
        let refused = |naming| {
            let name = map_element(name.as_encoded_bytes(), naming);
            shared.disk.naming_after(&try_name(shared, folder, Path::new(&name)).err()?)
        };
        while let Some(other) = refused(naming).filter(|other| *other != naming) {
            if naming == Naming::Short {
                return naming;
            }
            naming = other;
        }
    }
    naming
}

fn try_name<D: Disk>(
    shared: &SharedDisk<D>,
    folder: &D::Folder,
    name: &Path,
) -> std::io::Result<()> {
    shared.open(folder, name, Access::CreateNew)?;
    shared.disk.remove(folder, name)
}

/// Returns one name of each kind that a file system may refuse, by its characters, end or length.
fn unusual_names(info: &Info) -> Vec<Box<OsStr>> {
    let mut names = BTreeMap::new();
    for path in info.disk_paths(Naming::Unix) {
        for name in &path {
            let kind = kind_of(name);
            if map_element(name.as_encoded_bytes(), Naming::Short) != name {
                names.entry(kind).or_insert_with(|| Box::from(name));
            }
        }
    }
    names.into_values().collect()
}

fn kind_of(name: &OsStr) -> (Vec<bool>, Option<u8>, bool) {
    let bytes = name.as_encoded_bytes();
    let has = REFUSED.bytes().map(|refused| bytes.contains(&refused)).collect();
    let end = bytes.last().copied().filter(|last| matches!(last, b'.' | b' '));
    (has, end, name.len() > Naming::Short.max_length())
}

/// Gives entries that share a file a numbered path, if a file has it. On a file system that folds
/// names, an earlier launch created that file. A recorded entry keeps the shared file, else the
/// first entry does.
pub(super) fn find_numbered<D: Disk>(
    disk: &D,
    folder: &D::Folder,
    layout: &Layout,
    found: &mut [Option<Stat>],
    is_recorded: impl Fn(u32) -> bool,
) {
    let mut any = true;
    // An entry may get a path that a later entry has.
    while std::mem::take(&mut any) {
        for mut slots in sharing(found) {
            slots.sort_by_key(|slot| !is_recorded(*slot as u32));
            // The second of them has the number 2, the third 3.
            for (number, slot) in (2..).zip(slots.into_iter().skip(1)) {
                let entry = &layout.slots[slot];
                let path = entry.numbered_path(number, layout.naming);
                if let (false, Ok(Some(stat))) = (entry.is_renamed(), disk.stat(folder, &path)) {
                    entry.rename(&path);
                    found[slot] = Some(stat);
                    any = true;
                }
            }
        }
    }
}

/// Returns the selected slots whose paths differ only in the case of letters. On a file system that
/// folds names, the first of them gets the name that all want.
pub(super) fn folded(layout: &Layout) -> BTreeSet<u32> {
    let mut paths: Vec<(String, u32)> = layout
        .numbered()
        .filter(|(_, slot)| slot.selected)
        .map(|(number, slot)| (slot.path().to_string_lossy().to_lowercase(), number))
        .collect();
    paths.sort_unstable();
    let alike = paths.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1);
    alike.flatten().map(|(_, number)| *number).collect()
}

/// Returns the indices of entries that are one and the same file, each group ascending.
pub(super) fn sharing(found: &[Option<Stat>]) -> Vec<Vec<usize>> {
    let mut ids: Vec<(FileId, usize)> =
        (0..).zip(found).filter_map(|(number, stat)| stat.map(|stat| (stat.id, number))).collect();
    ids.sort_unstable();
    let groups = ids.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1);
    groups.map(|same| same.iter().map(|(_, number)| *number).collect()).collect()
}
