//! From a list as JSON to its commands.

use super::{MAX_COMMANDS, MAX_MANY};
use crate::{
    access::{Access, Identified, UnderWay},
    caller::{Action, Caller},
    command::{
        decode::{field_at_fault, without_place},
        describe::AggregateDescription,
        request::{CommandHeaders, CommandRequest, MAX_BODY, checked_key, parse_version},
        table::{shown, unknown_aggregate},
        waits::WAIT,
    },
    event_log::subject::Id,
    problem::Problem,
    request_headers::RequestHeaders,
};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{fmt, sync::Arc};

/// One command of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command<'a> {
    /// The aggregate's name. It may be left out where the request is for one kind of aggregate.
    #[serde(default)]
    aggregate: Option<String>,
    /// The aggregate's id.
    id: String,
    /// The command's name.
    command: String,
    /// The command's id, 1 to 128 visible ASCII characters: what `Idempotency-Key` is for a command alone.
    #[serde(default)]
    key: Option<Arc<str>>,
    /// The version that the aggregate must be at: a number, or the tag that `If-Match` takes.
    #[serde(default)]
    if_match: Option<Version>,
    /// The command's fields; `{}` where it has none.
    #[serde(borrow)]
    fields: &'a RawValue,
}

/// A version as a number or as an entity tag.
struct Version(u64);

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Version;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a version, or a version in double quotes as ETag has it")
            }

            fn visit_u64<E: Error>(self, version: u64) -> Result<Version, E> {
                Ok(Version(version))
            }

            fn visit_str<E: Error>(self, tag: &str) -> Result<Version, E> {
                let version = parse_version(tag);
                version.map(Version).ok_or_else(|| {
                    E::custom("if_match is a version, or a version in double quotes as ETag has it")
                })
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Reads the headers that all commands of a request share. What is of one command stands in that command.
///
/// # Errors
///
/// Returns a `malformed` problem that names the header.
pub(crate) fn shared_headers(
    headers: &impl RequestHeaders,
    caller: Caller,
) -> Result<CommandHeaders, Problem> {
    for (name, instead) in [
        ("Idempotency-Key", ": give each its own as key"),
        ("If-Match", ": give each its own as if_match"),
        (WAIT, ""),
    ] {
        if headers.single(name)?.is_some() {
            let detail = format!("{name} is of one command{instead}");
            return Err(Problem::malformed(name.to_owned(), detail));
        }
    }
    CommandHeaders::read(headers, caller)
}

/// The commands of a request.
pub(crate) struct List {
    /// Each, or why it is refused.
    pub commands: Vec<Result<CommandRequest, Problem>>,
    /// Those of the caller that are under way, until this is dropped.
    pub under_way: Vec<UnderWay>,
}

/// Reads the commands of a request: of one kind of aggregate, where it is for one, or else of any.
///
/// # Errors
///
/// Returns what is wrong with the list itself. What is wrong with a command stands in the place of it.
pub(crate) fn read(
    body: &Bytes,
    of: Option<&AggregateDescription>,
    known: &[AggregateDescription],
    (access, who): (&Access, &Identified),
    shared: &CommandHeaders,
) -> Result<List, Problem> {
    if body.len() > MAX_MANY {
        return Err(Problem::too_large(MAX_MANY));
    }
    let commands = split(body)?;
    let mut under_way = Vec::new();
    let read = |(number, command): (usize, &RawValue)| {
        // The first counts as the request itself.
        if number > 0 {
            under_way.extend(access.admit_another(who)?);
        }
        let command = parse(number, command)?;
        request(&command, of, known, who, shared)
    };
    let commands = commands.into_iter().enumerate().map(read).collect();
    Ok(List {
        commands,
        under_way,
    })
}

/// The refusal of a request without a body.
#[must_use]
pub(crate) fn empty_list() -> Problem {
    let detail = "the body is empty; many commands are a JSON array";
    Problem::malformed("body".to_owned(), detail)
}

/// Takes a list apart.
fn split(body: &[u8]) -> Result<Vec<&RawValue>, Problem> {
    let malformed = |field: String, detail: &str| Err(Problem::malformed(field, detail));
    if body.is_empty() {
        return Err(empty_list());
    }
    let mut at = None;
    let mut json = serde_json::Deserializer::from_slice(body);
    let list = Split { at: &mut at }.deserialize(&mut json);
    let list = list.and_then(|list| json.end().map(|()| list));
    list.or_else(|error| match at {
        None if error.is_data() => malformed("body".to_owned(), "many commands are a JSON array"),
        None => malformed("body".to_owned(), &format!("not JSON: {error}")),
        Some(MAX_COMMANDS) if error.is_data() => malformed(
            format!("[{MAX_COMMANDS}]"),
            &format!("at most {MAX_COMMANDS} commands go in one request"),
        ),
        Some(number) => malformed(format!("[{number}]"), &format!("not JSON: {error}")),
    })
}

/// A list, with the place that it has been read up to while it is read.
struct Split<'a> {
    at: &'a mut Option<usize>,
}

