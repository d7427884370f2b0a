//! libtorrent through its Python binding: Debian's (2.0) and PyPI's (2.1), the same script.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Job, Program, wait_until_added};
use tasks::process::{Launch, output_of};

const SCRIPT: &str = include_str!("libtorrent.py");
/// How long it may take to join a DHT and to get an answer from it.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// libtorrent, run by a Python script.
pub struct Libtorrent {
    name: &'static str,
    python: &'static str,
    /// The script's argument for seeding.
    seed_role: &'static str,
}

impl Libtorrent {
    /// The Debian package `python3-libtorrent`.
    pub fn debian() -> Self {
        Self { name: "libtorrent-debian", python: "/usr/bin/python3", seed_role: "seed" }
    }

    /// The PyPI package `libtorrent`.
    pub fn pypi() -> Self {
        Self { name: "libtorrent", python: "python3", seed_role: "seed" }
    }

    /// Makes it super-seed (BEP 16).
    pub fn super_seeding(self) -> Self {
        Self { seed_role: "super-seed", ..self }
    }

    fn command(&self, job: &Job<'_>, role: &str) -> Command {
        let mut command = Command::new(self.python);
        command.args(["-c", SCRIPT, role]).arg(job.torrent).arg(job.folder);
        command.arg(job.listen().to_string()).arg(job.home);
        let discovery = json!({ "dht_nodes": job.dht_nodes(), "lsd": job.lan().is_some() });
        command.env("DISCOVERY", discovery.to_string());
        command
    }

    fn start(&self, job: &Job<'_>, role: &str) -> Result<Launch> {
        let command = self.command(job, role);
        Ok(job.start(self.name, &command)?.with_short_grace())
    }

    /// Starts a script that works without a torrent, and waits until it has started to work.
    fn start_script(&self, command: &Command, home: &Path) -> Result<Launch> {
        let mut launch = Launch::start(self.name, command, home)?.with_short_grace();
        wait_until_added(&mut launch, home);
        Ok(launch)
    }

    /// Starts nodes of one DHT, without budgets, and waits until they know each other.
    pub fn start_dht(&self, nodes: &[SocketAddr], home: &Path) -> Result<Launch> {
        let mut command = Command::new(self.python);
        command.args(["-c", SCRIPT, "dht-nodes"]).arg(home);
        command.args(nodes.iter().map(ToString::to_string));
        let launch = self.start_script(&command, home)?;
        ensure!(home.join("added").exists(), "there is no DHT\n{}", launch.output_tail());
        Ok(launch)
    }

    /// Joins a DHT through `node` from `listen`, and returns its answer to a question.
    pub fn ask_dht(
        &self,
        listen: SocketAddr,
        node: SocketAddr,
        question: &Value,
        home: &Path,
    ) -> Result<Value> {
        let mut command = Command::new(self.python);
        command.args(["-c", SCRIPT, "dht-ask", &listen.to_string(), &node.to_string()]);
        let mut launch = Launch::start("asker", command.arg(question.to_string()), home)?;
        let code = launch.exit_code(ANSWER_LIMIT)?;
        ensure!(code == 0, "exit code {code}\n{}", launch.output_tail());
        Ok(serde_json::from_str(&launch.stdout())?)
    }

    /// Returns the newer one that is installed.
    pub fn newest() -> Result<Self> {
        let there = [Self::pypi(), Self::debian()].into_iter().find(|it| it.version().is_some());
        there.context("libtorrent for Python is not installed")
    }

    /// Seeds data without checking it.
    pub fn seed_unchecked(&self, job: &Job<'_>) -> Result<Launch> {
        self.start(job, "seed-unchecked")
    }

    /// Seeds data without checking it, and creates `uploaded` in the job's home as soon as payload
    /// was sent.
    pub fn seed_reporting(&self, job: &Job<'_>) -> Result<Launch> {
        self.start(job, "seed-reporting")
    }

    /// Verifies the data on disk with so many threads, and ends.
    pub fn check(&self, job: &Job<'_>, threads: usize) -> Result<Launch> {
        let mut command = self.command(job, "check");
        self.start_script(command.arg(threads.to_string()), job.home)
    }

