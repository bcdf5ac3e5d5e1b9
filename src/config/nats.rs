//! The flags of a connection to NATS.

use crate::platform::{NatsAddress, NatsTls, SignIn, nats_servers};
use clap::Args;
use std::{ffi::OsString, path::PathBuf};

/// Which NATS is meant.
#[derive(Clone, Args)]
pub struct NatsConfig {
    /// The NATS servers to connect to, separated by commas
    #[arg(
        id = "nats",
        long = "nats",
        env = "HEADWATER_NATS",
        hide_env_values = true,
        default_value = "nats://127.0.0.1:4222",
        value_parser = servers
    )]
    pub servers: String,
    /// As whom to connect, and whom to believe.
    #[command(flatten)]
    pub access: NatsAccessConfig,
}

/// As whom to connect to NATS, and whom to believe.
// What is in an address, or in a file, is read again for every connection.
#[derive(Clone, Default, Args)]
pub struct NatsAccessConfig {
    /// The user at NATS
    #[arg(long, env = "HEADWATER_NATS_USER", requires = "nats_password")]
    pub nats_user: Option<String>,
    /// The user's password; better given as the variable, which other users do not see
    #[arg(
        long,
        env = "HEADWATER_NATS_PASSWORD",
        hide_env_values = true,
        requires = "nats_user"
    )]
    pub nats_password: Option<String>,
    /// The token at NATS; better given as the variable, which other users do not see
    #[arg(long, env = "HEADWATER_NATS_TOKEN", hide_env_values = true, conflicts_with_all = ["nats_user", "nats_creds", "nats_nkey"])]
    pub nats_token: Option<String>,
    /// The credentials file at NATS, with a JWT and a seed, as nsc writes it
    #[arg(long, env = "HEADWATER_NATS_CREDS", conflicts_with_all = ["nats_user", "nats_nkey"])]
    pub nats_creds: Option<PathBuf>,
    /// The file with the seed of the nkey at NATS
    #[arg(long, env = "HEADWATER_NATS_NKEY", conflicts_with = "nats_user")]
    pub nats_nkey: Option<PathBuf>,
    /// The certificates of the authorities that NATS is believed by, in PEM; the system's unless given.
    /// Nothing is sent without TLS then
    #[arg(long, env = "HEADWATER_NATS_CA")]
    pub nats_ca: Option<PathBuf>,
    /// The certificate that is shown to NATS, in PEM
    #[arg(long, env = "HEADWATER_NATS_CERT", requires = "nats_key")]
    pub nats_cert: Option<PathBuf>,
    /// The file with the certificate's private key, in PEM
    #[arg(long, env = "HEADWATER_NATS_KEY", requires = "nats_cert")]
    pub nats_key: Option<PathBuf>,
    /// NATS wants TLS before anything else, as its handshake_first says
    #[arg(long, env = "HEADWATER_NATS_TLS_FIRST")]
    pub nats_tls_first: bool,
}

/// `headwater nats-config`.
#[derive(Debug, Clone, Args)]
pub struct NatsFilesConfig {
    /// The folder to write to. Seeds that are there already are kept: delete one, and it is made anew
    #[arg(long, env = "HEADWATER_OUT")]
    pub out: PathBuf,
}

impl std::fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.access.at(&self.servers).fmt(f)
    }
}

impl std::fmt::Debug for NatsAccessConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.sign_in().fmt(f)
    }
}

impl NatsConfig {
    /// Returns where NATS is and how to connect to it, when all that it takes can be read.
    ///
    /// # Errors
    ///
    /// Returns the flag at fault and what is wrong with it, without any secret.
    pub fn address(&self) -> Result<NatsAddress, String> {
        self.access.address(&self.servers)
    }
}

impl NatsAccessConfig {
    /// Returns how to connect to these servers, when all that it takes can be read.
    ///
    /// # Errors
    ///
    /// As [`NatsConfig::address`].
    pub fn address(&self, servers: &str) -> Result<NatsAddress, String> {
        let address = self.at(servers);
        address.check().map(|()| address)
    }

    fn at(&self, servers: &str) -> NatsAddress {
        NatsAddress {
            servers: servers.to_owned(),
            sign_in: self.sign_in(),
            tls: NatsTls {
                ca: self.nats_ca.clone(),
                certificate: self.nats_cert.clone().zip(self.nats_key.clone()),
                first: self.nats_tls_first,
            },
        }
    }

