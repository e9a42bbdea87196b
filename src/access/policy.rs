//! Who may do what with which key sets: bindings, read once, asked without a lock.
//!
//! What no binding allows is denied. Bindings only ever allow, so their order does not matter, and
//! adding one takes nothing from anybody. Key sets that the service keeps for itself are matched by
//! none of them.

use super::claims::{ClaimRefused, ClaimsPolicy, Lifetime};
use super::limits::{Limits, Meter, Reached, Ticket};
use super::pattern::Pattern;
use super::{Action, Caller, Role};
use crate::jose::Members;
use crate::key::KeySetId;
use std::sync::Arc;
use std::time::Instant;

/// What some callers may do with some key sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Binding {
    /// Whom it is for; one that matches the caller's name or one of its attributes is enough.
    pub callers: Vec<Pattern>,
    /// Which key sets.
    pub key_sets: Vec<Pattern>,
    /// What may be done with them.
    pub roles: Vec<Role>,
    /// How much, for each caller.
    pub limits: Limits,
    /// What tokens may say; none: anything.
    pub claims: Option<ClaimsPolicy>,
}

/// All bindings in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy(Vec<Arc<Rule>>);

#[derive(Debug)]
struct Rule {
    binding: Binding,
    meter: Arc<Meter>,
}

/// Leave to make one call. The call is under way until this is dropped.
#[derive(Debug)]
pub struct Permit {
    caller: Arc<str>,
    allowing: Vec<Arc<Rule>>,
    _ticket: Option<Ticket>,
}

/// How a binding stands to what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// It is for this caller.
    pub caller: bool,
    /// It is about this key set.
    pub key_set: bool,
    /// Its roles allow the action.
    pub action: bool,
}

impl Binding {
    /// How it stands to `caller` wanting `action` of `key_set`.
    pub fn standing(&self, caller: &Caller, action: Action, key_set: &KeySetId) -> Standing {
        Standing {
            caller: self.is_for(caller),
            key_set: self.is_about(key_set),
            action: self.gives(action),
        }
    }

    /// Whether it is for `caller`.
    pub fn is_for(&self, caller: &Caller) -> bool {
        let matched = |name: &str| self.callers.iter().any(|pattern| pattern.matches(name, ""));
        matched(caller.as_str()) || caller.attributes().any(matched)
    }

    /// Whether it is about `key_set`; never if the service keeps that for itself.
    pub fn is_about(&self, key_set: &KeySetId) -> bool {
        let matched = |pattern: &Pattern| pattern.matches(key_set.as_str(), "");
        !key_set.is_internal() && self.key_sets.iter().any(matched)
    }

    /// Whether one of its roles allows `action`.
    pub fn gives(&self, action: Action) -> bool {
        self.roles.iter().any(|role| role.allows(action))
    }
}

impl Standing {
    /// Whether the binding allows it.
    pub const fn allows(self) -> bool {
        self.caller && self.key_set && self.action
    }

    /// How near it comes.
    pub fn nearness(self) -> usize {
        [self.caller, self.caller && self.key_set, self.key_set, self.action]
            .into_iter()
            .filter(|holds| *holds)
            .count()
    }
}

impl Policy {
    /// What `bindings` say. Those that stood in `before` as they are go on counting.
    pub(super) fn new(bindings: Vec<Binding>, before: &Self, now: Instant) -> Self {
        let rule = |binding: Binding| {
            let kept = before.0.iter().find(|rule| rule.binding == binding);
            kept.cloned().unwrap_or_else(|| {
                let meter = Arc::new(Meter::new(binding.limits, now));
                Arc::new(Rule { binding, meter })
            })
        };
        Self(bindings.into_iter().map(rule).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self, caller: &Caller) -> bool {
        self.0.iter().any(|rule| rule.binding.is_for(caller))
    }

    /// Whether some binding lets `caller` do `action` with some key set.
    pub(super) fn gives(&self, caller: &Caller, action: Action) -> bool {
        self.0.iter().any(|rule| rule.binding.gives(action) && rule.binding.is_for(caller))
    }

    pub(super) fn allows(&self, caller: &Caller, action: Action, key_set: &KeySetId) -> bool {
        self.allowing(caller, action, key_set).next().is_some()
    }

    /// Leave for one call that is allowed; none: it is not. The first binding with room counts it.
    pub(super) fn admit(
        &self,
        caller: &Caller,
        action: Action,
        key_set: &KeySetId,
        now: Instant,
    ) -> Option<Result<Permit, Reached>> {
        let allowing: Vec<_> = self.allowing(caller, action, key_set).cloned().collect();
        let name = caller.name();
        let mut least: Option<Reached> = None;
        for rule in &allowing {
            // Whoever withdraws a key is in a hurry, and does it once.
            let entered = match action {
                Action::Revoke => Ok(None),
                _ => rule.meter.enter(&name, now),
            };
            match entered {
                Ok(ticket) => {
                    let caller = name;
                    return Some(Ok(Permit { caller, allowing, _ticket: ticket }));
                }
                Err(reached) => {
                    least = Some(match least {
                        Some(least) if least.wait <= reached.wait => least,
                        _ => reached,
                    });
                }
            }
        }
        least.map(Err)
    }

    fn allowing(
        &self,
        caller: &Caller,
        action: Action,
        key_set: &KeySetId,
    ) -> impl Iterator<Item = &Arc<Rule>> {
        let allows = move |rule: &&Arc<Rule>| {
            let Rule { binding, .. } = rule.as_ref();
            binding.gives(action) && binding.is_about(key_set) && binding.is_for(caller)
        };
        self.0.iter().filter(allows)
    }
}

/// Claims as they may be signed.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The claims, with those that the policy fixes.
    pub claims: Members,
    /// What the usual lifetime is cut to.
    pub lifetime_max: Option<std::time::Duration>,
}

impl Permit {
    /// The claims as one of the bindings that allow the call lets them be signed: it has to allow
    /// all of them. Else what the one that they come furthest with has against them.
    pub fn judge(&self, claims: &Members, lifetime: Lifetime) -> Result<Judged, ClaimRefused> {
        let mut nearest: Option<ClaimRefused> = None;
        for rule in &self.allowing {
            let Some(policy) = &rule.binding.claims else {
                return Ok(Judged { claims: claims.clone(), lifetime_max: None });
            };
            match policy.judge(&self.caller, claims, lifetime) {
                Ok(claims) => return Ok(Judged { claims, lifetime_max: policy.lifetime_max }),
                Err(refused) => {
                    nearest = Some(match nearest {
                        Some(nearest) if nearest.stage() >= refused.stage() => nearest,
                        _ => refused,
                    });
                }
            }
        }
        // A permit is given by a binding, so there is one.
        Err(nearest.unwrap_or_else(ClaimRefused::unjudged))
    }
}
