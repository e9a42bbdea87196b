//! Rows: one type a table, with one way out of the domain and one way back.
//!
//! The way back trusts nothing. A row that no key could have written (an unknown state, a time
//! missing or left over, a kid that is none) is [`Impossible`], by column: better a service that
//! stops and says where than one that signs by a guess.

mod audit;
mod key;
mod state;

pub(super) use audit::{AuditRow, CheckpointRow};
pub(super) use key::KeyRow;

use crate::key::{
    Algorithm, Curve, Hold, KeySet, KeySpec, Policy, Reservation, RsaBits, Service, StateName, Undo,
};
use crate::store::{Answer, RequestKey};
use jiff::Timestamp;
use sqlx::FromRow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A row type's table.
pub(super) trait Table {
    /// The table's name.
    const NAME: &'static str;
    /// The column that names a row to a person.
    const KEY: &'static str;
}

/// A row that cannot be, by the column that shows it.
#[derive(Debug)]
pub(super) struct Impossible {
    /// The column.
    pub(super) column: &'static str,
    /// What would be right.
    pub(super) why: String,
}

impl Impossible {
    fn new(column: &'static str, why: impl fmt::Display) -> Self {
        let why = why.to_string();
        Self { column, why }
    }
}

/// A row of `key_sets`; its keys are rows of their own.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(super) struct KeySetRow {
    pub(super) id: String,
    pub(super) algorithm: String,
    pub(super) issuer: String,
    pub(super) backend: String,
    pub(super) propagation_delay_us: i64,
    pub(super) max_token_ttl_us: i64,
    pub(super) retention_us: Option<i64>,
    pub(super) rotation_period_us: Option<i64>,
    pub(super) destroy_after_us: i64,
    pub(super) rsa_bits: i64,
    pub(super) service: String,
    pub(super) rotation_hold: String,
    pub(super) undo_kid: Option<String>,
    pub(super) undo_reinstates: Option<String>,
    pub(super) revision: i64,
    pub(super) created_us: i64,
}

impl Table for KeySetRow {
    const NAME: &'static str = "key_sets";
    const KEY: &'static str = "id";
}

impl From<&KeySet> for KeySetRow {
    fn from(set: &KeySet) -> Self {
        Self {
            id: set.id.to_string(),
            algorithm: set.algorithm.to_string(),
            issuer: set.issuer.to_string(),
            backend: set.backend.to_string(),
            propagation_delay_us: span_us(set.policy.propagation_delay),
            max_token_ttl_us: span_us(set.policy.max_token_ttl),
            retention_us: set.policy.retention.map(span_us),
            rotation_period_us: set.policy.rotation_period.map(span_us),
            destroy_after_us: span_us(set.policy.destroy_after),
            rsa_bits: set.policy.rsa_bits.bits().into(),
            service: match set.service {
                Service::Enabled => "enabled",
                Service::Disabled => "disabled",
                Service::Deleted => "deleted",
            }
            .to_owned(),
            rotation_hold: match set.rotation_hold {
                Hold::Off => "off",
                Hold::On => "on",
            }
            .to_owned(),
            undo_kid: set.undo.map(|undo| undo.made.to_string()),
            undo_reinstates: set.undo.map(|undo| undo.reinstates.to_string()),
            revision: number_to(set.revision),
            created_us: time_us(set.created),
        }
    }
}

impl TryFrom<KeySetRow> for KeySet {
    type Error = Impossible;

