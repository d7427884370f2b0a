//! `create`: creates a .torrent file from a file or folder.

mod target;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use metainfo::{Builder, Metainfo};
use piece_store::create::{self, ListError, Listing};
use serde_json::json;

use self::target::Target;
use crate::cli::CreateArgs;
use crate::descriptors;
use crate::failure::{Class, Classify, CommandResult, Failure, chain};
use crate::identity::CLIENT_NAME;
use crate::output::{Meter, Output, Style, clean, size, size_exactly};

pub(crate) fn run(arguments: &CreateArgs, output: &Output) -> CommandResult {
    let workers = descriptors::resources()?.workers;
    let name = name(arguments)?;
    let target = Target::new(arguments, &name, output)?;
    let listing = list(&arguments.path, &target, output)?;
    let total = listing.files.iter().map(|file| file.length).sum();
    if total == 0 {
        let message = format!("{} has no data to share", arguments.path.display());
        return Err(Failure::usage(message).into());
    }
    let piece_length =
        arguments.piece_length.unwrap_or_else(|| metainfo::default_piece_length(total));
    let builder = builder(arguments, &name, &listing, piece_length)?;
    let meter = Meter::new(output, "hashing");
    let progress = |done, total| meter.set(done, total);
    let hashes =
        create::hash_files(&arguments.path, &listing.files, piece_length, workers, &progress)
            .map_err(|error| Failure::new(Class::Disk, chain(&error)))?;
    drop(meter);
    let metainfo = builder
        .build(&hashes)
        .map_err(|error| Failure::usage(format!("{name}: {}", chain(&error))))?;
    if arguments.trackers.is_empty() {
        output.warn(
            "the torrent names no tracker, so its peers cannot find each other; \
            add one with -t URL",
        );
    }
    let Some(path) = target.path() else { return output.bytes(metainfo.raw()) };
    target.write(metainfo.raw())?;
    output.result(|| object(path, &metainfo), |style| text(path, &metainfo, style))
}

/// Returns the torrent's name: the value of `--name`, else the name of the file or folder.
fn name(arguments: &CreateArgs) -> Result<String, Failure> {
    if let Some(name) = &arguments.name {
        return checked_name(name);
    }
    let path = &arguments.path;
    // The canonical path of `.` and `..` has a name.
    let full =
        fs::canonicalize(path).or_fail(Class::Disk, format!("cannot open {}", path.display()))?;
    let name = path.file_name().or_else(|| full.file_name());
    let name = name.ok_or_else(|| {
        Failure::usage(format!("cannot take a name from {path:?}; give one with --name"))
    })?;
    name.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::usage(format!("the name {name:?} is not UTF-8; give one with --name"))
    })
}

/// Returns `name`, or an error if no file or folder can have it.
fn checked_name(name: &str) -> Result<String, Failure> {
    match name {
        "" | "." | ".." => {}
        name if name.contains('/') => {}
        name => return Ok(name.to_owned()),
    }
    let message = format!("{name:?} cannot name a file or folder; give another --name");
    Err(Failure::usage(message))
}

/// Lists the files to share. Warns of files that are left out, and of links out of the folder.
fn list(root: &Path, target: &Target, output: &Output) -> Result<Listing, Failure> {
    let listing = create::list_files(root, &target.own_files()).map_err(|error| {
        let class = if let ListError::Disk(_) = error { Class::Disk } else { Class::Usage };
        Failure::new(class, chain(&error))
    })?;
    check_names(root, &listing)?;
    for path in &listing.skipped {
        let path = below(root, path);
        let path = path.display();
        output.warn_also_quiet(&format!("left out: {path} is a socket, a pipe or a device"));
    }
    warn_of_own_files(root, &listing, target, output);
    for link in &listing.links_out {
        let (path, target) = (below(root, &link.path), link.target.display());
        output.warn(&format!("follows a link out of the folder: {} -> {target}", path.display()));
    }
    Ok(listing)
}

/// Returns the path of a listed file as the user knows it. An empty `path` means `root` itself.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.components().chain(path.components()).collect()
}

fn warn_of_own_files(root: &Path, listing: &Listing, target: &Target, output: &Output) {
    let warning = |path: &Path| format!("left out: its own output {}", path.display());
    for path in &listing.own {
        output.warn_also_quiet(&warning(&below(root, path)));
    }
    // A new output is not in the listing yet.
    if let Some(path) = target.path()
        && listing.own.is_empty()
        && target.is_below(root)
    {
        output.warn(&warning(path));
    }
}

/// Refuses names that are not UTF-8, which BEP 3 requires.
fn check_names(root: &Path, listing: &Listing) -> Result<(), Failure> {
    let mut bad = listing.files.iter().filter(|file| file.path.to_str().is_none());
    let Some(first) = bad.next() else { return Ok(()) };
    let others = match bad.count() {
        0 => String::new(),
        count => format!(" (and {count} more)"),
    };
    let path = below(root, &first.path);
    Err(Failure::usage(format!("the name of {path:?} is not UTF-8{others}: rename it")))
}

fn builder(
    arguments: &CreateArgs,
    name: &str,
    listing: &Listing,
    piece_length: u32,
) -> Result<Builder, Failure> {
    let mut builder = Builder::new(name).piece_length(piece_length).private(arguments.private);
    for file in &listing.files {
        builder = builder.file(file.path.as_os_str().as_encoded_bytes(), file.length);
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
        builder = builder.created_by(CLIENT_NAME).creation_date(now.as_secs() as i64);
    }
    Ok(builder)
}

/// Returns one tier per flag. Commas separate its trackers.
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
    let expected = schemes.join("://, ");
    good.then(|| url.to_owned()).ok_or_else(|| {
        let got = tracker_http::shorten_url(url);
        Failure::usage(format!("expected a URL that begins with {expected}://, got {got:?}"))
    })
}

fn object(path: &Path, metainfo: &Metainfo) -> serde_json::Value {
    let geometry = metainfo.info().geometry();
    json!({
        "output": path.display().to_string(),
        "info_hash": metainfo.info_hash().to_string(),
        "magnet": metainfo.magnet().to_string(),
        "size": metainfo.info().content_size(),
        "piece_length": geometry.piece_length(),
        "piece_count": geometry.piece_count(),
    })
}

fn text(path: &Path, metainfo: &Metainfo, style: Style) -> String {
    let geometry = metainfo.info().geometry();
    let rows = [
        ("output", clean(&path.display().to_string())),
        ("info-hash", metainfo.info_hash().to_string()),
        ("size", size_exactly(metainfo.info().content_size())),
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
