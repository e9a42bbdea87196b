//! `signkeep key-sets …`: create, look at and change key sets.

use super::client::{Client, Connection};
use super::consent::Consent;
use super::output::{self, Output};
use super::{Failure, keys, message};
use crate::config::Span;
use crate::grpc::proto as pb;
use clap::{Args, Subcommand, ValueEnum};

const PAGE: i32 = 500;
/// More pages than that are a service that sends the same one for ever.
const PAGES_MAX: usize = 10_000;

/// Create, look at and change key sets.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a key set with its two keys.
    Create(CreateArgs),
    /// List the key sets.
    List(ListArgs),
    /// Show one key set with its keys.
    Show(NameArgs),
    /// Change a key set's policy, or lift a rotation hold.
    Update(UpdateArgs),
    /// Stop a key set from signing; its JWKS stays.
    Disable(AskedArgs),
    /// Let a disabled key set sign again.
    Enable(ServeArgs),
    /// Delete a disabled key set whose keys are all revoked or retired.
    Delete(AskedArgs),
}

#[derive(Debug, Args)]
struct Common {
    /// How the result looks.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// The spans and sizes of a policy.
#[derive(Debug, Default, Args)]
struct PolicyArgs {
    /// How long a key is published before it may sign.
    #[arg(long, value_name = "SPAN")]
    propagation_delay: Option<Span>,
    /// The longest lifetime of a token.
    #[arg(long, value_name = "SPAN")]
    max_token_ttl: Option<Span>,
    /// How long a previous key stays published.
    #[arg(long, value_name = "SPAN")]
    retention: Option<Span>,
    /// How often keys rotate by themselves.
    #[arg(long, value_name = "SPAN")]
    rotation_period: Option<Span>,
    /// How long the material of a retired or revoked key is kept.
    #[arg(long, value_name = "SPAN")]
    destroy_after: Option<Span>,
    /// Modulus length of RSA keys generated from now on: 2048, 3072 or 4096.
    #[arg(long, value_name = "BITS")]
    rsa_bits: Option<i32>,
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Its name: 1 to 63 of a-z, 0-9 and -.
    id: String,
    /// JWA name, e.g. ES256.
    #[arg(long, value_name = "ALG")]
    algorithm: String,
    /// The iss of its tokens.
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// The backend that generates its keys; may be left out if there is only one.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    backend: String,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Makes a repeat return the first answer.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// The key set.
    id: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    /// The key set.
    id: String,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Whether rotation is held.
    #[arg(long, value_enum)]
    rotation_hold: Option<Hold>,
    /// Why; goes into the audit record.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Hold {
    On,
    Off,
}

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The key set.
    id: String,
    /// Why; goes into the audit record.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct AskedArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

impl AskedArgs {
    fn agreed(self, what_will_happen: &str) -> Result<ServeArgs, Failure> {
        let words = format!("This will {what_will_happen} the key set {}.", self.serve.id);
        Consent::from_flag(self.yes).obtain(&[words])?;
        Ok(self.serve)
    }
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(args).await,
        Command::List(args) => {
            let client = args.common.connection.open().await?;
            print_sets(&every(&client).await?, args.common.output)
        }
        Command::Show(args) => {
            let client = args.common.connection.open().await?;
            print_set(&keys::key_set(&client, &args.id).await?, args.common.output)
        }
        Command::Update(args) => update(args).await,
        Command::Disable(args) => {
            let args = args.agreed("stop all signing with")?;
            let (client, mut service) = opened(&args.common).await?;
            let id = args.id;
            let request = client.request(pb::DisableKeySetRequest {
                key_set: id.clone(),
                reason: args.reason,
                request_id: String::new(),
            });
            let answer = client.answer_for(&id, service.disable_key_set(request)).await?;
            print_answer(answer.key_set, args.common.output)
        }
        Command::Enable(args) => {
            let (client, mut service) = opened(&args.common).await?;
            let id = args.id;
            let request = client.request(pb::EnableKeySetRequest {
                key_set: id.clone(),
                reason: args.reason,
                request_id: String::new(),
            });
            let answer = client.answer_for(&id, service.enable_key_set(request)).await?;
            print_answer(answer.key_set, args.common.output)
        }
        Command::Delete(args) => {
            let args = args.agreed("delete, for good,")?;
            let (client, mut service) = opened(&args.common).await?;
            let id = args.id;
            let request = client.request(pb::DeleteKeySetRequest {
                key_set: id.clone(),
                reason: args.reason,
                request_id: String::new(),
            });
            let answer = client.answer_for(&id, service.delete_key_set(request)).await?;
            print_answer(answer.key_set, args.common.output)
        }
    }
}

async fn create(args: CreateArgs) -> Result<(), Failure> {
    let (client, mut service) = opened(&args.common).await?;
    let (policy, _mask) = args.policy.build();
    let request = client.request(pb::CreateKeySetRequest {
        key_set: Some(pb::KeySet {
            id: args.id,
            algorithm: args.algorithm,
            issuer: args.issuer,
            backend: args.backend,
            policy: Some(policy),
            ..pb::KeySet::default()
        }),
        request_id: args.request_id,
    });
    let answer = client.answer(service.create_key_set(request)).await?;
    print_answer(answer.key_set, args.common.output)
}

