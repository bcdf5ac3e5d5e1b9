//! The pure vocabulary of the query side: what a service developer writes a view with.
//!
//! A view turns events of any number of aggregates into denormalised documents, one per screen.
//! It knows no database and does no look-ups: the projector hands each document in, with the
//! *parts* that the view remembered earlier, and stores what comes back.

use crate::{
    caller::Caller,
    recorded::{DecodeError, Recorded},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};
use utoipa::ToSchema;

/// A read model: a pure fold from events to documents.
///
/// # How an event is applied
///
/// 1. [`View::remember`] updates what the view keeps of the event's own aggregate: its *part*.
/// 2. [`View::route`] says which documents the event touches.
/// 3. [`View::apply`] is called once for each of them, with the parts as they stand after step 1.
///
/// The parts are what makes a document composed from several aggregates right in any order of
/// arrival: a product's name is remembered when it is registered, and is there when, later, the
/// product is put on display for the first time.
///
/// # Example
///
/// One document for each counter, which is read at `/views/counters/<id>` and listed by `/views/counters?owner=ada`:
///
/// ```
/// use headwater_core::{
///     recorded::Recorded,
///     view::{ApplyError, Change, Filter, Parts, Query, Route, Sort, View},
/// };
/// # use headwater_core::{aggregate::{Aggregate, Context, Decision}, testkit::{Log, ViewFold}};
/// # use serde::{Deserialize, Serialize};
/// # use utoipa::ToSchema;
/// # #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
/// # #[serde(tag = "type", content = "data")]
/// # enum Event {
/// #     #[serde(rename = "counter.started.v1")]
/// #     Started { owner: String },
/// #     #[serde(rename = "counter.counted.v1")]
/// #     Counted {},
/// # }
/// # #[derive(Clone, Serialize, Deserialize, ToSchema)]
/// # enum Command { Start { owner: String } }
/// # #[derive(Default, Clone, Serialize, Deserialize)]
/// # struct Counter;
/// # impl Aggregate for Counter {
/// #     const NAME: &'static str = "counter";
/// #     type Command = Command;
/// #     type Event = Event;
/// #     type Rejection = std::convert::Infallible;
/// #     fn decide(&self, _: Command, _: &Context) -> Result<Decision<Event>, Self::Rejection> {
/// #         Ok(Decision::nothing())
/// #     }
/// #     fn evolve(&mut self, _: &Event) {}
/// # }
///
/// #[derive(Clone, Serialize, Deserialize, ToSchema)]
/// struct Shown {
///     owner: String,
///     count: i64,
/// }
///
/// struct Counters;
///
/// impl View for Counters {
///     const NAME: &'static str = "counters";
///     const VERSION: u32 = 1;
///     const AGGREGATES: &'static [&'static str] = &[Counter::NAME];
///     type Document = Shown;
///     type Part = ();
///
///     fn query() -> Query {
///         Query {
///             filters: vec![Filter::equal("owner")],
///             sorts: vec![Sort::by("count").integer()],
///             ..Query::default()
///         }
///     }
///
///     fn route(event: &Recorded, _: &Parts<()>) -> Result<Route, ApplyError> {
///         Ok(Route::id(&event.id))
///     }
///
///     fn apply(
///         _: &str,
///         shown: Option<Shown>,
///         event: &Recorded,
///         _: &Parts<()>,
///     ) -> Result<Change<Shown>, ApplyError> {
///         Ok(match (event.event::<Counter>()?, shown) {
///             (Event::Started { owner }, _) => Change::Put(Shown { owner, count: 0 }),
///             (Event::Counted {}, Some(old)) => Change::Put(Shown { count: old.count + 1, ..old }),
///             (Event::Counted {}, None) => return Err(ApplyError::refused("it was not started")),
///         })
///     }
/// }
///
/// let owner = "ada".to_owned();
/// let log = Log::new().add::<Counter>("c-1", [Event::Started { owner }, Event::Counted {}]);
/// let counters = ViewFold::<Counters>::of(log.events());
/// assert_eq!(counters.get("c-1").unwrap().count, 1);
/// ```
pub trait View: Send + Sync + 'static {
    /// The name in paths and subjects. Lower case letters, digits and `_`; starts with a letter.
    const NAME: &'static str;
    /// The version of the documents' shape. Raise it on any change to the fold: the view is then
    /// rebuilt from the log beside the one that is being read.
    const VERSION: u32;
    /// The aggregates whose events the view reads.
    const AGGREGATES: &'static [&'static str];
    /// The served form. It must serialise to a JSON object.
    type Document: Serialize + DeserializeOwned + ToSchema + Clone + Send + 'static;
    /// The memory of one source aggregate; `()` in a view that remembers nothing.
    type Part: Serialize + DeserializeOwned + Clone + Send + 'static;

    /// Returns what the documents can be filtered, sorted and searched by.
    fn query() -> Query;

    /// The documents that a caller may see, of every list, search, count and stream, and by their ids. What
    /// is not visible is as if it were not there. All of them unless it is said.
    #[must_use]
    fn visible(caller: &Caller) -> Rows {
        let _ = caller;
        Rows::All
    }

    /// Which documents the event touches. Like [`View::apply`] it may be called again, with more
    /// parts loaded, and only the last answer counts.
    ///
    /// # Errors
    ///
    /// Returns [`ApplyError`] when the event cannot be understood.
    fn route(event: &Recorded, parts: &Parts<Self::Part>) -> Result<Route, ApplyError>;

    /// Updates what the view remembers of the event's own aggregate.
    ///
    /// # Errors
    ///
    /// Returns [`ApplyError`] when the event cannot be understood.
    fn remember(
        part: Option<Self::Part>,
        event: &Recorded,
    ) -> Result<Change<Self::Part>, ApplyError> {
        let _ = (part, event);
        Ok(Change::Keep)
    }

    /// Returns whether the event withdraws personal data. Once a view has applied one, those of its
    /// earlier generations that no program folds any more are removed, since they have the data still.
    #[must_use]
    fn erases(event: &Recorded) -> bool {
        let _ = event;
        false
    }

    /// Applies the event to one document, or to its absence.
    ///
    /// It may be called more than once for one event (again, with more parts loaded), and only the
    /// last answer counts.
    ///
    /// # Errors
    ///
    /// Returns [`ApplyError`] when the event cannot be applied.
    fn apply(
        id: &str,
        document: Option<Self::Document>,
        event: &Recorded,
        parts: &Parts<Self::Part>,
    ) -> Result<Change<Self::Document>, ApplyError>;
}

