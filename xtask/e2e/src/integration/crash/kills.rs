//! SIGKILL at random moments, until the download is whole all the same.
//!
//! A *life* of a download goes from an empty folder, or one with files that are too long, to the
//! last byte, over as many runs as it takes. Each run is killed at a moment that is drawn, until
//! one ends by itself before that. Where a layout has several selections, each is downloaded to its
//! end in turn.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use testkit::{Payload, PayloadBuilder, Script, ScriptedPeer};

use super::had::{compare, hear_out, none_again, pieces_of, pieces_said};
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::draws::Draws;
use crate::integration::scene::{LIMIT, Scene, file};
use xtask::process::{Launch, wait_until_every};
use xtask::report::Case;

const USER: &str = "leecher";
/// How many bytes too long a file is.
const TAIL: usize = 5_000;
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
    /// The numbers of the files that are wanted, `None` for all; one selection after another.
    selections: &'static [Option<&'static [usize]>],
    /// Whether the folder has files that are too long at first, which are overwritten.
    longer: bool,
    seeders: usize,
    /// How long a seeder waits before each block, so that there is time to be killed.
    delay: Duration,
    /// How many runs in six are killed at their start.
    at_start: u64,
    /// Its share of the kills.
    share: u32,
}

/// The layouts, the slowest first.
const LAYOUTS: &[Layout] = &[
    Layout {
        name: "small pieces, synced and the journal rewritten underway",
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
    // What pieces at the edges of files need leaves the parts file, in each start but the first.
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

/// How many shares there are.
fn shares() -> u32 {
    LAYOUTS.iter().map(|layout| layout.share).sum()
}

/// A case a layout, in which bt-cli is killed `kills` times in all, at moments that follow from
/// `seed`.
pub(super) fn cases(program: &Path, kills: u32, seed: u64) -> Vec<Case<'_>> {
    let case = |(number, layout): (u64, &'static Layout)| Case {
        cells: vec!["kills".to_owned(), layout.name.to_owned()],
        run: Box::new(move || {
            let mut series =
                Series::new(layout, program, Draws::new(seed.wrapping_mul(16) + number))?;
            let done = series.run((kills * layout.share).div_ceil(shares()));
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
    /// The files that are wanted now.
    files: Option<&'static [usize]>,
    counts: Counts,
}

impl Series {
    fn new(layout: &'static Layout, program: &Path, draws: Draws) -> Result<Self> {
        let scene = Scene::new(program)?;
        let payload = scene.payload((layout.payload)())?;
        let counts = Counts::default();
        let script = |_| Script::seeder(&payload).delay(layout.delay);
        let scripts = (0..layout.seeders).map(script).collect();
        Ok(Self { layout, scene, payload, scripts, draws, files: None, counts })
    }

    /// Lives until there were so many kills.
    fn run(&mut self, kills: u32) -> Result<()> {
        while self.counts.kills < kills {
            self.live(kills)?;
        }
        Ok(())
    }

    /// From an empty folder, or one with longer files, to the last byte.
    fn live(&mut self, kills: u32) -> Result<()> {
        let mut had = BTreeSet::new();
        if self.layout.longer {
            had = self.lay_longer()?;
        }
        for selection in self.layout.selections {
            self.files = *selection;
            self.counts.needed += self.blocks_missing(&had);
            while !self.run_once(&mut had, kills)? {}
            compare(&self.payload, &self.folder(), self.files)?;
        }
        self.agrees(&had)?;
        self.counts.lives += 1;
        Ok(fs::remove_dir_all(self.scene.path(USER))?)
    }

    /// Where it downloads into.
    fn folder(&self) -> PathBuf {
        self.scene.downloads(USER)
    }

    /// `verify` and one more download agree that everything is there.
    fn agrees(&self, had: &BTreeSet<u32>) -> Result<()> {
        if self.files.is_some() {
            return Ok(());
        }
        let arguments = [Path::new("verify"), self.payload.torrent_path(), &self.folder()];
        self.scene.user(USER).run("verify", arguments)?.expect(0).context("verify")?;
        if self.layout.longer {
            let seeder = [self.scripts[0].clone().listen()];
            let mut launch = self.scene.user(USER).start("download", &self.command(&seeder))?;
            finish(&mut launch, COMMAND_LIMIT)?.expect(0).context("one more download")?;
            none_again(&seeder, had)?;
        }
        Ok(())
    }

    /// Fills the folder: of three files, one has its own bytes and more, one the first half of its
    /// own bytes and then others, and one is not there. Gives the pieces that are there.
    fn lay_longer(&self) -> Result<BTreeSet<u32>> {
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

    /// Whether a file is longer than the torrent says.
    fn has_longer(&self) -> bool {
        self.payload.files().any(|(path, length)| {
            fs::metadata(self.folder().join(path)).is_ok_and(|file| file.len() > length)
        })
    }

    /// One run, killed if there are kills left; says whether it came to its end.
    fn run_once(&mut self, had: &mut BTreeSet<u32>, kills: u32) -> Result<bool> {
        let seeders: Vec<ScriptedPeer> =
            self.scripts.iter().map(|script| script.clone().listen()).collect();
        let moment = (self.counts.kills < kills).then(|| self.draw(had));
        let command = self.command(&seeders);
        let mut launch = self.scene.user(USER).start("download", &command)?;
        self.counts.runs += 1;
        let killed = match moment {
            Some(moment) => self.kill(&mut launch, moment, &seeders)?,
            None => false,
        };
        if !killed {
            finish(&mut launch, COMMAND_LIMIT)?.expect(0)?;
        }
        hear_out(&seeders)?;
        none_again(&seeders, had)
            .with_context(|| format!("killed {moment:?}, had {}", had.len()))?;
        had.extend(pieces_said(&launch, &seeders));
        self.counts.fetched += blocks_sent(&seeders);
        Ok(!killed)
    }

    /// How many blocks are wanted of pieces that are not in `had`.
    fn blocks_missing(&self, had: &BTreeSet<u32>) -> u64 {
        let geometry = self.payload.geometry();
        let wanted = pieces_of(&self.payload, self.files);
        let missing = wanted.difference(had).filter_map(|piece| geometry.piece(*piece));
        missing.map(|piece| u64::from(geometry.block_count(piece))).sum()
    }

    /// One in six at the start, or more, and one in six at the end; the others anywhere.
    fn draw(&mut self, had: &BTreeSet<u32>) -> Moment {
        let missing = self.blocks_missing(had);
        let share = missing as f64 / self.layout.seeders as f64;
        match self.draws.below(6) {
            lot if lot < self.layout.at_start => Moment::At(self.draws.time(START)),
            5 => Moment::Sent(missing, self.draws.time(END)),
            3 | 4 => Moment::At(self.draws.time(START + self.layout.delay.mul_f64(share))),
            _ => Moment::Sent(self.draws.below(missing), self.draws.time(WAY)),
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
        // Files that were cut are ours: a run after that needs no permission.
        command.args(self.has_longer().then_some("--overwrite"));
        command
    }

    /// Kills a run at its moment; says whether it was still there.
    fn kill(
        &mut self,
        launch: &mut Launch,
        moment: Moment,
        seeders: &[ScriptedPeer],
    ) -> Result<bool> {
        let wait = match moment {
            Moment::At(wait) => wait,
            Moment::Sent(blocks, wait) => {
                wait_until_every(LOOK, LIMIT, || {
                    launch.has_ended() || blocks_sent(seeders) >= blocks
                });
                wait
            }
        };
        wait_until_every(LOOK, wait, || launch.has_ended());
        launch.signal(Signal::KILL)?;
        let status = launch.wait(LIMIT)?;
        let killed = status.code().is_none();
        ensure!(killed || status.success(), "it ended by itself\n{}", launch.output_tail());
        self.counts.kills += u32::from(killed);
        Ok(killed)
    }
}

fn blocks_sent(seeders: &[ScriptedPeer]) -> u64 {
    seeders.iter().map(|seeder| seeder.seen().blocks_sent).sum()
}
