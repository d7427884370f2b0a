//! The small files below testdata/: torrents of every kind, and broken ones. They are written here
//! byte by byte, so that no parser or encoder of the workspace has a say in what they contain.

mod ben;
mod good;
pub mod hostile;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

/// A file to be: its path below testdata/, its bytes, and what it is.
struct Fixture {
    path: String,
    bytes: Vec<u8>,
    what: String,
}

/// Writes the fixtures below `folder`, or checks that they are as they would be written.
///
/// # Errors
/// A file cannot be written or, if `check` is set, is not as it would be written.
pub fn run(folder: &Path, check: bool) -> Result<()> {
    let fixtures = all();
    let wrong = wrong(folder, &fixtures)?;
    if check && !wrong.is_empty() {
        let wrong = wrong.join(", ");
        return Err(Error::other(format!("not as `cargo xtask fixtures` writes them: {wrong}")));
    }
    if check {
        println!("{} fixtures are as they should be", fixtures.len());
        return Ok(());
    }
    for (path, bytes) in &fixtures {
        let path = folder.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, bytes)?;
    }
    println!("{} fixtures, {} of them new or changed", fixtures.len(), wrong.len());
    Ok(())
}

/// Every file, with the table that describes them.
fn all() -> BTreeMap<PathBuf, Vec<u8>> {
    let fixtures: Vec<Fixture> = good::fixtures().into_iter().chain(hostile::fixtures()).collect();
    let mut table = String::from(
        "# Test data\n\nMade by `cargo xtask fixtures`, but `bench/` by `cargo xtask bench`, `fuzz/` and `fuzz.json` by `cargo xtask fuzz`, `soak.json` by `cargo xtask sim`, `journals/` by the test of piece-store that reads them; do not edit.\n\n| file | what it is |\n|---|---|\n",
    );
    for Fixture { path, what, .. } in &fixtures {
        table.push_str(&format!("| `{path}` | {what} |\n"));
    }
    let files = fixtures.into_iter().map(|fixture| (fixture.path.into(), fixture.bytes));
    files.chain([("README.md".into(), table.into_bytes())]).collect()
}

/// Where other tasks keep what they measured and found.
const OF_OTHERS: &[&str] = &["bench", "fuzz", "fuzz.json", "journals", "soak.json"];

/// Files that are missing, other than they should be, or nobody's.
fn wrong(folder: &Path, fixtures: &BTreeMap<PathBuf, Vec<u8>>) -> Result<Vec<String>> {
    let differs = |(path, bytes): &(&PathBuf, &Vec<u8>)| {
        fs::read(folder.join(path)).ok().as_ref() != Some(*bytes)
    };
    let mut wrong: Vec<String> =
        fixtures.iter().filter(differs).map(|(path, _)| path.display().to_string()).collect();
    for path in files_below(folder)? {
        let path = path.strip_prefix(folder).map_err(Error::other)?;
        if !fixtures.contains_key(path) && !OF_OTHERS.iter().any(|other| path.starts_with(other)) {
            wrong.push(format!("{} (unknown)", path.display()));
        }
    }
    Ok(wrong)
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(files_below(&entry.path())?),
            false => found.push(entry.path()),
        }
    }
    Ok(found)
}
