//! Torrents that break a rule: bt-cli says of each what the table says, in little time and memory.
//! Then libtorrent is asked as well, where it is installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Geometry, InfoHashV1, Script};

use crate::bt_cli::{BtCli, Finished, finish};
use crate::clients::{Libtorrent, Program as _};
use testkit::fixtures::hostile::{Case, Large, Verdict, cases, data, large};
use xtask::report::Report;

/// The area of these rows.
const AREA: &str = "torrents";
/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The address space of a command that reads a torrent: one of 64 MiB, its table, and room to print.
const READING: u64 = 256 << 20;
/// That of a download: buffers of 40 MiB, and a stack for each thread.
const DOWNLOADING: u64 = 512 << 20;

/// Runs every case whose name contains `only`.
pub(super) fn run(report: &mut Report, only: Option<&str>, program: &Path) -> Result<()> {
    let place = TempDir::with_prefix("hostile-")?;
    let bench = Bench { cli: BtCli::new(program, place.path()), place: place.path() };
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only) || only == AREA);
    let cases = cases();
    for case in cases.iter().filter(|case| wanted(case.name)) {
        report.run(&[AREA, case.name, case.rule], || bench.read(case));
    }
    for case in cases.iter().filter(|case| case.is_downloaded && wanted(case.name)) {
        let what =
            if case.verdict.is_refused() { "a download of it: nothing is made" } else { DOWNLOAD };
        report.run(&[AREA, case.name, what], || bench.download(case));
    }
    for case in large().iter().filter(|case| wanted(case.name)) {
        report.run(&[AREA, case.name, case.rule], || bench.read_large(case));
    }
    if wanted("libtorrent") {
        compare(report, &bench, &cases);
    }
    Ok(())
}

const DOWNLOAD: &str = "a download of it: files where the table says, and nowhere else";

struct Bench<'a> {
    cli: BtCli,
    place: &'a Path,
}

impl Bench<'_> {
    /// `bt-cli ARGUMENTS --json` with a limit on its memory.
    fn run(&self, arguments: &[&Path], address_space: u64) -> Result<Finished> {
        let cli = self.cli.clone().with_address_space(address_space);
        let mut command = cli.command(arguments);
        let mut launch = cli.start("bt-cli", command.arg("--json"))?;
        let finished = finish(&mut launch, LIMIT)?;
        let said = launch.stderr();
        ensure!(!said.contains("panicked"), "it panicked: {said}");
        Ok(finished)
    }

    fn write(&self, case: &Case) -> Result<PathBuf> {
        let path = self.place.join(format!("{}.torrent", case.name));
        fs::write(&path, &case.bytes)?;
        Ok(path)
    }

    /// `info` says what the table says.
    fn read(&self, case: &Case) -> Result<()> {
        let path = self.write(case)?;
        let finished = self.run(&["info".as_ref(), &path], READING)?;
        check(&finished, &case.verdict, case.message)
    }

    /// The same for one that is too large to be kept.
    fn read_large(&self, case: &Large) -> Result<()> {
        let path = self.place.join("large.torrent");
        case.write(&path)?;
        let finished = self.run(&["info".as_ref(), &path], READING);
        fs::remove_file(&path)?;
        check(&finished?, &case.verdict, None)
    }

    /// `download` refuses it too and makes nothing; or it makes what the table says, from a seeder.
    fn download(&self, case: &Case) -> Result<()> {
        let torrent = self.write(case)?;
        let around = TempDir::with_prefix_in("around-", self.place)?;
        let folder = around.path().join("a/b/c");
        fs::create_dir_all(&folder)?;
        let flags = ["download", "--port", "0", "--bind", "127.0.0.1", "--no-resume", "-o"];
        let mut arguments: Vec<PathBuf> = flags.map(PathBuf::from).into();
        arguments.extend([folder.clone(), torrent.clone()]);
        let Verdict::Read { facts } = &case.verdict else {
            let finished = self.run(&as_paths(&arguments), DOWNLOADING)?;
            check(&finished, &case.verdict, case.message)?;
            ensure!(files_below(around.path())?.is_empty(), "it made something");
            return Ok(());
        };
        let info = self.run(&["info".as_ref(), &torrent], READING)?;
        let info = info.lines.first().context("info said nothing")?;
        let seeder = seeder(info)?.listen();
        arguments.extend(["--peer".into(), seeder.address().to_string().into()]);
        let finished = self.run(&as_paths(&arguments), DOWNLOADING)?;
        finished.expect(0)?;
        self.run(&["verify".as_ref(), &torrent, &folder], READING)?.expect(0)?;
        if case.name == PATH_TOO_LONG { Ok(()) } else { expect_files(around.path(), facts) }
    }
}

