use super::*;
use clap::error::ErrorKind;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_line_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_documented_command_is_understood() {
    for line in [
        "signkeep dev",
        "signkeep dev --dir d --grpc 127.0.0.1:0 --http 127.0.0.1:0 --metrics 127.0.0.1:0 --addresses-file f",
        "signkeep serve --config f",
        "signkeep serve --config f --addresses-file a",
        "signkeep doctor",
        "signkeep doctor --config f --retry-pin",
        "signkeep key-sets create demo --algorithm ES256 --issuer https://issuer.example/",
        "signkeep key-sets create demo --algorithm RS256 --issuer i --rsa-bits 3072 --max-token-ttl 1h",
        "signkeep key-sets list --output json",
        "signkeep key-sets show default --server http://127.0.0.1:1",
        "signkeep key-sets update default --rotation-hold off --rotation-period 90d",
        "signkeep key-sets disable demo --reason done",
        "signkeep key-sets enable demo",
        "signkeep key-sets delete demo --yes --reason done",
        "signkeep keys list",
        "signkeep keys list --server https://keys.example --ca-file c --cert-file d --key-file e --token-file t",
        "signkeep keys list --all --key-set demo --output json",
        "signkeep keys show KID",
        "signkeep keys show -y3bkZc2V5VtGqmzVrrNXgM1mZGmRWyRVMNsbnVbYXg",
        "signkeep keys revoke -gbkZc2V5VtGqmzVrrNXgM1mZGmRWyRVMNsbnVbYXgs --yes",
        "signkeep sign --expected-kid -gbkZc2V5VtGqmzVrrNXgM1mZGmRWyRVMNsbnVbYXgs",
        "signkeep keys rotate --yes",
        "signkeep keys rotate --force --reason late --dry-run",
        "signkeep keys revoke KID --reason lost --force",
        "signkeep keys revoke KID --reason lost --emergency --replace-next -y",
        "signkeep keys rollback --reason trouble",
        "signkeep keys watch --key-set demo",
        "signkeep sign",
        "signkeep sign file --digest --encoding der --raw",
        "signkeep sign-jwt claims.json --lifetime 15m --typ at+jwt",
        "signkeep jwks --key-set demo --http-url http://127.0.0.1:1",
        "signkeep config check --config f",
        "signkeep config defaults",
        "signkeep config diff --config f",
        "signkeep config apply --config f --yes",
        "signkeep completions bash",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "signkeep serve",
        "signkeep dev --grpc 0.0.0.0:50051",
        "signkeep dev --grpc unix:/run/s.sock",
        "signkeep keys revoke",
        "signkeep keys rotate --force",
        "signkeep keys revoke KID --emergency",
        "signkeep keys revoke KID --replace-next --reason r",
        "signkeep keys list --timeout soon",
        "signkeep keys list --cert-file c",
        "signkeep sign --raw --output json",
        "signkeep jwks --key-set Demo",
        "signkeep config check",
        "signkeep frobnicate",
    ] {
        let error = parse(line).expect_err(line);
        assert_ne!(error.kind(), ErrorKind::DisplayHelp, "{line}");
        assert!(error.use_stderr(), "{line}");
    }
}

#[test]
fn help_documents_the_exit_codes() {
    let help = Cli::command().render_long_help().to_string();
    for code in ["0  done", "1  refused", "2  the command line", "3  the service"] {
        assert!(help.contains(code), "{code}: {help}");
    }
}
