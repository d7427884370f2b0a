//! Files and folders that other programs change, permissions, and too many open files.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, geteuid, prlimit};
use testkit::{HttpTracker, Payload, PayloadBuilder, Script, ScriptedPeer};

use super::Case;
use super::pieces::{compare, pieces_of};
use super::trial::{End, Trial, unprivileged};
use crate::bt_cli::{COMMAND_LIMIT, finish};
use crate::integration::scene::{LIMIT, Scene, file, interrupt};
use tasks::process::{find_program, within};

pub(super) const CASES: &[Case] = &[
    ("a file removed during a download", removed_during),
    ("one of many files removed during a download", one_removed_during),
    ("a file truncated during a download", truncated_during),
    ("a file replaced by a symlink during a download", linked_during),
    ("one of many folders removed during a download", one_folder_removed_during),
    ("the download folder removed during a download", folder_removed_during),
    ("the state folder removed during a download", state_removed_during),
    ("a file removed between launches", removed_between),
    ("a file truncated between launches", truncated_between),
    ("a file replaced by a symlink between launches", linked_between),
    ("a file replaced by a folder between launches", folder_between),
    ("the download folder removed between launches", folder_removed_between),
    ("the state folder removed between launches", state_removed_between),
    ("the state folder is not writable", state_forbidden),
    ("a file is not writable", file_forbidden),
    ("a file removed during seeding", removed_under_seeder),
    ("a file truncated during seeding", truncated_under_seeder),
    ("fewer descriptors than files", few_descriptors),
    ("fewer descriptors during a download", fewer_descriptors),
];

/// Returns why a case can't run on this machine; `None` if it can.
pub(super) fn obstacle(case: &str) -> Option<&'static str> {
    let all_powerful = geteuid().is_root() && find_program("setpriv").is_none();
    let missing = case.contains("not writable") && all_powerful;
    missing.then_some("root ignores permissions, and setpriv is not installed")
}

/// Files of 3 pieces and a bit: each starts and ends within a piece.
pub(super) fn tree() -> PayloadBuilder {
    let names: Vec<String> = (0..20).map(|number| format!("{}/{number}.bin", number % 3)).collect();
    let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 200_000)).collect();
    Payload::folder("tree", &files).piece_length(64 * 1024)
}

/// Returns the number and the path of the first file with a verified piece.
fn some_file(trial: &Trial<'_>) -> Result<(usize, PathBuf)> {
    let has_some =
        |number: &usize| !pieces_of(&trial.payload, Some(&[*number])).is_disjoint(&trial.verified);
    let number = (0..trial.payload.files().count()).find(has_some);
    let file = number.and_then(|number| Some((number, trial.payload.files().nth(number)?.0)));
    file.context("no piece is verified")
}

fn removed_during(scene: &Scene) -> Result<String> {
    let (mut trial, launch) = Trial::started(scene, file(256))?;
    fs::remove_file(trial.folder().join("file.bin"))?;
    let message = trial.expect_failure(launch, &["file.bin", "access"])?;
    Ok(format!("{message}; {}", trial.resume(&trial.verified)?))
}

fn one_removed_during(scene: &Scene) -> Result<String> {
    let (mut trial, launch) = Trial::started(scene, tree())?;
    let there = |path: &Path| trial.folder().join(path).exists();
    let files: Vec<_> = trial.payload.files().map(|(path, _)| path).collect();
    let number = files.iter().position(|path| there(path)).unwrap_or(0);
    fs::remove_file(trial.folder().join(&files[number]))?;
    let message = trial.expect_failure(launch, &[&files[number].to_string_lossy(), "access"])?;
    let lost = pieces_of(&trial.payload, Some(&[number]));
    Ok(format!("{message}; {}", trial.resume(&lost)?))
}

fn truncated_during(scene: &Scene) -> Result<String> {
    let (mut trial, launch) = Trial::started(scene, file(256))?;
    let kept = 5;
    File::options().write(true).open(trial.folder().join("file.bin"))?.set_len(kept * 64 * 1024)?;
    let message = trial.expect_failure(launch, &["file.bin", "shorter"])?;
    let lost = trial.verified.iter().copied().filter(|piece| u64::from(*piece) >= kept).collect();
    Ok(format!("{message}; {}", trial.resume(&lost)?))
}

fn linked_during(scene: &Scene) -> Result<String> {
    let (mut trial, launch) = Trial::started(scene, file(256))?;
    let (path, away) = (trial.folder().join("file.bin"), trial.folder().join("away"));
    fs::rename(&path, &away)?;
    symlink(trial.victim()?, &path)?;
    trial.expect_failure(launch, &["file.bin"])?;
    let message = trial.expect_refusal(&["file.bin", "symbolic link"])?;
    trial.check_victim()?;
    fs::rename(&away, &path)?;
    Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
}

