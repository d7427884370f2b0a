//! SIGKILL at random moments, until the download completes nevertheless.
//!
//! A download starts with an empty folder, or one with files that are too long, and takes as many
//! launches as necessary. Each is killed at a random moment, until one ends by itself before that.
//! Where a layout has several selections, each is downloaded in turn.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use testkit::{Payload, PayloadBuilder, Script, ScriptedPeer};

use super::moment::Moment;
use super::pieces::{check_not_requested, compare, pieces_of, reported_pieces, wait_until_read};
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::integration::scene::{Scene, file};
use crate::rng::Rng;
use tasks::report::Case;

const USER: &str = "leecher";
/// How many bytes too long a file is.
const TAIL: usize = 5_000;
/// The longest time from the launch to the first bytes.
const START: Duration = Duration::from_millis(60);
/// The longest time from the last block to the end: commit, sync, journal.
const END: Duration = Duration::from_millis(60);
/// The longest time from a block's sending to its record in the journal.
const WAY: Duration = Duration::from_millis(10);

/// What is downloaded, and from which seeders.
struct Layout {
    name: &'static str,
    payload: fn() -> PayloadBuilder,
    /// The numbers of the selected files, `None` for all; one selection after another.
    selections: &'static [Option<&'static [usize]>],
    /// Whether the folder starts with files that are too long, which are overwritten.
    longer: bool,
    seeders: usize,
    /// How long a seeder waits before each block, to leave time for a kill.
    delay: Duration,
    /// How many launches in six are killed at their start.
    at_start: u64,
    /// Its share of the kills.
    share: u32,
}

/// The layouts, the slowest first.
const LAYOUTS: &[Layout] = &[
    Layout {
        name: "small pieces, with syncs and a rewritten journal",
        payload: || Payload::file("long.bin", (80 << 20) - 5).piece_length(16 << 10),
        selections: &[None],
        longer: false,
        seeders: 2,
        delay: Duration::ZERO,
        at_start: 1,
        share: 1,
    },
    Layout {
        name: "one file",
        payload: || file(256),
        selections: &[None],
        longer: false,
        seeders: 1,
        delay: Duration::from_millis(2),
        at_start: 1,
        share: 5,
    },
    Layout {
        name: "many small files",
        payload: || small_files(300, 40_000),
        selections: &[None],
        longer: false,
        seeders: 1,
        delay: Duration::from_millis(1),
        at_start: 1,
        share: 4,
    },
    Layout {
        name: "large pieces, staged",
        payload: || Payload::file("large.bin", (24 << 20) - 5).piece_length(4 << 20),
        selections: &[None],
        longer: false,
        seeders: 1,
        delay: Duration::from_micros(300),
        at_start: 1,
        share: 4,
    },
    Layout {
        name: "selected files",
        payload: || small_files(40, 400_000),
        selections: &[Some(&[1, 7, 8, 9, 20, 39])],
        longer: false,
        seeders: 1,
        delay: Duration::from_millis(4),
        at_start: 1,
        share: 3,
    },
    Layout {
        name: "two seeders",
        payload: || file(512),
        selections: &[None],
        longer: false,
        seeders: 2,
        delay: Duration::from_millis(2),
        at_start: 1,
        share: 3,
    },
    // Each start but the first imports boundary pieces from the parts file.
    Layout {
        name: "selected files, then more, then all",
        payload: || small_files(40, 200_000),
        selections: &[
            Some(&[1, 3, 5, 7, 9, 11, 13, 20, 22, 24, 26, 28, 30, 39]),
            Some(&[1, 2, 3, 5, 6, 7, 9, 11, 13, 20, 21, 22, 24, 26, 27, 28, 30, 38, 39]),
            None,
        ],
        longer: false,
        seeders: 1,
        delay: Duration::from_micros(300),
        at_start: 4,
        share: 4,
    },
    Layout {
        name: "files that are too long, overwritten",
        payload: || small_files(60, 60_000),
        selections: &[None],
        longer: true,
        seeders: 1,
        delay: Duration::ZERO,
        at_start: 4,
        share: 4,
    },
];

