//! `--files`: which files of a torrent are wanted.

use std::ops::RangeInclusive;

use globset::GlobBuilder;
use metainfo::{FileEntry, Info, Metainfo};

use crate::failure::Failure;

/// Advice on how to find the files of a torrent.
const INFO_SHOWS_FILES: &str = "bt-cli info shows the files and their numbers";

/// The values of `--files`. A file is wanted if one of them selects it.
#[derive(Debug)]
pub(crate) struct Selection {
    values: Vec<Value>,
}

/// One value of `--files`.
#[derive(Debug)]
struct Value {
    text: String,
    /// The file numbers, if `text` is a list of numbers.
    numbers: Option<Vec<RangeInclusive<usize>>>,
}

impl Selection {
    /// Parses the values of `--files`. Returns `None` if there are none, which selects every file.
    pub(crate) fn parse(values: &[String]) -> Option<Self> {
        let value = |text: &String| Value { text: text.clone(), numbers: numbers(text) };
        (!values.is_empty()).then(|| Self { values: values.iter().map(value).collect() })
    }

    /// Whether a value has file numbers, which make sense for one torrent only.
    pub(crate) fn has_numbers(&self) -> bool {
        self.values.iter().any(|value| value.numbers.is_some())
    }

    /// Returns whether each file of `metainfo` is wanted, one entry per file.
    ///
    /// # Errors
    /// Usage if a value selects no file.
    pub(crate) fn apply(&self, metainfo: &Metainfo) -> Result<Vec<bool>, Failure> {
        let mut selected = vec![false; metainfo.info().files().len()];
        for value in &self.values {
            for index in value.files(metainfo.info())? {
                selected[index] = true;
            }
        }
        Ok(selected)
    }
}

impl Value {
    /// Returns the files that the value selects: by number, else by name, else by pattern.
    fn files(&self, info: &Info) -> Result<Vec<usize>, Failure> {
        let count = info.files().len();
        let ranges = self.numbers.as_deref().unwrap_or_default();
        if !ranges.is_empty() && ranges.iter().all(|range| *range.end() < count) {
            return Ok(ranges.iter().cloned().flatten().collect());
        }
        let named = by_name(info, &self.text);
        if !named.is_empty() {
            return Ok(named);
        }
        if let Some(last) = ranges.iter().map(RangeInclusive::end).max() {
            let message = format!(
                "{}: expected file numbers below {count}, got {last}; to name a file, put ./ in front",
                info.name()
            );
            return Err(Failure::usage(message).with("files", count));
        }
        let matching = by_pattern(info, &self.text)?;
        if matching.is_empty() {
            return Err(self.no_match(info));
        }
        Ok(matching)
    }

    fn no_match(&self, info: &Info) -> Failure {
        let (name, text) = (info.name(), &self.text);
        let advice = if looks_like_numbers(text) {
            "file numbers look like 0,3-5"
        } else if text.contains(',') && !text.contains('{') {
            "repeat --files for each name"
        } else {
            INFO_SHOWS_FILES
        };
        Failure::usage(format!("{name}: no file or folder matches {text:?}; {advice}"))
    }
}

/// Returns the files that `text` names: the path of a file or folder in the torrent, with or
/// without the torrent's name in front, else the name of a file or folder anywhere in it.
fn by_name(info: &Info, text: &str) -> Vec<usize> {
    let text = text.trim_start_matches("./").trim_end_matches('/');
    let below = text.strip_prefix(info.name()).and_then(|rest| rest.strip_prefix('/'));
    let rules: [fn(&str, &str) -> bool; 4] = [is_path, is_below, is_name, is_in_folder_named];
    for name in [Some(text), below].into_iter().flatten() {
        for rule in rules {
            let found = files_where(info, |path| rule(path, name));
            if !found.is_empty() {
                return found;
            }
        }
    }
    let whole = text == info.name();
    files_where(info, |_| whole)
}

fn is_path(path: &str, name: &str) -> bool {
    path == name
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn is_name(path: &str, name: &str) -> bool {
    path.rsplit('/').next() == Some(name)
}

fn is_in_folder_named(path: &str, name: &str) -> bool {
    path.rsplit('/').skip(1).any(|folder| folder == name)
}

/// Returns the files whose path matches the glob `text`, with or without the torrent's name.
fn by_pattern(info: &Info, text: &str) -> Result<Vec<usize>, Failure> {
    // A `*` also matches folders, so that '*.flac' means every such file.
    let glob = GlobBuilder::new(text.trim_start_matches("./")).literal_separator(false).build();
    let glob = glob.map_err(|error| {
        let (name, why) = (info.name(), error.kind());
        let what = "is no file or folder, and not a valid pattern";
        Failure::usage(format!("{name}: {text:?} {what}: {why}; {INFO_SHOWS_FILES}"))
    })?;
    let glob = glob.compile_matcher();
    let name = info.name();
    Ok(files_where(info, |path| glob.is_match(path) || glob.is_match(format!("{name}/{path}"))))
}

/// Returns the files for which `wanted` accepts the path in the torrent or the path on disk.
fn files_where(info: &Info, wanted: impl Fn(&str) -> bool) -> Vec<usize> {
    let files = info.files().iter().filter(|file| !file.is_pad());
    let files = files.filter(|file| wanted(file.original_path()) || wanted(file.path()));
    files.map(FileEntry::index).collect()
}

/// Whether `text` was probably meant as a list of file numbers.
fn looks_like_numbers(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, ',' | '-' | ' ');
    text.contains(|c: char| c.is_ascii_digit()) && text.chars().all(is_part)
}

