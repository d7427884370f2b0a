//! The tables of crates/README.md, which other checks compare with the code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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

/// Checks that each name in backquotes in `text` is a path of `files`, or a word in their code. The
/// section on names on disk has examples instead.
pub(super) fn check_names(text: &str, files: &[(PathBuf, String)]) -> Vec<String> {
    let is_code = |path: &Path| path.extension().is_some_and(|end| end == "rs" || end == "toml");
    let code = files.iter().filter(|(path, _)| is_code(path)).flat_map(|(_, text)| text.lines());
    let code = code.filter(|line| !line.trim_start().starts_with("//"));
    let words: BTreeSet<&str> = code.flat_map(words).collect();
    let paths: Vec<String> =
        files.iter().map(|(path, _)| format!("/{}/", path.display())).collect();
    let exists = |name: &str| {
        let path = format!("/{}/", name.trim_end_matches('/'));
        name.split("::").all(|part| words.contains(part))
            || paths.iter().any(|other| other.contains(&path))
    };
    let sections = text.split("\n## ").filter(|section| !section.starts_with("Names on disk"));
    // Between fences are drawings and commands.
    let prose = sections.flat_map(|section| section.split("```").step_by(2));
    let names = prose.flat_map(|prose| prose.split('`').skip(1).step_by(2));
    let is_name = |name: &&str| {
        name.starts_with(char::is_alphabetic)
            && name.chars().all(|c| is_word(c) || "-./:".contains(c))
    };
    let missing = names.filter(is_name).filter(|name| !exists(name));
    missing.map(|name| format!("crates/README.md: no {name} in the sources")).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the words of a line, and those with hyphens, which are names of cases.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let hyphened = line.split(|c| !is_word(c) && c != '-').map(|word| word.trim_end_matches('-'));
    line.split(|c| !is_word(c)).chain(hyphened)
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
    fn names_are_in_the_sources() {
        let code = "// gone\nfn turn(self) { Reactor::new(\"name-256-bytes\") }\n";
        let files = [(PathBuf::from("crates/a/src/b.rs"), code.to_owned())];
        let text = "`Reactor::turn`, `name-256-bytes`, `a/src/`, `b.rs`, `--flag x`, `2`\n\
                    ```text\n`gone`\n```\n`gone`, `src/c.rs`\n## Names on disk\n`gone`\n";
        let expected =
            ["gone", "src/c.rs"].map(|name| format!("crates/README.md: no {name} in the sources"));
        assert_eq!(check_names(text, &files), expected);
    }

    #[test]
    fn word_is_listed_once() {
        let text = "## Words\n\n| word | meaning |\n|---|---|\n| a, b | x |\n| `a` | y |\n";
        assert_eq!(check_words(text), ["crates/README.md: a is twice below Words"]);
        assert_eq!(check_words("").len(), 1);
    }
}
