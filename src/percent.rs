//! Percent-encoded text, as addresses and headers have it.

use percent_encoding::percent_decode_str;

/// Decodes; leaves a percent sign alone that two hexadecimal digits do not follow.
pub(crate) fn decoded(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
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
