//! A look at the end of the record before it is continued.
//!
//! The records since the last checkpoint are those that somebody could still have changed without
//! a signature to show it, and the next checkpoint will sign them. What does not fit together there
//! is said loudly and written into the record itself, where every later checkpoint covers it; it
//! stops nothing, since a damaged record is no reason to be unable to revoke a key.

use super::{Error, Kind, Store};
use crate::audit::{Action, Checkpoint, Head, Origin, Outcome, Record, Verifier};
use jiff::Timestamp;

/// At most so many records are looked at: those before them are left to `signkeep audit verify`.
const RECORDS_MAX: u64 = 20_000;
const PAGE: u32 = 1000;

/// Looks at the records since the last checkpoint, and says in words what is wrong with them, if
/// anything is; it is in the log and in the record by then, at the time `now`.
pub async fn inspect(store: &dyn Store, now: Timestamp) -> Result<Option<String>, Error> {
    let Some(flaw) = flaw(store).await? else {
        return Ok(None);
    };
    tracing::error!(
        flaw,
        "the audit record is damaged; the service goes on. Verify the record: signkeep audit verify"
    );
    let mut record = Record::new(now, &Origin::service(""), Action::Flaw);
    (record.outcome, record.detail) = (Outcome::Failed, flaw.clone());
    store.append_audit(&[record]).await?;
    Ok(Some(flaw))
}

async fn flaw(store: &dyn Store) -> Result<Option<String>, Error> {
    let end = store.audit_head().await?;
    let last = match store.last_checkpoint().await {
        Err(error) if error.kind == Kind::Corrupt => return Ok(Some(error.message)),
        other => other?,
    };
    let signed = last.as_ref().map_or(Head::EMPTY, |last| last.statement.head);
    if end.number < signed.number {
        return Ok(Some(format!(
            "the record ends with number {}, but its last checkpoint signs up to number {}: the end was cut off",
            end.number, signed.number
        )));
    }
    match records(store, end, signed, last).await {
        Err(error) if error.kind == Kind::Corrupt => Ok(Some(error.message)),
        other => other,
    }
}

async fn records(
    store: &dyn Store,
    end: Head,
    signed: Head,
    last: Option<Checkpoint>,
) -> Result<Option<String>, Error> {
    let mut after = signed.number.max(end.number.saturating_sub(RECORDS_MAX));
    let mut verifier = (after == signed.number).then(|| Verifier::after(signed, last));
    while after < end.number {
        let page = store.audit_trail(after, PAGE).await?;
        let Some(to) = page.last().map(|linked| linked.number) else { break };
        for linked in &page {
            // In the middle of the record the first one's word is taken for the one before it.
            let verifier = verifier.get_or_insert_with(|| {
                Verifier::after(Head { number: after, hash: linked.previous }, None)
            });
            if let Err(finding) = verifier.record(linked) {
                return Ok(Some(finding.to_string()));
            }
        }
        after = to;
    }
    Ok(verifier.and_then(|verifier| verifier.finish().err()).map(|finding| finding.to_string()))
}
