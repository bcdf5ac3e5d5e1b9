//! As whom a connection to NATS is made.
//!
//! What is in a file is read again for every connection, so that it can be renewed while the program runs.
//! Nothing here shows a password, a token or a seed.

use crate::percent;
use async_nats::{Auth, AuthError, ConnectOptions, ServerAddr};
use nkeys::{KeyPair, KeyPairType};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// As whom to connect.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum SignIn {
    /// As the address says, if it says anything.
    #[default]
    AsAddressed,
    /// With a user and a password.
    User {
        /// The user.
        user: String,
        /// Its password.
        password: String,
    },
    /// With a token.
    Token(String),
    /// With the JWT and the seed of a file as `nsc` writes it.
    Credentials(PathBuf),
    /// With the seed of a file.
    NKey(PathBuf),
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsAddressed => "AsAddressed",
            Self::User { .. } => "User(…)",
            Self::Token(_) => "Token(…)",
            Self::Credentials(_) => "Credentials(…)",
            Self::NKey(_) => "NKey(…)",
        })
    }
}

impl SignIn {
    /// Reads what there is to read, and puts what the addresses say in the place of nothing.
    pub(super) fn resolved(&self, servers: &[ServerAddr]) -> Result<Option<Self>, String> {
        let addressed = in_addresses(servers)?;
        match self {
            Self::AsAddressed => return Ok(addressed),
            _ if addressed.is_some() => {
                return Err(
                    "--nats has a user, password or token in an address, and another flag says who connects too: give one of both"
                        .to_owned(),
                );
            }
            Self::User { .. } | Self::Token(_) => {}
            Self::Credentials(file) => {
                Credentials::read(file)?;
            }
            Self::NKey(file) => {
                seed(file)?;
            }
        }
        Ok(Some(self.clone()))
    }

    /// The options of a connection that is made so.
    pub(super) fn options(self) -> ConnectOptions {
        match self {
            Self::AsAddressed => ConnectOptions::new(),
            Self::User { user, password } => ConnectOptions::with_user_and_password(user, password),
            Self::Token(token) => ConnectOptions::with_token(token),
            Self::Credentials(file) => ConnectOptions::with_auth_callback(move |nonce| {
                let auth = Credentials::read(&file).and_then(|read| read.auth(&nonce));
                std::future::ready(auth.map_err(AuthError::new))
            }),
            Self::NKey(file) => ConnectOptions::with_auth_callback(move |nonce| {
                let auth = seed(&file).and_then(|key| {
                    let mut auth = Auth::new();
                    auth.nkey = Some(key.public_key());
                    auth.signature = Some(signed(&key, &nonce)?);
                    Ok(auth)
                });
                std::future::ready(auth.map_err(AuthError::new))
            }),
        }
    }

    /// Names what NATS has refused.
    pub(super) fn refused(this: Option<&Self>) -> String {
        match this {
            None => "a connection that does not say who it is; give --nats-user, --nats-token, --nats-creds or --nats-nkey".to_owned(),
            Some(Self::AsAddressed) => "the user, password or token in --nats".to_owned(),
            Some(Self::User { user, .. }) => format!("the user {user} or its password"),
            Some(Self::Token(_)) => "the token of --nats-token".to_owned(),
            Some(Self::Credentials(file)) => {
                format!("the credentials of --nats-creds {}", file.display())
            }
            Some(Self::NKey(file)) => {
                let key = seed(file).map(|key| format!(", {}", key.public_key()));
                let key = key.unwrap_or_default();
                format!("the nkey of --nats-nkey {}{key}", file.display())
            }
        }
    }
}

/// A JWT and the key that it is for.
struct Credentials {
    jwt: String,
    key: KeyPair,
}

impl Credentials {
    fn read(file: &Path) -> Result<Self, String> {
        let wrong =
            |reason: &dyn fmt::Display| format!("--nats-creds {}: {reason}", file.display());
        let content = fs::read_to_string(file).map_err(|error| wrong(&error))?;
        let jwt = block(&content, "NATS USER JWT")
            .filter(|jwt| jwt.split('.').count() == 3)
            .ok_or_else(|| wrong(&"it has no user JWT, as a credentials file of nsc has"))?;
        let seed = block(&content, "USER NKEY SEED").unwrap_or_default();
        let key = user_key(seed).ok_or_else(|| wrong(&"it has no seed of a user"))?;
        Ok(Self {
            jwt: jwt.to_owned(),
            key,
        })
    }

    fn auth(self, nonce: &[u8]) -> Result<Auth, String> {
        let mut auth = Auth::new();
        auth.signature = Some(signed(&self.key, nonce)?);
        auth.jwt = Some(self.jwt);
        Ok(auth)
    }
}

/// The line between `BEGIN` and `END` of this name.
fn block<'a>(content: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = content.lines().map(str::trim);
    lines.find(|line| line.starts_with("---") && line.contains("BEGIN") && line.contains(name))?;
    lines
        .find(|line| !line.is_empty())
        .filter(|line| !line.starts_with('-'))
}

/// The key of a file with a seed in it, bare or with lines around it.
fn seed(file: &Path) -> Result<KeyPair, String> {
    let wrong = |reason: &dyn fmt::Display| format!("--nats-nkey {}: {reason}", file.display());
    let content = fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let mut lines = content.lines().map(str::trim);
    let seed = lines.find(|line| line.starts_with('S'));
    seed.and_then(user_key)
        .ok_or_else(|| wrong(&"it has no seed of a user, SU…"))
}

