//! What a signature costs above the raw token: the release binary on a fresh SoftHSM token, and a
//! bare loop of C_Sign on that same token, in turn, in one run. Quote the ratios: both sides see
//! the same machine in the same minute.
//!
//! `cargo bench --bench service`

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints its table, and may end where a service must not"
)]

mod guard;
mod raw;
mod served;

use guard::Guard;
use raw::Token;
use secrecy::SecretString;
use served::Service;
use signkeep::backend::pkcs11::provision;
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const CALLERS: usize = 32;
const CONNECTIONS: usize = 4;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const PIN: &str = "bench-pin-1234";

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let module = signkeep::cli::softhsm_module().map_err(|failure| failure.what)?;
    match std::env::var_os("SIGNKEEP_BENCH_DIR") {
        // SoftHSM reads its configuration's place from the environment of the process.
        None => {
            let parent = Path::new("/dev/shm");
            let parent = if parent.is_dir() { parent.into() } else { std::env::temp_dir() };
            let dir = tempfile::Builder::new().prefix("signkeep-bench").tempdir_in(parent)?;
            std::fs::create_dir(dir.path().join("tokens"))?;
            let conf = dir.path().join("softhsm2.conf");
            let tokens = dir.path().join("tokens");
            std::fs::write(&conf, format!("directories.tokendir = {}\n", tokens.display()))?;
            let status = Command::new(std::env::current_exe()?)
                .env("SOFTHSM2_CONF", conf)
                .env("SIGNKEEP_BENCH_DIR", dir.path())
                .arg0("bench")
                .status()?;
            if status.success() { Ok(()) } else { Err("the benchmark failed".into()) }
        }
        Some(dir) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(run(Path::new(&dir), &module))
        }
    }
}

async fn run(dir: &Path, module: &Path) -> Outcome<()> {
    provision(module, "signkeep", &SecretString::from("so-pin-1234"), &SecretString::from(PIN))
        .map_err(|error| error.to_string())?;
    let mut services = Vec::new();
    for guard in Guard::ALL {
        let home = dir.join(format!("service-{}", services.len()));
        std::fs::create_dir(&home)?;
        services.push(Service::start(&home, module, guard).await?);
    }
    let threads = std::thread::available_parallelism()?.get();
    println!(
        "{CALLERS} callers on {CONNECTIONS} connections; raw loop with {threads} threads; medians of {ROUNDS} rounds of {} s",
        ROUND.as_secs()
    );
    println!("| algorithm | | signatures/s | to raw | CPU/signature | to raw | to open |");
    println!("|---|---|---|---|---|---|---|");
    let token = Token::open(module)?;
    for algorithm in ["ES256", "RS256"] {
        token.generate(algorithm)?;
        for service in &services {
            service.create(algorithm).await?;
        }
        // In turn, so that all see the same minutes of the machine.
        let (mut raw, mut served) = (Vec::new(), vec![Vec::new(); services.len()]);
        for _ in 0..ROUNDS {
            raw.push(token.load(algorithm, threads)?);
            for (service, rounds) in services.iter().zip(&mut served) {
                rounds.push(service.load(algorithm).await?);
            }
        }
        line(algorithm, "raw C_Sign", &raw, &raw, &served[0]);
        for (guard, rounds) in Guard::ALL.into_iter().zip(&served) {
            line(algorithm, guard.name(), rounds, &raw, &served[0]);
        }
    }
    Ok(())
}

/// One line of the table; ratios are those of rounds that came one after the other.
fn line(algorithm: &str, what: &str, rounds: &[Round], raw: &[Round], open: &[Round]) {
    let all = |of: Figure| median(rounds.iter().map(of).collect());
    let to = |others: &[Round], of: Figure| {
        median(rounds.iter().zip(others).map(|(one, other)| of(one) / of(other)).collect())
    };
    let rate: Figure = |round| round.rate;
    let cpu: Figure = |round| round.cpu_us;
    println!(
        "| {algorithm} | {what} | {:.0} | {:.2} | {:.0} µs | {:.2} | {:.2} |",
        all(rate),
        to(raw, rate),
        all(cpu),
        to(raw, cpu),
        to(open, cpu),
    );
}

/// What is told of a round.
type Figure = fn(&Round) -> f64;

/// One side of one round.
#[derive(Clone, Copy)]
struct Round {
    rate: f64,
    cpu_us: f64,
}

/// User and system time of a process so far, in microseconds, by the kernel's clock ticks.
fn cpu_us(pid: u32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").ok_or("odd stat line")?.1.split(' ');
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    let ticks_a_second = rustix::param::clock_ticks_per_second();
    Ok(ticks as f64 * 1e6 / ticks_a_second as f64)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
