//! `handshake`: shows what one peer says about itself.

use std::net::SocketAddr;

use bt_types::{InfoHashV1, PeerId};
use serde_json::json;
use session::probe::{self, Probe};

use crate::address;
use crate::cli::HandshakeArgs;
use crate::failure::{Class, CommandResult, Failure, chain};
use crate::identity::PEER_ID_PREFIX;
use crate::output::{Output, Style, clean, hex};
use crate::source::Sources;

pub(crate) fn run(arguments: &HandshakeArgs, output: &Output) -> CommandResult {
    let addresses = address::resolve(&arguments.address)?;
    let torrent = Sources::of(&arguments.source, output).describe(&arguments.source.torrent)?;
    let info_hash = torrent.description.info_hash();
    let (address, report) = first_answer(&addresses, info_hash, arguments)?;
    output.result(|| object(address, &report), |style| text(address, &report, style))
}

/// Returns the first answer. A name may have several addresses.
fn first_answer(
    addresses: &[SocketAddr],
    info_hash: InfoHashV1,
    arguments: &HandshakeArgs,
) -> Result<(SocketAddr, Probe), Failure> {
    let mut failures = Vec::new();
    let peer_id = PeerId::new(PEER_ID_PREFIX, rand::random());
    for address in addresses {
        match probe::handshake(*address, info_hash, peer_id, None, arguments.timeout) {
            Ok(report) => return Ok((*address, report)),
            Err(error) => failures.push(chain(&error)),
        }
    }
    let message = format!("no handshake: {}", failures.join("; "));
    Err(Failure::new(Class::Network, message).with("address", arguments.address.as_str()))
}

fn object(address: SocketAddr, report: &Probe) -> serde_json::Value {
    json!({
        "address": address.to_string(),
        "peer_id": report.peer_id.to_string(),
        "client": report.client,
        "info_hash": report.info_hash.to_string(),
        "reserved": hex(&report.reserved.0),
        "extensions": report.extensions,
    })
}

fn text(address: SocketAddr, report: &Probe, style: Style) -> String {
    let rows = [
        ("address", address.to_string()),
        ("peer id", report.peer_id.to_string()),
        ("client", clean(&report.client)),
        ("info-hash", report.info_hash.to_string()),
        ("reserved", hex(&report.reserved.0)),
        ("extensions", clean(&report.extensions.join(", "))),
    ];
    let line =
        |(label, value): (&str, String)| format!("{}  {value}", style.bold(format!("{label:10}")));
    rows.into_iter().map(line).collect::<Vec<_>>().join("\n")
}
