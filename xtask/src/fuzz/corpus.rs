//! The corpora in `testdata/fuzz`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::Fuzzer;
use tasks::process::Launch;
use tasks::workspace::root;

/// The most bytes of unnamed inputs that one corpus keeps. For 20 targets that is a megabyte.
const MAX_CORPUS: usize = 50 * 1000;
/// How long libFuzzer may take to minimise one corpus.
const TIME_LIMIT: std::time::Duration = std::time::Duration::from_secs(1800);

/// Returns every target: each has a folder.
pub(super) fn targets() -> Result<Vec<String>> {
    let folder = root().join("testdata/fuzz");
    let entries = fs::read_dir(&folder).context("no testdata/fuzz")?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Returns the folder of a target's committed inputs.
pub(super) fn committed(target: &str) -> PathBuf {
    root().join("testdata/fuzz").join(target)
}

/// Keeps the fewest inputs that reach as much code as all known ones, the shortest first, and the
/// named inputs.
pub(super) fn minimise(fuzzer: &Fuzzer, target: &str) -> Result<()> {
    let (committed, working) = (committed(target), fuzzer.working_corpus(target)?);
    let merged = tempfile::tempdir()?;
    let mut command = fuzzer.command(target);
    // Counting how often an edge was reached would keep many inputs that add little.
    command.args(["-set_cover_merge=1", "-use_counters=0"]);
    command.arg(merged.path()).arg(&committed).arg(&working);
    let mut launch = Launch::start(target, &command, &fuzzer.folder.join("logs"))?;
    let status = launch.wait(TIME_LIMIT)?;
    ensure!(status.success(), "{target} cannot be minimised: {}", launch.output_tail());

    let (named, hashed): (Vec<_>, Vec<_>) =
        inputs(&committed)?.into_iter().partition(|(path, _)| has_name(path));
    hashed.iter().try_for_each(|(path, _)| fs::remove_file(path))?;
    let named: BTreeSet<Vec<u8>> = named.into_iter().map(|(_, bytes)| bytes).collect();
    let mut found = inputs(merged.path())?;
    found.retain(|(_, bytes)| !named.contains(bytes));
    found.sort_by_key(|(path, bytes)| (bytes.len(), path.clone()));
    let (mut count, mut total) = (0, 0);
    for (path, bytes) in &found {
        total += bytes.len();
        if total > MAX_CORPUS {
            break;
        }
        fs::write(committed.join(path.file_name().context("a file has a name")?), bytes)?;
        count += 1;
    }
    println!("{target:<16} {} inputs with a name, {count} of {}", named.len(), found.len());
    Ok(())
}

fn inputs(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry?.path();
        let bytes = fs::read(&path)?;
        Ok((path, bytes))
    };
    fs::read_dir(folder)?.map(read).collect()
}

/// Whether a person named the file: libFuzzer uses the SHA-1 of its content.
fn has_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.len() != 40 || !name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
