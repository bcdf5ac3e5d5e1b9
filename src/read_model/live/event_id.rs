//! The place that a client that comes again goes on from.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest event id that is read, in bytes.
const LONGEST: usize = 256;

/// A point in the changes of a view: which filling of it, and the position in the log up to which all
/// changes have been sent. `<edition>-<position>` as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventId {
    /// The edition of the view that was sent. Another one, or none, is not gone on from.
    pub edition: Arc<str>,
    /// The position.
    pub position: u64,
}

impl EventId {
    pub(crate) fn new(edition: Arc<str>, position: u64) -> Self {
        Self { edition, position }
    }

    /// The part of the edition that names the log.
    pub(crate) fn log(&self) -> &str {
        let log = self.edition.split_once('-');
        log.map_or(&self.edition, |(log, _)| log)
    }

    /// The same edition at another position.
    pub(crate) fn at(&self, position: u64) -> Self {
        Self::new(Arc::clone(&self.edition), position)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.edition, self.position)
    }
}

/// Not the id of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no id of an event")]
pub struct EventIdError;

impl FromStr for EventId {
    type Err = EventIdError;

    /// A position alone is one of an edition that nobody knows any more.
    fn from_str(text: &str) -> Result<Self, EventIdError> {
        let (edition, position) = match text.rsplit_once('-') {
            Some(("", _)) => return Err(EventIdError),
            Some((edition, position)) => (edition, position),
            None => ("", text),
        };
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        let digits = position.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() > LONGEST || !visible || !digits {
            return Err(EventIdError);
        }
        let position = position.parse().map_err(|_| EventIdError)?;
        Ok(Self::new(edition.into(), position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_a_position_alone_is_of_no_known_edition() {
        let id = EventId::new("v2.1-x".into(), 1013);
        assert_eq!(id.to_string().parse(), Ok(id));
        let bare: EventId = "1013".parse().unwrap();
        assert_eq!((&*bare.edition, bare.position), ("", 1013));
        let long = "x".repeat(300) + "-1";
        for wrong in [
            "",
            "-1",
            "+1",
            "1.5",
            "a",
            "a-",
            "a-b",
            "a b-1",
            "가-1",
            "99999999999999999999",
            &long,
        ] {
            assert_eq!(wrong.parse::<EventId>(), Err(EventIdError), "{wrong}");
        }
    }
}
