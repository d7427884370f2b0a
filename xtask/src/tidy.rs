//! The rules of this repository that no other tool checks. Each problem names its file and line.

mod constants;
mod cycles;
mod edges;
mod packages;
mod phrases;
mod readme;
mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use tasks::workspace;

/// Checks everything, prints the problems, and fails if there are any.
pub(crate) fn run() -> Result<()> {
    let problems = problems()?;
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        println!("nothing to tidy");
        return Ok(());
    }
    bail!("{} things are not tidy", problems.len())
}

fn problems() -> Result<Vec<String>> {
    let metadata = workspace::metadata()?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(workspace::root().join(&file)).ok()?;
        Some((file, text))
    };
    // No rule here applies to binary files.
    let files: Vec<(PathBuf, String)> = files()?.into_iter().filter_map(read).collect();
    let crates = workspace::root().join("crates");
    let readme = std::fs::read_to_string(crates.join("README.md"))?;
    let mut problems = edges::check(packages, &readme);
    problems.extend(packages::check(packages));
    problems.extend(constants::check(&readme, &crates));
    problems.extend(readme::check_words(&readme));
    problems.extend(readme::check_names(&readme, &files));
    problems
        .extend(cycles::check(files.iter().map(|(path, text)| (path.as_path(), text.as_str()))));
    problems.extend(files.iter().flat_map(|(path, text)| sources::check(path, text)));
    Ok(problems)
}

/// Returns every file that is in the repository, or is not ignored, relative to its root.
fn files() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(workspace::root())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let list = String::from_utf8(output.stdout)?;
            Ok(list.lines().map(PathBuf::from).collect())
        }
        // An archive of the sources is not a repository.
        _ => walk(Path::new("")),
    }
}

fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(workspace::root().join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true if path.ends_with("target") || path.ends_with(".git") => {}
            true => found.extend(walk(&path)?),
            false => found.push(path),
        }
    }
    ensure!(!found.is_empty() || folder != Path::new(""), "no files");
    Ok(found)
}

#[cfg(test)]
mod tests {
    #[test]
    fn repository_is_tidy() {
        let problems = super::problems().unwrap();
        assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    }
}
