//! Making, finding, disabling and destroying keys, where every step may be lost, seen late, or done
//! twice.
//!
//! CreateKey is the one step that must not be repeated: KMS takes no token by which it would know
//! the second call for the first. Everything else is safe to repeat, and is read back rather than
//! waited for.

use super::calls::{Shared, Tries, jittered};
use super::client::{self, Described, State};
use super::error::{Class, Fault};
use super::label::{self, Label};
use super::memory::{Birth, Fate};
use super::scan::Found;
use crate::backend::{Error, KeyRef, Kind, Listed, Material, ObjectRef, Order, Outcome};
use crate::key::{KeySpec, MaterialId, PublicKey};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long KMS keeps a key that is to be deleted: the least that AWS allows.
const WINDOW_DAYS: i32 = 7;
pub(super) const WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The first pause before something is read back; it grows by half up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

impl Shared {
    /// Makes a key, gives it its alias, and reads its public key.
    pub(super) async fn generate(&self, order: &Order, by: Instant) -> Result<Material, Error> {
        let (material, spec) = (order.material, order.spec);
        let there = self.by_alias(material, by).await.inspect_err(|_| {
            // Nothing was asked for yet: whoever ends this has nothing to look for.
            if self.memory.birth(material).is_none() {
                self.memory.born(material, Birth::Not, Instant::now());
            }
        });
        if let Some(found) = there? {
            let message =
                format!("there is a key with material id {material} already: {}", found.arn);
            return Err(Error::new(Kind::Inconsistent, "CreateKey", message));
        }
        let arn = self.create(order, by).await?;
        // From here on there is a key that costs money, and whoever abandons it will find it.
        let rest = async {
            self.name(material, &arn, by).await?;
            self.public_key(&arn, by).await
        };
        let public = rest.await.map_err(Error::from).map_err(Error::outcome_unknown)?;
        match public.spec() {
            Some(made) if made == spec => Ok(Material { object: ObjectRef::new(arn), public }),
            _ => Err(Error::new(
                Kind::Inconsistent,
                "CreateKey",
                format!("asked for {spec}, got {public:?} in {arn}"),
            )
            .outcome_unknown()),
        }
    }

    async fn create(&self, order: &Order, by: Instant) -> Result<String, Error> {
        let Order { material, key_set, spec } = order;
        let settings = &self.settings;
        let mut description = format!("signkeep {}: {key_set}", settings.instance);
        if let Some(words) = &settings.description {
            description = format!("{words} ({description})");
        }
        let mut tags = label::tags(&settings.instance, *material, key_set).to_vec();
        tags.extend(settings.tags.iter().map(|(key, value)| (key.clone(), value.clone())));
        let birth = client::Birth {
            spec: *spec,
            tags,
            description,
            policy: settings.key_policy.as_deref(),
            multi_region: settings.multi_region,
        };
        // Before the call: a caller who goes away in the middle of it leaves the outcome open.
        self.memory.born(*material, Birth::Perhaps, Instant::now());
        let create = || self.client.create(&birth);
        match self.call("CreateKey", &self.births, Tries::Once, by, create).await {
            Ok(arn) => {
                self.memory.born(*material, Birth::Made(arn.clone()), Instant::now());
                let label = Label { material: Some(*material), key_set: Some(key_set.clone()) };
                self.directory.made(&arn, label);
                Ok(arn)
            }
            Err(fault) => {
                if fault.outcome == Outcome::Nothing {
                    self.memory.born(*material, Birth::Not, Instant::now());
                }
                let error = refused_birth(fault, *spec);
                if error.kind == Kind::Unsupported {
                    self.memory.refuses(*spec, error.message.clone());
                }
                Err(error)
            }
        }
    }

    /// Gives a new key its alias. That it has it already is success: an answer was lost.
    async fn name(&self, material: MaterialId, arn: &str, by: Instant) -> Result<(), Fault> {
        let alias = label::alias(&self.settings.instance, material);
        let attempt = || self.client.create_alias(&alias, arn);
        let create = || self.call("CreateAlias", &self.names, Tries::Again, by, attempt);
        match self.patiently(by, create).await {
            Err(fault) if fault.class == Class::Exists => {
                let named = self.patiently(by, || self.describe(&alias, by)).await?;
                if named.arn == arn { Ok(()) } else { Err(fault) }
            }
            other => other,
        }
    }