/// A path longer than what this program can name to the system. bt-cli goes folder by folder.
const PATH_TOO_LONG: &str = "path-25-kib";

fn as_paths(paths: &[PathBuf]) -> Vec<&Path> {
    paths.iter().map(PathBuf::as_path).collect()
}

/// A peer that has the data that all these torrents describe.
fn seeder(info: &Value) -> Result<Script> {
    let number = |key: &str| info[key].as_u64().with_context(|| format!("no {key} in {info}"));
    let geometry = Geometry::new(number("size")?, number("piece_length")?)?;
    let hash = info["info_hash"].as_str().context("no info-hash")?;
    let hash: InfoHashV1 = hash.parse().context("no info-hash")?;
    Ok(Script::serving(hash, geometry, data().into()))
}

/// What was made is what the table says, if it says it; in any case no link, and nothing outside.
fn expect_files(around: &Path, facts: &str) -> Result<()> {
    let made = files_below(around)?;
    let folder = around.join("a/b/c");
    let mut names = BTreeSet::new();
    for path in &made {
        ensure!(!path.is_symlink(), "{} is a link", path.display());
        let inside = path.strip_prefix(&folder);
        names.insert(escaped(
            &inside.with_context(|| format!("{} was made", path.display()))?.display().to_string(),
        ));
    }
    let Some(expected) = fact(facts, "disk") else { return Ok(()) };
    let expected: BTreeSet<String> = expected.split(" | ").map(str::to_owned).collect();
    ensure!(names == expected, "made {names:?} instead of {expected:?}");
    Ok(())
}

/// Every file and link below `folder`.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(files_below(&entry.path())?),
            false => found.push(entry.path()),
        }
    }
    Ok(found)
}

/// Compares the exit code and all that is said with the table. `message` takes the place of the
/// verdict's text.
fn check(finished: &Finished, verdict: &Verdict, message: Option<&str>) -> Result<()> {
    let last = finished.lines.last().context("it said nothing")?;
    let Verdict::Read { facts } = verdict else {
        finished.expect(3)?;
        let expected = message.map_or_else(|| verdict.text(), str::to_owned);
        let said = last["error"]["message"].as_str().unwrap_or_default();
        ensure!(said.ends_with(&format!(": {expected}")), "{said} instead of {expected}");
        if let Verdict::Refused { offset, path, .. } = verdict {
            ensure!(last["error"]["offset"] == *offset, "offset {}", last["error"]["offset"]);
            ensure!(last["error"]["path"] == path.as_str(), "path {}", last["error"]["path"]);
        }
        return Ok(());
    };
    finished.expect(0)?;
    for fact in facts.split("; ") {
        let (key, expected) = fact.split_once('=').with_context(|| format!("no fact: {fact}"))?;
        if let Some(got) = said(last, key)? {
            ensure!(escaped(&got) == expected, "{key}={got} instead of {expected}");
        }
    }
    Ok(())
}

