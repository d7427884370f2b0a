//! The small files in testdata/: valid and invalid torrents. They are encoded here, so that they do
//! not depend on the parsers and encoders of the workspace.

mod good;
pub mod hostile;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

/// A file in testdata/.
struct Fixture {
    /// The path in testdata/.
    path: String,
    bytes: Vec<u8>,
    description: String,
}

/// Writes the fixtures to `folder`. If `check` is set, it only compares them.
///
/// # Errors
/// Writing fails. With `check`, a file is missing, different or unknown.
pub fn run(folder: &Path, check: bool) -> Result<()> {
    let fixtures = all();
    let wrong = wrong(folder, &fixtures)?;
    if check && !wrong.is_empty() {
        let wrong = wrong.join(", ");
        return Err(Error::other(format!("not as `cargo xtask fixtures` writes them: {wrong}")));
    }
    if check {
        println!("{} fixtures are up to date", fixtures.len());
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

/// Returns every file, and the table that describes them.
fn all() -> BTreeMap<PathBuf, Vec<u8>> {
    let fixtures: Vec<Fixture> = good::fixtures().into_iter().chain(hostile::fixtures()).collect();
    let mut table = String::from(
        "# Test data\n\nMade by `cargo xtask fixtures`, except `bench/` by `cargo xtask bench`, `fuzz/` and `fuzz.json` by `cargo xtask fuzz`, `soak.json` by `cargo xtask sim`, and `journals/`, which earlier versions of the store wrote. Do not edit. `hostile/verdicts.tsv` is written by hand.\n\n| file | content |\n|---|---|\n",
    );
    for Fixture { path, description, .. } in &fixtures {
        table.push_str(&format!("| `{path}` | {description} |\n"));
    }
    let files = fixtures.into_iter().map(|fixture| (fixture.path.into(), fixture.bytes));
    files.chain([("README.md".into(), table.into_bytes())]).collect()
}

/// The files and folders of other tasks.
const OTHER_FILES: &[&str] = &["bench", "fuzz", "fuzz.json", "journals", "soak.json"];

/// Returns the files that are missing, different or unknown.
fn wrong(folder: &Path, fixtures: &BTreeMap<PathBuf, Vec<u8>>) -> Result<Vec<String>> {
    let differs = |(path, bytes): &(&PathBuf, &Vec<u8>)| {
        fs::read(folder.join(path)).ok().as_ref() != Some(*bytes)
    };
    let mut wrong: Vec<String> =
        fixtures.iter().filter(differs).map(|(path, _)| path.display().to_string()).collect();
    for path in files_below(folder)? {
        let path = path.strip_prefix(folder).map_err(Error::other)?;
        if !fixtures.contains_key(path) && !OTHER_FILES.iter().any(|other| path.starts_with(other))
        {
            wrong.push(format!("{} (unknown)", path.display()));
        }
    }
    Ok(wrong)
}

/// Returns every file and link below `folder`.
///
/// # Errors
/// A folder cannot be read.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(files_below(&entry.path())?),
            false => found.push(entry.path()),
        }
    }
    Ok(found)
}
