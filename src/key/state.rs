//! The states of a published key and the transitions between them.
//!
//! A state carries the times that are true in it and nothing else. A transition consumes the old
//! state; one that the lifecycle does not know is refused in words that name the verb and the
//! state. Guards that depend on the clock, the policy or the other keys are the business of
//! [`KeySet`](super::KeySet): here stands only what is true of a single key.
//!
//! `pending` is not here: a key that is still being generated has no public key and so no name. It
//! is a [`Reservation`](super::Reservation).

use super::{CLOCK_SKEW, later};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Where a key stands in its life, with the times that belong to that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Published so that verifiers hold it before it signs.
    Next {
        /// Since when it is in the JWKS.
        published: Timestamp,
        /// The propagation delay in force when it was published.
        propagation_delay: Duration,
        /// Its time as `current`, if a rollback made it `next` again.
        history: Option<History>,
    },
    /// The one key that signs.
    Current {
        /// Since when it is in the JWKS.
        published: Timestamp,
        /// Since when it signs.
        since: Timestamp,
        /// The longest token lifetime that was in force while it signed.
        token_ttl: Duration,
        /// Until when tokens of an earlier time as `current` are valid.
        tokens_until: Option<Timestamp>,
    },
    /// Rotated out; tokens that it signed may still be valid.
    Previous {
        /// Since when it is in the JWKS.
        published: Timestamp,
        /// Its time as `current`.
        history: History,
    },
    /// The natural end; out of the JWKS.
    Retired {
        /// Since when it was in the JWKS.
        published: Timestamp,
        /// Its time as `current`; none if it never signed.
        history: Option<History>,
        /// When it left the JWKS.
        retired: Timestamp,
        /// When its material is to be destroyed.
        destroy_due: Timestamp,
    },
    /// Withdrawn on purpose; out of the JWKS.
    Revoked {
        /// Since when it was in the JWKS.
        published: Timestamp,
        /// Its time as `current`; none if it never signed.
        history: Option<History>,
        /// When it was revoked.
        revoked: Timestamp,
        /// Why, in the operator's words; may be empty.
        reason: String,
        /// When its material is to be destroyed.
        destroy_due: Timestamp,
    },
    /// Material gone from the backend; the public part and the history are kept.
    Destroyed {
        /// Since when it was in the JWKS.
        published: Timestamp,
        /// Its time as `current`; none if it never signed.
        history: Option<History>,
        /// When it was revoked; none if it was retired.
        revoked: Option<Timestamp>,
        /// Why it was revoked; empty if it was retired.
        reason: String,
        /// When its material was destroyed.
        destroyed: Timestamp,
    },
}

/// The time in which a key signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Start of its latest time as `current`.
    pub since: Timestamp,
    /// End of its latest time as `current`.
    pub until: Timestamp,
    /// From then on no token that it signed is valid any more, clock skew included. Over a key's
    /// life this never decreases.
    pub tokens_until: Timestamp,
}

impl State {
    /// `next` at the moment at which it is first published.
    pub const fn published(now: Timestamp, propagation_delay: Duration) -> Self {
        Self::Next { published: now, propagation_delay, history: None }
    }

    /// The state without its times.
    pub const fn name(&self) -> StateName {
        match self {
            Self::Next { .. } => StateName::Next,
            Self::Current { .. } => StateName::Current,
            Self::Previous { .. } => StateName::Previous,
            Self::Retired { .. } => StateName::Retired,
            Self::Revoked { .. } => StateName::Revoked,
            Self::Destroyed { .. } => StateName::Destroyed,
        }
    }

    /// Since when the key is, or was, in the JWKS.
    pub const fn publish_time(&self) -> Timestamp {
        match self {
            Self::Next { published, .. }
            | Self::Current { published, .. }
            | Self::Previous { published, .. }
            | Self::Retired { published, .. }
            | Self::Revoked { published, .. }
            | Self::Destroyed { published, .. } => *published,
        }
    }

    /// The time in which the key signed, once that time has ended.
    pub const fn history(&self) -> Option<History> {
        match self {
            Self::Next { history, .. }
            | Self::Retired { history, .. }
            | Self::Revoked { history, .. }
            | Self::Destroyed { history, .. } => *history,
            Self::Previous { history, .. } => Some(*history),
            Self::Current { .. } => None,
        }
    }

    /// Start of the key's latest time as `current`.
    pub const fn current_since(&self) -> Option<Timestamp> {
        match self {
            Self::Current { since, .. } => Some(*since),
            _ => match self.history() {
                Some(history) => Some(history.since),
                None => None,
            },
        }
    }

