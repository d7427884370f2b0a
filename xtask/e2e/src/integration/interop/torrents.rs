//! Torrents that other programs created are read by us, and ours by them: the info-hashes are
//! equal, and the data verifies.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use testkit::Payload;

use crate::bt_cli::BtCli;
use crate::clients::{Libtorrent, Program as _, version_in};
use tasks::process::{find_program, output_of};
use tasks::report::Report;
use tasks::workspace;

const TRACKER: &str = "http://10.77.0.1:6969/announce";

/// A program that makes or reads .torrent files.
struct Tool {
    name: &'static str,
    version: Option<String>,
    create: Option<fn(&Path, &Path) -> Result<()>>,
    info_hash: Option<fn(&Path) -> Result<String>>,
}

/// Runs every case, and removes what is installed from `missing`.
pub(super) fn run(
    report: &mut Report,
    missing: &mut Vec<String>,
    only: Option<&str>,
) -> Result<()> {
    let fixture = Fixture::new()?;
    for tool in tools() {
        let Some(version) = tool.version else {
            report.skip(&[tool.name, "-", "-"], "not installed");
            continue;
        };
        missing.retain(|name| name != tool.name);
        if only.is_some_and(|only| !tool.name.contains(only)) {
            continue;
        }
        if let Some(create) = tool.create {
            let cells = [tool.name, &version, "it creates, bt-cli reads"];
            report.run(&cells, || fixture.read_theirs(tool.name, create));
        }
        if let Some(info_hash) = tool.info_hash {
            let cells = [tool.name, &version, "bt-cli creates, it reads"];
            report.run(&cells, || fixture.let_them_read(tool.name, info_hash));
        }
    }
    Ok(())
}

fn tools() -> Vec<Tool> {
    let version = |program, argument| {
        find_program(program).map(|_| {
            let text = output_of(program, [argument]).unwrap_or_default();
            version_in(&text).unwrap_or_else(|| "?".to_owned())
        })
    };
    vec![
        Tool {
            name: "mktorrent",
            version: find_program("mktorrent").map(|_| mktorrent_version()),
            create: Some(mktorrent),
            info_hash: None,
        },
        Tool {
            name: "transmission-create",
            version: version("transmission-create", "--version"),
            create: Some(transmission_create),
            info_hash: None,
        },
        Tool {
            name: "transmission-show",
            version: version("transmission-show", "--version"),
            create: None,
            info_hash: Some(transmission_show),
        },
        Tool {
            name: "libtorrent",
            version: Libtorrent::pypi().version(),
            create: Some(|data, torrent| Libtorrent::pypi().create(data, TRACKER, torrent)),
            info_hash: Some(|torrent| Libtorrent::pypi().info_hash(torrent)),
        },
        Tool {
            name: "libtorrent-debian",
            version: Libtorrent::debian().version(),
            create: Some(|data, torrent| Libtorrent::debian().create(data, TRACKER, torrent)),
            info_hash: Some(|torrent| Libtorrent::debian().info_hash(torrent)),
        },
        Tool {
            name: "aria2",
            version: version("aria2c", "--version"),
            create: None,
            info_hash: Some(aria2_show),
        },
    ]
}

/// A payload, our program, and a folder for the torrents.
struct Fixture {
    folder: TempDir,
    payload: Payload,
    bt_cli: BtCli,
}

impl Fixture {
    fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("torrents-")?;
        let files = [("a b.bin", 700_000), ("ünïcode/日本.txt", 1234), ("folder/empty", 0)];
        let payload = Payload::folder("torrents", &files).create_in(folder.path())?;
        let bt_cli = BtCli::new(&workspace::build_bt_cli()?, &folder.path().join("bt-cli"));
        Ok(Self { folder, payload, bt_cli })
    }

    fn data(&self) -> PathBuf {
        self.payload.folder_path().join(self.payload.name())
    }

    /// Their torrent: our info-hash is that of every other program, and the data verifies.
    fn read_theirs(&self, name: &str, create: fn(&Path, &Path) -> Result<()>) -> Result<()> {
        let torrent = self.folder.path().join(format!("by-{name}.torrent"));
        create(&self.data(), &torrent)?;
        let info = self.bt_cli.json("info", [Path::new("info"), &torrent])?;
        let ours = info["info_hash"].as_str().context("no info_hash")?;
        for tool in tools().into_iter().filter(|tool| tool.version.is_some()) {
            if let Some(info_hash) = tool.info_hash {
                let theirs = info_hash(&torrent)?;
                ensure!(theirs == ours, "{} says {theirs}, bt-cli {ours}", tool.name);
            }
        }
        ensure!(info["size"] == self.payload.geometry().total(), "size is {}", info["size"]);
        ensure!(info["trackers"][0][0] == TRACKER, "trackers are {}", info["trackers"]);
        let folder = self.payload.folder_path();
        let verified = self.bt_cli.json("verify", [Path::new("verify"), &torrent, folder])?;
        ensure!(verified["ok"] == true, "verify says {verified}");
        Ok(())
    }

    /// Our torrent: their info-hash is ours.
    fn let_them_read(&self, name: &str, info_hash: fn(&Path) -> Result<String>) -> Result<()> {
        let torrent = self.folder.path().join(format!("for-{name}.torrent"));
        let data = self.data();
        let arguments = [Path::new("create"), &data, Path::new("-t"), Path::new(TRACKER)];
        let arguments = arguments.into_iter().chain([Path::new("-o"), &torrent]);
        let made = self.bt_cli.json("create", arguments)?;
        let ours = made["info_hash"].as_str().context("no info_hash")?;
        let theirs = info_hash(&torrent)?;
        ensure!(theirs == ours, "it says {theirs}, bt-cli {ours}");
        Ok(())
    }
}

/// Returns mktorrent's version, which it prints above its usage error.
fn mktorrent_version() -> String {
    let output = std::process::Command::new("mktorrent").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    version_in(&text.unwrap_or_default()).unwrap_or_else(|| "?".to_owned())
}

fn mktorrent(data: &Path, torrent: &Path) -> Result<()> {
    let _not_there = fs::remove_file(torrent);
    let arguments = ["-l", "15", "-a", TRACKER, "-o"].map(AsRef::as_ref);
    let arguments = arguments.into_iter().chain([torrent.as_os_str(), data.as_os_str()]);
    output_of("mktorrent", arguments).map(drop).context("mktorrent failed")
}

fn transmission_create(data: &Path, torrent: &Path) -> Result<()> {
    let arguments = ["-t", TRACKER, "-o"].map(AsRef::as_ref);
    let arguments = arguments.into_iter().chain([torrent.as_os_str(), data.as_os_str()]);
    output_of("transmission-create", arguments).map(drop).context("transmission-create failed")
}

fn transmission_show(torrent: &Path) -> Result<String> {
    let text = output_of("transmission-show", [torrent]).context("transmission-show refuses it")?;
    labelled(&text, "Hash:")
}

fn aria2_show(torrent: &Path) -> Result<String> {
    let text = output_of("aria2c", [Path::new("-S"), torrent]).context("aria2c refuses it")?;
    labelled(&text, "Info Hash:")
}

/// Returns the text after `label` on its line.
fn labelled(text: &str, label: &str) -> Result<String> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix(label));
    let found = lines.map(|rest| rest.trim().to_owned()).next();
    found.with_context(|| format!("no {label:?} in\n{text}"))
}
