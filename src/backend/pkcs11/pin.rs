//! The PIN: read from a file, and never tried again after a token has refused it.
//!
//! Tokens lock after a few wrong PINs, some after three, and a service that is restarted by its
//! supervisor would spend them within seconds. So a refused PIN is remembered as a salted Argon2id
//! hash, in the store where replicas and later starts see it, and compared before any login.
//!
//! The process can be killed while C_Login is under way, and the store can fail after it. So the
//! hash is written *before* the try, as one that is being tried, and no PIN is tried unless that
//! was written:
//!
//! | remembered | this PIN | what the memory holds during the try |
//! |---|---|---|
//! | nothing, or another PIN | is tried | `trying:` and the hash |
//! | `trying:` and its hash | is tried: the process may have ended after a login that went well | the hash alone |
//! | its hash alone | is not tried | |
//!
//! A login forgets all of it; a refusal leaves the hash alone. So a start that ends during the try
//! costs the token at most two tries, and a PIN that is right is not held to be wrong because of
//! one crash.

use crate::backend::{Error, Kind, PinMemory};
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// The longest PIN file that is read.
const PIN_FILE_MAX: u64 = 4096;

/// How long a login waits for the store to say whether the PIN was refused before.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(5);

/// Argon2id with 19 MiB and two passes (RFC 9106 section 4 trades one for the other): a PIN is
/// short, and what it protects it from is a look into the store's backup.
fn argon2() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Reads the PIN: the file's content without a newline at its end. Refuses a file that others can
/// read, and one that is empty or not text.
pub(super) fn read(path: &Path) -> Result<SecretString, Error> {
    let refuse = |message: String| Error::new(Kind::Denied, "PIN file", message);
    let shown = path.display();
    let cannot = |error: std::io::Error| refuse(format!("cannot read {shown}: {error}"));
    // Asked of the path first: opening a pipe would wait for whoever writes to it.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(refuse(format!("{shown} must be a regular file")));
    }
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.mode();
    if mode & 0o077 != 0 {
        return Err(refuse(format!(
            "others than its owner have access to {shown} (mode {:04o}): chmod 600 {shown}",
            mode & 0o7777
        )));
    }
    // Room for all of it at once, so that no grown-out-of buffer keeps a copy.
    let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
    file.take(PIN_FILE_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > PIN_FILE_MAX {
        return Err(refuse(format!("{shown} is longer than {PIN_FILE_MAX} bytes")));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| refuse(format!("{shown} must hold the PIN as UTF-8 text")))?;
    let pin = text.strip_suffix('\n').unwrap_or(text);
    let pin = pin.strip_suffix('\r').unwrap_or(pin);
    if pin.is_empty() {
        return Err(refuse(format!("{shown} is empty; it must hold the PIN")));
    }
    Ok(SecretString::from(pin))
}

/// A salted hash of the PIN in PHC form.
pub(super) fn hash(pin: &SecretString) -> Result<String, Error> {
    let broken = |error: String| Error::new(Kind::Unavailable, "PIN memory", error);
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| broken(error.to_string()))?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| broken(error.to_string()))?;
    argon2()
        .hash_password(pin.expose_secret().as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| broken(error.to_string()))
}

/// Whether `hash` is one of `pin`. A hash that cannot be read is one of every PIN: whoever cannot
/// tell must not try.
pub(super) fn is_hash_of(hash: &str, pin: &SecretString) -> bool {
    match PasswordHash::new(hash) {
        Ok(parsed) => !matches!(
            argon2().verify_password(pin.expose_secret().as_bytes(), &parsed),
            Err(argon2::password_hash::Error::Password)
        ),
        Err(_) => true,
    }
}

/// What stands before the hash of a PIN that is being tried.
const BEING_TRIED: &str = "trying:";

/// What the memory says of a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing.
    Untried,
    /// It was being tried, and nobody came to write down with what result.
    Interrupted,
    /// The token refused it, or the second try was interrupted too.
    Refused,
}

/// What `remembered` says of `pin`.
pub(super) fn standing(remembered: Option<&str>, pin: &SecretString) -> Standing {
    let Some(text) = remembered else {
        return Standing::Untried;
    };
    let (hash, standing) = match text.strip_prefix(BEING_TRIED) {
        Some(hash) => (hash, Standing::Interrupted),
        None => (text, Standing::Refused),
    };
    match is_hash_of(hash, pin) {
        true => standing,
        false => Standing::Untried,
    }
}

/// What is to be remembered while a PIN of that hash and standing is tried.
pub(super) fn mark(hash: &str, standing: Standing) -> String {
    match standing {
        Standing::Untried => format!("{BEING_TRIED}{hash}"),
        Standing::Interrupted | Standing::Refused => hash.to_owned(),
    }
}

