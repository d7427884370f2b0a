//! `cargo xtask fuzz`: libFuzzer on the targets of `xtask/fuzz`, on the stable toolchain. It needs
//! only a C++ compiler, for libFuzzer itself.
//!
//! The committed part of a target's corpus is in `testdata/fuzz` and is replayed by the tests of
//! the target's crate. New inputs go to `target/fuzz/corpus`; `--minimise` rebuilds the committed
//! part from both. A file whose name is not a hash was added by hand or was once a finding, and is
//! always kept.

mod corpus;
mod log;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use tasks::meter::Meter;
use tasks::process::{Launch, wait_until};
use tasks::workspace::{cargo, target};

/// Compiler flags that tell libFuzzer which code an input reached, as in cargo-fuzz.
const INSTRUMENTED: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Ccodegen-units=1";
/// The longest input, in bytes.
const MAX_LENGTH: usize = 4096;
/// The time limit of one input, in seconds.
const MAX_TIME: u64 = 30;
/// The limit of resident memory, in MiB.
const MAX_RESIDENT: u64 = 512;
/// The limit of the address space, in KiB: untouched memory is not resident.
const MAX_ADDRESSES: u64 = 1024 * 1024;
/// How long libFuzzer may take to end after its time.
const GRACE: Duration = Duration::from_secs(120);

/// What to fuzz and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The target; without one, each in turn
    target: Option<String>,
    /// How long each target runs, in seconds
    #[arg(default_value_t = 60)]
    seconds: u64,
    /// Runs nothing; reduces each corpus in testdata/fuzz to the fewest inputs
    #[arg(long)]
    minimise: bool,
}

/// Fuzzes the chosen targets, and fails if one has a finding.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut targets = corpus::targets()?;
    if let Some(wanted) = &arguments.target {
        ensure!(targets.contains(wanted), "there is no target {wanted}: {}", targets.join(", "));
        targets.retain(|target| target == wanted);
    }
    let fuzzer = Fuzzer::build()?;
    if arguments.minimise {
        return targets.iter().try_for_each(|target| corpus::minimise(&fuzzer, target));
    }
    println!("{}", Report::HEAD);
    let mut findings = 0;
    for target in &targets {
        let report = fuzzer.fuzz(target, arguments.seconds)?;
        println!("{}", report.line(target));
        log::add(target, &report)?;
        findings += usize::from(report.finding.is_some());
    }
    ensure!(findings == 0, "{findings} targets have findings");
    Ok(())
}

/// The program with all targets in it.
struct Fuzzer {
    program: PathBuf,
    /// The folder of builds, working corpora and findings.
    folder: PathBuf,
}

impl Fuzzer {
    fn build() -> Result<Self> {
        let folder = target()?.join("fuzz");
        let host = host()?;
        // With --target, build scripts and macros are not instrumented.
        let status = cargo()
            .args(["build", "--release", "--quiet", "--locked", "--target", &host])
            .args(["--manifest-path", "xtask/fuzz/Cargo.toml"])
            .env("RUSTFLAGS", INSTRUMENTED)
            .env("CARGO_TARGET_DIR", &folder)
            .status()
            .context("cannot run cargo")?;
        ensure!(
            status.success(),
            "xtask/fuzz does not build; libFuzzer in it needs a C++ compiler"
        );
        Ok(Self { program: folder.join(host).join("release/fuzz"), folder })
    }

