//! Keys that do not sort after the previous one: out of order, or duplicates.

use super::{Options, Stop, Target, stop};
use crate::DecodeErrorKind;
use crate::token::{Token, after};

#[cold]
pub(super) fn is_same(last: &[u8], key: &[u8]) -> bool {
    last == key
}

/// Returns why `options` refuse a key that does not sort after the previous one, if they do.
#[cold]
pub(super) fn refusal(is_duplicate: bool, options: Options) -> Option<DecodeErrorKind> {
    match is_duplicate {
        true => (options.max_duplicates == 0).then_some(DecodeErrorKind::DuplicateKey),
        false => options.strict.then_some(DecodeErrorKind::UnsortedKey),
    }
}

/// Appends the duplicate keys of the dictionary at token `dict` to `found`. Sorts the keys to find
/// them, because in an unsorted dictionary duplicates need not be neighbours.
///
/// `found` may hold at most `limit` duplicates, including those of earlier dictionaries. The first
/// one past the limit is the error.
#[cold]
pub(super) fn find_duplicates<'a>(
    input: &'a [u8],
    tokens: &[Token],
    dict: usize,
    found: &mut Vec<u32>,
    limit: usize,
) -> Result<(), Stop<'a>> {
    let mut keys = Vec::new();
    let mut index = dict + 1;
    while let Some(token) = tokens.get(index) {
        keys.push((token.content(input), index));
        index = after(tokens, input, index + 1);
    }
    keys.sort_unstable();
    let again = keys.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1]);
    let mut again: Vec<(&[u8], usize)> = again.collect();
    again.sort_unstable_by_key(|(_, index)| *index);
    match again.get(limit.saturating_sub(found.len())) {
        Some((key, index)) => {
            let at = &input[tokens[*index].offset as usize..];
            Err(stop(at, DecodeErrorKind::DuplicateKey, Target::Key(key)))
        }
        None => {
            found.extend(again.into_iter().map(|(_, index)| index as u32));
            Ok(())
        }
    }
}
