//! `verify`: checks a torrent's data on the disk.

use std::path::PathBuf;
use std::sync::Arc;

use metainfo::{FileEntry, Metainfo, PieceIndex};
use piece_store::check::{self, FileReport, Report};
use serde_json::{Value, json};

use crate::cli::VerifyArgs;
use crate::content::{check_folder, missing_content};
use crate::descriptors;
use crate::failure::{Class, CommandResult, Failure, chain};
use crate::output::{Meter, Output, Style, clean, count};
use crate::saved::SavedTorrents;
use crate::source::Sources;
use crate::transfer::state_dir;

/// How many bad pieces and files people are shown.
const SHOWN: usize = 20;

pub(crate) fn run(arguments: &VerifyArgs, output: &Output) -> CommandResult {
    let metainfo = sources(arguments, output).load(&arguments.source.torrent)?;
    let dir = &arguments.dir;
    check_folder(&metainfo, dir)?;
    let missing = missing_content(&metainfo, dir);
    let missing = missing.map(|message| Failure::new(Class::BadData, message));
    if let Some(failure) = missing.clone().filter(|_| !output.json()) {
        return Err(failure.into());
    }
    let report = verify(&metainfo, arguments, output)?;
    output.result(|| object(&metainfo, &report), |style| text(&metainfo, &report, style))?;
    if is_ok(&metainfo, &report) {
        return Ok(());
    }
    Err(missing.unwrap_or_else(|| incomplete(&metainfo, &report)).into())
}

fn sources<'a>(arguments: &'a VerifyArgs, output: &'a Output) -> Sources<'a> {
    let saved = SavedTorrents::new(state_dir(&arguments.state).as_deref());
    Sources { ca_file: arguments.source.trust.ca_file.as_deref(), saved, output }
}

fn verify(
    metainfo: &Arc<Metainfo>,
    arguments: &VerifyArgs,
    output: &Output,
) -> Result<Report, Failure> {
    let resources = descriptors::resources()?;
    let meter = Meter::new(output, "verifying");
    let progress = |done, total| meter.set(done, total);
    // `None` without a home folder. Then verify uses no record.
    let state_dir = state_dir(&arguments.state);
    check::verify_folder(metainfo, &arguments.dir, state_dir.as_deref(), resources, &progress)
        .map_err(|error| Failure::new(Class::Disk, chain(&error)))
}

/// Whether every piece is good and every file has its length. A file may be too long, or an empty
/// file missing, although all pieces are good.
fn is_ok(metainfo: &Metainfo, report: &Report) -> bool {
    let mut files = metainfo.info().files().iter().zip(&report.files);
    report.good.is_full() && files.all(|(file, report)| file.is_pad() || report.ok)
}

fn incomplete(metainfo: &Metainfo, report: &Report) -> Failure {
    let (bad, total) = (bad(metainfo, report).len(), report.good.pieces());
    let message = match bad {
        0 => "all pieces are good, but some files have the wrong length".to_owned(),
        _ => {
            let option = if report.corrected.is_err() { " --no-resume" } else { "" };
            let them = if bad == 1 { "it" } else { "them" };
            let total = count(total, "piece", "pieces");
            let are = if bad == 1 { "is" } else { "are" };
            format!(
                "{bad} of {total} {are} bad or missing; bt-cli download{option} fetches {them} again"
            )
        }
    };
    let failure = Failure::new(Class::BadData, message);
    match &report.corrected {
        Ok(_) => failure,
        Err(error) => {
            let cause =
                format!("the record of verified pieces could not be corrected: {}", chain(error));
            failure.because([cause])
        }
    }
}

fn bad(metainfo: &Metainfo, report: &Report) -> Vec<u32> {
    let pieces = metainfo.info().geometry().pieces();
    pieces.filter(|piece| !report.good.contains(*piece)).map(PieceIndex::get).collect()
}

