//! bt-cli as a child process, and the JSON it prints.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use tasks::process::{Launch, bounded};

/// How long a command that should end on its own may take.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// The program, with a folder for its output and its state.
#[derive(Debug, Clone)]
pub struct BtCli {
    program: PathBuf,
    home: PathBuf,
    /// The most address space of a process, in bytes.
    address_space: Option<u64>,
}

impl BtCli {
    /// Makes a user of `program` with output and state in `home`.
    pub fn new(program: &Path, home: &Path) -> Self {
        Self { program: program.to_owned(), home: home.to_owned(), address_space: None }
    }

    /// Limits the address space of each process.
    pub fn with_address_space(self, bytes: u64) -> Self {
        Self { address_space: Some(bytes), ..self }
    }

    /// Returns a command with these arguments, to which more may be added.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        // A journal of another test, or of the user, must not change the result.
        command.env("XDG_STATE_HOME", self.home.join("state")).env("HOME", &self.home);
        command.env("BT_CLI_LOCAL", "1");
        command.env_remove("http_proxy").env_remove("RUST_LOG");
        if self.address_space.is_some() {
            // Otherwise the arenas that glibc reserves for each thread would count.
            command.env("MALLOC_ARENA_MAX", "1");
        }
        command
    }

    /// Starts a command. Its output files are called `name`.
    pub fn start(&self, name: &str, command: &Command) -> Result<Launch> {
        match self.address_space {
            Some(bytes) => Launch::start(name, &bounded(command, bytes), &self.home),
            None => Launch::start(name, command, &self.home),
        }
    }

    /// Runs a command with `--json` to its end.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Finished> {
        let mut command = self.command(arguments);
        let mut launch = self.start(name, command.arg("--json"))?;
        finish(&mut launch, COMMAND_LIMIT)
    }

    /// Runs a command with `--json` that must succeed; returns the first line it prints.
    pub fn json<A: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Value> {
        let finished = self.run(name, arguments)?;
        finished.expect(0)?;
        finished.lines.into_iter().next().with_context(|| format!("{name} printed nothing"))
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code.
    pub code: i32,
    /// What it printed: a JSON value per line.
    pub lines: Vec<Value>,
    tail: String,
}

impl Finished {
    /// Checks the exit code and, after a failure, that the last line says so.
    pub fn expect(&self, code: i32) -> Result<()> {
        ensure!(self.code == code, "exit code {} instead of {code}\n{}", self.code, self.tail);
        if code == 0 || code == 130 {
            return Ok(());
        }
        let class = self.lines.last().and_then(|line| line["error"]["class"].as_str());
        let expected = class_of(code);
        ensure!(class == Some(expected), "no last line with class {expected}\n{}", self.tail);
        let message = self.lines.last().and_then(|line| line["error"]["message"].as_str());
        ensure!(message.is_some_and(|text| !text.is_empty()), "no message\n{}", self.tail);
        Ok(())
    }

    /// Checks that it printed an event of this kind.
    pub fn expect_event(&self, kind: &str) -> Result<()> {
        let said = self.lines.iter().any(|line| line["event"] == kind);
        ensure!(said, "no event {kind:?}\n{}", self.tail);
        Ok(())
    }

    /// Checks that `text` is in the last lines of its output.
    pub fn expect_text(&self, text: &str) -> Result<()> {
        ensure!(self.tail.contains(text), "{text:?} was not printed\n{}", self.tail);
        Ok(())
    }
}

/// Waits for a command started with `--json` and reads what it printed.
pub fn finish(launch: &mut Launch, limit: Duration) -> Result<Finished> {
    let code = launch.exit_code(limit)?;
    let tail = launch.output_tail();
    let lines = launch.stdout();
    let lines = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    Ok(Finished { code, lines: lines.with_context(|| format!("no JSON\n{tail}"))?, tail })
}

/// Returns the JSON value of each line. Skips lines that are no JSON, such as an unfinished last
/// one.
pub fn json_lines(text: &str) -> impl DoubleEndedIterator<Item = Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

fn class_of(code: i32) -> &'static str {
    match code {
        1 => "failure",
        2 => "usage",
        3 => "bad_torrent",
        4 => "network",
        5 => "bad_data",
        6 => "disk",
        _ => "interrupted",
    }
}
