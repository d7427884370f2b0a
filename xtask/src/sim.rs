//! `cargo xtask sim`: simulates whole swarms, or with `--dht` networks of DHT nodes, one per seed, with
//! the program of `crates/sim` as a child process. It reports what broke and how to reproduce it. Some
//! seeds are played twice, in two processes, which must agree. `--mutants` plants bugs, one at a time,
//! and checks that each is found.

mod dht_table;
mod mutants;
mod soak;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use tasks::process::{Launch, wait_until};
use tasks::workspace::{self, target};

/// The least number of seeds that are played twice.
const LEAST_TWICE: u64 = 20;
/// How long a seed may take on average before the simulator counts as stuck.
const MAX_TIME: Duration = Duration::from_secs(2);
/// Added to the limit for any number of seeds.
const GRACE: Duration = Duration::from_secs(120);

/// Which scenarios to play.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// How many scenarios [default: 1000]
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// Plays networks of DHT nodes instead of swarms
    #[arg(long)]
    dht: bool,
    /// Also plays networks that are too large, or live too long, for a seed: 5,000 nodes, a day of
    /// churn, 24 days of an idle node
    #[arg(long, requires = "dht", conflicts_with_all = ["seed", "mutants"])]
    full: bool,
    /// Adds the result to testdata/soak.json, if no rule is broken
    #[arg(long, conflicts_with = "dht")]
    record: bool,
    /// Plays only this seed and prints every event
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "from", "record"])]
    seed: Option<u64>,
    /// Plays downloads from swarms of given rates, and prints what share of the rate they use
    #[arg(long, conflicts_with_all = ["dht", "seeds", "from", "record", "seed", "mutants"])]
    shapes: bool,
    /// Plants bugs, one at a time (all, or those with NAME in their names), which must be found
    #[arg(long, value_name = "NAME", conflicts_with_all = ["seeds", "from", "record", "seed"])]
    mutants: Option<Option<String>>,
}

impl Arguments {
    /// Returns arguments for `seeds` networks of DHT nodes, and with `full` the long ones.
    pub(crate) fn dht(seeds: u64, full: bool) -> Self {
        Self { dht: true, full, seeds: Some(seeds), ..Self::default() }
    }

    fn kind(&self) -> Kind {
        if self.dht { Kind::Dht } else { Kind::Swarms }
    }
}

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Swarms,
    Dht,
}

impl Kind {
    /// Returns the simulator's first words.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Swarms => &[],
            Self::Dht => &["dht"],
        }
    }

    /// Returns the command that plays one seed and prints every event.
    fn command(self, seed: u64) -> String {
        match self {
            Self::Swarms => format!("cargo xtask sim --seed {seed}"),
            Self::Dht => format!("cargo xtask sim --dht --seed {seed}"),
        }
    }
}

/// Plays what was chosen; fails if a rule is broken, or a mutant is not found.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(named) = &arguments.mutants {
        return mutants::run(named.as_deref().unwrap_or(""));
    }
    let program = build()?;
    if arguments.shapes {
        return shapes(&program);
    }
    match arguments.seed {
        Some(seed) => trace(&program, arguments.kind(), seed),
        None => play(&program, arguments),
    }
}

/// Plants every bug, one at a time; fails if one is not found.
pub(crate) fn mutants() -> Result<()> {
    mutants::run("")
}

/// Plays downloads from swarms of given rates; fails if one uses less of the rate than expected.
pub(crate) fn shapes(program: &Path) -> Result<()> {
    let status = Command::new(program).arg("shapes").status()?;
    ensure!(status.success(), "a rule is broken, or a share is less than expected");
    Ok(())
}

/// Builds the simulator, and returns its path.
fn build() -> Result<PathBuf> {
    Ok(workspace::build(&["sim"], "sim")?.join("sim"))
}

fn trace(program: &Path, kind: Kind, seed: u64) -> Result<()> {
    let mut command = Command::new(program);
    let status = command.args(kind.words()).args(["trace", &seed.to_string()]).status()?;
    ensure!(status.success(), "seed {seed}: {status}");
    Ok(())
}

/// Plays many scenarios, some of them twice.
pub(crate) fn play(program: &Path, arguments: &Arguments) -> Result<()> {
    let (count, from) = (arguments.seeds.unwrap_or(1000), arguments.from);
    let commit = if arguments.record { Some(soak::commit()?) } else { None };
    let start = Instant::now();
    let first = digests(program, arguments.kind(), count, from)?;
    let seconds = start.elapsed().as_secs_f64();
    let twice = (count / 10).max(LEAST_TWICE).min(count);
    let second = digests(program, arguments.kind(), twice, from)?;
    let differs = first.iter().zip(&second).find(|(first, second)| first != second);
    if let Some((first, _)) = differs {
        let seed = first.split(' ').next().unwrap_or_default();
        bail!("seed {seed} differs in two processes");
    }
    println!("{twice} of them the same in a second process");
    if arguments.full {
        let status = Command::new(program).args(["dht", "long"]).status()?;
        ensure!(status.success(), "a rule is broken in a long simulation");
    }
    if let Some(commit) = commit {
        soak::add(&soak::Entry { commit, from, count, seconds })?;
    }
    Ok(())
}

/// Plays `count` seeds; returns a line for each, with its digest.
fn digests(program: &Path, kind: Kind, count: u64, from: u64) -> Result<Vec<String>> {
    let mut command = Command::new(program);
    command.args(kind.words()).args(["digests", &count.to_string(), &from.to_string()]);
    let limit = limit(count);
    let mut launch = Launch::start("sim", &command, &target()?.join("sim/logs"))?;
    let (mut shown, mut digests) = (0, Vec::new());
    let mut show = |output: &str| {
        let whole = output.rfind('\n').map_or(0, |at| at + 1);
        for line in output.get(shown..whole).unwrap_or_default().lines() {
            match broken(line) {
                Some((seed, rule)) => {
                    println!("seed {seed}: {rule}\n    {}", kind.command(seed));
                }
                None if line.contains(':') => println!("{line}"),
                None => digests.push(line.to_owned()),
            }
        }
        shown = whole;
    };
    let ended = wait_until(limit, || {
        show(&launch.stdout());
        launch.has_ended()
    });
    show(&launch.stdout());
    ensure!(ended, "{count} seeds from {from} still run after {limit:?}\n{}", launch.output_tail());
    let code = launch.exit_code(GRACE)?;
    ensure!(code == 0, "a rule is broken in one of {count} seeds from {from}");
    ensure!(digests.len() as u64 == count, "{} seeds of {count} were played", digests.len());
    Ok(digests)
}

/// Returns how long `count` seeds may take.
fn limit(count: u64) -> Duration {
    GRACE + MAX_TIME * u32::try_from(count).unwrap_or(u32::MAX)
}

/// Parses the seed and the broken rule in a line of the simulator; `None` if the line has none.
fn broken(line: &str) -> Option<(u64, &str)> {
    let (seed, rest) = line.strip_prefix("seed ")?.split_once(": BROKEN: ")?;
    let rule = rest.rsplit_once(" (").map_or(rest, |(rule, _)| rule);
    Some((seed.parse().ok()?, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_rules_are_read() {
        let line = "seed 12: BROKEN: n0: piece 3 (of 4) is lost (99 events, 3.2 s of its time)";
        assert_eq!(broken(line), Some((12, "n0: piece 3 (of 4) is lost")));
        assert_eq!(broken("seed 12: ok (99 events, 3.2 s of its time)"), None);
        assert_eq!(broken("12 0123456789abcdef"), None);
    }
}
