//! One line of what `doctor` finds.

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    verdict: Verdict,
    about: String,
    what: String,
    mend: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warning,
    Wrong,
}

impl Finding {
    /// It is well.
    pub(super) fn ok(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, about.into(), what.into(), String::new())
    }

    /// It works, but someone should know.
    pub(super) fn warning(
        about: impl Into<String>,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::new(Verdict::Warning, about.into(), what.into(), mend.into())
    }

    /// It does not work.
    pub(super) fn wrong(
        about: impl Into<String>,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::new(Verdict::Wrong, about.into(), what.into(), mend.into())
    }

    fn new(verdict: Verdict, about: String, what: String, mend: String) -> Self {
        Self { verdict, about, what, mend }
    }
}

/// Everything that was found, in order.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// One more.
    pub(super) fn add(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// How many things are wrong.
    pub(super) fn wrong(&self) -> usize {
        let wrong = |finding: &&Finding| finding.verdict == Verdict::Wrong;
        self.0.iter().filter(wrong).count()
    }

    /// A line for each.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|finding| {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok     ",
                Verdict::Warning => "warning",
                Verdict::Wrong => "wrong  ",
            };
            let mend = match finding.mend.as_str() {
                "" => String::new(),
                mend => format!("; to mend: {mend}"),
            };
            format!("{verdict}  {}: {}{mend}", finding.about, finding.what)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_that_says_how_to_mend_it() {
        let mut findings = Findings::default();
        findings.add(Finding::ok("store", "can be written"));
        findings.add(Finding::warning("mechanisms", "no EdDSA", "use ES256"));
        findings.add(Finding::wrong("module", "missing", "install it"));
        let lines: Vec<_> = findings.lines().collect();
        assert_eq!(
            lines,
            [
                "ok       store: can be written",
                "warning  mechanisms: no EdDSA; to mend: use ES256",
                "wrong    module: missing; to mend: install it",
            ]
        );
        assert_eq!(findings.wrong(), 1);
    }
}