/// The way from the threads that log in to the memory, which is async. A task on the runtime does
/// the asking, so that a thread waits with a deadline and never runs the runtime's work itself.
#[derive(Debug)]
pub(super) struct Desk(mpsc::Sender<Request>);

#[derive(Debug)]
struct Request {
    token: String,
    ask: Ask,
    answer: blocking::SyncSender<Result<Option<String>, String>>,
}

#[derive(Debug)]
enum Ask {
    Refused,
    Remember(String),
    Forget,
}

impl Desk {
    /// Begins to pass requests on; ends when the desk is dropped. Must be called on a runtime.
    pub(super) fn open(memory: Arc<dyn PinMemory>) -> Self {
        let (requests, mut inbox) = mpsc::channel::<Request>(4);
        tokio::spawn(async move {
            while let Some(Request { token, ask, answer }) = inbox.recv().await {
                let result = match ask {
                    Ask::Refused => memory.refused(&token).await,
                    Ask::Remember(hash) => memory.remember(&token, &hash).await.map(|()| None),
                    Ask::Forget => memory.forget(&token).await.map(|()| None),
                };
                // Whoever asked may have given up waiting.
                let _ = answer.send(result);
            }
        });
        Self(requests)
    }

    /// What is remembered of the PIN that was tried last.
    pub(super) fn remembered(&self, token: &str) -> Result<Option<String>, Error> {
        self.ask(token, Ask::Refused)
    }

    /// Remembers it in place of what was there.
    pub(super) fn remember(&self, token: &str, text: String) -> Result<(), Error> {
        self.ask(token, Ask::Remember(text)).map(|_| ())
    }

    /// Forgets it.
    pub(super) fn forget(&self, token: &str) -> Result<(), Error> {
        self.ask(token, Ask::Forget).map(|_| ())
    }

    fn ask(&self, token: &str, ask: Ask) -> Result<Option<String>, Error> {
        let out = |why: &str| {
            Error::new(
                Kind::Unavailable,
                "PIN memory",
                format!(
                    "the store cannot say or note whether this PIN was refused ({why}); \
                     without that no login is tried, since it might lock the token: mend the store"
                ),
            )
        };
        let (answer, answered) = blocking::sync_channel(1);
        let request = Request { token: token.to_owned(), ask, answer };
        self.0.try_send(request).map_err(|_| out("it is not being asked"))?;
        match answered.recv_timeout(MEMORY_TIMEOUT) {
            Ok(result) => result.map_err(|why| out(&why)),
            Err(_) => Err(out("no answer in time")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_pin_is_read_without_the_newline_at_its_end() {
        for content in [&b"12 34"[..], b"12 34\n", b"12 34\r\n"] {
            let (_dir, path) = file(content, 0o600);
            assert_eq!(read(&path).unwrap().expose_secret(), "12 34");
        }
    }

    #[test]
    fn a_pin_file_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        for mode in [0o640, 0o604, 0o620] {
            let (_dir, path) = file(b"1234", mode);
            let error = read(&path).unwrap_err();
            assert_eq!(error.kind, Kind::Denied);
            assert!(error.message.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn an_empty_pin_file_is_refused() {
        for content in [&b""[..], b"\n"] {
            let (_dir, path) = file(content, 0o600);
            assert!(read(&path).unwrap_err().message.contains("empty"));
        }
    }

    #[test]
    fn a_missing_pin_file_is_named() {
        let error = read(Path::new("/nonexistent/pin")).unwrap_err();
        assert!(error.message.contains("/nonexistent/pin"), "{error}");
    }

    #[test]
    fn a_hash_fits_its_pin_and_no_other_and_shows_neither() {
        let pin = SecretString::from("correct horse");
        let hash = hash(&pin).unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(!hash.contains("correct"));
        assert!(is_hash_of(&hash, &pin));
        assert!(!is_hash_of(&hash, &SecretString::from("battery staple")));
    }

    #[test]
    fn a_pin_is_tried_once_more_after_one_interrupted_try_and_not_after_two() {
        let (pin, other) = (SecretString::from("1234"), SecretString::from("5678"));
        let hash = hash(&pin).unwrap();
        assert_eq!(standing(None, &pin), Standing::Untried);
        let first = mark(&hash, Standing::Untried);
        assert_eq!(standing(Some(&first), &pin), Standing::Interrupted);
        assert_eq!(standing(Some(&first), &other), Standing::Untried);
        let second = mark(&hash, Standing::Interrupted);
        assert_eq!(standing(Some(&second), &pin), Standing::Refused);
        assert_eq!(standing(Some(&second), &other), Standing::Untried);
    }

    #[test]
    fn a_hash_that_cannot_be_read_stops_every_pin() {
        assert!(is_hash_of("torn", &SecretString::from("1234")));
    }
}
