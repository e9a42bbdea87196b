//! The command line as a process, against a service that only writes down what it is asked.

mod real;
mod secured;

use signkeep::grpc::proto as pb;
use signkeep::grpc::proto::key_service_server::{KeyService, KeyServiceServer};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

#[derive(Clone, Default)]
struct Recorder {
    rotations: Arc<Mutex<Vec<pb::RotateRequest>>>,
}

fn key(kid: &str, state: pb::KeyState) -> pb::Key {
    pb::Key {
        kid: kid.to_owned(),
        key_set: "default".to_owned(),
        algorithm: "ES256".to_owned(),
        state: state.into(),
        ..pb::Key::default()
    }
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not here"))
}

macro_rules! not_here {
    ($($method:ident: $request:ident -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl KeyService for Recorder {
            type WatchKeysStream = ReceiverStream<Result<pb::WatchKeysResponse, Status>>;

            async fn watch_keys(
                &self,
                _request: Request<pb::WatchKeysRequest>,
            ) -> Result<Response<Self::WatchKeysStream>, Status> {
                not_here()
            }

            async fn rotate(
                &self,
                request: Request<pb::RotateRequest>,
            ) -> Result<Response<pb::RotateResponse>, Status> {
                self.rotate_now(request.into_inner())
            }

            async fn list_keys(
                &self,
                request: Request<pb::ListKeysRequest>,
            ) -> Result<Response<pb::ListKeysResponse>, Status> {
                pages(&request.into_inner())
            }

            $(async fn $method(
                &self,
                _request: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                not_here()
            })*
        }
    };
}

not_here! {
    create_key_set: CreateKeySetRequest -> CreateKeySetResponse;
    get_key_set: GetKeySetRequest -> GetKeySetResponse;
    list_key_sets: ListKeySetsRequest -> ListKeySetsResponse;
    update_key_set: UpdateKeySetRequest -> UpdateKeySetResponse;
    disable_key_set: DisableKeySetRequest -> DisableKeySetResponse;
    enable_key_set: EnableKeySetRequest -> EnableKeySetResponse;
    delete_key_set: DeleteKeySetRequest -> DeleteKeySetResponse;
    get_key: GetKeyRequest -> GetKeyResponse;
    revoke: RevokeRequest -> RevokeResponse;
    rollback: RollbackRequest -> RollbackResponse;
}

impl Recorder {
    fn rotate_now(
        &self,
        request: pb::RotateRequest,
    ) -> Result<Response<pb::RotateResponse>, Status> {
        if request.key_set == "young" {
            let mut details = ErrorDetails::new();
            details
                .set_error_info(
                    "NEXT_KEY_NOT_PROPAGATED",
                    "signkeep",
                    [("kid".to_owned(), "young".to_owned())],
                )
                .set_retry_info(Some(std::time::Duration::from_secs(852)));
            let message = "the next key is too young";
            return Err(Status::with_error_details(Code::FailedPrecondition, message, details));
        }
        let dry_run = request.dry_run;
        self.rotations.lock().unwrap().push(request);
        Ok(Response::new(pb::RotateResponse {
            next: (!dry_run).then(|| key("fresh", pb::KeyState::Next)),
            current: Some(key("was-next", pb::KeyState::Current)),
            previous: Some(key("was-current", pb::KeyState::Previous)),
            dry_run,
            ..pb::RotateResponse::default()
        }))
    }
}

/// Two pages of one key each.
fn pages(request: &pb::ListKeysRequest) -> Result<Response<pb::ListKeysResponse>, Status> {
    let (kid, state, next) = match request.page_token.as_str() {
        "" => ("one", pb::KeyState::Next, "more"),
        _ => ("two", pb::KeyState::Current, ""),
    };
    Ok(Response::new(pb::ListKeysResponse {
        keys: vec![key(kid, state)],
        next_page_token: next.to_owned(),
        ..pb::ListKeysResponse::default()
    }))
}

/// Serves until the test ends; returns what was asked, and the URL.
async fn recorder() -> (Recorder, String) {
    let recorder = Recorder::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = KeyServiceServer::new(recorder.clone());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    (recorder, url)
}

/// Runs the binary without a terminal and without the caller's settings.
async fn signkeep(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signkeep"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SIGNKEEP_") {
            command.env_remove(name);
        }
    }
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn without_a_terminal_and_without_yes_nothing_is_rotated() {
    let (recorder, url) = recorder().await;
    let output = signkeep(&["keys", "rotate", "--server", &url]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("was-next (next) becomes current"), "{said}");
    assert!(said.contains("nothing was changed") && said.contains("--yes"), "{said}");
    let asked = recorder.rotations.lock().unwrap();
    assert!(asked.iter().all(|request| request.dry_run), "{asked:?}");
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn what_was_shown_is_what_is_rotated() {
    let (recorder, url) = recorder().await;
    let output = signkeep(&["keys", "rotate", "--yes", "--output", "json", "--server", &url]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let answer: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(answer["next"]["kid"], "fresh");
    assert_eq!(answer["current"]["state"], "KEY_STATE_CURRENT");
    let asked = recorder.rotations.lock().unwrap();
    let dry_runs: Vec<_> = asked.iter().map(|request| request.dry_run).collect();
    assert_eq!(dry_runs, [true, false]);
    assert_eq!(asked[1].expected_current_kid, "was-current");
    assert_eq!(asked[1].request_id.len(), 32);
}

#[tokio::test]
async fn a_refusal_says_why_and_what_to_do() {
    let (_recorder, url) = recorder().await;
    let output = signkeep(&["keys", "rotate", "--key-set", "young", "--server", &url]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert_eq!(
        said,
        "error: the next key is too young\n\
         reason: NEXT_KEY_NOT_PROPAGATED\n\
         to do: try again in 14m12s, or use --force with a --reason and accept what verifiers will see\n"
    );
}

#[tokio::test]
async fn every_page_is_listed_and_tables_have_no_colours_in_a_pipe() {
    let (_recorder, url) = recorder().await;
    let output = signkeep(&["keys", "list", "--server", &url]).await;
    let table = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(table.contains("one") && table.contains("two"), "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_exit_code_3() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for args in [
        ["keys", "list", "--server", &url],
        ["key-sets", "list", "--server", &url],
        ["jwks", "--key-set=default", "--http-url", &url],
    ] {
        let output = signkeep(&args).await;
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("no service answers at"), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn a_wrong_command_line_is_exit_code_2() {
    for args in [
        &["frobnicate"][..],
        &["keys", "revoke"],
        &["keys", "list", "--server", "http://192.0.2.1:1"],
        &[],
    ] {
        let output = signkeep(args).await;
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[tokio::test]
async fn the_manual_is_printed_and_checked() {
    let defaults = signkeep(&["config", "defaults"]).await;
    assert_eq!(stdout(&defaults), signkeep::config::DEFAULTS);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("signkeep.toml");
    std::fs::write(&file, "lease = \"soon\"\n").unwrap();
    let file = file.to_str().unwrap();
    let output = signkeep(&["config", "check", "--config", file]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.starts_with(&format!("error: {file}:1: lease: must be a duration")), "{said}");
}

#[tokio::test]
async fn dev_without_softhsm_says_so_and_makes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let dev = directory.path().join("dev");
    let mut command = Command::new(env!("CARGO_BIN_EXE_signkeep"));
    command
        .args(["dev", "--dir"])
        .arg(&dev)
        .env("SIGNKEEP_SOFTHSM_MODULE", "/nonexistent/libsofthsm2.so");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nonexistent/libsofthsm2.so"));
    assert!(!dev.exists());
}
