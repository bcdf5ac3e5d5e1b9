//! Tokens of one's own: for development, for tests, and for those who are their own issuer.

use super::token;
use crate::permissions::create_private;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{fmt, fs, io::Write, path::Path, time::Duration};
use zeroize::Zeroizing;

/// A private key that signs tokens.
pub struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    /// By what its public half is found in a set.
    id: Option<String>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The claims of a token.
#[derive(Debug, Clone, Default)]
pub struct TokenClaims {
    /// The caller that it is about.
    pub subject: String,
    /// The scopes of that caller.
    pub scopes: Vec<String>,
    /// The time it counts from now on.
    pub lifetime: Duration,
    /// The issuer.
    pub issuer: Option<String>,
    /// For whom it is.
    pub audience: Option<String>,
}

/// The same as it is written.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    sub: &'a str,
    scope: String,
    iat: i64,
    exp: i64,
}

impl Signer {
    /// Reads a private key in PEM (PKCS #8, or of RSA as PKCS #1): of Ed25519, of P-256 or P-384, or of RSA.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file; nothing of what is in it.
    pub fn read(file: &Path) -> Result<Self, String> {
        let wrong = |reason: &dyn fmt::Display| format!("{}: {reason}", file.display());
        let pem = fs::read(file).map_err(|error| wrong(&error))?;
        let pem = Zeroizing::new(pem);
        Self::of_pem(&pem).ok_or_else(|| wrong(&"it has no private key that signs tokens, in PEM"))
    }

    /// Makes a new key of P-256, in a file that nobody else can read.
    ///
    /// # Errors
    ///
    /// Returns why the file cannot be made, also where there is one.
    pub fn create(file: &Path) -> Result<Self, String> {
        let wrong = |reason: &dyn fmt::Display| format!("{}: {reason}", file.display());
        let made =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let made = made.map_err(|error| wrong(&error))?;
        let pem = Zeroizing::new(pem_of(made.as_ref()));
        let written = create_private(file).and_then(|mut file| file.write_all(pem.as_bytes()));
        written.map_err(|error| wrong(&error))?;
        Self::of_pem(pem.as_bytes()).ok_or_else(|| wrong(&"the key that was made cannot be read"))
    }

    fn of_pem(pem: &[u8]) -> Option<Self> {
        use Algorithm::{ES256, ES384, EdDSA, RS256};
        let kinds: [(_, &[Algorithm]); 3] = [
            (EncodingKey::from_ed_pem(pem), &[EdDSA]),
            (EncodingKey::from_ec_pem(pem), &[ES256, ES384]),
            (EncodingKey::from_rsa_pem(pem), &[RS256]),
        ];
        for (key, algorithms) in kinds {
            let Ok(key) = key else { continue };
            for &algorithm in algorithms {
                let signer = Self {
                    key: key.clone(),
                    algorithm,
                    id: None,
                };
                // What it is of shows in whether it signs.
                if signer.sign(&Header::new(algorithm), &()).is_ok() {
                    return Some(signer.named());
                }
            }
        }
        None
    }

    /// Gives it the name by which its public half is found: the thumbprint of that (RFC 7638).
    fn named(self) -> Self {
        let id = self.public().map(|jwk| {
            let [x, y] = ["x", "y"].map(|name| jwk[name].as_str().unwrap_or_default());
            let of = format!(r#"{{"crv":{},"kty":"EC","x":"{x}","y":"{y}"}}"#, jwk["crv"]);
            URL_SAFE_NO_PAD.encode(Sha256::digest(of))
        });
        Self { id, ..self }
    }

    /// Says that this is the name of the key.
    #[must_use]
    pub fn with_id(self, id: String) -> Self {
        Self {
            id: Some(id),
            ..self
        }
    }

    /// The public half, of a key of P-256 or P-384.
    fn public(&self) -> Option<serde_json::Value> {
        if !matches!(self.algorithm, Algorithm::ES256 | Algorithm::ES384) {
            return None;
        }
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).ok()?;
        let mut jwk = serde_json::to_value(jwk).ok()?;
        jwk["use"] = "sig".into();
        if let Some(id) = &self.id {
            jwk["kid"] = id.as_str().into();
        }
        Some(jwk)
    }

