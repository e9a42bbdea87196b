//! What `dev` keeps in its directory, and how it is made so that a crash at any point leaves
//! something that the next start completes.
//!
//! Every file appears whole, by renaming, or not at all. The token is the one thing that is made in
//! several steps, by somebody else's library. So there are two marks: one is set before anything
//! else, in a directory that is empty, and goes once the service has answered for the first time;
//! the other is set once the token stands. Only a token that has the first and not the second, and
//! no database beside it, is cleared away and made again: it has never held a key. A directory with
//! neither mark is somebody else's, and nothing in it is touched.

use crate::app::write_whole;
use crate::cli::anew::SOFTHSM_CONF_NAME;
use crate::cli::{Failure, random};
use secrecy::SecretString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where `dev` keeps its things unless it is told otherwise.
pub(in crate::cli) const DIRECTORY: &str = ".signkeep";
/// The configuration in it.
pub(in crate::cli) const CONFIG_NAME: &str = "signkeep.toml";
const DATABASE_NAME: &str = "signkeep.db";
const USER_PIN_NAME: &str = "user-pin";
const SO_PIN_NAME: &str = "so-pin";
const TOKENS_NAME: &str = "tokens";
/// Being made: what is here is ours, and nothing has been served from it yet.
const MAKING_NAME: &str = "being-made";
/// The token stands.
const MARK_NAME: &str = "provisioned";
const LOCK_NAME: &str = "lock";

/// The directory.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Makes it if it is not there, for its owner alone. Refuses one that is somebody else's.
    pub(super) fn prepare(path: &Path) -> Result<Self, Failure> {
        let owner = Owner::of(path).map_err(|error| cannot("read", path, &error))?;
        if owner == Owner::SomebodyElse {
            return Err(Failure::new(format!(
                "{} is not a directory of `signkeep dev`; nothing in it was touched",
                path.display()
            ))
            .mend("name an empty or a new one with --dir"));
        }
        let made = || -> io::Result<PathBuf> {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(path)?;
            let path = path.canonicalize()?;
            if owner == Owner::Nobody {
                write_whole(&path.join(MAKING_NAME), b"")?;
            }
            fs::set_permissions(&path, Permissions::from_mode(0o700))?;
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

# Whoever reaches this machine's loopback may do everything: dev is for trying out.
[[policy]]
callers = ["anonymous@loopback"]
key_sets = ["*"]
roles = ["signer", "admin"]

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
        let made = self.is_provisioned() || self.0.join(DATABASE_NAME).exists();
        if made || !self.is_being_made() {
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

    /// Refuses to go on without the database or the token that keys were made in: fresh ones would
    /// stand in their place, and the keys would be orphans.
    pub(super) fn nothing_is_lost(
        &self,
        database: Option<&Path>,
        is_token: impl FnOnce() -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        if !self.is_provisioned() {
            return Ok(());
        }
        let lost = |what: String| {
            Err(Failure::new(what).mend(format!(
                "put it back, or remove {} to start over with new keys",
                self.0.display()
            )))
        };
        if let Some(database) = database
            && !self.is_being_made()
            && !database.exists()
        {
            return lost(format!(
                "the database {} is missing, and nothing else knows the keys in the token",
                database.display()
            ));
        }
        if !is_token()? {
            return lost(format!(
                "the token is missing from {}, and with it the private keys",
                self.0.join(TOKENS_NAME).display()
            ));
        }
        Ok(())
    }

    /// Marks that the service has answered: from now on there are keys.
    pub(super) fn mark_in_use(&self) -> Result<(), Failure> {
        let mark = self.0.join(MAKING_NAME);
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(cannot("removed", &mark, &error))
            }
            _ => Ok(()),
        }
    }

    fn is_being_made(&self) -> bool {
        self.0.join(MAKING_NAME).exists()
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
                let pin = random::hex()?;
                write_whole(&file, pin.as_bytes())
                    .map_err(|error| cannot("written", &file, &error))?;
                Ok(SecretString::from(pin))
            }
        }
    }
}

/// Whose a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// It is empty, or not there.
    Nobody,
    /// It has a mark of ours.
    Dev,
    SomebodyElse,
}

impl Owner {
    fn of(path: &Path) -> io::Result<Self> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Nobody),
            Err(error) => return Err(error),
        };
        if [MAKING_NAME, MARK_NAME].iter().any(|mark| path.join(mark).exists()) {
            return Ok(Self::Dev);
        }
        // What a crash may leave of the very first mark.
        let torn = format!("{MAKING_NAME}.new");
        for entry in entries {
            if entry?.file_name() != *torn {
                return Ok(Self::SomebodyElse);
            }
        }
        Ok(Self::Nobody)
    }
}

fn cannot(done: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{} cannot be {done}: {error}", path.display()))
        .mend("choose another directory with --dir, or mend this one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backend, Config, Store};
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
        assert_eq!(config.store, Store::Sqlite(directory.path().join(DATABASE_NAME)));
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
    fn a_directory_of_somebody_else_is_refused_and_nothing_in_it_changes() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("softhsm");
        fs::create_dir_all(path.join(TOKENS_NAME)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let token = path.join(TOKENS_NAME).join("token.object");
        let conf = path.join(SOFTHSM_CONF_NAME);
        fs::write(&token, "theirs").unwrap();
        fs::write(&conf, "theirs").unwrap();
        let failure = Directory::prepare(&path).unwrap_err();
        assert!(failure.what.contains("is not a directory of"), "{failure:?}");
        assert_eq!(fs::read_to_string(&token).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(&conf).unwrap(), "theirs");
        assert_eq!(mode(&path), 0o755);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
    }

    #[test]
    fn a_directory_that_a_crash_left_at_any_point_is_still_ours() {
        let (_outer, directory) = fresh();
        assert!(Directory::prepare(directory.path()).is_ok(), "being made");
        directory.mark_provisioned().unwrap();
        directory.mark_in_use().unwrap();
        assert!(Directory::prepare(directory.path()).is_ok(), "in use");
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("being-made.new"), "").unwrap();
        assert!(Directory::prepare(outer.path()).is_ok(), "hardly begun");
    }

    #[test]
    fn a_token_is_cleared_only_while_the_directory_is_being_made() {
        let (_outer, directory) = fresh();
        let token = directory.path().join(TOKENS_NAME).join("token.object");
        fs::write(&token, "keys").unwrap();
        directory.mark_in_use().unwrap();
        directory.clear_half_made().unwrap();
        assert!(token.exists());
    }

    #[test]
    fn a_lost_database_or_token_is_not_replaced_by_another() {
        let (_outer, directory) = fresh();
        let database = directory.path().join(DATABASE_NAME);
        directory.nothing_is_lost(Some(&database), || Ok(false)).unwrap();
        directory.mark_provisioned().unwrap();
        directory.nothing_is_lost(Some(&database), || Ok(true)).unwrap();
        directory.mark_in_use().unwrap();
        let failure = directory.nothing_is_lost(Some(&database), || Ok(true)).unwrap_err();
        assert!(failure.what.contains(DATABASE_NAME), "{failure:?}");
        fs::write(&database, "rows").unwrap();
        directory.nothing_is_lost(Some(&database), || Ok(true)).unwrap();
        let failure = directory.nothing_is_lost(Some(&database), || Ok(false)).unwrap_err();
        assert!(failure.what.contains(TOKENS_NAME), "{failure:?}");
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
