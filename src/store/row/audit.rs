//! The rows of the record and of its checkpoints.
//!
//! A record is read back to the last bit, so that its hash can be computed from the row alone.

use super::{Impossible, Table, maybe, number, number_to, text, time, time_us};
use crate::audit::{Checkpoint, Hash, Linked, Record};
use sqlx::FromRow;

/// A row of `audit`.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(in crate::store) struct AuditRow {
    pub(in crate::store) number: i64,
    pub(in crate::store) time_us: i64,
    pub(in crate::store) caller: String,
    pub(in crate::store) listener: String,
    pub(in crate::store) action: String,
    pub(in crate::store) key_set: Option<String>,
    pub(in crate::store) kid: Option<String>,
    pub(in crate::store) outcome: String,
    pub(in crate::store) reason: String,
    pub(in crate::store) request: String,
    pub(in crate::store) digest: Option<String>,
    pub(in crate::store) count: i64,
    pub(in crate::store) detail: String,
    pub(in crate::store) previous: Vec<u8>,
    pub(in crate::store) hash: Vec<u8>,
}

impl Table for AuditRow {
    const NAME: &'static str = "audit";
    const KEY: &'static str = "number";
}

impl From<&Linked> for AuditRow {
    fn from(linked: &Linked) -> Self {
        let record = &linked.record;
        Self {
            number: number_to(linked.number),
            time_us: time_us(record.time),
            caller: record.caller.to_string(),
            listener: record.listener.to_string(),
            action: record.action.to_string(),
            key_set: record.key_set.as_ref().map(ToString::to_string),
            kid: record.kid.map(|kid| kid.to_string()),
            outcome: record.outcome.to_string(),
            reason: record.reason.clone(),
            request: record.request.to_string(),
            digest: record.digest.map(|digest| digest.to_string()),
            count: number_to(record.count),
            detail: record.detail.clone(),
            previous: linked.previous.as_bytes().to_vec(),
            hash: linked.hash.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<AuditRow> for Linked {
    type Error = Impossible;

    fn try_from(row: AuditRow) -> Result<Self, Impossible> {
        Ok(Self {
            number: number("number", row.number)?,
            record: Record {
                time: time("time_us", row.time_us)?,
                caller: row.caller.into(),
                listener: row.listener.into(),
                action: text("action", &row.action)?,
                key_set: maybe(row.key_set, |id| text("key_set", &id))?,
                kid: maybe(row.kid, |kid| text("kid", &kid))?,
                outcome: text("outcome", &row.outcome)?,
                reason: row.reason,
                request: row.request.into(),
                digest: maybe(row.digest, |digest| text("digest", &digest))?,
                count: number("count", row.count)?,
                detail: row.detail,
            },
            previous: hash("previous", row.previous)?,
            hash: hash("hash", row.hash)?,
        })
    }
}

/// A row of `audit_checkpoints`.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(in crate::store) struct CheckpointRow {
    pub(in crate::store) number: i64,
    pub(in crate::store) last: i64,
    pub(in crate::store) jws: String,
}

impl Table for CheckpointRow {
    const NAME: &'static str = "audit_checkpoints";
    const KEY: &'static str = "number";
}

impl From<&Checkpoint> for CheckpointRow {
    fn from(checkpoint: &Checkpoint) -> Self {
        Self {
            number: number_to(checkpoint.statement.number),
            last: number_to(checkpoint.statement.head.number),
            jws: checkpoint.as_jws().to_owned(),
        }
    }
}

impl TryFrom<CheckpointRow> for Checkpoint {
    type Error = Impossible;

    /// What the JWS says counts; that it stands in its own place is for the verifier to see.
    fn try_from(row: CheckpointRow) -> Result<Self, Impossible> {
        Self::parse(&row.jws).map_err(|wrong| Impossible::new("jws", wrong))
    }
}

fn hash(column: &'static str, bytes: Vec<u8>) -> Result<Hash, Impossible> {
    let bytes = bytes.try_into().map_err(|_| Impossible::new(column, "must have 32 bytes"))?;
    Ok(Hash::from_bytes(bytes))
}
