//! Files and folders that change under us, permissions, and too many open files.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, geteuid, prlimit};
use testkit::{HttpTracker, Payload, PayloadBuilder, Script, ScriptedPeer};

use super::Case;
use super::had::{compare, pieces_of};
use super::trial::{ENDS, End, Trial, as_mere_user};
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::integration::scene::{LIMIT, Scene, file, interrupt};
use xtask::process::{find_program, within};

pub(super) const CASES: &[Case] = &[
    ("a file removed during the run", removed_during),
    ("one of many files removed during the run", one_removed_during),
    ("a file truncated during the run", truncated_during),
    ("a file replaced by a symlink during the run", linked_during),
    ("one of many folders removed during the run", one_folder_removed_during),
    ("the download folder removed during the run", folder_removed_during),
    ("the state folder removed during the run", state_removed_during),
    ("a file removed between runs", removed_between),
    ("a file truncated between runs", truncated_between),
    ("a file replaced by a symlink between runs", linked_between),
    ("a folder in a file's place between runs", folder_between),
    ("the download folder removed between runs", folder_removed_between),
    ("the state folder removed between runs", state_removed_between),
    ("the state folder may not be written", state_forbidden),
    ("a file that may not be written", file_forbidden),
    ("a file removed under a seeder", removed_under_seeder),
    ("a file truncated under a seeder", truncated_under_seeder),
    ("few files may be open", few_descriptors),
    ("fewer files may be open during the run", fewer_descriptors),
];

/// Why a case can't run on this machine, if so.
pub(super) fn obstacle(case: &str) -> Option<&'static str> {
    let all_powerful = geteuid().is_root() && find_program("setpriv").is_none();
    let missing = case.contains("may not be written") && all_powerful;
    missing.then_some("permissions mean nothing to root, and setpriv is not installed")
}

/// Files of 3 pieces and a bit: each begins and ends within a piece.
pub(super) fn tree() -> PayloadBuilder {
    let names: Vec<String> = (0..20).map(|number| format!("{}/{number}.bin", number % 3)).collect();
    let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 200_000)).collect();
    Payload::folder("tree", &files).piece_length(64 * 1024)
}

/// The number of the first file in which something is had, and its path.
fn some_file(trial: &Trial<'_>) -> Result<(usize, PathBuf)> {
    let has_some =
        |number: &usize| !pieces_of(&trial.payload, Some(&[*number])).is_disjoint(&trial.had);
    let number = (0..trial.payload.files().count()).find(has_some);
    let file = number.and_then(|number| Some((number, trial.payload.files().nth(number)?.0)));
    file.context("nothing is had")
}

fn removed_during(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let launch = trial.underway(&trial.command())?;
    fs::remove_file(trial.folder().join("file.bin"))?;
    let message = trial.fails(launch, &["file.bin", "access"])?;
    let everything = trial.had.clone();
    Ok(format!("{message}; {}", trial.goes_on(&everything)?))
}

fn one_removed_during(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, tree())?;
    let launch = trial.underway(&trial.command())?;
    let there = |path: &Path| trial.folder().join(path).exists();
    let files: Vec<_> = trial.payload.files().map(|(path, _)| path).collect();
    let number = files.iter().position(|path| there(path)).unwrap_or(0);
    fs::remove_file(trial.folder().join(&files[number]))?;
    let message = trial.fails(launch, &[&files[number].to_string_lossy(), "access"])?;
    let lost = pieces_of(&trial.payload, Some(&[number]));
    Ok(format!("{message}; {}", trial.goes_on(&lost)?))
}

fn truncated_during(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let launch = trial.underway(&trial.command())?;
    let kept = 5;
    File::options().write(true).open(trial.folder().join("file.bin"))?.set_len(kept * 64 * 1024)?;
    let message = trial.fails(launch, &["file.bin", "shorter"])?;
    let lost = trial.had.iter().copied().filter(|piece| u64::from(*piece) >= kept).collect();
    Ok(format!("{message}; {}", trial.goes_on(&lost)?))
}

fn linked_during(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let launch = trial.underway(&trial.command())?;
    let (path, away) = (trial.folder().join("file.bin"), trial.folder().join("away"));
    fs::rename(&path, &away)?;
    symlink(trial.victim()?, &path)?;
    trial.fails(launch, &["file.bin"])?;
    let message = trial.fails(trial.start(&trial.command())?, &["file.bin", "symbolic link"])?;
    trial.is_untouched()?;
    fs::rename(&away, &path)?;
    Ok(format!("{message}; {}", trial.goes_on(&BTreeSet::new())?))
}

fn one_folder_removed_during(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, tree())?;
    let launch = trial.underway(&trial.command())?;
    fs::remove_dir_all(trial.folder().join("tree/1"))?;
    let message = trial.fails(launch, &["tree/1/", "access"])?;
    let within = |(_, (path, _)): &(usize, (PathBuf, u64))| path.starts_with("tree/1");
    let files: Vec<usize> =
        trial.payload.files().enumerate().filter(within).map(|(number, _)| number).collect();
    let lost = pieces_of(&trial.payload, Some(&files));
    Ok(format!("{message}; {}", trial.goes_on(&lost)?))
}