    /// Until when tokens of the key can be valid; for `current`, if it stopped signing at `now`.
    /// None for a key that has never signed.
    pub fn tokens_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Current { .. } => self.signed(now).map(|history| history.tokens_until),
            _ => self.history().map(|history| history.tokens_until),
        }
    }

    /// `next → current`. `token_ttl` is the longest token lifetime now in force.
    pub fn activate(self, now: Timestamp, token_ttl: Duration) -> Result<Self, TransitionError> {
        match self {
            Self::Next { published, history, .. } => {
                Ok(Self::signing(published, now, token_ttl, history))
            }
            other => Err(other.refuses("activate")),
        }
    }

    /// `current → previous`, by Rotate.
    pub fn rotate_out(self, now: Timestamp) -> Result<Self, TransitionError> {
        match (self.signed(now), self) {
            (Some(history), Self::Current { published, .. }) => {
                Ok(Self::Previous { published, history })
            }
            (_, other) => Err(other.refuses("rotate out")),
        }
    }

    /// `previous → current`, by Rollback.
    pub fn reinstate(self, now: Timestamp, token_ttl: Duration) -> Result<Self, TransitionError> {
        match self {
            Self::Previous { published, history } => {
                Ok(Self::signing(published, now, token_ttl, Some(history)))
            }
            other => Err(other.refuses("reinstate")),
        }
    }

    /// `current → next`, by Rollback.
    pub fn step_back(
        self,
        now: Timestamp,
        propagation_delay: Duration,
    ) -> Result<Self, TransitionError> {
        match (self.signed(now), self) {
            (Some(history), Self::Current { published, .. }) => {
                Ok(Self::Next { published, propagation_delay, history: Some(history) })
            }
            (_, other) => Err(other.refuses("step back")),
        }
    }

    /// `previous → retired` when its time has come, or `next → retired` if it never signed
    /// (Rollback).
    pub fn retire(self, now: Timestamp, destroy_due: Timestamp) -> Result<Self, TransitionError> {
        match self {
            Self::Previous { published, history } => {
                Ok(Self::Retired { published, history: Some(history), retired: now, destroy_due })
            }
            Self::Next { published, history: None, .. } => {
                Ok(Self::Retired { published, history: None, retired: now, destroy_due })
            }
            other => Err(other.refuses("retire")),
        }
    }

    /// Any state before `revoked` `→ revoked`.
    pub fn revoke(
        self,
        now: Timestamp,
        reason: String,
        destroy_due: Timestamp,
    ) -> Result<Self, TransitionError> {
        let history = self.signed(now);
        // To be withdrawn does not make material live longer than it was to.
        let destroy_due = match &self {
            Self::Retired { destroy_due: before, .. } => destroy_due.min(*before),
            _ => destroy_due,
        };
        match self {
            Self::Next { published, .. }
            | Self::Current { published, .. }
            | Self::Previous { published, .. }
            | Self::Retired { published, .. } => {
                Ok(Self::Revoked { published, history, revoked: now, reason, destroy_due })
            }
            other => Err(other.refuses("revoke")),
        }
    }

    /// An emergency finds the key revoked already: its material is not kept any longer, and why is
    /// written down. Nothing changes if it was to be destroyed by now anyway.
    pub fn hasten(self, now: Timestamp, reason: &str) -> Result<Self, TransitionError> {
        match self {
            Self::Revoked { published, history, revoked, destroy_due, .. } if now < destroy_due => {
                Ok(Self::Revoked {
                    published,
                    history,
                    revoked,
                    reason: reason.to_owned(),
                    destroy_due: now,
                })
            }
            revoked @ Self::Revoked { .. } => Ok(revoked),
            other => Err(other.refuses("hasten the end of")),
        }
    }

    /// `retired → destroyed`, `revoked → destroyed`, once the material is gone.
    pub fn destroy(self, now: Timestamp) -> Result<Self, TransitionError> {
        match self {
            Self::Retired { published, history, .. } => Ok(Self::Destroyed {
                published,
                history,
                revoked: None,
                reason: String::new(),
                destroyed: now,
            }),
            Self::Revoked { published, history, revoked, reason, .. } => Ok(Self::Destroyed {
                published,
                history,
                revoked: Some(revoked),
                reason,
                destroyed: now,
            }),
            other => Err(other.refuses("destroy")),
        }
    }

    /// Takes note that tokens may now live as long as `ttl`: the current key's own span grows with
    /// it and never shrinks.
    pub fn allow_tokens_of(&mut self, ttl: Duration) {
        if let Self::Current { token_ttl, .. } = self {
            *token_ttl = ttl.max(*token_ttl);
        }
    }

    const fn signing(
        published: Timestamp,
        now: Timestamp,
        token_ttl: Duration,
        before: Option<History>,
    ) -> Self {
        let tokens_until = match before {
            Some(before) => Some(before.tokens_until),
            None => None,
        };
        Self::Current { published, since: now, token_ttl, tokens_until }
    }

    /// The time as `current` if it ended at `now`; for any other state what it already carries. A
    /// clock that went backwards ends it no earlier than it began.
    fn signed(&self, now: Timestamp) -> Option<History> {
        match self {
            Self::Current { since, token_ttl, tokens_until, .. } => {
                let until = now.max(*since);
                let ends = later(until, token_ttl.saturating_add(CLOCK_SKEW));
                let tokens_until = tokens_until.map_or(ends, |earlier| earlier.max(ends));
                Some(History { since: *since, until, tokens_until })
            }
            other => other.history(),
        }
    }

    const fn refuses(&self, verb: &'static str) -> TransitionError {
        TransitionError { verb, state: self.name() }
    }
}

/// The name of a state, as in the lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StateName {
    /// Being generated.
    Pending,
    /// See [`State::Next`].
    Next,
    /// See [`State::Current`].
    Current,
    /// See [`State::Previous`].
    Previous,
    /// See [`State::Retired`].
    Retired,
    /// See [`State::Revoked`].
    Revoked,
    /// See [`State::Destroyed`].
    Destroyed,
}

impl StateName {
    /// Every state, in the order of a key's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Next,
        Self::Current,
        Self::Previous,
        Self::Retired,
        Self::Revoked,
        Self::Destroyed,
    ];

    /// The name in lower case, as the store and people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Next => "next",
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
            Self::Destroyed => "destroyed",
        }
    }

    /// Whether a key in this state is in the JWKS.
    pub const fn is_published(self) -> bool {
        matches!(self, Self::Next | Self::Current | Self::Previous)
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StateName {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or(UnknownState)
    }
}

/// A text that names no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of pending, next, current, previous, retired, revoked, destroyed")]
pub struct UnknownState;

/// A transition that the lifecycle does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {verb} a key that is {state}")]
pub struct TransitionError {
    /// The verb that was asked for.
    pub verb: &'static str,
    /// The state that the key was in.
    pub state: StateName,
}
