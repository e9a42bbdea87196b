//! PostgreSQL of the tests' own: one server for all tests of this process, a database for each, and
//! servers of their own for tests that stop them. None listens beyond this machine.

use super::authority::Authority;
use super::eventually;
use rcgen::SanType;
use signkeep::store::postgres::{Host, Settings};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// The role that owns every database.
pub(crate) const ROLE: &str = "signkeep";

/// The role that has to show a password; a test that needs it makes it.
pub(crate) const GUARDED: &str = "guarded";

/// The role that has to show a certificate; the same.
pub(crate) const CERTIFIED: &str = "certified";

/// The user and group of nobody, on every system.
const NOBODY: u32 = 65534;
/// Part of the name of the socket; nothing listens on such a port.
const PORT: u16 = 5432;
const READY: Duration = Duration::from_secs(60);

static SHARED: OnceCell<Arc<Server>> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The sessions of stores in this database.
const STORES: &str = "pg_stat_activity WHERE datname = current_database() \
    AND application_name LIKE 'signkeep%'";
/// What is known of the locks that hold this database.
const LOCKS: &str = "FROM pg_locks WHERE locktype = 'advisory' AND classid = 1397311307 \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Ends the server when the tests' process has ended, however it has, and removes what it wrote.
const GUARD: &str = r#"
"$@" & server=$!
cat > /dev/null
kill -QUIT $server
wait $server
rm -rf "$HOME"
"#;

/// A server. It ends when it is dropped, or this process ends.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its directory: data and socket are in it.
    home: PathBuf,
    user: Option<u32>,
    /// What its socket is named by, and where it listens if it does.
    port: u16,
    /// Settings beyond those of every server.
    more: Vec<String>,
    running: std::sync::Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    stdin: Option<ChildStdin>,
    guard: Child,
}

/// A database that nobody else uses.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    server: Arc<Server>,
    name: String,
}

impl Server {
    /// A server that nobody else uses.
    pub(crate) async fn fresh() -> Arc<Self> {
        let server = tokio::task::spawn_blocking(Self::made).await.unwrap();
        server.start().await;
        Arc::new(server)
    }

    /// A server that also listens on 127.0.0.1, with a certificate for localhost alone, and knows
    /// the role [`CERTIFIED`] by a certificate of the same authority.
    pub(crate) async fn over_tls(authority: &Authority) -> Arc<Self> {
        let mut server = tokio::task::spawn_blocking(Self::made).await.unwrap();
        let own = authority.issue(|params| {
            params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
        });
        let (certificate, key) = own.write(&server.home, "server");
        let authorities = server.home.join("ca.pem");
        fs::write(&authorities, authority.certificate()).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        chown(&key, server.user, server.user).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        server.port = free.local_addr().unwrap().port();
        server.more = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", certificate.display()),
            format!("ssl_key_file={}", key.display()),
            format!("ssl_ca_file={}", authorities.display()),
        ];
        drop(free);
        server.start().await;
        Arc::new(server)
    }

    fn made() -> Self {
        // Not in the test's own temporary directory: a socket's path has about a hundred bytes.
        let home = TempDir::with_prefix_in("signkeep-pg-", "/tmp").unwrap().keep();
        let user = rustix::process::geteuid().is_root().then(unprivileged);
        if let Some(user) = user {
            chown(&home, Some(user), Some(user)).unwrap();
        }
        let (port, more) = (PORT, vec!["listen_addresses=".to_owned()]);
        let server = Self { home, user, port, more, running: std::sync::Mutex::default() };
        let made = server
            .command(&program("initdb"))
            .args(["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-U", ROLE, "-D"])
            .arg(server.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let access = server.data().join("pg_hba.conf");
        let rest = fs::read_to_string(&access).unwrap();
        let guarded = format!("local all {GUARDED} scram-sha-256\n");
        let certified = format!("hostssl all {CERTIFIED} 127.0.0.1/32 cert\n");
        fs::write(&access, guarded + &certified + &rest).unwrap();
        server
    }

    /// Starts it, or starts it again, and waits until it answers.
    pub(crate) async fn start(&self) {
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", GUARD, "sh"]).arg(program("postgres")).arg("-D").arg(self.data());
        for setting in [
            format!("port={}", self.port),
            format!("unix_socket_directories={}", self.home.display()),
            "fsync=off".to_owned(),
            "full_page_writes=off".to_owned(),
            "shared_buffers=16MB".to_owned(),
            "max_connections=300".to_owned(),
        ] {
            command.args(["-c", &setting]);
        }
        for setting in &self.more {
            command.args(["-c", setting]);
        }
        let log =
            fs::File::options().create(true).append(true).open(self.home.join("log")).unwrap();
        let mut guard = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdin = guard.stdin.take();
        *self.running.lock().unwrap() = Some(Running { stdin, guard });
        eventually("PostgreSQL answers", READY, async || {
            self.options("postgres").connect().await.ok()?.close().await.ok()
        })
        .await;
    }

    /// Ends it at once, as a crash does: nothing is finished, nobody is told.
    pub(crate) async fn crash(&self) {
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().parse().ok();
        let pid = pid.and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
        eventually("PostgreSQL has ended", READY, async || {
            (!self.data().join("postmaster.pid").exists()).then_some(())
        })
        .await;
        let running = self.running.lock().unwrap().take();
        // Else the guard would go on to remove the data.
        let mut running = running.unwrap();
        running.guard.kill().unwrap();
        running.guard.wait().unwrap();
        drop(running.stdin.take());
    }

    /// A fresh database.
    pub(crate) async fn database(self: &Arc<Self>) -> Database {
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut connection = self.options("postgres").connect().await.unwrap();
        let sql = format!("CREATE DATABASE {name}");
        connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        connection.close().await.unwrap();
        Database { server: Arc::clone(self), name }
    }

    /// The socket that it listens on.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join(format!(".s.PGSQL.{}", self.port))
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.home)
            .port(self.port)
            .username(ROLE)
            .database(database)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.home).env("HOME", &self.home);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.lock().unwrap().take() {
            drop(running.stdin.take());
            running.guard.wait().ok();
        }
    }
}