impl<'de> DeserializeSeed<'de> for Split<'_> {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Split<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of commands")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut commands = Vec::new();
        *self.at = Some(0);
        while let Some(command) = list.next_element()? {
            if commands.len() == MAX_COMMANDS {
                return Err(A::Error::custom("too many"));
            }
            commands.push(command);
            *self.at = Some(commands.len());
        }
        *self.at = None;
        Ok(commands)
    }
}

fn parse(number: usize, command: &RawValue) -> Result<Command<'_>, Problem> {
    if !command.get().starts_with('{') {
        let detail = "a command of many is a JSON object";
        return Err(Problem::malformed(format!("[{number}]"), detail));
    }
    let mut json = serde_json::Deserializer::from_str(command.get());
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let message = error.inner().to_string();
        let field = field_at_fault("", &error.path().to_string(), &message);
        Problem::malformed(field, without_place(&message))
    })
}

/// Makes the command of it, if the caller may give it.
fn request(
    command: &Command<'_>,
    of: Option<&AggregateDescription>,
    known: &[AggregateDescription],
    who: &Identified,
    shared: &CommandHeaders,
) -> Result<CommandRequest, Problem> {
    let aggregate = match (of, command.aggregate.as_deref()) {
        (Some(of), None) => of,
        (Some(of), Some(name)) if name == of.name => of,
        (Some(of), Some(_)) => {
            let detail = format!("this request is for commands of {} alone", of.name);
            return Err(Problem::malformed("aggregate".to_owned(), detail));
        }
        (None, None) => {
            let detail = "missing field `aggregate`";
            return Err(Problem::malformed("aggregate".to_owned(), detail));
        }
        (None, Some(name)) => {
            let found = known.iter().find(|known| known.name == name);
            found.ok_or_else(|| who.refused(unknown_aggregate(name)))?
        }
    };
    let name = &command.command;
    if !aggregate.commands.iter().any(|known| known.name == *name) {
        let detail = format!("there is no command named {:?}", shown(name));
        return Err(who.refused(Problem::not_found("unknown_command", detail)));
    }
    who.check(Action::Command {
        aggregate: aggregate.name,
        command: name,
    })?;
    let id = Id::new(command.id.as_str());
    let id = id.map_err(|error| Problem::malformed("id".to_owned(), error.to_string()))?;
    if let Some(key) = &command.key {
        checked_key(key, "key")?;
    }
    let fields = command.fields.get();
    if !fields.starts_with('{') {
        let detail = "a command's fields are a JSON object, {} where it has none";
        return Err(Problem::malformed("fields".to_owned(), detail));
    }
    if fields.len() > MAX_BODY {
        return Err(Problem::too_large(MAX_BODY));
    }
    Ok(CommandRequest {
        aggregate: aggregate.name.into(),
        id,
        command: name.as_str().into(),
        // A part of the list would keep all of it in memory.
        body: Bytes::copy_from_slice(fields.as_bytes()),
        headers: CommandHeaders {
            idempotency_key: command.key.clone(),
            if_match: command.if_match.as_ref().map(|version| version.0),
            ..shared.clone()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::Limits,
        command::{cart::Cart, request::CommandHeaders},
    };
    use std::num::NonZeroU32;

    fn read_of(
        body: impl Into<Bytes>,
        of_cart: bool,
        who: &Identified,
    ) -> Result<Vec<Result<CommandRequest, Problem>>, Problem> {
        let known = [AggregateDescription::of::<Cart>()];
        let of = of_cart.then_some(&known[0]);
        let as_who = (&Access::open(), who);
        let list = read(&body.into(), of, &known, as_who, &CommandHeaders::default())?;
        assert!(list.under_way.is_empty());
        Ok(list.commands)
    }

    fn read_cart(body: &str) -> Vec<Result<CommandRequest, Problem>> {
        let body = body.to_owned();
        read_of(body, true, &Identified::default()).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// The field that is named of the only command.
    #[track_caller]
    fn field(command: &str) -> String {
        let mut read = read_cart(&format!("[{command}]"));
        let problem = read.pop().unwrap().unwrap_err();
        assert_eq!((problem.status, &*problem.code), (400, "malformed"));
        problem.field.unwrap()
    }

    #[test]
    fn a_list_is_read_command_by_command() {
        let read = read_cart(
            r#" [ {"id":"a","command":"clear","fields":{ "x":[1] }},
            {"aggregate":"cart","id":"b","command":"fill","key":"k","if_match":3,"fields":{}},
            {"aggregate":null,"id":"c","command":"fill","key":null,"if_match":"W/\"4\"","fields":{}},
            7] "#,
        );
        let [first, second, third, last] = read.try_into().unwrap();
        let (first, second, third) = (first.unwrap(), second.unwrap(), third.unwrap());
        assert_eq!((first.id.as_str(), &*first.command), ("a", "clear"));
        assert_eq!(first.body, r#"{ "x":[1] }"#);
        assert_eq!(second.headers.idempotency_key.as_deref(), Some("k"));
        assert_eq!(second.headers.if_match, Some(3));
        assert_eq!(third.headers.idempotency_key, None);
        assert_eq!(third.headers.if_match, Some(4));
        assert_eq!(last.unwrap_err().field.as_deref(), Some("[3]"));
        assert!(read_cart("[]").is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_command_is_named() {
        let right = r#""id":"a","command":"clear","fields":{}"#;
        for (wrong, named) in [
            (r#"{"command":"clear","fields":{}}"#.to_owned(), "id"),
            (r#"{"id":"a","fields":{}}"#.to_owned(), "command"),
            (r#"{"id":"a","command":"clear"}"#.to_owned(), "fields"),
            (format!(r#"{{{right},"colour":1}}"#), "colour"),
            (format!(r#"{{{right},"id":"b"}}"#), "id"),
            (format!(r#"{{{right},"key":7}}"#), "key"),
            (format!(r#"{{{right},"key":"a b"}}"#), "key"),
            (format!(r#"{{{right},"key":""}}"#), "key"),
            (format!(r#"{{{right},"if_match":"3"}}"#), "if_match"),
            (format!(r#"{{{right},"if_match":-3}}"#), "if_match"),
            (format!(r#"{{{right},"if_match":1.5}}"#), "if_match"),
            (format!(r#"{{{right},"aggregate":"order"}}"#), "aggregate"),
            (r#"{"id":7,"command":"clear","fields":{}}"#.to_owned(), "id"),
            (
                r#"{"id":"a.b","command":"clear","fields":{}}"#.to_owned(),
                "id",
            ),
            (
                r#"{"id":"live","command":"clear","fields":{}}"#.to_owned(),
                "id",
            ),
            (
                r#"{"id":"a","command":"clear","fields":null}"#.to_owned(),
                "fields",
            ),
            (
                r#"{"id":"a","command":"clear","fields":[]}"#.to_owned(),
                "fields",
            ),
            ("[]".to_owned(), "[0]"),
            ("null".to_owned(), "[0]"),
        ] {
            assert_eq!(field(&wrong), named, "{wrong}");
        }
        let unknown = read_cart(r#"[{"id":"a","command":"burn","fields":{}}]"#);
        assert_eq!(unknown[0].as_ref().unwrap_err().code, "unknown_command");
        let large = format!(
            r#"[{{"id":"a","command":"clear","fields":{{"x":"{}"}}}}]"#,
            "a".repeat(MAX_BODY)
        );
        assert_eq!(read_cart(&large)[0].as_ref().unwrap_err().code, "too_large");
    }

    #[test]
    fn a_request_for_any_aggregate_says_which() {
        let read = |command: &str| {
            let mut read = read_of(format!("[{command}]"), false, &Identified::default()).unwrap();
            read.pop().unwrap()
        };
        let problem = read(r#"{"id":"a","command":"clear","fields":{}}"#).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("aggregate"));
        let known = r#"{"aggregate":"cart","id":"a","command":"clear","fields":{}}"#;
        assert_eq!(read(known).unwrap().aggregate, "cart");
        let problem = read(&known.replace("cart", "basket")).unwrap_err();
        assert_eq!((problem.status, &*problem.code), (404, "unknown_aggregate"));
    }

    #[test]
    fn what_is_wrong_with_the_list_refuses_all_of_it_and_is_named() {
        let one = r#"{"id":"a","command":"clear","fields":{}}"#;
        let many = |count: usize| format!("[{}]", vec![one; count].join(","));
        for (body, named) in [
            (String::new(), "body"),
            ("{}".to_owned(), "body"),
            ("7".to_owned(), "body"),
            ("null".to_owned(), "body"),
            ("\u{feff}[]".to_owned(), "body"),
            ("[".to_owned(), "[0]"),
            (format!("[{one}"), "[1]"),
            (format!("[{one},]"), "[1]"),
            (format!("[{one} {one}]"), "[1]"),
            (format!("[{one},{{]"), "[1]"),
            (format!("[{one}] []"), "body"),
            (many(MAX_COMMANDS + 1), "[1000]"),
        ] {
            let start = &body[..body.len().min(100)];
            let problem = read_of(body.clone(), true, &Identified::default()).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(named), "{start}: {problem}");
            assert_eq!(problem.status, 400);
        }
        assert_eq!(read_cart(&many(MAX_COMMANDS)).len(), MAX_COMMANDS);
        let wrong = [b"[{\"id\":\"", &[0xff][..], b"\"}]"].concat();
        let problem = read_of(wrong, true, &Identified::default()).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("[0]"));
        let large = vec![b' '; MAX_MANY + 1];
        let problem = read_of(large, true, &Identified::default()).unwrap_err();
        assert_eq!((problem.status, &*problem.code), (413, "too_large"));
    }

    #[test]
    fn a_scope_is_asked_for_command_by_command() {
        let caller = Caller::new(Some("m-1"), ["cmd:cart:clear"]);
        let who = Identified::told(caller, Some(i64::MAX));
        let body = r#"[{"id":"a","command":"clear","fields":{}},{"id":"a.b","command":"fill","fields":{}}]"#;
        let read = read_of(body, true, &who).unwrap();
        assert!(read[0].is_ok());
        // Before anything else that is wrong with it.
        let problem = read[1].as_ref().unwrap_err();
        assert_eq!(
            (problem.status, problem.scope.as_deref()),
            (403, Some("cmd:cart:fill"))
        );
        let nobody = Identified::told(Caller::new(None, [""; 0]), None);
        let read = read_of(body, true, &nobody).unwrap();
        assert!(
            read.iter()
                .all(|one| one.as_ref().unwrap_err().status == 401)
        );
    }

    #[test]
    fn each_counts_among_what_its_caller_may_ask_for() {
        let access = Access::open().limited(Limits::new(None, NonZeroU32::new(2)));
        let who = Identified::told(Caller::new(Some("m-1"), ["cmd:*"]), Some(i64::MAX));
        let known = [AggregateDescription::of::<Cart>()];
        let one = r#"{"aggregate":"cart","id":"a","command":"clear","fields":{}}"#;
        let body = Bytes::from(format!("[{one},{one},{one},{one}]"));
        let shared = CommandHeaders::default();
        let list = read(&body, None, &known, (&access, &who), &shared).unwrap();
        let statuses = |list: &List| {
            let answers = list.commands.iter();
            let status = |one: &Result<_, Problem>| one.as_ref().err().map(|one| one.status);
            answers.map(status).collect::<Vec<_>>()
        };
        // The first is the request, which is taken before.
        assert_eq!(statuses(&list), [None, None, None, Some(429)]);
        let again = read(&body, None, &known, (&access, &who), &shared).unwrap();
        assert_eq!(statuses(&again), [None, Some(429), Some(429), Some(429)]);
        drop(list);
        let again = read(&body, None, &known, (&access, &who), &shared).unwrap();
        assert_eq!(statuses(&again), [None, None, None, Some(429)]);
    }

    #[test]
    fn what_is_of_one_command_is_no_header_of_many() {
        for name in ["Idempotency-Key", "If-Match", WAIT] {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert(name, "\"1\"");
            let problem = shared_headers(&Some(headers), Caller::default()).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(name));
        }
        assert!(shared_headers(&None::<async_nats::HeaderMap>, Caller::default()).is_ok());
    }
}
