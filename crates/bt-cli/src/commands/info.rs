//! `info`: shows what a torrent contains.

mod link;

use std::path::Path;

use metainfo::{FileEntry, Metainfo};
use serde_json::{Value, json};

use session::Description;

use crate::cli::InfoArgs;
use crate::failure::{CommandResult, Failure};
use crate::output::{Output, Style, TreeFile, clean, date, file_tree, size, size_exactly};
use crate::source::{self, Sources};
use crate::transfer::write_new;

pub(crate) fn run(arguments: &InfoArgs, output: &Output) -> CommandResult {
    let sources = Sources::of(&arguments.source, output);
    let torrent = &arguments.source.torrent;
    if arguments.offline {
        let Some(link) = source::link(torrent)? else {
            let message = "--offline is for magnet links: it shows what the link alone says";
            return Err(Failure::usage(message).with("argument", "--offline").into());
        };
        return output.result(|| link::object(&link), |style| link::text(&link, style));
    }
    let metainfo = match sources.describe(torrent)?.description {
        Description::Metainfo(metainfo) => metainfo,
        Description::Link(link) => link::fetch(&link, sources.saved, arguments, output)?,
    };
    if let Some(path) = &arguments.output {
        return save(&metainfo, path, output);
    }
    if let Some(offset) = metainfo.unsorted() {
        output.warn(&format!("keys are not sorted: the first out of order is at byte {offset}"));
    }
    output.result(|| object(&metainfo), |style| text(&metainfo, style))
}

/// Writes the `.torrent` file.
fn save(metainfo: &Metainfo, path: &Path, output: &Output) -> CommandResult {
    if path.as_os_str() == "-" {
        return output.bytes(metainfo.raw());
    }
    write_new(path, metainfo.raw())?;
    let (hash, path) = (metainfo.info_hash().to_string(), path.display().to_string());
    output.result(
        || json!({ "info_hash": hash, "output": path }),
        |_| format!("{}: saved as {}", clean(metainfo.info().name()), clean(&path)),
    )
}

fn object(metainfo: &Metainfo) -> Value {
    let info = metainfo.info();
    let geometry = info.geometry();
    let files: Vec<Value> = info.files().iter().map(file_object).collect();
    let mut object = json!({
        "name": info.name(),
        "info_hash": metainfo.info_hash().to_string(),
        "size": info.content_size(),
        "piece_length": geometry.piece_length(),
        "piece_count": geometry.piece_count(),
        "private": info.private(),
        "source": info.source(),
        "comment": metainfo.comment(),
        "created_by": metainfo.created_by(),
        "creation_date": metainfo.creation_date(),
        "trackers": metainfo.trackers(),
        "web_seeds": metainfo.web_seeds(),
        "files": files,
        "magnet": metainfo.magnet().to_string(),
    });
    if info.disk_name() != info.name() {
        object["disk_name"] = info.disk_name().into();
    }
    object
}

/// Paths are below the torrent's folder. `disk_path` is present only if it differs from `path`.
fn file_object(file: FileEntry<'_>) -> Value {
    let mut object = json!({ "path": file.original_path(), "length": file.length() });
    if file.path() != file.original_path() {
        object["disk_path"] = file.path().into();
    }
    if file.is_pad() {
        object["pad"] = true.into();
    }
    object
}

fn text(metainfo: &Metainfo, style: Style) -> String {
    let mut rows = facts(metainfo);
    for (index, tier) in metainfo.trackers().iter().enumerate() {
        let label = format!("tier {}", index + 1);
        rows.extend(listed(&label, tier));
    }
    let web_seeds: Vec<String> =
        metainfo.web_seeds().iter().map(|url| format!("{url} (not used yet)")).collect();
    rows.extend(listed("web seeds", &web_seeds));
    rows.push(("magnet".to_owned(), clean(&metainfo.magnet().to_string())));

    format!("{}\n\n{}", table(&rows, style), files(metainfo, style))
}

/// Returns the rows with their labels in a column.
fn table(rows: &[(String, String)], style: Style) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let lines = rows.iter().map(|(label, value)| {
        format!("{}{}  {value}", style.bold(label), " ".repeat(width - label.len()))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn facts(metainfo: &Metainfo) -> Vec<(String, String)> {
    let info = metainfo.info();
    let geometry = info.geometry();
    let pieces =
        format!("{} of {}", geometry.piece_count(), size(u64::from(geometry.piece_length())));
    let rows = [
        ("name", Some(clean(info.name()))),
        ("info-hash", Some(metainfo.info_hash().to_string())),
        ("size", Some(size_exactly(info.content_size()))),
        ("pieces", Some(pieces)),
        ("private", info.private().then(|| "yes: peers come from its trackers only".to_owned())),
        ("source", info.source().map(clean)),
        ("comment", metainfo.comment().map(clean)),
        ("created by", metainfo.created_by().map(clean)),
        ("created", metainfo.creation_date().map(date)),
    ];
    let known = |(label, value): (&str, Option<String>)| Some((label.to_owned(), value?));
    rows.into_iter().filter_map(known).filter(|(_, value)| !value.is_empty()).collect()
}

/// Returns a row per value, the first one with the label.
fn listed(label: &str, values: &[String]) -> impl Iterator<Item = (String, String)> {
    let labels = std::iter::once(label.to_owned()).chain(std::iter::repeat(String::new()));
    labels.zip(values.iter().map(|value| clean(value)))
}

fn files(metainfo: &Metainfo, style: Style) -> String {
    let info = metainfo.info();
    if info.is_single_file() {
        let length = size(info.content_size());
        return format!("{}  {length}", style.bold(clean(info.name())));
    }
    let files = info.files().iter().enumerate().filter(|(_, file)| !file.is_pad());
    let files = files.map(|(index, file)| TreeFile {
        path: file.original_path(),
        length: file.length(),
        note: style.dim(format!("#{index}")),
    });
    file_tree(info.name(), files, style)
}
