//! `man`: writes a manual page for the program and one for each command.

use std::fs;

use clap::CommandFactory;
use serde_json::json;

use crate::cli::{Cli, ManArgs};
use crate::failure::{Class, Classify, CommandResult};
use crate::output::Output;

pub(crate) fn run(arguments: &ManArgs, output: &Output) -> CommandResult {
    let dir = &arguments.dir;
    fs::create_dir_all(dir)
        .or_fail(Class::Disk, format!("cannot create the folder {}", dir.display()))?;
    let mut command = Cli::command();
    command.build();
    let pages = std::iter::once(command.clone())
        .chain(command.get_subcommands().filter(|page| page.get_name() != "help").cloned());
    let mut written = Vec::new();
    for page in pages {
        let page = clap_mangen::Man::new(page.disable_help_subcommand(true));
        let path = dir.join(page.get_filename());
        let mut text = Vec::new();
        page.render(&mut text)
            .and_then(|()| fs::write(&path, &text))
            .or_fail(Class::Disk, format!("cannot write {}", path.display()))?;
        written.push(path.display().to_string());
    }
    output.result(|| json!({ "output": written }), |_| written.join("\n"))
}
