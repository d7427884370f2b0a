//! The path of a value in its document: `info.files[3].path`.

use std::borrow::Cow;
use std::fmt;

/// The longest part of a key that a path keeps, in bytes. A `..` marks the cut.
const MAX_KEY_LENGTH: usize = 64;

/// The keys and indices that lead from the root of a document to a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyPath {
    steps: Vec<PathStep>,
}

/// One step of a [`KeyPath`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathStep {
    /// Into the value of this key of a dictionary. A long key is cut.
    Key(Vec<u8>),
    /// Into this element of a list, from 0.
    Index(usize),
}

impl KeyPath {
    /// Returns the path of the root, which has no steps.
    pub fn root() -> Self {
        Self::default()
    }

    /// Appends a step into the value of `key`.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref();
        let shown = match key.get(..MAX_KEY_LENGTH) {
            Some(start) if key.len() > MAX_KEY_LENGTH => [start, b".."].concat(),
            _ => key.to_vec(),
        };
        self.steps.push(PathStep::Key(shown));
        self
    }

    /// Appends a step into element `index`.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.steps.push(PathStep::Index(index));
        self
    }

    /// Appends the steps of `further`.
    #[cfg(feature = "serde")]
    pub(crate) fn join(mut self, further: &Self) -> Self {
        self.steps.extend_from_slice(&further.steps);
        self
    }

    /// Returns the steps, starting at the root.
    pub fn steps(&self) -> &[PathStep] {
        &self.steps
    }

    /// Whether this is the root's path.
    pub fn is_root(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns ` (path)` with the leading space, for error messages. Empty for the root.
    pub fn in_parentheses(&self) -> Cow<'static, str> {
        if self.is_root() { Cow::Borrowed("") } else { Cow::Owned(format!(" ({self})")) }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps.iter().enumerate() {
            match step {
                PathStep::Index(index) => write!(f, "[{index}]")?,
                PathStep::Key(key) if position == 0 => write_key(f, key)?,
                PathStep::Key(key) => {
                    f.write_str(".")?;
                    write_key(f, key)?;
                }
            }
        }
        Ok(())
    }
}

/// Writes `key` with control characters escaped. Keys come from outside and could otherwise disturb
/// a terminal.
fn write_key(f: &mut fmt::Formatter<'_>, key: &[u8]) -> fmt::Result {
    for chunk in key.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        write!(f, "{}", chunk.invalid().escape_ascii())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_dotted_with_indices() {
        let files = KeyPath::root().key("info").key("files");
        assert_eq!(files.clone().index(3).key("path").to_string(), "info.files[3].path");
        assert_eq!(KeyPath::root().index(0).index(12).to_string(), "[0][12]");
        assert_eq!(KeyPath::root().to_string(), "");
        assert_eq!(files.in_parentheses(), " (info.files)");
    }

    #[test]
    fn hostile_keys_are_cut_and_escaped() {
        let path = KeyPath::root().key(b"\x1b[2J\xffname");
        assert_eq!(path.to_string(), "\\u{1b}[2J\\xffname");
        let long = KeyPath::root().key(vec![b'a'; 1 << 20]);
        assert_eq!(long.to_string(), format!("{}..", "a".repeat(64)));
    }
}
