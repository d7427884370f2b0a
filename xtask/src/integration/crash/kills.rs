//! SIGKILL at random moments, until the download is whole all the same.
//!
//! A *life* of a download goes from an empty folder to the last byte, over as many runs as it takes.
//! Each run is killed at a moment that is drawn, until one ends by itself before that.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use testkit::{Payload, PayloadBuilder, Script, ScriptedPeer};

use super::had::{compare, hear_out, none_again, pieces_of, pieces_said};
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::draws::Draws;
use crate::integration::scene::{LIMIT, Scene, file};
use crate::process::{Running, until_every};
use crate::report::Case;

/// How exactly a moment is kept.
const LOOK: Duration = Duration::from_millis(1);
/// How long a start takes at most, until the first bytes come.
const START: Duration = Duration::from_millis(60);
/// How long an end takes at most, from the last block on: commit, sync, journal.
const END: Duration = Duration::from_millis(60);
/// How long a block is on its way at most, from a seeder to the journal.
const WAY: Duration = Duration::from_millis(10);

/// What is downloaded, and from whom.
struct Layout {
    name: &'static str,
    payload: fn() -> PayloadBuilder,
    /// The numbers of the files that are wanted; `None` for all.
    files: Option<&'static [usize]>,
    seeders: usize,
    /// How long a seeder waits before each block, so that there is time to be killed.
    delay: Duration,
    /// Its share of the kills.
    share: u32,
}

/// The layouts, the slowest first. Their shares add up to 20.
const LAYOUTS: &[Layout] = &[
    Layout {
        name: "small pieces, synced and the journal rewritten underway",
        payload: || Payload::file("long.bin", (80 << 20) - 5).piece_length(16 << 10),
        files: None,
        seeders: 2,
        delay: Duration::ZERO,
        share: 1,
    },
    Layout {
        name: "one file",
        payload: || file(256),
        files: None,
        seeders: 1,
        delay: Duration::from_millis(2),
        share: 5,
    },
    Layout {
        name: "many small files",
        payload: || small_files(300, 40_000),
        files: None,
        seeders: 1,
        delay: Duration::from_millis(1),
        share: 4,
    },
    Layout {
        name: "large pieces, staged",
        payload: || Payload::file("large.bin", (24 << 20) - 5).piece_length(4 << 20),
        files: None,
        seeders: 1,
        delay: Duration::from_micros(300),
        share: 4,
    },
    Layout {
        name: "selected files",
        payload: || small_files(40, 400_000),
        files: Some(&[1, 7, 8, 9, 20, 39]),
        seeders: 1,
        delay: Duration::from_millis(4),
        share: 3,
    },
    Layout {
        name: "two seeders",
        payload: || file(512),
        files: None,
        seeders: 2,
        delay: Duration::from_millis(2),
        share: 3,
    },
];

/// Files of less than `end` bytes, which begin and end within pieces.
fn small_files(count: u64, end: u64) -> PayloadBuilder {
    let names: Vec<(String, u64)> = (0..count)
        .map(|number| (format!("{}/{number}.bin", number % 7), number * 79_193 % end))
        .collect();
    let files: Vec<(&str, u64)> = names.iter().map(|(name, size)| (name.as_str(), *size)).collect();
    Payload::folder("many", &files)
}

/// When a run is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after its start.
    At(Duration),
    /// So long after the seeders have sent so many blocks.
    Sent(u64, Duration),
}

/// What was done.
#[derive(Debug, Default)]
struct Counts {
    lives: u64,
    runs: u64,
    kills: u32,
    fetched: u64,
    needed: u64,
}

/// A case a layout, in which bt-cli is killed `kills` times in all, at moments that follow from `seed`.
pub(super) fn cases(program: &Path, kills: u32, seed: u64) -> Vec<Case<'_>> {
    let case = |(number, layout): (u64, &'static Layout)| Case {
        cells: vec!["kills".to_owned(), layout.name.to_owned()],
        work: Box::new(move || {
            let mut series =
                Series::new(layout, program, Draws::new(seed.wrapping_mul(16) + number))?;
            let done = series.run((kills * layout.share).div_ceil(20));
            let told = series.counts.tell(seed);
            done.map(|()| told.clone()).with_context(|| format!("after {told}"))
        }),
    };
    (0..).zip(LAYOUTS).map(case).collect()
}

impl Counts {
    fn tell(&self, seed: u64) -> String {
        let Self { lives, runs, kills, fetched, needed } = self;
        let more = (*fetched as f64 / (*needed).max(1) as f64 - 1.0) * 100.0;
        format!(
            "seed {seed}: {kills} kills, {runs} runs, {lives} downloads to the end; {fetched} \
             blocks fetched, {needed} in the payloads (+{more:.1} %)"
        )
    }
}

