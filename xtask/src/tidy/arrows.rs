//! Which package may depend on which. What is not listed is forbidden.

use serde_json::Value;

/// Each package and the packages of this workspace that it may use. All may use bt-types.
const ARROWS: &[(&str, &[&str])] = &[
    ("bt-types", &[]),
    ("bencode", &[]),
    ("metainfo", &["bencode"]),
    ("tracker-http", &["bencode"]),
    ("tracker-udp", &[]),
    ("piece-hash", &[]),
    ("peer-wire", &["bencode"]),
    ("piece-store", &["metainfo", "piece-hash"]),
    ("swarm", &["metainfo", "peer-wire"]),
    ("session", PROTOCOLS_AND_ENGINE),
    (
        "bt-cli",
        &[
            "bencode",
            "metainfo",
            "tracker-http",
            "tracker-udp",
            "piece-hash",
            "peer-wire",
            "piece-store",
            "swarm",
            "session",
        ],
    ),
    ("sim", &["metainfo", "piece-hash", "piece-store", "session"]),
    ("testkit", ALL_BUT_BT_CLI),
    ("xtask", ALL_BUT_BT_CLI),
];

const PROTOCOLS_AND_ENGINE: &[&str] = &[
    "bencode",
    "metainfo",
    "tracker-http",
    "tracker-udp",
    "piece-hash",
    "peer-wire",
    "piece-store",
    "swarm",
];

const ALL_BUT_BT_CLI: &[&str] = &[
    "bencode",
    "metainfo",
    "tracker-http",
    "tracker-udp",
    "piece-hash",
    "peer-wire",
    "piece-store",
    "swarm",
    "session",
    "testkit",
];

/// Who may use testkit in its tests.
const TESTKIT_USERS: &[&str] = &[
    "bt-types",
    "bencode",
    "metainfo",
    "tracker-http",
    "tracker-udp",
    "peer-wire",
    "piece-store",
    "swarm",
    "session",
    "bt-cli",
];

/// Packages from outside that only some of ours may use.
const RESERVED: &[(&str, &[&str])] = &[
    ("anyhow", &["bt-cli", "xtask"]),
    ("clap", &["bt-cli", "xtask"]),
    ("crossbeam-channel", &["piece-store", "session", "bt-cli"]),
    ("nix", &["piece-store"]),
    ("env_logger", &["bt-cli"]),
    ("indicatif", &["bt-cli"]),
    ("mio", &["session"]),
    ("multiversion", &["piece-hash"]),
    ("nom", &["bencode"]),
    ("rustix", &["piece-store", "session", "bt-cli", "testkit", "xtask"]),
    ("serde_json", &["bt-cli", "xtask"]),
    ("signal-hook", &["bt-cli", "xtask"]),
    ("socket2", &["tracker-http", "tracker-udp", "session", "testkit"]),
    ("ureq", &["tracker-http"]),
    // No async runtime, whoever asks for it.
    ("async-std", &[]),
    ("futures", &[]),
    ("smol", &[]),
    ("tokio", &[]),
];

/// What is wrong with the dependencies of `packages`, as `cargo metadata` tells them.
pub(super) fn check(packages: &[Value]) -> Vec<String> {
    let edges = packages.iter().flat_map(|package| {
        let from = package["name"].as_str().unwrap_or_default();
        let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
        dependencies.iter().map(move |dependency| {
            let is_dev = dependency["kind"] == "dev";
            (from, dependency["name"].as_str().unwrap_or_default(), is_dev)
        })
    });
    let unknown = packages.iter().filter_map(|package| {
        let name = package["name"].as_str().unwrap_or_default();
        let listed = ARROWS.iter().any(|(listed, _)| *listed == name);
        (!listed).then(|| format!("{name}: a package without a row in the table of arrows"))
    });
    let forbidden = edges.filter(|(from, to, is_dev)| !is_allowed(from, to, *is_dev));
    let forbidden = forbidden.map(|(from, to, is_dev)| {
        let how = if is_dev { "in its tests" } else { "" };
        format!("crates/{from}/Cargo.toml: {from} must not depend on {to} {how}").trim().to_owned()
    });
    unknown.chain(forbidden).collect()
}

fn is_allowed(from: &str, to: &str, is_dev: bool) -> bool {
    if let Some((_, users)) = RESERVED.iter().find(|(name, _)| *name == to) {
        return users.contains(&from);
    }
    let is_ours = ARROWS.iter().any(|(name, _)| *name == to);
    let listed = ARROWS.iter().any(|(name, may_use)| *name == from && may_use.contains(&to));
    let in_tests = match to {
        // Examples open .torrent files.
        "metainfo" => from != "bt-types" && from != "bencode",
        "testkit" => TESTKIT_USERS.contains(&from),
        _ => false,
    };
    !is_ours || to == "bt-types" || listed || (is_dev && in_tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_edge(from: &str, to: &str, kind: Option<&str>, allowed: bool) {
        let dependency = serde_json::json!({ "name": to, "kind": kind });
        let package = serde_json::json!({ "name": from, "dependencies": [dependency] });
        assert_eq!(check(&[package]).is_empty(), allowed, "{from} -> {to}");
    }

    #[test]
    fn only_listed_edges_pass() {
        check_edge("swarm", "peer-wire", None, true);
        check_edge("swarm", "bt-types", None, true);
        check_edge("swarm", "thiserror", None, true);
        check_edge("swarm", "piece-store", None, false);
        check_edge("swarm", "session", Some("dev"), false);
        check_edge("swarm", "mio", None, false);
        check_edge("session", "mio", None, true);
        check_edge("xtask", "bt-cli", None, false);
        check_edge("bt-cli", "session", None, true);
        check_edge("session", "tokio", Some("dev"), false);
        check_edge("sim", "session", None, true);
        check_edge("session", "sim", Some("dev"), false);
    }

    #[test]
    fn testkit_is_for_tests() {
        check_edge("session", "testkit", Some("dev"), true);
        check_edge("session", "testkit", None, false);
        check_edge("bencode", "testkit", Some("dev"), true);
        check_edge("piece-hash", "testkit", Some("dev"), false);
        check_edge("xtask", "testkit", None, true);
    }

    #[test]
    fn examples_may_open_torrents() {
        check_edge("tracker-udp", "metainfo", Some("dev"), true);
        check_edge("tracker-udp", "metainfo", None, false);
    }

    #[test]
    fn a_new_package_needs_a_row() {
        let package = serde_json::json!({ "name": "dht", "dependencies": [] });
        assert_eq!(check(&[package]).len(), 1);
    }
}
