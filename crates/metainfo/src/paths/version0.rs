//! The names that version 0.1.0 made. They never change again.

use super::{MAX_ELEMENT_LENGTH, cut, is_no_name, is_unseen, mark_for_windows, replace_characters};

/// The name of the element `raw`; `None` if that version refused it.
pub(super) fn element(raw: &[u8]) -> Option<String> {
    if is_no_name(raw) || raw.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return None;
    }
    let name = replace_characters(raw, |character| character == '\\' || is_unseen(character));
    Some(cut(mark_for_windows(name), raw, MAX_ELEMENT_LENGTH))
}

#[cfg(test)]
mod tests;
