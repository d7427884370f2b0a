//! What was tried and what came of it: a table, and one line that says it all.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It works; a word more, if there is one to say.
    Passed(String),
    /// It does not, and why.
    Failed(String),
    /// It was not tried, and why.
    Skipped(String),
}

impl From<Result<String>> for Outcome {
    fn from(result: Result<String>) -> Self {
        match result {
            Ok(more) => Self::Passed(more),
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, more) = match self {
            Self::Passed(more) => ("ok", more),
            Self::Failed(why) => ("FAILED", why),
            Self::Skipped(why) => ("skipped", why),
        };
        f.write_str(word)?;
        if more.is_empty() { Ok(()) } else { write!(f, ": {more}") }
    }
}

/// How many cases ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The tally in a line that [`fmt::Display`] made.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut numbers = ["passed", "failed", "skipped"].into_iter().zip(line.split(", ")).map(
            |(word, part)| part.strip_suffix(word).and_then(|count| count.trim_end().parse().ok()),
        );
        let mut next = || numbers.next().flatten();
        Some(Self { passed: next()?, failed: next()?, skipped: next()? })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// A case that can run beside others.
pub(crate) struct Case<'a> {
    /// What stands in the table.
    pub(crate) cells: Vec<String>,
    /// What is done; a word more to say of it.
    pub(crate) work: Box<dyn FnOnce() -> Result<String> + Send + 'a>,
}

/// A table of cases. Each row is printed when it is known; [`Report::finish`] prints all once more.
pub(crate) struct Report {
    headings: Vec<&'static str>,
    rows: Vec<(Vec<String>, Outcome, Duration)>,
}

impl Report {
    /// A table with a column for each of `headings`, and one for the result.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Runs `case` and notes what came of it.
    pub(crate) fn run(&mut self, cells: &[&str], case: impl FnOnce() -> Result<()>) {
        self.run_told(cells, || case().map(|()| String::new()));
    }

    /// The same, of a case that has a word more to say.
    pub(crate) fn run_told(&mut self, cells: &[&str], case: impl FnOnce() -> Result<String>) {
        let start = Instant::now();
        let outcome = Outcome::from(case());
        self.note(cells, outcome, start.elapsed());
    }

    /// Runs cases in `threads` threads, and notes what came of each when it is known.
    pub(crate) fn run_side_by_side(&mut self, threads: usize, cases: Vec<Case<'_>>) {
        let first = self.rows.len();
        let order: Vec<Vec<String>> = cases.iter().map(|case| case.cells.clone()).collect();
        let (cases, report) = (Mutex::new(cases.into_iter()), Mutex::new(&mut *self));
        let next = || cases.lock().unwrap_or_else(PoisonError::into_inner).next();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(case) = next() {
                        let start = Instant::now();
                        let outcome = Outcome::from((case.work)());
                        let cells: Vec<&str> = case.cells.iter().map(String::as_str).collect();
                        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                        report.note(&cells, outcome, start.elapsed());
                    }
                });
            }
        });
        let place = |cells: &Vec<String>| order.iter().position(|other| other == cells);
        self.rows[first..].sort_by_key(|(cells, ..)| place(cells));
    }

    pub(crate) fn skip(&mut self, cells: &[&str], why: impl Into<String>) {
        self.note(cells, Outcome::Skipped(why.into()), Duration::ZERO);
    }

    pub(crate) fn fail(&mut self, cells: &[&str], why: impl Into<String>) {
        self.note(cells, Outcome::Failed(why.into()), Duration::ZERO);
    }

    fn note(&mut self, cells: &[&str], outcome: Outcome, time: Duration) {
        println!("{} ... {outcome} ({:.1} s)", cells.join(", "), time.as_secs_f64());
        let cells = cells.iter().map(|cell| (*cell).to_owned()).collect();
        self.rows.push((cells, outcome, time));
    }

    /// Prints the table and returns the tally.
    pub(crate) fn finish(self) -> Tally {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| heading.len()).collect();
        for (cells, ..) in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let headings: Vec<String> = self.headings.iter().map(|text| (*text).to_owned()).collect();
        println!("\n{}result", padded(&headings, &widths));
        let mut tally = Tally::default();
        for (cells, outcome, _) in &self.rows {
            let outcome_line = outcome.to_string();
            let outcome_line = outcome_line.lines().next().unwrap_or_default();
            println!("{}{outcome_line}", padded(cells, &widths));
            match outcome {
                Outcome::Passed(_) => tally.passed += 1,
                Outcome::Failed(_) => tally.failed += 1,
                Outcome::Skipped(_) => tally.skipped += 1,
            }
        }
        tally
    }
}

fn padded(cells: &[String], widths: &[usize]) -> String {
    cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_stand_in_their_order() {
        let (second_done, wait) = std::sync::mpsc::channel();
        let case = |name: &str, work| Case { cells: vec![name.to_owned()], work };
        let cases = vec![
            case("first", Box::new(move || Ok(wait.recv().map(str::to_owned)?))),
            case("second", Box::new(move || Ok(second_done.send("word").map(|()| String::new())?))),
            case("third", Box::new(|| anyhow::bail!("it must"))),
        ];
        let mut report = Report::new(&["case"]);
        report.run_side_by_side(2, cases);
        let rows: Vec<_> = report.rows.iter().map(|(cells, ..)| cells[0].as_str()).collect();
        assert_eq!(rows, ["first", "second", "third"]);
        assert_eq!(report.finish(), Tally { passed: 2, failed: 1, skipped: 0 });
    }

    #[test]
    fn a_tally_can_be_read_back() {
        let tally = Tally { passed: 12, failed: 0, skipped: 3 };
        assert_eq!(tally.to_string(), "12 passed, 0 failed, 3 skipped");
        assert_eq!(Tally::parse(&tally.to_string()), Some(tally));
        for line in ["", "12 passed, 0 failed", "x passed, 0 failed, 3 skipped", "12, 0, 3"] {
            assert_eq!(Tally::parse(line), None);
        }
    }
}
