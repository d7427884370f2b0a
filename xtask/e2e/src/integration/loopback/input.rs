//! Bad input of every kind: the exit code of its class and a message; nothing is lost.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use testkit::{Behaviour, Script};

use super::Case;
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::integration::scene::{Scene, file, text, write};
use tasks::workspace;

pub(super) const CASES: &[Case] = &[
    ("good torrents", good_torrents),
    ("no such file", no_such_file),
    ("wrong usage", wrong_usage),
    ("a folder that cannot be written", unwritable),
    ("handshakes that fail", handshakes),
    ("the data instead of its folder", content_as_folder),
];

fn good_torrents(scene: &Scene) -> Result<()> {
    for torrent in torrents("testdata")? {
        let finished = scene.run("user", &["info", text(&torrent)?])?;
        finished.expect(0).with_context(|| torrent.display().to_string())?;
        let hash = finished.lines[0]["info_hash"].as_str().map(str::len);
        ensure!(hash == Some(40), "{}: {}", torrent.display(), finished.lines[0]);
    }
    Ok(())
}

fn torrents(folder: &str) -> Result<Vec<std::path::PathBuf>> {
    let files = fs::read_dir(workspace::root().join(folder)).context("no test data")?;
    let paths = files.flatten().map(|file| file.path());
    let torrents: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "torrent")).collect();
    ensure!(torrents.len() > 5, "only {} torrents in {folder}", torrents.len());
    Ok(torrents)
}

fn no_such_file(scene: &Scene) -> Result<()> {
    let missing = scene.path("missing.torrent");
    for command in ["info", "download", "peers", "scrape"] {
        let finished = scene.run("user", &[command, text(&missing)?])?;
        finished.expect(6).with_context(|| command.to_owned())?;
        finished.expect_text("missing.torrent")?;
    }
    Ok(())
}

fn wrong_usage(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(8))?;
    let torrent = text(payload.torrent_path())?;
    let output = scene.path("piece");
    let output = text(&output)?;
    for arguments in [
        &["download_piece", torrent, "2", "-o", output][..],
        &["download_piece", torrent, "-1", "-o", output],
        &["download_piece", torrent, "x", "-o", output],
        &["handshake", torrent, "nonsense"],
        &["handshake", torrent, "127.0.0.1:99999"],
        &["handshake", torrent, "127.0.0.1"],
        &["download", torrent, "--peer", "127.0.0.1:x"],
        &["download", torrent, "--port", "70000"],
        &["download", torrent, "--max-memory", "1M"],
        &["download", torrent, "--files", "99"],
        &["download"],
        &["no-such-command"],
    ] {
        let finished = scene.run("user", arguments)?;
        finished.expect(2).with_context(|| format!("{arguments:?}"))?;
    }
    Ok(())
}

/// Root ignores mode bits, so the folder is below a regular file.
fn unwritable(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(8))?;
    let seeder = Script::seeder(&payload).listen();
    let address = seeder.address().to_string();
    write(&scene.path("user"), "file", b"x")?;
    let folder = scene.path("user/file/folder");
    let folder = text(&folder)?;
    let torrent = text(payload.torrent_path())?;
    let finished = scene.run("user", &["download", torrent, "-o", folder, "--peer", &address])?;
    finished.expect(6)?;
    let output = format!("{folder}/piece");
    let piece = ["download_piece", torrent, "0", "-o", &output, "--peer", &address];
    scene.run("user", &piece)?.expect(6)?;
    let data = payload.folder_path().join(payload.name());
    let create = ["create", text(&data)?, "-o", &format!("{folder}/x.torrent")];
    scene.run("user", &create)?.expect(6)
}

/// No peer, another torrent, garbage, silence: exit code 4 within the timeout.
fn handshakes(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(8))?;
    let torrent = text(payload.torrent_path())?;
    let nobody = crate::integration::scene::free_address()?.to_string();
    scene.run("user", &["handshake", torrent, &nobody, "--timeout", "2"])?.expect(4)?;
    for behaviour in [Behaviour::WrongInfoHash, Behaviour::Garbage, Behaviour::Silent] {
        let peer = Script::seeder(&payload).behaviour(behaviour).listen();
        let address = peer.address().to_string();
        let finished = scene.run("user", &["handshake", torrent, &address, "--timeout", "2"])?;
        finished.expect(4).with_context(|| format!("{behaviour:?}"))?;
    }
    Ok(())
}

/// DIR is the folder that contains the torrent's name. Given the data itself, bt-cli says so.
fn content_as_folder(scene: &Scene) -> Result<()> {
    let payload = scene.payload(crate::integration::scene::tree())?;
    let content = payload.folder_path().join(payload.name());
    let mut command = scene.user("user").command(["verify"]);
    command.arg(payload.torrent_path()).arg(&content).arg("--json");
    let mut launch = scene.user("user").start("verify", &command)?;
    let finished = finish(&mut launch, COMMAND_LIMIT)?;
    ensure!(finished.code != 0, "it verified something");
    finished.expect_text(text(payload.folder_path())?)
}