    fn sign_in(&self) -> SignIn {
        let user = self.nats_user.clone().zip(self.nats_password.clone());
        if let Some((user, password)) = user {
            SignIn::User { user, password }
        } else if let Some(token) = &self.nats_token {
            SignIn::Token(token.clone())
        } else if let Some(file) = &self.nats_creds {
            SignIn::Credentials(file.clone())
        } else if let Some(file) = &self.nats_nkey {
            SignIn::NKey(file.clone())
        } else {
            SignIn::AsAddressed
        }
    }
}

/// The variables that tell another run of this program how to connect: all of them, those that are not
/// set there too. On a command line others would see them.
#[must_use]
pub fn nats_variables(nats: &NatsAddress) -> [(&'static str, Option<OsString>); 10] {
    let (mut user, mut password, mut token, mut creds, mut nkey) = (None, None, None, None, None);
    match &nats.sign_in {
        SignIn::AsAddressed => {}
        SignIn::User {
            user: name,
            password: word,
        } => (user, password) = (Some(name.into()), Some(word.into())),
        SignIn::Token(text) => token = Some(text.into()),
        SignIn::Credentials(file) => creds = Some(file.into()),
        SignIn::NKey(file) => nkey = Some(file.into()),
    }
    let (cert, key) = nats.tls.certificate.clone().unzip();
    [
        ("HEADWATER_NATS", Some((&nats.servers).into())),
        ("HEADWATER_NATS_USER", user),
        ("HEADWATER_NATS_PASSWORD", password),
        ("HEADWATER_NATS_TOKEN", token),
        ("HEADWATER_NATS_CREDS", creds),
        ("HEADWATER_NATS_NKEY", nkey),
        ("HEADWATER_NATS_CA", nats.tls.ca.clone().map(Into::into)),
        ("HEADWATER_NATS_CERT", cert.map(Into::into)),
        ("HEADWATER_NATS_KEY", key.map(Into::into)),
        (
            "HEADWATER_NATS_TLS_FIRST",
            nats.tls.first.then(|| "true".into()),
        ),
    ]
}

/// Refuses a list of servers that cannot be read while nothing has been begun.
pub(super) fn servers(list: &str) -> Result<String, String> {
    nats_servers(list).map(|_| list.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        nats: NatsConfig,
    }

    fn read(flags: &[&str]) -> Result<NatsConfig, clap::Error> {
        let flags = std::iter::once(&"test").chain(flags);
        Flags::try_parse_from(flags).map(|flags| flags.nats)
    }

    #[test]
    fn who_connects_is_said_in_one_way() {
        let ways: [&[&str]; 4] = [
            &["--nats-user", "u", "--nats-password", "p"],
            &["--nats-token", "t"],
            &["--nats-creds", "c"],
            &["--nats-nkey", "n"],
        ];
        for (first, one) in ways.iter().enumerate() {
            assert!(read(one).is_ok(), "{one:?}");
            for another in &ways[first + 1..] {
                let both = [*one, *another].concat();
                assert!(read(&both).is_err(), "{both:?}");
            }
        }
        for half in [
            "--nats-user",
            "--nats-password",
            "--nats-cert",
            "--nats-key",
        ] {
            assert!(read(&[half, "x"]).is_err(), "{half}");
        }
    }

    #[test]
    fn another_run_is_told_all_that_was_told_to_this_one() {
        let flags = [
            "--nats=nats://a",
            "--nats-user=u",
            "--nats-password=p",
            "--nats-ca=a.pem",
            "--nats-cert=c.pem",
            "--nats-key=k.pem",
            "--nats-tls-first",
        ];
        let given = read(&flags).unwrap();
        let address = given.access.at(&given.servers);
        let flags: Vec<String> = nats_variables(&address)
            .into_iter()
            .filter_map(|(name, value)| {
                let name = name.strip_prefix("HEADWATER_")?.to_lowercase();
                let value = value?.into_string().ok()?;
                Some(match name.as_str() {
                    "nats_tls_first" => format!("--{}", name.replace('_', "-")),
                    _ => format!("--{}={value}", name.replace('_', "-")),
                })
            })
            .collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let again = read(&flags).unwrap();
        assert_eq!(again.access.at(&again.servers), address);
        let shown = format!("{given:?}");
        assert!(!shown.contains("\"p\""), "{shown}");
    }
}
