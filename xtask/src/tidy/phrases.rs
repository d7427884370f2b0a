//! Phrases that plain English words otherwise.

use std::path::Path;

/// Written with dots for spaces, so that this file does not hold them; in a name the spaces are
/// underscores.
const PHRASES: &[&str] = &[
    "anew",
    "in.good.order",
    "is.told",
    "kept.apart",
    "let.alone",
    "parted.with",
    "who.only",
    "Who.only",
    "Who.serves",
    "Who.sends",
    "Who.comes",
    "Who.asks",
    "Who.opens",
    "Who.writes",
    "Who.never",
    "Who.does",
    "Who.took",
    "Who.told",
    "Who.has",
    "is.had",
    "is.not.had",
    "are.had",
    "are.not.had",
    "was.had",
    "was.not.had",
    "were.had",
    "were.not.had",
    "be.had",
    "not.be.had",
    "been.had",
    "not.been.had",
    "and.not.had",
    ",.not.had",
];

/// Returns where `text` has such a phrase: the line and the phrase.
pub(super) fn check(path: &Path, text: &str) -> Vec<(usize, String)> {
    let is_prose = path.extension().is_some_and(|extension| extension == "rs" || extension == "md");
    if !is_prose || path.ends_with("tidy/phrases.rs") {
        return Vec::new();
    }
    let phrases: Vec<String> = PHRASES.iter().map(|phrase| phrase.replace('.', " ")).collect();
    let lines = text.lines().enumerate();
    let found = lines.flat_map(|(number, line)| {
        let line = format!(" {} ", line.replace('_', " "));
        let here = phrases.iter().filter(move |phrase| has(&line, phrase));
        here.map(move |phrase| (number + 1, format!("\"{phrase}\" is not plain English")))
    });
    found.collect()
}

fn has(line: &str, phrase: &str) -> bool {
    line.match_indices(phrase).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + phrase.len()..]);
        let is_letter = |c: char| c.is_ascii_alphabetic();
        (phrase.starts_with(',') || !before.ends_with(is_letter)) && !after.starts_with(is_letter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_found_in_prose_and_names() {
        let found = |text: &str| check(Path::new("a.rs"), text).len();
        assert_eq!(found(&["/// It is", " had, or kept", " apart.\n"].concat()), 2);
        assert_eq!(found(&["fn piece_is", "_not_had() {}"].concat()), 1);
        assert_eq!(found("/// It had this hadoop, and a newer anewer thing is toldish.\n"), 0);
    }
}
