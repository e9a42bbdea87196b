//! What may be said of listeners.

use super::{FILE, parse, parse_with, with_token};
use crate::config::{Config, Error, Place};
use crate::transport::tls::{Certificates, Version};
use std::path::Path;
use std::time::Duration;

fn grpc(text: &str) -> Result<Config, Error> {
    parse(&with_token(&format!("[[listeners.grpc]]\n{text}\n")))
}

#[track_caller]
fn refused(text: &str, field: &str, line: usize, word: &str) {
    let error = grpc(text).unwrap_err();
    assert_eq!(error.field, format!("listeners.grpc.0{field}"), "{error}");
    assert_eq!(error.place, Place::Line(FILE.into(), 7 + line), "{error}");
    assert!(error.what.contains(word), "{error}");
}

#[test]
fn off_loopback_there_must_be_tls() {
    for address in ["0.0.0.0:50051", "[::]:50051", "192.0.2.1:50051"] {
        let line = format!("address = \"{address}\"");
        refused(&line, ".address", 1, "has no tls");
        let tls = "[listeners.grpc.tls]\ncertificate_file = \"s.pem\"\nkey_file = \"s.key\"";
        let config = grpc(&format!("{line}\n{tls}")).unwrap();
        assert!(config.listeners.grpc[0].tls.is_some());
    }
    for address in ["localhost:50051", "127.0.0.1", ""] {
        refused(&format!("address = \"{address}\""), ".address", 1, "IP address");
    }
}

#[test]
fn a_single_listener_may_be_a_table() {
    let config = parse(&with_token("[listeners.grpc]\naddress = \"127.0.0.1:0\"\n")).unwrap();
    assert_eq!(config.listeners.grpc.len(), 1);
    let error = parse(&with_token("[listeners.grpc]\naddress = \"0.0.0.0:0\"\n")).unwrap_err();
    assert_eq!(error.place, Place::Line(FILE.into(), 8), "{error}");
}

#[test]
fn the_second_of_several_is_named_with_its_line() {
    let text = "address = \"127.0.0.1:1\"\n[[listeners.grpc]]\naddress = \"0.0.0.0:2\"";
    let error = grpc(text).unwrap_err();
    assert_eq!(error.field, "listeners.grpc.1.address");
    assert_eq!(error.place, Place::Line(FILE.into(), 10), "{error}");
}

#[test]
fn files_of_tls_lie_beside_the_configuration() {
    let config = grpc(
        "address = \"0.0.0.0:1\"\n[listeners.grpc.tls]\ncertificate_file = \"server.pem\"\nkey_file = \"/secret/server.key\"\nclient_ca_file = \"clients.pem\"\ncrl_files = [\"a.crl\", \"b.crl\"]\nmin_version = \"1.3\"",
    )
    .unwrap();
    let tls = config.listeners.grpc[0].tls.as_ref().unwrap();
    assert_eq!(tls.certificate_file, Path::new("/etc/signkeep/server.pem"));
    assert_eq!(tls.key_file, Path::new("/secret/server.key"));
    assert_eq!(tls.min_version, Version::Tls13);
    let clients = tls.clients.as_ref().unwrap();
    assert_eq!(clients.ca_file, Path::new("/etc/signkeep/clients.pem"));
    assert_eq!(clients.certificates, Certificates::Required, "unless it is said otherwise");
    assert_eq!(clients.crl_files.len(), 2);
}

#[test]
fn settings_of_tls_that_cannot_work_are_refused_with_their_line() {
    let with = |line: &str| {
        format!(
            "address = \"0.0.0.0:1\"\n[listeners.grpc.tls]\ncertificate_file = \"s.pem\"\nkey_file = \"s.key\"\n{line}"
        )
    };
    refused(
        &with("client_certificates = \"required\""),
        ".tls.client_certificates",
        5,
        "client_ca_file",
    );
    refused(&with("crl_files = [\"a.crl\"]"), ".tls.crl_files", 5, "client_ca_file");
    refused(&with("min_version = \"1.1\""), ".tls.min_version", 5, "1.2");
    refused(&with("ciphers = \"all\""), ".tls.ciphers", 5, "unknown field");
}