fn one_folder_removed_during(scene: &Scene) -> Result<String> {
    let (mut trial, launch) = Trial::started(scene, tree())?;
    fs::remove_dir_all(trial.folder().join("tree/1"))?;
    let message = trial.expect_failure(launch, &["tree/1/", "access"])?;
    let within = |(_, (path, _)): &(usize, (PathBuf, u64))| path.starts_with("tree/1");
    let files: Vec<usize> =
        trial.payload.files().enumerate().filter(within).map(|(number, _)| number).collect();
    let lost = pieces_of(&trial.payload, Some(&files));
    Ok(format!("{message}; {}", trial.resume(&lost)?))
}

fn folder_removed_during(scene: &Scene) -> Result<String> {
    let (mut trial, launch) = Trial::started(scene, tree())?;
    fs::remove_dir_all(trial.folder())?;
    let message = trial.expect_failure(launch, &["tree/"])?;
    Ok(format!("{message}; {}", trial.resume(&trial.verified)?))
}

fn state_removed_during(scene: &Scene) -> Result<String> {
    let (mut trial, launch) = Trial::started(scene, file(256))?;
    fs::remove_dir_all(trial.state())?;
    let message = trial.expect_failure(launch, &["state/bt-cli", ".journal"])?;
    Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
}

fn removed_between(scene: &Scene) -> Result<String> {
    let message = after_each_end(scene, &tree(), |trial| {
        let (number, path) = some_file(trial)?;
        fs::remove_file(trial.folder().join(path))?;
        let lost = pieces_of(&trial.payload, Some(&[number]));
        trial.resume(&lost)
    })?;
    Ok(format!("its pieces are downloaded again; {message}"))
}

fn truncated_between(scene: &Scene) -> Result<String> {
    let message = after_each_end(scene, &file(256), |trial| {
        let path = trial.folder().join("file.bin");
        File::options().write(true).open(path)?.set_len(7 * 64 * 1024 + 1)?;
        let lost = trial.verified.iter().copied().filter(|piece| *piece >= 7).collect();
        trial.resume(&lost)
    })?;
    Ok(format!("the missing bytes are downloaded again; {message}"))
}

fn linked_between(scene: &Scene) -> Result<String> {
    after_each_end(scene, &tree(), |trial| {
        let path = trial.folder().join(some_file(trial)?.1);
        let away = trial.folder().join("away");
        fs::rename(&path, &away)?;
        symlink(trial.victim()?, &path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let message = trial.expect_refusal(&[&name, "symbolic link"])?;
        trial.check_victim()?;
        fs::rename(&away, &path)?;
        Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
    })
}

fn folder_between(scene: &Scene) -> Result<String> {
    let mut trial = Trial::ended(scene, tree(), End::Clean)?;
    let path = trial.folder().join(some_file(&trial)?.1);
    let away = trial.folder().join("away");
    fs::rename(&path, &away)?;
    fs::create_dir(&path)?;
    let message = trial.expect_refusal(&["open", "is a directory"])?;
    fs::remove_dir(&path)?;
    fs::rename(&away, &path)?;
    Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
}

fn folder_removed_between(scene: &Scene) -> Result<String> {
    let trial = Trial::ended(scene, tree(), End::Clean)?;
    fs::remove_dir_all(trial.folder())?;
    Ok(format!("it starts again; {}", trial.resume(&trial.verified)?))
}

/// Without the journal, a file without a complete piece looks unrelated.
fn state_removed_between(scene: &Scene) -> Result<String> {
    let message = after_each_end(scene, &tree(), |trial| {
        fs::remove_dir_all(trial.state())?;
        trial.resume_with(&BTreeSet::new(), &["--overwrite"])
    })?;
    Ok(format!("everything is verified, with --overwrite; {message}"))
}

fn state_forbidden(scene: &Scene) -> Result<String> {
    let mut trial = Trial::ended(scene, file(256), End::Killed)?;
    fs::set_permissions(trial.state(), Permissions::from_mode(0o555))?;
    let launch = trial.start(&unprivileged(&trial.command()))?;
    let message = trial.expect_failure(
        launch,
        &["state/bt-cli", "record of verified pieces", "permission denied"],
    )?;
    fs::set_permissions(trial.state(), Permissions::from_mode(0o755))?;
    Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
}

fn file_forbidden(scene: &Scene) -> Result<String> {
    let mut trial = Trial::ended(scene, file(256), End::Clean)?;
    let path = trial.folder().join("file.bin");
    let before = fs::read(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o444))?;
    // If we may, give the file to another user.
    let owner = fs::metadata(trial.folder())?;
    let given = rustix::fs::chown(&path, Some(rustix::fs::Uid::from_raw(65534)), None).is_ok();
    let launch = trial.start(&unprivileged(&trial.command()))?;
    let message = trial.expect_failure(launch, &["file.bin", "open", "permission denied"])?;
    ensure!(fs::read(&path)? == before, "the file was written to");
    if given {
        use std::os::unix::fs::MetadataExt as _;
        rustix::fs::chown(&path, Some(rustix::fs::Uid::from_raw(owner.uid())), None)?;
    }
    fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    Ok(format!("{message}; {}", trial.resume(&BTreeSet::new())?))
}

