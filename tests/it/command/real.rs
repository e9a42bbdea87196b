//! The command line against the service itself.

use crate::harness::eventually;
use crate::harness::process::Process;
use crate::harness::service::Service;
use crate::harness::tools::Output;
use rustix::process::Signal;
use serde_json::Value;
use signkeep::grpc::proto::{KeyState, RotateRequest, RotateResponse};
use std::fs;
use std::process::Command;
use std::task::Poll;
use std::time::{Duration, Instant};
use tonic::transport::Endpoint;

const NOTICED: Duration = Duration::from_secs(60);

/// Runs a client verb against `service`, without a terminal.
async fn signkeep(service: &Service, line: &str) -> Output {
    let server = format!("http://{}", service.grpc_address());
    let mut args: Vec<_> = line.split(' ').collect();
    args.extend(["--server", &server]);
    service.signkeep(&args).await
}

/// Its answer in JSON.
async fn json(service: &Service, line: &str) -> Value {
    let output = signkeep(service, &format!("{line} --output json")).await;
    assert!(output.success, "{line}: {output:?}");
    serde_json::from_str(&output.stdout).unwrap()
}

/// It is refused, and says all of `words`.
async fn refused(service: &Service, line: &str, words: &[&str]) {
    let output = signkeep(service, line).await;
    assert!(!output.success, "{line}: {output:?}");
    for word in words {
        assert!(output.stderr.contains(word), "{line}: no {word:?} in: {}", output.stderr);
    }
}

#[tokio::test]
async fn a_key_set_lives_from_create_to_delete() {
    let mut service = Service::serve().await.started().await;
    let made =
        json(&service, "key-sets create payments --algorithm ES256 --issuer https://i.example/")
            .await;
    assert_eq!(made["state"], "KEY_SET_STATE_ENABLED");
    assert_eq!(made["keys"].as_array().unwrap().len(), 2);

    let to_lift = "signkeep key-sets enable payments";
    refused(&service, "key-sets disable payments", &["nothing was changed", "--yes"]).await;
    assert_eq!(json(&service, "key-sets show payments").await["state"], "KEY_SET_STATE_ENABLED");
    let output = signkeep(&service, "key-sets disable payments --yes").await;
    assert!(output.success, "{output:?}");
    refused(&service, "sign signkeep.toml --key-set payments", &["KEY_SET_DISABLED", to_lift])
        .await;
    assert!(signkeep(&service, "key-sets enable payments").await.success);
    assert!(signkeep(&service, "sign signkeep.toml --key-set payments").await.success);

    let in_use = ["KEY_SET_IN_USE", "signkeep key-sets disable payments"];
    refused(&service, "key-sets delete payments --yes", &in_use).await;
    assert!(signkeep(&service, "key-sets disable payments --yes").await.success);
    refused(&service, "key-sets delete payments", &["nothing was changed", "--yes"]).await;
    let current = service.key_set("payments").the(KeyState::Current).await.kid;
    let how = "--key-set payments --emergency --replace-next --reason end --yes";
    let revoked = signkeep(&service, &format!("keys revoke {current} {how}")).await;
    assert!(revoked.success, "{revoked:?}");
    eventually("it can be deleted once no key is left to sign", NOTICED, async || {
        let deleted = signkeep(&service, "key-sets delete payments --yes").await;
        deleted.success.then_some(())
    })
    .await;
    refused(&service, "key-sets show payments", &["KEY_SET_NOT_FOUND"]).await;
    service.is_unharmed();
}

#[tokio::test]
async fn a_key_is_shown_with_its_certificate() {
    let service = Service::serve().await.started().await;
    let current = service.key_set("default").the(KeyState::Current).await;
    let shown = signkeep(&service, &format!("keys show {}", current.kid)).await;
    assert!(shown.success, "{shown:?}");
    assert!(shown.stdout.contains(&current.kid) && shown.stdout.contains("MAY REVOKE"));
    assert!(shown.stdout.ends_with("-----END CERTIFICATE-----\n"), "{shown:?}");
    let unknown = "A".repeat(43);
    let to_do = "signkeep keys list --all --key-set default";
    refused(&service, &format!("keys show {unknown}"), &["KEY_NOT_FOUND", to_do]).await;
}

