//! Child processes that never outlive us: each is ended, by its id, when its handle goes, and by
//! the kernel should we be killed first (`setpriv --pdeathsig`).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// How long a program gets between being asked to end and being killed.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long one gets whose end nobody is interested in.
const LITTLE_PATIENCE: Duration = Duration::from_millis(500);
/// How often a condition that nothing signals is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A child process whose output goes into two files.
pub struct Running {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    patience: Duration,
}

impl Running {
    /// Starts `command`, with `NAME.out` and `NAME.err` in `folder`.
    pub fn start(name: &str, command: &Command, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let stdout = folder.join(format!("{name}.out"));
        let stderr = folder.join(format!("{name}.err"));
        let child = tied_to_us(command)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr, patience: PATIENCE })
    }

    /// The same, killed soon if it does not end when asked: for other people's programs, some of
    /// which take their time.
    pub fn with_little_patience(mut self) -> Self {
        self.patience = LITTLE_PATIENCE;
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

    /// Whether it has ended. The kernel goes on knowing what it cost until it is waited for.
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error says that it was waited for already.
        !matches!(waitid(WaitId::Pid(self.pid()), options), Ok(None))
    }

    /// Waits for its end, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut status = None;
        let ended = until(limit, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        match status.filter(|_| ended) {
            Some(status) => Ok(status),
            None => bail!("{} still runs after {limit:?}\n{}", self.name, self.last_words()),
        }
    }

    /// Waits for its end and gives the exit code; a death by signal is an error.
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

    /// Asks it to end, waits, then kills it.
    pub fn stop(&mut self) {
        let _gone = self.signal(Signal::TERM);
        if !until(self.patience, || !self.is_running()) {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// The end of both outputs, for an error message; that it goes on is left out.
    pub fn last_words(&self) -> String {
        let lines = |text: String| {
            let lines = text.lines().filter(|line| !line.contains(r#""event":"progress""#));
            let lines: Vec<String> = lines.map(|line| format!("    {line}\n")).collect();
            lines[lines.len().saturating_sub(12)..].concat()
        };
        format!("  {} said:\n{}{}", self.name, lines(self.stdout()), lines(self.stderr()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits until `condition` holds, at most `limit`; says whether it does.
pub fn until(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    until_every(LOOK, limit, condition)
}

/// The same, looking as often as told.
pub fn until_every(look: Duration, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(look);
    }
}

/// Where the program `name` is: on the search path, or where `cargo install` puts it, or there if it
/// is a path.
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    let installed = std::env::home_dir().map(|home| home.join(".cargo/bin"));
    let folders = std::env::split_paths(&path).chain(installed);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// What `program ARGUMENTS` prints, both outputs; `None` if it cannot be run or fails.
pub fn output_of(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    output.status.success().then(|| String::from_utf8_lossy(&text).into_owned())
}

/// The same command, killed by the kernel when we end, where `setpriv` can arrange that.
fn tied_to_us(command: &Command) -> Command {
    through(&["setpriv", "--pdeathsig", "KILL", "--"], command)
}

/// The same command with so many bytes of address space at most, where `prlimit` can arrange that.
pub fn bounded(command: &Command, address_space: u64) -> Command {
    through(&["prlimit", &format!("--as={address_space}"), "--"], command)
}

/// The same command, started by another one if that is installed.
fn through(starter: &[&str], command: &Command) -> Command {
    let there = starter.first().is_some_and(|name| find_program(name).is_some());
    within(if there { starter } else { &[] }, command)
}

/// The same command, run by the program that the first of `words` names; the others are its arguments.
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

/// The high-water mark of a process's resident memory, in bytes; 0 if it has ended.
pub fn peak_of(process: u32) -> u64 {
    let value = status_of(process, "VmHWM:").unwrap_or_default();
    let kibibytes = value.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// Whether we were started with `signal` ignored, as `nohup` does with SIGHUP. False if the system
/// does not say.
pub fn is_ignored(signal: i32) -> bool {
    let mask = status_of(std::process::id(), "SigIgn:");
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// What the kernel says about a process in the line that begins with `key`; `None` if it has ended.
fn status_of(process: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned)
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