fn user_key(seed: &str) -> Option<KeyPair> {
    let key = KeyPair::from_seed(seed).ok()?;
    (key.key_pair_type() == KeyPairType::User).then_some(key)
}

fn signed(key: &KeyPair, nonce: &[u8]) -> Result<Vec<u8>, String> {
    key.sign(nonce)
        .map_err(|_| "the key cannot sign".to_owned())
}

/// The one login of all addresses that have any.
fn in_addresses(servers: &[ServerAddr]) -> Result<Option<SignIn>, String> {
    let mut found: Option<(SignIn, &ServerAddr)> = None;
    for server in servers {
        let Some(login) = in_address(server)? else {
            continue;
        };
        match &found {
            // The client has one login for all servers.
            Some((other, first)) if *other != login => {
                return Err(format!(
                    "{} and {} have different users, passwords or tokens; give all servers the same",
                    super::shown_one(first),
                    super::shown_one(server)
                ));
            }
            Some(_) => {}
            None => found = Some((login, server)),
        }
    }
    Ok(found.map(|(login, _)| login))
}

fn in_address(server: &ServerAddr) -> Result<Option<SignIn>, String> {
    let text = |encoded: &str| {
        String::from_utf8(percent::decoded(encoded)).map_err(|_| {
            let server = super::shown_one(server);
            format!("the user, password or token of {server} is no UTF-8")
        })
    };
    Ok(match (server.username(), server.password()) {
        (None, None) => None,
        (Some(token), None) => Some(SignIn::Token(text(token)?)),
        (user, Some(password)) => Some(SignIn::User {
            user: text(user.unwrap_or_default())?,
            password: text(password)?,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::nats_servers;

    fn login(list: &str) -> Result<Option<SignIn>, String> {
        SignIn::AsAddressed.resolved(&nats_servers(list)?)
    }

    fn user(user: &str, password: &str) -> SignIn {
        SignIn::User {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    fn written(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, content).unwrap();
        (folder, file)
    }

    #[test]
    fn user_password_and_token_are_read_and_decoded() {
        assert_eq!(login("nats://a:4222"), Ok(None));
        let read = login("nats://us%65r:p%40ss@a:4222");
        assert_eq!(read, Ok(Some(user("user", "p@ss"))));
        let read = login("nats://t%2Fk@a");
        assert_eq!(read, Ok(Some(SignIn::Token("t/k".to_owned()))));
        let read = login("nats://u:p@a:4222,nats://b:4222, nats://u:p@c:4222");
        assert_eq!(read, Ok(Some(user("u", "p"))));
    }

    #[test]
    fn servers_with_different_logins_are_refused_without_saying_them() {
        let error = login("nats://u:secret1@a:4222,nats://u:secret2@b:4222").unwrap_err();
        assert!(error.contains("nats://a:4222"), "{error}");
        assert!(error.contains("nats://b:4222"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn who_connects_is_said_once() {
        let servers = nats_servers("nats://u:secret1@a:4222").unwrap();
        let error = user("v", "secret2").resolved(&servers).unwrap_err();
        assert!(error.contains("give one of both"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_seed_is_read_bare_or_with_lines_around_it() {
        let key = KeyPair::new_user();
        let bare = key.seed().unwrap();
        let decorated = format!(
            "-----BEGIN USER NKEY SEED-----\n{bare}\n------END USER NKEY SEED------\n\n*** do not share\n"
        );
        for content in [bare.clone(), format!("\n  {bare}\r\n"), decorated] {
            let (_folder, file) = written(&content);
            let read = seed(&file).map(|read| read.public_key());
            assert_eq!(read, Ok(key.public_key()));
        }
    }

    #[test]
    fn a_file_that_is_no_secret_of_a_user_is_said_without_its_content() {
        let account = KeyPair::new_account().seed().unwrap();
        let user = KeyPair::new_user().seed().unwrap();
        let jwt = "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n";
        let contents = [
            String::new(),
            account.clone(),
            user[..40].to_owned(),
            format!("{jwt}-----BEGIN USER NKEY SEED-----\n{account}\n---"),
            format!("{jwt}-----BEGIN USER NKEY SEED-----\n------END"),
        ];
        for content in contents {
            let (_folder, file) = written(&content);
            let kinds = [
                SignIn::Credentials(file.clone()),
                SignIn::NKey(file.clone()),
            ];
            for kind in kinds {
                let error = kind.resolved(&[]).unwrap_err();
                assert!(error.contains(file.to_str().unwrap()), "{error}");
                assert!(!error.contains(&account[..20]), "{error}");
                assert!(!error.contains(&user[..20]), "{error}");
            }
        }
        let (_folder, file) = written(&format!("{jwt}---BEGIN USER NKEY SEED---\n{user}\n---"));
        assert!(SignIn::Credentials(file.clone()).resolved(&[]).is_ok());
        assert!(SignIn::Credentials("nowhere".into()).resolved(&[]).is_err());
        assert_eq!(
            format!("{:?}", SignIn::Token(user)),
            "Token(…)",
            "a secret is not shown"
        );
    }
}
