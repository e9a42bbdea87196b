//! Who may ask for access tokens, and what proves who they are.

use super::assertion::Replays;
use super::secret::{Busy, Gate, HashError, SecretHash};
use super::settings::{ClientSettings, CredentialFile};
use super::{ClientId, DomainName, OpenError, Scopes};
use crate::jose::foreign::{ForeignKey, InvalidJwk};
use secrecy::SecretString;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The longest file that is read for a client, in bytes.
const FILE_MAX: u64 = 64 * 1024;
/// The most public keys of one client.
const KEYS_MAX: usize = 16;

/// Every client, and what is needed to know one.
pub(super) struct Clients {
    all: BTreeMap<ClientId, Client>,
    gate: Gate,
    pub(super) replays: Replays,
}

/// One client.
pub(super) struct Client {
    credential: Credential,
    /// What it may do.
    pub(super) scopes: Scopes,
    /// Under which domains; empty: under all.
    domains: Vec<DomainName>,
}

enum Credential {
    Secret(SecretHash),
    Keys(Vec<ForeignKey>),
}

impl Clients {
    /// Reads the files of every client. `port` stands for the port 0 in their domains.
    pub(super) fn open(
        settings: &BTreeMap<ClientId, ClientSettings>,
        port: u16,
    ) -> Result<Self, OpenError> {
        let mut all = BTreeMap::new();
        for (id, client) in settings {
            let credential = Credential::read(&client.credential)
                .map_err(|(file, why)| ClientError { client: id.clone(), file, why })?;
            let scopes = client.scopes.clone();
            let domains = client.domains.iter().map(|domain| domain.at(port)).collect();
            all.insert(id.clone(), Client { credential, scopes, domains });
        }
        let hashes = all.values().filter_map(|client: &Client| match &client.credential {
            Credential::Secret(hash) => Some(hash),
            Credential::Keys(_) => None,
        });
        let gate = Gate::new(hashes)?;
        Ok(Self { all, gate, replays: Replays::default() })
    }

    /// The client of that name, if it has business under `domain`.
    pub(super) fn find(&self, id: &str, domain: &DomainName) -> Option<(&ClientId, &Client)> {
        let (id, client) = self.all.get_key_value(&id.parse::<ClientId>().ok()?)?;
        let here = client.domains.is_empty() || client.domains.contains(domain);
        here.then_some((id, client))
    }

    /// The client that `id` and `secret` prove to be there. One that does not exist takes as long
    /// as one that does.
    pub(super) async fn by_secret(
        &self,
        id: &str,
        secret: SecretString,
        domain: &DomainName,
    ) -> Result<Option<(&ClientId, &Client)>, Busy> {
        let found = self.find(id, domain);
        let hash = found.and_then(|(id, client)| match &client.credential {
            Credential::Secret(hash) => Some((id, hash)),
            Credential::Keys(_) => None,
        });
        let fits = self.gate.is_secret_of(hash, secret).await?;
        Ok(found.filter(|_| fits))
    }
}

impl Client {
    /// Its public keys; empty if it has a secret.
    pub(super) fn keys(&self) -> &[ForeignKey] {
        match &self.credential {
            Credential::Keys(keys) => keys,
            Credential::Secret(_) => &[],
        }
    }
}

impl Credential {
    fn read(file: &CredentialFile) -> Result<Self, (PathBuf, Why)> {
        match file {
            CredentialFile::SecretHash(file) => {
                let hash = text(file).and_then(|text| Ok(text.parse()?));
                hash.map(Self::Secret).map_err(|why| (file.clone(), why))
            }
            CredentialFile::PublicKeys(file) => {
                let keys = text(file).and_then(|text| keys(&text));
                keys.map(Self::Keys).map_err(|why| (file.clone(), why))
            }
        }
    }
}

fn text(file: &Path) -> Result<String, Why> {
    use io::Read;
    // Asked of the path first: opening a pipe would wait for whoever writes to it.
    if !std::fs::metadata(file)?.is_file() {
        return Err(Why::Read(io::Error::other("it is not a regular file")));
    }
    let mut text = String::new();
    std::fs::File::open(file)?.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn keys(text: &str) -> Result<Vec<ForeignKey>, Why> {
    let set: Value = serde_json::from_str(text).map_err(|_| Why::JwkSet)?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or(Why::JwkSet)?;
    if !(1..=KEYS_MAX).contains(&keys.len()) {
        return Err(Why::JwkSet);
    }
    keys.iter().map(|jwk| Ok(ForeignKey::from_jwk(jwk)?)).collect()
}

/// A client whose file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the client {client}: {}: {why}", file.display())]
pub struct ClientError {
    client: ClientId,
    file: PathBuf,
    why: Why,
}

/// What is wrong with a client's file.
#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error("must be a JWKS, {{\"keys\": […]}}, with 1 to {KEYS_MAX} public keys")]
    JwkSet,
    #[error("a JWK in it {0}")]
    Jwk(#[from] InvalidJwk),
}
