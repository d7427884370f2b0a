//! Figures with their spread, in tables, as text and as JSON.

use serde_json::{Value, json};

/// The values of one quantity, sorted.
#[derive(Debug, Clone, Default)]
pub(super) struct Figure(Vec<f64>);

impl Figure {
    pub(super) fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// Returns the middle value, or the mean of the two middle ones; `None` without values.
    pub(super) fn median(&self) -> Option<f64> {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => None,
            length if length % 2 == 1 => Some(self.0[middle]),
            _ => Some(f64::midpoint(self.0[middle - 1], self.0[middle])),
        }
    }

    pub(super) fn least(&self) -> Option<f64> {
        self.0.first().copied()
    }

    pub(super) fn most(&self) -> Option<f64> {
        self.0.last().copied()
    }

    /// Sets column `ratio` of all rows to the ratio of their median in `column` to that of the row
    /// `name`.
    pub(super) fn compare(rows: &mut [Row], name: &str, column: usize, ratio: usize) {
        let base = rows.iter().find(|row| row.name == name);
        let Some(base) = base.and_then(|row| row.figures[column].median()) else { return };
        for row in rows {
            let value = row.figures[column].median();
            row.figures[ratio] = Self(value.map(|value| value / base).into_iter().collect());
        }
    }

    fn text(&self, decimals: usize) -> String {
        match (self.median(), self.least(), self.most()) {
            (Some(median), Some(least), Some(most)) if self.0.len() > 1 => {
                format!("{median:.decimals$} ({least:.decimals$}..{most:.decimals$})")
            }
            (Some(median), ..) => format!("{median:.decimals$}"),
            _ => "-".to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({ "median": self.median(), "min": self.least(), "max": self.most() })
    }
}

/// A quantity: its name with the unit, and how many decimals are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) decimals: usize,
}

/// The results of one contestant.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) version: String,
    /// One per column.
    pub(super) figures: Vec<Figure>,
    /// Why there are fewer values than expected.
    pub(super) problem: Option<String>,
}

impl Row {
    pub(super) fn new(name: &str, version: &str, columns: &[Column]) -> Self {
        let figures = vec![Figure::default(); columns.len()];
        Self { name: name.to_owned(), version: version.to_owned(), figures, problem: None }
    }

    /// Adds the values of one measurement, one per column.
    pub(super) fn add(&mut self, values: &[f64]) {
        for (figure, value) in self.figures.iter_mut().zip(values) {
            figure.add(*value);
        }
    }
}

/// The results of all contestants.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// A unique name.
    pub(super) key: String,
    pub(super) title: String,
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Row>,
    /// Contestants that do not take part, and why.
    pub(super) skipped: Vec<(String, String)>,
}

impl Table {
    /// Makes a table of the rows in this order, and of the programs that are not installed.
    pub(super) fn new(
        key: &str,
        title: String,
        columns: &'static [Column],
        rows: Vec<Row>,
        missing: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let skipped = missing.into_iter().map(|name| (name.into(), "not installed".to_owned()));
        Self { key: key.to_owned(), title, columns, rows, skipped: skipped.collect() }
    }

    /// Fills the last columns. Each is the ratio to the named row in the given column.
    pub(super) fn compared(mut self, ratios: &[(&str, usize)]) -> Self {
        let first = self.columns.len() - ratios.len();
        for (index, (name, column)) in ratios.iter().enumerate() {
            Figure::compare(&mut self.rows, name, *column, first + index);
        }
        self
    }

    /// Sorts the rows by the first column, the largest value first.
    pub(super) fn sorted(mut self) -> Self {
        let first = |row: &Row| row.figures.first().and_then(Figure::median).unwrap_or(-1.0);
        self.rows.sort_by(|a, b| first(b).total_cmp(&first(a)));
        self
    }

    /// Formats the table as text.
    pub(super) fn text(&self) -> String {
        let heads =
            ["", "version"].into_iter().chain(self.columns.iter().map(|column| column.name));
        let mut lines = vec![heads.map(str::to_owned).collect::<Vec<_>>()];
        lines.extend(self.rows.iter().map(|row| self.cells(row)));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: Vec<usize> = (0..lines[0].len()).filter_map(width).collect();
        let mut text = format!("\n{}\n", self.title);
        for line in &lines {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("  {cell:<width$}"));
            text += &format!("{}\n", cells.collect::<String>().trim_end());
        }
        for row in &self.rows {
            if let Some(problem) = &row.problem {
                let problem = problem.lines().next().unwrap_or_default();
                text += &format!("  {}: {problem}\n", row.name);
            }
        }
        for (name, why) in &self.skipped {
            text += &format!("  {name}: skipped, {why}\n");
        }
        text
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let figures = row.figures.iter().zip(self.columns);
        let figures = figures.map(|(figure, column)| figure.text(column.decimals));
        [row.name.clone(), row.version.clone()].into_iter().chain(figures).collect()
    }

    pub(super) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let figures = row.figures.iter().zip(self.columns);
            let figures: serde_json::Map<_, _> =
                figures.map(|(figure, column)| (column.name.to_owned(), figure.json())).collect();
            let mut json = json!({ "name": row.name, "version": row.version, "figures": figures });
            if let Some(problem) = &row.problem {
                json["problem"] = problem.as_str().into();
            }
            json
        });
        let skipped = self.skipped.iter().map(|(name, why)| json!({ "name": name, "why": why }));
        json!({
            "key": self.key,
            "title": self.title,
            "rows": rows.collect::<Vec<_>>(),
            "skipped": skipped.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spread() {
        let mut figure = Figure::default();
        assert_eq!((figure.median(), figure.text(1)), (None, "-".to_owned()));
        [3.0, 1.0].into_iter().for_each(|value| figure.add(value));
        assert_eq!(figure.median(), Some(2.0));
        figure.add(2.5);
        assert_eq!(figure.text(1), "2.5 (1.0..3.0)");
    }
}
