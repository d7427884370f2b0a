//! `create` makes a torrent of any folder, `verify` accepts it, `seed` serves it, and libtorrent
//! downloads it. Only contents are compared, because libtorrent changes some names.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::odd_names::{Drawn, contents, draw};
use crate::bt_cli::BtCli;
use crate::clients::{Libtorrent, PORT, Program as _, namespace};
use crate::rng::Rng;
use tasks::process::Launch;
use tasks::report::Report;
use tasks::workspace;

/// How many folders there are by default.
const FOLDERS: u32 = 500;
/// How many folders are seeded at a time, each by a process.
const BATCH: usize = 25;
/// How long libtorrent may take for a batch.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the case, if libtorrent is installed.
pub(super) fn run(report: &mut Report, folders: Option<u32>, seed: u64) {
    let direction = "any name: bt-cli creates, verifies and seeds, it downloads";
    let Ok(libtorrent) = Libtorrent::newest() else {
        return report.skip(&["libtorrent", "-", direction], "not installed");
    };
    let version = libtorrent.version().unwrap_or_default();
    report.run_noted(&[libtorrent.name(), &version, direction], || {
        let fixture = Fixture::new(libtorrent)?;
        let done = fixture.run(folders.unwrap_or(FOLDERS), seed);
        done.with_context(|| format!("seed {seed}"))
    });
}

/// The two programs, and a folder for everything.
struct Fixture {
    folder: TempDir,
    bt_cli: BtCli,
    libtorrent: Libtorrent,
}

/// A folder with its torrent.
struct Shared {
    drawn: Drawn,
    torrent: PathBuf,
    /// The folder that libtorrent downloads into.
    copy: PathBuf,
}

impl Fixture {
    fn new(libtorrent: Libtorrent) -> Result<Self> {
        let folder = TempDir::with_prefix("names-")?;
        let bt_cli = BtCli::new(&workspace::build_bt_cli()?, &folder.path().join("bt-cli"));
        Ok(Self { folder, bt_cli, libtorrent })
    }

    fn run(&self, folders: u32, seed: u64) -> Result<String> {
        let mut rng = Rng::new(seed);
        let (mut shared, mut refused) = (Vec::new(), 0);
        for number in 0..u64::from(folders) {
            let folder = self.folder.path().join(number.to_string());
            let drawn = draw(&mut rng, &folder.join("data"), number)?;
            let context =
                format!("folder {number}, {:?}", drawn.root.file_name().unwrap_or_default());
            match self.create(drawn, &folder).context(context)? {
                Some(torrent) => shared.push(torrent),
                None => refused += 1,
            }
        }
        let (mut files, mut ours) = (0, 0);
        for batch in shared.chunks(BATCH) {
            ours += self.exchange(batch)?;
            files += batch.iter().map(compare).sum::<Result<usize>>()?;
        }
        Ok(format!(
            "seed {seed}: {} folders, {files} files; {ours} torrents that libtorrent refuses and bt-cli \
             downloads; {refused} folders with names that are not UTF-8, which create refuses",
            shared.len()
        ))
    }

    /// Makes a torrent and verifies it; `None` if `create` refuses the folder, as it must.
    fn create(&self, drawn: Drawn, folder: &Path) -> Result<Option<Shared>> {
        let torrent = folder.join("it.torrent");
        let arguments = [Path::new("create"), &drawn.root, Path::new("-o"), &torrent];
        let created = self.bt_cli.run("create", arguments)?;
        if let Some(marker) = &drawn.marker {
            created.expect(2)?;
            created.expect_text(marker)?;
            ensure!(!torrent.exists(), "it created a torrent nevertheless");
            return Ok(None);
        }
        created.expect(0)?;
        let arguments = [Path::new("verify"), &torrent, drawn.parent()];
        self.bt_cli.run("verify", arguments)?.expect(0).context("verify")?;
        Ok(Some(Shared { drawn, torrent, copy: folder.join("copy") }))
    }

    /// Downloads all of them with libtorrent, and with bt-cli those that libtorrent refuses.
    /// Returns the number of the latter.
    fn exchange(&self, batch: &[Shared]) -> Result<usize> {
        let home = self.folder.path().join("libtorrent");
        fs::create_dir_all(&home)?;
        let pairs = batch.iter().map(|shared| (shared.torrent.as_path(), shared.copy.as_path()));
        let listen = SocketAddr::from((namespace::address_of(0), PORT));
        let mut leeching = self.libtorrent.download_all(pairs, listen, &home)?;
        let seed = |(number, shared)| self.seed(number, shared, listen);
        let seeding = batch.iter().enumerate().map(seed).collect::<Result<Vec<_>>>()?;
        let ended = leeching.exit_code(LIMIT);
        ensure!(ended.as_ref().is_ok_and(|code| *code == 0), "{}", leeching.output_tail());
        let output = leeching.stdout();
        let is_refused = |shared: &Shared| {
            output.lines().any(|line| line == format!("refused {}", shared.copy.display()))
        };
        let mut refused = 0;
        for (number, shared) in batch.iter().enumerate().filter(|(_, shared)| is_refused(shared)) {
            refused += 1;
            self.download(number, shared).with_context(|| seeding[number].output_tail())?;
        }
        Ok(refused)
    }

    /// Seeds at an address of its own, and dials `leecher`.
    fn seed(&self, number: usize, shared: &Shared, leecher: SocketAddr) -> Result<Launch> {
        let mut command = self.bt_cli.command(["seed", "--json", "--port", &PORT.to_string()]);
        command.arg(&shared.torrent).arg(shared.drawn.parent());
        let ip = namespace::numbered_address(number).to_string();
        command.args(["--bind", &ip, "--peer", &leecher.to_string()]);
        self.bt_cli.start(&format!("seed-{number}"), &command)
    }

    /// Downloads from the seeder of this number.
    fn download(&self, number: usize, shared: &Shared) -> Result<()> {
        let seeder = SocketAddr::from((namespace::numbered_address(number), PORT)).to_string();
        let ip = namespace::OURS.to_string();
        let arguments = [Path::new("download"), &shared.torrent, Path::new("-o"), &shared.copy];
        let network = ["--port", "0", "--bind", &ip, "--peer", &seeder].map(Path::new);
        let arguments = arguments.into_iter().chain(network);
        self.bt_cli.run("download", arguments)?.expect(0)
    }
}

/// Compares the download with the original. Returns the number of files.
fn compare(shared: &Shared) -> Result<usize> {
    let (expected, got) = (contents(shared.drawn.parent())?, contents(&shared.copy)?);
    let lengths = |set: &BTreeSet<Vec<u8>>| set.iter().map(Vec::len).collect::<Vec<_>>();
    ensure!(
        got == expected,
        "of {:?}, files of {:?} bytes were downloaded instead of {:?}",
        shared.drawn.root,
        lengths(&got),
        lengths(&expected)
    );
    Ok(expected.len())
}