#[tokio::test]
async fn an_emergency_asks_first_and_then_takes_the_key_away() {
    let service = Service::serve().await.started().await;
    let key_set = service.key_set("default");
    let (next, current) = (key_set.the(KeyState::Next).await, key_set.the(KeyState::Current).await);
    let line = format!("keys revoke {} --emergency --reason leaked", current.kid);
    refused(&service, &line, &["for good", "destroyed at once", "nothing was changed"]).await;
    assert_eq!(key_set.the(KeyState::Current).await.kid, current.kid);
    let done = json(&service, &format!("{line} --yes")).await;
    assert_eq!(done["revoked"]["kid"], current.kid.as_str());
    assert_eq!(key_set.the(KeyState::Current).await.kid, next.kid);
}

#[tokio::test]
async fn under_a_hold_every_hint_names_the_key_set_and_the_way_around() {
    let service = Service::serve().await.started().await;
    let line = "key-sets create payments --algorithm ES256 --issuer https://i.example/";
    json(&service, line).await;
    let key_set = service.key_set("payments");
    key_set.force_rotate().await.unwrap();
    let lift = "signkeep key-sets update payments --rotation-hold off";
    refused(&service, "keys rollback --key-set payments", &["nothing was changed"]).await;
    let done = signkeep(&service, "keys rollback --key-set payments --yes").await;
    assert!(done.success && done.stderr.contains(lift), "{done:?}");
    refused(&service, "keys rotate --key-set payments", &["ROTATION_HOLD", lift]).await;
    let current = key_set.the(KeyState::Current).await.kid;
    let revoke =
        format!("keys revoke {current} --key-set payments --emergency --reason leaked --yes");
    refused(&service, &revoke, &["ROTATION_HOLD", "--replace-next", lift]).await;
    let done = signkeep(&service, &format!("{revoke} --replace-next")).await;
    assert!(done.success && done.stderr.contains("keys watch --key-set payments"), "{done:?}");
    let update = signkeep(&service, "key-sets update --rotation-hold off").await;
    assert!(!update.success, "which key set is to be said: {update:?}");
}

#[tokio::test]
async fn a_port_that_is_not_grpcs_is_named_as_the_likely_mistake() {
    let service = Service::serve().await.started().await;
    let server = format!("http://{}", service.http_address());
    let output = service.signkeep(&["keys", "list", "--server", &server]).await;
    assert!(!output.success && output.stderr.contains("name the gRPC one"), "{output:?}");
}

#[tokio::test]
async fn what_is_there_to_sign_is_said_where_it_is_missing() {
    let service = Service::serve().await;
    let output = service.signkeep(&["sign-jwt"]).await;
    assert!(!output.success && output.stderr.contains("has no claims"), "{output:?}");
}

#[tokio::test]
async fn softhsms_configuration_beside_the_file_is_found_without_the_environment() {
    let service = Service::serve().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_signkeep"));
    let addresses = service.path("addresses.json");
    command
        .args(["serve", "--config", "signkeep.toml", "--addresses-file", "addresses.json"])
        .env_remove("SOFTHSM2_CONF")
        .current_dir(service.path(""));
    let mut serving = Process::start(command, &service.path(""), "bare");
    let addresses = eventually("it listens, or ends", NOTICED, async || {
        if let Some(ended) = serving.ended() {
            panic!("it ended with {ended}:\n{}", serving.stderr());
        }
        serde_json::from_str::<Value>(&fs::read_to_string(&addresses).ok()?).ok()
    })
    .await;
    let server = format!("http://{}", addresses["grpc"][0].as_str().unwrap());
    let signed = service.signkeep(&["sign", "signkeep.toml", "--server", &server]).await;
    assert!(signed.success, "{signed:?}");
}

#[tokio::test]
async fn a_watch_shows_what_is_and_then_what_changes() {
    let service = Service::serve().await.started().await;
    let server = format!("http://{}", service.grpc_address());
    let mut command = Command::new(env!("CARGO_BIN_EXE_signkeep"));
    command.args(["keys", "watch", "--output", "json", "--server", &server]);
    let watch = Process::start(command, &service.path(""), "watch");
    let seen = async |lines: usize| {
        eventually("the watch says it", NOTICED, async || {
            (watch.stdout().lines().count() >= lines).then_some(())
        })
        .await;
        let text = watch.stdout();
        serde_json::from_str::<Value>(text.lines().nth(lines - 1).unwrap()).unwrap()
    };
    assert_eq!(seen(1).await["snapshot"], true);
    service.key_set("default").force_rotate().await.unwrap();
    let change = seen(2).await;
    assert_eq!(change["snapshot"], false);
    assert_eq!(change["keySets"][0]["id"], "default");
}

