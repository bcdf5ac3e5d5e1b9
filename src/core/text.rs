//! Text in the forms in which it is compared.
//!
//! Text is stored and shown as it was given. Two texts that read the same may still be written in
//! different ways: a letter with an accent as one character or as two, a full-width letter, a
//! ligature. Filters, sort orders and unique keys therefore compare [`composed`] text, addresses
//! [`caseless`] text, and a search [`searchable`] text. [`unseen`] finds the characters that make two
//! texts differ without showing it.
//!
//! Pure, and the same on every machine: the forms are the Unicode standard's, from the tables of the
//! crates that hold them.

mod visible;

use visible::is_ignorable;
pub use visible::{is_unseen, unseen};

use caseless::Caseless;
use std::borrow::Cow;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Returns the text in Unicode's normal form C: each letter in as few characters as it can be.
#[must_use]
pub fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().collect())
}

/// Returns the text without regard to case and to how its letters are composed: Unicode's canonical
/// caseless form (D145), composed.
#[must_use]
pub fn caseless(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfd().default_case_fold().nfc().collect()
}

/// Returns the name of a host as it is looked up: in lower case and in ASCII (IDNA, UTS #46), so that
/// `Bücher.example` is `xn--bcher-kva.example`. A name that cannot be one is only made [`caseless`].
#[must_use]
pub fn host(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    idna::domain_to_ascii(name).unwrap_or_else(|_| caseless(name))
}

/// Returns the text as it is searched: Unicode's compatibility caseless form (D146), composed, without
/// what cannot be seen. `㎏`, `ＫＧ` and `Kg` become `kg`, `ﬁ` becomes `fi`, `ｶﾞ` becomes `ガ`.
#[must_use]
pub fn searchable(text: &str) -> String {
    let plain = |c: char| c.is_ascii() || ('가'..='힣').contains(&c);
    if text.chars().all(plain) {
        return text.to_ascii_lowercase();
    }
    let folded = text.nfd().default_case_fold().nfkd().default_case_fold();
    folded
        .filter(|c| c.is_whitespace() || !is_ignorable(*c))
        .nfkc()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_put_together_and_nothing_else_is_changed() {
        for (given, expected) in [
            ("", ""),
            ("Apple 1kg", "Apple 1kg"),
            ("사과", "사과"),
            ("\u{1109}\u{1161}\u{1100}\u{116a}", "사과"),
            ("jose\u{301}", "jos\u{e9}"),
            ("ＡＢ ﬁ ㎏", "ＡＢ ﬁ ㎏"),
            // One that has another character in its place: the ångström sign.
            ("\u{212b}", "\u{c5}"),
        ] {
            assert_eq!(composed(given), expected, "{given:?}");
        }
        assert!(matches!(composed("사과 é"), Cow::Borrowed(_)));
    }

    #[test]
    fn case_is_folded_beyond_what_lower_case_does() {
        for same in [
            &["ΟΔΟΣ", "οδος", "οδοσ"][..],
            &["STRASSE", "straße", "STRAẞE"],
            &["JOSÉ", "jose\u{301}", "José"],
            &["ẛ\u{323}", "ṩ"],
        ] {
            let folded: Vec<_> = same.iter().map(|text| caseless(text)).collect();
            assert!(folded.iter().all(|text| *text == folded[0]), "{folded:?}");
        }
        // Other letters stay others.
        assert_ne!(caseless("ı"), caseless("i"));
        assert_ne!(caseless("ａ"), caseless("a"));
    }

    #[test]
    fn a_host_has_one_name() {
        for (given, expected) in [
            ("Example.COM", "example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BU\u{308}CHER.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("예시.한국", "xn--vv4b11d.xn--3e0b707e"),
            ("ｅｘａｍｐｌｅ。com", "example.com"),
            ("a_b.example", "a_b.example"),
            ("É!\u{ffff}", "é!\u{ffff}"),
        ] {
            assert_eq!(host(given), expected, "{given:?}");
        }
    }

    #[test]
    fn what_is_searched_is_the_same_however_it_is_written() {
        for (given, expected) in [
            ("Apple 1KG", "apple 1kg"),
            ("사과 ABC", "사과 abc"),
            ("\u{1109}\u{1161}\u{1100}\u{116a}", "사과"),
            ("ＡＰＰＬＥ　１㎏", "apple 1kg"),
            ("ﬁg", "fig"),
            ("ｶﾞﾑ", "ガム"),
            ("㈜사과", "(주)사과"),
            ("ΟΔΟΣ", "οδοσ"),
            ("Straße", "strasse"),
            ("❤\u{fe0f}", "❤"),
            ("소\u{ad}금", "소금"),
            ("½", "1⁄2"),
            ("🍎!", "🍎!"),
            ("\u{f8ff}\u{1fc7f}", "\u{f8ff}\u{1fc7f}"),
            ("a\u{e0041}\u{200b}b", "ab"),
        ] {
            assert_eq!(searchable(given), expected, "{given:?}");
        }
    }

    #[test]
    fn each_form_is_the_form_of_itself() {
        for text in [
            "Ǆ ᾼ ﬀ ⓐ ㍿",
            "ﷺ",
            "İstanbul",
            "각\u{1100}\u{1161}\u{11a8}",
            "ẛ\u{323}",
        ] {
            assert_eq!(composed(&composed(text)), composed(text));
            assert_eq!(caseless(&caseless(text)), caseless(text));
            assert_eq!(searchable(&searchable(text)), searchable(text));
        }
    }
}
