//! Text search: a document matches when each word of `q` occurs in its searched fields, within other
//! words too, whatever the case.
//!
//! The text that is compared is stored beside the document, a line for each field. A full-text
//! index over pieces of one and two characters finds the candidates; that every word occurs is then
//! checked on their text. The rank depends on the document and on `q` alone, not on what else is
//! stored (as a rank by rarity would), so that pages stay in order while documents change.

use super::{parameters::MAX_TEXT, schema::FieldPath};
use crate::problem::Problem;
use serde_json::Value;
use std::collections::BTreeSet;

/// The most words that `q` can have.
const MAX_WORDS: usize = 16;

/// How well a text matches, less is better: first a field that is all of `q`, then one whose first words
/// are, then one that begins with it, then a word that does, then the rest; among equals the shorter
/// text.
pub(super) const RANK: &str = "((IF text CONTAINS $whole { 0 } \
     ELSE IF text CONTAINS $first { 10000 } \
     ELSE IF text CONTAINS $beginning { 20000 } \
     ELSE IF text CONTAINS $word { 30000 } \
     ELSE { 40000 }) + math::min([string::len(text), 9999]))";

/// The text of a document that `q` is compared with.
pub(super) fn text(fields: &[FieldPath], document: &Value) -> String {
    let mut text = "\n".to_owned();
    for field in fields {
        field.each(document, &mut |value| {
            if let Some(value) = value.as_str() {
                let words: Vec<_> = value.split_whitespace().map(str::to_lowercase).collect();
                text.push_str(&words.join(" "));
                text.push('\n');
            }
        });
    }
    text
}

/// What is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Search {
    text: String,
    words: Vec<String>,
}

impl Search {
    /// Reads `q`.
    pub(super) fn read(q: &str) -> Result<Self, Problem> {
        let mut words: Vec<_> = q.split_whitespace().map(str::to_lowercase).collect();
        let text = words.join(" ");
        words.sort_unstable();
        words.dedup();
        if words.is_empty() || words.len() > MAX_WORDS || q.len() > MAX_TEXT {
            return Err(Problem::malformed(
                "q".to_owned(),
                "q is 1 to 16 words, of 512 bytes together",
            ));
        }
        Ok(Self { text, words })
    }

    /// The words as they were given, in lower case.
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

    /// What the index is asked for: the pieces of two characters of each word, since the analyzer cuts
    /// stored text into pieces but leaves what is searched for whole.
    fn pieces(&self) -> String {
        let mut pieces = BTreeSet::new();
        for run in self.words.iter().flat_map(|word| runs(word)) {
            match run.len() {
                1 => pieces.insert(run.iter().collect::<String>()),
                _ => {
                    pieces.extend(run.windows(2).map(|pair| pair.iter().collect::<String>()));
                    true
                }
            };
        }
        pieces.into_iter().collect::<Vec<_>>().join(" ")
    }
}

/// The runs of letters and the runs of digits in a word: where the analyzer's `class` cuts.
fn runs(word: &str) -> Vec<Vec<char>> {
    let characters: Vec<char> = word.chars().collect();
    let class = |c: &char| (c.is_alphabetic(), c.is_numeric());
    characters
        .chunk_by(|a, b| class(a) == class(b))
        .filter(|run| run[0].is_alphanumeric())
        .map(<[char]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_searched_for_by_its_pieces() {
        let pieces = |q: &str| Search::read(q).unwrap().pieces();
        assert_eq!(pieces("배"), "배");
        assert_eq!(pieces(" 사과주스  사과 "), "과주 사과 주스");
        assert_eq!(pieces("Jam-100g"), "00 10 am g ja");
    }

    #[test]
    fn no_word_and_too_many_are_refused() {
        let many: String = (0..17).map(|number| format!("w{number} ")).collect();
        for q in ["", " \n", &many, &"a".repeat(513)] {
            assert_eq!(Search::read(q).unwrap_err().field.as_deref(), Some("q"));
        }
    }
}
