//! A row of `keys`.

use super::state::StateColumns;
use super::{Impossible, Table, text, time, time_us};
use crate::key::{Curve, Key, Kid, PublicKey};
use base64ct::{Base64UrlUnpadded, Encoding};
use sqlx::FromRow;

/// A row of `keys`.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(in crate::store) struct KeyRow {
    pub(in crate::store) kid: String,
    pub(in crate::store) kid_bytes: Vec<u8>,
    pub(in crate::store) material: String,
    pub(in crate::store) key_set: String,
    pub(in crate::store) algorithm: String,
    pub(in crate::store) backend: String,
    pub(in crate::store) object: String,
    #[sqlx(flatten)]
    pub(in crate::store) public: PublicColumns,
    pub(in crate::store) certificate: Vec<u8>,
    pub(in crate::store) created_us: i64,
    #[sqlx(flatten)]
    pub(in crate::store) state: StateColumns,
}

impl Table for KeyRow {
    const NAME: &'static str = "keys";
    const KEY: &'static str = "kid";
}

impl From<&Key> for KeyRow {
    fn from(key: &Key) -> Self {
        Self {
            kid: key.kid.to_string(),
            kid_bytes: key.kid.as_bytes().to_vec(),
            material: key.material.to_string(),
            key_set: key.key_set.to_string(),
            algorithm: key.algorithm.to_string(),
            backend: key.backend.to_string(),
            object: key.object.clone(),
            public: PublicColumns::from(&key.public),
            certificate: key.certificate.clone(),
            created_us: time_us(key.created),
            state: StateColumns::from(&key.state),
        }
    }
}

impl TryFrom<KeyRow> for Key {
    type Error = Impossible;

    fn try_from(row: KeyRow) -> Result<Self, Impossible> {
        let kid: Kid = text("kid", &row.kid)?;
        if row.kid_bytes != kid.as_bytes() {
            return Err(Impossible::new("kid_bytes", "must be the bytes of kid"));
        }
        let public = row.public.public_key()?;
        let algorithm = text("algorithm", &row.algorithm)?;
        if !public.fits(algorithm) {
            return Err(Impossible::new("algorithm", "must fit the public key"));
        }
        Ok(Self {
            kid,
            material: text("material", &row.material)?,
            key_set: text("key_set", &row.key_set)?,
            algorithm,
            backend: text("backend", &row.backend)?,
            object: row.object,
            public,
            certificate: row.certificate,
            created: time("created_us", row.created_us)?,
            state: row.state.state()?,
        })
    }
}

/// A public key by the parts that JWK names (RFC 7518 section 6, RFC 8037 section 2), in base64url.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(in crate::store) struct PublicColumns {
    pub(in crate::store) kty: String,
    pub(in crate::store) n: Option<String>,
    pub(in crate::store) e: Option<String>,
    pub(in crate::store) crv: Option<String>,
    pub(in crate::store) x: Option<String>,
    pub(in crate::store) y: Option<String>,
}

impl From<&PublicKey> for PublicColumns {
    fn from(public: &PublicKey) -> Self {
        let part = |bytes: &[u8]| Some(Base64UrlUnpadded::encode_string(bytes));
        let empty = Self { kty: String::new(), n: None, e: None, crv: None, x: None, y: None };
        match public {
            PublicKey::Rsa { n, e } => {
                Self { kty: "RSA".to_owned(), n: part(n), e: part(e), ..empty }
            }
            PublicKey::Ec { curve, x, y } => Self {
                kty: "EC".to_owned(),
                crv: Some(curve.name().to_owned()),
                x: part(x),
                y: part(y),
                ..empty
            },
            PublicKey::Ed25519(x) => {
                Self { kty: "OKP".to_owned(), crv: Some("Ed25519".to_owned()), x: part(x), ..empty }
            }
        }
    }
}

impl PublicColumns {
    /// The public key, if these columns and no others make one.
    fn public_key(&self) -> Result<PublicKey, Impossible> {
        let public = match self.kty.as_str() {
            "RSA" => PublicKey::rsa(&bytes("n", &self.n)?, &bytes("e", &self.e)?)
                .map_err(|wrong| Impossible::new("n", wrong))?,
            "EC" => {
                let curve = [Curve::P256, Curve::P384, Curve::P521]
                    .into_iter()
                    .find(|curve| self.crv.as_deref() == Some(curve.name()))
                    .ok_or_else(|| Impossible::new("crv", "must be P-256, P-384 or P-521"))?;
                let (x, y) = (bytes("x", &self.x)?, bytes("y", &self.y)?);
                if x.len() != curve.coordinate_len() {
                    return Err(Impossible::new("x", "must be a coordinate in full length"));
                }
                PublicKey::ec(curve, &[&[4], x.as_slice(), &y].concat())
                    .map_err(|wrong| Impossible::new("y", wrong))?
            }
            "OKP" => PublicKey::ed25519(&bytes("x", &self.x)?)
                .map_err(|wrong| Impossible::new("x", wrong))?,
            _ => return Err(Impossible::new("kty", "must be RSA, EC or OKP")),
        };
        // What the key does not write back was written by somebody else.
        let whole = Self::from(&public);
        let same = [
            ("n", whole.n == self.n),
            ("e", whole.e == self.e),
            ("crv", whole.crv == self.crv),
            ("x", whole.x == self.x),
            ("y", whole.y == self.y),
        ];
        match same.into_iter().find(|(_, same)| !same) {
            Some((column, _)) => {
                Err(Impossible::new(column, format!("must be what a key of type {} has", self.kty)))
            }
            None => Ok(public),
        }
    }
}

fn bytes(column: &'static str, part: &Option<String>) -> Result<Vec<u8>, Impossible> {
    part.as_deref()
        .and_then(|part| Base64UrlUnpadded::decode_vec(part).ok())
        .ok_or_else(|| Impossible::new(column, "must be base64url without padding"))
}