fn folder_removed_during(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, tree())?;
    let launch = trial.underway(&trial.command())?;
    fs::remove_dir_all(trial.folder())?;
    let message = trial.fails(launch, &["tree/"])?;
    let everything = trial.had.clone();
    Ok(format!("{message}; {}", trial.goes_on(&everything)?))
}

fn state_removed_during(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let launch = trial.underway(&trial.command())?;
    fs::remove_dir_all(trial.state())?;
    let message = trial.fails(launch, &["state/bt-cli", ".journal"])?;
    Ok(format!("{message}; {}", trial.goes_on(&BTreeSet::new())?))
}

fn removed_between(scene: &Scene) -> Result<String> {
    let mut told = String::new();
    for end in ENDS {
        let mut trial = Trial::new(scene, tree())?;
        let launch = trial.underway(&trial.command())?;
        trial.end(launch, end)?;
        let (number, path) = some_file(&trial)?;
        fs::remove_file(trial.folder().join(path))?;
        let lost = pieces_of(&trial.payload, Some(&[number]));
        told = trial.goes_on(&lost)?;
        forget(&trial)?;
    }
    Ok(format!("its pieces are fetched again; {told}"))
}

fn truncated_between(scene: &Scene) -> Result<String> {
    let mut told = String::new();
    for end in ENDS {
        let mut trial = Trial::new(scene, file(256))?;
        let launch = trial.underway(&trial.command())?;
        trial.end(launch, end)?;
        let path = trial.folder().join("file.bin");
        File::options().write(true).open(path)?.set_len(7 * 64 * 1024 + 1)?;
        let lost = trial.had.iter().copied().filter(|piece| *piece >= 7).collect();
        told = trial.goes_on(&lost)?;
        forget(&trial)?;
    }
    Ok(format!("what was cut off is fetched again; {told}"))
}

fn linked_between(scene: &Scene) -> Result<String> {
    let mut told = String::new();
    for end in ENDS {
        let mut trial = Trial::new(scene, tree())?;
        let launch = trial.underway(&trial.command())?;
        trial.end(launch, end)?;
        let path = trial.folder().join(some_file(&trial)?.1);
        let away = trial.folder().join("away");
        fs::rename(&path, &away)?;
        symlink(trial.victim()?, &path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        told = trial.fails(trial.start(&trial.command())?, &[&name, "symbolic link"])?;
        trial.is_untouched()?;
        fs::rename(&away, &path)?;
        told = format!("{told}; {}", trial.goes_on(&BTreeSet::new())?);
        forget(&trial)?;
    }
    Ok(told)
}

fn folder_between(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, tree())?;
    let launch = trial.underway(&trial.command())?;
    trial.end(launch, End::Clean)?;
    let path = trial.folder().join(some_file(&trial)?.1);
    let away = trial.folder().join("away");
    fs::rename(&path, &away)?;
    fs::create_dir(&path)?;
    let message = trial.fails(trial.start(&trial.command())?, &["open", "is a directory"])?;
    fs::remove_dir(&path)?;
    fs::rename(&away, &path)?;
    Ok(format!("{message}; {}", trial.goes_on(&BTreeSet::new())?))
}

fn folder_removed_between(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, tree())?;
    let launch = trial.underway(&trial.command())?;
    trial.end(launch, End::Clean)?;
    fs::remove_dir_all(trial.folder())?;
    let everything = trial.had.clone();
    Ok(format!("it begins again; {}", trial.goes_on(&everything)?))
}

/// Without its journal, a file may look like somebody else's: one in which no piece is whole yet.
fn state_removed_between(scene: &Scene) -> Result<String> {
    let mut told = String::new();
    for end in ENDS {
        let mut trial = Trial::new(scene, tree())?;
        let launch = trial.underway(&trial.command())?;
        trial.end(launch, end)?;
        fs::remove_dir_all(trial.state())?;
        told = trial.goes_on_with(&BTreeSet::new(), &["--overwrite"])?;
        forget(&trial)?;
    }
    Ok(format!("everything is verified, with --overwrite; {told}"))
}

fn state_forbidden(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let launch = trial.underway(&trial.command())?;
    trial.end(launch, End::Killed)?;
    fs::set_permissions(trial.state(), Permissions::from_mode(0o555))?;
    let launch = trial.start(&as_mere_user(&trial.command()))?;
    let message =
        trial.fails(launch, &["state/bt-cli", "record of verified pieces", "permission denied"])?;
    fs::set_permissions(trial.state(), Permissions::from_mode(0o755))?;
    Ok(format!("{message}; {}", trial.goes_on(&BTreeSet::new())?))
}