#[tokio::test]
async fn differences_are_shown_and_those_of_the_policy_applied() {
    let service = Service::serve().await.started().await;
    let file = service.path("signkeep.toml");
    let diff = "config diff --config signkeep.toml";
    let same = signkeep(&service, diff).await;
    assert!(same.success && same.stdout.contains("as the service has them"), "{same:?}");

    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("https://issuer.example/", "https://other.example/");
    let more = "rotation_period = \"90d\"\n[key_sets.more]\nalgorithm = \"ES256\"\nissuer = \"https://more.example/\"\n";
    fs::write(&file, text + more).unwrap();
    let shown = signkeep(&service, diff).await;
    for (setting, to_do) in [
        ("issuer", "the API does not change it: mend the file"),
        ("rotation_period", "signkeep config apply"),
        ("more", "restart the service"),
    ] {
        let line = shown.stdout.lines().find(|line| line.contains(setting));
        assert!(line.is_some_and(|line| line.contains(to_do)), "{setting}: {shown:?}");
    }

    let apply = "config apply --config signkeep.toml";
    refused(&service, apply, &["rotation_period not set -> 90d", "nothing was changed"]).await;
    let applied = signkeep(&service, &format!("{apply} --yes")).await;
    assert!(applied.success && applied.stdout.contains("default: applied"), "{applied:?}");
    let policy = &json(&service, "key-sets show default").await["policy"];
    assert_eq!(policy["rotationPeriod"], "7776000s");
    let left = signkeep(&service, diff).await.stdout;
    assert!(left.contains("issuer") && !left.contains("rotation_period"), "{left}");
    let nothing = signkeep(&service, &format!("{apply} --yes")).await;
    assert!(nothing.stdout.contains("Nothing to apply"), "{nothing:?}");
}

#[tokio::test]
async fn sighup_takes_a_good_files_log_level_and_leaves_a_bad_ones() {
    let mut service = Service::serve().await.started().await;
    let file = service.path("signkeep.toml");
    let whole = fs::read_to_string(&file).unwrap();
    let kept = "what was in force stays in force";
    let count = |log: &str, words: &str| log.matches(words).count();
    let reload = async |level: &str, words: &str| {
        fs::write(&file, format!("{whole}\n[log]\nlevel = \"{level}\"\n")).unwrap();
        let before = count(&service.log(), words);
        service.signal(Signal::HUP);
        eventually("the log says it", NOTICED, async || {
            (count(&service.log(), words) > before).then_some(())
        })
        .await;
    };
    reload("loud", kept).await;
    reload("debug", "configuration reloaded").await;
    reload("loud", kept).await;
    service.key_set("default").published().await;
    eventually("reads are logged at debug only", NOTICED, async || {
        service.log().contains(r#""level":"DEBUG","message":"answered""#).then_some(())
    })
    .await;
    reload("info", "configuration reloaded").await;
    let log = service.log();
    assert_eq!((count(&log, kept), count(&log, "configuration reloaded")), (2, 2), "{log}");
    service.is_unharmed();
}

#[tokio::test]
async fn a_second_sigterm_ends_what_the_first_one_waits_for() {
    let mut service = Service::serve().await;
    let file = service.path("signkeep.toml");
    let limits = "\n[limits]\ndrain_timeout = \"10m\"\n";
    fs::write(&file, fs::read_to_string(&file).unwrap() + limits).unwrap();
    service.start().await;
    // A request that never comes to its end.
    let server = Endpoint::from_shared(format!("http://{}", service.grpc_address())).unwrap();
    let mut client = tonic::client::Grpc::new(server.connect().await.unwrap());
    client.ready().await.unwrap();
    let (sent, mut begun_to_send) = tokio::sync::mpsc::unbounded_channel();
    let items = futures_util::stream::poll_fn(move |_| {
        sent.send(()).ok();
        Poll::<Option<RotateRequest>>::Pending
    });
    let request = tonic::Request::new(items);
    let path = "/signkeep.v1.KeyService/Rotate".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<RotateRequest, RotateResponse>::default();
    let call =
        tokio::spawn(async move { client.client_streaming(request, path, codec).await.map(drop) });
    begun_to_send.recv().await.unwrap();
    // Answered on the same listener, so the request before it has arrived.
    service.key_set("default").published().await;
    let begun = Instant::now();
    service.terminate();
    eventually("the first is heard", NOTICED, async || {
        service.log().contains("asked to stop").then_some(())
    })
    .await;
    assert!(!call.is_finished(), "the drain waits for the request");
    service.terminate();
    service.ended(NOTICED).await;
    assert!(begun.elapsed() < Duration::from_secs(60), "the change had two minutes");
    assert!(call.await.unwrap().is_err());
}
