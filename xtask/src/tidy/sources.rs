//! What may not stand in a source file, and how long it may be.

use std::path::Path;

/// The longest file, up to its tests.
const MAX_FILE_LINES: usize = 500;
/// The longest function.
const MAX_FUNCTION_LINES: usize = 70;

/// Code without sockets, clock, threads and channels: these folders and files.
const PURE: &[&str] = &[
    "crates/bt-types/src/",
    "crates/bencode/src/",
    "crates/metainfo/src/",
    "crates/peer-wire/src/",
    "crates/piece-hash/src/",
    "crates/swarm/src/",
    "crates/session/src/engine",
    "crates/piece-store/src/store",
];

/// What pure code does not name. `std::net` addresses are plain data.
const IMPURE: &[&str] = &[
    "mio::",
    "ureq::",
    "socket2::",
    "crossbeam_channel",
    "std::sync::mpsc",
    "std::thread",
    "thread::spawn",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant",
    "SystemTime",
    "thread_rng",
    "rand::rng()",
    "OsRng",
    "SysRng",
];

/// Modules that may allow what clippy.toml forbids, in a line at their top.
const DOORS: &[&str] = &["reactor", "pool", "client", "os", "probe"];
/// Programs around what is pure, which may do the same.
const PROGRAMS: &[&str] = &["crates/sim/src/main.rs"];

/// The beginning of the names of clippy's lints against what clippy.toml lists.
const FENCE: &str = concat!("clippy::", "disallowed_");

/// Never to be committed. Written in two parts, so that this file does not hold them.
const UNFINISHED: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[", "ignore"),
];

/// Places on the machine of whoever wrote them.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// What is wrong with the file `path` (relative to the root) that holds `text`.
pub(super) fn check(path: &Path, text: &str) -> Vec<String> {
    let mut problems = words(text, MACHINE_PATHS, "a path of one machine");
    if path.extension().is_some_and(|extension| extension == "rs") {
        problems.extend(words(text, UNFINISHED, "unfinished"));
        problems.extend(check_rust(path, text));
    }
    let place = path.display();
    problems.into_iter().map(|(line, what)| format!("{place}:{line}: {what}")).collect()
}

type Problem = (usize, String);

fn check_rust(path: &Path, text: &str) -> Vec<Problem> {
    let mut problems = check_lengths(path, text);
    let name = path.to_string_lossy();
    let is_source = name.contains("/src/");
    if is_source && !is_test(path) {
        let code = before_tests(text);
        if PURE.iter().any(|folder| name.starts_with(folder)) {
            problems.extend(words(code, IMPURE, "not in pure code"));
        }
        problems.extend(check_doors(path, code));
    }
    if is_source && name.starts_with("crates/") && !name.starts_with("crates/testkit/") {
        problems.extend(words(text, &[concat!("testkit", "::")], "only in tests/"));
    }
    problems
}

/// Where `needles` stand in the code of `text`, comments left out.
fn words(text: &str, needles: &[&str], why: &str) -> Vec<Problem> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    let found = lines.flat_map(|(number, line)| {
        let here = needles.iter().filter(|needle| has_word(line, needle));
        here.map(move |needle| (number + 1, format!("{needle} ({why})")))
    });
    found.collect()
}

/// Whether `line` has `needle`, not as the end of a longer word.
fn has_word(line: &str, needle: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    let needs_start = needle.starts_with(is_letter);
    line.match_indices(needle).any(|(at, _)| !needs_start || !line[..at].ends_with(is_letter))
}

fn check_lengths(path: &Path, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let lines = lines_before_tests(text);
    if !is_test(path) && lines > MAX_FILE_LINES {
        problems.push((lines, format!("{lines} lines, {MAX_FILE_LINES} are enough")));
    }
    let long = functions(text).into_iter().filter(|(_, length)| *length > MAX_FUNCTION_LINES);
    problems.extend(long.map(|(line, length)| {
        (line, format!("a function of {length} lines, {MAX_FUNCTION_LINES} are enough"))
    }));
    problems
}

/// Allowing what clippy.toml forbids: once, as an inner attribute, above everything else, in a
/// module that is a door.
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

/// The line and the length of every function in formatted code: from `fn` to the brace below it.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = lines.iter().enumerate().filter(|(_, line)| is_function(line));
    let spans = begins.filter_map(|(start, line)| {
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = lines[start..].iter().position(|line| {
            line.strip_prefix(indent).is_some_and(|rest| {
                rest == "}" || (!rest.starts_with([' ', '}', ')']) && rest.ends_with(['}', ';']))
            })
        });
        end.map(|end| (start + 1, end + 1))
    });
    spans.collect()
}

fn is_function(line: &str) -> bool {
    let mut rest = line.trim_start();
    for word in ["pub ", "pub(crate) ", "pub(super) ", "const ", "extern "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    rest.starts_with("fn ")
}

/// How many lines stand before the tests.
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
    fn pure_code_names_no_socket() {
        let text = "//! No Instant here.\nuse std::net::TcpStream;\n";
        let problem = "TcpStream (not in pure code)";
        let engine = format!("crates/session/src/engine/io.rs:2: {problem}");
        check_file("crates/session/src/engine/io.rs", text, &[&engine]);
        check_file("crates/session/src/reactor/io.rs", text, &[]);
        let tests = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    use std::net::TcpStream;\n}\n";
        check_file("crates/swarm/src/lib.rs", tests, &[]);
    }

    #[test]
    fn only_doors_open_and_only_at_their_top() {
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
    fn long_functions_are_found() {
        let text = |lines: usize| {
            format!("    fn a(\n    ) {{\n{}    }}\n", "        b();\n".repeat(lines))
        };
        check_file("a.rs", &text(67), &[]);
        check_file("a.rs", &text(68), &["a.rs:1: a function of 71 lines, 70 are enough"]);
        assert_eq!(functions("trait A {\n    fn a();\n    fn b() {}\n}\n"), [(2, 1), (3, 1)]);
    }

    #[test]
    fn long_files_are_found_without_their_tests() {
        let tests = format!("\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(900));
        check_file("a.rs", &format!("{}{tests}", "// x\n".repeat(500)), &[]);
        let long = "// x\n".repeat(501);
        check_file("a.rs", &long, &["a.rs:501: 501 lines, 500 are enough"]);
        check_file("a/tests.rs", &long, &[]);
    }

    #[test]
    fn words_that_must_not_be_committed() {
        let path = ["/wo", "rk/x"].concat();
        let problem = format!("README.md:1: {} (a path of one machine)", &path[..6]);
        check_file("README.md", &path, &[&problem]);
        let unfinished = ["fn a() { to", "do!() }"].concat();
        let problem = ["a.rs:1: to", "do!( (unfinished)"].concat();
        check_file("a.rs", &unfinished, &[&problem]);
        check_file("a.rs", "// framework/x and home\n", &[]);
    }
}
