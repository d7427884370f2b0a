//! `completions`: prints a script with which a shell completes command lines of `bt-cli`.

use clap::CommandFactory;
use serde_json::json;

use crate::cli::{Cli, CompletionsArgs};
use crate::failure::CommandResult;
use crate::output::Output;

pub(crate) fn run(arguments: &CompletionsArgs, output: &Output) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "bt-cli", &mut script);
    if output.json() {
        let script = String::from_utf8_lossy(&script);
        return output.object(&json!({ "shell": arguments.shell.to_string(), "script": script }));
    }
    output.bytes(&script)
}
