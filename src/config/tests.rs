use super::*;
use crate::transport;

mod listeners;

const FILE: &str = "/etc/signkeep/signkeep.toml";

const SMALL: &str = r#"
[backends.token]
kind = "pkcs11"
module = "/usr/lib/softhsm/libsofthsm2.so"
token_label = "signkeep"
pin_file = "pin"
"#;

fn parse_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, Error> {
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let file = Path::new(FILE);
    Config::parse(text, file, Path::new("/etc/signkeep"), environment)
}

fn parse(text: &str) -> Result<Config, Error> {
    parse_with(text, &[])
}

fn with_token(rest: &str) -> String {
    format!("{SMALL}{rest}")
}

fn token(config: &Config) -> &Pkcs11 {
    match config.backends.values().next() {
        Some(Backend::Pkcs11(token)) => token,
        other => panic!("no token but {other:?}"),
    }
}

/// The manual with its examples made live: comment lines that begin with `#` and no space.
#[cfg(feature = "aws-kms")]
fn manual() -> String {
    DEFAULTS
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(example) if example.starts_with(|first: char| !first.is_whitespace()) => example,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_manual_says_what_the_defaults_are() {
    let written: File = toml::from_str(DEFAULTS).unwrap();
    let default = File {
        default_key_set: DefaultKeySet(Some("default".parse().unwrap())),
        ..File::default()
    };
    assert_eq!(written, default);
}

#[test]
#[cfg(feature = "aws-kms")]
fn the_manual_with_its_examples_is_a_configuration() {
    let config = parse(&manual()).unwrap();
    let default = config.key_sets.values().next().unwrap();
    assert_eq!(config.backends.len(), 2);
    assert_eq!(default.policy.rotation_period, Some(Duration::from_secs(90 * 86400)));
    let policy = crate::key::Policy {
        retention: default.policy.retention,
        rotation_period: default.policy.rotation_period,
        ..crate::key::Policy::default()
    };
    assert_eq!(default.policy, policy, "examples are the defaults");
}

#[test]
fn a_small_file_has_every_default() {
    let config = parse(SMALL).unwrap();
    assert_eq!(config.store, Store::Sqlite("/etc/signkeep/signkeep.db".into()));
    assert_eq!(config.lease, Duration::from_secs(60));
    assert_eq!(config.default_key_set.as_str(), "default");
    let listeners: Vec<_> = config
        .listeners
        .all()
        .map(|(face, listener)| (face, listener.address.to_string(), listener.tls.is_some()))
        .collect();
    assert_eq!(
        listeners,
        [
            ("grpc", "127.0.0.1:50051".to_owned(), false),
            ("http", "127.0.0.1:8080".to_owned(), false),
            ("metrics", "127.0.0.1:9464".to_owned(), false),
        ]
    );
    assert_eq!(config.listeners.grpc[0].limits, transport::Limits::GRPC);
    assert_eq!(config.listeners.http[0].limits, transport::Limits::HTTP);
    let token = token(&config);
    assert_eq!(token.pin_file, Path::new("/etc/signkeep/pin"));
    assert_eq!(token.queue, 1024);
    assert!(token.workers > 0);
    let limits = config.publication_limits();
    assert_eq!(limits.propagation_delay_min(), Duration::from_secs(90));
}

#[test]
fn a_store_in_postgresql_has_its_secrets_in_files() {
    let with =
        |url: &str, more: &str| parse(&with_token(&format!("[store]\nurl = \"{url}\"\n{more}")));
    let url = "postgres://me@db.example:6432/keys?sslmode=verify-full";
    let files = "password_file = \"pw\"\nca_file = \"ca.pem\"\n";
    let client = "certificate_file = \"me.pem\"\nkey_file = \"me.key\"\n";
    let config = with(url, &format!("{files}{client}")).unwrap();
    let expected = Postgres {
        host: Host::Tcp("db.example".to_owned()),
        port: 6432,
        user: "me".to_owned(),
        database: "keys".to_owned(),
        password_file: Some("/etc/signkeep/pw".into()),
        tls: Some(StoreTls {
            host_name: HostName::Checked,
            ca_file: Some("/etc/signkeep/ca.pem".into()),
            client: Some(("/etc/signkeep/me.pem".into(), "/etc/signkeep/me.key".into())),
        }),
    };
    assert_eq!(config.store, Store::Postgres(expected));
    assert_eq!(config.store.to_string(), "postgres://me@db.example:6432/keys");

    let field = |url: &str, more: &str| with(url, more).unwrap_err().field;
    assert_eq!(field(url, "key_file = \"me.key\"\n"), "store.certificate_file");
    assert_eq!(field(url, "certificate_file = \"me.pem\"\n"), "store.key_file");
    assert_eq!(field("postgres://me@localhost/keys", "ca_file = \"ca.pem\"\n"), "store.url");
    assert_eq!(field("sqlite:keys.db", "password_file = \"pw\"\n"), "store.password_file");
    assert_eq!(field("mysql://me@localhost/keys", ""), "store.url");
    let secret = with("postgres://me:hunter2@localhost/keys", "").unwrap_err();
    assert!(!secret.to_string().contains("hunter2"), "{secret}");
}

#[test]
fn an_unknown_setting_is_refused_with_its_line() {
    let error = parse("lease = \"60s\"\nleese = \"60s\"\n").unwrap_err();
    assert_eq!(error.place, Place::Line(FILE.into(), 2));
    assert_eq!(error.field, "leese");
    assert!(error.what.contains("unknown field"), "{error}");
}

#[test]
fn an_unknown_setting_in_a_section_is_refused_with_its_path() {
    let error = parse(&with_token("pin = \"1234\"\n")).unwrap_err();
    assert_eq!(error.field, "backends.token.pin");
    assert_eq!(error.place, Place::Line(FILE.into(), 7));
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_line_and_field() {
    let error = parse("[jwks]\nmax_age = \"soon\"\n").unwrap_err();
    assert_eq!(error.place, Place::Line(FILE.into(), 2));
    assert_eq!(error.field, "jwks.max_age");
    assert!(error.what.contains("15m"), "{error}");
    let error = parse("[jwks]\nmax_age = 15\n").unwrap_err();
    assert_eq!(error.field, "jwks.max_age");
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let error = parse("lease = \"60s\"\n[store\n").unwrap_err();
    assert_eq!(error.place, Place::Line(FILE.into(), 2));
}

#[test]
fn the_environment_comes_before_the_file() {
    let text = with_token("workers = 3\n[listeners.http]\naddress = \"127.0.0.1:1\"\n");
    let config = parse_with(
        &text,
        &[
            ("SIGNKEEP_STORE__URL", "sqlite:/var/lib/keys.db"),
            ("SIGNKEEP_LEASE", "30s"),
            ("SIGNKEEP_BACKENDS__TOKEN__WORKERS", "5"),
            ("SIGNKEEP_BACKENDS__TOKEN__TOKEN_LABEL", "1234"),
            ("SIGNKEEP_LISTENERS__GRPC__0__ADDRESS", "127.0.0.1:2"),
            ("SIGNKEEP_LISTENERS__GRPC__1__ADDRESS", "[::1]:3"),
            ("SIGNKEEP_LISTENERS__HTTP__ADDRESS", "127.0.0.1:4"),
            ("SIGNKEEP_KEY_SETS__DEMO_ES256__ALGORITHM", "ES256"),
            ("SIGNKEEP_KEY_SETS__DEMO_ES256__ISSUER", "https://issuer.example/"),
            ("HOME", "/root"),
            ("SIGNKEEP_SERVER", "http://127.0.0.1:50051"),
        ],
    )
    .unwrap();
    assert_eq!(config.store, Store::Sqlite("/var/lib/keys.db".into()));
    assert_eq!(config.lease, Duration::from_secs(30));
    let token = token(&config);
    assert_eq!(token.workers, 5);
    assert_eq!(token.token, Token::Label("1234".to_owned()));
    let addresses: Vec<_> =
        config.listeners.all().map(|(_, listener)| listener.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:2", "[::1]:3", "127.0.0.1:4", "127.0.0.1:9464"]);
    let demo = config.key_sets.keys().next().unwrap();
    assert_eq!(demo.as_str(), "demo-es256");
}

#[test]
fn an_unknown_variable_is_refused_with_its_name() {
    for name in ["SIGNKEEP_STORE__URI", "SIGNKEEP_STOER", "SIGNKEEP_"] {
        let error = parse_with(SMALL, &[(name, "sqlite:x")]).unwrap_err();
        assert_eq!(error.place, Place::Variable(name.to_owned()), "{error}");
    }
}

#[test]
fn a_wrong_value_in_a_variable_is_refused_with_its_name() {
    for (name, value, field) in [
        ("SIGNKEEP_LEASE", "soon", "lease"),
        ("SIGNKEEP_STORE__URL", "postgres://db/keys", "store.url"),
        ("SIGNKEEP_BACKENDS__TOKEN__WORKERS", "many", "backends.token.workers"),
        ("SIGNKEEP_BACKENDS__TOKEN__WORKERS", "0", "backends.token.workers"),
        ("SIGNKEEP_LOG__FORMAT", "xml", "log.format"),
    ] {
        let error = parse_with(SMALL, &[(name, value)]).unwrap_err();
        assert_eq!(error.place, Place::Variable(name.to_owned()), "{error}");
        assert_eq!(error.field, field, "{error}");
    }
}

#[test]
fn a_list_in_the_environment_has_no_gaps() {
    let error = parse_with(SMALL, &[("SIGNKEEP_LISTENERS__GRPC__1__ADDRESS", "127.0.0.1:2")]);
    assert!(error.unwrap_err().what.contains("entry 0"));
}

#[test]
fn what_names_no_store_is_refused_with_the_forms_that_do() {
    for url in ["mysql://me@db/keys", "signkeep.db", "sqlite:", "sqlite::memory:", "sqlite://x"] {
        let text = with_token(&format!("[store]\nurl = \"{url}\"\n"));
        let error = parse(&text).unwrap_err();
        assert_eq!(
            (error.field.as_str(), &error.place),
            ("store.url", &Place::Line(FILE.into(), 8))
        );
        assert!(error.what.contains("sqlite:"), "{error}");
    }
}

#[test]
fn a_token_is_named_in_exactly_one_way() {
    let both = with_token("token_serial = \"77\"\n");
    assert_eq!(parse(&both).unwrap_err().field, "backends.token.token_serial");
    let neither = SMALL.replace("token_label = \"signkeep\"", "");
    assert_eq!(parse(&neither).unwrap_err().field, "backends.token.token_label");
}

#[test]
fn a_configuration_without_a_backend_is_refused() {
    let error = parse("lease = \"60s\"\n").unwrap_err();
    assert_eq!(error.field, "backends");
    assert_eq!(error.place, Place::File(FILE.into()));
}

#[test]
fn a_policy_that_does_not_hold_together_is_refused_with_its_line() {
    let text = with_token(
        "[key_sets.default]\nalgorithm = \"ES256\"\nissuer = \"https://issuer.example/\"\npropagation_delay = \"10s\"\n",
    );
    let error = parse(&text).unwrap_err();
    assert_eq!(error.field, "key_sets.default.propagation_delay");
    assert_eq!(error.place, Place::Line(FILE.into(), 10));
    assert!(error.what.contains("1m30s"), "{error}");
}

#[test]
fn a_key_set_that_cannot_be_is_refused() {
    for (rest, field) in [
        (
            "[key_sets.default]\nalgorithm = \"HS256\"\nissuer = \"x\"\n",
            "key_sets.default.algorithm",
        ),
        ("[key_sets.default]\nalgorithm = \"ES256\"\nissuer = \"\"\n", "key_sets.default.issuer"),
        (
            "[key_sets.default]\nalgorithm = \"ES256\"\nissuer = \"x\"\nbackend = \"kms\"\n",
            "key_sets.default.backend",
        ),
        (
            "[key_sets.default]\nalgorithm = \"RS256\"\nissuer = \"x\"\nrsa_bits = 1024\n",
            "key_sets.default.rsa_bits",
        ),
        (
            "[key_sets.signkeep-audit]\nalgorithm = \"ES256\"\nissuer = \"x\"\n",
            "key_sets.signkeep-audit",
        ),
    ] {
        let error = parse(&with_token(rest)).unwrap_err();
        assert_eq!(error.field, field, "{error}");
        assert!(matches!(error.place, Place::Line(..)), "{error}");
    }
}

#[test]
fn a_file_that_is_not_there_says_how_to_get_one() {
    let error = Config::load(Path::new("/nonexistent/signkeep.toml"), []).unwrap_err();
    assert!(error.to_string().contains("signkeep config defaults"), "{error}");
}

#[cfg(feature = "aws-kms")]
const KMS: &str = "[backends.kms]\nkind = \"aws-kms\"\ninstance = \"prod-1\"\n";

#[test]
#[cfg(feature = "aws-kms")]
fn kms_and_a_token_stand_side_by_side() {
    let config = parse(&format!("{SMALL}{KMS}tags = {{ team = \"identity\" }}\n")).unwrap();
    assert_eq!(config.backends.len(), 2);
    let kms = config.backends.get(&"kms".parse().unwrap());
    let Some(Backend::AwsKms(kms)) = kms else {
        panic!("no KMS but {kms:?}");
    };
    assert_eq!((kms.instance.as_str(), kms.region.as_ref()), ("prod-1", None));
    assert_eq!((kms.requests_per_second, kms.in_flight, kms.queue), (300, 64, 1024));
    assert_eq!(kms.tags["team"], "identity");
}

#[test]
#[cfg(feature = "aws-kms")]
fn kms_settings_that_cannot_work_are_refused_with_their_line() {
    for (line, field) in [
        ("pin_file = \"pin\"", "pin_file"),
        ("in_flight = 0", "in_flight"),
        ("requests_per_second = 0", "requests_per_second"),
        ("endpoint_url = \"kms\"", "endpoint_url"),
        ("attempt_timeout = \"0s\"", "attempt_timeout"),
        ("attempt_timeout = \"50s\"", "attempt_timeout"),
        ("tags = { \"signkeep:instance\" = \"x\" }", "tags"),
    ] {
        let error = parse(&format!("{KMS}{line}\n")).unwrap_err();
        assert_eq!(error.field, format!("backends.kms.{field}"), "{error}");
        assert_eq!(error.place, Place::Line(FILE.into(), 4), "{error}");
    }
    let nameless = parse("[backends.kms]\nkind = \"aws-kms\"\n").unwrap_err();
    assert_eq!(nameless.field, "backends.kms.instance");
    let other = parse(&format!("{SMALL}region = \"eu-central-1\"\n")).unwrap_err();
    assert_eq!(other.field, "backends.token.region");
}

#[test]
#[cfg(not(feature = "aws-kms"))]
fn a_build_without_kms_says_so() {
    let error = parse("[backends.kms]\nkind = \"aws-kms\"\ninstance = \"prod-1\"\n").unwrap_err();
    assert_eq!(error.field, "backends.kms.kind");
    assert!(error.what.contains("--features aws-kms"), "{error}");
}

const ISSUER: &str = "[[callers.jwt]]\nname = \"ci\"\nissuer = \"https://ci.example/\"\naudience = \"signkeep\"\nalgorithms = \"ES256\"\njwks_file = \"jwks.json\"\n";
const BINDING: &str = "[[policy]]\ncallers = \"uid:1000\"\nkey_sets = [\"default\", \"prod-*\"]\nroles = \"jwt-signer\"\n";

#[test]
fn without_a_binding_the_policy_is_empty() {
    assert!(parse(SMALL).unwrap().policy.is_empty());
}

#[test]
fn a_binding_is_read_with_one_value_where_a_list_may_stand() {
    let claims = "rate = 5\n[policy.claims]\nsubjects = \"{caller}\"\nfixed = { env = \"prod\", n = [1, 2.5, true] }\n";
    let config = parse(&with_token(&format!("{BINDING}{claims}"))).unwrap();
    let binding = &config.policy[0];
    assert_eq!(binding.callers[0].as_str(), "uid:1000");
    assert_eq!(binding.key_sets.len(), 2);
    assert_eq!(binding.limits.rate.map(std::num::NonZeroU32::get), Some(5));
    let claims = binding.claims.as_ref().unwrap();
    assert_eq!(claims.fixed["n"], serde_json::json!([1, 2.5, true]));
    assert_eq!(config.access().policy, config.policy);
}

#[test]
fn a_binding_that_cannot_be_meant_is_refused_with_its_field() {
    for (from, to, field) in [
        ("\"uid:1000\"", "[]", "callers"),
        ("\"uid:1000\"", "\"issuer\"", "callers"),
        ("\"uid:1000\"", "\"uid:{caller}\"", "callers"),
        ("\"uid:1000\"", "\"***\"", "callers"),
        ("prod-*", "Prod", "key_sets"),
        ("prod-*", "signkeep-audit", "key_sets"),
        ("\"jwt-signer\"", "[]", "roles"),
        ("\"jwt-signer\"\n", "\"signer\"\nrate = 0\n", "rate"),
        ("\"jwt-signer\"\n", "\"signer\"\nconcurrency = 0\n", "concurrency"),
        ("\"jwt-signer\"\n", "\"signer\"\n[policy.claims]\n", "claims"),
        ("\"jwt-signer\"\n", "\"viewer\"\n[policy.claims]\n", "claims"),
        (
            "\"jwt-signer\"\n",
            "\"jwt-signer\"\n[policy.claims]\nfixed = { iss = 1 }\n",
            "claims.fixed.iss",
        ),
        (
            "\"jwt-signer\"\n",
            "\"jwt-signer\"\n[policy.claims]\nfixed = { d = 2026-11-23 }\n",
            "claims.fixed.d",
        ),
        (
            "\"jwt-signer\"\n",
            "\"jwt-signer\"\n[policy.claims]\nlifetime_max = \"0s\"\n",
            "claims.lifetime_max",
        ),
        (
            "\"jwt-signer\"\n",
            "\"jwt-signer\"\n[policy.claims]\nrequired = \"a\"\nforbidden = \"a\"\n",
            "claims.forbidden",
        ),
    ] {
        let text = with_token(&BINDING.replace(from, to));
        let error = parse(&text).unwrap_err();
        assert_eq!(error.field, format!("policy.0.{field}"), "{to}: {error}");
        assert!(matches!(error.place, Place::Line(_, line) if line > 6), "{to}: {error}");
    }
    let error = parse(&with_token(&BINDING.replace("jwt-signer", "root"))).unwrap_err();
    assert!(error.what.contains("jwt-signer"), "{error}");
}

#[test]
fn an_issuer_that_cannot_be_trusted_is_refused_with_its_field() {
    assert_eq!(parse(&with_token(ISSUER)).unwrap().callers.issuers.len(), 1);
    for (from, to, field) in [
        ("\"ci\"", "\"c:i\"", "name"),
        ("\"https://ci.example/\"", "\"\"", "issuer"),
        ("\"signkeep\"", "\"\"", "audience"),
        ("\"ES256\"", "[]", "algorithms"),
        ("jwks_file = \"jwks.json\"", "leeway = \"1m\"", "jwks_url"),
        ("jwks_file = \"jwks.json\"", "jwks_url = \"http://ci.example/\"", "jwks_url"),
        ("jwks_file = \"jwks.json\"", "jwks_url = \"http://127.0.0.1.evil.example/\"", "jwks_url"),
        ("jwks_file = \"jwks.json\"", "jwks_url = \"http://localhost@evil.example/\"", "jwks_url"),
        ("jwks_file = \"jwks.json\"", "jwks_url = \"ci.example\"", "jwks_url"),
        ("jwks_file = \"jwks.json\"", "jwks_url = \"https://x/\"\njwks_file = \"y\"", "jwks_url"),
        ("algorithms", "leeway = \"11m\"\nalgorithms", "leeway"),
        ("algorithms", "keep_keys = \"1m\"\nalgorithms", "keep_keys"),
    ] {
        let error = parse(&with_token(&ISSUER.replace(from, to))).unwrap_err();
        assert_eq!(error.field, format!("callers.jwt.0.{field}"), "{to}: {error}");
    }
    for name in ["HS256", "none", "RS1"] {
        let error = parse(&with_token(&ISSUER.replace("ES256", name))).unwrap_err();
        assert!(error.field.starts_with("callers.jwt.0"), "{error}");
    }
    for url in ["http://127.0.0.1:8080/", "http://[::1]/", "http://localhost/", "https://x/"] {
        let text = ISSUER.replace("jwks_file = \"jwks.json\"", &format!("jwks_url = \"{url}\""));
        assert!(parse(&with_token(&text)).is_ok(), "{url}");
    }
    let twice = with_token(&format!("{ISSUER}{ISSUER}"));
    assert_eq!(parse(&twice).unwrap_err().field, "callers.jwt.1.name");
}
