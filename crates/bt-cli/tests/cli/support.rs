//! Runs `bt-cli` in a new folder and captures its output.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Payload, PayloadBuilder, Script, ScriptedPeer};

/// The longest that a process may take before the test fails.
const LIMIT: Duration = Duration::from_secs(90);

/// A new folder for a test. It is the working folder and the home folder.
pub(crate) struct Shell {
    folder: TempDir,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::with_prefix("bt-cli-test-").expect("a temporary folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        path
    }

    pub(crate) fn command(&self, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bt-cli"));
        command.args(arguments);
        self.prepare(command)
    }

    /// Returns a command that a shell runs after `shell`, for example `ulimit -n 64`.
    pub(crate) fn command_after(
        &self,
        shell: &str,
        arguments: impl IntoIterator<Item: AsRef<OsStr>>,
    ) -> Command {
        let mut command = Command::new("/bin/sh");
        let script = format!(r#"{shell} && exec "$0" "$@""#);
        command.args(["-c", &script, env!("CARGO_BIN_EXE_bt-cli")]).args(arguments);
        self.prepare(command)
    }

    fn prepare(&self, mut command: Command) -> Command {
        command.current_dir(self.path());
        command.env_clear().env("HOME", self.path()).env("LANG", "C.UTF-8");
        command.env("BT_CLI_LOCAL", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Output {
        self.start(arguments).finish()
    }

    /// Runs the program to its end, with a standard output that is closed.
    pub(crate) fn run_unread(&self, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Output {
        let mut child = self.command(arguments).spawn().expect("bt-cli starts");
        drop(child.stdout.take());
        finish(child)
    }

    /// Runs the program to its end, with `input` on standard input.
    pub(crate) fn run_with(
        &self,
        input: &[u8],
        arguments: impl IntoIterator<Item: AsRef<OsStr>>,
    ) -> Output {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("bt-cli starts");
        let mut stdin: ChildStdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        // The program may not read all of it.
        thread::spawn(move || drop(stdin.write_all(&input)));
        finish(child)
    }

    /// Starts the program. The test reads its lines meanwhile.
    pub(crate) fn start(&self, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Process {
        Process::new(&mut self.command(arguments))
    }
}

/// Returns a command line: the command, a torrent's file, the rest.
pub(crate) fn words(command: &str, payload: &Payload, rest: &[&str]) -> Vec<String> {
    let torrent = payload.torrent_path().to_str().expect("a path in UTF-8");
    [command, torrent].iter().chain(rest).map(|word| (*word).to_owned()).collect()
}

/// Returns the folder that contains the data of `payload`.
pub(crate) fn dir(payload: &Payload) -> &str {
    payload.folder_path().to_str().expect("a path in UTF-8")
}

/// A torrent, a peer that listens, and a shell.
pub(crate) struct Scene {
    pub(crate) payload: Payload,
    pub(crate) peer: ScriptedPeer,
    pub(crate) address: String,
    pub(crate) shell: Shell,
}

impl Scene {
    /// The peer is an honest seeder.
    pub(crate) fn new(payload: PayloadBuilder) -> Self {
        Self::with(payload, |seeder| seeder)
    }

    /// The peer is a seeder with a change.
    pub(crate) fn with(payload: PayloadBuilder, change: impl FnOnce(Script) -> Script) -> Self {
        let payload = payload.create().expect("a payload");
        let peer = change(Script::seeder(&payload)).listen();
        let address = peer.address().to_string();
        Self { payload, peer, address, shell: Shell::new() }
    }

    /// Returns the command line of a download from the peer to the folder `out`.
    pub(crate) fn words(&self, flags: &[&str]) -> Vec<String> {
        let rest = ["-o", "out", "--port", "0", "--peer", &self.address];
        words("download", &self.payload, &[&rest, flags].concat())
    }

    pub(crate) fn download(&self, flags: &[&str]) -> Output {
        self.shell.run(self.words(flags))
    }

    /// Fails unless the download is the payload.
    #[track_caller]
    pub(crate) fn compare(&self) {
        self.payload.compare(self.shell.join("out")).unwrap();
    }
}

/// Downloads the payload from the program at `address`, and fails unless that completes.
#[track_caller]
pub(crate) fn leech(payload: &Payload, address: SocketAddr) {
    let leecher = Script::leecher(payload).connect(address).expect("the program listens");
    assert!(leecher.wait_for(Duration::from_secs(60), |seen| seen.complete));
}

/// The output and status of a process that has ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) bytes: Vec<u8>,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Fails, and shows the output, unless the exit code is `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Returns every line of stdout as a JSON object.
    #[track_caller]
    pub(crate) fn objects(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        self.stdout().lines().map(parse).collect()
    }

    /// Returns the one JSON object on stdout.
    #[track_caller]
    pub(crate) fn object(&self) -> Value {
        let mut objects = self.objects();
        assert_eq!(objects.len(), 1, "{}", self.stdout());
        objects.remove(0)
    }

    /// Returns the message of the last JSON object, which is an error of this class.
    #[track_caller]
    pub(crate) fn error(&self, class: &str) -> String {
        let last = self.objects().pop().expect("a last line");
        assert_eq!(last["error"]["class"], class, "{last}");
        last["error"]["message"].as_str().expect("a message").to_owned()
    }
}

/// A process that has not ended yet. Lines have their line feeds.
pub(crate) struct Process {
    child: Child,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Process {
    pub(crate) fn new(command: &mut Command) -> Self {
        Self::watch(command.spawn().expect("bt-cli starts"))
    }

    fn watch(mut child: Child) -> Self {
        let (stdout, stderr) = (lines(child.stdout.take()), lines(child.stderr.take()));
        Self { child, stdout, stderr, seen: Vec::new() }
    }

    /// Waits for a line of stdout that `enough` accepts.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, enough: impl Fn(&str) -> bool) -> String {
        while let Ok(bytes) = self.stdout.recv_timeout(LIMIT) {
            self.seen.extend_from_slice(&bytes);
            let line = String::from_utf8_lossy(&bytes);
            if enough(&line) {
                return line.into_owned();
            }
        }
        drop(self.child.kill());
        let stderr = self.stderr.try_iter().flatten().collect::<Vec<u8>>();
        let [seen, stderr] = [&self.seen, &stderr].map(|bytes| String::from_utf8_lossy(bytes));
        panic!("no such line in\n{seen}\n{stderr}");
    }

    /// Waits for an event of that name.
    #[track_caller]
    pub(crate) fn wait_for_event(&mut self, name: &str) -> Value {
        let line = self.wait_for(|line| {
            serde_json::from_str::<Value>(line).is_ok_and(|line| line["event"] == name)
        });
        serde_json::from_str(&line).expect("it parsed a moment ago")
    }

    /// Waits for a line of stderr that `enough` accepts. It is not in the output any more.
    #[track_caller]
    pub(crate) fn wait_for_error(&mut self, enough: impl Fn(&str) -> bool) -> String {
        while let Ok(bytes) = self.stderr.recv_timeout(LIMIT) {
            let line = String::from_utf8_lossy(&bytes);
            if enough(&line) {
                return line.into_owned();
            }
        }
        panic!("no such line on stderr");
    }

    /// Returns the process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, for example `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let arguments = [format!("-{name}"), self.child.id().to_string()];
        assert!(Command::new("kill").args(arguments).status().expect("kill runs").success());
    }

    /// Reads until the process ends. Kills it after the limit.
    pub(crate) fn finish(mut self) -> Output {
        let end = Instant::now() + LIMIT;
        let mut bytes = std::mem::take(&mut self.seen);
        bytes.extend(until(&self.stdout, end).flatten());
        let stderr: Vec<u8> = until(&self.stderr, end).flatten().collect();
        if Instant::now() >= end {
            drop(self.child.kill());
        }
        let status = self.child.wait().expect("it ends");
        Output { status, bytes, stderr: String::from_utf8_lossy(&stderr).into_owned() }
    }
}

/// Reads what the process writes until it ends.
pub(crate) fn finish(child: Child) -> Output {
    Process::watch(child).finish()
}

/// Returns the lines until the sender is dropped or `end` is reached.
fn until(lines: &Receiver<Vec<u8>>, end: Instant) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || {
        lines.recv_timeout(end.saturating_duration_since(Instant::now())).ok()
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads lines in a thread. There are none if the test has taken the pipe.
fn lines(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || -> Option<()> {
        let (mut reader, mut line) = (BufReader::new(pipe?), Vec::new());
        while reader.read_until(b'\n', &mut line).ok()? > 0 {
            sender.send(std::mem::take(&mut line)).ok()?;
        }
        Some(())
    });
    receiver
}

/// Nodes of the DHT on loopback: `bt-cli dht node`.
pub(crate) struct Network {
    nodes: Vec<(Process, Value)>,
    shell: Shell,
}

impl Network {
    /// Starts nodes that know each other.
    pub(crate) fn start(count: usize) -> Self {
        let mut network = Self { nodes: Vec::new(), shell: Shell::new() };
        for number in 0..count {
            let state = format!("state {number}");
            let flags = ["--port", "0", "--bind", "127.0.0.1", "--state-dir", &state, "--json"];
            let join = if number == 0 { Vec::new() } else { network.flags().to_vec() };
            let words = ["dht", "node"].into_iter().chain(flags).map(str::to_owned).chain(join);
            let mut node = network.shell.start(words);
            let event = node.wait_for_event("node");
            network.nodes.push((node, event));
        }
        let others = count as u64 - 1;
        for (node, _) in &mut network.nodes {
            if others > 0 {
                node.wait_for(|line| parse(line)["nodes_v4"].as_u64() >= Some(others));
            }
        }
        network
    }

    /// Returns the address of the first node.
    pub(crate) fn address(&self) -> String {
        self.nodes[0].1["listen"][0].as_str().expect("an address").to_owned()
    }

    /// Returns the flags with which a command joins the network.
    pub(crate) fn flags(&self) -> [String; 2] {
        ["--dht-node".to_owned(), self.address()]
    }

    /// Returns the first event of each node.
    pub(crate) fn first_events(&self) -> Vec<Value> {
        self.nodes.iter().map(|(_, event)| event.clone()).collect()
    }

    /// Has a seeder announce the payload, and calls `act` with its info-hash once it has.
    pub(crate) fn announce(&self, payload: &Payload, act: impl FnOnce(&str)) {
        let flags = ["--json", "--port", "0", "--bind", "127.0.0.1", "--no-lsd"];
        let words = words("seed", payload, &[&[dir(payload)], &flags[..]].concat());
        let mut seeding = self.shell.start(words.into_iter().chain(self.flags()));
        seeding.wait_for_event("started");
        let hash = payload.info_hash().to_string();
        let flags = self.flags();
        let find = ["dht", "peers", &hash, &flags[0], &flags[1]];
        let end = Instant::now() + LIMIT;
        while self.shell.run(find).code() != 0 {
            assert!(Instant::now() < end, "the seeder is not announced");
        }
        act(&hash);
    }
}

/// Returns the JSON of a line, or `null`.
pub(crate) fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_default()
}

/// Starts a web server that gives the same answer to every request.
pub(crate) fn web_server(status: &str, body: &[u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())
            .into_bytes();
    answer.extend(body);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            drop(stream.read(&mut head));
            drop(stream.write_all(&answer));
        }
    });
    address
}

/// Returns a TCP port on which nothing listens.
pub(crate) fn dead_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Returns the address of a peer that does not listen.
pub(crate) fn dead_peer() -> String {
    format!("127.0.0.1:{}", dead_port())
}

/// Returns the URL of a tracker that does not listen.
pub(crate) fn dead_tracker() -> String {
    format!("http://{}/announce", dead_peer())
}

/// Returns a UDP socket that never answers.
pub(crate) fn mute_udp() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("a port")
}
