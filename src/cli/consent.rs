//! Asking before something is done that verifiers will notice.

use super::{Failure, output};
use std::io::{self, BufRead, IsTerminal, Write};

/// Whether the operator has agreed beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// With `--yes`.
    Given,
    /// They are to be asked.
    Ask,
}

impl Consent {
    /// What the flag `--yes` says.
    pub(super) const fn from_flag(yes: bool) -> Self {
        if yes { Self::Given } else { Self::Ask }
    }

    /// Shows what will happen and returns once the operator agrees. Without a terminal nobody can
    /// be asked, and that is a refusal.
    pub(super) fn obtain(self, what_will_happen: &[String]) -> Result<(), Failure> {
        if self == Self::Given {
            return Ok(());
        }
        for line in what_will_happen {
            output::note(line);
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::new("nothing was changed: there is no terminal to ask on")
                .mend("repeat with --yes if this is what you want"));
        }
        let mut answer = String::new();
        let asked = {
            let mut err = io::stderr().lock();
            write!(err, "Go ahead? [y/N] ").and_then(|()| err.flush())
        };
        asked
            .and_then(|()| io::stdin().lock().read_line(&mut answer))
            .map_err(|error| Failure::new(format!("nothing was changed: {error}")))?;
        if agrees(&answer) { Ok(()) } else { Err(Failure::new("nothing was changed")) }
    }
}

fn agrees(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(agrees("y\n") && agrees(" YES \n"));
        assert!(!agrees("") && !agrees("\n") && !agrees("no\n") && !agrees("yy\n"));
    }
}
