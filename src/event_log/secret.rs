//! The secret under which unique keys are hidden in the log.
//!
//! The log never forgets, and a plain hash of an e-mail address is found by trying addresses. So a key
//! stands in the log as its HMAC under a secret of the deployment or, where there is none, under the salt
//! of the log. `log.secret` holds that salt and a check value by which a replica with another secret is
//! told: two secrets would let one key be taken twice.

use super::{Append, AppendError, Epoch, EventLog, LoadError};
use crate::text::composed;
use async_nats::HeaderMap;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

/// The place where the salt and the check value stand.
pub(super) const SUBJECT: &str = "log.secret";
/// The time for which the log is taken to be still the same: it may be replaced without a sign.
const AGREED_FOR: Duration = Duration::from_secs(1);
/// The check value is the HMAC of this text.
const CHECKED: &str = "headwater";

/// A secret of a deployment, as the operator gives it. Its bytes are overwritten when nobody has it any more.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The least bytes of a secret.
    pub const MIN: usize = 16;

    /// Takes the content of a secret file; white space at its ends does not count.
    ///
    /// # Errors
    ///
    /// Returns a text that says so when it is shorter than [`Secret::MIN`] bytes.
    pub fn new(content: &[u8]) -> Result<Self, String> {
        let content = content.trim_ascii();
        if content.len() < Self::MIN {
            return Err(format!("a secret has at least {} bytes", Self::MIN));
        }
        Ok(Self(Arc::new(Zeroizing::new(content.to_vec()))))
    }
}

/// Hides keys.
#[derive(Clone)]
pub(super) struct Hider(Hmac<Sha256>);

impl Hider {
    fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes a secret of any length"))
    }

    /// The 64 hexadecimal digits of the HMAC of a text, however its letters are composed: what reads the
    /// same is one key.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut hmac = self.0.clone();
        hmac.update(composed(text).as_bytes());
        hexadecimal(&hmac.finalize().into_bytes())
    }
}

/// Bytes in hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The secret of this process, and the way to hide keys in the log.
#[derive(Default)]
pub(super) struct Hiding {
    secret: Option<Secret>,
    agreed: Mutex<Option<Agreed>>,
}

/// The fact that this process hides keys as the log has them.
#[derive(Clone)]
struct Agreed {
    epoch: Epoch,
    since: Instant,
    salt: String,
    hider: Hider,
}

impl std::fmt::Debug for Hiding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.secret.fmt(f)
    }
}

impl Hiding {
    fn agreed(&self) -> MutexGuard<'_, Option<Agreed>> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(secret: Option<Secret>) -> Self {
        Self {
            secret,
            agreed: Mutex::default(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    salt: String,
    check: String,
}

/// The secret cannot be used with this log.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The log's unique keys are hidden under another secret.
    #[error(
        "the unique keys of this log are hidden under another secret: give every replica the --secret-file that the log was begun with"
    )]
    Another,
    /// The log cannot be read or written now.
    #[error("the secret of the log cannot be looked up: {0}")]
    Unavailable(String),
}

impl From<SecretError> for LoadError {
    fn from(error: SecretError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Returns whether keys are hidden under the salt itself that stands in the log.
pub(super) fn is_salt(stored: &[u8]) -> bool {
    serde_json::from_slice::<Stored>(stored)
        .is_ok_and(|stored| Hider::new(stored.salt.as_bytes()).hide(CHECKED) == stored.check)
}

impl EventLog {
    /// Makes sure that this process hides keys as the log has them; the first one decides.
    ///
    /// # Errors
    ///
    /// Returns [`SecretError::Another`] when the log was begun under another secret.
    pub async fn agree_on_secret(&self) -> Result<(), SecretError> {
        self.hider().await.map(|_| ())
    }

    pub(super) async fn hider(&self) -> Result<Hider, SecretError> {
        let epoch = self.epoch();
        let agreed = self.0.hiding.agreed().clone();
        if let Some(agreed) = &agreed
            && agreed.epoch == epoch
            && agreed.since.elapsed() < AGREED_FOR
        {
            return Ok(agreed.hider.clone());
        }
        let since = Instant::now();
        let known = agreed.map(|agreed| agreed.salt);
        let (salt, hider) = self.agree(known).await?;
        *self.0.hiding.agreed() = Some(Agreed {
            epoch,
            since,
            salt,
            hider: hider.clone(),
        });
        Ok(hider)
    }

    /// Reads the salt of the log and how keys are hidden with it; writes it where there is none: the one
    /// that is known, since other replicas may know it too.
    async fn agree(&self, known: Option<String>) -> Result<(String, Hider), SecretError> {
        let away = |error: &dyn std::fmt::Display| SecretError::Unavailable(error.to_string());
        let salt = known.unwrap_or_else(|| hexadecimal(&rand::random::<[u8; 32]>()));
        loop {
            let stored = self.last_message(SUBJECT).await;
            if let Some(stored) = stored.map_err(|error| away(&error))? {
                let stored: Stored =
                    serde_json::from_slice(&stored.payload).map_err(|error| away(&error))?;
                let hider = self.hider_with(&stored.salt);
                return match hider.hide(CHECKED) == stored.check {
                    true => Ok((stored.salt, hider)),
                    false => Err(SecretError::Another),
                };
            }
            let check = self.hider_with(&salt).hide(CHECKED);
            let payload = serde_json::to_vec(&Stored {
                salt: salt.clone(),
                check,
            });
            let appended = self.append(Append {
                subject: SUBJECT.to_owned(),
                expected: 0,
                payload: payload.map_err(|error| away(&error))?.into(),
                headers: HeaderMap::new(),
            });
            match appended.await {
                // Whoever was first has decided.
                Ok(_) | Err(AppendError::LostRace) => {}
                Err(error) => return Err(away(&error)),
            }
        }
    }

    fn hider_with(&self, salt: &str) -> Hider {
        match &self.0.hiding.secret {
            Some(secret) => Hider::new(&secret.0),
            None => Hider::new(salt.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_enough_and_white_space_at_its_ends_does_not_count() {
        let hide = |secret: &[u8]| Hider::new(&Secret::new(secret).unwrap().0).hide("key");
        assert_eq!(hide(b"0123456789abcdef"), hide(b"\n 0123456789abcdef\r\n"));
        assert_ne!(hide(b"0123456789abcdef"), hide(b"0123456789abcdeg"));
        for short in [&b""[..], b"0123456789abcde", b"  0123456789abcde  "] {
            let error = Secret::new(short).unwrap_err();
            assert!(error.contains("16 bytes"), "{error}");
        }
    }

    #[test]
    fn keys_are_hidden_as_hmac_sha256_has_it() {
        // RFC 4231, test case 2.
        assert_eq!(
            Hider::new(b"Jefe").hide("what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_key_is_one_however_its_letters_are_composed() {
        let hider = Hider::new(b"Jefe");
        assert_eq!(hider.hide("jos\u{e9}"), hider.hide("jose\u{301}"));
        assert_eq!(hider.hide("한"), hider.hide("\u{1112}\u{1161}\u{11ab}"));
        assert_ne!(hider.hide("jose"), hider.hide("Jose"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new(b"0123456789abcdef").unwrap();
        let shown = format!("{:?} {secret:?}", Hiding::of(Some(secret.clone())));
        assert!(
            !shown.contains("0123") && !shown.contains("48, 49"),
            "{shown}"
        );
    }
}
