//! Child processes that never outlive us. Dropping the handle ends the process by its id; if we are
//! killed first, the kernel ends it (`setpriv --pdeathsig`).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// How long a program may take to end when asked, before it is killed.
const GRACE: Duration = Duration::from_secs(8);
/// The same for a program whose way of ending does not matter.
const SHORT_GRACE: Duration = Duration::from_millis(500);
/// How often a condition is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// A launched child process, whose output goes to two files.
pub struct Launch {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    grace: Duration,
}

impl Launch {
    /// Starts `command`, with `NAME.out` and `NAME.err` in `folder` as its output.
    pub fn start(name: &str, command: &Command, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let stdout = folder.join(format!("{name}.out"));
        let stderr = folder.join(format!("{name}.err"));
        let child = killed_with_us(command)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr, grace: GRACE })
    }

    /// Makes [`stop`](Self::stop) kill it soon: for other people's programs, some of which are slow
    /// to end.
    pub fn with_short_grace(mut self) -> Self {
        self.grace = SHORT_GRACE;
        self
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its process id, as a number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its process id, for system calls.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Whether it has ended. The kernel still knows what it cost until it is reaped.
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error means that it was reaped already.
        !matches!(waitid(WaitId::Pid(self.pid()), options), Ok(None))
    }

    /// Waits for its end, for at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut status = None;
        let ended = wait_until(limit, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        match status.filter(|_| ended) {
            Some(status) => Ok(status),
            None => bail!("{} still runs after {limit:?}\n{}", self.name, self.output_tail()),
        }
    }

    /// Waits for its end and returns the exit code; an end by a signal is an error.
    pub fn exit_code(&mut self, limit: Duration) -> Result<i32> {
        let status = self.wait(limit)?;
        status.code().with_context(|| format!("{} ended by {status}", self.name))
    }

    /// Sends it a signal, if it still runs.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.is_running() {
            kill_process(self.pid(), signal)?;
        }
        Ok(())
    }

    /// Asks it to end, waits, and kills it if it has not ended.
    pub fn stop(&mut self) {
        let _gone = self.signal(Signal::TERM);
        if !wait_until(self.grace, || !self.is_running()) {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }

    /// Returns what it has written to stdout so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// Returns what it has written to stderr so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Returns the last lines of both outputs, without progress events, for an error message.
    pub fn output_tail(&self) -> String {
        let lines = |text: String| {
            let lines = text.lines().filter(|line| !line.contains(r#""event":"progress""#));
            let lines: Vec<String> = lines.map(|line| format!("    {line}\n")).collect();
            lines[lines.len().saturating_sub(12)..].concat()
        };
        format!("  {} wrote:\n{}{}", self.name, lines(self.stdout()), lines(self.stderr()))
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits until `condition` holds, for at most `limit`; returns whether it does.
pub fn wait_until(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    wait_until_every(CHECK_INTERVAL, limit, condition)
}

/// Like [`wait_until`], with the interval between two checks given.
pub fn wait_until_every(
    interval: Duration,
    limit: Duration,
    mut condition: impl FnMut() -> bool,
) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(interval);
    }
}

/// Returns the path of the program `name`: `name` itself if it is a path; otherwise from the search
/// path, or the folder of `cargo install`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    let installed = std::env::home_dir().map(|home| home.join(".cargo/bin"));
    let folders = std::env::split_paths(&path).chain(installed);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Returns what `program ARGUMENTS` prints on both outputs; `None` if it cannot be run or fails.
pub fn output_of(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    output.status.success().then(|| String::from_utf8_lossy(&text).into_owned())
}

/// Returns the command with the kernel killing it when we end, where `setpriv` is installed.
fn killed_with_us(command: &Command) -> Command {
    through(&["setpriv", "--pdeathsig", "KILL", "--"], command)
}

/// Returns the command with an address space of so many bytes at most, where `prlimit` is
/// installed.
pub fn bounded(command: &Command, address_space: u64) -> Command {
    through(&["prlimit", &format!("--as={address_space}"), "--"], command)
}

/// Returns the command started by `starter`, if that is installed.
fn through(starter: &[&str], command: &Command) -> Command {
    let is_installed = starter.first().is_some_and(|name| find_program(name).is_some());
    within(if is_installed { starter } else { &[] }, command)
}

/// Returns the command run by the program `words[0]`; the other words are its first arguments.
pub fn within(words: &[&str], command: &Command) -> Command {
    let own = words.iter().map(OsStr::new).chain([command.get_program()]);
    let mut parts = own.chain(command.get_args());
    let mut wrapped = Command::new(parts.next().unwrap_or_default());
    wrapped.args(parts);
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

/// Returns the peak of a process's resident memory, in bytes; 0 if it has ended.
pub fn peak_of(process: u32) -> u64 {
    let value = status_of(process, "VmHWM:").unwrap_or_default();
    let kibibytes = value.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// Whether we were started with `signal` ignored, as `nohup` does with SIGHUP. False if unknown.
pub fn is_ignored(signal: i32) -> bool {
    let mask = status_of(std::process::id(), "SigIgn:");
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Returns the rest of the line of /proc/PID/status that starts with `key`; `None` if it has ended.
fn status_of(process: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned)
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
