//! Which pieces bt-cli reported as verified, and which it requested after that.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::{Payload, ScriptedPeer};

use crate::bt_cli::json_lines;
use tasks::process::Launch;

/// How long the last bytes of a killed process may take to arrive.
const REST: Duration = Duration::from_secs(5);

/// Returns the pieces that a process reported as verified: in whole lines of JSON, and by HAVE. The
/// process has ended, or later reports do not matter.
pub(super) fn reported_pieces(launch: &Launch, seeders: &[ScriptedPeer]) -> BTreeSet<u32> {
    let output = launch.stdout();
    let pieces = json_lines(&output).filter(|value| value["event"] == "piece");
    let pieces = pieces.filter_map(|value| u32::try_from(value["index"].as_u64()?).ok());
    let told = seeders.iter().flat_map(|seeder| seeder.seen().haves);
    pieces.chain(told).collect()
}

/// Waits until the seeders have read everything that an ended process sent.
pub(super) fn wait_until_read(seeders: &[ScriptedPeer]) -> Result<()> {
    for seeder in seeders {
        let heard = seeder.wait_for(REST, |seen| seen.ended == seen.connections);
        ensure!(heard, "a connection outlives the process");
    }
    Ok(())
}

/// Checks that none of the pieces in `verified` was requested.
pub(super) fn check_not_requested(
    seeders: &[ScriptedPeer],
    verified: &BTreeSet<u32>,
) -> Result<()> {
    let asked: BTreeSet<u32> = seeders.iter().flat_map(requested).collect();
    let again: Vec<u32> = asked.intersection(verified).copied().collect();
    ensure!(again.is_empty(), "requested again although verified: pieces {again:?}");
    Ok(())
}

/// Returns the pieces that were requested.
pub(super) fn requested(seeder: &ScriptedPeer) -> BTreeSet<u32> {
    seeder.seen().requests.into_iter().map(|(piece, ..)| piece).collect()
}

/// Returns the pieces of the files with these numbers; of all files for `None`.
pub(super) fn pieces_of(payload: &Payload, files: Option<&[usize]>) -> BTreeSet<u32> {
    let piece_length = u64::from(payload.geometry().piece_length());
    let mut offset = 0;
    let mut pieces = BTreeSet::new();
    for (number, (_, length)) in payload.files().enumerate() {
        let end = offset + length;
        if length > 0 && files.is_none_or(|files| files.contains(&number)) {
            let last = (end - 1) / piece_length;
            pieces.extend(
                (offset / piece_length..=last).filter_map(|piece| u32::try_from(piece).ok()),
            );
        }
        offset = end;
    }
    pieces
}

/// Compares the files with these numbers and checks that no other one exists; `None` is all files.
pub(super) fn compare(payload: &Payload, folder: &Path, files: Option<&[usize]>) -> Result<()> {
    let Some(files) = files else { return Ok(payload.compare(folder)?) };
    for (number, (path, _)) in payload.files().enumerate() {
        let got = folder.join(&path);
        if !files.contains(&number) {
            ensure!(!got.exists(), "{} is unselected, but exists", path.display());
            continue;
        }
        let expected = fs::read(payload.folder_path().join(&path))?;
        let got = fs::read(&got).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(got == expected, "{} has wrong bytes", path.display());
    }
    Ok(())
}