/// Files of less than `end` bytes, which start and end within pieces.
fn small_files(count: u64, end: u64) -> PayloadBuilder {
    let names: Vec<(String, u64)> = (0..count)
        .map(|number| (format!("{}/{number}.bin", number % 7), number * 79_193 % end))
        .collect();
    let files: Vec<(&str, u64)> = names.iter().map(|(name, size)| (name.as_str(), *size)).collect();
    Payload::folder("many", &files)
}

/// Counts for the report.
#[derive(Debug, Default)]
struct Counts {
    downloads: u64,
    launches: u64,
    kills: u32,
    fetched: u64,
    needed: u64,
}

/// Returns the sum of the shares.
fn shares() -> u32 {
    LAYOUTS.iter().map(|layout| layout.share).sum()
}

/// Returns a case per layout. bt-cli is killed `kills` times in total, at moments drawn from
/// `seed`.
pub(super) fn cases(program: &Path, kills: u32, seed: u64) -> Vec<Case<'_>> {
    let case = |(number, layout): (u64, &'static Layout)| {
        Case::new(&["kills", layout.name], move || {
            let mut series =
                Series::new(layout, program, Rng::new(seed.wrapping_mul(16) + number))?;
            let done = series.run((kills * layout.share).div_ceil(shares()));
            let summary = series.counts.summary(seed);
            done.map(|()| summary.clone()).with_context(|| format!("after {summary}"))
        })
    };
    (0..).zip(LAYOUTS).map(case).collect()
}

impl Counts {
    fn summary(&self, seed: u64) -> String {
        let Self { downloads, launches, kills, fetched, needed } = self;
        let more = (*fetched as f64 / (*needed).max(1) as f64 - 1.0) * 100.0;
        format!(
            "seed {seed}: {kills} kills, {launches} launches, {downloads} downloads completed; \
             {fetched} blocks downloaded, {needed} in the payloads (+{more:.1} %)"
        )
    }
}

/// The downloads of one layout.
struct Series {
    layout: &'static Layout,
    scene: Scene,
    payload: Payload,
    /// The seeders' scripts, made once because that hashes the payload.
    scripts: Vec<Script>,
    rng: Rng,
    /// The files that are selected now.
    files: Option<&'static [usize]>,
    counts: Counts,
}

impl Series {
    fn new(layout: &'static Layout, program: &Path, rng: Rng) -> Result<Self> {
        let scene = Scene::new(program)?;
        let payload = scene.payload((layout.payload)())?;
        let counts = Counts::default();
        let script = |_| Script::seeder(&payload).delay(layout.delay);
        let scripts = (0..layout.seeders).map(script).collect();
        Ok(Self { layout, scene, payload, scripts, rng, files: None, counts })
    }

    /// Downloads until there were so many kills.
    fn run(&mut self, kills: u32) -> Result<()> {
        while self.counts.kills < kills {
            self.download(kills)?;
        }
        Ok(())
    }

    /// Downloads from an empty folder, or one with longer files, to the last byte.
    fn download(&mut self, kills: u32) -> Result<()> {
        let mut verified = BTreeSet::new();
        if self.layout.longer {
            verified = self.create_longer_files()?;
        }
        for selection in self.layout.selections {
            self.files = *selection;
            self.counts.needed += self.blocks_missing(&verified);
            while !self.launch_once(&mut verified, kills)? {}
            compare(&self.payload, &self.folder(), self.files)?;
        }
        self.check_complete(&verified)?;
        self.counts.downloads += 1;
        Ok(fs::remove_dir_all(self.scene.path(USER))?)
    }

    /// Returns the download folder.
    fn folder(&self) -> PathBuf {
        self.scene.downloads(USER)
    }

    /// Checks that `verify` and one more download find everything complete.
    fn check_complete(&self, verified: &BTreeSet<u32>) -> Result<()> {
        if self.files.is_some() {
            return Ok(());
        }
        let arguments = [Path::new("verify"), self.payload.torrent_path(), &self.folder()];
        self.scene.user(USER).run("verify", arguments)?.expect(0).context("verify")?;
        if self.layout.longer {
            let seeder = [self.scripts[0].clone().listen()];
            let mut launch = self.scene.user(USER).start("download", &self.command(&seeder))?;
            finish(&mut launch, COMMAND_LIMIT)?.expect(0).context("one more download")?;
            check_not_requested(&seeder, verified)?;
        }
        Ok(())
    }