    async fn public_key(&self, arn: &str, by: Instant) -> Result<PublicKey, Fault> {
        let ask = || self.client.public_key(arn);
        self.patiently(by, || self.call("GetPublicKey", &self.questions, Tries::Again, by, ask))
            .await
    }

    /// Asks again while a key that was just made cannot be seen, or is not ready.
    pub(super) async fn patiently<T, F>(&self, by: Instant, ask: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let until = by.min(Instant::now() + self.settings.patience);
        let mut pause = PAUSE_MIN;
        loop {
            match ask().await {
                Err(fault) if matches!(fault.class, Class::NotFound | Class::State) => {
                    let wait = jittered(pause);
                    if Instant::now() + wait >= until {
                        return Err(fault);
                    }
                    sleep(wait).await;
                    pause = (pause + pause / 2).min(PAUSE_MAX);
                }
                other => return other,
            }
        }
    }

    /// The key pair of that id. That there is none is believed only after it could have appeared.
    pub(super) async fn find(
        &self,
        material: MaterialId,
        spec: KeySpec,
        by: Instant,
    ) -> Result<Option<Material>, Error> {
        let found = match self.by_alias(material, by).await? {
            Some(found) => Some(found),
            None => self.by_tag(material, by).await?,
        };
        let Some(found) = found else {
            self.is_absent(material, "DescribeKey")?;
            return Ok(None);
        };
        self.owned(&found.arn, material, by).await?;
        match found.state {
            State::Leaving => return Ok(None),
            State::Disabled => {
                let message =
                    format!("{} is disabled: KMS does not show its public key", found.arn);
                return Err(Error::new(Kind::Denied, "GetPublicKey", message));
            }
            State::Other(state) => {
                let message = format!("{} is in the state {state}", found.arn);
                return Err(Error::new(Kind::Inconsistent, "DescribeKey", message));
            }
            State::Enabled | State::Arriving => {}
        }
        let public = self.public_key(&found.arn, by).await?;
        if public.spec() != Some(spec) {
            let message = format!("{} is {public:?}, not {spec}", found.arn);
            return Err(Error::new(Kind::Inconsistent, "GetPublicKey", message));
        }
        Ok(Some(Material { object: ObjectRef::new(found.arn), public }))
    }

    /// Stops a key from signing, and sees to it that KMS has seen it.
    pub(super) async fn disable(&self, key: &KeyRef, by: Instant) -> Result<(), Error> {
        self.memory.ends(key.material, Fate::Disabled, Instant::now());
        let arn = key.object.as_str();
        if self.settled(arn, by).await? != Settled::Signs {
            return Ok(());
        }
        self.owned(arn, key.material, by).await?;
        let disable = || self.client.disable(arn);
        let disabled = self.call("DisableKey", &self.ends, Tries::Again, by, disable).await;
        match disabled {
            Ok(()) => {}
            // Being deleted, or disabled by a call whose answer was lost: the state says.
            Err(fault) if fault.class == Class::State => {}
            Err(fault) => return Err(Error::from(fault)),
        }
        let mut pause = PAUSE_MIN;
        let until = by.min(Instant::now() + self.settings.patience);
        while self.settled(arn, by).await? == Settled::Signs {
            let wait = jittered(pause);
            if Instant::now() + wait >= until {
                let message = format!("KMS still says that {arn} signs; it will be asked again");
                return Err(Error::new(Kind::Unavailable, "DisableKey", message).outcome_unknown());
            }
            sleep(wait).await;
            pause = (pause + pause / 2).min(PAUSE_MAX);
        }
        Ok(())
    }

    /// Has the deletion of a key scheduled; with no `object`, of every key of that id that can be
    /// found, and it takes time to be sure that there is none.
    pub(super) async fn destroy(
        &self,
        material: MaterialId,
        object: Option<&ObjectRef>,
        by: Instant,
    ) -> Result<(), Error> {
        self.memory.ends(material, Fate::Disabled, Instant::now());
        if let Some(object) = object {
            self.schedule(object.as_str(), material, by).await?;
            self.memory.ends(material, Fate::Destroyed, Instant::now());
            return Ok(());
        }
        match self.memory.birth(material) {
            Some(Birth::Not) => return Ok(()),
            Some(Birth::Made(arn)) => {
                self.schedule(&arn, material, by).await?;
                self.memory.ends(material, Fate::Destroyed, Instant::now());
                return Ok(());
            }
            Some(Birth::Perhaps) | None => {}
        }
        let mut arns: Vec<String> =
            self.by_alias(material, by).await?.map(|found| found.arn).into_iter().collect();
        if arns.is_empty() {
            let ours = self.scan(by).await?;
            let meant = ours.into_iter().filter(|found| found.label.material == Some(material));
            arns.extend(meant.map(|found| found.arn));
        }
        if arns.is_empty() {
            self.is_absent(material, "ScheduleKeyDeletion")?;
        }
        for arn in &arns {
            self.schedule(arn, material, by).await?;
        }
        self.memory.ends(material, Fate::Destroyed, Instant::now());
        Ok(())
    }

