//! The characters that cannot be seen, and where some of them are needed all the same.

use unicode_properties::{GeneralCategory, UnicodeEmoji, UnicodeGeneralCategory};

const NON_JOINER: char = '\u{200c}';
const JOINER: char = '\u{200d}';
const KEYCAP: char = '\u{20e3}';
const BLACK_FLAG: char = '\u{1f3f4}';
/// The flags that are spelt with tags: England, Scotland and Wales (Unicode's RGI_Emoji_Tag_Sequence).
const SPELT_FLAGS: [&str; 3] = ["gbeng", "gbsct", "gbwls"];

/// Returns the first character of the text that cannot be seen, unless it is one of `allowed`.
///
/// What scripts and emoji need within others may stand where they need it: a joiner between two emoji
/// or between two letters of a script that joins them, a variation selector after what it varies, the
/// tags of a flag. A text that is blank all over returns its first character.
#[must_use]
pub fn unseen(text: &str, allowed: &[char]) -> Option<char> {
    if text.is_ascii() {
        let mut controls = text.chars().filter(char::is_ascii_control);
        return controls.find(|c| !allowed.contains(c));
    }
    let characters: Vec<char> = text.chars().collect();
    let mut unseen = characters
        .iter()
        .enumerate()
        .filter(|(at, c)| is_unseen(**c) && !allowed.contains(c) && !is_needed(&characters, *at));
    let blank = |c: &&char| **c == '\u{2800}' || c.is_whitespace();
    match unseen.next() {
        Some((_, c)) => Some(*c),
        None if characters.iter().all(|c| blank(&c)) => characters.first().copied(),
        None => None,
    }
}

/// Returns whether a character by itself shows nothing, so that two texts that differ by it look the
/// same, or shows what nobody has agreed on: controls, formats (zero width, direction, tags), fillers,
/// private use, and what is not assigned.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    if ('가'..='힣').contains(&c) {
        return false;
    }
    match c.general_category() {
        GeneralCategory::Control
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator
        | GeneralCategory::PrivateUse
        | GeneralCategory::Surrogate
        | GeneralCategory::Unassigned => true,
        GeneralCategory::Format => !is_prepended_mark(c),
        _ => is_filler(c),
    }
}

/// Returns whether a character is nothing to a search: it shows nothing, and always will. What is not
/// assigned may be an emoji of tomorrow, and private use somebody's sign.
pub(super) fn is_ignorable(c: char) -> bool {
    let somebodys = matches!(
        c.general_category(),
        GeneralCategory::PrivateUse | GeneralCategory::Unassigned
    );
    // Unicode keeps these free for more of what is ignored.
    let ignored = matches!(c, '\u{2065}' | '\u{fff0}'..='\u{fff8}' | '\u{e0000}'..='\u{e0fff}');
    is_unseen(c) && (!somebodys || ignored)
}

/// Formats that are drawn: the signs that span the numbers after them, in Arabic, Syriac and Kaithi.
fn is_prepended_mark(c: char) -> bool {
    matches!(
        c,
        '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{110bd}' | '\u{110cd}'
    )
}

/// Letters, marks and signs that show nothing: Unicode's Default_Ignorable_Code_Point beyond the formats,
/// and what stands for an object that is not there.
fn is_filler(c: char) -> bool {
    matches!(
        c,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{3164}'
            | '\u{ffa0}'
            | '\u{fffc}'
            | '\u{16fe4}'
    ) || is_selector(c)
}

fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

fn is_needed(characters: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).map(|at| characters[at]);
    let after = characters.get(at + 1).copied();
    match characters[at] {
        // A digit is one only within a key cap.
        '\u{fe0e}' | '\u{fe0f}' => before.is_some_and(|before| {
            is_picture(before) || (before.is_emoji_char() && after == Some(KEYCAP))
        }),
        c if is_selector(c) => {
            before.is_some_and(|before| is_ideograph(before) || is_joined(before))
        }
        '\u{180b}'..='\u{180f}' => before.is_some_and(is_joined),
        JOINER if joins_pictures(characters, at) => true,
        JOINER | NON_JOINER => before.is_some_and(is_joined) && after.is_some_and(is_joined),
        '\u{e0020}'..='\u{e007f}' => is_within_flag(characters, at),
        _ => false,
    }
}

