//! Which package depends on which: exactly what crates/README.md lists.

use std::collections::BTreeSet;

use serde_json::Value;

use super::readme::{names, rows};

/// Compares the dependencies of `packages`, as `cargo metadata` reports them, with the tables below
/// "Edges" in `text`. The first table has a row for each of our packages: those that it uses, and
/// those that only its tests use. The second has a row for some other packages: those of ours that
/// use it.
pub(super) fn check(packages: &[Value], text: &str) -> Vec<String> {
    let (ours, others): (Vec<_>, Vec<_>) =
        rows(text, "Edges").into_iter().partition(|row| row.len() == 3);
    let listed: BTreeSet<&str> = ours.iter().map(|row| row[0].as_str()).collect();
    let is_ours = |name: &&str| listed.contains(*name);
    let mut problems = Vec::new();
    for package in packages {
        let name = text_of(package, "name");
        let Some(row) = ours.iter().find(|row| row[0] == name) else {
            problems.push(format!("crates/README.md: no row for the package {name} below Edges"));
            continue;
        };
        let normal: BTreeSet<&str> = uses(package, false).filter(is_ours).collect();
        let in_tests = uses(package, true).filter(is_ours).filter(|to| !normal.contains(to));
        problems.extend(compare(&format!("{name} uses"), &row[1], &normal));
        problems.extend(compare(&format!("{name} uses in tests"), &row[2], &in_tests.collect()));
    }
    for row in others {
        let users = packages.iter().filter(|package| {
            [false, true].iter().any(|dev| uses(package, *dev).any(|to| to == row[0]))
        });
        let users = users.map(|package| text_of(package, "name")).collect();
        problems.extend(compare(&format!("{} is used by", row[0]), &row[1], &users));
    }
    problems
}

fn uses(package: &Value, in_tests: bool) -> impl Iterator<Item = &str> {
    let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
    let wanted = move |dependency: &&Value| (dependency["kind"] == "dev") == in_tests;
    dependencies.iter().filter(wanted).map(|dependency| text_of(dependency, "name"))
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn compare(what: &str, listed: &str, found: &BTreeSet<&str>) -> Option<String> {
    let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    let listed: BTreeSet<&str> = names(listed).collect();
    (listed != *found)
        .then(|| format!("crates/README.md: {what} \"{}\", not \"{}\"", list(found), list(&listed)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "## Edges\n\n| crate | uses | in tests |\n|---|---|---|\n| a | b | c |\n\
                        | b | | |\n| c | | |\n\n| from outside | used by |\n|---|---|\n| mio | b |\n";

    fn package(name: &str, edges: &[(&str, Option<&str>)]) -> Value {
        let edge = |(name, kind): &(&str, Option<&str>)| json!({ "name": name, "kind": kind });
        let edges: Vec<Value> = edges.iter().map(edge).collect();
        json!({ "name": name, "dependencies": edges })
    }

    fn check_edges(of_a: &[(&str, Option<&str>)]) -> Vec<String> {
        let rest = [package("b", &[("mio", None)]), package("c", &[("libc", None)])];
        check(&[&[package("a", of_a)][..], &rest].concat(), TEXT)
    }

    #[test]
    fn edges_are_those_of_the_table() {
        assert_eq!(check_edges(&[("b", None), ("c", Some("dev"))]), [""; 0]);
        let problems = check_edges(&[("b", None), ("c", None), ("mio", Some("dev"))]);
        let expected = [
            "crates/README.md: a uses \"b, c\", not \"b\"",
            "crates/README.md: a uses in tests \"\", not \"c\"",
            "crates/README.md: mio is used by \"a, b\", not \"b\"",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn new_package_needs_a_row() {
        let problems = check(&[package("dht", &[])], "");
        assert_eq!(problems, ["crates/README.md: no row for the package dht below Edges"]);
    }
}
