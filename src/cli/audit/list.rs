//! `signkeep audit list`: the latest records, for people.

use super::source::Place;
use crate::audit::{Action, Linked};
use crate::cli::Failure;
use crate::cli::output::{self, Output};
use crate::key::{KeySetId, is_unseen};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Show the latest records.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    place: Place,
    /// Only those about this key set.
    #[arg(long, value_name = "ID")]
    key_set: Option<KeySetId>,
    /// Only those of this caller; `signkeep` for what the service did by itself.
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// Only those of this action, e.g. revoke.
    #[arg(long, value_name = "ACTION")]
    action: Option<Action>,
    /// Only those at or after this time, e.g. 2026-11-23 or 2026-11-23T18:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// At most so many, the latest of them.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    /// How they look.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    fn wants(&self, linked: &Linked) -> bool {
        let record = &linked.record;
        self.key_set.as_ref().is_none_or(|id| record.key_set.as_ref() == Some(id))
            && self.caller.as_deref().is_none_or(|caller| &*record.caller == caller)
            && self.action.is_none_or(|action| record.action == action)
            && self.since.is_none_or(|since| record.time >= since)
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let mut source = args.place.open().await?;
    let mut latest = VecDeque::new();
    while let Some(linked) = source.record().await? {
        if args.wants(&linked) {
            latest.push_back(linked);
        }
        if latest.len() > args.limit {
            latest.pop_front();
        }
    }
    if args.output == Output::Json {
        let records: Vec<Value> = latest.iter().map(as_json).collect();
        return output::json(&json!({ "records": records }));
    }
    if latest.is_empty() {
        return output::line("There is no such record.");
    }
    let mut table =
        output::table(&["NUMBER", "TIME", "CALLER", "ACTION", "KEY SET", "KID", "OUTCOME", "WHY"]);
    for linked in &latest {
        table.add_row(row(linked));
    }
    output::print_table(&table)
}

fn row(linked: &Linked) -> [String; 8] {
    let record = &linked.record;
    let outcome = match record.count {
        1 => record.outcome.to_string(),
        count => format!("{} ×{count}", record.outcome),
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let why = [record.reason.as_str(), record.detail.as_str()];
    let why: Vec<&str> = why.into_iter().filter(|text| !text.is_empty()).collect();
    [
        linked.number.to_string(),
        format!("{:.0}", record.time),
        printable(&record.caller),
        record.action.to_string(),
        or_dash(record.key_set.as_ref().map(ToString::to_string)),
        or_dash(record.kid.map(|kid| kid.to_string())),
        outcome,
        printable(&why.join("; ")),
    ]
}

/// Other people's words, unable to move a terminal's cursor, to break a line, or to look like what
/// they are not.
fn printable(text: &str) -> String {
    let escaped = |c: char| match c {
        '\t' | '\r' | '\n' => c.escape_default().to_string(),
        c => c.escape_unicode().to_string(),
    };
    text.chars().map(|c| if is_unseen(c) { escaped(c) } else { c.to_string() }).collect()
}

fn as_json(linked: &Linked) -> Value {
    serde_json::from_str(&linked.to_json()).unwrap_or_default()
}

fn time(text: &str) -> Result<Timestamp, String> {
    let date = || Some(text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    text.parse().ok().or_else(date).ok_or_else(|| {
        "must be a time or a date, in UTC, e.g. 2026-11-23T18:00:00Z or 2026-11-23".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_shown_by_its_number() {
        assert_eq!(printable("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
        assert_eq!(printable("x\u{202e}y\u{200b}\u{feff}"), "x\\u{202e}y\\u{200b}\\u{feff}");
        assert_eq!(printable("Schlüssel 鍵"), "Schlüssel 鍵");
    }
}
