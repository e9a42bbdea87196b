//! Refusals over the wire: each is counted, and none can fill the record.

use crate::harness::reason;
use crate::harness::service::Service;
use signkeep::grpc::proto as pb;
use tonic::Code;

const CALLS: u64 = 300;

#[tokio::test]
async fn a_flood_of_calls_by_nobody_known_is_counted_in_a_few_records() {
    let mut service = Service::serve().await.started().await;
    let mut signing = service.signing();
    for _ in 0..CALLS {
        let input = Some(pb::sign_request::Input::Message(b"hello"[..].into()));
        let key_set = "default".to_owned();
        let mut request =
            tonic::Request::new(pb::SignRequest { key_set, input, ..Default::default() });
        request.metadata_mut().insert("authorization", "Bearer nonsense".parse().unwrap());
        let refused = signing.sign(request).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::Unauthenticated, "CALLER_UNKNOWN".to_owned()));
    }
    service.stop().await;
    let store = format!("sqlite:{}", service.database().display());
    let exported = service.signkeep(&["audit", "export", "--store", &store]).await;
    assert!(exported.success, "{exported:?}");
    let lines = exported.stdout.lines().filter(|line| line.contains("CALLER_UNKNOWN"));
    let records: Vec<serde_json::Value> =
        lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records.len() < 20, "{}", records.len());
    assert_eq!(records.iter().filter_map(|it| it["count"].as_u64()).sum::<u64>(), CALLS);
    for record in &records {
        assert_eq!(record["outcome"], "refused");
        assert!(!record.to_string().contains("nonsense"), "no token in the record");
    }
}
