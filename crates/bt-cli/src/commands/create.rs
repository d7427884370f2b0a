//! `create`: a .torrent file of a file or folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use metainfo::{Builder, Metainfo};
use piece_store::create::{self, Listing};
use serde_json::json;
use session::USER_AGENT;

use crate::cli::CreateArgs;
use crate::failure::{Class, Classify, Failure, Outcome, chain};
use crate::output::{Meter, Output, Style, clean, size, size_exactly};

pub(crate) fn run(arguments: &CreateArgs, output: &Output) -> Outcome {
    let name = name(arguments)?;
    let target = Target::new(arguments, &name, output)?;
    let listing = create::list_files(&arguments.path)
        .map_err(|error| Failure::new(Class::Disk, chain(&error)))?;
    for skipped in &listing.skipped {
        output.warn(&format!("left out, neither file nor folder: {}", skipped.display()));
    }
    let total = listing.files.iter().map(|file| file.length).sum();
    if total == 0 {
        let message =
            format!("expected some data to share, got none: {}", arguments.path.display());
        return Err(Failure::usage(message).into());
    }
    let piece_length =
        arguments.piece_length.unwrap_or_else(|| metainfo::default_piece_length(total));
    let builder = builder(arguments, &name, &listing, piece_length)?;
    let meter = Meter::new(output, "hashing");
    let progress = |done, total| meter.set(done, total);
    let hashes = create::hash_files(&arguments.path, &listing.files, piece_length, 0, &progress)
        .map_err(|error| Failure::new(Class::Disk, chain(&error)))?;
    drop(meter);
    let metainfo = builder
        .build(&hashes)
        .map_err(|error| Failure::usage(format!("{name}: {}", chain(&error))))?;
    target.write(&metainfo, output)
}

/// What the torrent is called: as asked for, else as the file or folder.
fn name(arguments: &CreateArgs) -> Result<String, Failure> {
    if let Some(name) = &arguments.name {
        return Ok(name.clone());
    }
    let path = &arguments.path;
    // `.` and `..` have a name too.
    let full =
        fs::canonicalize(path).or_fail(Class::Disk, format!("cannot open {}", path.display()))?;
    let name = path.file_name().or_else(|| full.file_name());
    let name = name.ok_or_else(|| Failure::usage("expected a name for the torrent: --name"))?;
    name.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::usage(format!("{name:?} is not UTF-8; choose a name for the torrent with --name"))
    })
}

fn builder(
    arguments: &CreateArgs,
    name: &str,
    listing: &Listing,
    piece_length: u32,
) -> Result<Builder, Failure> {
    let mut builder = Builder::new(name).piece_length(piece_length).private(arguments.private);
    if arguments.path.is_file() {
        builder = builder.length(listing.files.iter().map(|file| file.length).sum());
    } else {
        for file in &listing.files {
            builder = builder.file(file.path.as_os_str().as_encoded_bytes(), file.length);
        }
    }
    builder = builder.trackers(tiers(&arguments.trackers)?);
    for seed in &arguments.web_seeds {
        builder = builder.web_seed(checked_url(seed, &["http", "https", "ftp"])?);
    }
    if let Some(source) = &arguments.source {
        builder = builder.source(source);
    }
    if let Some(comment) = &arguments.comment {
        builder = builder.comment(comment);
    }
    if !arguments.no_date {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        builder = builder.created_by(USER_AGENT).creation_date(now.as_secs() as i64);
    }
    Ok(builder)
}

/// One tier a flag, its trackers separated by commas.
fn tiers(flags: &[String]) -> Result<Vec<Vec<String>>, Failure> {
    let tier = |flag: &String| flag.split(',').map(|url| tracker(url.trim())).collect();
    flags.iter().map(tier).collect()
}

fn tracker(url: &str) -> Result<String, Failure> {
    let checked = checked_url(url, &["http", "https", "udp"])?;
    if url.to_ascii_lowercase().starts_with("udp:") {
        tracker_udp::parse_url(url).map_err(|error| Failure::usage(chain(&error)))?;
    }
    Ok(checked)
}

fn checked_url(url: &str, schemes: &[&str]) -> Result<String, Failure> {
    let parsed = url::Url::parse(url).ok();
    let good = parsed.is_some_and(|parsed| schemes.contains(&parsed.scheme()) && parsed.has_host());
    let expected = schemes.join(", ");
    good.then(|| url.to_owned())
        .ok_or_else(|| Failure::usage(format!("expected a URL of {expected}, got {url:?}")))
}

/// Where the torrent goes.
enum Target {
    Stdout,
    File(PathBuf),
}

impl Target {
    /// Refused before any work is done, if it can't be.
    fn new(arguments: &CreateArgs, name: &str, output: &Output) -> Result<Self, Failure> {
        let path = match &arguments.output {
            Some(path) if path == "-" && output.json() => {
                return Err(Failure::usage(
                    "expected -o FILE with --json: both want standard output",
                ));
            }
            Some(path) if path == "-" => return Ok(Self::Stdout),
            Some(path) => path.clone(),
            None => PathBuf::from(format!("{name}.torrent")),
        };
        if path.is_dir() {
            let message = format!("expected a file to write to, got a folder: {}", path.display());
            return Err(Failure::new(Class::Disk, message));
        }
        if path.exists() && !arguments.overwrite {
            let message = format!("{} exists; --overwrite replaces it", path.display());
            return Err(Failure::new(Class::Disk, message));
        }
        Ok(Self::File(path))
    }

    fn write(&self, metainfo: &Metainfo, output: &Output) -> Outcome {
        let Self::File(path) = self else { return output.bytes(metainfo.raw()) };
        write_whole(path, metainfo.raw())
            .or_fail(Class::Disk, format!("cannot write {}", path.display()))?;
        output.result(|| object(path, metainfo), |style| text(path, metainfo, style))
    }
}

/// All of it or nothing: under another name first.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // It was ours, and it is of no use.
        drop(fs::remove_file(&part));
    }
    written
}

fn object(path: &Path, metainfo: &Metainfo) -> serde_json::Value {
    let geometry = metainfo.info().geometry();
    json!({
        "output": path.display().to_string(),
        "info_hash": metainfo.info_hash().to_string(),
        "magnet": metainfo.magnet().to_string(),
        "size": geometry.total(),
        "piece_length": geometry.piece_length(),
        "piece_count": geometry.piece_count(),
    })
}

fn text(path: &Path, metainfo: &Metainfo, style: Style) -> String {
    let geometry = metainfo.info().geometry();
    let rows = [
        ("output", clean(&path.display().to_string())),
        ("info-hash", metainfo.info_hash().to_string()),
        ("size", size_exactly(geometry.total())),
        (
            "pieces",
            format!("{} of {}", geometry.piece_count(), size(u64::from(geometry.piece_length()))),
        ),
        ("magnet", clean(&metainfo.magnet().to_string())),
    ];
    let line =
        |(label, value): (&str, String)| format!("{}  {value}", style.bold(format!("{label:9}")));
    rows.into_iter().map(line).collect::<Vec<_>>().join("\n")
}
