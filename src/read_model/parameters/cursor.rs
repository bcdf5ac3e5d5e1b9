//! The end of a page: the sort key and the id of its last document.
//!
//! A cursor says what to go on *after*, not how many to pass over, so documents that come and go
//! between two pages make none be skipped or repeated. It is opaque to clients, tied to the question
//! it was made under, and checked: one that was not made here is refused.

use super::{ListQuery, Order, SortKey, is_key_of};
use crate::{event_log::subject::Id, problem::Problem, view::Filter};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The version of the cursor's own form.
const FORM: u32 = 2;
/// Bytes of the checksum before the JSON.
const CHECKSUM: usize = 6;
/// No cursor made here is longer, in characters: a sort key is a field of a document, and no longer than
/// text is compared.
const MAX_TEXT: usize = 8_192;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cursor {
    form: u32,
    view: String,
    version: u32,
    /// The log that the page is of, as [`crate::read_model::Edition::log`] names it.
    pub(crate) log: String,
    sort: String,
    filters: String,
    /// The sort key, or nothing: a list of one or of none, since null is a sort key.
    key: Vec<Value>,
    pub(crate) id: String,
}

impl Cursor {
    pub(crate) fn new(
        view: (&str, u32),
        log: &str,
        query: &ListQuery,
        key: SortKey,
        id: String,
    ) -> Self {
        Self {
            form: FORM,
            view: view.0.to_owned(),
            version: view.1,
            log: log.to_owned(),
            sort: query.order.text(),
            filters: query.fingerprint.clone(),
            key: key.into_iter().collect(),
            id,
        }
    }

    pub(crate) fn key(&self) -> SortKey {
        self.key.first().cloned()
    }

    pub(crate) fn to_text(&self) -> String {
        let json = serde_json::to_vec(self).expect("a cursor is plain data");
        let mut bytes = checksum(&json).to_vec();
        bytes.extend_from_slice(&json);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn read(text: &str) -> Result<Self, Problem> {
        if text.len() > MAX_TEXT {
            return Err(unknown());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| unknown())?;
        let (sum, json) = bytes.split_at_checked(CHECKSUM).ok_or_else(unknown)?;
        if sum != checksum(json) {
            return Err(unknown());
        }
        serde_json::from_slice(json).map_err(|_| unknown())
    }

    pub(crate) fn check(
        &self,
        view: (&str, u32),
        order: Order,
        fingerprint: &str,
    ) -> Result<(), Problem> {
        let same = self.form == FORM
            && (self.view.as_str(), self.version) == view
            && self.sort == order.text()
            && self.filters == fingerprint
            && is_key_of(order, &self.key())
            && Id::document(self.id.as_str()).is_ok();
        match same {
            true => Ok(()),
            false => Err(Problem::malformed(
                "cursor".to_owned(),
                "the cursor belongs to another list: pass it with the parameters it was made under",
            )),
        }
    }
}

fn unknown() -> Problem {
    Problem::malformed(
        "cursor".to_owned(),
        "the cursor is not one that a list answered",
    )
}

/// Tells a cursor made here from one made up. No secret: a cursor gives no access to anything.
fn checksum(json: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::new()
        .chain_update(b"headwater cursor")
        .chain_update(json)
        .finalize();
    std::array::from_fn(|index| digest[index])
}

/// A short word for the filters and the text of a list.
pub(crate) fn fingerprint(filters: &[(Filter, Value)], search: Option<&str>) -> String {
    let question: Vec<_> = filters
        .iter()
        .map(|(filter, value)| (filter.name, value))
        .collect();
    let json = serde_json::to_vec(&(question, search)).expect("parameters are plain data");
    URL_SAFE_NO_PAD.encode(&Sha256::digest(json)[..9])
}
