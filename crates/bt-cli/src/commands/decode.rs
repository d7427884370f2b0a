//! `decode`: prints bencoded data as JSON.

use std::ffi::OsStr;
use std::path::Path;

use bencode::Document;
use serde_json::{Value, json};

use crate::cli::DecodeArgs;
use crate::failure::{Class, CommandResult, Failure, chain};
use crate::output::{self, Output, to_json};
use crate::source;

/// The length of the longest hex string that people see in full, in digits.
const SHOWN_DIGITS: usize = 80;

pub(crate) fn run(arguments: &DecodeArgs, output: &Output) -> CommandResult {
    let (name, bytes) = read(&arguments.input)?;
    let options = bencode::Options { strict: arguments.strict, ..bencode::Options::new() };
    let document = options.parse(&bytes).map_err(|error| {
        Failure::new(Class::BadTorrent, format!("{name}: {}", chain(&error)))
            .with("offset", error.offset)
            .with("path", error.path.to_string())
    })?;
    warn_of_disorder(&document, output);
    let value = to_json(document.root());
    if output.json() {
        return output.object(&value);
    }
    output.line(&output::pretty(&shortened(value)))
}

/// Returns the name and bytes of the input: standard input, a file, or the argument itself if it
/// looks like bencode and no file has that name.
fn read(input: &OsStr) -> Result<(String, Vec<u8>), Failure> {
    if input == "-" {
        return Ok(("standard input".to_owned(), source::read_stdin()?));
    }
    if input.is_empty() {
        return Err(Failure::usage("the argument is empty"));
    }
    let path = Path::new(input);
    let text = input.as_encoded_bytes();
    if looks_like_bencode(text) && !path.exists() {
        return Ok(("the argument".to_owned(), text.to_vec()));
    }
    if source::is_magnet(input) {
        let message = "a magnet link is not bencode: bt-cli info LINK shows what it says";
        return Err(Failure::usage(message));
    }
    if let Some(why) = source::why_not_fetched(input) {
        return Err(Failure::usage(why));
    }
    Ok((path.display().to_string(), source::read_file(path)?))
}

/// Whether `text` is more likely bencode, perhaps damaged, than the name of a file.
fn looks_like_bencode(text: &[u8]) -> bool {
    let is_end = |rest: &[u8]| rest.iter().all(|byte| *byte == b'e');
    let is_string = |rest: &[u8]| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        digits > 0 && rest.get(digits).is_none_or(|byte| *byte == b':')
    };
    let inner = text.iter().position(|byte| *byte != b'l').map_or(&text[..0], |at| &text[at..]);
    match inner {
        [b'd', key @ ..] => is_string(key) || is_end(key) || key.starts_with(b"i"),
        [b'i', number @ ..] => matches!(number, [b'-' | b'0'..=b'9', ..]),
        [_, ..] => is_string(inner) || is_end(inner),
        [] => !text.is_empty(),
    }
}

fn warn_of_disorder(document: &Document<'_>, output: &Output) {
    if let Some(offset) = document.unsorted() {
        output.warn(&format!("keys are not sorted: the first out of order is at byte {offset}"));
    }
}

/// Shortens long binary strings for people.
fn shortened(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(shortened).collect(),
        Value::Object(fields) => match fields.get("hex").and_then(Value::as_str) {
            Some(digits) if fields.len() == 1 && digits.len() > SHOWN_DIGITS => {
                let start = &digits[..SHOWN_DIGITS / 2];
                json!({ "hex": format!("{start}.. ({} bytes)", digits.len() / 2) })
            }
            _ => fields.into_iter().map(|(key, value)| (key, shortened(value))).collect(),
        },
        value => value,
    }
}
