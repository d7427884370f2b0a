//! Untrusted text is printed without anything that a terminal would obey or that misleads a reader:
//! as text, in the log, in JSON, where it is escaped, and on a terminal.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use testkit::{Answer, HttpTracker, Payload, Script, UdpTracker, WebServer};

use super::{Case, case};
use crate::bt_cli::COMMAND_LIMIT;
use crate::integration::scene::{Scene, file, text, write};
use tasks::process::find_program;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("name and paths", "info, verify, download of a torrent", names),
        case("a download that completes", "the path of the data", completed),
        case("remarks", "comment, creator, source, trackers, web seeds", remarks),
        case("keys and values", "decode, and an error under a key", keys),
        case("a file's name", "a file with such a name that is not a torrent", file_name),
        case("refusal over HTTP", "a failure reason", |scene| of_tracker(scene, refusal())),
        case("warning over HTTP", "a warning message", |scene| {
            of_tracker(scene, Answer::Warning(EVIL.to_owned()))
        }),
        case("refusal over UDP", "an error message", over_udp),
        case("web page", "its content type and its start", |scene| of_server(scene, page)),
        case("redirect", "its target", |scene| of_server(scene, redirect)),
        case("torrent from the web", "a web page instead", from_the_web),
        case("client's name", "a peer's, in a handshake and in a download", of_peer),
    ]
}

/// A title, a bell, colours, C1, marks of direction, a second line, a carriage return.
const EVIL: &str = "evil\u{1b}]0;title\u{7}\u{1b}[666m\u{9b}666m\u{8}\u{7f}\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\nFORGED\rFORGED";

/// Arguments of a download on this machine that gives up soon.
const WAITING: &[&str] =
    &["--stall-timeout", "1", "--port", "0", "--bind", "127.0.0.1", "-o", FOLDER];

/// What must not be printed, not even where the program itself uses colours.
const FORBIDDEN: &[&str] = &[
    "\u{1b}]0;",
    "\u{7}",
    "\u{1b}[666m",
    "\u{9b}",
    "\u{8}",
    "\u{7f}",
    "\u{202e}",
    "\u{2066}",
    "\u{200f}",
    "\u{61c}",
    "\u{2028}",
    "\nFORGED",
    "\rFORGED",
];

/// The output modes of a command; each is used by a user of its own.
const WAYS: &[(&str, &[&str])] = &[
    ("text", &[]),
    ("log", &["-vvv"]),
    ("json", &["--json"]),
    ("json-and-log", &["--json", "-vvv"]),
    (TERMINAL, &[]),
];
/// The mode with a terminal as output, which only `script` can provide.
const TERMINAL: &str = "terminal";
/// Replaced in arguments by the user's download folder.
const FOLDER: &str = "FOLDER";

/// Runs `bt-cli ARGUMENTS` in every mode at once. Each must print `evil` somewhere, and nothing
/// that is [`FORBIDDEN`].
fn check(scene: &Scene, arguments: &[&str]) -> Result<()> {
    let can = |way: &str| way != TERMINAL || find_program("script").is_some();
    thread::scope(|scope| {
        let ways = WAYS.iter().filter(|(way, _)| can(way));
        let ways = ways.map(|way| scope.spawn(move || check_way(scene, arguments, *way)));
        ways.collect::<Vec<_>>().into_iter().try_for_each(|way| match way.join() {
            Ok(result) => result,
            Err(_) => bail!("the check panicked"),
        })
    })
}

fn check_way(scene: &Scene, arguments: &[&str], (way, flags): (&str, &[&str])) -> Result<()> {
    let folder = scene.downloads(way);
    let folder = text(&folder)?;
    let filled = arguments.iter().map(|word| if *word == FOLDER { folder } else { word });
    let command = scene.user(way).command(filled.chain(flags.iter().copied()));
    let command = if way == TERMINAL { on_a_terminal(&command) } else { command };
    let printed = output(scene, way, &command).with_context(|| format!("{arguments:?} {way}"))?;
    let painted = |c: char| c.is_control() && c != '\n';
    ensure!(way == TERMINAL || !printed.contains(painted), "{arguments:?} {way}: {printed:?}");
    harmless(&printed).with_context(|| format!("{arguments:?} {way}"))
}

fn harmless(printed: &str) -> Result<()> {
    ensure!(printed.contains("evil"), "the text was not printed: {printed:?}");
    for forbidden in FORBIDDEN {
        ensure!(!printed.contains(forbidden), "{forbidden:?} in {printed:?}");
    }
    Ok(())
}

/// Returns everything that a command of `user` prints, whatever its exit code.
fn output(scene: &Scene, user: &str, command: &Command) -> Result<String> {
    let mut launch = scene.user(user).start("words", command)?;
    launch.exit_code(COMMAND_LIMIT)?;
    Ok(format!("{}\n{}", launch.stdout(), launch.stderr()))
}

/// Returns the command with a terminal as output (util-linux, `script`).
fn on_a_terminal(command: &Command) -> Command {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted =
        |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
    let line = words.map(quoted).collect::<Vec<_>>().join(" ");
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]).env("TERM", "xterm");
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            script.env(key, value);
        }
    }
    script
}

/// Writes a torrent of one empty piece with these keys around `info` and in it.
fn torrent(scene: &Scene, around: &str, info: &str) -> Result<String> {
    let bytes =
        format!("d{around}4:infod{info}12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee");
    write(&scene.path("words"), "a.torrent", bytes.as_bytes())?;
    Ok(text(&scene.path("words/a.torrent"))?.to_owned())
}

fn string(text: &str) -> String {
    format!("{}:{text}", text.len())
}

