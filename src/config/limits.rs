//! `[limits]`: how long things may take, and how much callers may take up.

use super::document::{Document, Error};
use super::span::{Span, words};
use crate::transport;
use serde::Deserialize;
use std::time::Duration;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest that a read or a signature may take, whatever deadline its caller sets.
    pub request_timeout: Duration,
    /// How long requests under way may go on after the service was asked to stop.
    pub drain_timeout: Duration,
}

/// What listeners start from.
pub(super) struct ForListeners {
    pub(super) grpc: transport::Limits,
    pub(super) http: transport::Limits,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Section {
    request_timeout: Span,
    drain_timeout: Span,
    connections_max: Option<u32>,
    streams_per_connection_max: Option<u32>,
    handshake_timeout: Option<Span>,
    idle_timeout: Option<Span>,
    connection_age: Option<Span>,
    header_bytes_max: Option<u32>,
    message_bytes_max: Option<u32>,
}

/// What one listener's peers may take up, where that is to differ.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Overrides {
    connections_max: Option<u32>,
    streams_per_connection_max: Option<u32>,
    handshake_timeout: Option<Span>,
    idle_timeout: Option<Span>,
    connection_age: Option<Span>,
    header_bytes_max: Option<u32>,
    message_bytes_max: Option<u32>,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            request_timeout: Span::from_secs(30),
            drain_timeout: Span::from_secs(10),
            connections_max: None,
            streams_per_connection_max: None,
            handshake_timeout: None,
            idle_timeout: None,
            connection_age: None,
            header_bytes_max: None,
            message_bytes_max: None,
        }
    }
}

impl Section {
    pub(super) fn build(&self, document: &Document<'_>) -> Result<Limits, Error> {
        let second = Duration::from_secs(1);
        if !(second..=600 * second).contains(&self.request_timeout.get()) {
            return Err(document.wrong("limits.request_timeout", "must be between 1s and 10m"));
        }
        if self.drain_timeout.get() > 600 * second {
            return Err(document.wrong("limits.drain_timeout", "must be at most 10m"));
        }
        Ok(Limits {
            request_timeout: self.request_timeout.get(),
            drain_timeout: self.drain_timeout.get(),
        })
    }

    pub(super) fn for_listeners(&self, document: &Document<'_>) -> Result<ForListeners, Error> {
        let all = Overrides {
            connections_max: self.connections_max,
            streams_per_connection_max: self.streams_per_connection_max,
            handshake_timeout: self.handshake_timeout,
            idle_timeout: self.idle_timeout,
            connection_age: self.connection_age,
            header_bytes_max: self.header_bytes_max,
            message_bytes_max: self.message_bytes_max,
        };
        // Whatever a call may take, it may take on a connection that was told to end, too.
        let longest = self.request_timeout.get().max(self.drain_timeout.get());
        let usual = transport::Limits::GRPC;
        let grace = usual.grace.max(longest + Duration::from_secs(30));
        Ok(ForListeners {
            grpc: all.over(&transport::Limits { grace, ..usual }, document, "limits")?,
            http: all.over(&transport::Limits::HTTP, document, "limits")?,
        })
    }
}

impl Overrides {
    /// `limits` with what is to differ.
    pub(super) fn over(
        &self,
        limits: &transport::Limits,
        document: &Document<'_>,
        field: &str,
    ) -> Result<transport::Limits, Error> {
        let wrong = |name: &str, what: String| document.wrong(&format!("{field}.{name}"), what);
        let number = |name: &str, value: Option<u32>, usual: u32, least: u32, most: u32| {
            let value = value.unwrap_or(usual);
            let fits = (least..=most).contains(&value);
            fits.then_some(value).ok_or_else(|| wrong(name, between(least, most)))
        };
        let span = |name: &str, value: Option<Span>, usual: Duration, least: u64, most: u64| {
            let value = value.map_or(usual, Span::get);
            let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
            let fits = (least..=most).contains(&value);
            fits.then_some(value).ok_or_else(|| wrong(name, between(words(least), words(most))))
        };
        let (connections, streams) = (self.connections_max, self.streams_per_connection_max);
        let usual = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
        let connections = number("connections_max", connections, usual, 1, 1_000_000)?;
        let usual = limits.streams_per_connection_max;
        let streams = number("streams_per_connection_max", streams, usual, 1, 10_000)?;
        let usual = limits.header_bytes_max;
        let headers = number("header_bytes_max", self.header_bytes_max, usual, 8192, 1 << 20)?;
        let usual = u32::try_from(limits.message_bytes_max).unwrap_or(u32::MAX);
        let message = number("message_bytes_max", self.message_bytes_max, usual, 4096, 1 << 22)?;
        let usual = limits.handshake_timeout;
        let handshake = span("handshake_timeout", self.handshake_timeout, usual, 1, 120)?;
        let usual = limits.idle_timeout;
        let idle = span("idle_timeout", self.idle_timeout, usual, 1, 86_400)?;
        let usual = limits.connection_age;
        let age = span("connection_age", self.connection_age, usual, 1, 30 * 86_400)?;
        Ok(transport::Limits {
            connections_max: usize::try_from(connections).unwrap_or(usize::MAX),
            streams_per_connection_max: streams,
            handshake_timeout: handshake,
            idle_timeout: idle,
            connection_age: age,
            header_bytes_max: headers,
            message_bytes_max: usize::try_from(message).unwrap_or(usize::MAX),
            ..*limits
        })
    }
}

fn between(least: impl std::fmt::Display, most: impl std::fmt::Display) -> String {
    format!("must be between {least} and {most}")
}
