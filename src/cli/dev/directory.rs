//! What `dev` keeps in its directory, and how it is made so that a crash at any point leaves
//! something that the next start completes.
//!
//! Every file appears whole, by renaming, or not at all. The token is the one thing that is made in
//! several steps, by somebody else's library; a mark is set once it stands, and a token without the
//! mark and without a database beside it has never held a key, so it is cleared away and made again.

use crate::cli::Failure;
use secrecy::SecretString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where `dev` keeps its things unless it is told otherwise.
pub(in crate::cli) const DIRECTORY: &str = ".signkeep";
/// The configuration in it.
pub(in crate::cli) const CONFIG_NAME: &str = "signkeep.toml";
/// SoftHSM's configuration in it.
pub(in crate::cli) const SOFTHSM_CONF_NAME: &str = "softhsm2.conf";
const DATABASE_NAME: &str = "signkeep.db";
const USER_PIN_NAME: &str = "user-pin";
const SO_PIN_NAME: &str = "so-pin";
const TOKENS_NAME: &str = "tokens";
const MARK_NAME: &str = "provisioned";
const LOCK_NAME: &str = "lock";

/// The directory.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Makes it if it is not there, for its owner alone.
    pub(super) fn prepare(path: &Path) -> Result<Self, Failure> {
        let made = || -> io::Result<PathBuf> {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(path)?;
            fs::set_permissions(path, Permissions::from_mode(0o700))?;
            let path = path.canonicalize()?;
            builder.create(path.join(TOKENS_NAME))?;
            Ok(path)
        };
        let directory = made().map(Self).map_err(|error| cannot("made", path, &error))?;
        let tokens = directory.0.join(TOKENS_NAME);
        let conf = format!(
            "# Written by `signkeep dev` at every start.\ndirectories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            tokens.display()
        );
        let file = directory.softhsm_conf();
        if fs::read_to_string(&file).ok().as_ref() != Some(&conf) {
            write_whole(&file, conf.as_bytes())
                .map_err(|error| cannot("written", &file, &error))?;
        }
        Ok(directory)
    }

    /// Its absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// SoftHSM's configuration.
    pub(super) fn softhsm_conf(&self) -> PathBuf {
        self.0.join(SOFTHSM_CONF_NAME)
    }

    /// Keeps others out for as long as the file lives.
    pub(super) fn lock(&self) -> Result<File, Failure> {
        let file = self.0.join(LOCK_NAME);
        let open =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&file);
        let lock = open.map_err(|error| cannot("opened", &file, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => {
                Err(Failure::new(format!("another `signkeep dev` runs in {}", self.0.display()))
                    .mend("use that one, stop it, or choose another directory with --dir"))
            }
            Err(TryLockError::Error(error)) => Err(cannot("locked", &file, &error)),
        }
    }

    /// The configuration; written at first, afterwards its owner's to change.
    pub(super) fn config(
        &self,
        module: &Path,
        token_label: &str,
        http: Option<SocketAddr>,
    ) -> Result<PathBuf, Failure> {
        let file = self.0.join(CONFIG_NAME);
        if file.exists() {
            return Ok(file);
        }
        let usual = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
        let http = http.filter(|address| address.port() != 0).unwrap_or(usual);
        let module = module
            .to_str()
            .ok_or_else(|| Failure::new(format!("{} is not Unicode", module.display())))?;
        let module = toml::Value::from(module);
        let text = format!(
            r#"# Written by `signkeep dev` at its first start; yours to change from now on.
# `signkeep config defaults` shows every setting.

[store]
url = "sqlite:{DATABASE_NAME}"

[backends.token]
kind = "pkcs11"
module = {module}
token_label = "{token_label}"
pin_file = "{USER_PIN_NAME}"

[key_sets.default]
algorithm = "RS256"
backend = "token"
issuer = "http://{http}/"

[key_sets.demo-es256]
algorithm = "ES256"
backend = "token"
issuer = "http://{http}/demo-es256/"
"#
        );
        write_whole(&file, text.as_bytes()).map_err(|error| cannot("written", &file, &error))?;
        Ok(file)
    }

    /// The PIN that keys are used with.
    pub(super) fn user_pin(&self) -> Result<SecretString, Failure> {
        self.pin(USER_PIN_NAME)
    }

    /// The PIN that the token is administered with.
    pub(super) fn so_pin(&self) -> Result<SecretString, Failure> {
        self.pin(SO_PIN_NAME)
    }

    /// Clears away a token that was being made when a process ended: it never held a key.
    pub(super) fn clear_half_made(&self) -> Result<(), Failure> {
        if self.is_provisioned() || self.0.join(DATABASE_NAME).exists() {
            return Ok(());
        }
        let tokens = self.0.join(TOKENS_NAME);
        let cleared = fs::remove_dir_all(&tokens)
            .and_then(|()| DirBuilder::new().mode(0o700).create(&tokens));
        cleared.map_err(|error| cannot("cleared", &tokens, &error))
    }

    /// Marks that the token stands.
    pub(super) fn mark_provisioned(&self) -> Result<(), Failure> {
        let mark = self.0.join(MARK_NAME);
        if mark.exists() {
            return Ok(());
        }
        write_whole(&mark, b"").map_err(|error| cannot("written", &mark, &error))
    }

    fn is_provisioned(&self) -> bool {
        self.0.join(MARK_NAME).exists()
    }

    fn pin(&self, name: &str) -> Result<SecretString, Failure> {
        let file = self.0.join(name);
        match fs::read_to_string(&file) {
            Ok(pin) => Ok(SecretString::from(pin.trim_end().to_owned())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(cannot("read", &file, &error))
            }
            Err(_) if self.is_provisioned() => Err(Failure::new(format!(
                "{} is missing, and the token in {} opens with no other PIN",
                file.display(),
                self.0.display()
            ))
            .mend("put the file back, or remove the directory and start over with new keys")),
            Err(_) => {
                let pin = random_pin()?;
                write_whole(&file, pin.as_bytes())
                    .map_err(|error| cannot("written", &file, &error))?;
                Ok(SecretString::from(pin))
            }
        }
    }
}