impl Database {
    /// A database on the server that all tests share.
    pub(crate) async fn fresh() -> Self {
        SHARED.get_or_init(Server::fresh).await.database().await
    }

    /// How a store comes in.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            host: Host::Socket(self.server.home.clone()),
            port: self.server.port,
            user: ROLE.to_owned(),
            database: self.name.clone(),
            password_file: None,
            tls: None,
        }
    }

    /// The same as a configuration says it.
    pub(crate) fn url(&self) -> String {
        format!(
            "postgres://{ROLE}@:{}/{}?host={}",
            self.server.port,
            self.name,
            self.server.home.display()
        )
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its server.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// A connection of the test's own.
    pub(crate) async fn connection(&self) -> PgConnection {
        self.server.options(&self.name).connect().await.unwrap()
    }

    /// Cuts every connection of stores, as a network does that fails for a moment.
    pub(crate) async fn cut_connections(&self) {
        self.raw(&format!("SELECT pg_terminate_backend(pid) FROM {STORES}")).await.unwrap();
    }

    /// Cuts the connection that holds the database.
    pub(crate) async fn cut_holder(&self) {
        let held = "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted)";
        let sql = format!("SELECT pg_terminate_backend(pid) FROM {STORES} AND {held}");
        self.raw(&sql).await.unwrap();
    }

    /// How many connections stores have.
    pub(crate) async fn connections(&self) -> i64 {
        self.number(format!("SELECT COUNT(*) FROM {STORES}")).await
    }

    /// How many connections stores have, and how many of them have TLS.
    pub(crate) async fn secure_connections(&self) -> (i64, i64) {
        let secure = format!(
            "SELECT COUNT(*) FROM pg_stat_ssl WHERE ssl AND pid IN (SELECT pid FROM {STORES})"
        );
        (self.connections().await, self.number(secure).await)
    }

    /// The sessions that hold the database.
    pub(crate) async fn locks(&self) -> Vec<i32> {
        let mut connection = self.connection().await;
        let sql = format!("SELECT pid {LOCKS} AND granted");
        let found = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await;
        connection.close().await.unwrap();
        found.unwrap()
    }

    /// Whether somebody waits to hold the database.
    pub(crate) async fn is_waiting(&self) -> bool {
        self.number(format!("SELECT COUNT(*) {LOCKS} AND NOT granted")).await > 0
    }

    /// Whether a store waits for somebody else's transaction.
    pub(crate) async fn is_blocked(&self) -> bool {
        let sql = format!("SELECT COUNT(*) FROM {STORES} AND wait_event_type = 'Lock'");
        self.number(sql).await > 0
    }

    async fn number(&self, sql: String) -> i64 {
        let mut connection = self.connection().await;
        let number = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await;
        connection.close().await.unwrap();
        number.unwrap()
    }

    /// Runs a statement; says what the server said if it refused.
    pub(crate) async fn raw(&self, sql: &str) -> Result<u64, String> {
        let mut connection = self.connection().await;
        let done = connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await;
        connection.close().await.unwrap();
        done.map(|done| done.rows_affected()).map_err(|error| error.to_string())
    }
}

/// A program of PostgreSQL's, on the PATH or where Debian (the newest) or Homebrew puts it.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path().join("bin"))
        .collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    folders.push(PathBuf::from("/opt/homebrew/opt/postgresql@17/bin"));
    folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("PostgreSQL's {name} is missing; ./tests/run installs it"))
}

/// A user whom PostgreSQL consents to be run by: it refuses root.
fn unprivileged() -> u32 {
    let found = Command::new("id").args(["-u", "postgres"]).output().unwrap();
    String::from_utf8_lossy(&found.stdout).trim().parse().unwrap_or(NOBODY)
}
