//! Torrents that break a rule: bt-cli reports of each what the table lists, in little time and
//! memory. Then the verdicts are compared with libtorrent's, where it is installed.

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
use crate::integration::is_wanted;
use tasks::report::Report;
use testkit::fixtures::files_below;
use testkit::fixtures::hostile::{Case, Large, Verdict, cases, data, large};

/// The area of these rows in the report.
const AREA: &str = "torrents";
/// The time limit of a command.
const LIMIT: Duration = Duration::from_secs(10);
/// The address space of a command that reads a torrent: up to 64 MiB, its table, and the output.
const READING: u64 = 256 << 20;
/// The address space of a download: buffers of 40 MiB, and a stack for each thread.
const DOWNLOADING: u64 = 512 << 20;

/// Runs every case whose name contains `only`.
pub(super) fn run(report: &mut Report, only: Option<&str>, program: &Path) -> Result<()> {
    let folder = TempDir::with_prefix("hostile-")?;
    let fixture = Fixture { cli: BtCli::new(program, folder.path()), folder: folder.path() };
    let wanted = |name: &str| is_wanted(only, AREA, name);
    let cases = cases();
    for case in cases.iter().filter(|case| wanted(case.name)) {
        report.run(&[AREA, case.name, case.rule], || fixture.read(case));
    }
    for case in cases.iter().filter(|case| case.is_downloaded && wanted(case.name)) {
        let what = if case.verdict.is_refused() { "download: creates nothing" } else { DOWNLOAD };
        report.run(&[AREA, case.name, what], || fixture.download(case));
    }
    for case in large().iter().filter(|case| wanted(case.name)) {
        report.run(&[AREA, case.name, case.rule], || fixture.read_large(case));
    }
    if wanted("libtorrent") {
        compare(report, &fixture, &cases);
    }
    Ok(())
}

const DOWNLOAD: &str = "download: creates exactly the listed files";

/// bt-cli and a folder for its torrents.
struct Fixture<'a> {
    cli: BtCli,
    folder: &'a Path,
}

impl Fixture<'_> {
    /// Runs `bt-cli ARGUMENTS --json` with a limit on its memory.
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
        let path = self.folder.join(format!("{}.torrent", case.name));
        fs::write(&path, &case.bytes)?;
        Ok(path)
    }

    /// Checks that `info` reports what the table lists.
    fn read(&self, case: &Case) -> Result<()> {
        let path = self.write(case)?;
        let finished = self.run(&["info".as_ref(), &path], READING)?;
        check(&finished, &case.verdict, case.message)
    }

    /// The same for a torrent that is too large to keep.
    fn read_large(&self, case: &Large) -> Result<()> {
        let path = self.folder.join("large.torrent");
        case.write(&path)?;
        let finished = self.run(&["info".as_ref(), &path], READING);
        fs::remove_file(&path)?;
        check(&finished?, &case.verdict, None)
    }

    /// Checks that `download` refuses the torrent and creates nothing, or creates the listed files.
    fn download(&self, case: &Case) -> Result<()> {
        let torrent = self.write(case)?;
        let around = TempDir::with_prefix_in("around-", self.folder)?;
        let folder = around.path().join("a/b/c");
        fs::create_dir_all(&folder)?;
        let flags = ["download", "--port", "0", "--bind", "127.0.0.1", "--no-resume", "-o"];
        let mut arguments: Vec<PathBuf> = flags.map(PathBuf::from).into();
        arguments.extend([folder.clone(), torrent.clone()]);
        let Verdict::Read(facts) = &case.verdict else {
            let finished = self.run(&as_paths(&arguments), DOWNLOADING)?;
            check(&finished, &case.verdict, case.message)?;
            ensure!(files_below(around.path())?.is_empty(), "it created something");
            return Ok(());
        };
        let info = self.run(&["info".as_ref(), &torrent], READING)?;
        let info = info.lines.first().context("info printed nothing")?;
        let seeder = seeder(info)?.listen();
        arguments.extend(["--peer".into(), seeder.address().to_string().into()]);
        let finished = self.run(&as_paths(&arguments), DOWNLOADING)?;
        finished.expect(0)?;
        self.run(&["verify".as_ref(), &torrent, &folder], READING)?.expect(0)?;
        if case.name == PATH_TOO_LONG { Ok(()) } else { expect_files(around.path(), facts) }
    }
}

/// A path that is too long for one system call. bt-cli creates it folder by folder.
const PATH_TOO_LONG: &str = "path-25-kib";

fn as_paths(paths: &[PathBuf]) -> Vec<&Path> {
    paths.iter().map(PathBuf::as_path).collect()
}

/// Returns a peer with the data that all these torrents describe.
fn seeder(info: &Value) -> Result<Script> {
    let number = |key: &str| info[key].as_u64().with_context(|| format!("no {key} in {info}"));
    let geometry = Geometry::new(number("size")?, number("piece_length")?)?;
    let hash = info["info_hash"].as_str().context("no info-hash")?;
    let hash: InfoHashV1 = hash.parse().context("no info-hash")?;
    Ok(Script::serving(hash, geometry, data().into()))
}

