//! SIGKILL while a magnet link's metadata comes, and right when it is there.
//!
//! Each download takes as many launches as necessary. After each, the copy of the metadata that is
//! kept for the next launch is whole or does not exist; once it exists, nobody is asked for
//! metadata again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::{MetadataBehaviour, Payload, Script};

use super::moment::Moment;
use super::pieces::{check_not_requested, reported_pieces, wait_until_read};
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::integration::scene::{Scene, link};
use crate::rng::Rng;
use tasks::report::Case;

const USER: &str = "leecher";
/// The longest time from the launch to the first message.
const START: Duration = Duration::from_millis(40);
/// The longest time from the last piece of the metadata to the first pieces of the payload: check,
/// copy, files, journal.
const ARRIVAL: Duration = Duration::from_millis(30);
/// The longest time from a piece of the metadata to the next.
const WAY: Duration = Duration::from_millis(2);

/// Returns the case. bt-cli is killed `kills` times, at moments drawn from `seed`.
pub(super) fn case(program: &Path, kills: u32, seed: u64) -> Case<'_> {
    Case::new(&["kills", "a link, before and after its metadata"], move || {
        let mut series = Series::new(program, Rng::new(seed.wrapping_mul(16) + 15))?;
        let done = series.run(kills);
        let summary = series.counts.summary(seed);
        done.map(|()| summary.clone()).with_context(|| format!("after {summary}"))
    })
}

/// Counts for the report.
#[derive(Debug, Default)]
struct Counts {
    downloads: u32,
    launches: u32,
    /// Kills before the metadata was kept.
    early: u32,
    /// Kills after that.
    late: u32,
}

impl Counts {
    fn summary(&self, seed: u64) -> String {
        let Self { downloads, launches, early, late } = self;
        format!(
            "seed {seed}: {early} kills before the metadata was kept, {late} after; {launches} \
             launches, {downloads} downloads completed"
        )
    }

    fn kills(&self) -> u32 {
        self.early + self.late
    }
}

struct Series {
    scene: Scene,
    payload: Payload,
    script: Script,
    rng: Rng,
    counts: Counts,
}

impl Series {
    fn new(program: &Path, rng: Rng) -> Result<Self> {
        let scene = Scene::new(program)?;
        // Eight pieces of metadata.
        let payload = scene.payload(Payload::file("file.bin", 200_000).piece_length(32))?;
        let script = Script::seeder(&payload).fast().metadata(&payload, MetadataBehaviour::Honest);
        Ok(Self { scene, payload, script, rng, counts: Counts::default() })
    }

    /// Downloads until there were so many kills.
    fn run(&mut self, kills: u32) -> Result<()> {
        while self.counts.kills() < kills {
            let (mut verified, late) = (BTreeSet::new(), self.counts.late);
            // Two kills among the blocks are enough: the other cases have many.
            let may_kill = |counts: &Counts| counts.kills() < kills && counts.late < late + 2;
            while !self.launch_once(&mut verified, may_kill(&self.counts))? {}
            self.payload.compare(self.scene.downloads(USER))?;
            self.counts.downloads += 1;
            fs::remove_dir_all(self.scene.path(USER))?;
        }
        Ok(())
    }

    /// Launches bt-cli once, and kills it if `is_killed`. Returns whether it ended by itself.
    fn launch_once(&mut self, verified: &mut BTreeSet<u32>, is_killed: bool) -> Result<bool> {
        let seeder = self.script.clone().listen();
        let was_kept = self.kept()?;
        let link = link(&self.payload, &[seeder.address()], &[]);
        let moment = is_killed.then(|| self.draw());
        let mut launch = self.scene.download_link(USER, &link, &[])?;
        self.counts.launches += 1;
        let killed = match moment {
            // If the metadata is kept, none is sent: then it is killed among the blocks.
            Some(moment) => moment.kill(&mut launch, |pieces| {
                let seen = seeder.seen();
                seen.metadata_sent >= pieces || !seen.requests.is_empty()
            })?,
            None => false,
        };
        if !killed {
            finish(&mut launch, COMMAND_LIMIT)?.expect(0)?;
        }
        let seeders = [seeder];
        wait_until_read(&seeders)?;
        let asked = !seeders[0].seen().metadata_requests.is_empty();
        ensure!(!(was_kept && asked), "metadata was requested although it is kept");
        check_not_requested(&seeders, verified).with_context(|| format!("killed {moment:?}"))?;
        verified.extend(reported_pieces(&launch, &seeders));
        let is_kept = self.kept().with_context(|| format!("killed {moment:?}"))?;
        self.counts.early += u32::from(killed && !is_kept);
        self.counts.late += u32::from(killed && is_kept);
        Ok(!killed)
    }

    /// Whether the metadata is kept for the next launch. If so, it must be right.
    fn kept(&self) -> Result<bool> {
        let path = self.torrents().join(format!("{}.torrent", self.payload.info_hash()));
        let Ok(bytes) = fs::read(path) else { return Ok(false) };
        let info = self.payload.info();
        ensure!(bytes.windows(info.len()).any(|part| part == info), "the kept metadata is wrong");
        Ok(true)
    }

    fn torrents(&self) -> PathBuf {
        self.scene.path(USER).join("state/bt-cli/torrents")
    }

    /// Draws a moment: most of them around the arrival of the metadata.
    fn draw(&mut self) -> Moment {
        let pieces = self.payload.info().len().div_ceil(16 << 10) as u64;
        match self.rng.below(6) {
            0 => Moment::At(self.rng.time(START)),
            1..=3 => Moment::Sent(self.rng.below(pieces), self.rng.time(WAY)),
            _ => Moment::Sent(pieces, self.rng.time(ARRIVAL)),
        }
    }
}
