//! Checks that each constant that crates/README.md lists is in its file and has that value.

use std::path::Path;
use std::time::Duration;

use super::readme::{names, rows};

/// A number of things or bytes, or a time.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Quantity {
    Count(f64),
    Time(Duration),
}

/// Compares the rows below "Constants" in `text` with the files they name, which are below
/// `crates`.
pub(super) fn check(text: &str, crates: &Path) -> Vec<String> {
    let rows = rows(text, "Constants");
    // Rows in italics describe what no constant says.
    let constants = rows.iter().filter(|row| row.len() > 3 && !row[0].starts_with('*'));
    let problems = constants.flat_map(|row| {
        let files = names(&row[2]).map(|file| (file, std::fs::read_to_string(crates.join(file))));
        let files: Vec<(&str, String)> =
            files.map(|(file, text)| (file, text.unwrap_or_default())).collect();
        let check = move |name| check_constant(name, &row[1], &files);
        names(&row[0]).filter_map(check).collect::<Vec<_>>()
    });
    problems.map(|problem| format!("crates/README.md: {problem}")).collect()
}

fn check_constant(name: &str, value: &str, files: &[(&str, String)]) -> Option<String> {
    let found = files.iter().find_map(|(file, text)| Some((file, definition(text, name)?)));
    let Some((file, definition)) = found else {
        let files: Vec<&str> = files.iter().map(|(file, _)| *file).collect();
        return Some(format!("no constant {name} in {}", files.join(", ")));
    };
    let actual = evaluate(definition)?;
    let is_listed = quantities(value).contains(&actual);
    (!is_listed).then(|| format!("{name} is {definition} in {file}, not {value}"))
}

/// Returns what is to the right of `const NAME: TYPE =`.
fn definition<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("const {name}:"))?;
    let (_, value) = rest.split_once('=')?;
    value.split(';').next().map(str::trim)
}

/// Evaluates numbers, their products and shifts, and durations of them; `None` for anything else.
fn evaluate(expression: &str) -> Option<Quantity> {
    let inside = |start: &str| expression.strip_prefix(start)?.strip_suffix(')');
    let seconds = inside("Duration::from_secs(").and_then(product);
    let millis = || inside("Duration::from_millis(").and_then(product);
    if let Some(millis) = seconds.map(|seconds| seconds * 1000.0).or_else(millis) {
        return Some(Quantity::Time(Duration::from_millis(millis as u64)));
    }
    product(expression).map(Quantity::Count)
}

fn product(expression: &str) -> Option<f64> {
    if let Some((left, right)) = expression.split_once("<<") {
        return Some(product(left)? * 2f64.powf(product(right)?));
    }
    let factors = expression.split('*').map(|factor| factor.trim().replace('_', "").parse::<f64>());
    factors.product::<Result<f64, _>>().ok()
}

/// Returns every quantity in the words of a cell: `16 KiB`, `1.5 s`, `2,000`, `3 million`, `2²¹`,
/// `a third`.
fn quantities(cell: &str) -> Vec<Quantity> {
    let words: Vec<&str> = cell.split_whitespace().collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let Some(number) = number(word) else { continue };
        let next = words.get(at + 1).map(|next| next.trim_end_matches([',', ';']));
        found.push(with_unit(number, next.unwrap_or_default()));
        // Of `10, 20 s` both are times.
        found.extend(words[at + 1..].iter().map(|unit| with_unit(number, unit)).filter(is_time));
    }
    found
}

fn number(word: &str) -> Option<f64> {
    let power = |c: char| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|digit| digit == c);
    let word = word.trim_end_matches([',', ';']);
    let base: String = word.chars().filter(|c| *c != ',' && power(*c).is_none()).collect();
    let exponent = word.chars().filter_map(power).fold(0, |all, digit| 10 * all + digit as i32);
    match base.as_str() {
        "third" => Some(3.0),
        "quarter" => Some(4.0),
        base if exponent == 0 => base.parse().ok(),
        base => base.parse::<f64>().ok().map(|base| base.powi(exponent)),
    }
}

fn with_unit(number: f64, unit: &str) -> Quantity {
    let time = |seconds: f64| Quantity::Time(Duration::from_secs_f64(number * seconds));
    let unit = unit.split('/').next().unwrap_or_default();
    match unit.trim_end_matches([',', ';', '.']) {
        "ms" => time(0.001),
        "s" => time(1.0),
        "min" => time(60.0),
        "h" => time(3600.0),
        "day" => time(86_400.0),
        "KiB" => Quantity::Count(number * 1024.0),
        "MiB" => Quantity::Count(number * 1024.0 * 1024.0),
        "GiB" => Quantity::Count(number * 1024.0 * 1024.0 * 1024.0),
        "million" => Quantity::Count(number * 1e6),
        _ => Quantity::Count(number),
    }
}

fn is_time(quantity: &Quantity) -> bool {
    matches!(quantity, Quantity::Time(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_value(definition: &str, cell: &str, expected: bool) {
        let listed = evaluate(definition).map(|actual| quantities(cell).contains(&actual));
        assert_eq!(listed, Some(expected), "{definition} {cell}");
    }

    #[test]
    fn values_are_compared() {
        check_value("40 * 1024 * 1024", "40 MiB", true);
        check_value("1 << 21", "2²¹, 2²⁹ bytes", true);
        check_value("Duration::from_millis(1500)", "1.5 s", true);
        check_value("Duration::from_secs(10)", "10, 20 s", true);
        check_value("10_000", "10,000 peers", true);
        check_value("3", "a third of them", true);
        check_value("Duration::from_secs(10)", "10 min", false);
        check_value("10", "10 s", false);
        check_value("512", "2,512", false);
        assert_eq!(evaluate("OTHER + 1"), None);
    }

    #[test]
    fn constant_must_be_in_its_file() {
        let files = [("a.rs", "pub const A: u32 = 7;\n".to_owned())];
        assert_eq!(check_constant("A", "7 things", &files), None);
        assert_eq!(check_constant("A", "8", &files).unwrap(), "A is 7 in a.rs, not 8");
        assert_eq!(check_constant("B", "7", &files).unwrap(), "no constant B in a.rs");
    }
}
