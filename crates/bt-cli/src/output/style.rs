//! Colour, only on a terminal and unless `NO_COLOR` or `TERM=dumb` is set, and the characters that
//! bars and trees are drawn with.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;

/// How text is styled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    color: bool,
    charset: Charset,
}

impl Style {
    /// Returns a style with colour if the stream is a terminal and the environment allows it.
    pub(crate) fn for_terminal(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { color: terminal && !refused && !is_dumb(), charset: Charset::of_locale() }
    }

    pub(crate) fn charset(self) -> Charset {
        self.charset
    }

    pub(crate) fn bold(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: impl Display) -> String {
        self.paint("2", text)
    }

    pub(crate) fn red(self, text: impl Display) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn green(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: impl Display) -> String {
        self.paint("33", text)
    }

    fn paint(self, code: &str, text: impl Display) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// The characters that bars and trees are drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    Unicode,
    Ascii,
}

impl Charset {
    /// Returns Unicode if the user's locale has UTF-8.
    fn of_locale() -> Self {
        Self::of_variables(["LC_ALL", "LC_CTYPE", "LANG"].map(std::env::var_os))
    }

    /// Decides by the first variable that is not empty. If all are empty, the locale is `C`: ASCII.
    fn of_variables(variables: [Option<OsString>; 3]) -> Self {
        let mut variables = variables.into_iter().flatten();
        let locale = variables.find(|value| !value.is_empty()).unwrap_or_default();
        let is_utf8 = |locale: &OsStr| {
            let locale = locale.to_string_lossy().to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        };
        if is_utf8(&locale) { Self::Unicode } else { Self::Ascii }
    }

    /// Returns the text that replaces the end of a shortened text.
    pub(crate) fn ellipsis(self) -> &'static str {
        match self {
            Self::Unicode => "…",
            Self::Ascii => "..",
        }
    }
}

/// Whether the terminal cannot move the cursor or show colours.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_locale_variable_decides() {
        for (variables, expected) in [
            (["", "", "en_GB.UTF-8"], Charset::Unicode),
            (["", "de_DE.utf8", "C"], Charset::Unicode),
            (["C.UTF-8", "C", "C"], Charset::Unicode),
            (["C", "en_GB.UTF-8", "en_GB.UTF-8"], Charset::Ascii),
            (["", "POSIX", "en_GB.UTF-8"], Charset::Ascii),
            (["", "", "en_GB.ISO-8859-1"], Charset::Ascii),
            (["", "", ""], Charset::Ascii),
        ] {
            let set = variables.map(|value| Some(OsString::from(value)));
            assert_eq!(Charset::of_variables(set), expected, "{variables:?}");
            let unset = variables.map(|value| (!value.is_empty()).then(|| value.into()));
            assert_eq!(Charset::of_variables(unset), expected, "{variables:?}");
        }
    }
}
