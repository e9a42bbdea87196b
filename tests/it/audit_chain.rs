//! The audit record under attack: whatever is done to it, the first thing wrong is named.

mod book;
mod checkpoints;
mod format;
mod properties;
mod records;