/// Checks that the created files are those that the table lists, if it does; in any case that there
/// is no link, and nothing outside of the folder.
fn expect_files(around: &Path, facts: &str) -> Result<()> {
    let created = files_below(around)?;
    let folder = around.join("a/b/c");
    let mut names = BTreeSet::new();
    for path in &created {
        ensure!(!path.is_symlink(), "{} is a link", path.display());
        let inside = path.strip_prefix(&folder);
        names.insert(escaped(
            &inside.with_context(|| format!("created {}", path.display()))?.display().to_string(),
        ));
    }
    let Some(expected) = fact(facts, "disk") else { return Ok(()) };
    let expected: BTreeSet<String> = expected.split(" | ").map(str::to_owned).collect();
    ensure!(names == expected, "created {names:?} instead of {expected:?}");
    Ok(())
}

/// Compares exit code and output with the table. `message` replaces the text of the verdict.
fn check(finished: &Finished, verdict: &Verdict, message: Option<&str>) -> Result<()> {
    let last = finished.lines.last().context("it printed nothing")?;
    let facts = match verdict {
        Verdict::Read(facts) => facts,
        Verdict::Refused(error) => {
            finished.expect(3)?;
            let (error, expected) = (&last["error"], message.unwrap_or(error));
            let said = error["message"].as_str().unwrap_or_default();
            ensure!(said.ends_with(&format!(": {expected}")), "{said} instead of {expected}");
            if let Some((offset, path)) = verdict.place() {
                ensure!(error["offset"] == offset, "offset {}", error["offset"]);
                ensure!(error["path"] == path, "path {}", error["path"]);
            }
            return Ok(());
        }
    };
    finished.expect(0)?;
    for fact in facts.split("; ") {
        let (key, expected) = fact.split_once('=').with_context(|| format!("no fact: {fact}"))?;
        if let Some(got) = printed(last, key)? {
            ensure!(escaped(&got) == expected, "{key}={got} instead of {expected}");
        }
    }
    Ok(())
}

/// Returns what `info --json` prints about a fact; `None` if it prints nothing about it.
fn printed(info: &Value, key: &str) -> Result<Option<String>> {
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
        _ => bail!("unknown fact {key}"),
    }))
}

fn fact<'a>(facts: &'a str, key: &str) -> Option<&'a str> {
    facts.split("; ").find_map(|fact| fact.strip_prefix(key)?.strip_prefix('='))
}

/// Escapes invisible characters as the table does.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '\\' | '\'' | '"' => c.to_string(),
        _ => c.escape_debug().to_string(),
    };
    text.chars().map(escape).collect()
}

/// Compares the verdicts of each installed libtorrent with ours. Where they differ, the table must
/// say why.
fn compare(report: &mut Report, fixture: &Fixture<'_>, cases: &[Case]) {
    for libtorrent in [Libtorrent::pypi(), Libtorrent::debian()] {
        let name = libtorrent.name();
        match libtorrent.version() {
            None => report.skip(&[AREA, name, "its verdicts"], "not installed"),
            Some(version) => {
                let what =
                    format!("{version}: its verdicts and info-hashes are ours, or explained");
                report.run(&[AREA, name, &what], || {
                    compare_with(&libtorrent, &version, fixture, cases)
                });
            }
        }
    }
}

fn compare_with(
    libtorrent: &Libtorrent,
    version: &str,
    fixture: &Fixture<'_>,
    cases: &[Case],
) -> Result<()> {
    let paths = cases.iter().map(|case| fixture.write(case)).collect::<Result<Vec<_>>>()?;
    let verdicts = libtorrent.verdicts(&as_paths(&paths))?;
    ensure!(verdicts.len() == cases.len(), "{} verdicts", verdicts.len());
    let mut unexplained = Vec::new();
    for ((case, path), theirs) in cases.iter().zip(&paths).zip(verdicts) {
        let why = case.libtorrent.filter(|why| is_about(why, version));
        match (case.verdict.is_refused() == theirs.is_err(), why) {
            (true, Some(why)) => unexplained.push(format!("{}: no longer true: {why}", case.name)),
            (true, None) => unexplained.extend(other_hash(fixture, case, path, theirs)?),
            (false, Some(why)) => println!("  {}: {}: {why}", case.name, described(&theirs)),
            (false, None) => unexplained.push(format!("{}: {}", case.name, described(&theirs))),
        }
    }
    ensure!(unexplained.is_empty(), "unexplained:\n  {}", unexplained.join("\n  "));
    Ok(())
}

fn described(theirs: &Result<String, String>) -> String {
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
    fixture: &Fixture<'_>,
    case: &Case,
    path: &Path,
    theirs: Result<String, String>,
) -> Result<Option<String>> {
    let Ok(theirs) = theirs else { return Ok(None) };
    let info = fixture.run(&["info".as_ref(), path], READING)?;
    let ours = info.lines.first().and_then(|info| info["info_hash"].as_str()).unwrap_or_default();
    Ok((ours != theirs).then(|| format!("{}: info-hash {ours}, libtorrent {theirs}", case.name)))
}
