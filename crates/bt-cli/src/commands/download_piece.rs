//! `download_piece`: downloads one piece into a file of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bt_types::{PieceIndex, Sha1Digest};
use metainfo::Metainfo;
use serde_json::json;
use session::{AddTorrent, Goal, StoreLayout};

use crate::address;
use crate::cli::PieceArgs;
use crate::failure::{Class, Classify, CommandResult, Failure};
use crate::output::{Output, clean, count};
use crate::source::Sources;
use crate::transfer::{Torrent, Transfer, session_config};

pub(crate) fn run(arguments: &PieceArgs, output: &Output) -> CommandResult {
    let peers = address::resolve_all(&arguments.network.peers)?;
    let metainfo = Sources::of(&arguments.source, output).load(&arguments.source.torrent)?;
    let piece = piece(&metainfo, arguments.index)?;
    let target = Target::new(arguments, &metainfo, piece, output)?;
    if target.is_complete {
        return report(&metainfo, piece, &target, &[], output);
    }
    let mut order = AddTorrent::new(Arc::clone(&metainfo), target.folder());
    order.layout = StoreLayout::SinglePiece { piece, output: target.path.clone() };
    order.peers = peers;
    order.overwrite = arguments.overwrite;
    let stall = arguments.stall_timeout;
    order.goal = Some(Box::new(Goal {
        stop_when_complete: true,
        stall_timeout: (!stall.is_zero()).then_some(stall),
        give_up: true,
        ..Goal::default()
    }));

    let config = session_config(&arguments.network, &arguments.source.trust, None);
    let mut transfer = Transfer::start(config, output)?;
    transfer.print_no_results();
    transfer.add(&order)?;
    let done = transfer.run()?;
    let served: Vec<String> =
        done.iter().flat_map(Torrent::served_by).map(|peer| peer.to_string()).collect();
    report(&metainfo, piece, &target, &served, output)
}

fn piece(metainfo: &Metainfo, index: u32) -> Result<PieceIndex, Failure> {
    let geometry = metainfo.info().geometry();
    geometry.piece(index).ok_or_else(|| {
        let count = geometry.piece_count();
        let message = format!("expected a piece index below {count}, got {index}");
        Failure::usage(message).with("index", index).with("piece_count", count)
    })
}

fn report(
    metainfo: &Metainfo,
    piece: PieceIndex,
    target: &Target,
    peers: &[String],
    output: &Output,
) -> CommandResult {
    if target.temporary.is_some() {
        let bytes = fs::read(&target.path)
            .or_fail(Class::Disk, format!("cannot read {}", target.path.display()))?;
        return output.bytes(&bytes);
    }
    let (length, hash) = (metainfo.info().geometry().length_of(piece), expected(metainfo, piece));
    let path = target.path.display().to_string();
    output.result(
        || {
            json!({
                "index": piece.get(),
                "length": length,
                "sha1": hash.to_string(),
                "output": path,
                "peers": peers,
            })
        },
        |_| {
            let bytes = count(length, "byte", "bytes");
            format!("piece {piece}: {bytes}, sha1 {hash}: {}", clean(&path))
        },
    )
}

fn expected(metainfo: &Metainfo, piece: PieceIndex) -> Sha1Digest {
    metainfo.info().piece_hash(piece)
}

/// The file or standard output to which the piece is written.
struct Target {
    path: PathBuf,
    /// The folder for a piece that goes to standard output. Dropping it removes it.
    temporary: Option<tempfile::TempDir>,
    /// Whether the file already is this piece.
    is_complete: bool,
}

impl Target {
    fn new(
        arguments: &PieceArgs,
        metainfo: &Metainfo,
        piece: PieceIndex,
        output: &Output,
    ) -> Result<Self, Failure> {
        let path = &arguments.output;
        if path != "-" {
            let is_complete = check_file(path, arguments.overwrite, metainfo, piece)?;
            return Ok(Self { path: path.clone(), temporary: None, is_complete });
        }
        if output.json() {
            return Err(Failure::usage("expected -o FILE with --json: both want standard output"));
        }
        let folder = tempfile::Builder::new().prefix("bt-cli-").tempdir();
        let folder = folder.or_fail(
            Class::Disk,
            "cannot create a temporary folder (TMPDIR chooses another place)",
        )?;
        let path = folder.path().join("piece");
        Ok(Self { path, temporary: Some(folder), is_complete: false })
    }

    fn folder(&self) -> &Path {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }
}

/// Returns whether the file already is the piece.
///
/// # Errors
/// Disk if it is another file and `overwrite` is not set.
fn check_file(
    path: &Path,
    overwrite: bool,
    metainfo: &Metainfo,
    piece: PieceIndex,
) -> Result<bool, Failure> {
    let name = path.display();
    let Ok(found) = path.metadata() else { return Ok(false) };
    if found.is_dir() {
        let message = format!("expected a file to write to, got a folder: {name}");
        return Err(Failure::new(Class::Disk, message));
    }
    let length = u64::from(metainfo.info().geometry().length_of(piece));
    if found.is_file() && found.len() == length {
        let bytes = fs::read(path).or_fail(Class::Disk, format!("cannot read {name}"))?;
        if piece_hash::sha1(&bytes) == expected(metainfo, piece) {
            return Ok(true);
        }
    }
    if overwrite {
        Ok(false)
    } else {
        let message = format!(
            "{name} exists and is not this piece: replace it with --overwrite, or choose another file with -o"
        );
        Err(Failure::new(Class::Disk, message))
    }
}
