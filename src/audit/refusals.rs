//! Refusals, counted so that whoever is refused cannot fill the record.
//!
//! The first of a kind (who, what, of which key set, why) is recorded at once; its repeats are
//! counted and recorded once in an interval, with their number. Kinds are forgotten when an
//! interval passes without one. An attacker who varies names finds only so many kinds told apart;
//! beyond them refusals are counted by what and why alone. Nothing is dropped uncounted.

use super::{Action, Record};
use crate::key::KeySetId;
use jiff::Timestamp;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

/// Kinds that are told apart.
const KINDS_MAX: usize = 1024;
/// The caller of refusals that are not told apart.
const OTHERS: &str = "(others)";

#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<Kind, Seen>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    caller: Arc<str>,
    action: Action,
    key_set: Option<KeySetId>,
    reason: String,
}

/// One kind since it was last written down.
struct Seen {
    count: u64,
    first: Timestamp,
    /// The latest.
    record: Record,
}

impl Refusals {
    /// The record itself if it is the first of its kind and is to be written now; else it is
    /// counted.
    pub(super) fn note(&self, record: Record) -> Option<Record> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = seen.len() >= KINDS_MAX;
        let kind = Kind::of(&record);
        let (kind, record) = if full && !seen.contains_key(&kind) {
            (Kind { caller: OTHERS.into(), key_set: None, ..kind }, of_others(record))
        } else {
            (kind, record)
        };
        match seen.entry(kind) {
            Entry::Vacant(place) => {
                place.insert(Seen { count: 0, first: record.time, record: record.clone() });
                Some(record)
            }
            Entry::Occupied(mut place) => {
                let seen = place.get_mut();
                if seen.count == 0 {
                    seen.first = record.time;
                }
                seen.count = seen.count.saturating_add(record.count);
                seen.record = record;
                None
            }
        }
    }

    /// What was counted since the last time, one record for each kind.
    pub(super) fn due(&self, now: Timestamp) -> Vec<Record> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, seen| seen.count > 0);
        let due = seen.values_mut().map(|seen| {
            let count = std::mem::take(&mut seen.count);
            let since = format!("counted together since {}", seen.first);
            let detail = match seen.record.detail.as_str() {
                "" => since,
                last => format!("{since}; the last {last}"),
            };
            Record { time: now, count, detail, ..seen.record.clone() }
        });
        due.collect()
    }
}

impl Kind {
    fn of(record: &Record) -> Self {
        Self {
            caller: Arc::clone(&record.caller),
            action: record.action,
            key_set: record.key_set.clone(),
            reason: record.reason.clone(),
        }
    }
}

/// What is the same in all that are not told apart.
fn of_others(record: Record) -> Record {
    let detail =
        format!("one of many callers or key sets; more than {KINDS_MAX} are not told apart");
    let (caller, listener, request) = (OTHERS.into(), "".into(), "".into());
    Record { caller, listener, request, key_set: None, kid: None, detail, ..record }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Origin, Outcome};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn refusal(caller: &str, second: i64) -> Record {
        let request = format!("r{second}");
        let origin =
            Origin { caller: caller.into(), listener: "grpc".into(), request: request.into() };
        Record {
            key_set: Some("default".parse().unwrap()),
            outcome: Outcome::Refused,
            reason: "CALLER_NOT_ALLOWED".to_owned(),
            ..Record::new(at(second), &origin, Action::Sign)
        }
    }

    #[test]
    fn the_first_of_a_kind_is_told_at_once_and_its_repeats_with_their_number() {
        let refusals = Refusals::default();
        assert_eq!(refusals.note(refusal("eve", 0)), Some(refusal("eve", 0)));
        assert_eq!(refusals.note(refusal("mallory", 0)), Some(refusal("mallory", 0)));
        for second in 1..=5 {
            assert_eq!(refusals.note(refusal("eve", second)), None);
        }
        let due = refusals.due(at(60));
        let [told] = due.as_slice() else { panic!("{due:?}") };
        assert_eq!((told.time, told.count, &*told.caller), (at(60), 5, "eve"));
        assert!(told.detail.contains("since 2027-01-15T08:00:01Z"), "{}", told.detail);
        assert_eq!(&*told.request, "r5");
        // A kind that was silent for an interval is new again, and no sooner.
        assert_eq!(refusals.note(refusal("mallory", 61)), Some(refusal("mallory", 61)));
        assert_eq!(refusals.note(refusal("eve", 61)), None);
        assert_eq!(refusals.due(at(120)).len(), 1);
        assert!(refusals.due(at(180)).is_empty());
        assert!(refusals.note(refusal("eve", 181)).is_some());
    }

    #[test]
    fn an_attacker_who_varies_names_is_counted_in_bounded_memory() {
        let refusals = Refusals::default();
        let sent = 20 * KINDS_MAX;
        let told = (0..sent).filter_map(|name| refusals.note(refusal(&format!("dns:{name}"), 0)));
        let at_once: u64 = told.map(|record| record.count).sum();
        assert!(refusals.0.lock().unwrap().len() <= KINDS_MAX + 1);
        let due = refusals.due(at(60));
        assert_eq!(due.len(), 1);
        assert_eq!(&*due[0].caller, OTHERS);
        assert_eq!(at_once + due[0].count, u64::try_from(sent).unwrap(), "none is lost");
    }
}
