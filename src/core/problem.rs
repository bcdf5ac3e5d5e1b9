//! The one form of every refusal, on NATS and on HTTP alike: RFC 9457 problem details.
//!
//! This module owns the table of codes. The surfaces only carry a [`Problem`]; no other place
//! chooses a status.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The longest field that is named, and the longest detail that is told, of input of the wrong form, in
/// bytes.
const LONGEST_FIELD: usize = 256;
const LONGEST_DETAIL: usize = 512;

/// A refusal, as RFC 9457 `application/problem+json` with the extension members `code` and, where
/// they apply, `field`, `version` and `retry_after`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// Always `about:blank`: `code` is what tells problems apart.
    #[schema(value_type = String)]
    pub r#type: Box<str>,
    /// The meaning of `status`, in a few words.
    #[schema(value_type = String)]
    pub title: Box<str>,
    /// The HTTP status, on NATS too (`Nats-Service-Error-Code`).
    pub status: u16,
    /// The stable snake case code that programs match on.
    pub code: String,
    /// The fault this time, for a person.
    pub detail: String,
    /// The field, header or parameter at fault, for example `lines[0].quantity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The aggregate's current version, with `version_mismatch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The position of what cannot be read, with `unreadable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The scope that it takes, with `forbidden`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub scope: Option<Box<str>>,
    /// Seconds after which a retry makes sense. `Retry-After` on the surfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// The freshness of the view that refuses a query. Headers on the surfaces, as of every answer.
    #[serde(skip)]
    #[schema(ignore)]
    pub age: Option<Age>,
}

/// The freshness of an answer about a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// The stream sequence up to which the view had applied the log.
    pub applied: u64,
    /// The distance to the end of the log, in milliseconds.
    pub lag_ms: u64,
    /// True if something is behind because of an event that could not be applied.
    pub parked: bool,
}

impl Problem {
    fn new(status: u16, title: &str, code: &str, detail: impl Into<String>) -> Self {
        Self {
            r#type: "about:blank".into(),
            title: title.into(),
            status,
            code: code.to_owned(),
            detail: detail.into(),
            field: None,
            version: None,
            position: None,
            scope: None,
            retry_after: None,
            age: None,
        }
    }

    /// 400: the input is not of the right form; `field` says which part of it. Both are bounded: a name
    /// that is not known is the sender's own.
    pub fn malformed(field: impl Into<Option<String>>, detail: impl Into<String>) -> Self {
        let detail = begin(detail.into(), LONGEST_DETAIL);
        Self {
            field: field.into().map(|field| begin(field, LONGEST_FIELD)),
            ..Self::new(400, "Bad Request", "malformed", detail)
        }
    }

