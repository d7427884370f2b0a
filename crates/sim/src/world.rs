//! A simulation: a virtual clock, the queue of events in order of time, and the rules that are
//! checked after each.

mod actions;
mod finish;
mod incidents;
mod jobs;
mod links;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bt_types::AnnounceReply;
use piece_store::Torrents;
use session::engine::{AnnounceKey, FetchFailure, LinkKey, Resolved};

use crate::disk::SimDisk;
use crate::liar::{self, Liar};
use crate::network::{At, Network};
use crate::node::{Node, Process, liar_address};
use crate::payload::Payload;
use crate::rng::Rng;
use crate::scenario::{Scenario, Want};
use crate::trace::Trace;
use crate::tracker::Trackers;
use crate::watch::Broken;

/// A simulation that takes longer, on the virtual clock, is stuck.
const MAX_TIME: Duration = Duration::from_secs(3 * 3600);
/// The most events without the clock advancing.
const MAX_AT_ONCE: u32 = 200_000;

/// A process: a node and one of its launches.
#[derive(Debug, Clone, Copy)]
struct ProcessId {
    node: usize,
    launch: u32,
}

/// Something that happens at a given time.
#[derive(Debug)]
enum Event {
    /// Something happens to a process, unless it has ended by then.
    Process(ProcessId, Input),
    /// A segment may have arrived at this end of a wire.
    Arrive(At),
    /// A datagram reaches a tracker.
    Asked(ProcessId, Vec<u8>),
    /// The scenario's n-th incident.
    Incident(usize),
    /// A process starts on a machine that has none.
    Start(usize),
    /// The faults of a disk end.
    RepairDisk(usize),
    /// Liars do what they do without being asked.
    TickLiars,
}

/// Something that happens to a process.
#[derive(Debug)]
enum Input {
    /// Its timer is due.
    Wake,
    /// Its attempt to connect reaches the peer.
    Dial {
        link: LinkKey,
        to: SocketAddr,
    },
    /// The result of the attempt reaches it: a wire, or a refusal.
    Dialed {
        link: LinkKey,
        wire: Option<u64>,
    },
    /// A rate limit or a wire may have room again.
    Refill(LinkKey),
    /// Its store does a job.
    Job(u64),
    /// Its engine gets the result of a job.
    Answer(u64),
    /// The answer of a tracker over HTTP reaches it.
    Fetched {
        key: AnnounceKey,
        leg: usize,
        result: Box<Result<AnnounceReply, FetchFailure>>,
    },
    Resolved {
        host: String,
        result: Resolved,
    },
    /// A datagram reaches it.
    Datagram(Vec<u8>),
    /// The user resumes a torrent that stopped with an error.
    Resume,
}

/// The state of a simulation.
pub(crate) struct World {
    scenario: Scenario,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
    at_once: u32,
    nodes: Vec<Node>,
    liars: Vec<Liar>,
    network: Network,
    trackers: Trackers,
    rng: Rng,
    jobs: u64,
    incidents_left: usize,
    /// Whether all nodes have everything and are stopping.
    closing: bool,
    bans: Vec<Duration>,
    trace: Trace,
}

/// The result of a simulation.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) result: Result<(), Broken>,
    /// When all nodes have everything.
    pub(crate) done: Duration,
    /// When peers were banned.
    pub(crate) bans: Vec<Duration>,
    pub(crate) time: Duration,
    pub(crate) trace: Trace,
    pub(crate) scenario: Scenario,
}

/// Makes all machines, with the files on their disks at the start.
fn new_nodes(scenario: &Scenario, payload: &Arc<Payload>, rng: &mut Rng) -> Vec<Node> {
    let rival = scenario.rival.as_ref().map(|rival| {
        let bytes = payload.file(rival.file_of_first);
        let fixed = rival.same.then_some((rival.file, bytes));
        (rival, Arc::new(Payload::new(&rival.layout, fixed, rng.split())))
    });
    let mut nodes: Vec<Node> = Vec::new();
    for (at, plan) in scenario.nodes.iter().cloned().enumerate() {
        let payload =
            rival.as_ref().map_or(payload, |(_, other)| if plan.rival { other } else { payload });
        let machine = plan.machine;
        let disk = machine.map(|host| Arc::clone(&nodes[host].site.disk));
        nodes.push(Node::new(at, plan, payload, disk.as_ref(), scenario.missing, rng));
        if let (Some(host), Some((rival, _))) = (machine, &rival) {
            if let Some(length) = rival.blank {
                let path = nodes[host].site.usual_path(rival.file_of_first).to_owned();
                nodes[host].disk().put(&path, vec![0; length as usize]);
            }
            (nodes[at].mate, nodes[at].contested) = (Some(host), Some(rival.file));
            (nodes[host].mate, nodes[host].contested) = (Some(at), Some(rival.file_of_first));
        }
    }
    nodes
}

impl World {
    /// Sets up the scenario of `seed`.
    pub(crate) fn new(seed: u64, readable: bool) -> Self {
        let mut rng = Rng::new(seed);
        let scenario = Scenario::draw(&mut rng);
        Self::of(scenario, rng, readable)
    }

