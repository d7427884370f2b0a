//! Cycles of `use` between the folders inside a crate: a subject must not use one that uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Edges that may close a cycle: the folder, and the subjects in it.
const STATED: &[(&str, &str, &str)] = &[];

type Module = Vec<String>;
/// For each folder of a crate, which of its subfolders use which others.
type Edges = BTreeMap<Module, BTreeSet<(String, String)>>;

/// Returns the cycles in `files`, each with its path relative to the root and its text.
pub(super) fn check<'a>(files: impl Iterator<Item = (&'a Path, &'a str)>) -> Vec<String> {
    let files: Vec<(Module, &str)> =
        files.filter_map(|(path, text)| Some((module_of(path)?, text))).collect();
    let folders: BTreeSet<Module> =
        files.iter().map(|(module, _)| module[..module.len() - 1].to_vec()).collect();
    let mut edges = Edges::new();
    for (module, text) in &files {
        for target in paths(text) {
            let Some(target) = resolve(module, &target) else { continue };
            add_edge(&mut edges, &folders, module, &target);
        }
    }
    edges.iter().flat_map(|(folder, edges)| cycles(folder, edges)).collect()
}

/// Returns the path of a module, crate first; `None` if it is not a source of a crate. A folder's
/// own module is called `mod`.
fn module_of(path: &Path) -> Option<Module> {
    let path = path.to_str()?.strip_suffix(".rs")?;
    let (root, inside) = path.split_once("/src/")?;
    let mut module = vec![root.to_owned()];
    module.extend(inside.split('/').map(str::to_owned));
    Some(module)
}

/// Returns the paths in `text` that start with `crate`, `super` or `self`.
fn paths(text: &str) -> Vec<Module> {
    let code: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let starts = ["crate::", "super::", "self::"];
    let is_inside = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let found = starts.iter().flat_map(|start| code.match_indices(start));
    let found = found.filter(|(at, _)| !code[..*at].ends_with(is_inside));
    found.flat_map(|(at, _)| parse(&code[at..]).0).collect()
}

/// Parses a path or a tree of paths; returns the text after it too.
fn parse(text: &str) -> (Vec<Module>, &str) {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        let mut all = Vec::new();
        while !rest.is_empty() && !rest.starts_with('}') {
            let (paths, after) = parse(rest);
            all.extend(paths);
            let end = after.find([',', '}']).unwrap_or(after.len());
            rest = after[end..].trim_start_matches(',').trim_start();
        }
        return (all, rest.strip_prefix('}').unwrap_or(rest));
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(rest) = rest.strip_prefix("::") else { return (vec![vec![name.to_owned()]], rest) };
    let (tails, rest) = parse(rest);
    let with_name = |tail: Module| [vec![name.to_owned()], tail].concat();
    (tails.into_iter().map(with_name).collect(), rest)
}

/// Returns the path from the crate that `target` refers to in `module`.
fn resolve(module: &[String], target: &[String]) -> Option<Module> {
    let is_folder = matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main"));
    let mut base = if is_folder { &module[..module.len() - 1] } else { module };
    let mut rest = target;
    while let Some((first, tail)) = rest.split_first() {
        match first.as_str() {
            "crate" => base = &module[..1],
            "super" => base = &base[..base.len().checked_sub(1)?],
            "self" => {}
            _ => break,
        }
        rest = tail;
    }
    Some([base, rest].concat())
}

/// Records, for the deepest folder of both, that the subfolder of `module` uses that of `target`.
fn add_edge(edges: &mut Edges, folders: &BTreeSet<Module>, module: &[String], target: &[String]) {
    let common = module.iter().zip(target).take_while(|(a, b)| a == b).count();
    let (Some(from), Some(to)) = (module.get(common), target.get(common)) else { return };
    let is_folder =
        |name: &String| folders.contains(&[&module[..common], std::slice::from_ref(name)].concat());
    if is_folder(from) && is_folder(to) {
        edges.entry(module[..common].to_vec()).or_default().insert((from.clone(), to.clone()));
    }
}

fn cycles(folder: &[String], edges: &BTreeSet<(String, String)>) -> Vec<String> {
    let folder = folder.join("/");
    let is_stated = |from: &str, to: &str| STATED.contains(&(folder.as_str(), from, to));
    let edges: Vec<(&str, &str)> = edges
        .iter()
        .map(|(from, to)| (from.as_str(), to.as_str()))
        .filter(|(from, to)| !is_stated(from, to))
        .collect();
    let closes = |(from, to): &&(&str, &str)| reaches(&edges, to, from, &mut BTreeSet::new());
    let closing = edges.iter().filter(closes);
    closing.map(|(from, to)| format!("{folder}: {from} uses {to}, which uses {from}")).collect()
}

fn reaches<'a>(
    edges: &[(&'a str, &'a str)],
    from: &'a str,
    to: &str,
    seen: &mut BTreeSet<&'a str>,
) -> bool {
    let next = edges.iter().filter(|(start, _)| *start == from).map(|(_, end)| *end);
    from == to || next.into_iter().any(|end| seen.insert(end) && reaches(edges, end, to, seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_files(files: &[(&str, &str)], expected: &[&str]) {
        assert_eq!(check(files.iter().map(|(path, text)| (Path::new(*path), *text))), expected);
    }

    #[test]
    fn cycle_between_folders_is_found() {
        let a = ("crates/x/src/e/a/mod.rs", "use super::{Engine, b::{self, B}, c};\n");
        let b = ("crates/x/src/e/b/in.rs", "fn f() { crate::e::c::g() }\n");
        let c = ("crates/x/src/e/c/mod.rs", "// super::a::A\nuse super::d::D;\n");
        let d = ("crates/x/src/e/d.rs", "use super::a::A;\n");
        check_files(&[a, b, c, d], &[]);
        let c = ("crates/x/src/e/c/in.rs", "use super::super::a::A;\n");
        let expected = [
            "crates/x/e: a uses b, which uses a",
            "crates/x/e: a uses c, which uses a",
            "crates/x/e: b uses c, which uses b",
            "crates/x/e: c uses a, which uses c",
        ];
        check_files(&[a, b, c, d], &expected);
    }
}
