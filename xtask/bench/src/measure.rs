//! Measuring: every contestant in each round, in an order that rotates; and the result of one
//! launch.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::table::{Column, Row};
use super::{GIB, MB, MIB, Options};
use tasks::meter::{Cost, Meter};
use tasks::process::{Launch, wait_until};

/// How long one measurement may take.
pub(super) const TRIAL_LIMIT: Duration = Duration::from_secs(300);
/// How long a complete program may take to end.
const END_LIMIT: Duration = Duration::from_secs(20);
/// How often we check whether a program is done. This is the error of a time.
const CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// Measures each row once per round. A row that failed is not measured again.
pub(super) fn race(
    options: &Options,
    rows: &mut [Row],
    measure: impl Fn(usize) -> Result<Vec<f64>>,
) {
    race_for(options.rounds, "MB/s", rows, measure);
}

/// Like [`race`], for so many rounds. `unit` is that of the first column.
pub(super) fn race_for(
    rounds: usize,
    unit: &str,
    rows: &mut [Row],
    measure: impl Fn(usize) -> Result<Vec<f64>>,
) {
    for round in 0..rounds {
        for offset in 0..rows.len() {
            let index = (round + offset) % rows.len();
            let row = &mut rows[index];
            if row.problem.is_some() {
                continue;
            }
            match measure(index) {
                Ok(values) => {
                    eprintln!("round {}, {}: {:.0} {unit}", round + 1, row.name, values[0]);
                    row.add(&values);
                }
                Err(error) => {
                    eprintln!("round {}, {}: failed: {error:#}", round + 1, row.name);
                    row.problem = Some(format!("{error:#}"));
                }
            }
        }
    }
}

/// Waits until `launch` has ended or is `done`. Returns the time until then, and the cost; with
/// `ends`, the cost up to its end.
pub(super) fn follow(
    launch: &mut Launch,
    done: impl Fn() -> bool,
    ends: bool,
) -> Result<(Duration, Cost)> {
    let meter = Meter::start(launch);
    follow_with(launch, meter, done, ends)
}

/// Like [`follow`], with a meter that was started before.
pub(super) fn follow_with(
    launch: &mut Launch,
    mut meter: Meter,
    done: impl Fn() -> bool,
    ends: bool,
) -> Result<(Duration, Cost)> {
    let start = Instant::now();
    while !launch.has_ended() && !done() {
        ensure!(start.elapsed() < TRIAL_LIMIT, "not done yet\n{}", launch.output_tail());
        meter.sample();
        std::thread::sleep(CHECK_INTERVAL);
    }
    let time = start.elapsed();
    if ends {
        wait_until(END_LIMIT, || {
            meter.sample();
            launch.has_ended()
        });
    }
    let cost = meter.cost();
    if ends {
        let code = launch.exit_code(Duration::ZERO)?;
        ensure!(code == 0, "exit code {code}\n{}", launch.output_tail());
    }
    ensure!(ends || done(), "it ended early\n{}", launch.output_tail());
    Ok((time, cost))
}

/// The first three columns of most tables; [`values`] returns their values.
pub(super) const RATE: Column = Column { name: "MB/s", decimals: 0 };
pub(super) const CPU: Column = Column { name: "CPU s/GiB", decimals: 2 };
pub(super) const PEAK: Column = Column { name: "peak MiB", decimals: 0 };

/// The values of [`RATE`], [`CPU`] and [`PEAK`].
pub(super) fn values(size: u64, time: Duration, cost: Cost) -> Vec<f64> {
    let rate = size as f64 / MB / time.as_secs_f64();
    vec![rate, per_gib(cost.cpu, size), cost.peak as f64 / MIB as f64]
}

/// Returns CPU seconds per GiB.
pub(super) fn per_gib(cpu: Duration, size: u64) -> f64 {
    cpu.as_secs_f64() / (size as f64 / GIB as f64)
}
