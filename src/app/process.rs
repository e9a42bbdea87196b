//! What is asked of the system for the process as a whole.

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Forbids core dumps, and on Linux attaching to the process: PINs and session keys are in its
/// memory.
pub(super) fn keep_memory_private() -> Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("core dumps cannot be turned off")?;
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .context("the process cannot be made undumpable")?;
    }
    Ok(())
}
