//! The audit record: can it be written, and is it sealed?

use super::finding::{Finding, Findings};
use crate::audit::{Checkpoint, Linked};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Sink, Store, words};
use crate::store::Error;
use crate::store::sqlite::Archive;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

/// A checkpoint that is so many intervals late is told.
const LATE: u32 = 5;

pub(super) async fn run(config: &Config, findings: &mut Findings) {
    if config.audit.sinks.contains(&Sink::File) {
        findings.add(file(&config.audit.file.path));
    }
    // The record in PostgreSQL is read by the service alone.
    if let Store::Sqlite(store) = &config.store
        && config.audit.sinks.contains(&Sink::Store)
        && store.exists()
    {
        findings.add(checkpoints(config, store).await);
    }
}

fn file(path: &Path) -> Finding {
    let shown = path.display();
    match writable(path) {
        Ok(()) => Finding::ok("audit file", format!("{shown} can be written")),
        Err(error) => Finding::wrong(
            "audit file",
            format!("{shown}: {error}"),
            "make the file and its directory writable for the service, or correct audit.file.path; while it is out, signatures wait or are counted as audit.when_full says",
        ),
    }
}

/// A file that is not there yet is made and taken away again.
fn writable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => Err(io::Error::other("must be a regular file")),
        Ok(_) => OpenOptions::new().append(true).open(path).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let probe = path.with_extension("doctor");
            OpenOptions::new().write(true).create_new(true).open(&probe)?;
            fs::remove_file(probe)
        }
        Err(error) => Err(error),
    }
}

async fn checkpoints(config: &Config, store: &Path) -> Finding {
    const ABOUT: &str = "audit checkpoints";
    let unreadable = |error: &dyn std::fmt::Display| {
        Finding::wrong(ABOUT, format!("the record cannot be read: {error}"), "see the store's line")
    };
    let (last, waiting) = match ends(store).await {
        Ok(ends) => ends,
        Err(error) => return unreadable(&error),
    };
    let Some(last) = last else {
        return Finding::ok(ABOUT, "there is none yet; the first comes soon after the first start");
    };
    let (time, covered) = (last.statement.time, last.statement.head.number);
    let since = waiting.map(|oldest| oldest.record.time);
    let age =
        since.and_then(|since| Duration::try_from(SystemClock.now().duration_since(since)).ok());
    let late = config.audit.checkpoint_interval.saturating_mul(LATE);
    match age {
        Some(age) if age > late => Finding::warning(
            ABOUT,
            format!(
                "the last is of {time}; record {} and what follows have waited for one for {}",
                covered + 1,
                words(Duration::from_secs(age.as_secs())),
            ),
            "start the service if it is stopped; else see whether the backend that audit.backend names can sign",
        ),
        _ => Finding::ok(ABOUT, format!("the last is of {time} and covers record {covered}")),
    }
}

/// The last checkpoint, and the first record that it does not cover.
async fn ends(store: &Path) -> Result<(Option<Checkpoint>, Option<Linked>), Error> {
    let archive = Archive::open(store).await?;
    let Some(before) = archive.last_checkpoint().checked_sub(1) else { return Ok((None, None)) };
    let Some((_, last)) = archive.checkpoints(before, 1).await?.pop() else {
        return Ok((None, None));
    };
    let last = last?;
    let waiting = archive.trail(last.statement.head.number, 1).await?.pop().transpose()?;
    Ok((Some(last), waiting))
}
