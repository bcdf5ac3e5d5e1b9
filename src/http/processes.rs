//! `GET /processes/<process>?…` and `GET /processes/<process>/<id>`, for operators: scope `ops:read`.

use super::{Site, conditional, input, refusal, refusal::Refusal};
use crate::{
    access::AUTHORIZATION,
    caller::Action,
    problem::Problem,
    processes::{ListAsk, ShowAsk, ToldStatus},
    request_headers::parse_digits,
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use std::collections::BTreeMap;

/// Reads a page of the instances of a process.
pub(super) async fn list(request: HttpRequest, site: Data<Site>) -> Result<HttpResponse, Refusal> {
    let process = allowed_process(&request, &site).await?;
    let parameters = input::parameters(request.uri().query().unwrap_or_default())?;
    let ask = list_ask(parameters)?;
    let authorization = input::header(&request, AUTHORIZATION)?;
    let processes = &site.backends.processes;
    let body = processes.list(process, &ask, authorization).await?;
    Ok(answer(&request, body).await)
}

/// Reads one instance with its steps.
pub(super) async fn show(request: HttpRequest, site: Data<Site>) -> Result<HttpResponse, Refusal> {
    let process = allowed_process(&request, &site).await?;
    let id = input::aggregate_id(&request, 2)?;
    let parameters = input::parameters(request.uri().query().unwrap_or_default())?;
    let ask = show_ask(parameters)?;
    let authorization = input::header(&request, AUTHORIZATION)?;
    let processes = &site.backends.processes;
    let body = processes.show(process, &id, &ask, authorization).await?;
    Ok(answer(&request, body).await)
}

async fn answer(request: &HttpRequest, body: actix_web::web::Bytes) -> HttpResponse {
    let response = conditional::begin(request, conditional::tag_of(&body));
    conditional::finish(request, response, "application/json", body).await
}

/// The process that is asked about, if whoever asks may.
async fn allowed_process(request: &HttpRequest, site: &Site) -> Result<&'static str, Problem> {
    let who = site.identified(request).await?;
    let who = who.may(Action::Inspect)?;
    let name = input::segment(request, 1, "process")?;
    let mut names = site.backends.processes.names().iter();
    let known = names.find(|known| **known == name).copied();
    known.ok_or_else(|| who.refused(refusal::unknown("process", &name)))
}

pub(super) fn list_ask(mut parameters: BTreeMap<String, String>) -> Result<ListAsk, Problem> {
    let status = parameters.remove("status");
    let status = status.map(|status| {
        ToldStatus::named(&status).ok_or_else(|| {
            let names = ToldStatus::ALL.map(|status| status.to_string());
            let detail = format!("the status is one of {}", names.join(", "));
            Problem::malformed("status".to_owned(), detail)
        })
    });
    let ask = ListAsk {
        status: status.transpose()?,
        limit: number(&mut parameters, "limit")?,
        cursor: parameters.remove("cursor"),
    };
    no_more(parameters, "status, limit and cursor")?;
    Ok(ask)
}

pub(super) fn show_ask(mut parameters: BTreeMap<String, String>) -> Result<ShowAsk, Problem> {
    let ask = ShowAsk {
        limit: number(&mut parameters, "limit")?,
        cursor: number(&mut parameters, "cursor")?,
    };
    no_more(parameters, "limit and cursor")?;
    Ok(ask)
}

fn number<T: TryFrom<u64>>(
    parameters: &mut BTreeMap<String, String>,
    name: &str,
) -> Result<Option<T>, Problem> {
    let given = parameters.remove(name);
    let read = |given: String| {
        let number = parse_digits(&given).and_then(|number| T::try_from(number).ok());
        number
            .ok_or_else(|| Problem::malformed(name.to_owned(), format!("{name} is a whole number")))
    };
    given.map(read).transpose()
}

fn no_more(parameters: BTreeMap<String, String>, there: &str) -> Result<(), Problem> {
    match parameters.into_keys().next() {
        None => Ok(()),
        Some(name) => {
            let detail = format!("there is no parameter {name} here; there is {there}");
            Err(Problem::malformed(name, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_asked_for_is_read_strictly() {
        let all = given(&[("status", "parked"), ("limit", "3"), ("cursor", "o-1")]);
        let expected = ListAsk {
            status: Some(ToldStatus::Parked),
            limit: Some(3),
            cursor: Some("o-1".to_owned()),
        };
        assert_eq!(list_ask(all), Ok(expected));
        assert_eq!(list_ask(given(&[])), Ok(ListAsk::default()));
        for (name, value) in [
            ("status", "lost"),
            ("status", ""),
            ("limit", "-1"),
            ("limit", "many"),
            ("state", "parked"),
        ] {
            let wrong = list_ask(given(&[(name, value)])).unwrap_err();
            assert_eq!(wrong.field.as_deref(), Some(name), "{value}");
        }
        let wrong = show_ask(given(&[("cursor", "o-1")])).unwrap_err();
        assert_eq!(wrong.field.as_deref(), Some("cursor"));
    }
}
