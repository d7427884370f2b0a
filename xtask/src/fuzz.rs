//! `cargo xtask fuzz`: libFuzzer on the targets of `xtask/fuzz`, on the stable toolchain. Nothing is
//! needed but a C++ compiler, for libFuzzer itself.
//!
//! What is committed of a target's corpus lies below `testdata/fuzz` and is replayed by the tests of
//! the target's crate. What a run finds goes to `target/fuzz/corpus`; `--minimise` makes the former
//! anew from both. A file with a name that is no hash was put there by hand, or once was a finding,
//! and is always kept.

mod corpus;
mod log;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use xtask::meter::Meter;
use xtask::process::{Running, until};
use xtask::workspace::{cargo, target};

/// What the compiler adds so that libFuzzer sees which code an input reached, as cargo-fuzz has it.
const INSTRUMENTED: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Ccodegen-units=1";
/// The longest input, in bytes.
const MAX_LENGTH: usize = 4096;
/// How long one input may take, in seconds.
const MAX_TIME: u64 = 30;
/// How much memory may be resident, in MiB.
const MAX_RESIDENT: u64 = 512;
/// How much memory may be asked for, in KiB: what is never touched is not resident.
const MAX_ADDRESSES: u64 = 1024 * 1024;
/// How long a run may go on after its time, to end.
const GRACE: Duration = Duration::from_secs(120);

/// What to fuzz, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which target; each in turn if none is named
    target: Option<String>,
    /// How long each runs, in seconds
    #[arg(default_value_t = 60)]
    seconds: u64,
    /// Runs nothing; makes the corpora below testdata/fuzz as small as they can be
    #[arg(long)]
    minimise: bool,
}

/// Fuzzes each target that is meant, and fails if one has a finding.
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
    /// Where builds, working corpora and findings are.
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

    /// libFuzzer on `target`, with its memory limited.
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

    /// The inputs of `target` that are not committed.
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
        let mut running = Running::start(target, &command, &self.folder.join("logs"))?;
        let mut meter = Meter::start(&running);
        let limit = Duration::from_secs(seconds) + GRACE;
        let ended = until(limit, || running.has_ended());
        let cpu = meter.cost().cpu;
        ensure!(ended, "{target} does not end");
        let status = running.wait(GRACE)?;
        Report::read(&running.stderr(), status.success(), cpu)
    }
}

/// The platform that is compiled for.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// What came of a run.
#[derive(Debug, PartialEq)]
struct Report {
    executions: u64,
    cpu: Duration,
    /// How many edges between blocks of code were gone along.
    coverage: u64,
    /// How many inputs, and their bytes, as libFuzzer writes it.
    corpus: String,
    /// What was found, and the input that shows it.
    finding: Option<String>,
}

impl Report {
    const HEAD: &str =
        "target            executions  per CPU s  edges  corpus        CPU s  finding";

    /// Reads what libFuzzer wrote.
    fn read(text: &str, success: bool, cpu: Duration) -> Result<Self> {
        let after = |label: &str| {
            let line = text.lines().rfind(|line| line.contains(label))?;
            line.split_once(label)?.1.split_whitespace().next()
        };
        let number = |label: &str| after(label).and_then(|word| word.parse().ok());
        let Some(executions) = number("stat::number_of_executed_units:") else {
            bail!("the fuzzer says nothing that is understood:\n{text}");
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

/// The line that tells what is wrong, and where the input was written to.
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
    use xtask::workspace::root;

    #[test]
    fn a_run_without_a_finding() {
        let text = "#2\tINITED cov: 1 ft: 1 corp: 1/1b\n\
            #9\tDONE   cov: 596 ft: 2300 corp: 299/12838b lim: 603 exec/s: 25631 rss: 31Mb\n\
            stat::number_of_executed_units: 128159\n";
        let report = Report::read(text, true, Duration::from_secs(2)).unwrap();
        assert_eq!((report.executions, report.coverage), (128_159, 596));
        assert_eq!((report.corpus.as_str(), report.finding), ("299/12838b", None));
    }

    #[test]
    fn a_run_with_a_finding() {
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

    /// Each target has a corpus, so that it is replayed; each corpus has a target.
    #[test]
    fn targets_are_those_of_the_program() {
        let main = fs::read_to_string(root().join("xtask/fuzz/src/main.rs")).unwrap();
        let names =
            main.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split('"').next());
        assert_eq!(names.map(str::to_owned).collect::<Vec<_>>(), corpus::targets().unwrap());
    }
}
