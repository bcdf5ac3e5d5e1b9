//! The keys of the issuer: a JWK set (RFC 7517), in a file or at an address.
//!
//! They are read again each hour, or as often as the issuer says, and at once when a token names a key that
//! is not there, but then at most every ten seconds, whoever sends what. When they cannot be read the last
//! ones stay. A secret that signs (HS256 and its kin) counts only in a file: at an address anybody may read it.

use super::token::Signed;
use http_client::{
    Client, StatusCode, Url,
    header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH},
    redirect,
};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde_json::Value;
use std::{
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// The most keys of a set, and its most bytes.
const MOST_KEYS: usize = 100;
const MOST_BYTES: usize = 256 * 1024;
/// The time a set is good for, unless the issuer says so, and at least and at the most.
const GOOD_FOR: Duration = Duration::from_secs(3_600);
const GOOD_FOR_AT_LEAST: Duration = Duration::from_secs(60);
/// The pause before they are asked for again when they could not be read.
const AGAIN: Duration = Duration::from_secs(30);
/// The same while there are none at all.
const AGAIN_WITHOUT: Duration = Duration::from_secs(2);
/// The least time between two readings because of a key that is not there.
const UNKNOWN_EVERY: Duration = Duration::from_secs(10);
/// The time the issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The number of keys that are tried for a token that does not name one.
const MOST_TRIED: usize = 8;

/// The place of the keys that sign tokens.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// Nowhere: no token is believed.
    None,
    /// In a file.
    File(PathBuf),
    /// At an address: `https`, or `http` on this very machine.
    Address(Url),
}

impl KeySource {
    /// Reads where the keys are: an address, or else the name of a file.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with an address.
    pub fn read(text: &str) -> Result<Self, String> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        if scheme.is_none() {
            return Ok(Self::File(text.into()));
        }
        let url: Url = text.parse().map_err(|_| "not an address".to_owned())?;
        let local = match url.host_str() {
            Some("localhost" | "127.0.0.1" | "[::1]") => true,
            Some(_) => false,
            None => return Err("the address names no host".to_owned()),
        };
        match url.scheme() {
            "https" => Ok(Self::Address(url)),
            "http" if local => Ok(Self::Address(url)),
            "http" => Err(
                "whoever is in between could put keys of their own in the place of these: use https"
                    .to_owned(),
            ),
            _ => Err("not an address of HTTP".to_owned()),
        }
    }
}

/// The result of looking for the key that has signed a token.
pub(super) enum Found {
    Verified,
    Wrong,
    Unknown,
}

/// The keys, as they are now.
pub(super) struct Keys {
    source: KeySource,
    client: Option<Client>,
    set: RwLock<Option<Arc<KeySet>>>,
    /// Which set it is: another number is another set.
    number: AtomicU64,
    reading: Mutex<Reading>,
}

/// Held while the keys are read.
#[derive(Default)]
struct Reading {
    /// The time when a token last had them read.
    for_unknown: Option<Instant>,
    tag: Option<HeaderValue>,
    text: Vec<u8>,
    good_until: Option<Instant>,
}

struct KeySet(Vec<Key>);

struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl Keys {
    pub(super) fn new(source: KeySource) -> Result<Self, String> {
        let client = match &source {
            KeySource::Address(_) => {
                let client = Client::builder()
                    .timeout(PATIENCE)
                    .redirect(redirect::Policy::none())
                    .build();
                Some(client.map_err(|error| error.to_string())?)
            }
            KeySource::None | KeySource::File(_) => None,
        };
        let set = match &source {
            KeySource::None => Some(KeySet(Vec::new())),
            KeySource::File(file) => {
                let wrong = |reason: String| format!("{}: {reason}", file.display());
                let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
                Some(KeySet::read(&text, true).map_err(wrong)?)
            }
            KeySource::Address(_) => None,
        };
        Ok(Self {
            source,
            client,
            set: RwLock::new(set.map(Arc::new)),
            number: AtomicU64::new(0),
            reading: Mutex::default(),
        })
    }

    /// Which set it is.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Returns whether they could be read at least once.
    pub(super) fn are_there(&self) -> bool {
        self.set().is_some()
    }

    fn set(&self) -> Option<Arc<KeySet>> {
        let set = self.set.read();
        set.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks whether one of the keys has signed a token.
    pub(super) fn verify(&self, signed: &Signed<'_>) -> Found {
        let Some(set) = self.set() else {
            return Found::Unknown;
        };
        let mut candidates = set.candidates(signed).take(MOST_TRIED).peekable();
        if candidates.peek().is_none() {
            return Found::Unknown;
        }
        let is_of = |key: &Key| {
            jsonwebtoken::crypto::verify(
                signed.signature,
                signed.message,
                &key.key,
                signed.algorithm,
            )
            .unwrap_or(false)
        };
        match candidates.any(is_of) {
            true => Found::Verified,
            // It may be of one that is not here yet.
            false if signed.key_id.is_none() => Found::Unknown,
            false => Found::Wrong,
        }
    }

    /// Reads them again for a token that names one that is not there, unless that was done a moment ago.
    pub(super) async fn look_again(&self) {
        let mut reading = self.reading.lock().await;
        let lately = reading
            .for_unknown
            .is_some_and(|then| then.elapsed() < UNKNOWN_EVERY);
        if lately {
            return;
        }
        reading.for_unknown = Some(Instant::now());
        self.read(&mut reading).await;
    }

    /// Reads them again and again, whenever they are no longer good.
    pub(super) async fn keep(&self) {
        loop {
            let pause = {
                let mut reading = self.reading.lock().await;
                let left = |until: Instant| until.checked_duration_since(Instant::now());
                match reading.good_until.and_then(left) {
                    Some(left) => left,
                    None => self.read(&mut reading).await,
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns how long they are good for.
    async fn read(&self, reading: &mut Reading) -> Duration {
        let read = match (&self.source, &self.client) {
            (KeySource::Address(url), Some(client)) => ask(client, url, reading).await,
            (KeySource::File(file), _) => match tokio::fs::read(file).await {
                Ok(text) => Ok((Some(text), GOOD_FOR)),
                Err(error) => Err(error.to_string()),
            },
            _ => return GOOD_FOR,
        };
        let read = read.and_then(|(text, good_for)| {
            if let Some(text) = text.filter(|text| *text != reading.text) {
                self.put(KeySet::read(
                    &text,
                    matches!(self.source, KeySource::File(_)),
                )?);
                reading.text = text;
            }
            Ok(good_for)
        });
        let good_for = match read {
            Ok(good_for) => good_for,
            Err(reason) => {
                // What was not taken is asked for whole again.
                reading.tag = None;
                tracing::warn!(
                    %reason,
                    kept = self.are_there(),
                    "the keys that sign tokens cannot be read; the last ones stay"
                );
                match self.are_there() {
                    true => AGAIN,
                    false => AGAIN_WITHOUT,
                }
            }
        };
        reading.good_until = Some(Instant::now() + good_for);
        good_for
    }

    fn put(&self, set: KeySet) {
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(set));
        // After it: who has the new number has the new set.
        self.number.fetch_add(1, Ordering::Release);
    }
}

/// Asks an issuer; returns no text where it is as it was, and how long it is good for.
async fn ask(
    client: &Client,
    url: &Url,
    reading: &mut Reading,
) -> Result<(Option<Vec<u8>>, Duration), String> {
    let failed = |error: http_client::Error| error.without_url().to_string();
    let mut request = client.get(url.clone());
    if let Some(tag) = &reading.tag {
        request = request.header(IF_NONE_MATCH, tag.clone());
    }
    let mut response = request.send().await.map_err(failed)?;
    let good_for = good_for(response.headers());
    match response.status() {
        StatusCode::NOT_MODIFIED if reading.tag.is_some() => return Ok((None, good_for)),
        StatusCode::OK => {}
        status => return Err(format!("the issuer answers {status}")),
    }
    let tag = response.headers().get(ETAG).cloned();
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        text.extend_from_slice(&chunk);
        if text.len() > MOST_BYTES {
            return Err(format!("the set has more than {MOST_BYTES} bytes"));
        }
    }
    reading.tag = tag;
    Ok((Some(text), good_for))
}

/// Returns how long the issuer says that a set is good for.
fn good_for(headers: &HeaderMap) -> Duration {
    let values = headers.get_all(CACHE_CONTROL).iter();
    let directives = values.filter_map(|value| value.to_str().ok());
    let mut directives = directives.flat_map(|value| value.split(','));
    let age = directives.find_map(|one| {
        let (name, seconds) = one.trim().split_once('=')?;
        let is_age = name.trim().eq_ignore_ascii_case("max-age");
        is_age.then(|| seconds.trim().trim_matches('"').parse().ok())?
    });
    let age = age.map_or(GOOD_FOR, Duration::from_secs);
    age.clamp(GOOD_FOR_AT_LEAST, GOOD_FOR)
}

impl KeySet {
    /// Reads a set. A key that is of no use here is left out (RFC 7517, 5).
    fn read(text: &[u8], with_secrets: bool) -> Result<Self, String> {
        let no_set = || "it is no JWK set".to_owned();
        let set: Value = serde_json::from_slice(text).map_err(|_| no_set())?;
        let keys = set["keys"].as_array().ok_or_else(no_set)?;
        if keys.len() > MOST_KEYS {
            return Err(format!("the set has more than {MOST_KEYS} keys"));
        }
        let keys = keys.iter().filter_map(|key| Key::read(key, with_secrets));
        let keys: Vec<Key> = keys.collect();
        match keys.is_empty() {
            true => Err("the set has no key that a token can be verified with".to_owned()),
            false => Ok(Self(keys)),
        }
    }

    /// The keys that may have signed a token: the one that it names, or where it names none, those of its
    /// algorithm.
    fn candidates<'a>(&'a self, signed: &'a Signed<'_>) -> impl Iterator<Item = &'a Key> {
        let named = signed.key_id.as_deref();
        self.0.iter().filter(move |key| {
            (named.is_none() || key.id.as_deref() == named)
                && key.algorithms.contains(&signed.algorithm)
        })
    }
}

impl Key {
    fn read(value: &Value, with_secrets: bool) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        let common = &jwk.common;
        if common
            .public_key_use
            .as_ref()
            .is_some_and(|usage| *usage != PublicKeyUse::Signature)
        {
            return None;
        }
        let verifies =
            |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
        if common
            .key_operations
            .as_ref()
            .is_some_and(|all| !verifies(all))
        {
            return None;
        }
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512};
        use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
        // A key of one kind never verifies a signature of another, whatever the token says.
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => vec![RS256, RS384, RS512, PS256, PS384, PS512],
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => vec![ES256],
                EllipticCurve::P384 => vec![ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                vec![EdDSA]
            }
            AlgorithmParameters::OctetKeyPair(_) => return None,
            AlgorithmParameters::OctetKey(_) if with_secrets => vec![HS256, HS384, HS512],
            AlgorithmParameters::OctetKey(_) => return None,
        };
        if let Some(only) = common.key_algorithm {
            let only: Algorithm = only.to_string().parse().ok()?;
            algorithms.retain(|one| *one == only);
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        (!algorithms.is_empty()).then_some(Self {
            id: jwk.common.key_id,
            algorithms,
            key,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_where_nobody_else_can_put_any() {
        for address in [
            "https://issuer.example/keys",
            "http://127.0.0.1:1/keys",
            "http://localhost/",
            "http://[::1]:1/",
        ] {
            let read = KeySource::read(address);
            assert!(matches!(read, Ok(KeySource::Address(_))), "{address}");
        }
        for wrong in [
            "http://issuer.example/",
            "ftp://a/",
            "https://",
            "http://127.0.0.1.example/",
        ] {
            assert!(KeySource::read(wrong).is_err(), "{wrong}");
        }
        assert!(matches!(
            KeySource::read("keys.json"),
            Ok(KeySource::File(_))
        ));
    }

    #[test]
    fn a_set_is_good_for_as_long_as_is_said_within_bounds() {
        let good = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
            good_for(&headers).as_secs()
        };
        assert_eq!(good_for(&HeaderMap::new()).as_secs(), 3_600);
        assert_eq!(good("public, max-age=600"), 600);
        assert_eq!(good("Max-Age = \"600\""), 600);
        assert_eq!(good("max-age=0"), 60);
        assert_eq!(good("max-age=999999"), 3_600);
        assert_eq!(good("no-store, max-age=x"), 3_600);
    }

    #[test]
    fn a_key_that_is_of_no_use_is_left_out() {
        let good = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a"}"#;
        let set = |key: &str| {
            let text = format!(r#"{{"keys":[{good},{key}]}}"#);
            KeySet::read(text.as_bytes(), false).unwrap().0.len()
        };
        let changed = |from: &str, to: &str| good.replace(from, to);
        assert_eq!(set(good), 2);
        for key in [
            "null".to_owned(),
            "{}".to_owned(),
            r#"{"kty":"new","x":1}"#.to_owned(),
            r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(),
            changed(r#""kid":"a""#, r#""use":"enc""#),
            changed(r#""kid":"a""#, r#""key_ops":["sign"]"#),
            changed(r#""kid":"a""#, r#""alg":"RS256""#),
            changed("Ed25519", "X25519"),
        ] {
            assert_eq!(set(&key), 1, "{key}");
        }
        for wrong in ["", "[]", "{}", r#"{"keys":[]}"#, r#"{"keys":{}}"#] {
            assert!(KeySet::read(wrong.as_bytes(), true).is_err(), "{wrong}");
        }
        let secret = br#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#;
        assert!(KeySet::read(secret, true).is_ok());
        assert!(KeySet::read(secret, false).is_err());
    }
}
