//! Two torrents that want one file: at most one gets it, and "complete" is never reported for the
//! bytes of the other torrent.
//!
//! A *round* starts two downloads, whose one file has the same name and size, at the same time or
//! one shortly after the other. When both have ended, `bt-cli verify` must confirm each that
//! reported "complete", and the other one must have failed with a message that says whose the file
//! is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::{Payload, Script, ScriptedPeer};

use super::pieces::reported_pieces;
use crate::bt_cli::{COMMAND_LIMIT, Finished, finish};
use crate::integration::scene::{LIMIT, Scene};
use crate::rng::Rng;
use tasks::process::{Launch, wait_until};
use tasks::report::Case;

/// The name that both torrents give their file.
const NAME: &str = "shared.bin";
/// How many bytes it has, in both.
const LENGTH: u64 = 300_000;
const PIECE_LENGTH: u32 = 32 * 1024;
/// The longest time between the two starts: by then, the first download is done.
const LATER: Duration = Duration::from_millis(80);
/// The longest time that a seeder waits before each block, of which a download has 19.
const DELAY: Duration = Duration::from_millis(3);
/// What a download may report instead of whose the file is: the other one has not recorded that
/// yet, or has recorded it in another state folder.
const REFUSALS: [&str; 2] = ["belongs to another download", PUT_THERE];
/// What it may not report about a torrent of the same command.
const PUT_THERE: &str = "put it there";

/// How two torrents come to want one file.
struct Contest {
    name: &'static str,
    round: fn(&mut Series) -> Result<RoundResult>,
    /// What is at the file's path before, drawn for each round.
    before: &'static [Before],
    /// Its share of the rounds.
    share: u32,
}

/// What is at the file's path before a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Empty,
    Zeroed,
}

/// The contests, the longest first. Their shares add up to 20.
const CONTESTS: &[Contest] = &[
    Contest {
        name: "two processes, no such file yet",
        round: |series| series.race([&series.folder("one"), &series.folder("one")]),
        before: &[Before::Nothing],
        share: 7,
    },
    Contest {
        name: "two processes, an empty or zeroed file",
        round: |series| series.race([&series.folder("one"), &series.folder("one")]),
        before: &[Before::Empty, Before::Zeroed],
        share: 7,
    },
    Contest {
        name: "two processes, hard links in two folders",
        round: Series::race_for_links,
        before: &[Before::Empty, Before::Zeroed],
        share: 3,
    },
    Contest {
        name: "two torrents in one command",
        round: Series::race_in_one_command,
        before: &[Before::Nothing, Before::Empty, Before::Zeroed],
        share: 2,
    },
    Contest {
        name: "two processes, two state folders",
        round: Series::write_in_turn,
        before: &[Before::Nothing, Before::Empty, Before::Zeroed],
        share: 1,
    },
];

/// Returns one case per contest, of `rounds` rounds in total. Their moments are drawn from `seed`.
pub(super) fn cases(program: &Path, rounds: u32, seed: u64) -> Vec<Case<'_>> {
    let case = |(number, contest): (u64, &'static Contest)| {
        Case::new(&["shared", contest.name], move || {
            let rng = Rng::new(seed.wrapping_mul(16) + number);
            let mut series = Series::new(contest, program, rng)?;
            let done = series.run((rounds * contest.share).div_ceil(20));
            let summary = series.summary(seed);
            done.map(|()| summary.clone()).with_context(|| format!("after {summary}"))
        })
    };
    (0..).zip(CONTESTS).map(case).collect()
}

/// A torrent that wants the file.
struct Rival {
    user: &'static str,
    payload: Payload,
    /// Its seeder's script, made once because that hashes the payload.
    script: Script,
}

/// Which of the two got the file, and what the others reported.
struct RoundResult {
    winner: Option<usize>,
    refusals: Vec<&'static str>,
}

/// The rounds of one contest.
struct Series {
    contest: &'static Contest,
    scene: Scene,
    rivals: [Rival; 2],
    rng: Rng,
    preallocate: bool,
    rounds: u32,
    won: [u32; 2],
    refusals: BTreeMap<&'static str, u32>,
}

impl Series {
    fn new(contest: &'static Contest, program: &Path, rng: Rng) -> Result<Self> {
        let scene = Scene::new(program)?;
        let rival = |(user, seed): (&'static str, u64)| {
            let payload = Payload::file(NAME, LENGTH).piece_length(PIECE_LENGTH).seed(seed);
            let payload = payload.create_in(scene.path(&format!("payload-{seed}")))?;
            let script = Script::seeder(&payload);
            anyhow::Ok(Rival { user, payload, script })
        };
        let rivals = [rival(("first", 1))?, rival(("second", 2))?];
        let (won, refusals) = ([0; 2], BTreeMap::new());
        Ok(Self { contest, scene, rivals, rng, preallocate: false, rounds: 0, won, refusals })
    }

