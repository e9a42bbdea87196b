//! A key's state, laid flat over the columns of `keys`, so that an operator can read it with
//! nothing but the database's own shell.

use super::{Impossible, maybe, span, span_us, state_name, time, time_us};
use crate::key::{History, State, StateName};
use jiff::Timestamp;
use sqlx::FromRow;

/// The columns of `keys` that say where a key stands. A column that the state has no use for is
/// null.
#[derive(Clone, Debug, Default, PartialEq, Eq, FromRow)]
pub(in crate::store) struct StateColumns {
    pub(in crate::store) state: String,
    pub(in crate::store) publish_us: i64,
    pub(in crate::store) propagation_delay_us: Option<i64>,
    pub(in crate::store) token_ttl_us: Option<i64>,
    pub(in crate::store) current_since_us: Option<i64>,
    pub(in crate::store) current_until_us: Option<i64>,
    pub(in crate::store) tokens_until_us: Option<i64>,
    pub(in crate::store) retire_us: Option<i64>,
    pub(in crate::store) revoke_us: Option<i64>,
    pub(in crate::store) revoke_reason: Option<String>,
    pub(in crate::store) destroy_due_us: Option<i64>,
    pub(in crate::store) destroy_us: Option<i64>,
}

impl From<&State> for StateColumns {
    fn from(state: &State) -> Self {
        let mut columns = Self {
            state: state.name().to_string(),
            publish_us: time_us(state.publish_time()),
            ..Self::default()
        };
        if let Some(history) = state.history() {
            columns.current_since_us = Some(time_us(history.since));
            columns.current_until_us = Some(time_us(history.until));
            columns.tokens_until_us = Some(time_us(history.tokens_until));
        }
        match state {
            State::Next { propagation_delay, .. } => {
                columns.propagation_delay_us = Some(span_us(*propagation_delay));
            }
            State::Current { since, token_ttl, tokens_until, .. } => {
                columns.current_since_us = Some(time_us(*since));
                columns.token_ttl_us = Some(span_us(*token_ttl));
                columns.tokens_until_us = tokens_until.map(time_us);
            }
            State::Previous { .. } => {}
            State::Retired { retired, destroy_due, .. } => {
                columns.retire_us = Some(time_us(*retired));
                columns.destroy_due_us = Some(time_us(*destroy_due));
            }
            State::Revoked { revoked, reason, destroy_due, .. } => {
                columns.revoke_us = Some(time_us(*revoked));
                columns.revoke_reason = Some(reason.clone());
                columns.destroy_due_us = Some(time_us(*destroy_due));
            }
            State::Destroyed { revoked, reason, destroyed, .. } => {
                columns.revoke_us = revoked.map(time_us);
                columns.revoke_reason = Some(reason.clone());
                columns.destroy_us = Some(time_us(*destroyed));
            }
        }
        columns
    }
}

impl StateColumns {
    /// The state, if these columns and no others make one.
    pub(super) fn state(&self) -> Result<State, Impossible> {
        let published = time("publish_us", self.publish_us)?;
        let state = match state_name(&self.state)? {
            StateName::Next => State::Next {
                published,
                propagation_delay: span(
                    "propagation_delay_us",
                    self.needs("propagation_delay_us", self.propagation_delay_us)?,
                )?,
                history: self.history()?,
            },
            StateName::Current => State::Current {
                published,
                since: self.instant("current_since_us", self.current_since_us)?,
                token_ttl: span("token_ttl_us", self.needs("token_ttl_us", self.token_ttl_us)?)?,
                tokens_until: maybe(self.tokens_until_us, |us| time("tokens_until_us", us))?,
            },
            StateName::Previous => State::Previous {
                published,
                history: self.needs("current_until_us", self.history()?)?,
            },
            StateName::Retired => State::Retired {
                published,
                history: self.history()?,
                retired: self.instant("retire_us", self.retire_us)?,
                destroy_due: self.instant("destroy_due_us", self.destroy_due_us)?,
            },
            StateName::Revoked => State::Revoked {
                published,
                history: self.history()?,
                revoked: self.instant("revoke_us", self.revoke_us)?,
                reason: self.needs("revoke_reason", self.revoke_reason.clone())?,
                destroy_due: self.instant("destroy_due_us", self.destroy_due_us)?,
            },
            StateName::Destroyed | StateName::Pending => State::Destroyed {
                published,
                history: self.history()?,
                revoked: maybe(self.revoke_us, |us| time("revoke_us", us))?,
                reason: self.needs("revoke_reason", self.revoke_reason.clone())?,
                destroyed: self.instant("destroy_us", self.destroy_us)?,
            },
        };
        match self.left_over(&Self::from(&state)) {
            Some(column) => {
                Err(Impossible::new(column, format!("must be null in state {}", self.state)))
            }
            None => Ok(state),
        }
    }

