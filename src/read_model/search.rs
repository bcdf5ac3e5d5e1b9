//! Text search: a document matches when each word of `q` occurs in its searched fields, within other
//! words too, whatever the case and however its characters are written ([`text::searchable`]).
//!
//! The text that is compared is stored beside the document, a line for each field, and beside it its
//! pieces: each sign, and each one and two characters that follow each other in a run of letters or of
//! digits. A full-text index over the pieces finds the candidates; that every word occurs is then checked
//! on their text. Both sides are cut here, so that the index never knows other pieces than a search asks
//! for. The rank depends on the document and on `q` alone, not on what else is stored (as a rank by rarity
//! would), so that pages stay in order while documents change.

use super::{comparable::MAX_TEXT, field_path::FieldPath};
use crate::{problem::Problem, text};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fmt::{self, Write},
};

/// The most words that `q` can have.
const MAX_WORDS: usize = 16;

/// The rank of a text, less is better: first a field that is all of `q`, then one whose first words
/// are, then one that begins with it, then a word that does, then the rest; among equals the shorter
/// text.
pub(super) const RANK: &str = "((IF text CONTAINS $whole { 0 } \
     ELSE IF text CONTAINS $first { 10000 } \
     ELSE IF text CONTAINS $beginning { 20000 } \
     ELSE IF text CONTAINS $word { 30000 } \
     ELSE { 40000 }) + math::min([string::len(text), 9999]))";

/// The stored form of a document that is searched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Searched {
    /// The text that `q` is compared with.
    pub(crate) text: String,
    /// Its pieces, each once, for the index.
    pub(crate) pieces: String,
}

impl Searched {
    /// Makes them from these fields of a document.
    pub(super) fn of(fields: &[FieldPath], document: &Value) -> Self {
        let text = searched_text(fields, document);
        Self {
            pieces: pieces_of(&text),
            text,
        }
    }
}

/// The text that `q` is compared with, of these fields of a document.
pub(super) fn searched_text(fields: &[FieldPath], document: &Value) -> String {
    let mut all = "\n".to_owned();
    for field in fields {
        field.each(document, &mut |value| {
            if let Some(value) = value.as_str() {
                for (number, word) in text::searchable(value).split_whitespace().enumerate() {
                    if number > 0 {
                        all.push(' ');
                    }
                    all.push_str(word);
                }
                all.push('\n');
            }
        });
    }
    all
}

/// The pieces of a text, each once.
fn pieces_of(text: &str) -> String {
    let mut pieces = BTreeSet::new();
    for run in text.split_whitespace().flat_map(Run::all) {
        for one in run.0.chars() {
            pieces.insert(Piece(one, None));
        }
        pieces.extend(run.pairs());
    }
    joined(&pieces)
}

/// The text that is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Search {
    text: String,
    words: Vec<String>,
}

impl Search {
    /// Reads `q`.
    pub(super) fn read(q: &str) -> Result<Self, Problem> {
        let wrong = || {
            Problem::malformed(
                "q".to_owned(),
                "q is 1 to 16 words that can be seen, of 512 bytes together",
            )
        };
        if q.len() > MAX_TEXT {
            return Err(wrong());
        }
        let searchable = text::searchable(q);
        let mut words: Vec<_> = searchable.split_whitespace().map(str::to_owned).collect();
        let text = words.join(" ");
        words.sort_unstable();
        words.dedup();
        if words.is_empty() || words.len() > MAX_WORDS {
            return Err(wrong());
        }
        Ok(Self { text, words })
    }

    /// The words in the order in which they were given, as they are searched.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Each word once.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    /// Names the values that [`RANK`] and the index compare with.
    pub(crate) fn bind(&self, variable: &mut impl FnMut(&str, String)) {
        let text = &self.text;
        variable("whole", format!("\n{text}\n"));
        variable("first", format!("\n{text} "));
        variable("beginning", format!("\n{text}"));
        variable("word", format!(" {text}"));
        variable("q", self.pieces());
    }