/// The lives of one layout's downloads.
struct Series {
    layout: &'static Layout,
    scene: Scene,
    payload: Payload,
    /// What the seeders are, made once: it takes hashing.
    scripts: Vec<Script>,
    draws: Draws,
    counts: Counts,
}

impl Series {
    fn new(layout: &'static Layout, program: &Path, draws: Draws) -> Result<Self> {
        let scene = Scene::new(program)?;
        let payload = scene.payload((layout.payload)())?;
        let counts = Counts::default();
        let script = |_| Script::seeder(&payload).delay(layout.delay);
        let scripts = (0..layout.seeders).map(script).collect();
        Ok(Self { layout, scene, payload, scripts, draws, counts })
    }

    /// Lives until there were so many kills.
    fn run(&mut self, kills: u32) -> Result<()> {
        while self.counts.kills < kills {
            self.live(kills)?;
        }
        Ok(())
    }

    /// From an empty folder to the last byte.
    fn live(&mut self, kills: u32) -> Result<()> {
        let mut had = BTreeSet::new();
        self.counts.needed += self.blocks_missing(&had);
        while !self.run_once(&mut had, kills)? {}
        let name = "leecher";
        compare(&self.payload, &self.scene.downloads(name), self.layout.files)?;
        self.counts.lives += 1;
        Ok(fs::remove_dir_all(self.scene.path(name))?)
    }

    /// One run, killed if there are kills left; says whether it came to its end.
    fn run_once(&mut self, had: &mut BTreeSet<u32>, kills: u32) -> Result<bool> {
        let seeders: Vec<ScriptedPeer> =
            self.scripts.iter().map(|script| script.clone().listen()).collect();
        let moment = (self.counts.kills < kills).then(|| self.draw(had));
        let command = self.command(&seeders);
        let mut running = self.scene.user("leecher").start("download", &command)?;
        self.counts.runs += 1;
        let killed = match moment {
            Some(moment) => self.kill(&mut running, moment, &seeders)?,
            None => false,
        };
        if !killed {
            finish(&mut running, COMMAND_LIMIT)?.expect(0)?;
        }
        hear_out(&seeders)?;
        none_again(&seeders, had)
            .with_context(|| format!("killed {moment:?}, had {}", had.len()))?;
        had.extend(pieces_said(&running, &seeders));
        self.counts.fetched += blocks_sent(&seeders);
        Ok(!killed)
    }

    /// How many blocks are wanted of pieces that are not in `had`.
    fn blocks_missing(&self, had: &BTreeSet<u32>) -> u64 {
        let geometry = self.payload.geometry();
        let wanted = pieces_of(&self.payload, self.layout.files);
        let missing = wanted.difference(had).filter_map(|piece| geometry.piece(*piece));
        missing.map(|piece| u64::from(geometry.block_count(piece))).sum()
    }

    /// One in six at the start, one in six at the end, the others anywhere.
    fn draw(&mut self, had: &BTreeSet<u32>) -> Moment {
        let missing = self.blocks_missing(had);
        let share = missing as f64 / self.layout.seeders as f64;
        match self.draws.below(6) {
            0 => Moment::At(self.draws.time(START)),
            1 => Moment::Sent(missing, self.draws.time(END)),
            2 | 3 => Moment::At(self.draws.time(START + self.layout.delay.mul_f64(share))),
            _ => Moment::Sent(self.draws.below(missing), self.draws.time(WAY)),
        }
    }

    fn command(&self, seeders: &[ScriptedPeer]) -> Command {
        let mut command = self.scene.download_command("leecher", self.payload.torrent_path());
        for seeder in seeders {
            command.arg("--peer").arg(seeder.address().to_string());
        }
        for file in self.layout.files.unwrap_or_default() {
            command.arg("--files").arg(file.to_string());
        }
        command
    }

    /// Kills a run at its moment; says whether it was still there.
    fn kill(
        &mut self,
        running: &mut Running,
        moment: Moment,
        seeders: &[ScriptedPeer],
    ) -> Result<bool> {
        let wait = match moment {
            Moment::At(wait) => wait,
            Moment::Sent(blocks, wait) => {
                until_every(LOOK, LIMIT, || running.has_ended() || blocks_sent(seeders) >= blocks);
                wait
            }
        };
        until_every(LOOK, wait, || running.has_ended());
        running.signal(Signal::KILL)?;
        let status = running.wait(LIMIT)?;
        let killed = status.code().is_none();
        ensure!(killed || status.success(), "it ended by itself\n{}", running.last_words());
        self.counts.kills += u32::from(killed);
        Ok(killed)
    }
}

fn blocks_sent(seeders: &[ScriptedPeer]) -> u64 {
    seeders.iter().map(|seeder| seeder.seen().blocks_sent).sum()
}