fn names(scene: &Scene) -> Result<()> {
    let evil = string(EVIL);
    let single = torrent(scene, "", &format!("6:lengthi5e4:name{evil}"))?;
    let empty = scene.path("empty");
    fs::create_dir_all(&empty)?;
    let empty = text(&empty)?;
    check(scene, &["info", &single])?;
    check(scene, &["verify", &single, empty])?;
    check(scene, &[&["download", &single], WAITING].concat())?;
    let files = format!("5:filesld6:lengthi5e4:pathl{evil}{evil}eee4:name{evil}");
    let several = torrent(scene, "", &files)?;
    check(scene, &["info", &several])?;
    check(scene, &["verify", &several, empty])?;
    check(scene, &[&["download", &several], WAITING].concat())
}

fn completed(scene: &Scene) -> Result<()> {
    let payload = scene.payload(Payload::file(EVIL, 5))?;
    let seeder = Script::seeder(&payload).listen();
    let peer = seeder.address().to_string();
    let torrent = text(payload.torrent_path())?;
    check(scene, &[&["download", torrent, "--peer", &peer], WAITING].concat())
}

fn remarks(scene: &Scene) -> Result<()> {
    let evil = string(EVIL);
    let url = string(&format!("http://127.0.0.1:9/{EVIL}"));
    let around = format!("8:announce{url}7:comment{evil}10:created by{evil}8:encoding{evil}");
    let info = format!("6:lengthi5e4:name1:n6:source{evil}");
    let whole = torrent(scene, &around, &info)?;
    check(scene, &["info", &whole])?;
    let seeds = torrent(scene, "", "6:lengthi5e4:name1:n")?;
    let with_seeds = fs::read_to_string(&seeds)?;
    let with_seeds =
        format!("{}8:url-list{url}e", with_seeds.strip_suffix('e').unwrap_or_default());
    fs::write(&seeds, with_seeds)?;
    check(scene, &["info", &seeds])?;
    let whole = torrent(scene, &around, &info)?;
    check(scene, &["peers", &whole])?;
    let url = string(&format!("http://127.0.0.1:9/{EVIL}/announce"));
    check(scene, &["scrape", &torrent(scene, &format!("8:announce{url}"), &info)?])
}

fn keys(scene: &Scene) -> Result<()> {
    let evil = string(EVIL);
    check(scene, &["decode", &format!("d{evil}l{evil}ee")])?;
    check(scene, &["decode", &format!("d{evil}i01ee")])?;
    let broken = torrent(scene, "", &format!("{evil}i01e"))?;
    check(scene, &["info", &broken])?;
    check(scene, &["download", &broken])
}

fn file_name(scene: &Scene) -> Result<()> {
    write(&scene.path("words"), EVIL, b"no torrent")?;
    let path = scene.path("words").join(EVIL);
    check(scene, &["info", text(&path)?])?;
    let missing = scene.path("words").join(format!("{EVIL}2"));
    check(scene, &["download", text(&missing)?])
}

fn refusal() -> Answer {
    Answer::Failure { reason: EVIL.to_owned(), retry_in: None }
}

fn of_tracker(scene: &Scene, answer: Answer) -> Result<()> {
    let tracker = HttpTracker::start();
    tracker.answer(answer);
    of_url(scene, tracker.url())
}

fn over_udp(scene: &Scene) -> Result<()> {
    let tracker = UdpTracker::start();
    tracker.answer(refusal());
    of_url(scene, tracker.url())
}

fn of_server(
    scene: &Scene,
    answer: fn(&str, &mut dyn std::io::Write) -> std::io::Result<()>,
) -> Result<()> {
    let server = WebServer::start(answer);
    of_url(scene, format!("http://{}/announce", server.address()))
}

/// `peers` and `download` print what a tracker sent, the latter in its log and in its last lines.
fn of_url(scene: &Scene, url: String) -> Result<()> {
    let payload = scene.payload(file(1).tracker(url))?;
    let torrent = text(payload.torrent_path())?;
    check(scene, &["peers", torrent, "--timeout", "5"])?;
    check(scene, &[&["download", torrent], WAITING].concat())
}

/// Control characters would make the header invalid; bytes above 127 do not.
fn page(_: &str, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    let kind = "Content-Type: text/evil\u{9b}666m\u{202e}";
    write!(out, "HTTP/1.1 404 Not Found\r\n{kind}\r\n\r\n<html>{EVIL}")
}

fn redirect(_: &str, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    write!(
        out,
        "HTTP/1.1 302 Found\r\nLocation: ftp://evil\u{9b}666m\u{202e}/\r\nContent-Length: 0\r\n\r\n"
    )
}

fn from_the_web(scene: &Scene) -> Result<()> {
    let server = WebServer::start(page);
    check(scene, &["info", &format!("http://{}/a.torrent", server.address())])
}

fn of_peer(scene: &Scene) -> Result<()> {
    let payload = scene.payload(file(8))?;
    let evil = string(EVIL);
    let handshake = format!("d1:md{evil}i1ee1:v{evil}e");
    let peer = Script::seeder(&payload).extended(handshake).listen();
    let address = peer.address().to_string();
    check(scene, &["handshake", text(payload.torrent_path())?, &address])?;
    silent_about(scene, payload.torrent_path(), &address)
}

/// A download need not print the names of its peers' clients.
fn silent_about(scene: &Scene, torrent: &Path, address: &str) -> Result<()> {
    for flags in [&["-vvv"][..], &["--json", "-vvv"]] {
        let mut command = scene.download_command("user", torrent);
        command.args(["--peer", address, "--overwrite", "--no-resume"]).args(flags);
        let printed = output(scene, "user", &command)?;
        ensure!(!printed.contains(|c: char| c.is_control() && c != '\n'), "{printed:?}");
    }
    Ok(())
}
