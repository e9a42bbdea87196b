//! CreateKeySet: two keys, `current` and `next`, and then the set that has them.

use super::change::Entry;
use super::generate::{Brief, Fresh};
use super::repeat::{Asked, Job, Queue};
use super::{Barrier, Changed, Context, Create, Error, InvalidField, Keyring};
use crate::audit::Action;
use crate::backend;
use crate::key::{Algorithm, BackendName, Hold, KeySet, Policy, Refusal, Service};
use std::sync::Arc;

impl Keyring {
    /// Creates a key set. Its first `current` signs at once; its `next` waits its time.
    pub async fn create(&self, context: Context, create: Create) -> Result<Changed, Error> {
        let create = self.checked(create)?;
        self.create_any(context, create).await
    }

    /// The same for one that has been checked, or is the service's own.
    pub(super) async fn create_any(
        &self,
        context: Context,
        create: Create,
    ) -> Result<Changed, Error> {
        let id = create.id.clone();
        let asked = Asked::new(Action::Create, &id, &create)?;
        self.once(context, &id, asked, Queue::Generating, move |ring, job| async move {
            ring.create_once(&job, create).await
        })
        .await
    }

    async fn create_once(&self, job: &Job, create: Create) -> Result<Changed, Error> {
        let _turn = self.0.generating.lock(&create.id).await;
        job.in_time()?;
        self.free(&create)?;
        let name = self.backend_for(create.backend.as_ref())?;
        let brief = || Brief {
            id: &create.id,
            algorithm: create.algorithm,
            issuer: &create.issuer,
            backend: &name,
            policy: &create.policy,
        };
        self.supported(&name, create.algorithm, &create.policy).await?;
        let (create, brief) = (&create, &brief);
        self.generate_and(brief(), |current| async move {
            let place = |next| self.place(job, create, current, next);
            self.generate_and(brief(), place).await
        })
        .await
    }

    /// The one change that makes the set and both its keys.
    async fn place(
        &self,
        job: &Job,
        create: &Create,
        current: Fresh,
        next: Fresh,
    ) -> Result<Changed, Error> {
        let _changing = self.0.changing.lock().await;
        self.reload_if_in_doubt().await?;
        let now = self.now();
        let next = next.publish(now, &create.policy);
        let mut current = current.publish(now, &create.policy);
        let token_ttl = create.policy.max_token_ttl;
        current.state = current.state.activate(now, token_ttl).map_err(Refusal::from)?;
        let after = KeySet {
            id: create.id.clone(),
            algorithm: create.algorithm,
            issuer: create.issuer.clone(),
            backend: current.backend.clone(),
            policy: create.policy.clone(),
            service: Service::Enabled,
            rotation_hold: Hold::Off,
            undo: None,
            revision: 0,
            created: now,
            keys: vec![Arc::new(current), Arc::new(next)],
        };
        let detail = format!("{} in {}, issuer {}", after.algorithm, after.backend, after.issuer);
        let record = Entry { action: Action::Create, reason: String::new(), detail };
        let key_set = self.commit(job, None, after, None, &[], record).await?;
        self.tell_of_slow_destruction(&key_set);
        let barrier = Barrier::all(key_set.revision);
        let caches_at_risk = Vec::new();
        Ok(Changed { key_set, subject: None, replayed: false, barrier, caches_at_risk })
    }

    /// The request with its policy checked, or everything that is wrong with it.
    fn checked(&self, mut create: Create) -> Result<Create, Error> {
        let mut fields: Vec<InvalidField> = Vec::new();
        if create.id.is_internal() {
            fields.push(InvalidField {
                field: "key_set.id".to_owned(),
                why: "must not start with signkeep-, which the service keeps for itself".to_owned(),
            });
        }
        match create.policy.checked(&self.0.parts.limits) {
            Ok(policy) if fields.is_empty() => {
                create.policy = policy;
                Ok(create)
            }
            Ok(_) => Err(Error::Invalid { fields }),
            Err(wrong) => {
                fields.extend(wrong.into_iter().map(InvalidField::from));
                Err(Error::Invalid { fields })
            }
        }
    }

    fn free(&self, create: &Create) -> Result<(), Error> {
        if self.0.snapshot.load().lines.contains_key(&create.id) {
            return Err(Error::KeySetExists { id: create.id.clone() });
        }
        Ok(())
    }

    /// The backend that is meant: the one that is named, or the only one there is.
    fn backend_for(&self, asked: Option<&BackendName>) -> Result<BackendName, Error> {
        let known = &self.0.parts.backends;
        let names = || known.keys().map(BackendName::as_str).collect::<Vec<_>>().join(", ");
        let why = match asked {
            Some(name) if known.contains_key(name) => return Ok(name.clone()),
            Some(_) => format!("must be one of the configured backends: {}", names()),
            None => match known.keys().next() {
                Some(only) if known.len() == 1 => return Ok(only.clone()),
                _ => format!("must be set, since there are several: {}", names()),
            },
        };
        let field = "key_set.backend".to_owned();
        Err(Error::Invalid { fields: vec![InvalidField { field, why }] })
    }

    /// Whether the backend can do what the policy asks of it: found out before a key is wanted.
    pub(super) async fn supported(
        &self,
        name: &BackendName,
        algorithm: Algorithm,
        policy: &Policy,
    ) -> Result<(), Error> {
        let spec = algorithm.key_spec(policy.rsa_bits);
        let supported = self.backend(name)?.supports(algorithm, spec).await;
        supported.map_err(|source: backend::Error| Error::Backend { name: name.clone(), source })
    }
}
