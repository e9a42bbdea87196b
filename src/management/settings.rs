//! What the face is told by whoever starts it.

use super::{ClientId, DomainName, Scopes};
use crate::key::{Algorithm, BackendName, KeySetId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What the face is told by whoever starts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The key set behind each domain.
    pub domains: BTreeMap<DomainName, KeySetId>,
    /// Who may ask for access tokens.
    pub clients: BTreeMap<ClientId, ClientSettings>,
    /// How access tokens are made.
    pub tokens: Tokens,
    /// How often callers may ask.
    pub pace: Pace,
    /// Where Auth0's ways are less safe than ours, which of the two.
    pub auth0: Auth0,
}

/// One client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// How it proves who it is.
    pub credential: CredentialFile,
    /// What it may do.
    pub scopes: Scopes,
    /// Under which domains; empty: under all.
    pub domains: Vec<DomainName>,
}

/// The file that a client's proof is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialFile {
    /// The Argon2id hash of its secret, in PHC form.
    SecretHash(PathBuf),
    /// A JWKS with its public keys.
    PublicKeys(PathBuf),
}

/// How access tokens are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Where the keys that sign them are generated.
    pub backend: BackendName,
    /// What they are signed with.
    pub algorithm: Algorithm,
    /// How long one is valid.
    pub lifetime: Duration,
}

/// How often callers may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Calls of one client a second, in the long run.
    pub per_second: u32,
    /// Calls of one client at once.
    pub burst: u32,
    /// Rotations of one key set in 24 hours, asked for here.
    pub rotations_per_day: u32,
}

/// Where Auth0's ways are less safe than ours, which of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auth0 {
    /// What revoking a previous key does while its tokens are valid.
    pub revocation: Revocation,
    /// Whether the domain's JWKS says which algorithm a key is for.
    pub alg: AlgMember,
}

/// What revoking a previous key does while its tokens are valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Revocation {
    /// It revokes, as Auth0 does.
    #[default]
    AtOnce,
    /// It refuses.
    Guarded,
}

/// Whether the domain's JWKS says which algorithm a key is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlgMember {
    /// It does.
    #[default]
    Kept,
    /// It does not, so that one RSA key serves RS256 and PS256.
    LeftOut,
}
