//! Who is calling, and what they may do. Every face asks here before it asks the keyring.
//!
//! A caller is known by one way at a time: a bearer token if one is shown, else the client
//! certificate, else the socket's user, else loopback. A token that is not taken is the end of it;
//! there is no falling back to another name, or a stolen connection would be worth more than the
//! token that was meant to narrow it.
//!
//! The rules are one value that is swapped as a whole, so that a reload is all of it or none, and no
//! call sees half of one.

mod action;
mod bearer;
mod caller;
mod certificate;
mod claims;
mod fetch;
mod issuer;
mod limits;
mod pattern;
mod policy;

pub use action::{Action, Role, UnknownAction};
pub use caller::{Caller, LOOPBACK, Unknown, could_name};
pub use certificate::NameKind;
pub use claims::{ClaimRefused, ClaimsPolicy, Lifetime};
pub use issuer::{Issuer, KeySource};
pub use limits::Limits;
pub use pattern::{InvalidPattern, Pattern};
pub use policy::{Binding, Judged, Permit, Standing};

use crate::clock::Clock;
use crate::key::KeySetId;
use crate::transport::Peer;
use arc_swap::ArcSwap;
use bearer::Bearers;
use policy::Policy;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Who is known, and what they may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What certificates name their holders by, the best first.
    pub certificate_names: Vec<NameKind>,
    /// Whose bearer tokens are taken.
    pub issuers: Vec<Issuer>,
    /// What callers may do.
    pub policy: Vec<Binding>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { certificate_names: NameKind::ALL.to_vec(), issuers: Vec::new(), policy: Vec::new() }
    }
}

/// Settings that cannot be put into force; nothing has changed.
#[derive(Debug, thiserror::Error)]
#[error("callers.jwt {issuer}: {why}")]
pub struct Unusable {
    /// Which issuer of tokens.
    pub issuer: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

/// The rules in force. Clones share one state.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    rules: ArcSwap<Rules>,
    changes: watch::Sender<()>,
}

/// Settings that can be put into force.
pub struct Prepared(Rules);

struct Rules {
    certificate_names: Vec<NameKind>,
    bearers: Bearers,
    policy: Policy,
}

/// Why a call is not let through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No binding allows it.
    #[error(transparent)]
    Denied(Denied),
    /// What the caller showed has run out since.
    #[error("{caller} is no longer known: the bearer token has expired; come with a fresh one")]
    Expired {
        /// Who it was.
        caller: Caller,
    },
    /// Too many calls, or too many at once.
    #[error("{caller} has reached its {limit} with the key set {key_set}; try again shortly")]
    Limited {
        /// Who.
        caller: Caller,
        /// With which key set.
        key_set: KeySetId,
        /// Which limit, by its name in the policy.
        limit: &'static str,
        /// When to come back.
        wait: Duration,
    },
}

/// The caller may not do that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{caller} may not {action} {}: no binding of the policy gives it {} there",
    key_set.as_ref().map_or_else(|| "any key set".to_owned(), |id| format!("with the key set {id}")),
    one_of(*action)
)]
pub struct Denied {
    /// Who.
    pub caller: Caller,
    /// What.
    pub action: Action,
    /// With which key set; none: with any.
    pub key_set: Option<KeySetId>,
}

