//! The names that version 0.1.0 created. This mapping must never change.

use super::{
    MAX_ELEMENT_LENGTH, cut, is_invisible, is_no_name, mark_for_windows, replace_characters,
};

/// Returns the name of the element `raw`, or `None` if that version refused it.
pub(super) fn element(raw: &[u8]) -> Option<String> {
    if is_no_name(raw) || raw.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return None;
    }
    let name = replace_characters(raw, |character| character == '\\' || is_invisible(character));
    Some(cut(mark_for_windows(name), raw, MAX_ELEMENT_LENGTH))
}

#[cfg(test)]
mod tests;