/// What `info --json` says of a fact; it does not tell all of them.
fn said(info: &Value, key: &str) -> Result<Option<String>> {
    let texts = |value: &Value| {
        let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.collect::<Vec<_>>().join(" ")
    };
    let each = |list: &str, show: &dyn Fn(&Value) -> String| {
        let values = info[list].as_array().into_iter().flatten();
        values.map(show).collect::<Vec<_>>().join(" | ")
    };
    Ok(Some(match key {
        "size" => info["size"].to_string(),
        "pieces" => info["piece_count"].to_string(),
        "piece length" => info["piece_length"].to_string(),
        "private" => if info["private"] == true { "yes" } else { "no" }.to_owned(),
        "name" | "comment" => info[key].as_str().unwrap_or_default().to_owned(),
        "web seeds" => texts(&info["web_seeds"]),
        "trackers" => each("trackers", &texts),
        "original" => each("files", &|file| file["path"].as_str().unwrap_or_default().to_owned()),
        "disk" | "attributes" | "nodes" | "unsorted" | "warnings" => return Ok(None),
        _ => bail!("no fact {key} is known"),
    }))
}

fn fact<'a>(facts: &'a str, key: &str) -> Option<&'a str> {
    facts.split("; ").find_map(|fact| fact.strip_prefix(key)?.strip_prefix('='))
}

/// What nobody can see as an escape, as the table has it.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '\\' | '\'' | '"' => c.to_string(),
        _ => c.escape_debug().to_string(),
    };
    text.chars().map(escape).collect()
}

/// Asks each libtorrent there is: its verdict is ours, or the table says why it is not.
fn compare(report: &mut Report, bench: &Bench<'_>, cases: &[Case]) {
    for libtorrent in [Libtorrent::pypi(), Libtorrent::debian()] {
        let name = libtorrent.name();
        match libtorrent.version() {
            None => report.skip(&[AREA, name, "its verdicts"], "not installed"),
            Some(version) => {
                let what =
                    format!("{version}: its verdicts and info-hashes are ours, or it is said why");
                report.run(&[AREA, name, &what], || {
                    compare_with(&libtorrent, &version, bench, cases)
                });
            }
        }
    }
}

fn compare_with(
    libtorrent: &Libtorrent,
    version: &str,
    bench: &Bench<'_>,
    cases: &[Case],
) -> Result<()> {
    let paths = cases.iter().map(|case| bench.write(case)).collect::<Result<Vec<_>>>()?;
    let verdicts = libtorrent.verdicts(&as_paths(&paths))?;
    ensure!(verdicts.len() == cases.len(), "{} verdicts", verdicts.len());
    let mut unexplained = Vec::new();
    for ((case, path), theirs) in cases.iter().zip(&paths).zip(verdicts) {
        let why = case.libtorrent.filter(|why| is_about(why, version));
        match (case.verdict.is_refused() == theirs.is_err(), why) {
            (true, Some(why)) => unexplained.push(format!("{}: no longer true: {why}", case.name)),
            (true, None) => unexplained.extend(other_hash(bench, case, path, theirs)?),
            (false, Some(why)) => println!("  {}: {}: {why}", case.name, told(&theirs)),
            (false, None) => unexplained.push(format!("{}: {}", case.name, told(&theirs))),
        }
    }
    ensure!(unexplained.is_empty(), "nobody says why:\n  {}", unexplained.join("\n  "));
    Ok(())
}

fn told(theirs: &Result<String, String>) -> String {
    match theirs {
        Ok(_) => "libtorrent reads it".to_owned(),
        Err(error) => format!("libtorrent refuses it ({error})"),
    }
}

/// Whether an explanation is about this version.
fn is_about(why: &str, version: &str) -> bool {
    let is_new = !version.starts_with("2.0.") && !version.starts_with("1.");
    !(why.starts_with("since 2.1: ") && !is_new || why.starts_with("before 2.1: ") && is_new)
}

fn other_hash(
    bench: &Bench<'_>,
    case: &Case,
    path: &Path,
    theirs: Result<String, String>,
) -> Result<Option<String>> {
    let Ok(theirs) = theirs else { return Ok(None) };
    let info = bench.run(&["info".as_ref(), path], READING)?;
    let ours = info.lines.first().and_then(|info| info["info_hash"].as_str()).unwrap_or_default();
    Ok((ours != theirs).then(|| format!("{}: info-hash {ours}, libtorrent {theirs}", case.name)))
}
