//! The torrents of one command and the session that transfers them, until every torrent is done or
//! failed, or the user interrupts it.
//!
//! ```text
//!  signal --.                 .--> View   (bars, lines, JSON)
//!  events --+--> Transfer ----+
//!  clock  --'    `-> Torrent  `--> Session (snapshot, shutdown)
//! ```

mod advice;
mod events;
mod metadata;
mod setup;
mod torrent;
mod tracker_news;
mod tracker_results;
mod view;

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select, tick};
use metainfo::Metainfo;
use session::{AddTorrent, Event, EventKind, Session, SessionConfig, TorrentKey};

use crate::dht_file::DhtFile;
use crate::failure::{Class, Classify, CommandResult, End, Failure, chain};
use crate::output::Output;
use crate::signals;

pub(crate) use events::SCHEMA;
pub(crate) use metadata::{MetadataPlan, selected, write_new};
pub(crate) use setup::{
    dht_config, discovery_config, session_config, state_dir, writable_state_dir,
};
pub(crate) use torrent::Torrent;

use advice::address_list;
use view::View;

/// How often the session is asked for its state.
const TICK: Duration = Duration::from_millis(250);
/// How long a clean shutdown may take. A slow disk may have much to sync. A second signal ends the
/// program at once.
const SHUTDOWN_TIME: Duration = Duration::from_secs(30);

/// How often the nodes of the DHT are kept for the next launch.
const DHT_SAVE_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// The torrents of one command and their session.
pub(crate) struct Transfer {
    session: Session,
    torrents: Vec<Torrent>,
    /// Why torrents that were asked for could not start.
    left_out: Vec<Failure>,
    view: View,
    /// What happens to the metadata of links.
    plan: Option<MetadataPlan>,
    /// Where the nodes of the DHT are kept for the next launch.
    dht_file: Option<DhtFile>,
    dht_saved: Instant,
    output: Output,
    signal: Receiver<()>,
}

impl Transfer {
    /// Starts a session that listens and has no torrents yet.
    pub(crate) fn start(mut config: SessionConfig, output: &Output) -> Result<Self, Failure> {
        let signal = signals::first_signal().or_fail(Class::Failure, "cannot watch for signals")?;
        let dht_file = match (&mut config.dht, &config.state_dir) {
            (Some(dht), Some(state_dir)) => DhtFile::take_for(dht, state_dir),
            _ => None,
        };
        let session = Session::start(&config).map_err(|error| setup::start_failure(&error))?;
        warn_of_datagram_port(&session, &config, output);
        log::info!("listening on {}", address_list(session.listen_addresses()));
        let view = View::new(output);
        Ok(Self {
            session,
            torrents: Vec::new(),
            left_out: Vec::new(),
            view,
            plan: None,
            dht_file,
            dht_saved: Instant::now(),
            output: output.clone(),
            signal,
        })
    }

    /// Shows the user the addresses on which peers can reach this program.
    pub(crate) fn show_addresses(&self, output: &Output) {
        if !output.json() {
            let addresses = address_list(self.session.listen_addresses());
            output.note(&format!("listening on {addresses}"));
        }
    }

    /// Sets what happens once the metadata of a link is there.
    pub(crate) fn set_metadata_plan(&mut self, plan: MetadataPlan) {
        self.plan = Some(plan);
    }

    /// Leaves the printing of results to the command.
    pub(crate) fn print_no_results(&mut self) {
        self.view.silence();
    }

    /// Adds a torrent.
    pub(crate) fn add(&mut self, order: &AddTorrent) -> Result<(), Failure> {
        let key = self
            .session
            .add(order.clone())
            .map_err(|error| Failure::new(setup::add_class(&error), chain(&error)))?;
        let torrent = Torrent::new(key, order, self.session.listen_addresses().into());
        self.view.add();
        self.torrents.push(torrent);
        Ok(())
    }

    /// Counts a torrent that cannot start as failed, for the reason that `failure` gives.
    pub(crate) fn leave_out(&mut self, metainfo: &Metainfo, failure: Failure) {
        let (hash, name) = (metainfo.info_hash().to_string(), metainfo.info().name());
        self.left_out.push(about(hash, name, failure));
    }

    /// Transfers until every torrent is over. Returns the first failure if there is one.
    pub(crate) fn run(mut self) -> Result<Vec<Torrent>, End> {
        let ended = self.transfer();
        self.save_dht();
        self.view.finish();
        let Self { session, mut torrents, left_out, mut view, .. } = self;
        let events = session.events().clone();
        // Syncs, writes the journals, announces `stopped`.
        session.shut_down(SHUTDOWN_TIME);
        show_last_events(&events, &mut torrents, &mut view);
        match ended {
            Ok(()) => verdict(torrents, &left_out),
            Err(End::StdoutClosed(_)) => Err(End::StdoutClosed(undone(&torrents, &left_out))),
            Err(end) => Err(end),
        }
    }