    fn summary(&self, seed: u64) -> String {
        let [first, second] = self.won;
        let neither = self.rounds - first - second;
        let refusals = self.refusals.iter().map(|(words, count)| format!("{count} {words:?}"));
        let refusals = refusals.collect::<Vec<_>>().join(", ");
        format!(
            "seed {seed}: {} rounds; the first got the file {first} times, the second {second}, \
             neither {neither}; refused: {refusals}",
            self.rounds
        )
    }

    fn run(&mut self, rounds: u32) -> Result<()> {
        for round in 0..rounds {
            self.preallocate = round % 2 == 1;
            let before = self.contest.before[(round / 2) as usize % self.contest.before.len()];
            let summary = format!("round {round}, preallocate {}, {before:?}", self.preallocate);
            self.prepare(before)?;
            let outcome = (self.contest.round)(self).context(summary.clone())?;
            if outcome.winner.is_none() {
                self.starts_again().context(summary)?;
            }
            self.rounds += 1;
            outcome.winner.into_iter().for_each(|winner| self.won[winner] += 1);
            for refusal in outcome.refusals {
                *self.refusals.entry(refusal).or_default() += 1;
            }
            fs::remove_dir_all(self.round_folder())?;
        }
        ensure!(self.won != [0, 0] || rounds == 0, "neither torrent ever got the file");
        Ok(())
    }

    /// The folder of one round.
    fn round_folder(&self) -> PathBuf {
        self.scene.path("round")
    }

    /// A folder to download into.
    fn folder(&self, name: &str) -> PathBuf {
        self.round_folder().join(name)
    }

    fn prepare(&self, before: Before) -> Result<()> {
        let folder = self.folder("one");
        fs::create_dir_all(&folder)?;
        if before != Before::Nothing {
            let length = if before == Before::Zeroed { LENGTH } else { 0 };
            File::create(folder.join(NAME))?.set_len(length)?;
        }
        Ok(())
    }

    /// Downloads both into their folders, with one state folder; at the same time in three of four
    /// rounds.
    fn race(&mut self, folders: [&Path; 2]) -> Result<RoundResult> {
        let seeders = self.seeders();
        let order = if self.rng.below(2) == 0 { [0, 1] } else { [1, 0] };
        let together = self.rng.below(4) > 0;
        let later = if together { Duration::ZERO } else { self.rng.time(LATER) };
        let mut launches = Vec::new();
        for (number, wait) in order.into_iter().zip([Duration::ZERO, later]) {
            thread::sleep(wait);
            let launch = self.start(number, folders[number], "state", &[&seeders[number]])?;
            launches.push((number, launch));
        }
        launches.sort_by_key(|(number, _)| *number);
        let end = |(_, launch): &mut (usize, Launch)| finish(launch, COMMAND_LIMIT);
        let ended = launches.iter_mut().map(end).collect::<Result<Vec<_>>>()?;
        self.judge(&ended, folders).with_context(|| {
            launches.iter().map(|(_, launch)| launch.output_tail()).collect::<String>()
        })
    }

    /// The file has a name in each of two folders.
    fn race_for_links(&mut self) -> Result<RoundResult> {
        let (one, two) = (self.folder("one"), self.folder("two"));
        fs::create_dir_all(&two)?;
        fs::hard_link(one.join(NAME), two.join(NAME))?;
        self.race([&one, &two])
    }

    fn race_in_one_command(&mut self) -> Result<RoundResult> {
        let folder = self.folder("one");
        let seeders = self.seeders();
        let seeders: Vec<&ScriptedPeer> = seeders.iter().collect();
        let mut launch = self.start_all(&[0, 1], &folder, "state", &seeders)?;
        let finished = finish(&mut launch, COMMAND_LIMIT)?;
        finished.expect(6)?;
        let completed = |number: usize| {
            let info_hash = self.rivals[number].payload.info_hash().to_string();
            let is_ours = |line: &&serde_json::Value| line["info_hash"] == info_hash.as_str();
            let mut lines = finished.lines.iter().filter(is_ours);
            lines.any(|line| line["event"] == "completed")
        };
        let winners: Vec<usize> = (0..2).filter(|number| completed(*number)).collect();
        self.confirm(&winners, [&folder, &folder]).with_context(|| launch.output_tail())?;
        let winner = winners.first().copied();
        let refusal = self.refusal(winner.map_or(0, |winner| 1 - winner), &finished)?;
        ensure!(refusal != PUT_THERE, "it blames another program, but there is none");
        Ok(RoundResult { winner, refusals: vec![refusal] })
    }

