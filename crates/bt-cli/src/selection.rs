//! `--files`: which files of a torrent are wanted.

use std::ops::RangeInclusive;

use globset::{GlobBuilder, GlobMatcher};
use metainfo::Metainfo;

use crate::failure::Failure;

/// Files by number or by name.
#[derive(Debug)]
pub(crate) struct Selection {
    numbers: Vec<RangeInclusive<usize>>,
    globs: Vec<GlobMatcher>,
}

impl Selection {
    /// What the values of `--files` ask for; `None` if there are none, which is every file.
    ///
    /// # Errors
    /// Usage if one is neither numbers nor a glob.
    pub(crate) fn parse(values: &[String]) -> Result<Option<Self>, Failure> {
        if values.is_empty() {
            return Ok(None);
        }
        let mut selection = Self { numbers: Vec::new(), globs: Vec::new() };
        for value in values {
            if is_numbers(value) {
                for part in value.split(',') {
                    selection.numbers.push(range(part, value)?);
                }
            } else {
                selection.globs.push(glob(value)?);
            }
        }
        Ok(Some(selection))
    }

    /// Whether files are named by number, which makes sense for one torrent only.
    pub(crate) fn has_numbers(&self) -> bool {
        !self.numbers.is_empty()
    }

    /// One entry a file of `metainfo`: whether it is wanted.
    ///
    /// # Errors
    /// Usage if a number is too great or a glob matches nothing.
    pub(crate) fn apply(&self, metainfo: &Metainfo) -> Result<Vec<bool>, Failure> {
        let files = metainfo.info().files();
        let mut selected = vec![false; files.len()];
        for numbers in &self.numbers {
            let Some(wanted) = selected.get_mut(numbers.clone()) else {
                let message = format!(
                    "{}: expected file numbers below {}, got {}",
                    metainfo.info().name(),
                    files.len(),
                    numbers.end()
                );
                return Err(Failure::usage(message).with("files", files.len()));
            };
            wanted.fill(true);
        }
        for glob in &self.globs {
            let mut found = false;
            for (file, wanted) in files.iter().zip(&mut selected) {
                let named =
                    || [file.original_path(), file.path()].iter().any(|path| glob.is_match(path));
                let matches = !file.is_pad() && named();
                *wanted |= matches;
                found |= matches;
            }
            if !found {
                let (name, glob) = (metainfo.info().name(), glob.glob());
                let message = format!("{name}: no file matches {glob}; see bt-cli info");
                return Err(Failure::usage(message));
            }
        }
        Ok(selected)
    }
}

fn is_numbers(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_digit())
        && value.chars().all(|c| c.is_ascii_digit() || c == ',' || c == '-')
}

fn range(part: &str, value: &str) -> Result<RangeInclusive<usize>, Failure> {
    let error = || Failure::usage(format!("expected file numbers such as 0,3-5, got {value:?}"));
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let first: usize = first.parse().map_err(|_| error())?;
    let last: usize = last.parse().map_err(|_| error())?;
    // The greatest number of all can't be in a half-open range.
    if first > last || last == usize::MAX { Err(error()) } else { Ok(first..=last) }
}

fn glob(value: &str) -> Result<GlobMatcher, Failure> {
    // A `*` also matches folders, so that '*.flac' means every such file.
    let glob = GlobBuilder::new(value).literal_separator(false).build();
    let glob =
        glob.map_err(|error| Failure::usage(format!("--files {value:?}: {}", error.kind())))?;
    Ok(glob.compile_matcher())
}
