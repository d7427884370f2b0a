//! `dht node`: runs a node of the DHT.

use std::fs;
use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use session::DhtConfig;
use session::node::Node;

use crate::cli::{DhtNodeArgs, StateArgs};
use crate::dht_asker::start_failure;
use crate::dht_file::DhtFile;
use crate::failure::{Class, Classify, CommandResult, Failure};
use crate::output::{Output, count, hex};
use crate::signals;
use crate::transfer::{SCHEMA, dht_config, state_dir};

/// How often the program checks for signals.
const TICK: Duration = Duration::from_millis(250);
/// How often the state is shown, if it changed: as JSON or on a terminal, and otherwise.
const SHOW_INTERVAL: Duration = Duration::from_secs(1);
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// How often the nodes are kept for the next launch.
const SAVE_INTERVAL: Duration = Duration::from_secs(15 * 60);

pub(super) fn run(arguments: &DhtNodeArgs, output: &Output) -> CommandResult {
    let signal = signals::first_signal().or_fail(Class::Failure, "cannot watch for signals")?;
    let mut config = dht_config(&arguments.join);
    let file = take_file(&mut config, arguments, output);
    let node = Node::start(&config, &arguments.socket.node_ports(), arguments.socket.bind);
    let mut node = node.map_err(|error| start_failure(&error))?;
    let mut view = View::new(&node, output);
    let mut saved = Instant::now();
    let shown = loop {
        if let Err(end) = view.show(&node) {
            break Err(end);
        }
        if signal.try_recv() != Err(TryRecvError::Empty) {
            break Err(Failure::interrupted().into());
        }
        node.run(TICK);
        if saved.elapsed() >= SAVE_INTERVAL {
            saved = Instant::now();
            save(file.as_ref(), &node, output);
        }
    };
    save(file.as_ref(), &node, output);
    shown
}

/// Takes the file with the nodes of earlier launches, and has the node start with them; `None` if
/// another process has the file.
fn take_file(config: &mut DhtConfig, arguments: &DhtNodeArgs, output: &Output) -> Option<DhtFile> {
    let dir = state_dir(&StateArgs { state_dir: arguments.state_dir.clone() })?;
    if let Err(error) = fs::create_dir_all(&dir) {
        output
            .warn(&format!("cannot keep nodes for the next launch in {}: {error}", dir.display()));
        return None;
    }
    let file = DhtFile::take_for(config, &dir);
    if file.is_none() {
        output.note("another process keeps its nodes for the next launch, so this one does not");
    }
    file
}

fn save(file: Option<&DhtFile>, node: &Node, output: &Output) {
    if let Some(file) = file
        && let Err(error) = file.save(&node.save())
    {
        output.warn(&format!("cannot keep nodes for the next launch: {error}"));
    }
}

/// Shows the state of the node.
struct View {
    output: Output,
    bar: Option<ProgressBar>,
    /// What was shown last, and when.
    last: Option<(Value, Instant)>,
}

impl View {
    fn new(node: &Node, output: &Output) -> Self {
        let listen: Vec<String> = node.addresses().iter().map(ToString::to_string).collect();
        if !output.json() {
            output.note(&format!("listening on {}", listen.join(" and ")));
        }
        let bar = if output.json() { None } else { output.new_bar() };
        Self { output: output.clone(), bar, last: None }
    }

    /// Shows what changed, if it is time to.
    fn show(&mut self, node: &Node) -> CommandResult {
        let is_slow = !self.output.json() && self.bar.is_none();
        let interval = if is_slow { LINE_INTERVAL } else { SHOW_INTERVAL };
        if self.last.as_ref().is_some_and(|(_, shown)| shown.elapsed() < interval) {
            return Ok(());
        }
        let state = object(node);
        let is_first = self.last.is_none();
        if self.last.as_ref().is_some_and(|(last, _)| *last == state) {
            return Ok(());
        }
        self.last = Some((state.clone(), Instant::now()));
        if self.output.json() {
            return self.output.object(&with_schema(state, is_first));
        }
        match &self.bar {
            Some(bar) => bar.set_message(text(node)),
            None => self.output.note(&text(node)),
        }
        Ok(())
    }
}

fn with_schema(mut state: Value, is_first: bool) -> Value {
    if is_first {
        state["schema"] = SCHEMA.into();
    }
    state
}

fn object(node: &Node) -> Value {
    let status = node.status();
    json!({
        "event": "node",
        "listen": node.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "ids": node.ids().iter().map(|id| hex(&id.0)).collect::<Vec<_>>(),
        "nodes_v4": status.nodes_v4,
        "nodes_v6": status.nodes_v6,
        "external_address": node.external_addresses(),
        "torrents": status.torrents,
        "peers": status.peers,
        "queries": status.counters.queries,
        "answered": status.counters.answered,
    })
}

fn text(node: &Node) -> String {
    let status = node.status();
    let nodes = count(status.nodes_v4 + status.nodes_v6, "node", "nodes");
    let (v4, v6) = (status.nodes_v4, status.nodes_v6);
    let (torrents, peers) =
        (count(status.torrents, "torrent", "torrents"), count(status.peers, "peer", "peers"));
    let (queries, answered) = (status.counters.queries, status.counters.answered);
    let seen: Vec<String> = node.external_addresses().iter().map(ToString::to_string).collect();
    let seen =
        if seen.is_empty() { String::new() } else { format!(", seen at {}", seen.join(" and ")) };
    format!(
        "{nodes} ({v4} IPv4, {v6} IPv6), {peers} of {torrents}, queries {answered}/{queries}{seen}"
    )
}