#[test]
fn the_environment_sets_every_setting_of_a_listener() {
    let name = |rest: &str| format!("SIGNKEEP_LISTENERS__GRPC__0__{rest}");
    let values = [
        (name("ADDRESS"), "0.0.0.0:1"),
        (name("TLS__CERTIFICATE_FILE"), "s.pem"),
        (name("TLS__KEY_FILE"), "s.key"),
        (name("TLS__CLIENT_CA_FILE"), "c.pem"),
        (name("TLS__CRL_FILES"), "c.crl"),
        (name("LIMITS__CONNECTIONS_MAX"), "7"),
        ("SIGNKEEP_LIMITS__IDLE_TIMEOUT".to_owned(), "1m"),
    ];
    let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let config = parse_with(&with_token(""), &values).unwrap();
    let listener = &config.listeners.grpc[0];
    let clients = listener.tls.as_ref().unwrap().clients.as_ref().unwrap();
    assert_eq!(clients.crl_files, [Path::new("/etc/signkeep/c.crl")]);
    assert_eq!(listener.limits.connections_max, 7);
    assert_eq!(listener.limits.idle_timeout, Duration::from_secs(60));
    assert_eq!(config.listeners.http[0].limits.idle_timeout, Duration::from_secs(60));
}

#[test]
fn a_unix_socket_has_a_path_and_permissions_and_no_tls() {
    let config = grpc("address = \"unix:run/grpc.sock\"\nmode = \"0600\"").unwrap();
    let listener = &config.listeners.grpc[0];
    assert_eq!(listener.address.to_string(), "unix:/etc/signkeep/run/grpc.sock");
    assert_eq!(listener.mode, 0o600);
    let usual = grpc("address = \"unix:/run/grpc.sock\"").unwrap();
    assert_eq!(usual.listeners.grpc[0].mode, 0o660);
    for mode in ["rw", "9999", "0066", "", "07777", "+660"] {
        let text = format!("address = \"unix:/run/grpc.sock\"\nmode = \"{mode}\"");
        refused(&text, ".mode", 2, "octal");
    }
    refused("address = \"127.0.0.1:1\"\nmode = \"0600\"", ".mode", 2, "for Unix sockets");
    refused("address = \"unix:\"", ".address", 1, "path");
    let tls = "[listeners.grpc.tls]\ncertificate_file = \"s.pem\"\nkey_file = \"s.key\"";
    let error = grpc(&format!("address = \"unix:/s\"\n{tls}")).unwrap_err();
    assert!(error.what.contains("whose process"), "{error}");
}

#[test]
fn limits_of_a_listener_come_before_those_of_all() {
    let text = with_token(
        "[limits]\nconnections_max = 50\nhandshake_timeout = \"3s\"\n[[listeners.grpc]]\naddress = \"127.0.0.1:1\"\n[listeners.grpc.limits]\nconnections_max = 7\n",
    );
    let config = parse(&text).unwrap();
    let (grpc, http) = (&config.listeners.grpc[0].limits, &config.listeners.http[0].limits);
    assert_eq!((grpc.connections_max, http.connections_max), (7, 50));
    assert_eq!(grpc.handshake_timeout, Duration::from_secs(3));
    for (line, name) in [
        ("connections_max = 0", "connections_max"),
        ("handshake_timeout = \"0s\"", "handshake_timeout"),
        ("connection_age = \"1y\"", "connection_age"),
        ("message_bytes_max = 1", "message_bytes_max"),
    ] {
        let error = parse(&with_token(&format!("[limits]\n{line}\n"))).unwrap_err();
        assert_eq!(error.field, format!("limits.{name}"), "{error}");
        assert_eq!(error.place, Place::Line(FILE.into(), 8), "{error}");
    }
}
