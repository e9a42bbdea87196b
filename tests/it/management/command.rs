//! `signkeep management hash-secret`, and what `doctor` makes of the clients' files.

use crate::harness::service::Service;
use signkeep::management::SecretHash;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

/// Runs the command with `secret` on standard input.
fn hash_of(secret: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_signkeep"))
        .args(["management", "hash-secret"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that is refused early reads no further.
    child.stdin.take().unwrap().write_all(secret.as_bytes()).ok();
    child.wait_with_output().unwrap()
}

#[test]
fn a_secret_from_standard_input_is_hashed_and_one_that_can_be_guessed_is_not() {
    let output = hash_of("correct-horse-battery-staple\n");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.parse::<SecretHash>().is_ok() && text.lines().count() == 1, "{text}");
    for secret in ["", "short", "with spaces and more of them"] {
        let output = hash_of(secret);
        assert_eq!(output.status.code(), Some(1), "{secret:?}: {output:?}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn a_new_secret_is_for_its_owners_eyes_and_never_overwrites_another() {
    let service = Service::serve().await;
    let args = ["management", "hash-secret", "--new", "secret"];
    let made = service.signkeep(&args).await;
    assert!(made.success, "{made:?}");
    let secret = fs::read_to_string(service.path("secret")).unwrap();
    assert_eq!(secret.trim().len(), 64);
    assert!(!made.stdout.contains(secret.trim()) && !made.stderr.contains(secret.trim()));
    let mode = fs::metadata(service.path("secret")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = service.signkeep(&args).await;
    assert!(!again.success && again.stderr.contains("there already"), "{again:?}");
    assert_eq!(fs::read_to_string(service.path("secret")).unwrap(), secret);
}

#[tokio::test]
async fn a_clients_file_that_cannot_be_used_keeps_the_service_from_starting() {
    let mut service = Service::serve().await.with_more(
        r#"
[[listeners.management]]
address = "127.0.0.1:0"
[management.domains]
"localhost:0" = "default"
[[management.clients]]
id = "script"
secret_hash_file = "script.hash"
scopes = ["read:signing_keys"]
"#,
    );
    fs::write(service.path("script.hash"), "not a hash\n").unwrap();
    let doctor = service.signkeep(&["doctor", "--config", "signkeep.toml"]).await;
    assert!(!doctor.success, "{doctor:?}");
    for word in ["wrong    management", "script", "script.hash", "hash-secret"] {
        assert!(doctor.stdout.contains(word), "{word}: {}", doctor.stdout);
    }
    assert!(doctor.stdout.contains("domain localhost:0"), "{}", doctor.stdout);
    let said = service.fails_to_start().await;
    assert!(said.contains("script.hash") && said.contains("$argon2id$"), "{said}");
}