    /// Both start before anything is written, and share no state folder. One has written a piece
    /// and is not done when the other one would write.
    fn write_in_turn(&mut self) -> Result<RoundResult> {
        let folder = self.folder("one");
        let [first, second] = [0, 1].map(|number| Script::seeder(&self.rivals[number].payload));
        let pieces = self.rivals[0].payload.geometry().piece_count() / 2;
        let half = self.rivals[0].script.clone().pieces(0..pieces).held().listen();
        let (rest, second) = (first.held().listen(), second.held().listen());
        let mut winner = self.start(0, &folder, "state", &[&half, &rest])?;
        let has_started = |launch: &Launch| launch.has_ended() || !launch.stdout().is_empty();
        ensure!(wait_until(LIMIT, || has_started(&winner)), "it does not start");
        let mut loser = self.start(1, &folder, "another state", &[&second])?;
        ensure!(wait_until(LIMIT, || has_started(&loser)), "it does not start");
        half.release();
        wait_until(LIMIT, || !reported_pieces(&winner, &[]).is_empty() || winner.has_ended());
        second.release();
        let loser = finish(&mut loser, COMMAND_LIMIT)?;
        rest.release();
        let ended = [finish(&mut winner, COMMAND_LIMIT)?, loser];
        ended[0].expect(0)?;
        self.judge(&ended, [&folder, &folder])
    }

    /// Neither got the file: one that downloads alone must get it.
    fn starts_again(&mut self) -> Result<()> {
        let folder = self.folder("one");
        let seeder = self.rivals[0].script.clone().listen();
        let mut launch = self.start(0, &folder, "state", &[&seeder])?;
        let finished = finish(&mut launch, COMMAND_LIMIT)?;
        finished.expect(0).context("neither got the file, and one alone does not get it")?;
        self.confirm(&[0], [&folder, &folder])
    }

    /// Starts a seeder for each, slower or faster than the other.
    fn seeders(&mut self) -> [ScriptedPeer; 2] {
        let delays = [self.rng.time(DELAY), self.rng.time(DELAY)];
        [0, 1].map(|number| self.rivals[number].script.clone().delay(delays[number]).listen())
    }

    fn start(
        &self,
        rival: usize,
        folder: &Path,
        state: &str,
        seeders: &[&ScriptedPeer],
    ) -> Result<Launch> {
        self.start_all(&[rival], folder, state, seeders)
    }

    /// Starts one command for these rivals.
    fn start_all(
        &self,
        rivals: &[usize],
        folder: &Path,
        state: &str,
        seeders: &[&ScriptedPeer],
    ) -> Result<Launch> {
        let user = self.scene.user(self.rivals[rivals[0]].user);
        let mut command =
            user.command(["download", "--json", "--port", "0", "--bind", "127.0.0.1"]);
        command.arg("-o").arg(folder).arg("--state-dir").arg(self.round_folder().join(state));
        command.args(rivals.iter().map(|rival| self.rivals[*rival].payload.torrent_path()));
        for seeder in seeders {
            command.arg("--peer").arg(seeder.address().to_string());
        }
        command.args(self.preallocate.then_some("--preallocate"));
        user.start("download", &command)
    }

    /// Checks the results of two processes.
    fn judge(&self, ended: &[Finished], folders: [&Path; 2]) -> Result<RoundResult> {
        let winners: Vec<usize> = (0..2).filter(|number| ended[*number].code == 0).collect();
        self.confirm(&winners, folders)?;
        let losers = (0..2).filter(|number| !winners.contains(number));
        let refusals = losers.map(|loser| self.refusal(loser, &ended[loser]));
        Ok(RoundResult {
            winner: winners.first().copied(),
            refusals: refusals.collect::<Result<_>>()?,
        })
    }

    /// Checks that there is at most one winner, and that its file is complete.
    fn confirm(&self, winners: &[usize], folders: [&Path; 2]) -> Result<()> {
        for winner in winners {
            let payload = &self.rivals[*winner].payload;
            let arguments = [Path::new("verify"), payload.torrent_path(), folders[*winner]];
            let verified = self.scene.user("judge").run("verify", arguments)?;
            verified
                .expect(0)
                .with_context(|| format!("rival {winner} wrongly says \"complete\""))?;
            payload.compare(folders[*winner])?;
        }
        ensure!(winners.len() < 2, "both say that they are complete");
        Ok(())
    }

    /// Returns how a rival that did not get the file explains that.
    fn refusal(&self, loser: usize, finished: &Finished) -> Result<&'static str> {
        finished.expect(6)?;
        let message = finished.lines.last().and_then(|line| line["error"]["message"].as_str());
        let message = message.context("no message")?;
        let names =
            |rival: usize| message.contains(&self.rivals[rival].payload.info_hash().to_string());
        if names(1 - loser) {
            return Ok("names the torrent");
        }
        let known = REFUSALS.into_iter().find(|words| message.contains(words));
        known.with_context(|| format!("it does not say whose the file is: {message:?}"))
    }
}