    /// Sets up a scenario; `rng` draws what it leaves open.
    pub(crate) fn of(scenario: Scenario, mut rng: Rng, readable: bool) -> Self {
        let payload = Arc::new(Payload::new(&scenario.layout, None, rng.split()));
        let nodes = new_nodes(&scenario, &payload, &mut rng);
        let tricks = scenario.liars.iter().enumerate();
        let liars: Vec<Liar> =
            tricks.map(|(at, trick)| Liar::new(at, *trick, &payload, &mut rng)).collect();
        let addresses = (0..liars.len()).map(liar_address).collect();
        let first = payload.metainfo.info_hash();
        let trackers = Trackers::new(scenario.trackers, (first, addresses), &mut rng);
        Self {
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            next_event: 0,
            at_once: 0,
            nodes,
            liars,
            network: Network::default(),
            trackers,
            rng,
            jobs: 0,
            incidents_left: scenario.incidents.len(),
            closing: false,
            bans: Vec::new(),
            trace: Trace::new(readable),
            scenario,
        }
    }

    /// Plays to the end, or until a rule is broken.
    pub(crate) fn run(mut self) -> Ending {
        let played = self.play();
        let done = self.now;
        let result = played.and_then(|()| self.close());
        let (time, bans, trace, scenario) = (self.now, self.bans, self.trace, self.scenario);
        Ending { result, done, bans, time, trace, scenario }
    }

    fn play(&mut self) -> Result<(), Broken> {
        for node in 0..self.nodes.len() {
            self.after(self.nodes[node].plan.from, Event::Start(node));
        }
        for incident in 0..self.scenario.incidents.len() {
            self.after(self.scenario.incidents[incident].0, Event::Incident(incident));
        }
        if !self.liars.is_empty() {
            self.after(Duration::ZERO, Event::TickLiars);
        }
        while !self.is_done() {
            self.step()?;
            if self.now > MAX_TIME {
                return Err(self.stuck());
            }
        }
        Ok(())
    }

    /// Whether every node has started and has everything that it can get.
    fn is_done(&self) -> bool {
        // This is checked after every event, so the cheap test comes first.
        self.incidents_left == 0
            && self.nodes.iter().all(|node| self.has_reported(node))
            && self.nodes.iter().all(|node| self.has_all(node))
    }

    fn has_all(&self, node: &Node) -> bool {
        if node.gave_way {
            return true;
        }
        let missing = self.missing_of(node);
        let found = |piece: &u32| Some(*piece) == missing || node.have.contains(piece);
        self.has_reported(node) && node.watch.wanted.iter().all(found)
    }

    /// Whether the node runs and has reported to its user all that it can.
    fn has_reported(&self, node: &Node) -> bool {
        if node.gave_way {
            return true;
        }
        let complete = node.completed || self.missing_of(node).is_some();
        node.process.is_some() && node.started && complete
    }

    /// Returns the piece that the node wants and no peer has.
    fn missing_of(&self, node: &Node) -> Option<u32> {
        let missing = self.scenario.missing.filter(|_| !node.plan.rival);
        missing.filter(|missing| node.watch.wanted.contains(missing))
    }

    /// Returns the pieces that the node needs; of a seed-only node, those that it has.
    fn wanted(&self, node: &Node) -> BTreeSet<u32> {
        match node.want() {
            Want::SeedOnly => node.have.clone(),
            want => node.site.payload.wanted(want),
        }
    }

    /// Describes the nodes that are not done.
    fn stuck(&self) -> Broken {
        let mut text = "not done after 3 hours:".to_owned();
        for node in self.nodes.iter().filter(|node| !self.has_all(node)) {
            let status = node.process.as_ref().map(|process| process.engine.status());
            let (have, all) = (node.have.len(), self.wanted(node).len());
            text += &format!(" {} has {have} pieces, wants {all}, {status:?}", node.name);
        }
        text
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.next_event += 1;
        self.queue.insert((time.max(self.now), self.next_event), event);
    }

