//! Percent-encoded text, as addresses and headers have it.

/// Decodes; leaves a percent sign alone that two hexadecimal digits do not follow.
pub(crate) fn decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = match (first, after) {
            (b'%', [high, low, ..]) => {
                let digit = |digit: u8| char::from(digit).to_digit(16);
                digit(*high).zip(digit(*low))
            }
            _ => None,
        };
        match code {
            Some((high, low)) => {
                decoded.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_encoded_is_decoded() {
        assert_eq!(decoded("p%40ss%3a"), b"p@ss:");
        assert_eq!(decoded("100%"), b"100%");
        assert_eq!(decoded("%zz+"), b"%zz+");
    }
}
