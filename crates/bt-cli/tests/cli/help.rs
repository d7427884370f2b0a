//! Help, usage errors, completions, man pages, closed pipes.

use crate::support::{Shell, finish};

const COMMANDS: [&str; 13] = [
    "decode",
    "info",
    "peers",
    "scrape",
    "handshake",
    "dht",
    "download_piece",
    "download",
    "create",
    "verify",
    "seed",
    "completions",
    "man",
];
const DHT_COMMANDS: [&str; 6] = ["peers", "scrape", "get", "put", "ping", "node"];

#[test]
fn help_lists_commands_and_exit_codes() {
    let output = Shell::new().run(["--help"]).expect(0);
    for command in COMMANDS {
        assert!(output.stdout().contains(&format!("\n  {command} ")), "{command}");
    }
    for class in ["failure", "usage", "bad_torrent", "network", "bad_data", "disk", "interrupted"] {
        assert!(output.stdout().contains(class), "{class}");
    }
}

#[test]
fn every_help_has_examples_to_copy() {
    let shell = Shell::new();
    let below_dht = DHT_COMMANDS.map(|command| vec!["dht", command]);
    for command in COMMANDS.map(|command| vec![command]).into_iter().chain(below_dht) {
        let help = shell.run(command.iter().chain(&["--help"])).expect(0).stdout();
        let start = format!("bt-cli {} ", command.join(" "));
        assert!(help.contains("Example") && help.contains(&start), "{help}");
        let examples = help.lines().skip_while(|line| !line.starts_with("Example"));
        let mut lines = examples.skip(1).take_while(|line| line.starts_with(' ')).peekable();
        while let Some(line) = lines.next() {
            assert!(line.len() < 80, "{line}");
            let goes_on = lines.peek().is_some_and(|next| next.starts_with("    "));
            assert_eq!(line.ends_with(" \\"), goes_on, "{line}");
        }
    }
}

#[test]
fn best_command_is_suggested() {
    let output = Shell::new().run(["downlaod", "x"]).expect(2);
    assert!(output.stderr.contains("'download'"), "{}", output.stderr);
    assert!(!output.stderr.contains("download_piece"), "{}", output.stderr);
}

#[test]
fn only_similar_flags_are_suggested() {
    let shell = Shell::new();
    for (given, tip) in [
        ("--select-file", None),
        ("--exclude", None),
        ("--file", Some("'--files'")),
        ("--seedtime", Some("'--seed-time'")),
        ("--max-download", Some("'--max-down'")),
    ] {
        let output = shell.run(["download", "x", given, "y"]).expect(2);
        assert_eq!(output.stderr.contains("similar argument"), tip.is_some(), "{}", output.stderr);
        assert!(output.stderr.contains(tip.unwrap_or(given)), "{}", output.stderr);
    }
}

#[test]
fn version_is_printed() {
    let output = Shell::new().run(["--version"]).expect(0);
    assert_eq!(output.stdout(), format!("bt-cli {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn usage_errors_have_exit_code_2() {
    let shell = Shell::new();
    let piece = |flag: &'static str, value: &'static str| {
        vec!["download_piece", "x", "0", "-o", "y", flag, value]
    };
    let rows: Vec<Vec<&str>> = vec![
        vec![],
        vec!["nonsense"],
        vec!["info"],
        vec!["info", "--nonsense", "x"],
        vec!["download_piece", "x", "-1", "-o", "y"],
        vec!["download_piece", "x", "one", "-o", "y"],
        vec!["download_piece", "x", "99999999999", "-o", "y"],
        piece("--port", "70000"),
        piece("--port", "7-6"),
        piece("--bind", "nowhere"),
        piece("--max-down", "fast"),
        piece("--max-up", "-5"),
        piece("--max-memory", "15M"),
        piece("--stall-timeout", "soon"),
        vec!["download", "x", "--ratio", "-1"],
        vec!["peers", "x", "--timeout", "0"],
        vec!["create", "x", "-l", "100000"],
        vec!["completions", "nonsense"],
        vec!["dht"],
        vec!["dht", "nonsense"],
        vec!["dht", "peers", "film.torrent"],
        vec!["dht", "get", "1234"],
        vec!["dht", "ping", "127.0.0.1"],
        vec!["dht", "put"],
        vec!["dht", "put", "x", "--file", "y"],
        vec!["dht", "put", "x", "--salt", "y"],
        vec!["dht", "put", "x", "--key", "y", "--seq", "-1"],
        vec!["dht", "put", "d1:ai1e", "--bencode"],
    ];
    for row in rows {
        let text = shell.run(&row).expect(2);
        assert!(text.stdout().is_empty() && !text.stderr.is_empty(), "{row:?}");
        let json = shell.run(row.iter().copied().chain(["--json"])).expect(2);
        assert!(!json.error("usage").is_empty(), "{row:?}");
    }
}

#[test]
fn every_shell_has_completions() {
    let shell = Shell::new();
    for name in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = shell.run(["completions", name]).expect(0);
        assert!(output.stdout().contains("download_piece"), "{name}");
    }
    let object = shell.run(["completions", "fish", "--json"]).expect(0).object();
    assert_eq!(object["shell"], "fish");
}

#[test]
fn every_command_has_man_page() {
    let shell = Shell::new();
    let output = shell.run(["man", "pages/man1"]).expect(0);
    let pages = COMMANDS.len() + DHT_COMMANDS.len() + 1;
    assert_eq!(output.stdout().lines().count(), pages);
    assert!(shell.join("pages/man1/bt-cli-dht-put.1").exists());
    let page = std::fs::read_to_string(shell.join("pages/man1/bt-cli-download.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("stall"));
    shell.write("file", b"");
    let error = shell.run(["man", "file/below", "--json"]).expect(6).error("disk");
    assert!(error.contains("file/below"), "{error}");
}

#[test]
fn closed_stdout_is_no_error() {
    let shell = Shell::new();
    for arguments in [&["completions", "bash"][..], &["decode", "i1e", "--json"], &["--help"]] {
        let output = shell.run_unread(arguments);
        assert_eq!((output.code(), output.stderr.as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn full_stdout_is_reported() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let shell = Shell::new();
    let output = finish(shell.command(["decode", "i1e"]).stdout(full).spawn().unwrap()).expect(6);
    assert!(
        output.stderr.starts_with("error: cannot write to standard output"),
        "{}",
        output.stderr
    );
}