    /// Returns the command that runs libFuzzer on `target` with limited memory.
    fn command(&self, target: &str) -> Command {
        let mut command = Command::new("sh");
        let limited = format!(r#"ulimit -v {MAX_ADDRESSES} && exec "$0" "$@""#);
        command.arg("-c").arg(limited).arg(&self.program);
        command.env("FUZZ_TARGET", target).env("RUST_BACKTRACE", "0");
        command.args([
            format!("-max_len={MAX_LENGTH}"),
            format!("-timeout={MAX_TIME}"),
            format!("-rss_limit_mb={MAX_RESIDENT}"),
        ]);
        command
    }

    /// Returns the folder of the inputs of `target` that are not committed.
    fn working_corpus(&self, target: &str) -> Result<PathBuf> {
        let folder = self.folder.join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn fuzz(&self, target: &str, seconds: u64) -> Result<Report> {
        let findings = self.folder.join("findings");
        fs::create_dir_all(&findings)?;
        let mut command = self.command(target);
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/{target}-", findings.display()))
            .arg("-print_final_stats=1")
            .arg(self.working_corpus(target)?)
            .arg(corpus::committed(target));
        let mut launch = Launch::start(target, &command, &self.folder.join("logs"))?;
        let mut meter = Meter::start(&launch);
        let limit = Duration::from_secs(seconds) + GRACE;
        let ended = wait_until(limit, || launch.has_ended());
        let cpu = meter.cost().cpu;
        ensure!(ended, "{target} still runs after {limit:?}");
        let status = launch.wait(GRACE)?;
        Report::read(&launch.stderr(), status.success(), cpu)
    }
}

/// Returns the platform that rustc compiles for.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// The result of fuzzing one target.
#[derive(Debug, PartialEq)]
struct Report {
    executions: u64,
    cpu: Duration,
    /// How many edges between basic blocks were reached.
    coverage: u64,
    /// The number of inputs and their bytes, as libFuzzer prints them.
    corpus: String,
    /// The error, and the file with the input that causes it.
    finding: Option<String>,
}

impl Report {
    const HEAD: &str =
        "target            executions  per CPU s  edges  corpus        CPU s  finding";

    /// Parses libFuzzer's output.
    fn read(text: &str, success: bool, cpu: Duration) -> Result<Self> {
        let after = |label: &str| {
            let line = text.lines().rfind(|line| line.contains(label))?;
            line.split_once(label)?.1.split_whitespace().next()
        };
        let number = |label: &str| after(label).and_then(|word| word.parse().ok());
        let Some(executions) = number("stat::number_of_executed_units:") else {
            bail!("cannot parse the fuzzer's output:\n{text}");
        };
        Ok(Self {
            executions,
            cpu,
            coverage: number(" cov: ").unwrap_or(0),
            corpus: after(" corp: ").unwrap_or("0").to_owned(),
            finding: (!success).then(|| finding(text)),
        })
    }

    fn line(&self, target: &str) -> String {
        let Self { executions, coverage, corpus, .. } = self;
        let cpu = self.cpu.as_secs_f64();
        let rate = *executions as f64 / cpu.max(0.01);
        let finding = self.finding.as_deref().unwrap_or("none");
        format!(
            "{target:<16} {executions:>11} {rate:>10.0} {coverage:>6}  {corpus:<12} {cpu:>6.1}  {finding}"
        )
    }
}

/// Returns the line that says what is wrong, and where libFuzzer wrote the input to.
fn finding(text: &str) -> String {
    let lines = || text.lines();
    let panic = lines().position(|line| line.contains("panicked at"));
    let panic = panic.map(|at| lines().skip(at).take(2).collect::<Vec<_>>().join(" "));
    let error = || lines().find_map(|line| Some(line.split_once("ERROR: ")?.1.to_owned()));
    let what = panic.or_else(error).unwrap_or_else(|| "it ended with an error".to_owned());
    let input = lines().find_map(|line| Some(line.split_once("Test unit written to ")?.1));
    let name = input.map(|path| Path::new(path).file_name().unwrap_or_default().to_string_lossy());
    format!("{what} (target/fuzz/findings/{})", name.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tasks::workspace::root;

    #[test]
    fn output_without_finding_is_parsed() {
        let text = "#2\tINITED cov: 1 ft: 1 corp: 1/1b\n\
            #9\tDONE   cov: 596 ft: 2300 corp: 299/12838b lim: 603 exec/s: 25631 rss: 31Mb\n\
            stat::number_of_executed_units: 128159\n";
        let report = Report::read(text, true, Duration::from_secs(2)).unwrap();
        assert_eq!((report.executions, report.coverage), (128_159, 596));
        assert_eq!((report.corpus.as_str(), report.finding), ("299/12838b", None));
    }

    #[test]
    fn output_with_finding_is_parsed() {
        let text = "thread '<unnamed>' (712) panicked at src/fuzz.rs:247:17:\nit is wrong\n\
            ==7== ERROR: libFuzzer: deadly signal\n\
            artifact_prefix='x/a-'; Test unit written to x/a-crash-12\n\
            stat::number_of_executed_units: 7\n";
        let report = Report::read(text, false, Duration::ZERO).unwrap();
        let finding = report.finding.unwrap();
        assert!(finding.contains("fuzz.rs:247:17: it is wrong"), "{finding}");
        assert!(finding.ends_with("(target/fuzz/findings/a-crash-12)"), "{finding}");
        assert!(Report::read("", false, Duration::ZERO).is_err());
    }

    /// Each target has a corpus, so that its crate replays it; each corpus has a target.
    #[test]
    fn every_target_has_a_corpus() {
        let main = fs::read_to_string(root().join("xtask/fuzz/src/main.rs")).unwrap();
        let names =
            main.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split('"').next());
        assert_eq!(names.map(str::to_owned).collect::<Vec<_>>(), corpus::targets().unwrap());
    }
}
