//! Explanations of documents, as a replica that keeps the view tells them.

use super::{AskError, Operations, Projectors, Question};
use crate::{
    config::Role,
    event_log::subject::Id,
    problem::Problem,
    projection::{Ask, Explained, Reply, ReplyBody, Verb},
};
use serde::Serialize;
use utoipa::ToSchema;

/// The explanation of a document: why it is as it is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DocumentExplained {
    /// The view.
    pub view: String,
    /// The document's id.
    pub id: String,
    /// The replica that has folded it again.
    pub replica: String,
    /// The explanation itself.
    #[serde(flatten)]
    pub explained: Explained,
}

impl Operations {
    /// Has a document folded again, and tells which events have made it what it is.
    ///
    /// # Errors
    ///
    /// Returns `unknown_view`, `not_found` where there never was such a document, and `unavailable` where it cannot be
    /// told now.
    pub async fn explain(
        &self,
        view: &str,
        id: &Id,
        authorization: Option<&str>,
    ) -> Result<DocumentExplained, Problem> {
        self.known_view(view)?;
        let membership = &self.options().membership;
        let members = membership.watch().borrow().clone();
        let me = members.get(membership.replica());
        let projects = me.is_some_and(|me| me.roles().contains(&Role::Projector));
        let here = match projects {
            true => {
                self.explained(view, id, Some(membership.replica()), authorization)
                    .await?
            }
            false => None,
        };
        let found = match here {
            Some(found) => Some(found),
            None => self.explained(view, id, None, authorization).await?,
        };
        let (replica, explained) =
            found.ok_or_else(|| Problem::unavailable("no replica keeps the view at the moment"))?;
        if explained.served.is_none() && explained.events_total == 0 {
            let detail = "there never was such a document";
            return Err(Problem::not_found("not_found", detail));
        }
        Ok(DocumentExplained {
            view: view.to_owned(),
            id: id.to_string(),
            replica,
            explained,
        })
    }

    /// Returns the explanation of a replica, or of the first of all that tells one; `None` where it does not keep the view.
    async fn explained(
        &self,
        view: &str,
        id: &Id,
        replica: Option<&str>,
        authorization: Option<&str>,
    ) -> Result<Option<(String, Explained)>, Problem> {
        let projectors = Projectors {
            client: &self.options().nats,
            authorization,
        };
        let ask = Ask {
            id: Some(id.to_string()),
            ..Ask::default()
        };
        let question = Question {
            replica,
            ..Question::of_all(Verb::Explain, &ask).about(Some(view))
        };
        let answers = match projectors.ask(question, |_, _, _| {}).await {
            Ok(answers) => answers,
            Err(AskError::Nobody) => return Ok(None),
            Err(error) => return Err(Problem::unavailable(error.to_string())),
        };
        let mut refused = None;
        for Reply { replica, body, .. } in answers.replies {
            match body {
                ReplyBody::Explained(explained) => return Ok(Some((replica, *explained))),
                ReplyBody::Refused { reason } => refused = Some(reason),
                _ => {}
            }
        }
        match refused {
            Some(reason) => Err(Problem::unavailable(reason)),
            None => Ok(None),
        }
    }
}
