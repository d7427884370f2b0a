//! The small files below testdata/: torrents of every kind, and broken ones. They are written here
//! byte by byte, so that no parser or encoder of the workspace has a say in what they contain.

mod ben;
mod good;
pub(crate) mod hostile;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// A file to be: its path below testdata/, its bytes, and what it is.
struct Fixture {
    path: String,
    bytes: Vec<u8>,
    what: String,
}

/// Writes the fixtures, or checks that they are as they would be written.
pub(crate) fn run(check: bool) -> Result<()> {
    let folder = workspace::root().join("testdata");
    let fixtures = all();
    let wrong = wrong(&folder, &fixtures)?;
    if check {
        match wrong.is_empty() {
            true => println!("{} fixtures are as they should be", fixtures.len()),
            false => bail!("not as `cargo xtask fixtures` writes them: {}", wrong.join(", ")),
        }
        return Ok(());
    }
    for (path, bytes) in &fixtures {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
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
        let path = path.strip_prefix(folder)?;
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