/// An emoji that is one by itself, as a digit is not.
fn is_picture(c: char) -> bool {
    !c.is_ascii() && c.is_emoji_char()
}

fn joins_pictures(characters: &[char], at: usize) -> bool {
    let mut before = characters[..at].iter().rev();
    let picture = before.find(|c| **c != '\u{fe0f}');
    picture.is_some_and(|c| is_picture(*c))
        && characters.get(at + 1).is_some_and(|c| is_picture(*c))
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// A letter or mark of a script whose letters change with their neighbours: Arabic and its kin, those of
/// India and South-East Asia, Mongolian.
fn is_joined(c: char) -> bool {
    let script =
        matches!(c, '\u{600}'..='\u{109f}' | '\u{1780}'..='\u{18af}' | '\u{a840}'..='\u{a877}');
    script && !is_unseen(c)
}

fn is_within_flag(characters: &[char], at: usize) -> bool {
    let is_tag = |c: &&char| ('\u{e0020}'..='\u{e007f}').contains(*c);
    let tags_before = characters[..at].iter().rev().take_while(is_tag).count();
    let first = at - tags_before;
    let flag = first.checked_sub(1).map(|at| characters[at]);
    let spelt = characters[first..].iter().take_while(is_tag);
    let spelt: String = spelt
        .filter_map(|tag| char::from_u32(*tag as u32 - 0xe_0000))
        .collect();
    let name = spelt.strip_suffix('\u{7f}');
    flag == Some(BLACK_FLAG) && name.is_some_and(|name| SPELT_FLAGS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_nothing_is_found() {
        for c in [
            '\0',
            '\u{7}',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{180e}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{fffc}',
            '\u{ffff}',
            '\u{378}',
            '\u{e000}',
            '\u{f8ff}',
            '\u{1bca0}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{10ffff}',
        ] {
            assert!(is_unseen(c), "{c:?}");
            let within = format!("사{c}과");
            assert_eq!(unseen(&within, &[]), Some(c), "{within:?}");
            assert_eq!(unseen(&c.to_string(), &[]), Some(c), "{c:?}");
        }
        assert_eq!(unseen("a\nb\tc", &['\n', '\t']), None);
        assert_eq!(unseen("사\n과", &['\n']), None);
        assert_eq!(unseen("사\r과", &['\n']), Some('\r'));
        assert_eq!(unseen("\u{2800}\u{3000}\u{2800}", &[]), Some('\u{2800}'));
    }

    #[test]
    fn what_shows_something_is_none() {
        for text in [
            "",
            "a",
            "Apple 1kg",
            "김하늘",
            "\u{1109}\u{1161}",
            "é\u{301}",
            "日本",
            "عربي",
            "हिन्दी",
            "a\u{a0}b",
            "🍎",
            "①㎏½™",
            "👍🏽",
            "🇰🇷",
            "\u{601}١٢",
            "\u{fffd}",
        ] {
            assert_eq!(unseen(text, &[]), None, "{text:?}");
        }
    }

    #[test]
    fn scripts_and_emoji_have_what_they_need_where_they_need_it() {
        for text in [
            "نمی\u{200c}خواهم",
            "क्\u{200d}ष",
            "葛\u{e0100}城",
            "\u{182d}\u{180b}",
            "❤\u{fe0f}",
            "☎\u{fe0e}",
            "1\u{fe0f}\u{20e3}",
            "👩\u{200d}🍳",
            "👩🏽\u{200d}🦰",
            "👨\u{200d}👩\u{200d}👧",
            "🏳\u{fe0f}\u{200d}🌈",
            "사과 ❤\u{fe0f}\u{200d}🔥 세트",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
        ] {
            assert_eq!(unseen(text, &[]), None, "{text:?}");
        }
        for text in [
            "a\u{200d}b",
            "사\u{200d}과",
            "👩\u{200d}",
            "\u{200d}👩",
            "👩\u{200d}\u{200d}🍳",
            "a\u{fe0f}",
            "1\u{fe0f}",
            "❤\u{fe0f}\u{fe0f}",
            "a\u{e0100}",
            "نم\u{200c}",
            "نم\u{200c}\u{200c}نم",
            "🏴\u{e0067}\u{e0062}",
            "🏴\u{e0068}\u{e0069}\u{e007f}",
            "🍎\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
        ] {
            assert!(unseen(text, &[]).is_some(), "{text:?}");
        }
    }
}
