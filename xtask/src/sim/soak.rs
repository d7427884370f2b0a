//! `testdata/soak.json`: which seeds were played at which commit without a broken rule.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use xtask::workspace;

/// What a run consists of.
const SOURCES: [&str; 3] = ["crates", "Cargo.toml", "Cargo.lock"];

/// A run in which no rule was broken.
pub(super) struct Run {
    pub(super) commit: String,
    pub(super) from: u64,
    pub(super) count: u64,
    pub(super) seconds: f64,
}

/// The commit that is played.
///
/// # Errors
/// What is to be played is no commit: something was changed since.
pub(super) fn commit() -> Result<String> {
    let changed = Command::new("git")
        .args(["status", "--porcelain", "--"])
        .args(SOURCES)
        .current_dir(workspace::root())
        .output()
        .context("cannot run git")?;
    ensure!(changed.status.success(), "only a repository has commits to record");
    let changed = String::from_utf8_lossy(&changed.stdout).into_owned();
    ensure!(changed.is_empty(), "only a commit can be recorded, and these are changed:\n{changed}");
    Ok(workspace::commit())
}

/// Adds a run. Several may end at once.
pub(super) fn add(run: &Run) -> Result<()> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(workspace::root().join("testdata/soak.json"))?;
    file.lock()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let mut runs: Vec<Value> = match text.is_empty() {
        false => serde_json::from_str(&text).context("testdata/soak.json")?,
        true => Vec::new(),
    };
    runs.push(value(run));
    let seeds: u64 = runs.iter().filter_map(|run| run["count"].as_u64()).sum();
    println!("testdata/soak.json: {seeds} seeds in all");
    file.rewind()?;
    file.set_len(0)?;
    Ok(file.write_all(written(&runs).as_bytes())?)
}

fn value(run: &Run) -> Value {
    json!({
        "commit": run.commit,
        "from": run.from,
        "count": run.count,
        "broken": 0,
        "seconds": (run.seconds * 10.0).round() / 10.0,
    })
}

/// A line for each run.
fn written(runs: &[Value]) -> String {
    let lines: Vec<String> = runs.iter().map(|run| format!("  {run}")).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_a_line() {
        let run = Run { commit: "abc".to_owned(), from: 20, count: 10, seconds: 1.26 };
        let runs = vec![value(&run), value(&Run { from: 30, ..run })];
        let text = written(&runs);
        let line = r#"  {"commit":"abc","from":20,"count":10,"broken":0,"seconds":1.3},"#;
        assert_eq!(text.lines().nth(1), Some(line));
        assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap(), runs);
    }
}
