//! The tables of crates/README.md, from which the other checks take what must hold.

/// Returns the rows of every table below the heading `title`, up to the next heading of the same or
/// a higher level. Each row has its cells, trimmed, without backquotes.
pub(super) fn rows<'a>(text: &'a str, title: &str) -> Vec<Vec<String>> {
    let level = |line: &str| line.chars().take_while(|c| *c == '#').count();
    let is_title = |line: &&'a str| level(line) > 0 && line.trim_start_matches('#').trim() == title;
    let mut lines = text.lines().skip_while(|line| !is_title(line));
    let Some(heading) = lines.next() else { return Vec::new() };
    let is_in_section = |line: &&str| level(line) == 0 || level(line) > level(heading);
    let lines: Vec<&str> = lines.take_while(is_in_section).collect();
    // A table begins with a line of titles and one of dashes.
    let is_row = |at: usize| {
        let titles = lines.get(at + 1).is_some_and(|next| next.starts_with("|---"));
        lines[at].starts_with('|') && !lines[at].starts_with("|---") && !titles
    };
    (0..lines.len()).filter(|at| is_row(*at)).map(|at| cells(lines[at])).collect()
}

/// Returns the names in a cell, which commas separate.
pub(super) fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(',').map(str::trim).filter(|name| !name.is_empty())
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
}