impl Access {
    /// Puts `settings` into force. Keys of issuers are fetched in the background from now on, so it
    /// needs a runtime.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, Unusable> {
        let rules = Rules::new(settings, None, &clock)?;
        let changes = watch::Sender::new(());
        Ok(Self(Arc::new(Inner { clock, rules: ArcSwap::from_pointee(rules), changes })))
    }

    /// Makes other settings ready to be put into force, so that nothing can fail any more when they
    /// are.
    pub fn prepare(&self, settings: Settings) -> Result<Prepared, Unusable> {
        let before = self.0.rules.load_full();
        Rules::new(settings, Some(&before), &self.0.clock).map(Prepared)
    }

    /// Puts other settings into force, all of them at one instant.
    pub fn apply(&self, Prepared(rules): Prepared) {
        self.0.rules.store(Arc::new(rules));
        self.0.changes.send_replace(());
    }

    /// Tells whenever other settings have come into force.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// Whether there is no binding, so that nobody may do anything.
    pub fn is_closed(&self) -> bool {
        self.0.rules.load().policy.is_empty()
    }

    /// Who is at the other end of `peer`; `bearer` is the token of an `authorization: Bearer` header,
    /// if there is one.
    pub async fn identify(&self, peer: &Peer, bearer: Option<&str>) -> Result<Caller, Unknown> {
        let rules = self.0.rules.load_full();
        match bearer {
            Some(token) => rules.bearers.caller(token, self.0.clock.now()).await,
            None => Caller::of(peer, &rules.certificate_names),
        }
    }

    /// Whether some binding is for `caller`, or it comes from this machine.
    pub fn is_welcome(&self, peer: &Peer, caller: &Caller) -> bool {
        caller::is_local(peer) || self.0.rules.load().policy.names(caller)
    }

    /// Whether `caller` may do `action` with `key_set`, whether or not there is such a key set.
    pub fn check(
        &self,
        caller: &Caller,
        action: Action,
        key_set: &KeySetId,
    ) -> Result<(), Refused> {
        self.still_known(caller)?;
        if self.0.rules.load().policy.allows(caller, action, key_set) {
            Ok(())
        } else {
            Err(denied(caller, action, Some(key_set)))
        }
    }

    /// Whether `caller` may do `action` with some key set.
    pub fn check_any(&self, caller: &Caller, action: Action) -> Result<(), Refused> {
        self.still_known(caller)?;
        if self.0.rules.load().policy.gives(caller, action) {
            Ok(())
        } else {
            Err(denied(caller, action, None))
        }
    }

    /// The same as [`Access::check`], and counts a call that begins at `now` towards the caller's
    /// limits. Revoke has none.
    pub fn admit(
        &self,
        caller: &Caller,
        action: Action,
        key_set: &KeySetId,
        now: Instant,
    ) -> Result<Permit, Refused> {
        self.still_known(caller)?;
        match self.0.rules.load().policy.admit(caller, action, key_set, now) {
            Some(Ok(permit)) => Ok(permit),
            Some(Err(reached)) => Err(Refused::Limited {
                caller: caller.clone(),
                key_set: key_set.clone(),
                limit: reached.limit,
                wait: reached.wait,
            }),
            None => Err(denied(caller, action, Some(key_set))),
        }
    }

    /// How a token that asks for `asked` is to live, from now.
    pub fn lifetime(&self, asked: Option<Duration>) -> Lifetime {
        Lifetime { now: self.0.clock.now().as_second(), asked }
    }

    fn still_known(&self, caller: &Caller) -> Result<(), Refused> {
        match caller.known_until() {
            Some(until) if until <= self.0.clock.now() => {
                Err(Refused::Expired { caller: caller.clone() })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access")
    }
}

impl Rules {
    fn new(
        settings: Settings,
        before: Option<&Self>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Unusable> {
        let none = Policy::default();
        let counted = before.map_or(&none, |rules| &rules.policy);
        Ok(Self {
            certificate_names: settings.certificate_names,
            bearers: Bearers::new(settings.issuers, before.map(|rules| &rules.bearers), clock)?,
            policy: Policy::new(settings.policy, counted, Instant::now()),
        })
    }
}

fn denied(caller: &Caller, action: Action, key_set: Option<&KeySetId>) -> Refused {
    Refused::Denied(Denied { caller: caller.clone(), action, key_set: key_set.cloned() })
}

fn one_of(action: Action) -> String {
    let roles: Vec<_> = action.roles().map(Role::as_str).collect();
    match roles.as_slice() {
        [one] => format!("the role {one}"),
        many => format!("one of the roles {}", many.join(", ")),
    }
}
