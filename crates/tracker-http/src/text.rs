//! Untrusted text, made safe to show.

/// The longest text that is taken from a tracker, in bytes.
pub const MAX_TEXT_LENGTH: usize = 1024;

/// Returns at most `length` bytes of `bytes` as text on one line, without control characters and
/// without marks that change the direction of writing.
pub(crate) fn printable(bytes: &[u8], length: usize) -> String {
    let bytes = bytes.get(..length).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::with_capacity(text.len());
    for word in text.split(|char: char| char.is_whitespace() || is_invisible(char)) {
        if !word.is_empty() && !shown.is_empty() {
            shown.push(' ');
        }
        shown.push_str(word);
    }
    shown.truncate(shown.floor_char_boundary(length));
    shown
}

fn is_invisible(char: char) -> bool {
    let changes_direction =
        matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    char.is_control() || changes_direction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], shown: &str) {
        assert_eq!(printable(bytes, 20), shown);
    }

    #[test]
    fn texts() {
        check(b"", "");
        check(b"plain", "plain");
        check(b"\n<html>\r\n  <body>\0", "<html> <body>");
        check(b"\x1b[31mred\x07", "[31mred");
        check("a\u{202e}b".as_bytes(), "a b");
        check(b"bad \xff utf8", "bad \u{fffd} utf8");
        check(&[b'x'; 30], &"x".repeat(20));
        check(&[0xff; 30], &"\u{fffd}".repeat(6));
    }
}
