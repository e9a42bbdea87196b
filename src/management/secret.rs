//! Client secrets: kept as Argon2id hashes alone, and compared at a pace that a machine can afford.
//!
//! Argon2 is meant to be slow, so whoever may call it may also wear the service out. Therefore one
//! secret is looked at at a time; a wrong one keeps the place for four times as long as it took, so
//! that all the guesses of the world together cost a quarter of one core; and only so many wait. A
//! secret that has been right once is known again by a keyed hash that never leaves memory: who has
//! it does not stand in line with those who guess.

use super::ClientId;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

/// Secrets that may wait to be looked at.
const WAITING_MAX: usize = 64;
/// How long one waits at most; Auth0's clients give up after five seconds.
const WAIT_MAX: Duration = Duration::from_secs(4);
/// How much longer than it took a wrong secret keeps the place.
const REST: u32 = 3;
/// What hashes may ask for, so that a file from elsewhere does not stop the service.
const MEMORY_MAX_KIB: u32 = 256 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 8;
/// The shortest secret that is hashed, in characters.
const SECRET_MIN: usize = 20;
/// The longest.
const SECRET_MAX: usize = 512;

/// An Argon2id hash of a client's secret, in PHC form.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash(String);

impl SecretHash {
    /// The hash of `secret` with a salt of its own. Refuses a secret that could be guessed, or that
    /// is not the same in every encoding.
    pub fn of(secret: &SecretString) -> Result<Self, HashError> {
        let text = secret.expose_secret();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if !(SECRET_MIN..=SECRET_MAX).contains(&text.len()) || !text.bytes().all(plain) {
            return Err(HashError::Secret);
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| HashError::System(error.to_string()))?;
        let system = |error: argon2::password_hash::Error| HashError::System(error.to_string());
        let salt = SaltString::encode_b64(&salt).map_err(system)?;
        let hash = argon2().hash_password(text.as_bytes(), &salt).map_err(system)?;
        Ok(Self(hash.to_string()))
    }

    /// Whether it is one of `secret`. Slow by design.
    fn is_of(&self, secret: &SecretString) -> bool {
        PasswordHash::new(&self.0).is_ok_and(|hash| {
            argon2().verify_password(secret.expose_secret().as_bytes(), &hash).is_ok()
        })
    }
}

/// Argon2id with 19 MiB and two passes, for new hashes; a hash says by itself how it was made.
fn argon2() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

impl FromStr for SecretHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let text = text.trim();
        let hash = PasswordHash::new(text).map_err(|_| HashError::Hash)?;
        let params = Params::try_from(&hash).map_err(|_| HashError::Hash)?;
        let affordable = params.m_cost() <= MEMORY_MAX_KIB
            && params.t_cost() <= PASSES_MAX
            && params.p_cost() <= LANES_MAX;
        let complete = hash.hash.is_some() && hash.salt.is_some();
        if hash.algorithm == argon2::ARGON2ID_IDENT && affordable && complete {
            Ok(Self(text.to_owned()))
        } else {
            Err(HashError::Hash)
        }
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

/// Why there is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The secret is too short, too long, or has characters that encodings change.
    #[error("a secret must be {SECRET_MIN} to {SECRET_MAX} of A-Z, a-z, 0-9, and -._~")]
    Secret,
    /// The text is no hash that can be afforded.
    #[error(
        "must be an Argon2id hash in PHC form ($argon2id$v=19$…), with at most 256 MiB, 16 passes and 8 lanes; `signkeep management hash-secret` makes one"
    )]
    Hash,
    /// The system gave no random bytes, or too little memory.
    #[error("{0}")]
    System(String),
}

/// The one place at which secrets are looked at.
pub(super) struct Gate {
    place: Arc<Semaphore>,
    waiting: Semaphore,
    /// What a secret is compared with that nobody has.
    decoy: SecretHash,
    known: Mutex<HashMap<ClientId, [u8; 32]>>,
    key: [u8; 32],
}

