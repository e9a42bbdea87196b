//! Keys in AWS KMS.
//!
//! The same life as on a token, on ground that differs: calls cost money, are throttled, fail
//! half-way, and show their effect late. So what was done is remembered here before KMS shows it,
//! is read back instead of waited for, and is found again by what the key itself carries (see
//! `label`); the rate stays below what the account allows (`pace`), what cannot be served in
//! time is refused at once (`gate`), and a KMS that is out is left alone and probed
//! (`breaker`).
//!
//! A KMS that cannot be reached, or that does not let us in, is no reason not to start. Only a
//! setting that can never work is an error from [`AwsKmsBackend::open`].

mod birth;
mod breaker;
mod calls;
mod client;
mod end;
mod error;
mod find;
mod gate;
mod inspect;
mod label;
mod memory;
mod pace;
mod scan;
mod settings;
mod sign;
mod spec;
mod verify;
mod watch;

pub use inspect::{Permission, Verdict};
pub use settings::{Misconfigured, Settings, StaticCredentials, check_instance};

use self::calls::Shared;
use self::client::Client;
use self::gate::Inside;
use super::{Backend, Error, Input, KeyRef, Kind, Listed, Material, ObjectRef, Order};
use crate::key::{Algorithm, BackendName, KeySpec, MaterialId};
use async_trait::async_trait;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Slow operations under way at once.
const MANAGEMENT_MAX: usize = 8;
/// How long making, finding, listing, disabling and destroying may take, each.
const MANAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// For how long a call that went well says that the next would.
const FRESH: Duration = Duration::from_secs(10);
/// How long stopping waits for the calls that are under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// A region of AWS KMS that generates, signs and destroys.
#[derive(Debug)]
pub struct AwsKmsBackend {
    shared: Arc<Shared>,
}

impl AwsKmsBackend {
    /// Settles region and credentials, then tries once to reach KMS. Whether that worked is told by
    /// [`Backend::probe`], not here; an error is a setting that cannot work.
    pub async fn open(settings: Settings) -> Result<Self, Misconfigured> {
        let settings = settings.checked()?;
        let client = Client::open(&settings).await?;
        let backend = Self { shared: Shared::new(client, settings, MANAGEMENT_MAX) };
        if let Err(error) = backend.probe().await {
            tracing::warn!(backend = %backend.name(), %error, "KMS cannot be used yet");
        }
        Ok(backend)
    }

    /// How many signatures are under way now.
    pub fn workers_busy(&self) -> usize {
        self.shared.signatures.inside()
    }

    /// How many signatures wait now.
    pub fn queue_depth(&self) -> usize {
        self.shared.signatures.waiting()
    }

    /// Signatures a second that are asked for at most now: as configured, or less while KMS says
    /// slow down.
    pub fn requests_per_second(&self) -> f64 {
        self.shared.signing.pace.rate()
    }

    /// Whether KMS is left alone, because it has failed again and again.
    pub fn is_circuit_open(&self) -> bool {
        self.shared.breaker.out_for(Instant::now()).is_some()
    }

    /// A place among the slow operations, and when the work has to be done.
    async fn turn(&self) -> Result<(Inside<'_>, Instant), Error> {
        let deadline = Instant::now() + MANAGE_TIMEOUT;
        let inside = self.shared.management.enter(deadline).await.map_err(sign::refused)?;
        Ok((inside, deadline))
    }
}

#[async_trait]
impl Backend for AwsKmsBackend {
    fn name(&self) -> &BackendName {
        &self.shared.settings.name
    }

    fn kind(&self) -> &'static str {
        "aws-kms"
    }

    /// KMS tells by making a key alone, so this says no only to what it has refused before.
    async fn supports(&self, algorithm: Algorithm, spec: KeySpec) -> Result<(), Error> {
        if algorithm.key_spec(Default::default()) != spec && !matches!(spec, KeySpec::Rsa(_)) {
            let message = format!("{algorithm} does not sign with {spec} keys");
            return Err(Error::new(Kind::Unsupported, "CreateKey", message));
        }
        match self.shared.memory.refused(spec) {
            Some(message) => Err(Error::new(Kind::Unsupported, "CreateKey", message)),
            None => Ok(()),
        }
    }

    async fn generate(&self, order: &Order) -> Result<Material, Error> {
        let (_inside, by) = self.turn().await?;
        self.shared.generate(order, by).await
    }

    async fn find(&self, material: MaterialId, spec: KeySpec) -> Result<Option<Material>, Error> {
        let (_inside, by) = self.turn().await?;
        self.shared.find(material, spec, by).await
    }

    async fn sign(
        &self,
        key: &Arc<KeyRef>,
        input: Input,
        deadline: Instant,
    ) -> Result<Vec<u8>, Error> {
        self.shared.sign(key, input, deadline).await
    }

    async fn disable(&self, key: &KeyRef) -> Result<(), Error> {
        self.shared.memory.ends(key.material, memory::Fate::Disabled, Instant::now());
        let (_inside, by) = self.turn().await?;
        self.shared.disable(key, by).await
    }

    async fn destroy(&self, material: MaterialId, object: Option<&ObjectRef>) -> Result<(), Error> {
        let (_inside, by) = self.turn().await?;
        self.shared.destroy(material, object, by).await
    }

    async fn list(&self, expected: &HashSet<MaterialId>) -> Result<Vec<Listed>, Error> {
        let (_inside, by) = self.turn().await?;
        self.shared.list(expected, by).await
    }

    fn deletion_window(&self) -> Duration {
        end::WINDOW
    }

    async fn probe(&self) -> Result<(), Error> {
        self.shared.probe(FRESH).await?;
        self.shared.look_at_one_relied_on().await;
        Ok(())
    }

    async fn stop(&self) {
        self.shared.stop(STOP_TIMEOUT).await;
    }
}
