//! The flags of traces, and the variables of OpenTelemetry's own that count where a flag is not given.

use super::http_address;
use crate::{percent, telemetry::trace::TraceOptions};
use clap::Args;
use http_client::header::{HeaderMap, HeaderName, HeaderValue};
use std::str::FromStr;
use url::Url;

const SERVICE: &str = "headwater";
/// The end of the path of a collector's address (OTLP over HTTP).
const PATH: &str = "/v1/traces";

/// Which traces are recorded, and where they are exported to.
#[derive(Debug, Clone, Args)]
pub struct TraceConfig {
    /// The collector that spans are exported to, by OTLP over HTTP: http://127.0.0.1:4318, for example;
    /// by default what OTEL_EXPORTER_OTLP_ENDPOINT says, or none
    #[arg(long, env = "HEADWATER_OTLP_ENDPOINT", hide_env_values = true, value_parser = endpoint)]
    pub otlp_endpoint: Option<Url>,
    /// Headers of every export, as name=value, separated by commas; better given as the variable, which
    /// other users do not see
    #[arg(long, env = "HEADWATER_OTLP_HEADERS", hide_env_values = true)]
    pub otlp_headers: Option<OtlpHeaders>,
    /// The name of the service in traces; by default what OTEL_SERVICE_NAME says, or headwater
    #[arg(long, env = "HEADWATER_SERVICE_NAME")]
    pub service_name: Option<String>,
    /// The share of the traces that begin here which is recorded, 0 to 1; a trace that began elsewhere
    /// is recorded if its traceparent says so
    #[arg(long, env = "HEADWATER_TRACE_RATIO", default_value_t = 1.0, value_parser = ratio)]
    pub trace_ratio: f64,
}

impl TraceConfig {
    /// Returns what is exported, by the flags and then by the variables of OpenTelemetry; `None` when nothing
    /// says where to.
    ///
    /// # Errors
    ///
    /// Returns the variable at fault, and what is wrong with it.
    pub fn options(
        &self,
        instance: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<TraceOptions>, String> {
        // An empty variable is as good as none (OpenTelemetry's specification of the variables).
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        // What is said of traces goes before what is said of everything.
        let of_traces = |what: &str| {
            ["TRACES_", ""]
                .map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}{what}"))
                .into_iter()
                .find_map(|name| variable(&name).map(|value| (name, value)))
        };
        let endpoint = match (&self.otlp_endpoint, of_traces("ENDPOINT")) {
            (Some(given), _) => given.clone(),
            (None, None) => return Ok(None),
            (None, Some((name, value))) => {
                match of_traces("PROTOCOL") {
                    Some((name, protocol)) if protocol != "http/protobuf" => {
                        tracing::warn!(
                            variable = name,
                            protocol,
                            "traces are not exported: only http/protobuf is spoken; --otlp-endpoint says where to"
                        );
                        return Ok(None);
                    }
                    _ => {}
                }
                let url = http_address(&value).map_err(|reason| format!("{name}: {reason}"))?;
                match name.contains("TRACES") {
                    true => url,
                    false => below(url),
                }
            }
        };
        let headers = match (&self.otlp_headers, of_traces("HEADERS")) {
            (Some(given), _) => given.0.clone(),
            (None, None) => HeaderMap::new(),
            (None, Some((name, value))) => {
                let headers: Result<OtlpHeaders, _> = value.parse();
                headers.map_err(|reason| format!("{name}: {reason}"))?.0
            }
        };
        let service = self.service_name.clone();
        let service = service.or_else(|| variable("OTEL_SERVICE_NAME"));
        Ok(Some(TraceOptions {
            endpoint,
            headers,
            service: service.unwrap_or_else(|| SERVICE.to_owned()),
            instance: Some(instance.to_owned()),
            ratio: self.trace_ratio,
        }))
    }
}

/// Reads where a collector is, with or without the path for traces.
fn endpoint(text: &str) -> Result<Url, String> {
    http_address(text).map(below)
}

fn below(mut url: Url) -> Url {
    let path = url.path().trim_end_matches('/');
    if !path.ends_with(PATH) {
        let path = format!("{path}{PATH}");
        url.set_path(&path);
    }
    url
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|error| format!("{error}"))?;
    // Not a number is in no range.
    (0.0..=1.0)
        .contains(&ratio)
        .then_some(ratio)
        .ok_or_else(|| "not between 0 and 1".to_owned())
}