    /// The time as current that has ended, if there was one; it is known in full or not at all.
    fn history(&self) -> Result<Option<History>, Impossible> {
        if self.current_until_us.is_none() {
            return Ok(None);
        }
        Ok(Some(History {
            since: self.instant("current_since_us", self.current_since_us)?,
            until: self.instant("current_until_us", self.current_until_us)?,
            tokens_until: self.instant("tokens_until_us", self.tokens_until_us)?,
        }))
    }

    fn instant(&self, column: &'static str, us: Option<i64>) -> Result<Timestamp, Impossible> {
        time(column, self.needs(column, us)?)
    }

    fn needs<T>(&self, column: &'static str, value: Option<T>) -> Result<T, Impossible> {
        value.ok_or_else(|| {
            Impossible::new(column, format!("must not be null in state {}", self.state))
        })
    }

    /// A column that has something where `whole` has nothing.
    fn left_over(&self, whole: &Self) -> Option<&'static str> {
        let same = [
            ("propagation_delay_us", self.propagation_delay_us == whole.propagation_delay_us),
            ("token_ttl_us", self.token_ttl_us == whole.token_ttl_us),
            ("current_since_us", self.current_since_us == whole.current_since_us),
            ("current_until_us", self.current_until_us == whole.current_until_us),
            ("tokens_until_us", self.tokens_until_us == whole.tokens_until_us),
            ("retire_us", self.retire_us == whole.retire_us),
            ("revoke_us", self.revoke_us == whole.revoke_us),
            ("revoke_reason", self.revoke_reason == whole.revoke_reason),
            ("destroy_due_us", self.destroy_due_us == whole.destroy_due_us),
            ("destroy_us", self.destroy_us == whole.destroy_us),
        ];
        same.into_iter().find_map(|(column, same)| (!same).then_some(column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn instants() -> impl Strategy<Value = Timestamp> {
        let (first, last) = (Timestamp::MIN.as_microsecond(), Timestamp::MAX.as_microsecond());
        prop_oneof![
            8 => first..=last,
            1 => Just(first),
            1 => Just(last),
        ]
        .prop_map(|us| time("test", us).unwrap())
    }

    fn spans() -> impl Strategy<Value = Duration> {
        (0..=u64::from(u32::MAX) * 1_000_000).prop_map(Duration::from_micros)
    }

    fn histories() -> impl Strategy<Value = History> {
        (instants(), instants(), instants()).prop_map(|(since, until, tokens_until)| History {
            since,
            until,
            tokens_until,
        })
    }

    fn states() -> impl Strategy<Value = State> {
        use proptest::option::of;
        prop_oneof![
            (instants(), spans(), of(histories())).prop_map(
                |(published, propagation_delay, history)| State::Next {
                    published,
                    propagation_delay,
                    history
                }
            ),
            (instants(), instants(), spans(), of(instants())).prop_map(
                |(published, since, token_ttl, tokens_until)| State::Current {
                    published,
                    since,
                    token_ttl,
                    tokens_until
                }
            ),
            (instants(), histories())
                .prop_map(|(published, history)| State::Previous { published, history }),
            (instants(), of(histories()), instants(), instants()).prop_map(
                |(published, history, retired, destroy_due)| State::Retired {
                    published,
                    history,
                    retired,
                    destroy_due
                }
            ),
            (instants(), of(histories()), instants(), any::<String>(), instants()).prop_map(
                |(published, history, revoked, reason, destroy_due)| {
                    State::Revoked { published, history, revoked, reason, destroy_due }
                }
            ),
            (instants(), of(histories()), of(instants()), any::<String>(), instants()).prop_map(
                |(published, history, revoked, reason, destroyed)| {
                    State::Destroyed { published, history, revoked, reason, destroyed }
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn a_state_comes_back_as_it_was_written(state in states()) {
            let columns = StateColumns::from(&state);
            prop_assert_eq!(columns.state().unwrap(), state);
        }

        #[test]
        fn another_states_name_on_the_same_columns_never_passes_for_what_it_is_not(
            state in states(),
            name in proptest::sample::select(StateName::ALL.as_slice()),
        ) {
            let columns = StateColumns { state: name.to_string(), ..StateColumns::from(&state) };
            if let Ok(read) = columns.state() {
                prop_assert_eq!(StateColumns::from(&read), columns);
            }
        }
    }
}