    async fn schedule(&self, arn: &str, material: MaterialId, by: Instant) -> Result<(), Error> {
        if self.settled(arn, by).await? == Settled::Gone {
            return Ok(());
        }
        self.owned(arn, material, by).await?;
        let schedule = || self.client.schedule_deletion(arn, WINDOW_DAYS);
        let scheduled =
            self.call("ScheduleKeyDeletion", &self.ends, Tries::Again, by, schedule).await;
        match scheduled {
            Ok(()) => {}
            // A repeated call, or somebody else's: the state says.
            Err(fault) if matches!(fault.class, Class::State | Class::NotFound) => {
                if self.settled(arn, by).await? != Settled::Gone {
                    return Err(Error::from(fault).outcome_unknown());
                }
            }
            Err(fault) => return Err(Error::from(fault)),
        }
        tracing::info!(
            backend = %self.settings.name, key = arn, %material, days = WINDOW_DAYS,
            "KMS will delete the key; until then the deletion can be cancelled"
        );
        Ok(())
    }

    /// Everything of ours that is not being deleted, as [`crate::backend::Backend::list`] has it.
    pub(super) async fn list(
        &self,
        expected: &HashSet<MaterialId>,
        by: Instant,
    ) -> Result<Vec<Listed>, Error> {
        let mut found = self.scan(by).await?;
        let seen: HashSet<_> = found.iter().map(|found| found.arn.clone()).collect();
        let young = self.memory.made_within(self.settings.absence, Instant::now());
        for (material, arn) in young.into_iter().filter(|(_, arn)| !seen.contains(arn)) {
            // KMS lists a new key late; that it is there is known.
            let label = Label { material: Some(material), key_set: None };
            found.push(Found { arn, label });
        }
        let (mut listed, mut relied_on) = (Vec::new(), Vec::new());
        for Found { arn, mut label } in found {
            let wanted = label.material.filter(|material| expected.contains(material));
            relied_on.extend(wanted.map(|material| (material, arn.clone())));
            if wanted.is_none_or(|material| self.watch.is_astray(material)) {
                label = match self.looked_at(&arn, by).await? {
                    Some(label) => label,
                    None => continue,
                };
            }
            let Label { material, key_set } = label;
            listed.push(Listed { material, object: ObjectRef::new(arn), key_set });
        }
        self.watch.rely_on(relied_on.into_iter());
        Ok(listed)
    }

    /// What the tags of a key say; none if it is not ours after all, or is being deleted.
    async fn looked_at(&self, arn: &str, by: Instant) -> Result<Option<Label>, Fault> {
        let label = match self.label(arn, &self.searches, by).await {
            Ok(Some(label)) => label,
            Ok(None) => return Ok(None),
            Err(fault) if fault.class == Class::NotFound => return Ok(None),
            Err(fault) => return Err(fault),
        };
        // KMS may show late that a deletion is scheduled: that we have scheduled it is known.
        let (absence, now) = (self.settings.absence, Instant::now());
        let just_ended = |material| self.memory.is_just_destroyed(material, absence, now);
        if label.material.is_some_and(just_ended) {
            return Ok(None);
        }
        let stays = self.seen(arn, by).await?.is_some_and(|found| found.state != State::Leaving);
        Ok(stays.then_some(label))
    }

    /// DescribeKey.
    pub(super) async fn describe(&self, id: &str, by: Instant) -> Result<Described, Fault> {
        let ask = || self.client.describe(id);
        self.call("DescribeKey", &self.questions, Tries::Again, by, ask).await
    }