    /// Handles the next event.
    fn step(&mut self) -> Result<(), Broken> {
        let Some(((time, _), event)) = self.queue.pop_first() else {
            return Err(format!("nothing more will happen: {}", self.stuck()));
        };
        self.at_once = if time > self.now { 0 } else { self.at_once + 1 };
        if self.at_once > MAX_AT_ONCE {
            return Err(format!("time does not advance; next is {event:?}"));
        }
        self.now = time;
        self.handle(event)
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Process(id, input) => self.handle_input(id, input),
            Event::Arrive(at) => self.arrive(at),
            Event::Asked(id, bytes) => self.ask_tracker(id, &bytes),
            Event::Incident(index) => self.incident(index),
            Event::Start(node) => self.start(node),
            Event::RepairDisk(node) => {
                self.repair_disk(node);
                Ok(())
            }
            Event::TickLiars => self.tick_liars(),
        }
    }

    fn handle_input(&mut self, id: ProcessId, input: Input) -> Result<(), Broken> {
        let now = self.now;
        match input {
            Input::Wake => return self.wake(id),
            Input::Dial { link, to } => {
                self.dial(id, link, to);
                return Ok(());
            }
            Input::Dialed { link, wire } => self.dialed(id, link, wire),
            Input::Job(job) => return self.do_job(id, job),
            Input::Answer(job) => return self.answer_job(id, job),
            Input::Resume => return self.resume(id),
            Input::Refill(link) => self.update(id, |process| _ = process.sending.insert(link)),
            Input::Fetched { key, leg, result } => {
                self.update(id, |process| process.engine.handle_fetched(now, key, leg, *result));
            }
            Input::Resolved { host, result } => {
                self.update(id, |process| process.engine.handle_resolved(now, &host, result));
            }
            Input::Datagram(bytes) => {
                let from = actions::tracker_address();
                self.update(id, |process| process.engine.handle_datagram(now, from, &bytes));
            }
        }
        self.settle(id.node)
    }

    fn start(&mut self, node: usize) -> Result<(), Broken> {
        if self.nodes[node].process.is_some() || self.closing {
            return Ok(());
        }
        self.change_files(node);
        self.note(node, "starts", [0; 2], String::new);
        let now = self.now;
        self.nodes[node].promised = self.nodes[node].have.clone();
        let shared = self.shared_torrents(node);
        self.nodes[node].start(now, shared);
        let this = &self.nodes[node];
        if let Some(end) = this.plan.ends_early.filter(|end| end.launch == this.launch) {
            for node in self.machine(node) {
                self.nodes[node].back_at = now + end.back_after;
            }
            self.die(node, end.how, Some(end.operation))?;
        }
        self.begin_opening(node);
        self.settle(node)
    }

    /// Returns the torrents of the mate's process, if there is one and the node joins it.
    fn shared_torrents(&self, node: usize) -> Option<Arc<Torrents<SimDisk>>> {
        let mate = &self.nodes[self.nodes[node].mate?];
        let joins = self.nodes[node].plan.same_process || mate.plan.same_process;
        mate.process.as_ref().filter(|_| joins).map(|process| Arc::clone(&process.torrents))
    }

    /// Returns the nodes on the machine of one, itself included.
    fn machine(&self, node: usize) -> Vec<usize> {
        std::iter::once(node).chain(self.nodes[node].mate).collect()
    }

    /// Returns the present process of a node, or its last one.
    fn id_of(&self, node: usize) -> ProcessId {
        ProcessId { node, launch: self.nodes[node].launch }
    }

    /// Returns that process, if it still runs.
    fn process(&mut self, id: ProcessId) -> Option<&mut Process> {
        let node = &mut self.nodes[id.node];
        if node.launch == id.launch { node.process.as_mut() } else { None }
    }

    /// Changes that process, if it still runs.
    fn update(&mut self, id: ProcessId, change: impl FnOnce(&mut Process)) {
        if let Some(process) = self.process(id) {
            change(process);
        }
    }

    fn wake(&mut self, id: ProcessId) -> Result<(), Broken> {
        let now = self.now;
        let Some(process) = self.process(id) else { return Ok(()) };
        if process.alarm != Some(now) {
            return Ok(());
        }
        process.alarm = None;
        if process.engine.poll_timeout().is_some_and(|at| at <= now) {
            process.engine.handle_timeout(now);
        }
        self.settle(id.node)
    }

    fn tick_liars(&mut self) -> Result<(), Broken> {
        let actions = self.liars.iter_mut().flat_map(Liar::tick).collect();
        self.connect_liars();
        self.after(liar::TICK, Event::TickLiars);
        self.act_as_liar(actions);
        Ok(())
    }

    fn note(
        &mut self,
        node: usize,
        what: &str,
        numbers: [u64; 2],
        detail: impl FnOnce() -> String,
    ) {
        self.trace.note(self.now, &self.nodes[node].name, what, numbers, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{NodePlan, Start};

    #[test]
    fn leechers_trade_with_each_other() {
        let starts = [Start::Everything, Start::Nothing, Start::Nothing, Start::Nothing];
        let nodes = starts.iter().enumerate().map(|(at, start)| NodePlan {
            max_up: Some(1 << 20),
            peers: (0..4).filter(|other| *other != at).collect(),
            ..NodePlan::new(*start, vec![Want::All])
        });
        let mut scenario = Scenario::quiet(4 << 20, 128 << 10, nodes.collect());
        scenario.network.rates = (50 << 20, 50 << 20);
        scenario.network.capacity = 1 << 20;
        scenario.network.max_latency = 30;
        let ending = World::of(scenario, Rng::new(5), false).run();
        assert_eq!(ending.result, Ok(()));
        // At 1 MiB/s, the seeder alone would need 12 s for three leechers of 4 MiB each. In 10 s it
        // sends all but 2 MiB of that.
        assert!(ending.done < Duration::from_secs(10), "{:?}", ending.done);
    }
}
