//! Every command, with JSON output.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testkit::{HttpTracker, Payload, PeerId, Script, sha1};

use super::Case;
use crate::integration::scene::{Scene, file, text, tree, write};

pub(super) const CASES: &[Case] = &[
    ("decode", decode),
    ("info", info),
    ("peers and scrape", peers_and_scrape),
    ("handshake", handshake),
    ("download_piece", download_piece),
    ("create, then use the torrent", create),
    ("verify", verify),
    ("torrent from a URL", from_a_url),
    ("text for people", text_for_people),
];

fn decode(scene: &Scene) -> Result<()> {
    for (input, expected) in [
        ("d3:cow3:moo4:spaml1:a1:bee", json!({ "cow": "moo", "spam": ["a", "b"] })),
        ("i-42e", json!(-42)),
        ("3:\u{7f}ab", json!("\u{7f}ab")),
        ("le", json!([])),
        ("d5:peers6:abcdefe", json!({ "peers": { "hex": "616263646566" } })),
    ] {
        let got = scene.user("user").json("decode", ["decode", input])?;
        ensure!(got == expected, "{input} is {got}, not {expected}");
    }
    for input in ["i042e", "i-0e", "5:abc", "d1:b0:1:b0:e"] {
        scene.run("user", &["decode", input])?.expect(3)?;
    }
    Ok(())
}

fn info(scene: &Scene) -> Result<()> {
    let payload =
        scene.payload(tree().private().tier(["http://a.example/", "http://b.example/"]))?;
    let info = scene.user("user").json("info", ["info", text(payload.torrent_path())?])?;
    let files: Vec<Value> =
        payload.files().map(|(path, length)| json!([path.to_string_lossy(), length])).collect();
    let got: Vec<Value> = info["files"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|file| json!([file["path"], file["length"]]))
        .collect();
    // Paths may be printed with or without the torrent's name.
    let short: Vec<Value> = files
        .iter()
        .map(|file| {
            let path = file[0].as_str().and_then(|path| path.strip_prefix("tree/"));
            json!([path, file[1]])
        })
        .collect();
    ensure!(got == files || got == short, "files are {}", info["files"]);
    for (key, expected) in [
        ("name", json!("tree")),
        ("info_hash", json!(payload.info_hash().to_string())),
        ("size", json!(payload.geometry().total())),
        ("piece_length", json!(65536)),
        ("piece_count", json!(payload.geometry().piece_count())),
        ("private", json!(true)),
        ("trackers", json!([["http://a.example/", "http://b.example/"]])),
        ("web_seeds", json!([])),
    ] {
        ensure!(info[key] == expected, "{key} is {}, not {expected}", info[key]);
    }
    let magnet = info["magnet"].as_str().unwrap_or_default();
    let topic = format!("xt=urn:btih:{}", payload.info_hash());
    ensure!(magnet.contains(&topic), "the magnet link is {magnet}");
    Ok(())
}

fn peers_and_scrape(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(8).tracker(tracker.url()))?;
    let _seeder = scene.seed("seeder", &payload, &tracker)?;
    let port = tracker.announces()[0].port;
    let torrent = text(payload.torrent_path())?;
    let peers = scene.user("user").json("peers", ["peers", torrent])?;
    ensure!(peers["peers"] == json!([format!("127.0.0.1:{port}")]), "peers are {peers}");
    ensure!(peers["trackers"][0]["seeders"] == 1, "trackers are {}", peers["trackers"]);
    ensure!(peers["trackers"][0]["interval"] == 1800, "trackers are {}", peers["trackers"]);
    let scrape = scene.user("user").json("scrape", ["scrape", torrent])?;
    ensure!(scrape["info_hash"] == payload.info_hash().to_string().as_str(), "{scrape}");
    ensure!(scrape["trackers"][0]["seeders"] == 1, "scrape says {scrape}");
    Ok(())
}

fn handshake(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(8))?;
    let id = PeerId(*b"-TK0100-scripted0000");
    let peer = Script::seeder(&payload).peer_id(id).fast().client("testkit 1").listen();
    let address = peer.address().to_string();
    let torrent = text(payload.torrent_path())?;
    let said = scene.user("user").json("handshake", ["handshake", torrent, &address])?;
    ensure!(said["address"] == address.as_str(), "{said}");
    ensure!(said["info_hash"] == payload.info_hash().to_string().as_str(), "{said}");
    ensure!(said["peer_id"] == id.to_string().as_str(), "{said}");
    ensure!(said["reserved"] == "0000000000100004", "{said}");
    ensure!(said["extensions"].is_array(), "{said}");
    Ok(())
}