    fn try_from(row: KeySetRow) -> Result<Self, Impossible> {
        let bits = u32::try_from(row.rsa_bits).ok().and_then(RsaBits::from_bits);
        Ok(Self {
            id: text("id", &row.id)?,
            algorithm: text("algorithm", &row.algorithm)?,
            issuer: text("issuer", &row.issuer)?,
            backend: text("backend", &row.backend)?,
            policy: Policy {
                propagation_delay: span("propagation_delay_us", row.propagation_delay_us)?,
                max_token_ttl: span("max_token_ttl_us", row.max_token_ttl_us)?,
                retention: maybe(row.retention_us, |us| span("retention_us", us))?,
                rotation_period: maybe(row.rotation_period_us, |us| {
                    span("rotation_period_us", us)
                })?,
                destroy_after: span("destroy_after_us", row.destroy_after_us)?,
                rsa_bits: bits
                    .ok_or_else(|| Impossible::new("rsa_bits", "must be 2048, 3072 or 4096"))?,
            },
            service: match row.service.as_str() {
                "enabled" => Service::Enabled,
                "disabled" => Service::Disabled,
                "deleted" => Service::Deleted,
                _ => {
                    return Err(Impossible::new("service", "must be enabled, disabled or deleted"));
                }
            },
            rotation_hold: match row.rotation_hold.as_str() {
                "off" => Hold::Off,
                "on" => Hold::On,
                _ => return Err(Impossible::new("rotation_hold", "must be off or on")),
            },
            undo: undo(row.undo_kid, row.undo_reinstates)?,
            revision: number("revision", row.revision)?,
            created: time("created_us", row.created_us)?,
            keys: Vec::new(),
        })
    }
}

/// A row of `reservations`.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(super) struct ReservationRow {
    pub(super) material: String,
    pub(super) key_set: String,
    pub(super) algorithm: String,
    pub(super) spec: String,
    pub(super) backend: String,
    pub(super) reserved_us: i64,
    pub(super) abandoned: i64,
}

/// A reservation, and whether it is still wanted.
pub(super) enum Reserved {
    Wanted(Reservation),
    Abandoned(Reservation),
}

impl Reserved {
    /// The reservation, wanted or not.
    pub(super) fn into_inner(self) -> Reservation {
        match self {
            Self::Wanted(reservation) | Self::Abandoned(reservation) => reservation,
        }
    }
}

impl Table for ReservationRow {
    const NAME: &'static str = "reservations";
    const KEY: &'static str = "material";
}

impl From<&Reservation> for ReservationRow {
    fn from(reservation: &Reservation) -> Self {
        Self {
            material: reservation.material.to_string(),
            key_set: reservation.key_set.to_string(),
            algorithm: reservation.algorithm.to_string(),
            spec: reservation.spec.to_string(),
            backend: reservation.backend.to_string(),
            reserved_us: time_us(reservation.reserved),
            abandoned: 0,
        }
    }
}

impl TryFrom<ReservationRow> for Reserved {
    type Error = Impossible;

    fn try_from(row: ReservationRow) -> Result<Self, Impossible> {
        let algorithm: Algorithm = text("algorithm", &row.algorithm)?;
        let spec = spec(&row.spec)
            .filter(|spec| match spec {
                KeySpec::Rsa(bits) => algorithm.key_spec(*bits) == *spec,
                KeySpec::Ec(_) | KeySpec::Ed25519 => {
                    algorithm.key_spec(RsaBits::default()) == *spec
                }
            })
            .ok_or_else(|| Impossible::new("spec", format!("must be a kind of {algorithm} key")))?;
        let reservation = Reservation {
            material: text("material", &row.material)?,
            key_set: text("key_set", &row.key_set)?,
            algorithm,
            spec,
            backend: text("backend", &row.backend)?,
            reserved: time("reserved_us", row.reserved_us)?,
        };
        match row.abandoned {
            0 => Ok(Self::Wanted(reservation)),
            1 => Ok(Self::Abandoned(reservation)),
            _ => Err(Impossible::new("abandoned", "must be 0 or 1")),
        }
    }
}

/// A row of `answers`.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(super) struct AnswerRow {
    pub(super) caller: String,
    pub(super) request_id: String,
    pub(super) asked: Vec<u8>,
    pub(super) time_us: i64,
    pub(super) body: String,
    pub(super) revision: i64,
}

