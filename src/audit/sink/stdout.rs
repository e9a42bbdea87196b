//! The record on standard output, for whoever collects what a container says. Nothing can be read
//! back from there, so each process begins a chain of its own.

use super::{Changes, Ending, Failure, Opened, Sink, Unsealed};
use crate::audit::{Checkpoint, Entry, Head, Linked, Record, Span};
use async_trait::async_trait;
use std::io::{self, Write};

/// The sink.
#[derive(Debug)]
pub struct StdoutSink {
    head: Head,
    before: Option<Checkpoint>,
    span: Span,
    /// Those of them that the checkpoint which is being made does not cover; none: none is.
    after: Option<Span>,
    /// Lines of a batch that failed in its midst and went out all the same.
    out: usize,
}

impl Default for StdoutSink {
    fn default() -> Self {
        Self { head: Head::EMPTY, before: None, span: Span::default(), after: None, out: 0 }
    }
}

#[async_trait]
impl Sink for StdoutSink {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn changes(&self) -> Changes {
        Changes::Handed
    }

    async fn open(&mut self) -> Result<Opened, Failure> {
        Ok(Opened { ending: Ending::Empty, flaws: Vec::new(), cut: 0, checkpoint: None })
    }

    async fn append(&mut self, records: &[Record]) -> Result<(), Failure> {
        let mut head = self.head;
        let linked: Vec<_> = records.iter().map(|record| head.link(record.clone())).collect();
        let lines = linked.iter().map(Linked::to_json).collect();
        self.say(lines).await?;
        for linked in &linked {
            self.span.push(linked);
            self.after.iter_mut().for_each(|after| after.push(linked));
        }
        self.head = head;
        Ok(())
    }

    async fn unsealed(&mut self) -> Result<Unsealed, Failure> {
        self.after = Some(Span::default());
        Ok(Unsealed { before: self.before.clone(), span: self.span.clone(), more: false })
    }

    async fn append_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        self.say(vec![Entry::Checkpoint(checkpoint.clone()).to_json()]).await?;
        self.before = Some(checkpoint.clone());
        self.span = self.after.take().unwrap_or_default();
        Ok(())
    }
}

impl StdoutSink {
    /// Writes the lines that are not out yet, on a thread that may wait for whoever reads.
    async fn say(&mut self, lines: Vec<String>) -> Result<(), Failure> {
        let out = std::mem::take(&mut self.out);
        let said = tokio::task::spawn_blocking(move || say(&lines, out)).await;
        match said {
            Ok((_, Ok(()))) => Ok(()),
            Ok((out, Err(error))) => {
                self.out = out;
                Err(Failure(format!("standard output: {error}")))
            }
            Err(error) => Err(Failure(format!("standard output: {error}"))),
        }
    }
}

/// How many lines are out now, and why not all of them.
fn say(lines: &[String], mut out: usize) -> (usize, io::Result<()>) {
    let mut stdout = io::stdout().lock();
    for line in lines.iter().skip(out) {
        let said = stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush());
        if said.is_err() {
            return (out, said);
        }
        out += 1;
    }
    (out, Ok(()))
}