    /// Fills the folder. Of three files, one has its own bytes and more; one the first half of its
    /// own bytes and then others; one does not exist. Returns the pieces that are there.
    fn create_longer_files(&self) -> Result<BTreeSet<u32>> {
        let (data, mut there) = (self.payload.data(), Vec::new());
        for (number, (path, length)) in self.payload.files().enumerate() {
            let start = there.len();
            let own = &data[start..start + length as usize];
            let kept = [own.len(), own.len() / 2, 0][number % 3];
            there.extend_from_slice(&own[..kept]);
            there.resize(start + own.len(), !0);
            if number % 3 < 2 {
                let path = self.folder().join(path);
                fs::create_dir_all(path.parent().context("a file in a folder")?)?;
                fs::write(path, [&there[start..], &[7; TAIL]].concat())?;
            }
        }
        let piece_length = self.payload.geometry().piece_length() as usize;
        let pieces = data.chunks(piece_length).zip(there.chunks(piece_length));
        Ok((0..)
            .zip(pieces)
            .filter(|(_, (own, there))| own == there)
            .map(|(piece, _)| piece)
            .collect())
    }

    /// Whether a file is longer than in the torrent.
    fn has_longer(&self) -> bool {
        self.payload.files().any(|(path, length)| {
            fs::metadata(self.folder().join(path)).is_ok_and(|file| file.len() > length)
        })
    }

    /// Launches bt-cli once, and kills it if there are kills left. Returns whether it ended by
    /// itself.
    fn launch_once(&mut self, verified: &mut BTreeSet<u32>, kills: u32) -> Result<bool> {
        let seeders: Vec<ScriptedPeer> =
            self.scripts.iter().map(|script| script.clone().listen()).collect();
        let moment = (self.counts.kills < kills).then(|| self.draw(verified));
        let command = self.command(&seeders);
        let mut launch = self.scene.user(USER).start("download", &command)?;
        self.counts.launches += 1;
        let killed = match moment {
            Some(moment) => moment.kill(&mut launch, |blocks| blocks_sent(&seeders) >= blocks)?,
            None => false,
        };
        self.counts.kills += u32::from(killed);
        if !killed {
            finish(&mut launch, COMMAND_LIMIT)?.expect(0)?;
        }
        wait_until_read(&seeders)?;
        check_not_requested(&seeders, verified)
            .with_context(|| format!("killed {moment:?}, {} pieces verified", verified.len()))?;
        verified.extend(reported_pieces(&launch, &seeders));
        self.counts.fetched += blocks_sent(&seeders);
        Ok(!killed)
    }

    /// Returns the number of wanted blocks in pieces that are not in `verified`.
    fn blocks_missing(&self, verified: &BTreeSet<u32>) -> u64 {
        let geometry = self.payload.geometry();
        let wanted = pieces_of(&self.payload, self.files);
        let missing = wanted.difference(verified).filter_map(|piece| geometry.piece(*piece));
        missing.map(|piece| u64::from(geometry.block_count(piece))).sum()
    }

    /// Draws a moment: one in six at the start, or more; one in six at the end; the others anywhere.
    fn draw(&mut self, verified: &BTreeSet<u32>) -> Moment {
        let missing = self.blocks_missing(verified);
        let share = missing as f64 / self.layout.seeders as f64;
        match self.rng.below(6) {
            lot if lot < self.layout.at_start => Moment::At(self.rng.time(START)),
            5 => Moment::Sent(missing, self.rng.time(END)),
            3 | 4 => Moment::At(self.rng.time(START + self.layout.delay.mul_f64(share))),
            _ => Moment::Sent(self.rng.below(missing), self.rng.time(WAY)),
        }
    }

    fn command(&self, seeders: &[ScriptedPeer]) -> Command {
        let mut command = self.scene.download_command(USER, self.payload.torrent_path());
        for seeder in seeders {
            command.arg("--peer").arg(seeder.address().to_string());
        }
        for file in self.files.unwrap_or_default() {
            command.arg("--files").arg(file.to_string());
        }
        // Files that were cut are ours, so a later launch needs no permission.
        command.args(self.has_longer().then_some("--overwrite"));
        command
    }
}

fn blocks_sent(seeders: &[ScriptedPeer]) -> u64 {
    seeders.iter().map(|seeder| seeder.seen().blocks_sent).sum()
}
