//! Reports of test cases: a line for each case, and one with the counts.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// The result of a test case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It passed; a note, which may be empty.
    Passed(String),
    /// It failed, and why.
    Failed(String),
    /// It was not run, and why.
    Skipped(String),
}

impl From<Result<String>> for Outcome {
    fn from(result: Result<String>) -> Self {
        match result {
            Ok(note) => Self::Passed(note),
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

/// Counts of cases by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cases that passed.
    pub passed: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Cases that were not run.
    pub skipped: usize,
}

impl Tally {
    /// Adds the counts of another tally.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Parses a line that [`fmt::Display`] made.
    pub fn parse(line: &str) -> Option<Self> {
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

/// A case that can run in parallel with others.
pub struct Case<'a> {
    /// Its name, in the columns of the report.
    pub cells: Vec<String>,
    /// The case; returns a note.
    pub run: Box<dyn FnOnce() -> Result<String> + Send + 'a>,
}

impl<'a> Case<'a> {
    /// Makes a case with these cells.
    pub fn new(cells: &[&str], run: impl FnOnce() -> Result<String> + Send + 'a) -> Self {
        Self { cells: cells.iter().map(ToString::to_string).collect(), run: Box::new(run) }
    }
}

/// A table of cases. Each row is printed as soon as its outcome is known, in columns as wide as the
/// rows so far.
#[derive(Default)]
pub struct Report {
    widths: Vec<usize>,
    tally: Tally,
}

impl Report {
    /// Prints the headings of a table with a column for each of `headings`, and one for the result.
    pub fn new(headings: &[&str]) -> Self {
        let mut report = Self::default();
        println!("{}result", report.padded(headings));
        report
    }

    /// Runs `case` and records its outcome.
    pub fn run(&mut self, cells: &[&str], case: impl FnOnce() -> Result<()>) {
        self.run_noted(cells, || case().map(|()| String::new()));
    }

    /// Like [`run`](Self::run), for a case that returns a note.
    pub fn run_noted(&mut self, cells: &[&str], case: impl FnOnce() -> Result<String>) {
        let start = Instant::now();
        let outcome = Outcome::from(case());
        self.note(cells, &outcome, start.elapsed());
    }

    /// Runs cases in `threads` threads, and records each outcome when it is known.
    pub fn run_parallel(&mut self, threads: usize, cases: Vec<Case<'_>>) {
        let (cases, report) = (Mutex::new(cases.into_iter()), Mutex::new(&mut *self));
        let next = || cases.lock().unwrap_or_else(PoisonError::into_inner).next();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(case) = next() {
                        let start = Instant::now();
                        let outcome = Outcome::from((case.run)());
                        let cells: Vec<&str> = case.cells.iter().map(String::as_str).collect();
                        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                        report.note(&cells, &outcome, start.elapsed());
                    }
                });
            }
        });
    }

    /// Records that a case is not run.
    pub fn skip(&mut self, cells: &[&str], why: impl Into<String>) {
        self.note(cells, &Outcome::Skipped(why.into()), Duration::ZERO);
    }

    /// Records that a case failed.
    pub fn fail(&mut self, cells: &[&str], why: impl Into<String>) {
        self.note(cells, &Outcome::Failed(why.into()), Duration::ZERO);
    }

    fn note(&mut self, cells: &[&str], outcome: &Outcome, time: Duration) {
        println!("{}{outcome} ({:.1} s)", self.padded(cells), time.as_secs_f64());
        match outcome {
            Outcome::Passed(_) => self.tally.passed += 1,
            Outcome::Failed(_) => self.tally.failed += 1,
            Outcome::Skipped(_) => self.tally.skipped += 1,
        }
    }

    /// Returns the tally.
    pub fn finish(self) -> Tally {
        self.tally
    }

    /// Formats the cells of a row, each as wide as the widest in its column so far.
    fn padded(&mut self, cells: &[&str]) -> String {
        self.widths.resize(cells.len().max(self.widths.len()), 0);
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = cell.chars().count().max(*width);
        }
        let columns = cells.iter().zip(&self.widths);
        columns.map(|(cell, width)| format!("{cell:<width$}  ")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted() {
        let cases = vec![
            Case::new(&["first"], || Ok("note".to_owned())),
            Case::new(&["second"], || Ok(String::new())),
            Case::new(&["third"], || anyhow::bail!("it must")),
        ];
        let mut report = Report::new(&["case"]);
        report.run_parallel(2, cases);
        report.skip(&["fourth"], "not now");
        assert_eq!(report.finish(), Tally { passed: 2, failed: 1, skipped: 1 });
    }

    #[test]
    fn columns_fit_the_rows_so_far() {
        let mut report = Report::default();
        assert_eq!(report.padded(&["a", "b"]), "a  b  ");
        assert_eq!(report.padded(&["long", "b"]), "long  b  ");
        assert_eq!(report.padded(&["a", "b"]), "a     b  ");
    }

    #[test]
    fn printed_tally_is_parsed() {
        let tally = Tally { passed: 12, failed: 0, skipped: 3 };
        assert_eq!(tally.to_string(), "12 passed, 0 failed, 3 skipped");
        assert_eq!(Tally::parse(&tally.to_string()), Some(tally));
        for line in ["", "12 passed, 0 failed", "x passed, 0 failed, 3 skipped", "12, 0, 3"] {
            assert_eq!(Tally::parse(line), None);
        }
    }
}