async fn update(args: UpdateArgs) -> Result<(), Failure> {
    let (policy, mut paths) = args.policy.build();
    if args.rotation_hold.is_some() {
        paths.push("rotation_hold".to_owned());
    }
    if paths.is_empty() {
        return Err(Failure::usage("nothing to change was named")
            .mend("`signkeep key-sets update --help` lists what can be changed"));
    }
    let (client, mut service) = opened(&args.common).await?;
    let id = args.id;
    let request = client.request(pb::UpdateKeySetRequest {
        key_set: Some(pb::KeySet {
            id: id.clone(),
            policy: Some(policy),
            rotation_hold: args.rotation_hold == Some(Hold::On),
            ..pb::KeySet::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths }),
        request_id: String::new(),
        reason: args.reason,
    });
    let answer = client.answer_for(&id, service.update_key_set(request)).await?;
    print_answer(answer.key_set, args.common.output)
}

impl PolicyArgs {
    /// The policy with what is given, and the paths of that in an update mask.
    fn build(&self) -> (pb::Policy, Vec<String>) {
        let span = |span: Option<Span>| span.map(|span| message::to_span(span.get()));
        let policy = pb::Policy {
            propagation_delay: span(self.propagation_delay),
            max_token_ttl: span(self.max_token_ttl),
            retention: span(self.retention),
            rotation_period: span(self.rotation_period),
            destroy_after: span(self.destroy_after),
            rsa_bits: self.rsa_bits.unwrap_or_default(),
        };
        let given = [
            ("propagation_delay", self.propagation_delay.is_some()),
            ("max_token_ttl", self.max_token_ttl.is_some()),
            ("retention", self.retention.is_some()),
            ("rotation_period", self.rotation_period.is_some()),
            ("destroy_after", self.destroy_after.is_some()),
            ("rsa_bits", self.rsa_bits.is_some()),
        ];
        let paths = given
            .iter()
            .filter(|(_, given)| *given)
            .map(|(field, _)| format!("policy.{field}"))
            .collect();
        (policy, paths)
    }
}

/// Every key set that the service has, by id.
pub(super) async fn every(client: &Client) -> Result<Vec<pb::KeySet>, Failure> {
    let mut sets = Vec::new();
    let mut token = String::new();
    for _page in 0..PAGES_MAX {
        let request = client.request(pb::ListKeySetsRequest { page_size: PAGE, page_token: token });
        let mut service = client.keys.clone();
        let page = client.answer(service.list_key_sets(request)).await?;
        sets.extend(page.key_sets);
        token = page.next_page_token;
        if token.is_empty() {
            return Ok(sets);
        }
    }
    Err(Failure::new("the service sends pages without end"))
}

type Service = pb::key_service_client::KeyServiceClient<tonic::transport::Channel>;

async fn opened(common: &Common) -> Result<(Client, Service), Failure> {
    let client = common.connection.open().await?;
    let service = client.keys.clone();
    Ok((client, service))
}

fn print_sets(sets: &[pb::KeySet], form: Output) -> Result<(), Failure> {
    if form == Output::Json {
        let sets: Vec<_> = sets.iter().map(message::key_set).collect();
        return output::json(&serde_json::json!({ "keySets": sets }));
    }
    let mut table = output::table(&[
        "KEY SET",
        "STATE",
        "ALGORITHM",
        "BACKEND",
        "ISSUER",
        "CURRENT KEY",
        "REMARKS",
    ]);
    for set in sets {
        let current = set.keys.iter().find(|key| key.state() == pb::KeyState::Current);
        table.add_row(vec![
            (&set.id).into(),
            output::state_cell(&message::set_state(set)),
            (&set.algorithm).into(),
            (&set.backend).into(),
            (&set.issuer).into(),
            current.map_or("-", |key| &key.kid).into(),
            remarks(set).into(),
        ]);
    }
    output::print_table(&table)
}

fn print_answer(set: Option<pb::KeySet>, form: Output) -> Result<(), Failure> {
    let set = set.ok_or_else(|| Failure::new("the service answered without the key set"))?;
    print_set(&set, form)
}

fn print_set(set: &pb::KeySet, form: Output) -> Result<(), Failure> {
    if form == Output::Json {
        return output::json(&message::key_set(set));
    }
    print_sets(std::slice::from_ref(set), form)?;
    let policy = set.policy.unwrap_or_default();
    for (name, span) in [
        ("propagation delay", &policy.propagation_delay),
        ("max token ttl", &policy.max_token_ttl),
        ("retention", &policy.retention),
        ("rotation period", &policy.rotation_period),
        ("destroy after", &policy.destroy_after),
    ] {
        output::line(&format!("  {name}: {}", message::span(span.as_ref())))?;
    }
    output::line(&format!("  next rotation: {}", message::time(set.next_rotation_time.as_ref())))?;
    keys::print_keys(&set.keys, form)
}

fn remarks(set: &pb::KeySet) -> String {
    let mut remarks = Vec::new();
    if set.incomplete {
        remarks.push("incomplete");
    }
    if set.rotation_hold {
        remarks.push("rotation on hold");
    }
    remarks.join(", ")
}
