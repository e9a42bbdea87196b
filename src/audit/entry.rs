//! The lines of a file: records, and between them the checkpoints that cover them.

use super::chain::{Linked, Malformed};
use super::checkpoint::Checkpoint;
use serde::Deserialize;

const CHECKPOINT_START: &str = "{\"checkpoint\":\"";
const CHECKPOINT_END: &str = "\"}";

/// One line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record.
    Record(Linked),
    /// A checkpoint over records that stand before it.
    Checkpoint(Checkpoint),
}

impl Entry {
    /// The line, without its end.
    pub fn to_json(&self) -> String {
        match self {
            Self::Record(linked) => linked.to_json(),
            Self::Checkpoint(checkpoint) => {
                // Base64url and full stops: nothing that JSON would escape.
                format!("{CHECKPOINT_START}{}{CHECKPOINT_END}", checkpoint.as_jws())
            }
        }
    }

    /// The entry that a line is; refuses every line that [`Entry::to_json`] does not write.
    pub fn from_json(line: &str) -> Result<Self, Malformed> {
        if !Self::is_checkpoint(line.as_bytes()) {
            return Linked::from_json(line).map(Self::Record);
        }
        let Line { checkpoint } = serde_json::from_str(line).map_err(Malformed::new)?;
        let entry = Self::Checkpoint(Checkpoint::parse(&checkpoint)?);
        if entry.to_json() == line {
            Ok(entry)
        } else {
            Err(Malformed::new("is not in canonical form (RFC 8785)"))
        }
    }

    /// Whether `line` is a checkpoint, if it is a line at all.
    pub fn is_checkpoint(line: &[u8]) -> bool {
        line.starts_with(CHECKPOINT_START.as_bytes())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    checkpoint: String,
}