/// The documents of a view that a caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// All of them.
    All,
    /// Those in which this document field is this text. It has to be a field of one value, which a filter of
    /// the view compares by equality.
    Where(&'static str, String),
    /// None.
    None,
}

/// The change of a document (or a part).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// It is replaced, or made.
    Put(T),
    /// It is removed.
    Delete,
    /// It stays as it is.
    Keep,
}

/// The documents that an event touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// None.
    Nothing,
    /// Those with these ids, whether they exist or not. Document ids are 1 to 129 of `A-Z a-z 0-9 _ -`,
    /// and never `live`. Of names that are joined by a sign, all but the last must have none of it in
    /// them, or two pairs of names make one document.
    Ids(Vec<String>),
    /// All existing ones in which each of these document fields has this value. A path such as
    /// `member.id` reaches into the document; `lines[].sku` reaches into each element of an array.
    /// The combination must be one of [`Query::routes`].
    Where(Vec<(&'static str, String)>),
}

impl Route {
    /// The one document with this id.
    #[must_use]
    pub fn id(id: impl Into<String>) -> Self {
        Self::Ids(vec![id.into()])
    }

    /// All existing documents in which this field has this value.
    #[must_use]
    pub fn when(field: &'static str, value: impl Into<String>) -> Self {
        Self::Where(vec![(field, value.into())])
    }
}

/// The fields that the documents of a view can be found by. Everything named here is indexed.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The filters that a list accepts, those that tell most first: where a list has several by equality,
    /// an index of the one that is declared first is read.
    pub filters: Vec<Filter>,
    /// The combinations of fields that lists are filtered by together, each compared by equality by a
    /// filter, where the one declared first alone leaves many documents that the others do not. Each is
    /// indexed once more under each order, in both directions, which every change of a document pays for.
    pub combined: Vec<Vec<&'static str>>,
    /// The combinations of fields, each compared by equality by a filter, by whose values documents are
    /// counted as they change: what a list that is filtered by some of them counts, and the facets of each
    /// under the others, are then known at once. There is a count for each combination of values, so they
    /// are fields of few values, those that lists are always filtered by first.
    pub counted: Vec<Vec<&'static str>>,
    /// The document fields that a list can be sorted by, the default first.
    pub sorts: Vec<Sort>,
    /// The document fields that `q` searches as text.
    pub search: Vec<&'static str>,
    /// The combinations of fields that [`Route::Where`] uses.
    pub routes: Vec<Vec<&'static str>>,
}

/// One parameter of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// The parameter's name, for example `price_min`.
    pub name: &'static str,
    /// The document field it compares, for example `price`.
    pub field: &'static str,
    /// The comparison.
    pub compare: Compare,
    /// The type of its value.
    pub kind: Kind,
}

impl Filter {
    /// The parameter `field`, a text that the document's field of that name, or path, equals.
    #[must_use]
    pub const fn equal(field: &'static str) -> Self {
        Self::compared(field, field, Compare::Equal)
    }

    /// The parameter `name`, a text that the document's field is at least.
    #[must_use]
    pub const fn at_least(name: &'static str, field: &'static str) -> Self {
        Self::compared(name, field, Compare::AtLeast)
    }