/// Returns the ranges that `text` lists, such as `0,3-5`; `None` if it is something else.
fn numbers(text: &str) -> Option<Vec<RangeInclusive<usize>>> {
    text.split(',').map(range).collect()
}

fn range(part: &str) -> Option<RangeInclusive<usize>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(usize::MAX))
    };
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use metainfo::Builder;

    use super::*;

    const FILES: [&str; 9] = [
        "day1/beach.mkv",
        "day1/notes, first.txt",
        "day2/beach.mkv",
        "0",
        "[Grp] Show - 01.mkv",
        "{extra} notes.txt",
        "2024/05",
        "holiday/inner",
        "a.flac",
    ];

    fn holiday() -> Metainfo {
        let builder = Builder::new("holiday").piece_length(1 << 20);
        let builder = FILES.iter().fold(builder, |builder, path| builder.file(path.as_bytes(), 1));
        builder.build(&[metainfo::Sha1Digest([1; 20])]).unwrap()
    }

    fn selected(values: &[&str]) -> Result<Vec<usize>, String> {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        let selected = Selection::parse(&values).unwrap().apply(&holiday());
        let selected = selected.map_err(|failure| failure.message().to_owned())?;
        Ok((0..FILES.len()).filter(|index| selected[*index]).collect())
    }

    #[test]
    fn files_by_number_name_and_pattern() {
        for (values, expected) in [
            (&["0"][..], &[0][..]),
            (&["0,3-5"], &[0, 3, 4, 5]),
            (&["0", "8"], &[0, 8]),
            (&["./0"], &[3]),
            (&["day1/beach.mkv"], &[0]),
            (&["holiday/day1/beach.mkv"], &[0]),
            (&["./holiday/day1/beach.mkv"], &[0]),
            (&["day1"], &[0, 1]),
            (&["day1/"], &[0, 1]),
            (&["holiday/day2/"], &[2]),
            (&["day1/notes, first.txt"], &[1]),
            (&["notes, first.txt"], &[1]),
            (&["beach.mkv"], &[0, 2]),
            (&["[Grp] Show - 01.mkv"], &[4]),
            (&["{extra} notes.txt"], &[5]),
            // A folder of that number; the torrent has fewer files.
            (&["2024"], &[6]),
            (&["2024/05"], &[6]),
            // A folder of the torrent's own name comes before the torrent.
            (&["holiday"], &[7]),
            (&["holiday/inner"], &[7]),
            (&["holiday/holiday/inner"], &[7]),
            (&["*.mkv"], &[0, 2, 4]),
            (&["holiday/*.flac"], &[8]),
            (&["day?/*.{mkv,avi}"], &[0, 2]),
        ] {
            assert_eq!(selected(values).as_deref(), Ok(expected), "{values:?}");
        }
    }

    #[test]
    fn value_without_match_is_named() {
        for (value, parts) in [
            ("9", &["below 9", "got 9", "./"][..]),
            ("3-99999999999999999999", &["below 9", "./"]),
            ("5-3", &["matches \"5-3\"; file numbers look like 0,3-5"]),
            ("1,2,", &["\"1,2,\"; file numbers look like"]),
            ("0-", &["\"0-\"; file numbers look like"]),
            ("0, 1", &["\"0, 1\"; file numbers look like"]),
            ("a.flac,day2", &["\"a.flac,day2\"; repeat --files for each name"]),
            ("*.{mp3,ogg}", &["\"*.{mp3,ogg}\"; bt-cli info"]),
            ("*.mp3", &["\"*.mp3\"", "bt-cli info"]),
            ("[a", &["\"[a\" is no file or folder, and not a valid pattern: unclosed "]),
            ("day1/beach", &["\"day1/beach\"", "bt-cli info"]),
            ("Day1", &["\"Day1\""]),
            ("", &["\"\"; bt-cli info"]),
            (",", &["\",\"; repeat --files"]),
        ] {
            let message = selected(&[value]).unwrap_err();
            assert!(parts.iter().all(|part| message.contains(part)), "{value}: {message}");
        }
    }

    #[test]
    fn only_number_lists_are_numbers() {
        for (text, expected) in [
            ("0", true),
            ("0,3-5", true),
            ("./0", false),
            ("a", false),
            ("1-", false),
            ("2024-05-01", false),
            ("1, 2", false),
            ("", false),
        ] {
            assert_eq!(numbers(text).is_some(), expected, "{text:?}");
        }
    }
}
