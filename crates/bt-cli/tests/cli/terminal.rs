//! Closed terminals, and SIGHUP.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use testkit::{AnnounceEvent, HttpTracker, Payload};

use crate::support::{Shell, dead_port, dir, finish, leech, words};

/// The longest that a step may take before the test fails.
const LIMIT: Duration = Duration::from_secs(30);
/// Ignores SIGHUP, as `nohup` does for the program that it runs.
const NOHUP: &str = r#"trap "" HUP"#;

/// Returns the two ends of a new terminal: ours, and the one for programs.
fn terminal() -> (OwnedFd, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    (ours, rustix::fs::open(name, flags, Mode::empty()).unwrap())
}

fn hang_up(child: &Child) {
    kill_process(Pid::from_child(child), Signal::HUP).unwrap();
}

fn payload(tracker: &HttpTracker) -> Payload {
    Payload::file("a", 50_000).tracker(tracker.url()).create().unwrap()
}

/// Returns a command that ignores SIGHUP and seeds until one peer has everything, and its address.
fn seed_to_ratio(shell: &Shell, payload: &Payload, flags: &[&str]) -> (Command, SocketAddr) {
    let port = dead_port();
    let number = port.to_string();
    let rest = [&[dir(payload), "--port", &number, "--ratio", "1"], flags].concat();
    (shell.command_after(NOHUP, words("seed", payload, &rest)), ([127, 0, 0, 1], port).into())
}

fn has_stopped(tracker: &HttpTracker) -> bool {
    tracker.announces().iter().any(|announce| announce.event == AnnounceEvent::Stopped)
}

#[test]
fn hangup_ends_cleanly() {
    let (shell, tracker) = (Shell::new(), HttpTracker::start());
    let payload = payload(&tracker);
    let mut command = shell.command(words("seed", &payload, &[dir(&payload), "--port", "0"]));
    let child = command.spawn().unwrap();
    assert!(tracker.wait_for(LIMIT, |seen| !seen.is_empty()));
    // A closed terminal is often reported twice: by the kernel and by the shell.
    hang_up(&child);
    hang_up(&child);
    finish(child).expect(130);
    assert!(has_stopped(&tracker));
}

#[test]
fn nohup_ignores_hangup() {
    let (shell, tracker) = (Shell::new(), HttpTracker::start());
    let payload = payload(&tracker);
    let (mut command, address) = seed_to_ratio(&shell, &payload, &[]);
    let child = command.spawn().unwrap();
    assert!(tracker.wait_for(LIMIT, |seen| !seen.is_empty()));
    hang_up(&child);
    leech(&payload, address);
    finish(child).expect(0);
}

#[test]
fn closed_terminal_is_no_failure() {
    for json in [&[][..], &["--json"]] {
        let (shell, tracker) = (Shell::new(), HttpTracker::start());
        let payload = payload(&tracker);
        let (mut command, address) = seed_to_ratio(&shell, &payload, json);
        let (ours, theirs) = terminal();
        command.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap());
        command.stderr(theirs);
        let mut child = command.spawn().unwrap();
        drop(command);
        assert!(tracker.wait_for(LIMIT, |seen| !seen.is_empty()));
        drop(ours);
        leech(&payload, address);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
