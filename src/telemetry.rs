//! The log: to standard error, for people on a terminal and as JSON otherwise.
//!
//! Libraries that see what callers send are held to their warnings whatever level is set, so that
//! no setting can bring a payload, a claim or a header into the log.

use crate::config::{Form, Log};
use std::io::{self, IsTerminal};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, reload};

/// Libraries whose lower levels show what goes over the wire or into the store; and cryptoki, which
/// calls every mechanism that it does not know an error.
const HELD: &str =
    "cryptoki=off,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,sqlx=warn";

/// The log's controls, for as long as the process lives.
#[derive(Clone, Debug)]
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
}

/// A level that can be applied.
#[derive(Debug)]
pub struct Level(EnvFilter);

/// Why the log could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is not one.
    #[error("log.level {level:?}: {why}")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        why: String,
    },
    /// The log has been set up before, or is gone.
    #[error("the log: {0}")]
    Unavailable(String),
}

impl Telemetry {
    /// Starts the log. Once in a process.
    pub fn start(log: &Log) -> Result<Self, Error> {
        let (filter, handle) = reload::Layer::new(filter(&log.level)?);
        let lines = fmt::layer().with_writer(io::stderr);
        let lines = match shown(log.format) {
            Form::Json => lines
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
                .boxed(),
            Form::Auto | Form::Human => {
                lines.with_ansi(colours(&io::stderr())).with_target(false).boxed()
            }
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .try_init()
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Self { filter: handle })
    }

    /// Reads a level, for [`Telemetry::apply`].
    pub fn level(&self, level: &str) -> Result<Level, Error> {
        filter(level).map(Level)
    }

    /// Changes the level; on error the old one stays.
    pub fn apply(&self, level: Level) -> Result<(), Error> {
        self.filter.reload(level.0).map_err(|error| Error::Unavailable(error.to_string()))
    }
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(format!("{level},{HELD}"))
        .map_err(|error| Error::Level { level: level.to_owned(), why: error.to_string() })
}

fn shown(form: Form) -> Form {
    match form {
        Form::Auto if io::stderr().is_terminal() => Form::Human,
        Form::Auto => Form::Json,
        chosen => chosen,
    }
}

/// Whether to colour what goes to `stream`: only on a terminal, and unless NO_COLOR says otherwise.
pub fn colours(stream: &impl IsTerminal) -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    wanted && stream.is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sees_payloads_is_held_whatever_the_level() {
        let text = filter("trace").unwrap().to_string();
        for library in ["h2", "hyper", "tonic", "sqlx"] {
            assert!(text.contains(&format!("{library}=warn")), "{text}");
        }
        let asked = filter("info,h2=trace").unwrap().to_string();
        assert!(asked.contains("h2=warn") && !asked.contains("h2=trace"), "{asked}");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(matches!(filter("info,signkeep=loud"), Err(Error::Level { .. })));
    }
}
