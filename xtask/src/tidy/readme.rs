//! The tables of crates/README.md, which other checks compare with the code.

use std::collections::BTreeSet;

/// Returns the rows of every table below the heading `title`, up to the next heading of the same or
/// a higher level. Each row has its cells, trimmed, without backquotes.
pub(super) fn rows<'a>(text: &'a str, title: &str) -> Vec<Vec<String>> {
    let level = |line: &str| line.chars().take_while(|c| *c == '#').count();
    let is_title = |line: &&'a str| level(line) > 0 && line.trim_start_matches('#').trim() == title;
    let mut lines = text.lines().skip_while(|line| !is_title(line));
    let Some(heading) = lines.next() else { return Vec::new() };
    let is_in_section = |line: &&str| level(line) == 0 || level(line) > level(heading);
    let lines: Vec<&str> = lines.take_while(is_in_section).collect();
    // A table starts with a line of titles and one of dashes.
    let is_row = |at: usize| {
        let titles = lines.get(at + 1).is_some_and(|next| next.starts_with("|---"));
        lines[at].starts_with('|') && !lines[at].starts_with("|---") && !titles
    };
    (0..lines.len()).filter(|at| is_row(*at)).map(|at| cells(lines[at])).collect()
}

/// Returns the names in a cell, which are separated by commas.
pub(super) fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// Checks that the glossary in `text` lists each word once.
pub(super) fn check_words(text: &str) -> Vec<String> {
    let rows = rows(text, "Words");
    let mut seen = BTreeSet::new();
    let words = rows.iter().flat_map(|row| names(&row[0]));
    let repeated = words.filter(|word| !seen.insert(*word));
    let mut problems: Vec<String> =
        repeated.map(|word| format!("crates/README.md: {word} is twice below Words")).collect();
    if rows.is_empty() {
        problems.push("crates/README.md: no glossary below Words".to_owned());
    }
    problems
}

fn cells(row: &str) -> Vec<String> {
    const ESCAPED: &str = "\u{0}";
    let row = row.replace("\\|", ESCAPED);
    let cells = row.trim().trim_matches('|').split('|');
    cells.map(|cell| cell.trim().replace('`', "").replace(ESCAPED, "|")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_with_the_section() {
        let text = "# A\n## B\n| x | y |\n|---|---|\n| `a` | b, c |\n\n### C\n| x |\n|---|\n\
                    | d \\| e |\n## D\n| x |\n|---|\n| f |\n";
        assert_eq!(rows(text, "B"), [vec!["a", "b, c"], vec!["d | e"]]);
        assert!(rows(text, "E").is_empty());
        assert_eq!(names("b, c").collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn word_is_listed_once() {
        let text = "## Words\n\n| word | meaning |\n|---|---|\n| a, b | x |\n| `a` | y |\n";
        assert_eq!(check_words(text), ["crates/README.md: a is twice below Words"]);
        assert_eq!(check_words("").len(), 1);
    }
}
