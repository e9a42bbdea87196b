//! `signkeep audit verify`: is the record what was written?

use super::source::{Place, Source, Trouble};
use crate::audit::chain::Malformed;
use crate::audit::{Beginning, Checkpoint, Entry, Finding, Keys, Known, Verdict, Verifier};
use crate::cli::output::{self, Output};
use crate::cli::{Failure, output::note};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Find the first record that was changed, dropped, put in or moved, if there is one.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    place: Place,
    /// The public keys, as `signkeep audit keys` printed them, from where they were kept; older
    /// and newer ones together, if the audit key was rotated.
    #[arg(long, value_name = "JWKS", num_args = 1.., required = true)]
    keys: Vec<PathBuf>,
    /// A checkpoint that was kept elsewhere: the record must still have it.
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
    /// Older records were moved away: it may begin later than number 1, up to that checkpoint.
    #[arg(long, requires = "after")]
    partial: bool,
    /// How many records there are at the least.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    at_least: u64,
    /// How the verdict looks.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let keys = keys(&args.keys)?;
    let kept = args.after.as_deref().map(kept).transpose()?;
    let mut source = args.place.open().await?;
    let beginning = if args.partial { Beginning::Moved } else { Beginning::Whole };
    let known = Known { kept, at_least: args.at_least, beginning };
    let verdict = verify(&mut source, keys, known).await;
    if let Some(file) = source.torn() {
        note(&format!(
            "note: the last line of {} is not whole and was left out: it is being written, or a crash tore it",
            file.display()
        ));
    }
    match verdict {
        Ok(verdict) => print(&verdict, args.output),
        Err(Wrong::Finding(finding)) => {
            if args.output == Output::Json {
                output::json(&as_json(&finding))?;
            }
            Err(Failure::new(finding.to_string()).mend(
                "keep the record as it is, and find out who could write to it; `--output json` names the place for a program",
            ))
        }
        Err(Wrong::Failure(failure)) => Err(failure),
    }
}

/// Why there is no verdict.
enum Wrong {
    Finding(Finding),
    Failure(Failure),
}

impl From<Finding> for Wrong {
    fn from(finding: Finding) -> Self {
        Self::Finding(finding)
    }
}

async fn verify(source: &mut Source, keys: Keys, known: Known) -> Result<Verdict, Wrong> {
    let mut verifier = Verifier::new(keys, known)?;
    loop {
        match source.record().await {
            Ok(Some(linked)) => verifier.record(&linked)?,
            Ok(None) => break,
            Err(Trouble::Malformed(what)) => return Err(verifier.unreadable(&what).into()),
            Err(Trouble::Failure(failure)) => return Err(Wrong::Failure(failure)),
        }
        checkpoints(source, &mut verifier).await?;
    }
    checkpoints(source, &mut verifier).await?;
    Ok(verifier.finish()?)
}

/// Hands over checkpoints as long as the verifier takes them.
async fn checkpoints(source: &mut Source, verifier: &mut Verifier) -> Result<(), Wrong> {
    while verifier.wants_checkpoint() {
        match source.checkpoint().await {
            Ok(Some(checkpoint)) => verifier.checkpoint(Ok(checkpoint))?,
            Ok(None) => break,
            Err(Trouble::Malformed(what)) => verifier.checkpoint(Err(Malformed::new(what)))?,
            Err(Trouble::Failure(failure)) => return Err(Wrong::Failure(failure)),
        }
    }
    Ok(())
}

fn print(verdict: &Verdict, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        return output::json(&json!({
            "sound": true,
            "first": verdict.first,
            "head": { "number": verdict.head.number, "hash": verdict.head.hash.to_string() },
            "checkpoints": verdict.checkpoints,
            "unsigned": verdict.unsigned,
            "gaps": verdict.gaps,
            "flaws": verdict.flaws,
            "checkpoint": verdict.last.as_ref().map(Checkpoint::as_jws),
        }));
    }
    for line in words(verdict) {
        output::line(&line)?;
    }
    Ok(())
}

fn words(verdict: &Verdict) -> Vec<String> {
    let head = verdict.head;
    if head.number == 0 {
        return vec!["There is no record yet.".to_owned()];
    }
    let mut lines =
        vec![format!("Records {} to {}: whole, in order, unchanged.", verdict.first, head.number)];
    match &verdict.last {
        Some(last) => {
            let statement = last.statement;
            lines.push(format!(
                "Checkpoint {}, the last, signs up to record {}: by key {} at {}.",
                statement.number, statement.head.number, last.kid, statement.time
            ));
        }
        None => lines.push(
            "No checkpoint has signed them: whoever can write to the record could have made them up."
                .to_owned(),
        ),
    }
    lines.push(format!("Chained, not yet signed: {}.", verdict.unsigned));
    for (count, what) in [
        (verdict.gaps, "tell of a gap; `signkeep audit list --action gap` shows them"),
        (verdict.flaws, "tell of damage; `signkeep audit list --action flaw` shows them"),
    ] {
        if count > 0 {
            lines.push(format!("Records that {what}: {count}."));
        }
    }
    lines.push(format!("Head: {} {}", head.number, head.hash));
    if let Some(last) = &verdict.last {
        lines.push(
            "Keep this checkpoint away from the service, for the next time's --after:".into(),
        );
        lines.push(last.as_jws().to_owned());
    }
    lines
}

fn as_json(finding: &Finding) -> Value {
    json!({
        "sound": false,
        "finding": finding.as_str(),
        "record": finding.record(),
        "checkpoint": finding.checkpoint(),
        "what": finding.to_string(),
    })
}

fn keys(files: &[PathBuf]) -> Result<Keys, Failure> {
    let mut keys = Keys::default();
    for file in files {
        let more = Keys::from_jwks(&text(file)?)
            .map_err(|wrong| Failure::new(format!("{}: {wrong}", file.display())))?;
        keys.extend(more);
    }
    Ok(keys)
}

/// A checkpoint that was kept: the compact JWS, or the line of a file that it stood in.
fn kept(path: &Path) -> Result<Checkpoint, Failure> {
    let text = text(path)?;
    let text = text.trim();
    let parsed = match Entry::from_json(text) {
        Ok(Entry::Checkpoint(checkpoint)) => Ok(checkpoint),
        Ok(Entry::Record(_)) => Err(Malformed::new("it is a record")),
        Err(_) => Checkpoint::parse(text),
    };
    parsed.map_err(|wrong| {
        Failure::new(format!("{} is not a checkpoint: {wrong}", path.display()))
            .mend("`signkeep audit verify` prints the one to keep as its last line")
    })
}

fn text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", path.display())))
}
