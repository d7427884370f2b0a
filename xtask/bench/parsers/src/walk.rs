//! The bare walk: what reading every token costs when nothing is built, and hardly anything is
//! checked. No parser can be faster by much.

/// The number of tokens of the value that `input` is, or `None` if it is none.
pub(crate) fn walk(input: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut depth = 0_usize;
    let mut tokens = 0;
    loop {
        tokens += 1;
        match *input.get(at)? {
            b'd' | b'l' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'e' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b'i' => {
                at += 1;
                while *input.get(at)? != b'e' {
                    at += 1;
                }
                at += 1;
            }
            digit @ b'0'..=b'9' => {
                let mut length = usize::from(digit - b'0');
                at += 1;
                loop {
                    match *input.get(at)? {
                        b':' => break,
                        digit => length = length * 10 + usize::from(digit.wrapping_sub(b'0')),
                    }
                    at += 1;
                }
                at += 1 + length;
            }
            _ => return None,
        }
        if depth == 0 {
            return (at == input.len()).then_some(tokens);
        }
    }
}
