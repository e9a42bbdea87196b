//! Peers that take their time, and many of them. Whatever they do, others are served.

use super::*;
use crate::harness::ring::Life;
use signkeep::grpc::proto::key_service_client::KeyServiceClient;

const TRICKLE: Duration = Duration::from_millis(20);

/// A server without TLS, where a test is about what comes after.
async fn plain(limits: Limits) -> (SocketAddr, Life, oneshot::Sender<()>) {
    let world = World::new().await;
    let life = world.life().await;
    life.create().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = Listener::plain("grpc", listener, limits).unwrap();
    let address = listener.address().tcp().unwrap();
    let deps = Deps {
        access: Access::open(),
        keyring: life.ring.clone(),
        health: Health::default(),
        settings: Settings::default(),
    };
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        let _world = world;
        let stopped = async {
            stopped.await.ok();
        };
        grpc::serve(vec![listener], deps, stopped).await.unwrap();
    });
    (address, life, stop)
}

async fn caller(address: SocketAddr) -> SigningServiceClient<Channel> {
    SigningServiceClient::new(channel(address).await)
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// An open HTTP/2 connection.
async fn greeted(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    assert_eq!(frame(&mut stream).await.unwrap().0, 4, "SETTINGS come first");
    stream
}

/// Sends a byte now and then until the other side closes.
async fn trickle(stream: &mut TcpStream, byte: u8) {
    let closed = async {
        let mut rest = [0; 4096];
        loop {
            if stream.write_all(&[byte]).await.is_err() {
                return;
            }
            let read = tokio::time::timeout(TRICKLE, stream.read(&mut rest)).await;
            if matches!(read, Ok(Ok(0) | Err(_))) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("it is closed");
}

#[tokio::test]
async fn those_who_never_finish_their_handshake_give_way_to_those_who_do() {
    let files = Files::new();
    let settings = files.settings();
    // Places for two in the middle of their handshake, and no end to it of its own.
    let limits =
        Limits { connections_max: 8, handshake_timeout: Duration::from_secs(3600), ..Limits::GRPC };
    let site = Site::start_with(files, settings, limits).await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(TcpStream::connect(site.address).await.unwrap());
    }
    let client = site.files.client();
    let signed = async { sign(&mut site.signing(&client).await).await.unwrap() };
    tokio::time::timeout(PATIENCE, signed).await.expect("others are served");
    until_closed(&mut silent[0]).await;
    site.stop().await;
}

#[tokio::test]
async fn a_handshake_or_a_preface_that_trickles_in_is_cut_off() {
    let files = Files::new();
    let settings = files.settings();
    let limits = Limits { handshake_timeout: Duration::from_millis(300), ..Limits::GRPC };
    let site = Site::start_with(files, settings, limits).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    // The head of a long handshake record.
    stream.write_all(&[22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb]).await.unwrap();
    trickle(&mut stream, 3).await;
    let config = Arc::new(site.config(Some(&site.files.client())));
    let mut stream = shake(site.address, config).await.unwrap();
    stream.write_all(&HELLO[..20]).await.unwrap();
    until_closed(&mut stream).await;
    site.stop().await;
}

#[tokio::test]
async fn headers_and_frames_that_trickle_in_are_cut_off_when_no_sign_of_life_comes() {
    let limits = Limits {
        keepalive_interval: Duration::from_millis(100),
        keepalive_timeout: Duration::from_millis(200),
        ..Limits::GRPC
    };
    let (address, _life, stop) = plain(limits).await;
    // The head of a HEADERS frame of 16,000 bytes without END_HEADERS, and of a DATA frame.
    for head in [b"\x00\x3e\x80\x01\x00\x00\x00\x00\x01", b"\x00\x3e\x80\x00\x00\x00\x00\x00\x01"] {
        let mut stream = greeted(address).await;
        stream.write_all(head).await.unwrap();
        trickle(&mut stream, 0).await;
    }
    // HEADERS without END_HEADERS, whole, and nothing after it.
    let mut stream = greeted(address).await;
    stream.write_all(b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x83").await.unwrap();
    until_closed(&mut stream).await;
    sign(&mut caller(address).await).await.unwrap();
    stop.send(()).unwrap();
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off_and_others_are_served() {
    let limits = Limits {
        write_timeout: Duration::from_millis(300),
        keepalive_interval: Duration::from_secs(3600),
        ..Limits::GRPC
    };
    let (address, _life, stop) = plain(limits).await;
    let mut deaf = greeted(address).await;
    // Each PING must be answered, and none of the answers is read.
    let pings = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00signkeep".repeat(1000);
    let flood = async { while deaf.write_all(&pings).await.is_ok() {} };
    let mut other = caller(address).await;
    let (cut_off, ()) = tokio::join!(tokio::time::timeout(PATIENCE, flood), async {
        for _ in 0..20 {
            sign(&mut other).await.unwrap();
        }
    });
    cut_off.expect("it is cut off");
    stop.send(()).unwrap();
}

#[tokio::test]
async fn a_connection_without_calls_ends_in_time_and_one_that_calls_goes_on() {
    let limits = Limits { idle_timeout: Duration::from_millis(400), ..Limits::GRPC };
    let (address, _life, stop) = plain(limits).await;
    let mut idle = greeted(address).await;
    let mut busy = caller(address).await;
    let calls = async {
        loop {
            sign(&mut busy).await.unwrap();
            tokio::time::sleep(TRICKLE).await;
        }
    };
    tokio::select! {
        _ = until_closed(&mut idle) => {}
        () = calls => {}
    }
    stop.send(()).unwrap();
}

#[tokio::test]
async fn connections_that_reach_their_age_end_and_no_call_under_way_is_lost() {
    let limits = Limits { connection_age: Duration::from_millis(200), ..Limits::GRPC };
    let (address, life, stop) = plain(limits).await;
    let mut old = greeted(address).await;
    let mut watcher = KeyServiceClient::new(channel(address).await);
    let request = pb::WatchKeysRequest { key_set: "default".to_owned() };
    let mut watch = watcher.watch_keys(request).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    until_closed(&mut old).await;
    // Older than its connection may be, and within the grace.
    life.rotate().await.unwrap();
    assert!(watch.message().await.unwrap().is_some());
    stop.send(()).unwrap();
}

#[tokio::test]
async fn thousands_of_idle_connections_are_held_and_others_are_served() {
    let wanted = 10_000;
    let most = open_files(2 * wanted + 2000);
    let count = wanted.min(most.saturating_sub(2000) / 2);
    assert!(count >= 1000, "the limit of open files leaves room for {count}");
    let limits = Limits { connections_max: 2 * count + 10, ..Limits::GRPC };
    let (address, _life, stop) = plain(limits).await;
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        idle.push(greeted(address).await);
    }
    let mut client = caller(address).await;
    for _ in 0..100 {
        sign(&mut client).await.unwrap();
    }
    for stream in idle.iter_mut().step_by(count / 10) {
        assert!(lives(stream).await);
    }
    stop.send(()).unwrap();
}

/// Raises the soft limit of open files towards `wanted`; what it is then.
fn open_files(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(wanted).unwrap();
    if now.current.is_some_and(|now| now < wanted) {
        let most = now.maximum.map_or(wanted, |most| most.min(wanted));
        let raised = |most| Rlimit { current: Some(most), maximum: now.maximum.map(|_| most) };
        // Beyond its maximum only root may raise it.
        if setrlimit(Resource::Nofile, raised(wanted)).is_err() {
            setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..now }).unwrap();
        }
    }
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |now| usize::try_from(now).unwrap())
}