/// The file stays readable because it is open.
fn removed_under_seeder(scene: &Scene) -> Result<String> {
    let tracker = HttpTracker::start();
    let payload = scene.payload(file(64).tracker(tracker.url()))?;
    let mut launch = scene.seed("seeder", &payload, &tracker)?;
    fs::remove_file(payload.folder_path().join("file.bin"))?;
    let leecher = leecher_of(&payload, &tracker)?;
    ensure!(leecher.wait_for(LIMIT, |seen| seen.complete), "the seeder stopped serving");
    interrupt(&mut launch)?;
    Ok("the open file is served to the end".to_owned())
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
        finished.expect_text(word)?;
    }
    ensure!(leecher.seen().bad_pieces.is_empty(), "it served missing bytes");
    fs::write(&path, whole)?;
    let _again = scene.seed("seeder", &payload, &tracker)?;
    let leecher = leecher_of(&payload, &tracker)?;
    ensure!(leecher.wait_for(LIMIT, |seen| seen.complete), "it does not serve again");
    Ok("exit code 6 names the file; once it is complete again, all of it is served".to_owned())
}

/// Starts a leecher that connects to the seeder that announced last.
fn leecher_of(payload: &Payload, tracker: &HttpTracker) -> Result<ScriptedPeer> {
    let announces = tracker.announces();
    let port = announces.iter().rev().find(|seen| seen.left == 0).map(|seen| seen.port);
    let port = port.context("nobody announced")?;
    Ok(Script::leecher(payload).connect(([127, 0, 0, 1], port).into())?)
}

/// With fewer descriptors than files, some files are closed to open others.
fn few_descriptors(scene: &Scene) -> Result<String> {
    let trial = Trial::new(scene, many())?;
    let limit = r#"ulimit -n 64; exec "$@""#;
    let mut launch = trial.start(&within(&["sh", "-c", limit, "sh"], &trial.command()))?;
    finish(&mut launch, COMMAND_LIMIT)?.expect(0)?;
    compare(&trial.payload, &trial.folder(), None)?;
    Ok("it completes with 64 descriptors for 200 files in 50 folders".to_owned())
}

/// The limit is lowered during a download: it fails somewhere and names the limit, and no verified
/// piece is lost.
fn fewer_descriptors(scene: &Scene) -> Result<String> {
    let (mut least, mut said) = (0, BTreeSet::new());
    for count in (4..64).step_by(4) {
        let (mut trial, mut launch) = Trial::started(scene, many())?;
        let limit = Rlimit { current: Some(count), maximum: Some(count) };
        prlimit(Some(launch.pid()), Resource::Nofile, limit)?;
        if launch.exit_code(COMMAND_LIMIT)? == 0 {
            compare(&trial.payload, &trial.folder(), None)?;
            least = count;
            break;
        }
        said.insert(trial.expect_failure(launch, &["ulimit -n"])?);
        trial.resume(&BTreeSet::new())?;
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

/// Calls `work` after a download that ended cleanly, then after one that was killed. Returns its last
/// result.
fn after_each_end(
    scene: &Scene,
    payload: &PayloadBuilder,
    work: impl Fn(&mut Trial<'_>) -> Result<String>,
) -> Result<String> {
    let mut message = String::new();
    for end in [End::Clean, End::Killed] {
        let mut trial = Trial::ended(scene, payload.clone(), end)?;
        message = work(&mut trial)?;
        forget(&trial)?;
    }
    Ok(message)
}

/// Removes the user's folders, so that the scene can be used for another trial.
fn forget(trial: &Trial<'_>) -> Result<()> {
    let home = trial.folder();
    let home = home.parent().unwrap_or(&home);
    Ok(fs::remove_dir_all(home)?)
}