    /// Starts to download torrents, each into its folder, from peers that connect to `listen`. Ends
    /// when all are complete.
    pub fn download_all<'a>(
        &self,
        torrents: impl Iterator<Item = (&'a Path, &'a Path)>,
        listen: SocketAddr,
        home: &Path,
    ) -> Result<Launch> {
        let jobs = home.join("jobs");
        let lines = torrents
            .map(|(torrent, folder)| format!("{}\t{}\n", torrent.display(), folder.display()));
        fs::write(&jobs, lines.collect::<String>())?;
        let added = home.join("added");
        if added.exists() {
            fs::remove_file(added)?;
        }
        let mut command = Command::new(self.python);
        command.args(["-c", SCRIPT, "download-all"]).arg(jobs).arg(listen.to_string()).arg(home);
        self.start_script(&command, home)
    }

    /// Starts to make a v1 .torrent of `data`, with pieces of 1 MiB.
    pub fn start_create(
        &self,
        data: &Path,
        url: &str,
        torrent: &Path,
        home: &Path,
    ) -> Result<Launch> {
        let mut command = Command::new(self.python);
        command.args(["-c", SCRIPT, "create"]).arg(data).arg(url).arg(torrent);
        self.start_script(command.arg("1048576").arg(home), home)
    }

    /// Starts a node of the DHT without budgets at `listen`, which must be on loopback. It pings
    /// `nodes`.
    pub fn start_dht_node(
        &self,
        listen: SocketAddr,
        nodes: &[SocketAddr],
        home: &Path,
    ) -> Result<Launch> {
        let mut command = Command::new(self.python);
        command.args(["-c", SCRIPT, "dht-node"]).arg(listen.to_string());
        command.args(nodes.iter().map(ToString::to_string));
        Ok(Launch::start(self.name, &command, home)?.with_short_grace())
    }

    /// Returns for each of `torrents` the info-hash in hex, or why libtorrent refuses it.
    pub fn verdicts(&self, torrents: &[&Path]) -> Result<Vec<Result<String, String>>> {
        let mut command = Command::new(self.python);
        command.args(["-c", SCRIPT, "verdicts"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().context("cannot start python")?;
        let mut input = child.stdin.take().context("no input to write")?;
        let paths: String = torrents.iter().map(|path| format!("{}\n", path.display())).collect();
        // It answers line by line, and all answers fit into a pipe.
        input.write_all(paths.as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        let verdict = |line: &str| {
            let line: Value = serde_json::from_str(line)?;
            let (hash, error) = (line["info_hash"].as_str(), line["error"].as_str());
            Ok(hash.map(str::to_owned).ok_or_else(|| error.unwrap_or_default().to_owned()))
        };
        String::from_utf8(output.stdout)?.lines().map(verdict).collect()
    }

    /// Returns the info-hash of a .torrent, in hex.
    pub fn info_hash(&self, torrent: &Path) -> Result<String> {
        let torrent = torrent.as_os_str();
        let arguments = ["-c".as_ref(), SCRIPT.as_ref(), "info-hash".as_ref(), torrent];
        let output = output_of(self.python, arguments).context("libtorrent refuses the torrent")?;
        Ok(output.trim().to_owned())
    }

    /// Makes a v1 .torrent of `data` with the tracker `url`.
    pub fn create(&self, data: &Path, url: &str, torrent: &Path) -> Result<()> {
        let arguments = ["-c", SCRIPT, "create"].map(AsRef::as_ref);
        let rest = [data.as_os_str(), url.as_ref(), torrent.as_os_str()];
        output_of(self.python, arguments.into_iter().chain(rest)).context("libtorrent failed")?;
        Ok(())
    }
}

impl Program for Libtorrent {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> Option<String> {
        let print = "import libtorrent; print(libtorrent.__version__)";
        output_of(self.python, ["-c", print]).map(|version| version.trim().to_owned())
    }

    fn seed(&self, job: &Job<'_>) -> Result<Launch> {
        self.start(job, self.seed_role)
    }

    fn download(&self, job: &Job<'_>) -> Result<Launch> {
        let mut command = self.command(job, "download");
        command.args(job.peers.iter().map(ToString::to_string));
        let mut launch = job.start(self.name, &command)?.with_short_grace();
        wait_until_added(&mut launch, job.home);
        Ok(launch)
    }
}
