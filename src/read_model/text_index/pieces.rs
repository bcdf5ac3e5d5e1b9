//! The pieces that searched text is cut into for the index, and those that a part of a text is found by.
//!
//! Pure. Each piece is a part of the text, at the place of its first character: one, two and three
//! characters of a word; a blank and up to three characters of the word after it; the last character of a
//! word and the blank after it; the first words of a field with what encloses them. So a text contains
//! another exactly if it has the pieces of that other one at the same distances, and what is searched for
//! most (a short word, the beginning of a name) is one piece.

use std::ops::Range;
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

/// The most characters of a field's first words that are a piece.
const LONGEST: usize = 64;
/// The most characters of a word in a piece.
const MOST: usize = 3;

/// Cuts texts as they are indexed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cutter;

impl Tokenizer for Cutter {
    type TokenStream<'a> = Cut<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Cut<'a> {
        let mut pieces = Vec::with_capacity(3 * text.len());
        cut(text, &mut |place, range| pieces.push((place, range)));
        Cut {
            text,
            pieces: pieces.into_iter(),
            token: Token::default(),
        }
    }
}

/// The pieces of one text.
pub(super) struct Cut<'a> {
    text: &'a str,
    pieces: std::vec::IntoIter<(usize, Range<usize>)>,
    token: Token,
}

impl TokenStream for Cut<'_> {
    fn advance(&mut self) -> bool {
        let Some((place, range)) = self.pieces.next() else {
            return false;
        };
        self.token.position = place;
        self.token.text.clear();
        self.token.text.push_str(&self.text[range]);
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

/// Returns whether a character stands between words.
fn is_between(c: char) -> bool {
    c == ' ' || c == '\n'
}

/// Calls `found` with the place of each piece and its bytes, in the order of places.
fn cut(text: &str, found: &mut impl FnMut(usize, Range<usize>)) {
    let characters: Vec<(usize, char)> = text.char_indices().collect();
    let start = |place: usize| {
        characters
            .get(place)
            .map_or(text.len(), |(start, _)| *start)
    };
    let between = |place: usize| characters.get(place).is_none_or(|(_, c)| is_between(*c));
    for (place, &(begin, character)) in characters.iter().enumerate() {
        let mut emit = |end: usize| found(place, begin..start(end));
        let first = match is_between(character) {
            true => place + 1,
            false => {
                emit(place + 1);
                if between(place + 1) && place + 1 < characters.len() {
                    emit(place + 2);
                }
                place
            }
        };
        let lengths = (1..=MOST).skip(usize::from(first == place));
        for length in lengths {
            if (first..first + length).any(between) {
                break;
            }
            emit(first + length);
        }
        if character == '\n' {
            for end in place + 2..=place + 1 + LONGEST {
                match characters.get(end) {
                    Some((_, c)) if is_between(*c) => emit(end + 1),
                    _ => {}
                }
                if characters.get(end).is_none_or(|(_, c)| *c == '\n') {
                    break;
                }
            }
        }
    }
}

/// The pieces, and their places, that a text has exactly if it contains `part`. Between words there is one
/// blank in it, and nothing is before the first or after the last word but one blank or line end.
pub(super) fn pieces_of(part: &str) -> Vec<(usize, String)> {
    let characters: Vec<char> = part.chars().collect();
    let length = characters.len();
    let encloses = length > 2 && characters[0] == '\n' && is_between(characters[length - 1]);
    if encloses && length <= LONGEST + 2 {
        return vec![(0, part.to_owned())];
    }
    let mut pieces = Vec::new();
    let mut piece = |range: Range<usize>| {
        pieces.push((range.start, characters[range].iter().collect()));
    };
    let mut place = 0;
    while place < length {
        let blank = usize::from(is_between(characters[place]));
        let word = place + blank;
        if word == length {
            piece(place - 1..length);
            break;
        }
        let end = (word..length).find(|at| is_between(characters[*at]));
        let end = end.unwrap_or(length);
        let mut covered = word;
        if blank > 0 {
            covered = end.min(word + MOST);
            piece(place..covered);
        }
        let size = MOST.min(end - word);
        while covered < end {
            let begin = covered.min(end - size);
            piece(begin..begin + size);
            covered = begin + size;
        }
        place = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn indexed(text: &str) -> Vec<(usize, String)> {
        let mut all = Vec::new();
        cut(text, &mut |place, range| {
            all.push((place, text[range].to_owned()));
        });
        all
    }

    fn has(text: &str, part: &str) -> bool {
        let indexed: BTreeSet<_> = indexed(text).into_iter().collect();
        let pieces = pieces_of(part);
        assert!(!pieces.is_empty());
        let mut places = 0..=text.chars().count();
        places.any(|at| {
            let mut pieces = pieces.iter();
            pieces.all(|(place, piece)| indexed.contains(&(at + place, piece.clone())))
        })
    }

    #[test]
    fn what_is_searched_for_most_is_one_piece() {
        for part in [
            "사",
            "사과",
            "햇사과",
            "\n사과",
            " 사과\u{301}",
            "\n햇사과",
            "\n제주 햇사과 ",
            "\n제주\n",
        ] {
            assert_eq!(pieces_of(part), [(0, part.to_owned())]);
        }
        let owned = |pieces: &[(usize, &str)]| -> Vec<(usize, String)> {
            pieces
                .iter()
                .map(|(at, piece)| (*at, (*piece).to_owned()))
                .collect()
        };
        assert_eq!(
            pieces_of("사과주스"),
            owned(&[(0, "사과주"), (1, "과주스")])
        );
        assert_eq!(
            pieces_of("\n제주 사과주스"),
            owned(&[(0, "\n제주"), (3, " 사과주"), (5, "과주스")])
        );
    }

    #[test]
    fn places_never_go_back() {
        let all = indexed("\n제주 햇사과 1kg!\nab\n");
        assert!(all.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    fn word() -> impl Strategy<Value = String> {
        "[abㄱ가]{1,5}"
    }

    fn field() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => proptest::collection::vec(word(), 0..4).prop_map(|words| words.join(" ")),
            1 => "[ab]{60,70}",
        ]
    }

    proptest! {
        #[test]
        fn a_text_has_the_pieces_of_what_it_contains_and_of_nothing_else(
            fields in proptest::collection::vec(field(), 1..3),
            words in proptest::collection::vec(word(), 1..3),
        ) {
            let text = format!("\n{}\n", fields.join("\n"));
            let whole = words.join(" ");
            for part in [
                format!("\n{whole}\n"),
                format!("\n{whole} "),
                format!("\n{whole}"),
                format!(" {whole}"),
                whole,
            ] {
                prop_assert_eq!(has(&text, &part), text.contains(&part), "{:?} in {:?}", part, text);
            }
        }

        #[test]
        fn a_part_of_a_text_is_in_it(text in "[ab]{1,3}( [ab]{60,70})?( [ab]{1,9}){0,3}") {
            let stored = format!("\n{text}\n");
            for part in [format!("\n{text}\n"), text.clone()] {
                prop_assert!(has(&stored, &part));
            }
            let (begins, _) = text.rsplit_once(' ').unwrap_or((&text, ""));
            let part = format!("\n{begins} ");
            prop_assert_eq!(has(&stored, &part), stored.contains(&part));
        }
    }
}
