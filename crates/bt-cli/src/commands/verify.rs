//! `verify`: what of a torrent's data on the disk is right.

use std::path::Path;
use std::sync::Arc;

use metainfo::Metainfo;
use piece_store::check::{self, Report};
use serde_json::{Value, json};

use crate::cli::VerifyArgs;
use crate::failure::{Class, Failure, Outcome, chain};
use crate::output::{Meter, Output, Style, clean};
use crate::source;
use crate::transfer::check_folder;

/// How many bad pieces and files are named to a person.
const SHOWN: usize = 20;

pub(crate) fn run(arguments: &VerifyArgs, output: &Output) -> Outcome {
    let metainfo = Arc::new(source::load(&arguments.source)?);
    let dir = &arguments.dir;
    if !dir.exists() {
        return Err(Failure::new(Class::Disk, format!("no such folder: {}", dir.display())).into());
    }
    check_folder(&metainfo, dir)?;
    let report = verify(&metainfo, dir, output)?;
    output.result(|| object(&metainfo, &report), |style| text(&metainfo, &report, style))?;
    if report.good.is_full() { Ok(()) } else { Err(incomplete(&metainfo, &report).into()) }
}

fn verify(metainfo: &Arc<Metainfo>, dir: &Path, output: &Output) -> Result<Report, Failure> {
    let meter = Meter::new(output, "verifying");
    let progress = |done, total| meter.set(done, total);
    check::verify_folder(metainfo, dir, 0, &progress)
        .map_err(|error| Failure::new(Class::Disk, chain(&error)))
}

fn incomplete(metainfo: &Metainfo, report: &Report) -> Failure {
    let (bad, total) = (bad(metainfo, report).len(), metainfo.info().geometry().piece_count());
    let message =
        format!("{bad} of {total} pieces are bad or missing; bt-cli download fetches them again");
    Failure::new(Class::BadData, message)
}

fn bad(metainfo: &Metainfo, report: &Report) -> Vec<u32> {
    let pieces = metainfo.info().geometry().pieces();
    pieces.filter(|piece| !report.good.contains(*piece)).map(|piece| piece.get()).collect()
}

fn object(metainfo: &Metainfo, report: &Report) -> Value {
    let entries = metainfo.info().files().iter().zip(&report.files);
    let files = entries
        .filter(|(file, _)| !file.is_pad())
        .map(|(file, report)| json!({ "path": file.original_path(), "ok": report.ok }));
    json!({
        "info_hash": metainfo.info_hash().to_string(),
        "ok": report.good.is_full(),
        "pieces_ok": report.good.count(),
        "pieces_total": report.good.pieces(),
        "bad": bad(metainfo, report),
        "files": files.collect::<Vec<_>>(),
    })
}

fn text(metainfo: &Metainfo, report: &Report, style: Style) -> String {
    let name = clean(metainfo.info().name());
    let (good, total) = (report.good.count(), report.good.pieces());
    let summary = format!("{name}: {good} of {total} pieces are good");
    if report.good.is_full() {
        return style.green(summary);
    }
    let entries = metainfo.info().files().iter().zip(&report.files);
    let wrong: Vec<String> = entries
        .filter(|(file, report)| !file.is_pad() && !report.ok)
        .map(|(file, _)| format!("  {}", clean(file.original_path())))
        .collect();
    let pieces: Vec<String> = bad(metainfo, report).iter().map(ToString::to_string).collect();
    let mut lines = vec![style.yellow(summary)];
    lines.push(format!("bad pieces: {}{}", shown(&pieces, " "), more(&pieces)));
    lines.push(format!("incomplete files:\n{}{}", shown(&wrong, "\n"), more(&wrong)));
    lines.join("\n")
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
