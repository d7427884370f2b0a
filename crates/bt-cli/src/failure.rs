//! Why a command failed, and its exit code.

use std::fmt::Display;
use std::process::ExitCode;

use piece_store::is_out_of_descriptors;
use serde_json::{Map, Value, json};

/// The kind of a failure, with its name in JSON and its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Failure,
    Usage,
    BadTorrent,
    Network,
    BadData,
    Disk,
    Interrupted,
}

impl Class {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Usage => "usage",
            Self::BadTorrent => "bad_torrent",
            Self::Network => "network",
            Self::BadData => "bad_data",
            Self::Disk => "disk",
            Self::Interrupted => "interrupted",
        }
    }

    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Failure => 1,
            Self::Usage => 2,
            Self::BadTorrent => 3,
            Self::Network => 4,
            Self::BadData => 5,
            Self::Disk => 6,
            Self::Interrupted => 130,
        }
    }
}

/// Why the program fails, with the message for the user.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    class: Class,
    message: String,
    /// The indented lines below the message. A slice, because it makes `Result`s smaller.
    causes: Box<[String]>,
    details: Map<String, Value>,
}

impl Failure {
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), causes: Box::default(), details: Map::new() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Class::Usage, message)
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Class::Interrupted, "interrupted")
    }

    /// Adds causes below the message, indented. A cause may have several lines.
    pub(crate) fn because(mut self, causes: impl IntoIterator<Item = String>) -> Self {
        let indented = |cause: String| -> Vec<String> {
            let lines = cause.lines().enumerate();
            let indent = |number| if number == 0 { "  " } else { "    " };
            lines.map(|(number, line)| format!("{}{line}", indent(number))).collect()
        };
        self.causes = causes.into_iter().flat_map(indented).collect();
        self
    }

    /// Adds a field to the JSON form.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Puts `what` and a colon in front of the message.
    pub(crate) fn within(mut self, what: impl Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    pub(crate) fn class(&self) -> Class {
        self.class
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Returns the message and the lines below it. The message may contain line ends.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.message).chain(&self.causes).map(String::as_str)
    }

    /// Returns all [`Self::lines`].
    pub(crate) fn text(&self) -> String {
        self.lines().collect::<Vec<_>>().join("\n")
    }

    /// Returns `{"error": {"class", "message", ..}}`.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = Map::new();
        error.insert("class".to_owned(), self.class.name().into());
        error.insert("message".to_owned(), self.text().into());
        error.extend(self.details.clone());
        json!({ "error": error })
    }
}

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum End {
    /// The command failed. The failure is shown.
    Failed(Failure),
    /// Standard output is closed. Nothing more is shown. Has the class of what remains undone.
    StdoutClosed(Option<Class>),
}

impl End {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(failure) => failure.class.exit_code().into(),
            Self::StdoutClosed(undone) => undone.map_or(0, Class::exit_code).into(),
        }
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What every command returns.
pub(crate) type CommandResult = Result<(), End>;

/// Turns errors of libraries into failures of a class.
pub(crate) trait Classify<T> {
    /// Returns the value, or a failure with the message `what: error`.
    fn or_fail(self, class: Class, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> Classify<T> for Result<T, E> {
    fn or_fail(self, class: Class, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(class, format!("{what}: {}", chain(&error))))
    }
}

/// Returns the texts of the error and its causes, without a cause that the text before it repeats.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = without_code(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = without_code(&error.to_string());
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

/// Returns the system's error text without ` (os error 2)` and with a lower-case first letter. Adds
/// advice if too many files are open.
pub(crate) fn without_code(text: &str) -> String {
    let Some((words, rest)) = text.split_once(" (os error ") else { return text.to_owned() };
    let (code, rest) = rest.split_once(')').unwrap_or((rest, ""));
    let hint = if is_out_of_descriptors(code.parse().ok()) {
        " (raise the limit with ulimit -n)"
    } else {
        ""
    };
    let (before, words) = words
        .rsplit_once(": ")
        .map_or(("", words), |(before, words)| (&text[..before.len() + 2], words));
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    let words: String = first.into_iter().chain(letters).collect();
    format!("{before}{words}{hint}{rest}")
}

#[cfg(test)]
mod tests {
    use super::{Class, Failure, without_code};

    #[test]
    fn causes_are_indented() {
        let causes = ["one".to_owned(), "two\nmore of it".to_owned()];
        let failure = Failure::new(Class::Network, "no answer:").because(causes);
        assert_eq!(failure.text(), "no answer:\n  one\n  two\n    more of it");
        assert_eq!(failure.lines().count(), 4);
    }

    #[test]
    fn system_error_text_is_shortened() {
        for (text, expected) in [
            ("No such file or directory (os error 2)", "no such file or directory"),
            (
                "cannot connect to [::1]:9: Connection refused (os error 111)",
                "cannot connect to [::1]:9: connection refused",
            ),
            ("Permission denied (os error 13) at path \"x\"", "permission denied at path \"x\""),
            ("The peer was silent", "The peer was silent"),
            (
                "Too many open files (os error 24)",
                "too many open files (raise the limit with ulimit -n)",
            ),
        ] {
            assert_eq!(without_code(text), expected);
        }
    }
}
