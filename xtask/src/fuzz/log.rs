//! `testdata/fuzz.json`: how much each target was fuzzed in total.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::Report;
use tasks::workspace::{commit, root};

/// Adds a report on `target`. Several processes may do so at once.
pub(super) fn add(target: &str, report: &Report) -> Result<()> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(root().join("testdata/fuzz.json"))?;
    file.lock()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let mut log: Map<String, Value> = match text.is_empty() {
        false => serde_json::from_str(&text).context("testdata/fuzz.json")?,
        true => Map::new(),
    };
    let before = log.get(target).cloned().unwrap_or_default();
    log.insert(target.to_owned(), added(&before, report, &commit()));
    log.sort_keys();
    file.rewind()?;
    file.set_len(0)?;
    Ok(file.write_all((serde_json::to_string_pretty(&log)? + "\n").as_bytes())?)
}

/// Returns the sum of an entry of the log and a report.
fn added(before: &Value, report: &Report, commit: &str) -> Value {
    let count = |key: &str| before[key].as_u64().unwrap_or(0);
    let cpu = before["cpu_seconds"].as_f64().unwrap_or(0.0) + report.cpu.as_secs_f64();
    json!({
        "cpu_seconds": (cpu * 10.0).round() / 10.0,
        "executions": count("executions") + report.executions,
        "findings": count("findings") + u64::from(report.finding.is_some()),
        "last_commit": commit,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reports_are_added_up() {
        let report = Report {
            executions: 10,
            cpu: Duration::from_millis(1500),
            coverage: 1,
            corpus: String::new(),
            finding: Some("x".to_owned()),
        };
        let first = added(&Value::Null, &report, "a");
        let second = added(&first, &Report { finding: None, ..report }, "b");
        let expected =
            json!({"cpu_seconds": 3.0, "executions": 20, "findings": 1, "last_commit": "b"});
        assert_eq!(second, expected);
    }
}
