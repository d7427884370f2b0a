//! The bare walk: it reads every token, builds nothing and checks hardly anything. No parser can be
//! much faster.

/// Returns the number of tokens in `input`; `None` if it is not one value.
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