impl Table for AnswerRow {
    const NAME: &'static str = "answers";
    const KEY: &'static str = "request_id";
}

impl From<&Answer> for AnswerRow {
    fn from(answer: &Answer) -> Self {
        Self {
            caller: answer.request.caller.clone(),
            request_id: answer.request.request_id.clone(),
            asked: answer.asked.to_vec(),
            time_us: time_us(answer.time),
            body: answer.body.clone(),
            revision: number_to(answer.revision),
        }
    }
}

impl TryFrom<AnswerRow> for Answer {
    type Error = Impossible;

    fn try_from(row: AnswerRow) -> Result<Self, Impossible> {
        Ok(Self {
            request: RequestKey { caller: row.caller, request_id: row.request_id },
            asked: row
                .asked
                .try_into()
                .map_err(|_| Impossible::new("asked", "must have 32 bytes"))?,
            time: time("time_us", row.time_us)?,
            body: row.body,
            revision: number("revision", row.revision)?,
        })
    }
}

/// The instant as the store writes it: whole microseconds, what is finer is dropped.
pub(super) fn time_us(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// A number as the store writes it; beyond 2^63 none exists.
pub(super) fn number_to(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that counts something.
pub(super) fn number(column: &'static str, number: i64) -> Result<u64, Impossible> {
    u64::try_from(number).map_err(|_| Impossible::new(column, "must not be negative"))
}

/// The span as the store writes it: whole microseconds, what is finer is rounded up, so that no
/// delay grows shorter by being stored.
fn span_us(span: Duration) -> i64 {
    i64::try_from(span.as_nanos().div_ceil(1000)).unwrap_or(i64::MAX)
}

fn time(column: &'static str, us: i64) -> Result<Timestamp, Impossible> {
    // By seconds and the rest: `from_microsecond` leaves out the last second that there is.
    let (second, rest) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    i32::try_from(rest * 1000)
        .ok()
        .and_then(|rest| Timestamp::new(second, rest).ok())
        .ok_or_else(|| Impossible::new(column, "must be a time between the years -9999 and 9999"))
}

fn span(column: &'static str, us: i64) -> Result<Duration, Impossible> {
    number(column, us).map(Duration::from_micros)
}

fn text<T: FromStr<Err: fmt::Display>>(column: &'static str, text: &str) -> Result<T, Impossible> {
    text.parse().map_err(|wrong| Impossible::new(column, wrong))
}

/// What Rollback would undo: both keys or none.
fn undo(made: Option<String>, reinstates: Option<String>) -> Result<Option<Undo>, Impossible> {
    match (made, reinstates) {
        (None, None) => Ok(None),
        (Some(made), Some(reinstates)) => Ok(Some(Undo {
            made: text("undo_kid", &made)?,
            reinstates: text("undo_reinstates", &reinstates)?,
        })),
        _ => Err(Impossible::new("undo_reinstates", "must be set just where undo_kid is")),
    }
}

/// `parse` where there is something to parse.
fn maybe<T, U>(
    value: Option<T>,
    parse: impl FnOnce(T) -> Result<U, Impossible>,
) -> Result<Option<U>, Impossible> {
    value.map(parse).transpose()
}

fn spec(text: &str) -> Option<KeySpec> {
    let rsa = [RsaBits::B2048, RsaBits::B3072, RsaBits::B4096].map(KeySpec::Rsa);
    let ec = [Curve::P256, Curve::P384, Curve::P521].map(KeySpec::Ec);
    rsa.into_iter().chain(ec).chain([KeySpec::Ed25519]).find(|spec| spec.to_string() == text)
}

/// The state of that name, if keys can be in it.
fn state_name(name: &str) -> Result<StateName, Impossible> {
    match name.parse() {
        Ok(StateName::Pending) | Err(_) => Err(Impossible::new(
            "state",
            "must be one of next, current, previous, retired, revoked, destroyed",
        )),
        Ok(name) => Ok(name),
    }
}
