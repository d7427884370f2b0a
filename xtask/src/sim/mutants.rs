//! Planted bugs, to check that the simulator finds them. They are no switches in the product: its
//! sources are copied to `target/mutants`, changed there, built and played, one bug at a time.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::table::MUTANTS;
use super::{Kind, broken, dht_table, limit};
use tasks::process::Launch;
use tasks::report::Report;
use tasks::workspace::{cargo, root, target};

/// How much of a broken rule is printed, in characters.
const MAX_RULE: usize = 80;

/// The fewest seeds of which one must find a bug.
const LEAST_SEEDS: u64 = 1000;

/// A planted bug.
pub(super) struct Mutant {
    /// What it does.
    pub(super) name: &'static str,
    /// The file that it changes, relative to the root.
    pub(super) file: &'static str,
    /// The text that it replaces, which is in the file exactly once.
    pub(super) before: &'static str,
    pub(super) after: &'static str,
    /// The seed that found it when it was written. It is played first: only if that no longer finds
    /// the bug, all seeds are played up to [`Self::limit`].
    pub(super) seed: u64,
}

/// Returns every mutant.
fn all() -> impl Iterator<Item = &'static Mutant> {
    MUTANTS.iter().chain(dht_table::MUTANTS)
}

impl Mutant {
    /// Returns in what the bug shows.
    fn kind(&self) -> Kind {
        if self.file.starts_with("crates/dht/") { Kind::Dht } else { Kind::Swarms }
    }

    /// Returns how many seeds from 0 on must find it.
    fn limit(&self) -> u64 {
        LEAST_SEEDS.max(8 * self.seed)
    }
}

/// Plays each mutant with `named` in its name, and prints a table.
pub(super) fn run(named: &str) -> Result<()> {
    let chosen: Vec<&Mutant> = all().filter(|mutant| mutant.name.contains(named)).collect();
    ensure!(!chosen.is_empty(), "no mutant has {named:?} in its name");
    let copy = Copy::make()?;
    let mut report = Report::new(&["mutant", "seed"]);
    for mutant in chosen {
        let seed = mutant.seed.to_string();
        report.run_noted(&[mutant.name, &seed], || copy.find(mutant));
    }
    let tally = report.finish();
    println!("\n{tally}");
    ensure!(tally.failed == 0, "{} mutants were not found", tally.failed);
    Ok(())
}

/// A copy of the sources that can be changed.
struct Copy {
    folder: PathBuf,
}

impl Copy {
    fn make() -> Result<Self> {
        let folder = target()?.join("mutants");
        renew(&root().join("crates"), &folder.join("sources/crates"))?;
        let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
        let members = manifest.lines().find(|line| line.starts_with("members = "));
        let members = members.context("the workspace has no members")?;
        let crates_only = manifest.replace(members, r#"members = ["crates/*"]"#);
        write_if_new(&folder.join("sources/Cargo.toml"), crates_only.as_bytes())?;
        fs::copy(root().join("Cargo.lock"), folder.join("sources/Cargo.lock"))?;
        Ok(Self { folder })
    }

    /// Plants the mutant, plays, and removes it again. Returns the seed and the rule that found it.
    fn find(&self, mutant: &Mutant) -> Result<String> {
        let path = self.folder.join("sources").join(mutant.file);
        let text = fs::read_to_string(&path)?;
        ensure!(
            text.matches(mutant.before).count() == 1,
            "{}: the text to replace is not there once",
            mutant.file
        );
        fs::write(&path, text.replace(mutant.before, mutant.after))?;
        let found = self.build().and_then(|program| self.play(&program, mutant));
        fs::write(&path, text)?;
        found
    }

    fn build(&self) -> Result<PathBuf> {
        let output = cargo()
            .args(["build", "--profile", "sim", "--quiet", "--package", "sim"])
            .current_dir(self.folder.join("sources"))
            .env("CARGO_TARGET_DIR", self.folder.join("target"))
            .env("CARGO_PROFILE_SIM_DEBUG", "0")
            // A mutant may leave code unused.
            .env("RUSTFLAGS", "-Awarnings")
            .output()
            .context("cannot run cargo")?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "it does not build:\n{why}");
        Ok(self.folder.join("target/sim/sim"))
    }

    fn play(&self, program: &Path, mutant: &Mutant) -> Result<String> {
        let known = self.first_broken(program, mutant.kind(), 1, mutant.seed)?;
        let found = match known {
            None => self.first_broken(program, mutant.kind(), mutant.limit(), 0)?,
            known => known,
        };
        found.context("not found")
    }

    /// Plays `count` seeds, `from` the first on, until one breaks a rule; returns both.
    fn first_broken(
        &self,
        program: &Path,
        kind: Kind,
        count: u64,
        from: u64,
    ) -> Result<Option<String>> {
        let mut command = Command::new(program);
        command.args(kind.words()).args(["first", &count.to_string(), &from.to_string()]);
        command.env("RUST_BACKTRACE", "0");
        let mut launch = Launch::start("mutant", &command, &self.folder.join("logs"))?;
        launch.wait(limit(count))?;
        let output = launch.stdout();
        let first = output.lines().filter_map(broken).min();
        Ok(first.map(|(seed, rule)| format!("seed {seed}: {}", shortened(rule))))
    }
}

/// Returns the start of a text that may be long.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_RULE) {
        Some((end, _)) => format!("{} ..", &text[..end]),
        None => text.to_owned(),
    }
}

/// Makes `to` the same as `from`. Writes only what differs, so that little is built again.
fn renew(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut names: BTreeSet<_> = BTreeSet::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, copy) = (entry.file_name(), to.join(entry.file_name()));
        match entry.file_type()?.is_dir() {
            true if name == OsStr::new("target") => continue,
            true => renew(&entry.path(), &copy)?,
            false => write_if_new(&copy, &fs::read(entry.path())?)?,
        }
        names.insert(name);
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !names.contains(&entry.file_name()) {
            let is_folder = entry.file_type()?.is_dir();
            let path = entry.path();
            if is_folder { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
    }
    Ok(())
}

fn write_if_new(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).ok().as_deref() != Some(bytes) {
        fs::write(path, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every bug can still be planted.
    #[test]
    fn each_text_is_in_its_file_once() {
        for mutant in all() {
            let text = fs::read_to_string(root().join(mutant.file)).unwrap_or_default();
            let count = text.matches(mutant.before).count();
            assert_eq!(count, 1, "{}: {}: {:?}", mutant.name, mutant.file, mutant.before);
            assert_ne!(mutant.before, mutant.after, "{}", mutant.name);
        }
    }

    #[test]
    fn names_of_mutants_are_unique() {
        let names: BTreeSet<&str> = all().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), all().count());
        assert!(names.len() >= 15);
    }

    #[test]
    fn copy_is_updated() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("a")).unwrap();
        fs::write(from.join("a/same"), "x").unwrap();
        fs::write(from.join("changed"), "x").unwrap();
        renew(&from, &to).unwrap();
        let before = fs::metadata(to.join("a/same")).unwrap().modified().unwrap();
        fs::write(from.join("changed"), "y").unwrap();
        fs::write(to.join("a/gone"), "z").unwrap();
        renew(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("changed")).unwrap(), "y");
        assert!(!to.join("a/gone").exists());
        assert_eq!(fs::metadata(to.join("a/same")).unwrap().modified().unwrap(), before);
    }
}
