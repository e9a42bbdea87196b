//! What someone should see to before it stops clients, or because it does.

use crate::key::later;
use jiff::Timestamp;
use std::path::PathBuf;
use std::time::Duration;

/// How long before the end of the server's certificate it is told of.
const NOTICE: Duration = Duration::from_secs(14 * 24 * 3600);

/// A part of a set that is good for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) file: PathBuf,
    pub(super) from: Timestamp,
    /// None: for ever.
    pub(super) until: Option<Timestamp>,
}

/// Something about a set in force that someone should see to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worry {
    /// It works, and soon will not.
    Soon(String),
    /// It does not work.
    Now(String),
}

impl Worry {
    /// What it is, and what to do.
    pub fn text(&self) -> &str {
        match self {
            Self::Soon(text) | Self::Now(text) => text,
        }
    }
}

impl Part {
    pub(super) fn is_early(&self, now: Timestamp) -> bool {
        now < self.from
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// From when until when it is good, in words.
    pub(super) fn times(&self) -> String {
        match self.until {
            Some(until) => format!("is good from {} to {until}, and not now", self.from),
            None => format!("is good from {}, and not now", self.from),
        }
    }

    /// Whether less than a tenth of its time is left.
    fn is_in_its_last_tenth(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| {
            let whole = until.duration_since(self.from);
            until.duration_since(now) < whole / 10
        })
    }
}

pub(super) fn worries(
    certificate: &Part,
    crls: &[Part],
    without_crl: &[String],
    now: Timestamp,
) -> Vec<Worry> {
    let mut worries = Vec::new();
    let file = certificate.file.display();
    if certificate.is_early(now) {
        worries.push(Worry::Now(format!(
            "the certificate in {file} {}: clients refuse it; look at this machine's clock",
            certificate.times()
        )));
    } else if certificate.is_over(now) {
        worries.push(Worry::Now(format!(
            "the certificate in {file} {}: clients refuse it; put a new one there",
            certificate.times()
        )));
    } else if let Some(until) = certificate.until.filter(|until| *until < later(now, NOTICE)) {
        worries.push(Worry::Soon(format!(
            "the certificate in {file} expires at {until}: put a new one there before"
        )));
    }
    for crl in crls {
        let file = crl.file.display();
        if crl.is_over(now) {
            worries.push(Worry::Now(format!(
                "the revocation list in {file} {}: clients of its CA are refused; put a newer one there",
                crl.times()
            )));
        } else if crl.is_in_its_last_tenth(now) {
            worries.push(Worry::Soon(format!(
                "the time of the revocation list in {file} is nearly over; clients of its CA are refused then: put a newer one there before"
            )));
        }
    }
    for ca in without_crl {
        worries.push(Worry::Now(format!(
            "there is no revocation list of the client CA {ca}: its clients are refused; add its list to crl_files"
        )));
    }
    worries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(from: &str, until: &str) -> Part {
        Part {
            file: "server.pem".into(),
            from: from.parse().unwrap(),
            until: Some(until.parse().unwrap()),
        }
    }

    #[track_caller]
    fn one(worries: &[Worry], wanted: fn(String) -> Worry, word: &str) {
        let [worry] = worries else { panic!("{worries:?}") };
        assert_eq!(*worry, wanted(worry.text().to_owned()));
        assert!(worry.text().contains(word), "{worry:?}");
    }

    #[test]
    fn a_certificate_is_told_of_fourteen_days_before_its_end_and_after_it() {
        let certificate = part("2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z");
        let at = |now: &str| worries(&certificate, &[], &[], now.parse().unwrap());
        assert_eq!(at("2026-06-16T00:00:00Z"), []);
        one(&at("2026-06-18T00:00:00Z"), Worry::Soon, "expires at 2026-07-01");
        one(&at("2026-07-01T00:00:00Z"), Worry::Now, "put a new one there");
        one(&at("2025-12-31T00:00:00Z"), Worry::Now, "clock");
    }

    #[test]
    fn a_revocation_list_is_told_of_in_its_last_tenth_and_after_it() {
        let certificate = part("2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z");
        let crls = [part("2026-01-01T00:00:00Z", "2026-01-11T00:00:00Z")];
        let at = |now: &str| worries(&certificate, &crls, &[], now.parse().unwrap());
        assert_eq!(at("2026-01-09T23:59:59Z"), []);
        one(&at("2026-01-10T00:00:01Z"), Worry::Soon, "nearly over");
        one(&at("2026-01-11T00:00:00Z"), Worry::Now, "are refused");
    }
}
