//! How long a caller waits: the `grpc-timeout` header, and the limits that the service sets.
//!
//! The header is read and taken off here, so that nothing beneath answers it in another way.

use super::Settings;
use std::time::{Duration, Instant};
use tonic::codegen::http::HeaderMap;

const HEADER: &str = "grpc-timeout";

/// A `grpc-timeout` that is not 1 to 8 digits and one of H, M, S, m, u, n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Until when a call may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    asked: Option<Instant>,
    limit: Option<Instant>,
}

/// What sort of work a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A read, or a signature.
    Request,
    /// A change of a key set.
    Change,
    /// A stream, which goes on until one side ends it.
    Stream,
}

impl Work {
    /// What sort of work the rpc at `path` is.
    pub(super) fn at(path: &str) -> Self {
        match path.rsplit('/').next().unwrap_or_default() {
            "CreateKeySet" | "UpdateKeySet" | "DisableKeySet" | "EnableKeySet" | "DeleteKeySet"
            | "Rotate" | "Revoke" | "Rollback" => Self::Change,
            "SignStream" | "WatchKeys" | "Watch" | "ServerReflectionInfo" => Self::Stream,
            _ => Self::Request,
        }
    }

    const fn timeout_max(self, settings: &Settings) -> Option<Duration> {
        match self {
            Self::Request => Some(settings.request_timeout_max),
            Self::Change => Some(settings.change_timeout_max),
            Self::Stream => None,
        }
    }
}

impl Deadline {
    /// Takes `grpc-timeout` off `headers` and reckons the deadline from `now`.
    pub(super) fn take(
        headers: &mut HeaderMap,
        work: Work,
        now: Instant,
        settings: &Settings,
    ) -> Result<Self, Malformed> {
        let asked = match headers.remove(HEADER) {
            None => None,
            Some(value) => Some(parse(value.as_bytes()).ok_or(Malformed)?),
        };
        let limit = work.timeout_max(settings);
        Ok(Self {
            asked: asked.and_then(|span| now.checked_add(span)),
            limit: limit.and_then(|span| now.checked_add(span)),
        })
    }

    /// The end of the whole call; none for a stream on which the caller has set none.
    pub(super) fn end(self) -> Option<Instant> {
        self.asked.into_iter().chain(self.limit).min()
    }

    /// The end of a piece of work that begins at `now` and takes at most `limit`.
    pub(super) fn within(self, now: Instant, limit: Duration) -> Instant {
        let own = now.checked_add(limit).unwrap_or(now);
        self.end().map_or(own, |end| end.min(own))
    }
}

/// TimeoutValue TimeoutUnit, as in gRPC over HTTP/2.
fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    let well_formed = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    if !well_formed {
        return None;
    }
    let value: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(value * 3600)),
        b'M' => Some(Duration::from_secs(value * 60)),
        b'S' => Some(Duration::from_secs(value)),
        b'm' => Some(Duration::from_millis(value)),
        b'u' => Some(Duration::from_micros(value)),
        b'n' => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str, work: Work, now: Instant) -> Result<Deadline, Malformed> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, text.parse().unwrap());
        let taken = Deadline::take(&mut headers, work, now, &Settings::default());
        assert!(headers.is_empty(), "the header is taken off");
        taken
    }

    #[test]
    fn every_unit_of_grpc_timeout_is_read() {
        let spans = [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("250m", Duration::from_millis(250)),
            ("0n", Duration::ZERO),
            ("99999999u", Duration::from_micros(99_999_999)),
        ];
        for (text, span) in spans {
            assert_eq!(parse(text.as_bytes()), Some(span), "{text}");
        }
    }

    #[test]
    fn a_malformed_grpc_timeout_is_noticed() {
        for text in ["", "S", "5", "5s", "-1S", "+1S", "1.5S", "123456789n", " 1S"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
            assert_eq!(taken(text, Work::Request, Instant::now()), Err(Malformed));
        }
    }

    #[test]
    fn the_earlier_of_the_callers_and_the_services_limit_counts() {
        let now = Instant::now();
        let end = |text, work| taken(text, work, now).unwrap().end().map(|end| end - now);
        assert_eq!(end("5S", Work::Request), Some(Duration::from_secs(5)));
        assert_eq!(end("5H", Work::Request), Some(Duration::from_secs(30)));
        assert_eq!(end("5H", Work::Change), Some(Duration::from_secs(120)));
        assert_eq!(end("1H", Work::Stream), Some(Duration::from_secs(3600)));
    }

    #[test]
    fn an_item_of_a_stream_ends_with_the_stream_at_the_latest() {
        let now = Instant::now();
        let long = Duration::from_secs(30);
        let stream = taken("5S", Work::Stream, now).unwrap();
        assert_eq!(stream.within(now, long), now + Duration::from_secs(5));
        let open = Deadline { asked: None, limit: None };
        assert_eq!(open.end(), None);
        assert_eq!(open.within(now, long), now + long);
    }
}
