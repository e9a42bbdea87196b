//! `signkeep doctor` as a process: each fault named with what mends it, and no PIN spent.

use crate::harness::service::{PIN, Service, softhsm_module, spy_module};
use crate::harness::tools::{Output, run_command, tool};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const WRONG_PIN: &str = "271828";

async fn doctor(service: &Service, more: &[&str]) -> Output {
    let mut args = vec!["doctor", "--config", "signkeep.toml"];
    args.extend(more);
    service.signkeep(&args).await
}

/// The line about `what`.
#[track_caller]
fn line<'a>(output: &'a Output, what: &str) -> &'a str {
    output
        .stdout
        .lines()
        .find(|line| line.contains(what))
        .unwrap_or_else(|| panic!("nothing is said of {what}: {output:?}"))
}

/// Doctor fails, and the line about `what` is a fault that says all of `words`.
#[track_caller]
fn is_wrong(output: &Output, what: &str, words: &[&str]) {
    assert!(!output.success, "{output:?}");
    let line = line(output, what);
    assert!(line.starts_with("wrong "), "{line}");
    for word in words.iter().chain(&["to mend: "]) {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

/// A service whose module writes down every call.
async fn spied() -> Service {
    let service = Service::serve().await;
    let calls = service.path("pkcs11-calls");
    service
        .with_module(&spy_module())
        .with_env("PKCS11SPY", softhsm_module())
        .with_env("PKCS11SPY_OUTPUT", &calls)
}

/// How many logins the token has seen.
fn logins(service: &Service) -> usize {
    let calls = fs::read(service.path("pkcs11-calls")).unwrap_or_default();
    String::from_utf8_lossy(&calls).lines().filter(|line| line.ends_with(": C_Login")).count()
}

#[tokio::test]
async fn doctor_finds_nothing_wrong_where_all_is_well() {
    let service = Service::serve().await;
    let output = doctor(&service, &[]).await;
    assert!(output.success, "{output:?}");
    for what in ["configuration", "store", "PIN file", "module", "token,", "algorithms", "login"] {
        assert!(line(&output, what).starts_with("ok "), "{output:?}");
    }
}

#[tokio::test]
async fn doctor_names_a_module_that_is_missing() {
    let service = Service::serve().await.with_module(Path::new("/nonexistent/hsm.so"));
    let output = doctor(&service, &[]).await;
    is_wrong(&output, "backend token, module", &["/nonexistent/hsm.so is missing", "install"]);
}

#[tokio::test]
async fn doctor_names_a_token_that_is_missing_and_those_that_are_there() {
    let service = Service::serve().await;
    edit(&service.path("signkeep.toml"), "token_label = \"signkeep\"", "token_label = \"other\"");
    let output = doctor(&service, &[]).await;
    is_wrong(&output, "backend token, token", &["missing", "\"signkeep\" (serial "]);
}

#[tokio::test]
async fn doctor_names_a_pin_file_that_others_can_read() {
    let service = Service::serve().await;
    fs::set_permissions(service.path("pin"), Permissions::from_mode(0o644)).unwrap();
    let output = doctor(&service, &[]).await;
    is_wrong(&output, "backend token, PIN file", &["read by others", "chmod 600"]);
    fs::remove_file(service.path("pin")).unwrap();
    let output = doctor(&service, &[]).await;
    is_wrong(&output, "backend token, PIN file", &["put the user PIN into it"]);
}

#[tokio::test]
async fn doctor_tells_which_algorithms_the_token_lacks() {
    let service = Service::serve().await;
    let conf = service.path("softhsm2.conf");
    let whole = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{whole}slots.mechanisms = CKM_EC_KEY_PAIR_GEN,CKM_ECDSA\n")).unwrap();
    let output = doctor(&service, &[]).await;
    assert!(output.success, "some algorithms are enough: {output:?}");
    let some = line(&output, "algorithms");
    assert!(some.starts_with("warning ") && some.contains("; not RS256"), "{some}");
    fs::write(&conf, format!("{whole}slots.mechanisms = CKM_SHA256\n")).unwrap();
    let output = doctor(&service, &[]).await;
    is_wrong(&output, "algorithms", &["offers none"]);
}

#[tokio::test]
async fn doctor_names_a_database_that_cannot_be_written() {
    let service = Service::serve().await;
    fs::create_dir(service.database()).unwrap();
    let output = doctor(&service, &[]).await;
    is_wrong(&output, "store: ", &["signkeep.db"]);
    assert!(line(&output, "backend token, login").starts_with("warning "), "{output:?}");
}

#[tokio::test]
async fn doctor_names_a_port_that_is_taken() {
    let service = Service::serve().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = service.path("signkeep.toml");
    edit(
        &file,
        "[[listeners.http]]\naddress = \"127.0.0.1:0\"",
        &format!("[[listeners.http]]\naddress = \"{address}\""),
    );
    let output = doctor(&service, &[]).await;
    is_wrong(&output, &format!("port {address} (http)"), &["in use", "listeners.http"]);
}

#[tokio::test]
async fn doctor_does_not_take_another_program_for_the_service() {
    let mut other = Service::serve().await.started().await;
    let service = Service::serve().await;
    let address = other.grpc_address().to_owned();
    edit(
        &service.path("signkeep.toml"),
        "[[listeners.grpc]]\naddress = \"127.0.0.1:0\"",
        &format!("[[listeners.grpc]]\naddress = \"{address}\""),
    );
    let output = doctor(&service, &[]).await;
    is_wrong(&output, "service: ", &["another program answers"]);
    is_wrong(&output, &format!("port {address} (grpc)"), &["in use"]);
    assert!(line(&output, "store: ").contains("can be read and written"), "{output:?}");
    other.is_unharmed();
}

#[tokio::test]
async fn doctor_tries_a_wrong_pin_once_and_says_what_the_token_said() {
    let service = spied().await;
    service.write_pin(WRONG_PIN);
    let output = doctor(&service, &[]).await;
    is_wrong(&output, "backend token, login", &["tried just now", "CKR_PIN_INCORRECT"]);
    assert_eq!(logins(&service), 1);
    let output = doctor(&service, &[]).await;
    is_wrong(&output, "backend token, login", &["refused the PIN", "before", "not tried again"]);
    assert_eq!(logins(&service), 1, "a PIN that was refused is left alone");
    assert!(!format!("{output:?}").contains(WRONG_PIN), "a PIN in the output");
}

#[tokio::test]
async fn retry_pin_tries_a_refused_pin_exactly_once_more() {
    let service = spied().await;
    service.write_pin(WRONG_PIN);
    doctor(&service, &[]).await;
    let before = logins(&service);
    let output = doctor(&service, &["--retry-pin"]).await;
    is_wrong(&output, "backend token, login", &["tried just now", "CKR_PIN_INCORRECT"]);
    assert_eq!(logins(&service), before + 1);
    let output = doctor(&service, &[]).await;
    is_wrong(&output, "backend token, login", &["before", "not tried again"]);
    assert_eq!(logins(&service), before + 1, "it is remembered anew");
}

#[tokio::test]
async fn retry_pin_lets_a_pin_in_that_has_become_right() {
    let service = spied().await;
    service.write_pin(WRONG_PIN);
    doctor(&service, &[]).await;
    let before = logins(&service);
    let conf = service.path("softhsm2.conf");
    let tool = tool("pkcs11-tool");
    let mut officer = Command::new(tool);
    officer
        .env("SOFTHSM2_CONF", conf)
        .args(["--module", softhsm_module().to_str().unwrap(), "--token-label", "signkeep"])
        .args(["--login", "--login-type", "so", "--so-pin", PIN])
        .args(["--init-pin", "--new-pin", WRONG_PIN]);
    let set = run_command(officer).await;
    assert!(set.success, "{set:?}");
    let output = doctor(&service, &[]).await;
    is_wrong(&output, "backend token, login", &["not tried again"]);
    let output = doctor(&service, &["--retry-pin"]).await;
    assert!(output.success, "{output:?}");
    assert_eq!(logins(&service), before + 1);
    assert!(doctor(&service, &[]).await.success, "nothing stays remembered");
}

#[tokio::test]
async fn retry_pin_is_refused_while_the_service_runs() {
    let mut service = spied().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    edit(
        &service.path("signkeep.toml"),
        "[[listeners.grpc]]\naddress = \"127.0.0.1:0\"",
        &format!("[[listeners.grpc]]\naddress = \"{address}\""),
    );
    service.start().await;
    let before = logins(&service);
    let output = doctor(&service, &["--retry-pin"]).await;
    is_wrong(&output, "backend token, login", &["--retry-pin not done", "stop it, run this again"]);
    assert_eq!(logins(&service), before);
    let output = doctor(&service, &[]).await;
    assert!(output.success, "{output:?}");
    assert!(line(&output, "login").contains("left to the running service"), "{output:?}");
    assert_eq!(logins(&service), before);
    service.is_unharmed();
    service.stop().await;
    assert!(doctor(&service, &["--retry-pin"]).await.success, "stopped, it is done");
    assert_eq!(logins(&service), before + 1);
}