/// 32 digits of hex, 128 bits by chance.
fn random_pin() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(format!("the system gives no random bytes: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes a file for its owner alone, whole or not at all, and lasting once this returns.
fn write_whole(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = file.with_file_name(name);
    // One that a crash left behind may have other permissions.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&fresh, file)?;
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn cannot(done: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{} cannot be {done}: {error}", path.display()))
        .mend("choose another directory with --dir, or mend this one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backend, Config};
    use secrecy::ExposeSecret;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn fresh() -> (tempfile::TempDir, Directory) {
        let outer = tempfile::tempdir().unwrap();
        let directory = Directory::prepare(&outer.path().join("dev")).unwrap();
        (outer, directory)
    }

    #[test]
    fn the_directory_and_its_secrets_are_for_the_owner_alone() {
        let (_outer, directory) = fresh();
        let pin = directory.user_pin().unwrap();
        let so_pin = directory.so_pin().unwrap();
        assert_eq!(pin.expose_secret().len(), 32);
        assert_ne!(pin.expose_secret(), so_pin.expose_secret());
        assert_eq!(mode(directory.path()), 0o700);
        assert_eq!(mode(&directory.path().join(TOKENS_NAME)), 0o700);
        for name in [USER_PIN_NAME, SO_PIN_NAME, SOFTHSM_CONF_NAME] {
            assert_eq!(mode(&directory.path().join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn a_directory_that_others_may_read_is_closed() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("dev");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Directory::prepare(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn started_again_it_has_the_same_pins_and_configuration() {
        let (_outer, directory) = fresh();
        let pin = directory.user_pin().unwrap();
        let file = directory.config(Path::new("/lib/hsm.so"), "label", None).unwrap();
        fs::write(&file, "# mine\n").unwrap();
        let again = Directory::prepare(directory.path()).unwrap();
        assert_eq!(again.user_pin().unwrap().expose_secret(), pin.expose_secret());
        let file = again.config(Path::new("/other.so"), "label", None).unwrap();
        assert_eq!(fs::read_to_string(file).unwrap(), "# mine\n");
    }

    #[test]
    fn the_configuration_that_is_written_is_one() {
        let (_outer, directory) = fresh();
        let module = Path::new("/odd \"path\"/hsm.so");
        let http = Some("127.0.0.1:9999".parse().unwrap());
        let file = directory.config(module, "label", http).unwrap();
        let config = Config::load(&file, []).unwrap();
        let Some(Backend::Pkcs11(token)) = config.backends.values().next() else {
            panic!("no token")
        };
        assert_eq!(token.module, module);
        assert_eq!(token.pin_file, directory.path().join(USER_PIN_NAME));
        assert_eq!(config.store, directory.path().join(DATABASE_NAME));
        let made: Vec<_> = config
            .key_sets
            .iter()
            .map(|(id, seed)| (id.as_str(), seed.algorithm.name(), seed.issuer.as_str()))
            .collect();
        assert_eq!(
            made,
            [
                ("default", "RS256", "http://127.0.0.1:9999/"),
                ("demo-es256", "ES256", "http://127.0.0.1:9999/demo-es256/"),
            ]
        );
    }

    #[test]
    fn a_half_made_token_is_cleared_and_a_whole_one_is_not() {
        let (_outer, directory) = fresh();
        let half = directory.path().join(TOKENS_NAME).join("token.object");
        fs::write(&half, "half").unwrap();
        directory.clear_half_made().unwrap();
        assert!(!half.exists());
        fs::write(&half, "whole").unwrap();
        directory.mark_provisioned().unwrap();
        directory.clear_half_made().unwrap();
        assert!(half.exists());
    }

    #[test]
    fn a_token_with_a_database_beside_it_is_never_cleared() {
        let (_outer, directory) = fresh();
        let token = directory.path().join(TOKENS_NAME).join("token.object");
        fs::write(&token, "keys").unwrap();
        fs::write(directory.path().join(DATABASE_NAME), "rows").unwrap();
        directory.clear_half_made().unwrap();
        assert!(token.exists());
    }

    #[test]
    fn a_lost_pin_is_not_replaced_by_another() {
        let (_outer, directory) = fresh();
        directory.user_pin().unwrap();
        directory.mark_provisioned().unwrap();
        fs::remove_file(directory.path().join(USER_PIN_NAME)).unwrap();
        let failure = directory.user_pin().unwrap_err();
        assert!(failure.what.contains(USER_PIN_NAME), "{failure:?}");
    }

    #[test]
    fn what_a_crash_left_of_a_file_is_in_nobodys_way() {
        let (_outer, directory) = fresh();
        fs::write(directory.path().join("user-pin.new"), "12").unwrap();
        assert_eq!(directory.user_pin().unwrap().expose_secret().len(), 32);
        assert_eq!(mode(&directory.path().join(USER_PIN_NAME)), 0o600);
    }

    #[test]
    fn two_cannot_run_in_one_directory() {
        let (_outer, directory) = fresh();
        let lock = directory.lock().unwrap();
        assert!(directory.lock().unwrap_err().what.contains("another"));
        drop(lock);
        assert!(directory.lock().is_ok());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let outer = tempfile::tempdir().unwrap();
        let file = outer.path().join("file");
        fs::write(&file, "").unwrap();
        let failure = Directory::prepare(&file.join("dev")).unwrap_err();
        assert!(failure.what.contains("file/dev"), "{failure:?}");
    }
}
