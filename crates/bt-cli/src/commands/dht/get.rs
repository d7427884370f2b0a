//! `dht get`: finds an item.

use serde_json::{Value, json};
use session::node::{Item, NodeId, mutable_target};

use super::key::unhex;
use crate::cli::DhtGetArgs;
use crate::dht_asker::DhtAsker;
use crate::failure::{Class, CommandResult, Failure};
use crate::output::{Output, clean, count, hex, pretty, to_json};

pub(super) fn run(arguments: &DhtGetArgs, output: &Output) -> CommandResult {
    let salt = arguments.salt.as_deref().unwrap_or_default();
    let target = parse_target(&arguments.target, salt)?;
    let mut asker = DhtAsker::start(&arguments.ask, Vec::new())?;
    let answer = asker.node.get(target, salt.as_bytes(), arguments.ask.timeout);
    let stats = asker.check(answer.stats)?;
    let Some(item) = answer.found else {
        let nodes = count(stats.answered, "node", "nodes");
        let item = hex(&target.0);
        let advice = "check --salt, or put it again: nodes forget an item after two hours";
        let message = format!("no node has the item {item}: {nodes} answered; {advice}");
        return Err(Failure::new(Class::Network, message).into());
    };
    let value = value(&item);
    output.result(|| object(target, &item, &value, salt), |_| text(&value))
}

/// Returns the target of an item, which is given itself or by the public key of the owner.
fn parse_target(text: &str, salt: &str) -> Result<NodeId, Failure> {
    let target = unhex(text).map(NodeId);
    let target = target.or_else(|| Some(mutable_target(&unhex(text)?, salt.as_bytes())));
    target.ok_or_else(|| {
        let expected = "expected a target of 40 hexadecimal digits or a public key of 64";
        Failure::usage(format!("{expected}, got {text:?}")).with("argument", "<TARGET|PUBKEY>")
    })
}

/// Returns the value as JSON.
fn value(item: &Item) -> Value {
    // A verified value is bencode.
    bencode::parse(item.value()).map_or(Value::Null, |document| to_json(document.root()))
}

fn object(target: NodeId, item: &Item, value: &Value, salt: &str) -> Value {
    let key = match item {
        Item::Mutable { key, .. } => Some(hex(key)),
        Item::Immutable { .. } => None,
    };
    json!({
        "target": hex(&target.0),
        "value": value,
        "seq": item.seq(),
        "salt": key.as_ref().map(|_| salt).filter(|salt| !salt.is_empty()),
        "key": key,
    })
}

fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.lines().map(clean).collect::<Vec<_>>().join("\n"),
        None => pretty(value),
    }
}
