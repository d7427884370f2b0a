//! bt-cli as one of the programs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use super::{Discovery, Job, PORT, Program, version_in};
use crate::bt_cli::{BtCli, COMMAND_LIMIT, json_lines};
use tasks::process::{Launch, output_of};
use tasks::workspace;

/// bt-cli.
pub struct Ours {
    name: &'static str,
    program: PathBuf,
}

impl Ours {
    /// The bt-cli of this workspace, built if necessary.
    pub fn new() -> Result<Self> {
        Ok(Self { name: "bt-cli", program: workspace::build_bt_cli()? })
    }

    /// The bt-cli that syncs only once, at the end, if it was built.
    pub fn synced_at_end() -> Option<Self> {
        let program = workspace::synced_at_end()?;
        Some(Self { name: "bt-cli: one sync", program })
    }

    /// Returns the command with the job's torrent, folder, peers and address; more may be added.
    pub fn command(&self, word: &str, job: &Job<'_>) -> Command {
        let bt_cli = BtCli::new(&self.program, job.home);
        let mut command = bt_cli.command([word]);
        command.arg(job.torrent);
        if word == "download" {
            command.arg("-o");
        }
        command.arg(job.folder).args(["--bind", &job.ip.to_string()]);
        command.args(job.peers.iter().map(|peer| format!("--peer={peer}")));
        command.args(["--port", &PORT.to_string()]);
        command.arg("--state-dir").arg(job.home.join("state"));
        if let Some(discovery) = job.discovery {
            add_discovery(&mut command, discovery);
        }
        command
    }
}

/// Has it look for peers in these ways only.
fn add_discovery(command: &mut Command, discovery: &Discovery) {
    let nodes = &discovery.dht_nodes;
    command.args(nodes.iter().map(|node| format!("--dht-node={node}")));
    command.args(nodes.is_empty().then_some("--no-dht"));
    command.args((!discovery.pex).then_some("--no-pex"));
    match discovery.lan {
        // It would keep to this machine otherwise.
        Some(_) => command.args(["--dht-routers", "none"]).env_remove("BT_CLI_LOCAL"),
        None => command.arg("--no-lsd"),
    };
}

impl Program for Ours {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> Option<String> {
        version_in(&output_of(self.program.to_str()?, ["--version"])?)
    }

    fn seed(&self, job: &Job<'_>) -> Result<Launch> {
        let mut command = self.command("seed", job);
        Launch::start(self.name(), command.arg("--json"), job.home)
    }

    fn download(&self, job: &Job<'_>) -> Result<Launch> {
        let mut command = self.command("download", job);
        Launch::start(self.name(), command.arg("--json"), job.home)
    }

    fn buffers_peak(&self, launch: &Launch) -> Option<u64> {
        let said = launch.stdout();
        let completed = json_lines(&said).rev().find(|line| line["event"] == "completed")?;
        completed["buffers_peak"].as_u64()
    }

    fn finish(&self, launch: &mut Launch) -> Result<()> {
        let code = launch.exit_code(COMMAND_LIMIT)?;
        ensure!(code == 0, "exit code {code}\n{}", launch.output_tail());
        Ok(())
    }
}
