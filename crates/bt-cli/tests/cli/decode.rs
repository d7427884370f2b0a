//! `decode`.

use serde_json::{Value, json};

use crate::support::Shell;

#[track_caller]
fn check(input: &[u8], expected: &Value) {
    let shell = Shell::new();
    assert_eq!(shell.run_with(input, ["decode", "-", "--json"]).expect(0).object(), *expected);
    let text = shell.run_with(input, ["decode", "-"]).expect(0);
    serde_json::from_str::<Value>(&text.stdout()).expect("the text is readable as JSON too");
}

#[test]
fn values_become_json() {
    check(b"i-42e", &json!(-42));
    check(b"i18446744073709551615e", &json!(18446744073709551615_u64));
    check(b"5:hello", &json!("hello"));
    check(b"0:", &json!(""));
    check(b"2:\xff\x00", &json!({ "hex": "ff00" }));
    check(b"le", &json!([]));
    check(b"l4:spami1ee", &json!(["spam", 1]));
    check(b"d3:cow3:moo4:spaml1:a1:bee", &json!({ "cow": "moo", "spam": ["a", "b"] }));
    check(b"d2:\xff\xfe1:ae", &json!({ "hex:fffe": "a" }));
}

#[test]
fn binary_keys_are_always_hex() {
    check(b"d5:peers6:abcdefe", &json!({ "peers": { "hex": "616263646566" } }));
    check(
        b"d4:infod6:pieces20:aaaaaaaaaaaaaaaaaaaaee",
        &json!({ "info": { "pieces": { "hex": "61".repeat(20) } } }),
    );
    check(
        b"d12:piece layersd2:ab2:cdee",
        &json!({ "piece layers": { "hex:6162": { "hex": "6364" } } }),
    );
    // The dictionary form of peers is no byte string.
    check(b"d5:peersld2:ip9:127.0.0.1eee", &json!({ "peers": [{ "ip": "127.0.0.1" }] }));
}

#[test]
fn input_is_text_file_or_stdin() {
    let shell = Shell::new();
    let text = "d3:cow3:mooe";
    assert_eq!(shell.run(["decode", text, "--json"]).expect(0).stdout(), "{\"cow\":\"moo\"}\n");
    shell.write("value", text);
    assert_eq!(shell.run(["decode", "value", "--json"]).expect(0).object(), json!({"cow": "moo"}));
    let text = shell.run(["decode", "value"]).expect(0);
    assert_eq!(text.stdout(), "{\n  \"cow\": \"moo\"\n}\n");
}

#[test]
fn long_binary_is_cut_in_text() {
    let shell = Shell::new();
    let input = [b"d6:pieces200:".as_slice(), &[7; 200], b"e"].concat();
    let text = shell.run_with(&input, ["decode", "-"]).expect(0).stdout();
    assert!(text.contains("(200 bytes)") && text.len() < 200, "{text}");
    let object = shell.run_with(&input, ["decode", "-", "--json"]).expect(0).object();
    assert_eq!(object["pieces"]["hex"], "07".repeat(200));
}

#[test]
fn untrusted_text_is_escaped() {
    let shell = Shell::new();
    let input = "9:\u{1b}[2J\u{202e}\u{7f}\n".as_bytes();
    let output = shell.run_with(input, ["decode", "-"]).expect(0).stdout();
    assert_eq!(output, "\"\\u001b[2J\\u202e\\u007f\\n\"\n");
    let object = shell.run_with(input, ["decode", "-", "--json"]).expect(0).object();
    assert_eq!(object, json!("\u{1b}[2J\u{202e}\u{7f}\n"));
}

#[test]
fn unsorted_keys_are_warned_of() {
    let shell = Shell::new();
    let output = shell.run(["decode", "d1:b0:1:a0:e"]).expect(0);
    assert!(output.stderr.contains("byte 6"), "{}", output.stderr);
    let error = shell.run(["decode", "--strict", "d1:b0:1:a0:e", "--json"]).expect(3);
    assert!(error.error("bad_torrent").contains("byte 6"));
}

#[test]
fn errors_name_offset() {
    let shell = Shell::new();
    for (input, part) in [
        ("i042e", "byte"),
        ("i-0e", "byte"),
        ("i12", "byte 3"),
        ("5:abc", "byte 0"),
        ("d3:keye", "(key)"),
        ("li1ei2e", "byte 7"),
        ("i1etrailing", "byte 3"),
        ("d1:ai1e1:ai2ee", "byte 7"),
        ("di1e1:ae", "byte 1"),
    ] {
        let output = shell.run(["decode", input]).expect(3);
        assert!(output.stderr.starts_with("error: ") && output.stdout().is_empty());
        let output = shell.run(["decode", input, "--json"]).expect(3);
        let message = output.error("bad_torrent");
        assert!(message.contains(part), "{input}: {message}");
        assert!(output.objects()[0]["error"]["offset"].is_u64());
    }
}

#[test]
fn missing_file_is_disk_error() {
    for name in ["missing.torrent", "data.torrent", "list.torrent", "info", "2.torrent", "./d1:ae"]
    {
        let error = Shell::new().run(["decode", name, "--json"]).expect(6).error("disk");
        assert!(error.contains(name) && !error.contains("os error"), "{error}");
    }
}

#[test]
fn empty_argument_is_a_usage_error() {
    let error = Shell::new().run(["decode", "", "--json"]).expect(2).error("usage");
    assert_eq!(error, "the argument is empty");
}