/// Headers of a request, which are not shown: they may say who is sending.
#[derive(Clone)]
pub struct OtlpHeaders(HeaderMap);

impl std::fmt::Debug for OtlpHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl FromStr for OtlpHeaders {
    type Err = String;

    /// Reads `name=value,name=value`, with values percent-encoded where need be, as
    /// `OTEL_EXPORTER_OTLP_HEADERS` has them.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("not of the form name=value")?;
            let name: HeaderName = name
                .trim()
                .parse()
                .map_err(|_| "not the name of a header".to_owned())?;
            let value = percent::decoded(value.trim());
            let mut value = HeaderValue::from_bytes(&value)
                .map_err(|_| format!("not the value of a header: {name}"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self(headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        trace: TraceConfig,
    }

    fn options(flags: &[&str], variables: &[(&str, &str)]) -> Result<Option<TraceOptions>, String> {
        let flags = std::iter::once(&"test").chain(flags);
        let flags = Flags::try_parse_from(flags).map_err(|error| error.to_string())?;
        flags.trace.options("r1", |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[track_caller]
    fn endpoint_of(flags: &[&str], variables: &[(&str, &str)]) -> String {
        let options = options(flags, variables).unwrap();
        options.map_or_else(|| "none".to_owned(), |one| one.endpoint.to_string())
    }

    const COLLECTOR: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn nothing_is_exported_unless_it_is_said_where() {
        assert_eq!(endpoint_of(&[], &[]), "none");
        assert_eq!(
            endpoint_of(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]),
            "none"
        );
    }

    #[test]
    fn the_address_of_a_collector_gets_the_path_for_traces() {
        let flag = |address| endpoint_of(&["--otlp-endpoint", address], &[COLLECTOR]);
        assert_eq!(flag("http://here:4318"), "http://here:4318/v1/traces");
        assert_eq!(flag("https://here/otlp/"), "https://here/otlp/v1/traces");
        assert_eq!(flag("http://here/v1/traces"), "http://here/v1/traces");
        assert_eq!(
            endpoint_of(&[], &[COLLECTOR]),
            "http://collector:4318/v1/traces"
        );
    }

    #[test]
    fn an_address_of_traces_alone_is_taken_as_it_is() {
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://tempo/in");
        assert_eq!(endpoint_of(&[], &[COLLECTOR, traces]), "http://tempo/in");
    }

    #[test]
    fn another_protocol_is_not_spoken() {
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert_eq!(endpoint_of(&[], &[COLLECTOR, grpc]), "none");
        let flags = ["--otlp-endpoint", "http://here"];
        assert_eq!(endpoint_of(&flags, &[grpc]), "http://here/v1/traces");
    }

    #[test]
    fn the_service_is_called_by_the_flag_the_variable_or_its_own_name() {
        let name = |flags: &[&str], variables: &[(&str, &str)]| {
            let variables: Vec<_> = variables.iter().copied().chain([COLLECTOR]).collect();
            options(flags, &variables).unwrap().unwrap().service
        };
        let variable = [("OTEL_SERVICE_NAME", "mart")];
        assert_eq!(name(&["--service-name", "shop"], &variable), "shop");
        assert_eq!(name(&[], &variable), "mart");
        assert_eq!(name(&[], &[]), "headwater");
    }

    #[test]
    fn headers_are_read_and_not_shown() {
        let headers = "authorization=Bearer%20s3cret, x-scope = mart%";
        let headers: OtlpHeaders = headers.parse().unwrap();
        assert_eq!(headers.0["authorization"], "Bearer s3cret");
        assert_eq!(headers.0["x-scope"], "mart%");
        assert!(!format!("{headers:?} {:?}", headers.0).contains("s3cret"));
        for wrong in ["authorization", "a b=c", "a=\u{7f}"] {
            assert!(wrong.parse::<OtlpHeaders>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for wrong in ["collector:4318", "collector", "nats://collector", "http://"] {
            assert!(
                options(&["--otlp-endpoint", wrong], &[]).is_err(),
                "{wrong}"
            );
            let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", wrong)];
            let error = options(&[], &variables).unwrap_err();
            assert!(error.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{error}");
        }
        for wrong in ["1.1", "-0.1", "NaN", "half"] {
            let flag = format!("--trace-ratio={wrong}");
            assert!(options(&[&flag], &[]).is_err(), "{wrong}");
        }
    }
}
