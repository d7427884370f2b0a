//! `man`: writes a manual page for the program, one for each command and one for each of its own
//! commands.

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
    let mut written = Vec::new();
    for page in with_subcommands(&command) {
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

/// Returns the command and all commands below it.
fn with_subcommands(command: &clap::Command) -> Vec<clap::Command> {
    let below = command.get_subcommands().filter(|page| page.get_name() != "help");
    std::iter::once(command.clone()).chain(below.flat_map(with_subcommands)).collect()
}
