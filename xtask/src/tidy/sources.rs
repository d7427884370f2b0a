//! What a source file must not contain, and how long it may be.

use std::path::Path;

/// The longest file, without its tests.
const MAX_FILE_LINES: usize = 500;
/// Modules that may allow what clippy.toml forbids, in a line at their top: they do I/O.
const DOORS: &[&str] =
    &["reactor", "pool", "client", "os", "probe", "node", "session", "command", "net"];
/// Programs and test helpers that may do the same.
const PROGRAMS: &[&str] = &[
    "crates/bt-cli/src/main.rs",
    "crates/sim/src/main.rs",
    "crates/testkit/src/lib.rs",
    "xtask/bench/parsers/src/bin/allocations.rs",
    "xtask/bench/parsers/src/bin/parse.rs",
    "xtask/bench/parsers/src/lib.rs",
    "xtask/bench/src/main.rs",
    "xtask/e2e/src/lib.rs",
    "xtask/src/main.rs",
    "xtask/tasks/src/lib.rs",
];

/// The start of the names of clippy's lints for what clippy.toml lists.
const FENCE: &str = concat!("clippy::", "disallowed_");

/// Never to be committed. Written in two parts, so that this file does not contain them.
const UNFINISHED: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[", "ignore"),
];

/// Paths that exist only on one machine.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// Returns the problems of the file `path` (relative to the root) with the content `text`.
pub(super) fn check(path: &Path, text: &str) -> Vec<String> {
    let mut problems = words(text, MACHINE_PATHS, "a path of one machine");
    problems.extend(super::phrases::check(path, text));
    if path.extension().is_some_and(|extension| extension == "rs") {
        problems.extend(words(text, UNFINISHED, "unfinished"));
        problems.extend(check_rust(path, text));
    }
    let path = path.display();
    problems.into_iter().map(|(line, what)| format!("{path}:{line}: {what}")).collect()
}

type Problem = (usize, String);

fn check_rust(path: &Path, text: &str) -> Vec<Problem> {
    let mut problems = Vec::from_iter(check_length(path, text));
    let name = path.to_string_lossy();
    let is_source = name.contains("/src/");
    if is_source && !is_test(path) {
        problems.extend(check_doors(path, before_tests(text)));
    }
    problems
}

/// Returns where `needles` are in the code of `text`, without comments.
fn words(text: &str, needles: &[&str], why: &str) -> Vec<Problem> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    let found = lines.flat_map(|(number, line)| {
        let here = needles.iter().filter(|needle| has_word(line, needle));
        here.map(move |needle| (number + 1, format!("{needle} ({why})")))
    });
    found.collect()
}

/// Whether `line` has `needle`, but not as the end of a longer word.
fn has_word(line: &str, needle: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    let needs_start = needle.starts_with(is_letter);
    line.match_indices(needle).any(|(at, _)| !needs_start || !line[..at].ends_with(is_letter))
}

fn check_length(path: &Path, text: &str) -> Option<Problem> {
    let lines = lines_before_tests(text);
    let is_long = !is_test(path) && lines > MAX_FILE_LINES;
    is_long.then(|| (lines, format!("{lines} lines are more than {MAX_FILE_LINES}")))
}

/// A module may allow what clippy.toml forbids only if it does I/O, and only by an inner attribute
/// above everything else.
fn check_doors(path: &Path, code: &str) -> Vec<Problem> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let module = if stem == "mod" { folder } else { stem };
    let is_program = PROGRAMS.iter().any(|program| path == Path::new(program));
    let is_door = is_program || DOORS.contains(&module.as_ref());
    let top = code
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with("//") || line.starts_with("#!["));
    let top = top.count();
    let allowing = code.lines().enumerate().filter(|(_, line)| line.contains(FENCE));
    let wrong = allowing.filter(|(number, _)| !is_door || *number >= top);
    wrong
        .map(|(number, _)| (number + 1, "allows what clippy.toml forbids, here".to_owned()))
        .collect()
}

/// Returns the number of lines before the tests.
pub(super) fn lines_before_tests(text: &str) -> usize {
    before_tests(text).lines().count()
}

fn before_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

fn is_test(path: &Path) -> bool {
    let in_folder = path.components().any(|part| part.as_os_str() == "tests");
    in_folder || path.file_stem().is_some_and(|stem| stem == "tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_file(path: &str, text: &str, expected: &[&str]) {
        assert_eq!(check(Path::new(path), text), expected);
    }

    #[test]
    fn io_is_allowed_at_top_of_doors() {
        let allow = "//! A door.\n\n#![allow(clippy::disallowed_types)]\n\nfn a() {}\n";
        check_file("crates/session/src/reactor.rs", allow, &[]);
        check_file("crates/session/src/reactor/mod.rs", allow, &[]);
        check_file("crates/sim/src/main.rs", allow, &[]);
        let elsewhere = ":3: allows what clippy.toml forbids, here";
        let peers = "crates/session/src/reactor/peers.rs";
        check_file(peers, allow, &[&format!("{peers}{elsewhere}")]);
        let late = "use a;\n\n#[allow(clippy::disallowed_types)]\nfn a() {}\n";
        let client = "crates/tracker-udp/src/client.rs";
        check_file(client, late, &[&format!("{client}{elsewhere}")]);
    }

    #[test]
    fn tests_do_not_make_a_file_long() {
        let tests = format!("\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(900));
        check_file("a.rs", &format!("{}{tests}", "// x\n".repeat(500)), &[]);
        let long = "// x\n".repeat(501);
        check_file("a.rs", &long, &["a.rs:501: 501 lines are more than 500"]);
        check_file("a/tests.rs", &long, &[]);
    }

    #[test]
    fn forbidden_words_are_found() {
        let path = ["/wo", "rk/x"].concat();
        let problem = format!("README.md:1: {} (a path of one machine)", &path[..6]);
        check_file("README.md", &path, &[&problem]);
        let unfinished = ["fn a() { to", "do!() }"].concat();
        let problem = ["a.rs:1: to", "do!( (unfinished)"].concat();
        check_file("a.rs", &unfinished, &[&problem]);
        check_file("a.rs", "// framework/x and home\n", &[]);
    }
}
