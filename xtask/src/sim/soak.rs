//! `testdata/soak.json`: which seeds were played without a broken rule, and at which commit.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use tasks::workspace;

/// What the simulator is built from.
const SOURCES: [&str; 3] = ["crates", "Cargo.toml", "Cargo.lock"];

/// Seeds that were played without a broken rule.
pub(super) struct Entry {
    pub(super) commit: String,
    pub(super) from: u64,
    pub(super) count: u64,
    pub(super) seconds: f64,
}

/// Returns the commit that is checked out.
///
/// # Errors
/// The sources have uncommitted changes.
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

/// Adds an entry. Several processes may do so at once.
pub(super) fn add(entry: &Entry) -> Result<()> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(workspace::root().join("testdata/soak.json"))?;
    file.lock()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let mut entries: Vec<Value> = match text.is_empty() {
        false => serde_json::from_str(&text).context("testdata/soak.json")?,
        true => Vec::new(),
    };
    entries.push(value(entry));
    let seeds: u64 = entries.iter().filter_map(|entry| entry["count"].as_u64()).sum();
    println!("testdata/soak.json: {seeds} seeds in total");
    file.rewind()?;
    file.set_len(0)?;
    Ok(file.write_all(text_of(&entries).as_bytes())?)
}

fn value(entry: &Entry) -> Value {
    json!({
        "commit": entry.commit,
        "from": entry.from,
        "count": entry.count,
        "broken": 0,
        "seconds": (entry.seconds * 10.0).round() / 10.0,
    })
}

/// Formats a line for each entry.
fn text_of(entries: &[Value]) -> String {
    let lines: Vec<String> = entries.iter().map(|entry| format!("  {entry}")).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_a_line() {
        let entry = Entry { commit: "abc".to_owned(), from: 20, count: 10, seconds: 1.26 };
        let entries = vec![value(&entry), value(&Entry { from: 30, ..entry })];
        let text = text_of(&entries);
        let line = r#"  {"commit":"abc","from":20,"count":10,"broken":0,"seconds":1.3},"#;
        assert_eq!(text.lines().nth(1), Some(line));
        assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap(), entries);
    }
}