    /// Returns what the index is asked for: all pairs of a run imply its single characters, which are many more
    /// documents' than a pair is.
    fn pieces(&self) -> String {
        let mut pieces = BTreeSet::new();
        for run in self.words.iter().flat_map(|word| Run::all(word)) {
            let mut pairs = run.pairs().peekable();
            match (pairs.peek(), run.0.chars().next()) {
                (None, Some(one)) => {
                    pieces.insert(Piece(one, None));
                }
                _ => pieces.extend(pairs),
            }
        }
        joined(&pieces)
    }
}

/// A run of letters or of digits in a word, or one sign.
#[derive(Clone, Copy)]
struct Run<'a>(&'a str);

impl<'a> Run<'a> {
    /// The runs of a word.
    fn all(word: &'a str) -> impl Iterator<Item = Self> {
        let mut rest = word;
        std::iter::from_fn(move || {
            let mut characters = rest.char_indices();
            let (_, first) = characters.next()?;
            let class = class(first);
            let end = characters.find(|(_, c)| class.is_none() || self::class(*c) != class);
            let (run, after) = rest.split_at(end.map_or(rest.len(), |(end, _)| end));
            rest = after;
            Some(Self(run))
        })
    }

    /// Each two characters that follow each other.
    fn pairs(self) -> impl Iterator<Item = Piece> {
        let seconds = self.0.chars().skip(1);
        let pairs = self.0.chars().zip(seconds);
        pairs.map(|(first, second)| Piece(first, Some(second)))
    }
}

/// Returns whether a character is a letter or a digit; `None` for a sign.
fn class(c: char) -> Option<bool> {
    c.is_alphanumeric().then(|| c.is_alphabetic())
}

/// One character, or two.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Piece(char, Option<char>);

/// The index only takes letters, digits and the signs of ASCII. Any sign is therefore written as its
/// number, after a capital, which what is searched never has.
impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if class(self.0).is_none() {
            return write!(f, "U{:x}", self.0 as u32);
        }
        f.write_char(self.0)?;
        self.1.map_or(Ok(()), |second| f.write_char(second))
    }
}

fn joined(pieces: &BTreeSet<Piece>) -> String {
    let mut joined = String::with_capacity(8 * pieces.len());
    for (number, piece) in pieces.iter().enumerate() {
        let blank = if number == 0 { "" } else { " " };
        write!(joined, "{blank}{piece}").expect("a string takes all that is written");
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pieces(q: &str) -> String {
        Search::read(q).unwrap().pieces()
    }

    #[test]
    fn a_word_is_searched_for_by_its_pieces() {
        assert_eq!(pieces("배"), "배");
        assert_eq!(pieces(" 사과주스  사과 "), "과주 사과 주스");
        assert_eq!(pieces("Jam-100g"), "U2d 00 10 am g ja");
        assert_eq!(pieces("🍎"), "U1f34e");
        assert_eq!(pieces("!!"), "U21");
        assert_eq!(pieces("１㎏"), "1 kg");
    }

    #[test]
    fn what_is_stored_has_every_piece_that_a_search_within_it_asks_for() {
        let fields = [
            FieldPath::parse("name").unwrap(),
            FieldPath::parse("more[]").unwrap(),
        ];
        let document = json!({"name": "  햇사과\u{3000}1㎏!", "more": ["ＡＢ", 7, "👩\u{200d}🍳"]});
        let searched = Searched::of(&fields, &document);
        assert_eq!(searched.text, "\n햇사과 1kg!\nab\n👩🍳\n");
        let stored: BTreeSet<_> = searched.pieces.split(' ').collect();
        for q in [
            "사과",
            "햇사과 1KG",
            "g!",
            "과",
            "👩\u{200d}🍳",
            "🍳",
            "a",
            "ＡＢ",
            "1kg!",
        ] {
            let search = Search::read(q).unwrap();
            assert!(search.words.iter().all(|word| searched.text.contains(word)));
            let asked = search.pieces();
            assert!(asked.split(' ').all(|piece| stored.contains(piece)), "{q}");
        }
    }

    #[test]
    fn no_word_and_too_many_are_refused() {
        let many: String = (0..17).map(|number| format!("w{number} ")).collect();
        for q in [
            "",
            " \n",
            "\u{200b}",
            "\u{ad} \u{fe0f}",
            &many,
            &"a".repeat(513),
        ] {
            assert_eq!(Search::read(q).unwrap_err().field.as_deref(), Some("q"));
        }
    }
}