fn object(metainfo: &Metainfo, report: &Report) -> Value {
    let entries = metainfo.info().files().iter().zip(&report.files);
    let single = metainfo.info().is_single_file();
    let files = entries
        .filter(|(file, _)| !file.is_pad())
        .map(|(file, report)| file_object(file, report, single));
    json!({
        "info_hash": metainfo.info_hash().to_string(),
        "ok": is_ok(metainfo, report),
        "pieces_ok": report.good.count(),
        "pieces_total": report.good.pieces(),
        "bad": bad(metainfo, report),
        "files": files.collect::<Vec<_>>(),
    })
}

/// Paths are below the torrent's folder. `disk_path` is present only if it differs from `path`.
fn file_object(file: FileEntry<'_>, report: &FileReport, single: bool) -> Value {
    let mut object = json!({ "path": file.original_path(), "ok": report.ok });
    let below: PathBuf = report.path.iter().skip(usize::from(!single)).collect();
    let below = below.to_string_lossy();
    if below != file.original_path() {
        object["disk_path"] = below.into();
    }
    object
}

fn text(metainfo: &Metainfo, report: &Report, style: Style) -> String {
    let name = clean(metainfo.info().name());
    let (good, total) = (report.good.count(), report.good.pieces());
    let summary = format!("{name}: {good} of {} good", count(total, "piece is", "pieces are"));
    if is_ok(metainfo, report) {
        return style.green(summary);
    }
    let mut lines = vec![style.yellow(summary)];
    let pieces: Vec<String> = bad(metainfo, report).iter().map(ToString::to_string).collect();
    if !pieces.is_empty() {
        lines.push(format!("bad pieces: {}{}", shown(&pieces, " "), more(&pieces)));
    }
    let entries = metainfo.info().files().iter().zip(&report.files);
    let files: Vec<String> = entries
        .filter(|(file, found)| !file.is_pad() && !found.ok)
        .map(|(file, found)| {
            let flaw = flaw(found, may_be_good(metainfo, report, file));
            format!("  {}: {flaw}", clean(file.original_path()))
        })
        .collect();
    lines.push(format!("incomplete files:\n{}{}", shown(&files, "\n"), more(&files)));
    lines.join("\n")
}

/// Whether every bad piece of the file also has bytes of an incomplete file. This is usual after a
/// download of selected files: such pieces do not show whether this file is good.
fn may_be_good(metainfo: &Metainfo, report: &Report, file: FileEntry<'_>) -> bool {
    let info = metainfo.info();
    let is_incomplete = |number: usize| {
        let is_pad = info.file(number).is_some_and(FileEntry::is_pad);
        !is_pad && report.files[number].found != Some(report.files[number].length)
    };
    let piece_length = u64::from(info.geometry().piece_length());
    let end = (file.offset() + file.length()).div_ceil(piece_length);
    let pieces = (file.offset() / piece_length..end).filter_map(|number| {
        u32::try_from(number).ok().and_then(|number| info.geometry().piece(number))
    });
    let mut bad = pieces.filter(|piece| !report.good.contains(*piece));
    bad.all(|piece| info.file_ranges(piece).any(|range| is_incomplete(range.file)))
}

fn flaw(report: &FileReport, may_be_good: bool) -> String {
    match report.found {
        None => "missing".to_owned(),
        Some(found) if found != report.length => {
            format!("expected {}, got {found}", count(report.length, "byte", "bytes"))
        }
        Some(_) if may_be_good => {
            "not certain: the pieces it shares with missing files cannot be checked".to_owned()
        }
        Some(_) => "bad data".to_owned(),
    }
}

fn shown(items: &[String], separator: &str) -> String {
    items[..items.len().min(SHOWN)].join(separator)
}

fn more(items: &[String]) -> String {
    match items.len().saturating_sub(SHOWN) {
        0 => String::new(),
        count => format!("\n  .. and {count} more"),
    }
}
