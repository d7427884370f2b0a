use std::path::Path;

use super::*;

/// A folder `root` with files of these lengths, named by their index.
fn table(lengths: &[u64]) -> FileTable {
    let mut table = FileTable::new(Some("root".to_owned()));
    let mut paths = PathText::default();
    for (number, length) in lengths.iter().enumerate() {
        paths.begin();
        paths.mapped.extend(format!("dir/{number}").as_bytes());
        assert!(table.push(*length, 0, &paths));
    }
    table.set_paths(paths);
    table
}

#[track_caller]
fn check(lengths: &[u64], offset: u64, length: u64, expected: &[(usize, u64, u64)]) {
    let table = table(lengths);
    let got: Vec<_> = table
        .ranges(offset, length)
        .map(|range| (range.file, range.offset, range.length))
        .collect();
    assert_eq!(got, expected, "{length} bytes from {offset} of {lengths:?}");
}

#[test]
fn ranges_cross_files_and_skip_empty() {
    check(&[10], 0, 10, &[(0, 0, 10)]);
    check(&[10], 3, 4, &[(0, 3, 4)]);
    check(&[10, 10], 5, 10, &[(0, 5, 5), (1, 0, 5)]);
    check(&[10, 10], 10, 5, &[(1, 0, 5)]);
    check(&[0, 0, 10, 0, 5, 0], 0, 15, &[(2, 0, 10), (4, 0, 5)]);
    check(&[0, 0, 10, 0, 5, 0], 10, 1, &[(4, 0, 1)]);
    check(&[1, 1, 1, 1], 1, 2, &[(1, 0, 1), (2, 0, 1)]);
}

#[test]
fn ranges_end_where_the_data_ends() {
    check(&[10, 5], 12, 100, &[(1, 2, 3)]);
    check(&[10, 5], 12, u64::MAX, &[(1, 2, 3)]);
    check(&[10, 5], 15, 1, &[]);
    check(&[10, 5], u64::MAX, u64::MAX, &[]);
    check(&[10, 5], 3, 0, &[]);
    check(&[], 0, 1, &[]);
    check(&[0], 0, 1, &[]);
}

#[test]
fn sizes_that_overflow_are_refused() {
    let mut table = table(&[u64::MAX]);
    let path = PathText::default();
    assert!(table.push(0, 0, &path));
    assert!(!table.push(1, 0, &path));
}

#[test]
fn entries_report_their_ranges() {
    let table = table(&[3, 0, 4]);
    let files = table.view();
    assert_eq!((files.len(), files.iter().len(), files.is_empty()), (3, 3, false));
    let last = files.get(2).unwrap();
    assert_eq!((last.index(), last.offset(), last.length()), (2, 3, 4));
    assert_eq!((last.path(), last.original_path()), ("dir/2", "dir/2"));
    assert!(last.components().eq(["dir", "2"]));
    assert_eq!(last.disk_path(), Path::new("root").join("dir").join("2"));
    assert_eq!(last.full_path(), "root/dir/2");
    assert!(files.get(3).is_none());
    assert_eq!(table.disk_name(), "root");
}

#[test]
fn renamed_file_keeps_original_path() {
    let mut table = table(&[1, 1]);
    table.rename(1, "dir/other");
    let files = table.view();
    assert_eq!(files.get(0).map(FileEntry::original_path), Some("dir/0"));
    assert_eq!(files.get(1).map(FileEntry::path), Some("dir/other"));
    assert_eq!(files.get(1).map(FileEntry::original_path), Some("dir/1"));
}