    /// The parameter `name`, a text that the document's field is at most.
    #[must_use]
    pub const fn at_most(name: &'static str, field: &'static str) -> Self {
        Self::compared(name, field, Compare::AtMost)
    }

    const fn compared(name: &'static str, field: &'static str, compare: Compare) -> Self {
        let kind = Kind::Text;
        Self {
            name,
            field,
            compare,
            kind,
        }
    }

    /// The parameter is called otherwise than the field.
    #[must_use]
    pub const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// The value is an integer.
    #[must_use]
    pub const fn integer(self) -> Self {
        let kind = Kind::Integer;
        Self { kind, ..self }
    }

    /// The value is `true` or `false`.
    #[must_use]
    pub const fn boolean(self) -> Self {
        let kind = Kind::Boolean;
        Self { kind, ..self }
    }
}

/// The comparison of the field with the parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// The field equals the value.
    Equal,
    /// The field is at least the value.
    AtLeast,
    /// The field is at most the value.
    AtMost,
}

/// The type of a filter's or sort's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A JSON string.
    Text,
    /// A JSON integer.
    Integer,
    /// `true` or `false`.
    Boolean,
}

/// One field that a list can be sorted by, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// The document field, which is the parameter's value too (`sort=-price`).
    pub field: &'static str,
    /// The type of the field.
    pub kind: Kind,
}

impl Sort {
    /// The field of this name, or path: a text.
    #[must_use]
    pub const fn by(field: &'static str) -> Self {
        let kind = Kind::Text;
        Self { field, kind }
    }

    /// The value is an integer.
    #[must_use]
    pub const fn integer(self) -> Self {
        let kind = Kind::Integer;
        Self { kind, ..self }
    }
}

/// The memory of a view for the aggregates it is composed from, as of the event being applied.
///
/// A part that has not been read from the store yet is noted as missing; the projector then loads
/// it and applies the event again.
#[derive(Debug)]
pub struct Parts<P> {
    known: BTreeMap<PartKey, Option<P>>,
    missing: RefCell<Vec<PartKey>>,
    /// Those of which it is noted that they were asked for.
    watched: BTreeSet<PartKey>,
    asked: RefCell<BTreeSet<PartKey>>,
}

/// The aggregate name and id that a part belongs to.
pub type PartKey = (String, String);

impl<P> Default for Parts<P> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            missing: RefCell::default(),
            watched: BTreeSet::new(),
            asked: RefCell::default(),
        }
    }
}

impl<P> Parts<P> {
    /// Returns what is remembered of this aggregate, if anything.
    pub fn get(&self, aggregate: &str, id: &str) -> Option<&P> {
        let key = (aggregate.to_owned(), id.to_owned());
        if !self.watched.is_empty() && self.watched.contains(&key) {
            self.asked.borrow_mut().insert(key.clone());
        }
        match self.known.get(&key) {
            Some(part) => part.as_ref(),
            None => {
                self.missing.borrow_mut().push(key);
                None
            }
        }
    }

    /// Makes a part known: `None` when it is known that there is none.
    pub fn set(&mut self, aggregate: &str, id: &str, part: Option<P>) {
        self.known
            .insert((aggregate.to_owned(), id.to_owned()), part);
    }

    /// Returns whether it is known what is remembered of this aggregate.
    #[must_use]
    pub fn knows(&self, aggregate: &str, id: &str) -> bool {
        self.known
            .contains_key(&(aggregate.to_owned(), id.to_owned()))
    }

    /// Takes the list of parts that were asked for and not known.
    pub fn take_missing(&self) -> Vec<PartKey> {
        self.missing.take()
    }

    /// Notes from now on when this part is asked for: its aggregate is parked, so it is behind.
    pub fn watch(&mut self, key: PartKey) {
        self.watched.insert(key);
    }

    /// No longer notes when this part is asked for.
    pub fn unwatch(&mut self, key: &PartKey) {
        self.watched.remove(key);
    }

    /// Takes which of the parts that are watched were asked for.
    pub fn take_asked(&self) -> BTreeSet<PartKey> {
        match self.watched.is_empty() {
            true => BTreeSet::new(),
            false => self.asked.take(),
        }
    }

    /// Forgets all that is known, but not which are watched.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

/// An event that a view cannot apply. The projector parks it with all later ones of its aggregate.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The stored event cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The view refuses the event.
    #[error("{0}")]
    Refused(String),
}

impl ApplyError {
    /// The view cannot make sense of the event, for this reason.
    pub fn refused(reason: impl Display) -> Self {
        Self::Refused(reason.to_string())
    }

    /// Returns whether another build may know the event.
    #[must_use]
    pub fn is_unknown_type(&self) -> bool {
        matches!(self, Self::Decode(error) if error.is_unknown_type())
    }
}