    /// 401: who asks has not said who they are, and nobody may do this without that.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(
            401,
            "Unauthorized",
            "unauthenticated",
            "say who asks: Authorization: Bearer and a token",
        )
    }

    /// 401: the token is not believed. The reason says nothing of what is in it.
    #[must_use]
    pub fn invalid_token(reason: &str) -> Self {
        Self {
            field: Some("Authorization".to_owned()),
            detail: format!("the token is not taken: {reason}"),
            ..Self::unauthenticated()
        }
    }

    /// 403: who asks is known, and may not do this: it takes a scope that they do not have.
    #[must_use]
    pub fn forbidden(scope: String) -> Self {
        Self {
            detail: format!("it takes the scope {scope}"),
            scope: Some(scope.into()),
            ..Self::new(403, "Forbidden", "forbidden", "")
        }
    }

    /// Returns how to be let in, as `WWW-Authenticate` says it (RFC 6750, 3); `None` where that is not what is
    /// wrong.
    #[must_use]
    pub fn challenge(&self) -> Option<String> {
        const REALM: &str = r#"Bearer realm="headwater""#;
        match (self.status, &self.field, &self.scope) {
            (401, None, _) => Some(REALM.to_owned()),
            (401, Some(_), _) => Some(format!(
                r#"{REALM}, error="invalid_token", error_description="{}""#,
                self.detail
            )),
            (403, _, Some(scope)) => Some(format!(
                r#"{REALM}, error="insufficient_scope", scope="{scope}""#
            )),
            _ => None,
        }
    }

    /// 404: there is no such thing; `code` says what kind of thing.
    pub fn not_found(code: &str, detail: impl Into<String>) -> Self {
        Self::new(404, "Not Found", code, detail)
    }

    /// 405: the path is right, the method is not.
    pub fn method_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(405, "Method Not Allowed", "method_not_allowed", detail)
    }

    /// 408: the body did not arrive in time; nothing was done.
    #[must_use]
    pub fn request_timeout() -> Self {
        Self::new(
            408,
            "Request Timeout",
            "request_timeout",
            "the body did not arrive in time; nothing was done",
        )
    }

    /// 409: a rule of the domain refuses the command; nothing was appended.
    pub fn refused(code: &str, detail: impl Into<String>) -> Self {
        Self::new(409, "Conflict", code, detail)
    }

    /// 409: a unique key belongs to another aggregate.
    pub fn claim_taken(scope: &str) -> Self {
        Self {
            field: Some(scope.to_owned()),
            ..Self::refused("claim_taken", format!("{scope} is already taken"))
        }
    }

    /// 409: the idempotency key was used before, for a different command or by another caller.
    pub fn key_reused() -> Self {
        Self {
            field: Some("Idempotency-Key".to_owned()),
            ..Self::refused(
                "key_reused",
                "this idempotency key was used for a different command, or by another caller",
            )
        }
    }

    /// 412: `If-Match` names another version than the current one.
    pub fn version_mismatch(current: u64) -> Self {
        Self {
            field: Some("If-Match".to_owned()),
            version: Some(current),
            ..Self::new(
                412,
                "Precondition Failed",
                "version_mismatch",
                format!("the aggregate is at version {current}"),
            )
        }
    }

    /// 413: the body is over the limit.
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::new(
            413,
            "Content Too Large",
            "too_large",
            format!("the body is larger than {limit_bytes} bytes"),
        )
    }

    /// 414: the path and query together are over the limit.
    #[must_use]
    pub fn uri_too_long(limit_bytes: usize) -> Self {
        Self::new(
            414,
            "URI Too Long",
            "uri_too_long",
            format!("the path and query are longer than {limit_bytes} bytes"),
        )
    }

    /// 415: the body is not of the accepted media type.
    pub fn unsupported_media_type() -> Self {
        Self {
            field: Some("Content-Type".to_owned()),
            ..Self::new(
                415,
                "Unsupported Media Type",
                "unsupported_media_type",
                "send the body as application/json",
            )
        }
    }

    /// 431: the head of the request is over the limit.
    #[must_use]
    pub fn headers_too_large() -> Self {
        Self::new(
            431,
            "Request Header Fields Too Large",
            "headers_too_large",
            "the head of the request is too large; nothing was done",
        )
    }

    /// 429: a bounded queue is full.
    pub fn overloaded() -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(
                429,
                "Too Many Requests",
                "overloaded",
                "too many commands are waiting; nothing was done",
            )
        }
    }

    /// 429: one caller asks for more than one may.
    #[must_use]
    pub fn too_many_requests(retry_after: u32, detail: &str) -> Self {
        Self {
            retry_after: Some(retry_after),
            detail: format!("{detail}; nothing was done"),
            ..Self::overloaded()
        }
    }

    /// 500: a defect of the service. Tells no internals.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            500,
            "Internal Server Error",
            "internal",
            "the command failed inside the service; nothing was appended",
        )
    }

    /// 503: it cannot be said now; a retry with the same idempotency key is safe.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(503, "Service Unavailable", "unavailable", detail)
        }
    }

    /// 503: what there is of a view is not of the log that there is now; the view is being filled anew.
    #[must_use]
    pub fn rebuilding(view: &str) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(
                503,
                "Service Unavailable",
                "rebuilding",
                format!(
                    "the log is another one than before, and {view} is being filled anew from it"
                ),
            )
        }
    }

    /// 503: something in the aggregate's history cannot be read by this build. Another build may know it,
    /// or an operator excludes it.
    pub fn unreadable(position: u64, detail: impl std::fmt::Display) -> Self {
        let detail =
            format!("the commit at {position} cannot be read, so nothing was done: {detail}");
        Self {
            position: Some(position),
            retry_after: Some(1),
            ..Self::new(503, "Service Unavailable", "unreadable", detail)
        }
    }

    /// 503: the command was too old when its turn came; nothing was done.
    #[must_use]
    pub fn expired() -> Self {
        Self::unavailable("the command waited for too long to be carried out; nothing was done")
    }

    /// 503: another replica may still carry the command out, although this one refused it.
    #[must_use]
    pub fn not_settled() -> Self {
        Self::unavailable(
            "the home of the aggregate does not answer and may have accepted the command; retry with the same Idempotency-Key",
        )
    }

    /// 504: the view has not reached the asked position within the wait. The command *was* accepted.
    pub fn not_yet_applied(detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(504, "Gateway Timeout", "not_yet_applied", detail)
        }
    }

    /// The JSON body.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a problem is plain data")
    }
}

/// A text, or its beginning where it is too long.
fn begin(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        let ellipsis = "…";
        text.truncate(text.floor_char_boundary(longest - ellipsis.len()));
        text.push_str(ellipsis);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_the_sender_s_own_is_shown_in_part() {
        for sign in ["a", "사"] {
            let name = sign.repeat(60_000);
            let problem = Problem::malformed(name.clone(), name);
            let field = problem.field.unwrap();
            assert!(field.len() <= 256 && field.ends_with(&format!("{sign}…")));
            assert!(problem.detail.len() <= 512);
        }
        let problem = Problem::malformed("price".to_owned(), "a price is a number");
        assert_eq!(problem.field.as_deref(), Some("price"));
        assert_eq!(problem.detail, "a price is a number");
    }
}
