//! Measurements by other programs of the workspace. Their JSON output becomes tables; a failure is
//! recorded in the table, and the others continue.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::KIB;
use super::table::{Column, Row, Table};
use tasks::workspace::cargo;

const PARSE: &[Column] = &[
    Column { name: "MB/s", decimals: 0 },
    Column { name: "µs", decimals: 1 },
    Column { name: "allocations", decimals: 0 },
    Column { name: "peak KiB", decimals: 1 },
];

const IDLE: &[Column] = &[
    Column { name: "s until all are up", decimals: 2 },
    Column { name: "CPU s of that", decimals: 2 },
    Column { name: "idle CPU s", decimals: 2 },
    Column { name: "KiB a torrent", decimals: 1 },
    Column { name: "open files", decimals: 0 },
    Column { name: "threads", decimals: 0 },
    Column { name: "s to stop", decimals: 2 },
];
/// The numbers of torrents.
const TORRENTS: [&str; 2] = ["1000", "10000"];
/// How long they are idle, in seconds.
const IDLE_SECONDS: &str = "10";

/// Compares bencode parsers, in a table for each torrent. Their package is a workspace of its own,
/// because it depends on other people's parsers.
pub(super) fn parse() -> Vec<Table> {
    let said = json_of(&["--manifest-path", "xtask/bench/parsers/Cargo.toml", "--bin", "parse"]);
    let tables = match said.and_then(|said| parse_tables(&said)) {
        Ok(tables) => tables,
        Err(error) => {
            let mut table = Table::new("parse", "parse".to_owned(), PARSE, Vec::new(), [""; 0]);
            table.skipped.push(("parse".to_owned(), format!("{error:#}")));
            vec![table]
        }
    };
    tables.iter().for_each(|table| print!("{}", table.text()));
    tables
}

/// Measures many idle torrents in one session.
pub(super) fn idle() -> Vec<Table> {
    let rows = TORRENTS.map(|torrents| {
        let mut row = Row::new(&format!("{torrents} torrents"), "", IDLE);
        match idle_values(torrents) {
            Ok(values) => row.add(&values),
            Err(error) => row.problem = Some(format!("{error:#}")),
        }
        row
    });
    let title = format!("idle: torrents in one session without traffic, {IDLE_SECONDS} s");
    let table = Table::new("idle", title, IDLE, rows.to_vec(), [""; 0]);
    print!("{}", table.text());
    vec![table]
}

/// Runs the benchmark of the SHA-1 kernels, which prints its results.
pub(super) fn hash() {
    let mut command = program(&["--package", "piece-hash", "--example", "speed"]);
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => eprintln!("hash: failed: {status}"),
        Err(error) => eprintln!("hash: failed: cannot run cargo: {error}"),
    }
}

/// Makes tables of the output of `parse`: an array of rows, grouped by torrent.
fn parse_tables(said: &Value) -> Result<Vec<Table>> {
    let mut tables: Vec<Table> = Vec::new();
    for entry in said.as_array().context("no array")? {
        let payload = entry["payload"].as_str().context("no payload")?;
        let key = format!("parse-{payload}");
        if tables.last().is_none_or(|table| table.key != key) {
            let bytes = entry["payload_bytes"].as_u64().context("no payload_bytes")?;
            let title = format!("parse: {payload}, {bytes} bytes");
            tables.push(Table::new(&key, title, PARSE, Vec::new(), [""; 0]));
        }
        let table = tables.last_mut().context("no table")?;
        table.rows.push(parse_row(entry)?);
    }
    Ok(tables.into_iter().map(Table::sorted).collect())
}

fn parse_row(entry: &Value) -> Result<Row> {
    let word = |key: &str| entry[key].as_str().with_context(|| format!("no {key}"));
    let mut row = Row::new(word("contestant")?, word("version")?, PARSE);
    // Three values with this median and this spread.
    for key in ["median", "min", "max"] {
        row.figures[0].add(number(&entry["mb_per_s"], key)?);
    }
    row.figures[1].add(number(entry, "milliseconds")? * 1000.0);
    row.figures[2].add(number(entry, "allocations")?);
    row.figures[3].add(number(entry, "peak_bytes")? / KIB as f64);
    Ok(row)
}

fn idle_values(torrents: &str) -> Result<Vec<f64>> {
    let program = ["--package", "session", "--example", "idle", "--"];
    let more = ["--torrents", torrents, "--idle", IDLE_SECONDS, "--json"];
    let said = json_of(&[&program[..], &more[..]].concat())?;
    let number = |key| number(&said, key);
    Ok(vec![
        number("up_seconds")?,
        number("up_cpu_seconds")?,
        number("idle_cpu_seconds")?,
        number("bytes_per_torrent")? / KIB as f64,
        number("open_files")?,
        number("threads")?,
        number("stop_seconds")?,
    ])
}

pub(super) fn number(value: &Value, key: &str) -> Result<f64> {
    value[key].as_f64().with_context(|| format!("no {key}"))
}

/// Runs a program, and parses its JSON output.
pub(super) fn json_of(arguments: &[&str]) -> Result<Value> {
    let mut command = program(arguments);
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "{}", output.status);
    serde_json::from_slice(&output.stdout).context("no JSON")
}

/// Returns the command `cargo run` with these arguments.
fn program(arguments: &[&str]) -> Command {
    eprintln!("$ cargo run --release {}", arguments.join(" "));
    let mut command = cargo();
    command.args(["run", "--release", "--quiet"]).args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_grouped_by_torrent() -> Result<()> {
        let entry = |contestant: &str, payload: &str, median: f64| {
            json!({
                "contestant": contestant, "version": "1.0", "payload": payload,
                "payload_bytes": 1000, "milliseconds": 1.5, "allocations": 3,
                "mb_per_s": { "median": median, "min": median - 1.0, "max": median + 1.0 },
                "peak_bytes": 2 * KIB,
            })
        };
        let said = json!([entry("a", "few", 5.0), entry("b", "few", 7.0), entry("a", "many", 2.0)]);
        let tables = parse_tables(&said)?;
        let names = |table: &Table| {
            let names = table.rows.iter().map(|row| row.name.clone());
            (table.key.clone(), names.collect::<Vec<_>>())
        };
        let expected = |key: &str, names: &[&str]| {
            (key.to_owned(), names.iter().map(|name| (*name).to_owned()).collect())
        };
        let found: Vec<_> = tables.iter().map(names).collect();
        assert_eq!(found, [expected("parse-few", &["b", "a"]), expected("parse-many", &["a"])]);
        let rate = &tables[0].rows[0].figures[0];
        assert_eq!((rate.least(), rate.median(), rate.most()), (Some(6.0), Some(7.0), Some(8.0)));
        assert_eq!(tables[0].rows[0].figures[3].median(), Some(2.0));
        assert!(parse_tables(&json!([{ "payload": "few" }])).is_err());
        Ok(())
    }
}