fn file_forbidden(scene: &Scene) -> Result<String> {
    let mut trial = Trial::new(scene, file(256))?;
    let launch = trial.underway(&trial.command())?;
    trial.end(launch, End::Clean)?;
    let path = trial.folder().join("file.bin");
    let before = fs::read(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o444))?;
    // Somebody else's, where we may give it away.
    let owner = fs::metadata(trial.folder())?;
    let given = rustix::fs::chown(&path, Some(rustix::fs::Uid::from_raw(65534)), None).is_ok();
    let launch = trial.start(&as_mere_user(&trial.command()))?;
    let message = trial.fails(launch, &["file.bin", "open", "permission denied"])?;
    ensure!(fs::read(&path)? == before, "it was written to");
    if given {
        use std::os::unix::fs::MetadataExt as _;
        rustix::fs::chown(&path, Some(rustix::fs::Uid::from_raw(owner.uid())), None)?;
    }
    fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    Ok(format!("{message}; {}", trial.goes_on(&BTreeSet::new())?))
}

/// It is open, so that all of it is still there.
fn removed_under_seeder(scene: &Scene) -> Result<String> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(64).tracker(tracker.url()))?;
    let mut launch = scene.seed("seeder", &payload, &tracker)?;
    fs::remove_file(payload.folder_path().join("file.bin"))?;
    let leecher = leecher_of(&payload, &tracker)?;
    ensure!(leecher.wait_for(LIMIT, |seen| seen.complete), "it serves no more");
    interrupt(&mut launch)?;
    Ok("it was open, and is served to the end".to_owned())
}

fn truncated_under_seeder(scene: &Scene) -> Result<String> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(64).tracker(tracker.url()))?;
    let mut launch = scene.seed("seeder", &payload, &tracker)?;
    let path = payload.folder_path().join("file.bin");
    let whole = fs::read(&path)?;
    File::options().write(true).open(&path)?.set_len(100_000)?;
    let leecher = leecher_of(&payload, &tracker)?;
    let finished = finish(&mut launch, COMMAND_LIMIT)?;
    finished.expect(6)?;
    for word in ["cannot read", "file.bin", "shorter"] {
        finished.expect_words(word)?;
    }
    ensure!(leecher.seen().bad_pieces.is_empty(), "it served what is not there");
    fs::write(&path, whole)?;
    let _again = scene.seed("seeder", &payload, &tracker)?;
    let leecher = leecher_of(&payload, &tracker)?;
    ensure!(leecher.wait_for(LIMIT, |seen| seen.complete), "it does not serve again");
    Ok("exit 6 names it; once it is whole again, all of it is served".to_owned())
}

/// Somebody who downloads from who announced last.
fn leecher_of(payload: &Payload, tracker: &HttpTracker) -> Result<ScriptedPeer> {
    let announces = tracker.announces();
    let port = announces.iter().rev().find(|seen| seen.left == 0).map(|seen| seen.port);
    let port = port.context("nobody announced")?;
    Ok(Script::leecher(payload).connect(([127, 0, 0, 1], port).into())?)
}

/// Less than the files of the torrent: some are closed to open others.
fn few_descriptors(scene: &Scene) -> Result<String> {
    let trial = Trial::new(scene, many())?;
    let limit = r#"ulimit -n 64; exec "$@""#;
    let mut launch = trial.start(&within(&["sh", "-c", limit, "sh"], &trial.command()))?;
    finish(&mut launch, COMMAND_LIMIT)?.expect(0)?;
    compare(&trial.payload, &trial.folder(), None)?;
    Ok("it completes with 64 descriptors for 200 files in 50 folders".to_owned())
}

/// The limit is lowered while a download runs: it fails at one place or another and names the
/// limit, and nothing is lost.
fn fewer_descriptors(scene: &Scene) -> Result<String> {
    let (mut least, mut said) = (0, BTreeSet::new());
    for count in (4..64).step_by(4) {
        let mut trial = Trial::new(scene, many())?;
        let mut launch = trial.underway(&trial.command())?;
        let limit = Rlimit { current: Some(count), maximum: Some(count) };
        prlimit(Some(launch.pid()), Resource::Nofile, limit)?;
        if launch.exit_code(COMMAND_LIMIT)? == 0 {
            compare(&trial.payload, &trial.folder(), None)?;
            least = count;
            break;
        }
        said.insert(trial.fails(launch, &["ulimit -n"])?);
        trial.goes_on(&BTreeSet::new())?;
        forget(&trial)?;
    }
    ensure!(least > 0, "it never completes");
    Ok(format!("with {least} it completes; with fewer: {said:?}"))
}

fn many() -> PayloadBuilder {
    let names: Vec<String> =
        (0..200).map(|number| format!("{}/{number}.bin", number % 50)).collect();
    let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 20_000)).collect();
    Payload::folder("many", &files)
}

/// Makes room for another trial in the same scene.
fn forget(trial: &Trial<'_>) -> Result<()> {
    let home = trial.folder();
    let home = home.parent().unwrap_or(&home);
    Ok(fs::remove_dir_all(home)?)
}
