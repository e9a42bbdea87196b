//! stub
use crate::key::KeySetId;
/// stub
#[derive(Clone, Default)]
pub struct Metrics;
impl Metrics {
    /// stub
    pub fn key_changed(&self, _: &KeySetId, _: &str) {}
    /// stub
    pub fn step_failed(&self, _: &KeySetId, _: &str) {}
}