    /// What KMS says of a key now. A key that was just made here and is not seen yet signs.
    async fn settled(&self, arn: &str, by: Instant) -> Result<Settled, Fault> {
        match self.describe(arn, by).await {
            Ok(Described { state: State::Leaving, .. }) => Ok(Settled::Gone),
            Ok(Described { state: State::Disabled, .. }) => Ok(Settled::Disabled),
            Ok(_) => Ok(Settled::Signs),
            Err(fault) if fault.class == Class::NotFound => {
                let young = self.patiently(by, || self.describe(arn, by));
                match young.await {
                    Ok(Described { state: State::Leaving, .. }) => Ok(Settled::Gone),
                    Ok(Described { state: State::Disabled, .. }) => Ok(Settled::Disabled),
                    Ok(_) => Ok(Settled::Signs),
                    Err(fault) if fault.class == Class::NotFound => Ok(Settled::Gone),
                    Err(fault) => Err(fault),
                }
            }
            Err(fault) => Err(fault),
        }
    }

    async fn by_alias(
        &self,
        material: MaterialId,
        by: Instant,
    ) -> Result<Option<Described>, Fault> {
        let alias = label::alias(&self.settings.instance, material);
        match self.describe(&alias, by).await {
            Ok(found) => Ok(Some(found)),
            Err(fault) if fault.class == Class::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn by_tag(&self, material: MaterialId, by: Instant) -> Result<Option<Described>, Error> {
        let ours = self.scan(by).await?;
        let mut found: Option<Described> = None;
        for other in ours.into_iter().filter(|found| found.label.material == Some(material)) {
            let other = self.describe(&other.arn, by).await?;
            match &found {
                Some(first) if first.state != State::Leaving && other.state != State::Leaving => {
                    let message = format!(
                        "two keys have the material id {material}: {} and {}",
                        first.arn, other.arn
                    );
                    return Err(Error::new(Kind::Inconsistent, "ListKeys", message));
                }
                Some(first) if first.state != State::Leaving => {}
                _ => found = Some(other),
            }
        }
        Ok(found)
    }

    /// Refuses to go on with a key that does not carry our instance's name and the id that is meant.
    async fn owned(&self, arn: &str, material: MaterialId, by: Instant) -> Result<(), Error> {
        let label = self.label(arn, &self.questions, by).await?;
        if label.is_some_and(|label| label.material == Some(material)) {
            return Ok(());
        }
        let instance = &self.settings.instance;
        let message = format!(
            "{arn} does not carry the tags of instance {instance} and material {material}; it is left alone"
        );
        Err(Error::new(Kind::Inconsistent, "ListResourceTags", message))
    }

    /// An error while it may still appear.
    fn is_absent(&self, material: MaterialId, op: &'static str) -> Result<(), Error> {
        let now = Instant::now();
        let sought = now.saturating_duration_since(self.memory.sought_since(material, now));
        let absence = self.settings.absence;
        if sought >= absence {
            return Ok(());
        }
        let message = format!(
            "no key with material id {material} is to be seen; it may still appear, and is looked for again for {} s",
            absence.saturating_sub(sought).as_secs()
        );
        Err(Error::new(Kind::Unavailable, op, message))
    }
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Signs,
    Disabled,
    Gone,
}

/// That a kind of key is not offered, or that there are too many, is said in our own words.
fn refused_birth(fault: Fault, spec: KeySpec) -> Error {
    match fault.class {
        Class::Unsupported => unsupported(&fault, spec),
        // KMS names the parameter that it does not know.
        Class::Wrong if names_spec(&fault.words) => unsupported(&fault, spec),
        Class::Policy => {
            let message = format!(
                "KMS refuses the key policy; correct the file that key_policy_file names and start again: {}",
                fault.words
            );
            tracing::error!(message);
            Error { message, ..Error::from(fault) }
        }
        Class::Quota => {
            tracing::error!(error = %fault.words, "the account may have no more keys; ask AWS for more");
            Error::from(fault)
        }
        _ => Error::from(fault),
    }
}

fn names_spec(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["keyspec", "key spec", "customermasterkeyspec"].iter().any(|name| words.contains(name))
}

fn unsupported(fault: &Fault, spec: KeySpec) -> Error {
    let named = super::spec::key_spec(spec);
    let message = format!("KMS makes no {spec} keys ({}) there: {}", named.as_str(), fault.words);
    Error::new(Kind::Unsupported, "CreateKey", message)
}
