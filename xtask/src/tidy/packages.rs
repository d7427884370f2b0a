//! What every package must have: its name, an example, the common lints.

use std::fs;
use std::path::Path;

use serde_json::Value;

use tasks::workspace;

/// The longest `lib.rs`, which is a table of contents.
const MAX_LIB_LINES: usize = 150;
/// The most lines of code in the package that all others share.
const MAX_BT_TYPES_LINES: usize = 900;
/// Returns the problems of `packages`, as `cargo metadata` reports them.
pub(super) fn check(packages: &[Value]) -> Vec<String> {
    let mut problems: Vec<String> = packages.iter().flat_map(check_package).collect();
    let lines = code_lines(&workspace::root().join("crates/bt-types/src"));
    if lines >= MAX_BT_TYPES_LINES {
        problems
            .push(format!("crates/bt-types: {lines} lines of code are too many for plain data"));
    }
    problems
}

fn check_package(package: &Value) -> Vec<String> {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    let name = text("name");
    let manifest = Path::new(text("manifest_path"));
    let folder = manifest.parent().unwrap_or(Path::new(""));
    let mut problems = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            problems.push(format!("{name}: {what}"));
        }
    };
    let lints = fs::read_to_string(manifest).unwrap_or_default();
    expect(folder.ends_with(name), "the folder and the package have different names");
    expect(package["publish"] == serde_json::json!([]), "not `publish = false`");
    expect(lints.contains("[lints]\nworkspace = true"), "does not use the workspace's lints");
    expect(!text("description").is_empty(), "has no description");
    expect(text("license") == "MIT OR Apache-2.0", "has another licence");
    let is_product = folder.parent().is_some_and(|parent| parent.ends_with("crates"));
    if let (true, Ok(lib)) = (is_product, fs::read_to_string(folder.join("src/lib.rs"))) {
        let documents: Vec<&str> = lib.lines().filter(|line| line.starts_with("//!")).collect();
        expect(documents.iter().any(|line| line.contains("```")), "lib.rs shows no example");
        expect(lib.lines().count() <= MAX_LIB_LINES, "lib.rs is longer than 150 lines");
        expect(has_files(&folder.join("examples")), "has no example in examples/");
    }
    problems
}

fn has_files(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some())
}

fn code_lines(folder: &Path) -> usize {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    // Users of the crate do not read the code for the fuzzer, as they do not read tests.
    let files = files.filter(|file| file.file_name() != "fuzz.rs");
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    texts.map(|text| super::sources::lines_before_tests(&text)).sum()
}
