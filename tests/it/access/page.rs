//! What `docs/callers.md` shows: that it is taken as it stands, and gives what the page says.

use crate::harness::service::Service;
use crate::harness::tools::repository;
use crate::stories::readme::blocks;

/// The insides of the page's blocks marked `toml`.
fn settings(page: &str) -> Vec<&str> {
    let after = page.split("```toml\n").skip(1);
    after.map(|rest| rest.split_once("```").unwrap().0).collect()
}

#[tokio::test]
async fn the_least_that_an_issuer_needs_is_what_the_page_gives_it() {
    let page = std::fs::read_to_string(repository("docs/callers.md")).unwrap();
    let settings = settings(&page);
    assert_eq!(settings.len(), 2, "{settings:?}");
    let lines = settings[0].lines().filter(|line| !line.is_empty());
    assert!(lines.count() <= 10, "the page says ten lines");
    let commands = blocks(&page);
    let [explain] = &commands[..] else { panic!("{commands:?}") };
    let service = Service::serve().await;
    let token = "[backends.token]\nkind = \"pkcs11\"\nmodule = \"m.so\"\ntoken_label = \"t\"\npin_file = \"pin\"\n";
    std::fs::write(service.path("signkeep.toml"), token.to_owned() + &settings.concat()).unwrap();
    let explain: Vec<_> = explain.split_whitespace().skip(1).collect();
    let (action, before) = explain.split_last().unwrap();
    assert_eq!(*action, "sign");
    for (action, allowed) in [
        ("view", true),
        ("sign-jwt", true),
        ("sign", false),
        ("rotate", false),
        ("revoke", false),
        ("rollback", false),
        ("hold", false),
        ("create", false),
        ("update", false),
        ("disable", false),
        ("enable", false),
        ("delete", false),
    ] {
        let output = service.signkeep(&[before, &[action]].concat()).await;
        assert_eq!(output.success, allowed, "{action}: {output:?}");
    }
    for (claims, allowed) in [
        (r#"{"aud":"https://api.example/orders/v1"}"#, true),
        (r#"{"aud":["https://api.example/orders","https://evil.example/"]}"#, false),
        ("{}", false),
    ] {
        let output = service.signkeep(&[before, &["sign-jwt", "--claims", claims]].concat()).await;
        assert_eq!(output.success, allowed, "{claims}: {output:?}");
    }
}
