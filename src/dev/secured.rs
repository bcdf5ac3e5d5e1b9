//! `dev` with everything closed: users of NATS by their parts, and tokens of a key of its own.

use crate::{
    access::{Access, AccessOptions, KeySource, Signer, TokenClaims},
    permissions::{UserFiles, make_private_folder},
    platform::{NatsAddress, SignIn},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The issuer of the tokens.
const ISSUER: &str = "headwater dev";
/// The time a token counts.
const LIFETIME: Duration = Duration::from_secs(12 * 3_600);
const KEY: &str = "signing-key.pem";
const KEY_SET: &str = "keys.json";

/// The keys of a system on one machine where nobody may more than they have to. They are made in a folder of
/// their own, once.
#[derive(Debug)]
pub struct Secured {
    folder: PathBuf,
    signer: Signer,
    users: UserFiles,
    audience: String,
}

impl Secured {
    /// Reads the keys of this folder, or makes them; tokens are for `audience`.
    ///
    /// # Errors
    ///
    /// Returns the file at fault and what is wrong with it.
    pub fn open(folder: &Path, audience: &str) -> Result<Self, String> {
        let wrong = |file: &Path, error: std::io::Error| format!("{}: {error}", file.display());
        make_private_folder(folder).map_err(|error| wrong(folder, error))?;
        let key = folder.join(KEY);
        let signer = match key.exists() {
            true => Signer::read(&key)?,
            false => Signer::create(&key)?,
        };
        let keys = folder.join(KEY_SET);
        let set = signer.key_set();
        let set = set.ok_or_else(|| format!("{}: not the key that was made", key.display()))?;
        fs::write(&keys, set).map_err(|error| wrong(&keys, error))?;
        Ok(Self {
            users: UserFiles::write(folder)?,
            folder: folder.to_owned(),
            signer,
            audience: audience.to_owned(),
        })
    }

    /// Finds out who asks by tokens of this key, and lets who shows none do this alone.
    ///
    /// # Errors
    ///
    /// As [`Access::guarded`].
    pub fn access(&self, anonymous: Vec<String>) -> Result<Access, String> {
        Access::guarded(AccessOptions {
            keys: KeySource::File(self.folder.join(KEY_SET)),
            issuer: Some(ISSUER.to_owned()),
            audience: Some(self.audience.clone()),
            leeway: Duration::ZERO,
            anonymous,
        })
    }

    /// Makes a token that counts for twelve hours.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be signed.
    pub fn token(&self, subject: &str, scopes: &[&str]) -> Result<String, String> {
        self.signer.token(&TokenClaims {
            subject: subject.to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            lifetime: LIFETIME,
            issuer: Some(ISSUER.to_owned()),
            audience: Some(self.audience.clone()),
        })
    }

    /// The configuration that the server includes.
    #[must_use]
    pub fn server_config(&self) -> PathBuf {
        self.users.config()
    }

    /// The file with the seed of the operator at NATS.
    #[must_use]
    pub fn operator(&self) -> PathBuf {
        self.users.seed("operator")
    }

    /// The address and the sign-in of the replica.
    pub(super) fn replica_at(&self, servers: String) -> NatsAddress {
        address(servers, self.users.seed("replica"))
    }

    /// The address and the sign-in of the operator.
    pub(super) fn operator_at(&self, servers: String) -> NatsAddress {
        address(servers, self.operator())
    }
}

/// The address and the sign-in of a user of this seed.
fn address(servers: String, seed: PathBuf) -> NatsAddress {
    NatsAddress {
        servers,
        sign_in: SignIn::NKey(seed),
        ..NatsAddress::default()
    }
}