    /// The JWK set that tokens of this key are verified with; `None` of a key that is not of P-256 or P-384.
    #[must_use]
    pub fn key_set(&self) -> Option<String> {
        let keys = serde_json::json!({ "keys": [self.public()?] });
        Some(keys.to_string())
    }

    /// Makes a token.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be signed.
    pub fn token(&self, claims: &TokenClaims) -> Result<String, String> {
        let mut header = Header::new(self.algorithm);
        header.kid.clone_from(&self.id);
        let now = token::now();
        let lifetime = i64::try_from(claims.lifetime.as_secs()).unwrap_or(i64::MAX);
        let written = Written {
            iss: claims.issuer.as_deref(),
            aud: claims.audience.as_deref(),
            sub: &claims.subject,
            scope: claims.scopes.join(" "),
            iat: now,
            exp: now.saturating_add(lifetime),
        };
        self.sign(&header, &written)
    }

    fn sign(&self, header: &Header, claims: &impl Serialize) -> Result<String, String> {
        jsonwebtoken::encode(header, claims, &self.key).map_err(|error| error.to_string())
    }
}

/// A key in PKCS #8 as PEM (RFC 7468).
fn pem_of(pkcs8: &[u8]) -> String {
    let encoded = STANDARD.encode(pkcs8);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in encoded.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Access, AccessOptions, KeySource};
    use crate::caller::Action;

    const ED25519: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    fn claims() -> TokenClaims {
        TokenClaims {
            subject: "m-1".to_owned(),
            scopes: vec!["qry:product".to_owned(), "staff".to_owned()],
            lifetime: Duration::from_secs(60),
            issuer: Some("here".to_owned()),
            audience: Some("mart".to_owned()),
        }
    }

    #[tokio::test]
    async fn a_token_of_a_new_key_is_taken_by_its_own_set() {
        let folder = tempfile::tempdir().unwrap();
        let [key, keys] = ["key.pem", "keys.json"].map(|name| folder.path().join(name));
        let made = Signer::create(&key).unwrap();
        assert!(Signer::create(&key).is_err(), "one that is there stays");
        let signer = Signer::read(&key).unwrap();
        assert_eq!(signer.id, made.id);
        fs::write(&keys, signer.key_set().unwrap()).unwrap();
        let access = Access::guarded(AccessOptions {
            keys: KeySource::File(keys),
            issuer: Some("here".to_owned()),
            audience: Some("mart".to_owned()),
            leeway: Duration::ZERO,
            anonymous: Vec::new(),
        });
        let access = access.unwrap();
        let mut headers = async_nats::HeaderMap::new();
        let token = signer.token(&claims()).unwrap();
        headers.insert("Authorization", format!("Bearer {token}"));
        let who = access.identified(&Some(headers), None).await.unwrap();
        assert_eq!(who.caller.subject(), Some("m-1"));
        assert!(who.caller.has("staff"));
        assert!(who.may(Action::Query { view: "product" }).is_ok());
    }

    #[test]
    fn each_kind_of_key_is_told_by_what_is_in_it() {
        let signer = Signer::of_pem(ED25519.as_bytes()).unwrap();
        assert_eq!((signer.algorithm, &signer.id), (Algorithm::EdDSA, &None));
        assert_eq!(signer.key_set(), None);
        assert!(signer.token(&claims()).is_ok());
        for nothing in ["", "secret", "-----BEGIN PRIVATE KEY-----\nAAAA\n"] {
            assert!(Signer::of_pem(nothing.as_bytes()).is_none(), "{nothing}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_new_key_is_for_nobody_else() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        let signer = Signer::create(&file).unwrap();
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let secret = fs::read_to_string(&file).unwrap();
        let shown = format!("{signer:?}");
        assert!(!shown.contains(secret.lines().nth(1).unwrap()));
    }
}
