//! `dht ping`: asks one node for its id.

use serde_json::json;
use session::DhtConfig;
use session::node::Node;

use super::table;
use crate::address;
use crate::cli::DhtPingArgs;
use crate::dht_asker::start_failure;
use crate::failure::{Class, CommandResult, Failure};
use crate::output::{Output, hex, short_duration};

pub(super) fn run(arguments: &DhtPingArgs, output: &Output) -> CommandResult {
    let addresses = address::resolve(&arguments.address)?;
    let config = DhtConfig { routers: Vec::new(), read_only: true, ..DhtConfig::new() };
    let node = Node::start(&config, &arguments.socket.asking_ports(), arguments.socket.bind);
    let mut node = node.map_err(|error| start_failure(&error))?;
    let Some(pong) = node.ping(&addresses, arguments.timeout) else {
        let message = format!("no answer from {}: is it a node of the DHT?", arguments.address);
        let failure = Failure::new(Class::Network, message);
        return Err(failure.with("address", arguments.address.as_str()).into());
    };
    let (address, id) = (pong.address.to_string(), hex(&pong.id.0));
    output.result(
        || json!({ "address": address, "id": id, "seconds": pong.rtt.as_secs_f64() }),
        |style| {
            let rows = [
                ("address", address.clone()),
                ("id", id.clone()),
                ("time", short_duration(pong.rtt)),
            ];
            table(&rows, style)
        },
    )
}
