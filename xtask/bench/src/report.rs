//! The results as a file: every table, with what is needed to judge or repeat it; and the chart.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::chart;
use super::table::Table;

/// Writes `FILE` and, beside it, a chart of the first table as `.svg`.
pub(super) fn write(file: &Path, tables: &[Table]) -> Result<()> {
    let command = command();
    let results = json!({
        "command": command,
        "machine": machine(),
        "tables": tables.iter().map(Table::json).collect::<Vec<_>>(),
    });
    fs::write(file, serde_json::to_string_pretty(&results)? + "\n")?;
    if let Some(table) = tables.first() {
        fs::write(file.with_extension("svg"), chart::svg(table, &command))?;
    }
    Ok(())
}

/// Adds tables to a file that [`write()`] has written.
pub(super) fn add(file: &Path, tables: &[Table]) -> Result<()> {
    let mut results: Value = serde_json::from_slice(&fs::read(file)?)?;
    let written = results["tables"].as_array_mut().context("no tables")?;
    written.extend(tables.iter().map(Table::json));
    Ok(fs::write(file, serde_json::to_string_pretty(&results)? + "\n")?)
}

/// Returns the command that repeats the measurement.
fn command() -> String {
    let quoted = |word: String| if word.contains(' ') { format!("'{word}'") } else { word };
    let words: Vec<String> = std::env::args().skip(1).map(quoted).collect();
    format!("cargo xtask bench {}", words.join(" "))
}

/// Returns what a figure depends on, without names that identify the machine.
fn machine() -> Value {
    let of = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
    };
    let flags = of("/proc/cpuinfo", "flags");
    let has = |flag: &str| flags.split_whitespace().any(|found| found == flag);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "processor": of("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "sha_ni": has("sha_ni"),
        "avx2": has("avx2"),
        "avx512": has("avx512f"),
        "memory": of("/proc/meminfo", "MemTotal"),
        "kernel": kernel.trim().split('-').next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_appended() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("results.json");
        let columns = &[super::super::measure::RATE, super::super::measure::CPU];
        let table = |key: &str| Table::new(key, key.to_owned(), columns, Vec::new(), [""; 0]);
        write(&file, &[table("first"), table("second")])?;
        add(&file, &[table("third")])?;
        let results: Value = serde_json::from_slice(&fs::read(&file)?)?;
        let tables = results["tables"].as_array().into_iter().flatten();
        let keys: Vec<_> = tables.map(|table| &table["key"]).collect();
        assert_eq!(keys, ["first", "second", "third"]);
        assert!(fs::read_to_string(file.with_extension("svg"))?.contains("<title>first</title>"));
        Ok(())
    }
}
