//! JSON that is written by hand, where it is written for every command.

/// Writes a text as a JSON string, in its quotes: as `serde_json` does, and faster where nothing of it is escaped.
pub fn put_text(to: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        to.reserve(text.len() + 2);
        to.push(b'"');
        to.extend_from_slice(text.as_bytes());
        to.push(b'"');
    } else {
        serde_json::to_writer(to, text).expect("memory takes all");
    }
}

/// Returns whether nothing of a text is escaped. Looks at all of it without a branch, so many bytes at once.
fn is_plain(text: &str) -> bool {
    let escaped = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    !text.bytes().fold(false, |any, byte| any | escaped(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_written_as_serde_writes_it() {
        let every: String = (0..0x250).filter_map(char::from_u32).collect();
        let each = every.chars().map(String::from);
        let more = [
            "",
            "stock.received.v1",
            "a \"quoted\" name",
            "사과 🍎",
            &every,
        ];
        for text in each.chain(more.map(str::to_owned)) {
            let mut written = Vec::new();
            put_text(&mut written, &text);
            assert_eq!(written, serde_json::to_vec(&text).unwrap(), "{text:?}");
        }
    }
}