/// Too many secrets wait to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

impl Gate {
    /// A gate for clients with these hashes; the decoy costs what the first of them does.
    pub(super) fn new<'a>(
        mut hashes: impl Iterator<Item = &'a SecretHash>,
    ) -> Result<Self, HashError> {
        let mut random = [0; 64];
        getrandom::fill(&mut random).map_err(|error| HashError::System(error.to_string()))?;
        let (key, decoy) = random.split_at(32);
        let decoy: String = decoy.iter().map(|byte| format!("{byte:02x}")).collect();
        let decoy = SecretString::from(decoy);
        let decoy = match hashes.next() {
            Some(hash) => hash.with_secret(&decoy)?,
            None => SecretHash::of(&decoy)?,
        };
        Ok(Self {
            place: Arc::new(Semaphore::new(1)),
            waiting: Semaphore::new(WAITING_MAX),
            decoy,
            known: Mutex::default(),
            key: key.try_into().unwrap_or_default(),
        })
    }

    /// Whether `secret` is the one of `client`; none: a client that has none, which takes as long.
    pub(super) async fn is_secret_of(
        &self,
        client: Option<(&ClientId, &SecretHash)>,
        secret: SecretString,
    ) -> Result<bool, Busy> {
        let mark = self.mark(&secret);
        if client.is_some_and(|(id, _)| self.known().get(id) == Some(&mark)) {
            return Ok(true);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| Busy)?;
        let place = timeout(WAIT_MAX, self.place.clone().acquire_owned()).await;
        // The semaphore is never closed.
        let place = place.map_err(|_late| Busy)?.map_err(|_closed| Busy)?;
        let hash = client.map_or(&self.decoy, |(_, hash)| hash).clone();
        let (tell, told) = oneshot::channel();
        // By itself: who hangs up does not make room for the next guess any sooner.
        tokio::spawn(async move {
            let began = Instant::now();
            let compared = tokio::task::spawn_blocking(move || hash.is_of(&secret)).await;
            let fits = compared.unwrap_or(false);
            let rest = began.elapsed() * REST;
            // That nobody waits for it any more changes nothing.
            let _ = tell.send(fits);
            if !fits {
                sleep(rest).await;
            }
            drop(place);
        });
        let fits = told.await.unwrap_or(false) && client.is_some();
        if let Some((id, _)) = client.filter(|_| fits) {
            self.known().insert(id.clone(), mark);
        }
        Ok(fits)
    }

    fn mark(&self, secret: &SecretString) -> [u8; 32] {
        Sha256::new().chain_update(self.key).chain_update(secret.expose_secret()).finalize().into()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<ClientId, [u8; 32]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SecretHash {
    /// A hash of `secret` that costs what this one does.
    fn with_secret(&self, secret: &SecretString) -> Result<Self, HashError> {
        let parsed = PasswordHash::new(&self.0).map_err(|_| HashError::Hash)?;
        let params = Params::try_from(&parsed).map_err(|_| HashError::Hash)?;
        let salt = parsed.salt.ok_or(HashError::Hash)?;
        let secret = secret.expose_secret().as_bytes();
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash = argon2.hash_password(secret, salt);
        hash.map(|hash| Self(hash.to_string()))
            .map_err(|error| HashError::System(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "correct-horse-battery-staple";

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn a_hash_is_read_back_and_one_that_is_none_or_too_dear_is_refused() {
        let hash = SecretHash::of(&secret(SECRET)).unwrap();
        assert_eq!(format!("{hash}\n").parse::<SecretHash>().unwrap(), hash);
        assert!(hash.is_of(&secret(SECRET)) && !hash.is_of(&secret("another")));
        assert!(!format!("{hash:?}").contains('$'));
        let text = hash.to_string();
        for wrong in [
            String::new(),
            SECRET.to_owned(),
            text.replace("argon2id", "argon2i"),
            text.replace("m=19456", "m=1945600"),
            text.replace("t=2", "t=2000"),
            text.rsplit_once('$').unwrap().0.to_owned(),
        ] {
            assert_eq!(wrong.parse::<SecretHash>(), Err(HashError::Hash), "{wrong}");
        }
    }

    #[test]
    fn a_secret_that_can_be_guessed_or_misread_is_not_hashed() {
        for text in [
            "",
            "short",
            &"x".repeat(513),
            "with spaces in between them",
            "per%25cent+and-plus-signs",
        ] {
            assert_eq!(SecretHash::of(&secret(text)), Err(HashError::Secret), "{text}");
        }
    }

    #[test]
    fn what_an_unknown_client_is_compared_with_costs_what_a_known_one_does() {
        let params = Params::new(8 * 1024, 3, 2, None).unwrap();
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let salt = SaltString::encode_b64(&[7; 16]).unwrap();
        let hash = argon2.hash_password(SECRET.as_bytes(), &salt).unwrap().to_string();
        let hash: SecretHash = hash.parse().unwrap();
        let gate = Gate::new([&hash].into_iter()).unwrap();
        let cost = |hash: &SecretHash| hash.0.split('$').nth(3).map(str::to_owned);
        assert_eq!(cost(&hash).as_deref(), Some("m=8192,t=3,p=2"));
        assert_eq!(cost(&gate.decoy), cost(&hash));
        assert!(hash.is_of(&secret(SECRET)));
    }

    #[tokio::test]
    async fn only_the_right_secret_of_the_right_client_fits() {
        let hash = SecretHash::of(&secret(SECRET)).unwrap();
        let gate = Gate::new([&hash].into_iter()).unwrap();
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        let theirs = SecretHash::of(&secret("another-secret-of-theirs")).unwrap();
        for _ in 0..2 {
            assert_eq!(gate.is_secret_of(Some((&one, &hash)), secret(SECRET)).await, Ok(true));
        }
        assert_eq!(gate.is_secret_of(Some((&other, &theirs)), secret(SECRET)).await, Ok(false));
        assert_eq!(gate.is_secret_of(Some((&one, &hash)), secret("wrong")).await, Ok(false));
        assert_eq!(gate.is_secret_of(None, secret(SECRET)).await, Ok(false));
    }

    #[tokio::test]
    async fn guesses_wait_in_a_bounded_line_and_who_is_known_passes_them() {
        let hash = SecretHash::of(&secret(SECRET)).unwrap();
        let gate = Arc::new(Gate::new([&hash].into_iter()).unwrap());
        let one: ClientId = "one".parse().unwrap();
        assert_eq!(gate.is_secret_of(Some((&one, &hash)), secret(SECRET)).await, Ok(true));
        // Nobody gets to the place while this is held.
        let held = gate.place.clone().acquire_owned().await.unwrap();
        let guesses: Vec<_> = (0..WAITING_MAX)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move { gate.is_secret_of(None, secret("guess")).await })
            })
            .collect();
        while gate.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.is_secret_of(None, secret("one too many")).await, Err(Busy));
        assert_eq!(gate.is_secret_of(Some((&one, &hash)), secret(SECRET)).await, Ok(true));
        guesses.iter().for_each(tokio::task::JoinHandle::abort);
        drop(held);
    }

    #[tokio::test]
    async fn a_wrong_secret_keeps_the_place_for_longer_than_it_took() {
        let hash = SecretHash::of(&secret(SECRET)).unwrap();
        let gate = Gate::new([&hash].into_iter()).unwrap();
        let began = Instant::now();
        assert_eq!(gate.is_secret_of(None, secret("guess")).await, Ok(false));
        let took = began.elapsed();
        assert_eq!(gate.place.available_permits(), 0, "the place must not be free at once");
        let _free = gate.place.acquire().await.unwrap();
        assert!(began.elapsed() > took * 2, "{:?} after {took:?}", began.elapsed());
    }
}