fn download_piece(scene: &Scene) -> Result<()> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(tree().tracker(tracker.url()))?;
    let _seeder = scene.seed("seeder", &payload, &tracker)?;
    let last = payload.geometry().piece_count() - 1;
    let output = scene.path("piece");
    for index in [0, last] {
        let number = index.to_string();
        let torrent = text(payload.torrent_path())?;
        let arguments = ["download_piece", torrent, &number, "-o", text(&output)?, "--overwrite"];
        let arguments = arguments.into_iter().chain(["--port", "0", "--bind", "127.0.0.1"]);
        let said = scene.user("user").json("download_piece", arguments)?;
        let start = index as usize * 65536;
        let data = payload.data();
        let expected = &data[start..data.len().min(start + 65536)];
        ensure!(fs::read(&output)? == expected, "piece {index} has wrong bytes");
        ensure!(said["index"] == index && said["length"] == expected.len(), "{said}");
        ensure!(said["sha1"] == sha1(expected).to_string().as_str(), "{said}");
    }
    Ok(())
}

/// Our own torrent of the data has the info-hash of the hand-written one.
fn create(scene: &Scene) -> Result<()> {
    let payload = scene.payload(tree())?;
    let data = payload.folder_path().join("tree");
    let output = scene.path("ours.torrent");
    let arguments = ["create", text(&data)?, "-o", text(&output)?, "--piece-length", "64K"];
    let arguments = arguments.into_iter().chain(["-t", "http://127.0.0.1:1/announce"]);
    let made = scene.user("user").json("create", arguments)?;
    let info = scene.user("user").json("info", ["info", text(&output)?])?;
    ensure!(made["info_hash"] == info["info_hash"], "create: {made}, info: {info}");
    ensure!(made["size"] == payload.geometry().total(), "{made}");
    ensure!(made["piece_count"] == payload.geometry().piece_count(), "{made}");
    ensure!(info["trackers"] == json!([["http://127.0.0.1:1/announce"]]), "{info}");
    // The files are in the same order as in the payload, so the torrents are equal.
    ensure!(made["info_hash"] == payload.info_hash().to_string().as_str(), "{made}");
    let folder = payload.folder_path();
    let verified = scene.user("user").json("verify", ["verify", text(&output)?, text(folder)?])?;
    ensure!(verified["ok"] == true, "{verified}");
    scene.run("user", &["create", text(&data)?, "-o", text(&output)?])?.expect(6)
}

fn verify(scene: &Scene) -> Result<()> {
    let payload = scene.payload(tree())?;
    let (torrent, folder) = (text(payload.torrent_path())?, text(payload.folder_path())?);
    let good = scene.user("user").json("verify", ["verify", torrent, folder])?;
    let pieces = payload.geometry().piece_count();
    ensure!(good["ok"] == true && good["bad"] == json!([]), "{good}");
    ensure!(good["pieces_ok"] == pieces && good["pieces_total"] == pieces, "{good}");
    let mut bytes = fs::read(payload.folder_path().join("tree/a.bin"))?;
    bytes[65536] ^= 1;
    write(payload.folder_path(), "tree/a.bin", &bytes)?;
    let finished = scene.run("user", &["verify", torrent, folder])?;
    finished.expect(5)?;
    ensure!(finished.lines[0]["bad"] == json!([1]), "{}", finished.lines[0]);
    ensure!(finished.lines[0]["files"][0]["ok"] == false, "{}", finished.lines[0]);
    ensure!(finished.lines[0]["files"][1]["ok"] == true, "{}", finished.lines[0]);
    Ok(())
}

fn from_a_url(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(8))?;
    let server = HttpTracker::start();
    server.answer(testkit::Answer::Raw(payload.torrent().to_vec()));
    // The server is a tracker, which needs the parameters of an announce.
    let parameters = "info_hash=01234567890123456789&peer_id=01234567890123456789";
    let url = format!("{}?{parameters}&port=1&uploaded=0&downloaded=0&left=0", server.url());
    let info = scene.user("user").json("info", ["info", &url])?;
    ensure!(info["info_hash"] == payload.info_hash().to_string().as_str(), "{info}");
    Ok(())
}

/// Without `--json`, results go to stdout without foreign control characters.
fn text_for_people(scene: &Scene) -> Result<()> {
    let payload: Payload = scene.payload(Payload::file("na\u{1b}[31mme", 40_000))?;
    let user = scene.user("user");
    let command = user.command(["info", text(payload.torrent_path())?]);
    let mut launch = user.start("info-text", &command)?;
    let code = launch.exit_code(crate::bt_cli::COMMAND_LIMIT)?;
    let said = launch.stdout();
    ensure!(code == 0, "exit code {code}\n{}", launch.output_tail());
    ensure!(!said.contains('\u{1b}'), "an escape sequence was printed: {said:?}");
    ensure!(said.contains(&payload.info_hash().to_string()), "no info-hash in {said}");
    Ok(())
}