    fn transfer(&mut self) -> CommandResult {
        let events = self.session.events().clone();
        let (ticker, signal) = (tick(TICK), self.signal.clone());
        while !self.torrents.iter().all(Torrent::is_over) {
            select! {
                recv(events) -> event => self.handle_event(&event.map_err(|_| session_ended())?)?,
                recv(ticker) -> _ => self.handle_tick()?,
                recv(signal) -> _ => return Err(Failure::interrupted().into()),
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, event: &Event) -> CommandResult {
        let now = Instant::now();
        let Some(index) = self.torrents.iter().position(|torrent| torrent.key == event.torrent)
        else {
            return Ok(());
        };
        let is_last = matches!(event.kind, EventKind::Stopped { .. });
        // First, because the torrent may wait for its selection.
        if let EventKind::MetadataReceived(metainfo) = &event.kind {
            self.handle_metadata(event.torrent, index, metainfo);
        }
        if event.kind.is_lasting() {
            // Shows the event with the newest numbers.
            self.refresh();
        }
        let torrent = &mut self.torrents[index];
        torrent.handle_event(now, &event.kind);
        self.view.event(torrent, &event.kind)?;
        if is_last {
            let is_alone = self.torrents.len() + self.left_out.len() == 1;
            self.view.over(&self.torrents[index], is_alone)?;
        }
        Ok(())
    }

    /// The metadata of a link is there: it is kept, and the torrent goes on unless only the
    /// metadata is wanted, or the user selected files that it does not have.
    fn handle_metadata(&mut self, key: TorrentKey, index: usize, metainfo: &Metainfo) {
        let Some(plan) = &self.plan else { return };
        let torrent = &mut self.torrents[index];
        let selected = plan.select(metainfo, torrent.link(), &self.output);
        let sent = match selected {
            Ok(selected) if plan.download_to.is_some() => self.session.select(key, selected),
            Ok(_) => {
                torrent.set_reached_goal();
                self.session.stop(key)
            }
            Err(failure) => {
                torrent.fail(failure);
                self.session.stop(key)
            }
        };
        // The session goes on while the copy is synced.
        torrent.set_saved_as(plan.keep(metainfo, &self.output));
        if sent.is_err() {
            log::error!("the session does not take commands");
        }
    }

    fn handle_tick(&mut self) -> CommandResult {
        let now = Instant::now();
        self.refresh();
        if now.duration_since(self.dht_saved) >= DHT_SAVE_INTERVAL {
            self.dht_saved = now;
            self.save_dht();
        }
        self.view.progress(now, &self.torrents)?;
        for index in 0..self.torrents.len() {
            for advice in self.torrents[index].take_advice(now) {
                self.view.warning(&self.torrents[index], &advice)?;
            }
            if let Some(why) = self.torrents[index].why_waiting(now) {
                self.view.waiting(&self.torrents[index], &why)?;
            }
        }
        Ok(())
    }

    /// Keeps the nodes of the DHT for the next launch.
    fn save_dht(&self) {
        let Some(file) = &self.dht_file else { return };
        let Ok(Some(state)) = self.session.dht_state() else { return };
        if let Err(error) = file.save(&state) {
            log::warn!("the nodes of the DHT are not kept: {error}");
        }
    }

    /// Asks the session for the state of every torrent, again at the next tick if it is busy.
    fn refresh(&mut self) {
        for status in self.session.snapshot().unwrap_or_default() {
            let torrent = self.torrents.iter_mut().find(|torrent| torrent.key == status.torrent);
            if let Some(torrent) = torrent {
                torrent.status = Some(status);
            }
        }
    }
}

/// Warns if another program has the UDP port.
fn warn_of_datagram_port(session: &Session, config: &SessionConfig, output: &Output) {
    let (tcp, udp) = (session.listen_port(), session.datagram_port());
    if config.dht.is_some() && tcp != udp {
        let used = if udp == 0 { "there is none".to_owned() } else { format!("{udp} is used") };
        output.warn(&format!(
            "UDP port {tcp} is taken: {used} for the DHT and for trackers; choose ports with --port"
        ));
    }
}

/// Handles the events that came during the shutdown. A closed standard output no longer changes how
/// the command ends.
fn show_last_events(events: &Receiver<Event>, torrents: &mut [Torrent], view: &mut View) {
    for event in events.try_iter() {
        let torrent = torrents.iter_mut().find(|torrent| torrent.key == event.torrent);
        let Some(torrent) = torrent else { continue };
        torrent.handle_event(Instant::now(), &event.kind);
        if matches!(event.kind, EventKind::Stopped { .. }) {
            drop(view.over(torrent, false));
        }
    }
}

/// Returns the torrents, or the first failure if there is one.
fn verdict(torrents: Vec<Torrent>, left_out: &[Failure]) -> Result<Vec<Torrent>, End> {
    let failures = failures(&torrents, left_out);
    let Some(first) = failures.first().cloned() else { return Ok(torrents) };
    let (failed, all) = (failures.len(), torrents.len() + left_out.len());
    if all == 1 {
        return Err(first.into());
    }
    let which = if failed == 1 { "" } else { "; the first" };
    Err(first.within(format!("{failed} of {all} torrents failed{which}")).into())
}

/// Returns why torrents failed, the earliest first, each with its torrent.
fn failures(torrents: &[Torrent], left_out: &[Failure]) -> Vec<Failure> {
    let mut failed: Vec<(&Torrent, &Failure)> =
        torrents.iter().filter_map(|torrent| Some((torrent, torrent.failure()?))).collect();
    failed.sort_by_key(|(torrent, _)| torrent.over_since());
    let failed = failed
        .into_iter()
        .map(|(torrent, failure)| about(torrent.info_hash(), torrent.name(), failure.clone()));
    left_out.iter().cloned().chain(failed).collect()
}

/// Adds the name and info-hash of the torrent that `failure` is about.
fn about(hash: String, name: &str, failure: Failure) -> Failure {
    failure.with("info_hash", hash).within(name)
}

/// Returns the class of what remains undone if the program ends now. Nothing of a seed-only torrent
/// does.
fn undone(torrents: &[Torrent], left_out: &[Failure]) -> Option<Class> {
    let done = |torrent: &Torrent| torrent.is_complete() || torrent.seed_only;
    let interrupted = (!torrents.iter().all(done)).then_some(Class::Interrupted);
    failures(torrents, left_out).first().map(Failure::class).or(interrupted)
}

fn session_ended() -> End {
    Failure::new(
        Class::Failure,
        "the session ended unexpectedly; run it again with -v to see its log",
    )
    .into()
}
