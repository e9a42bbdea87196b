//! Checkpoints, signed through the backend by the key set that the service keeps for that.

use crate::audit::sink::{Failure, Seal, Unsealed};
use crate::audit::{Checkpoint, Draft};
use crate::backend::Input;
use crate::key::KeySetId;
use crate::keyring::{Keyring, Sign};
use async_trait::async_trait;
use std::time::{Duration, Instant};

/// How long a signature may take.
const SIGN_MAX: Duration = Duration::from_secs(8);

/// Signs checkpoints with an internal key set.
pub struct KeyringSeal {
    keyring: Keyring,
    key_set: KeySetId,
}

impl KeyringSeal {
    /// Signs with the current key of `key_set`, whichever that is at the time.
    pub const fn new(keyring: Keyring, key_set: KeySetId) -> Self {
        Self { keyring, key_set }
    }
}

#[async_trait]
impl Seal for KeyringSeal {
    async fn seal(&self, unsealed: &Unsealed) -> Result<Checkpoint, Failure> {
        let set = self.keyring.internal_key_set(&self.key_set);
        let signer = set.as_ref().and_then(|set| set.current());
        let signer = signer.ok_or_else(|| {
            Failure(format!("the key set {} has no current key yet", self.key_set))
        })?;
        let draft = Draft::new(
            unsealed.before.as_ref(),
            &unsealed.span,
            self.keyring.now(),
            (signer.algorithm, signer.kid),
        );
        let draft = draft.ok_or_else(|| Failure("there is nothing to cover".to_owned()))?;
        let sign = Sign {
            key_set: self.key_set.clone(),
            input: Input::Message(draft.signing_input().as_bytes().to_vec().into()),
            expected: Some(signer.kid),
        };
        let signed = self.keyring.sign_internal(Instant::now() + SIGN_MAX, sign).await;
        let signed = signed.map_err(|error| Failure(error.to_string()))?;
        Ok(draft.finish(&signed.signature))
    }
}
