//! The caller of a command, as one replica tells another.
//!
//! The replica that a command came to has found out who it is; its home takes that on trust. It does so on
//! `own.<replica>.>` alone, where nobody but replicas may publish.

use crate::{caller::Caller, problem::Problem, request_headers::RequestHeaders};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// The header that says who gives a command which is passed on.
pub(super) const CALLER: &str = "Headwater-Caller";

/// The caller, in the words of one replica to another.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Told {
    /// A replica's own: a step of a process.
    Program { program: bool },
    /// Somebody from outside.
    Caller {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sub: Option<String>,
        scopes: Vec<String>,
    },
}

impl Told {
    /// Says who it is.
    pub(super) fn of(caller: &Caller) -> Self {
        match caller.is_unrestricted() {
            true => Self::Program { program: true },
            false => Self::Caller {
                sub: caller.subject().map(str::to_owned),
                scopes: caller.scopes().map(str::to_owned).collect(),
            },
        }
    }

    /// Returns who it is; `None` when that is not said.
    pub(super) fn caller(&self) -> Option<Caller> {
        match self {
            Self::Program { program } => program.then(Caller::default),
            Self::Caller { sub, scopes } => Some(Caller::new(sub.as_deref(), scopes.clone())),
        }
    }
}

/// Writes who it is: a header holds ASCII alone, and a name may be in any script.
pub(super) fn written(caller: &Caller) -> String {
    let json = serde_json::to_vec(&Told::of(caller)).expect("texts are plain data");
    URL_SAFE_NO_PAD.encode(json)
}

/// Reads who it is; `None` when that is not said.
pub(super) fn read(headers: &impl RequestHeaders) -> Result<Option<Caller>, Problem> {
    let Some(value) = headers.single(CALLER)? else {
        return Ok(None);
    };
    let json = URL_SAFE_NO_PAD.decode(value).ok();
    let told = json.and_then(|json| serde_json::from_slice::<Told>(&json).ok());
    let told = told.ok_or_else(|| {
        Problem::malformed(CALLER.to_owned(), "it does not say who gives the command")
    })?;
    Ok(told.caller())
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_nats::HeaderMap;

    #[test]
    fn who_it_is_arrives_as_it_was_told() {
        for caller in [
            Caller::new(Some("회원 \"1\""), ["cmd:order:*", "staff"]),
            Caller::new(None, ["qry:*"]),
            Caller::new(Some("m-1"), [""; 0]),
            Caller::default(),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CALLER, written(&caller));
            assert_eq!(read(&Some(headers)), Ok(Some(caller)));
        }
        assert_eq!(read(&None), Ok(None));
    }

    #[test]
    fn what_says_nothing_is_refused_and_never_means_everything() {
        for wrong in ["", "e30", "bnVsbA", "e", "{}", "eyJzdWIiOiJhIn0"] {
            let mut headers = HeaderMap::new();
            headers.insert(CALLER, wrong);
            let problem = read(&Some(headers)).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(CALLER), "{wrong}");
        }
    }
}
