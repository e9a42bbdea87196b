//! What differs between two texts, line by line, for people who read a failed test.

use std::fmt::Write;

/// Lines of `old` that are gone with `-`, those of `new` that have come with `+`, the rest left out
/// but for one line around. Empty if the texts are the same.
pub(crate) fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let longest = common(&old, &new);
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    let changed = |at: usize| lines.get(at).is_some_and(|(mark, _)| *mark != ' ');
    let mut text = String::new();
    for (at, (mark, line)) in lines.iter().enumerate() {
        if changed(at) || changed(at + 1) || (at > 0 && changed(at - 1)) {
            writeln!(text, "{mark} {line}").unwrap();
        }
    }
    text
}

/// The length of the longest common subsequence of every pair of tails.
fn common(old: &[&str], new: &[&str]) -> Vec<Vec<usize>> {
    let mut table = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            table[i][j] = if old[i] == new[j] {
                table[i + 1][j + 1] + 1
            } else {
                table[i + 1][j].max(table[i][j + 1])
            };
        }
    }
    table
}

#[test]
fn a_diff_shows_what_has_gone_and_what_has_come() {
    assert_eq!(diff("a\nb\nc\nd\n", "a\nb\nc\nd\n"), "");
    assert_eq!(diff("a\nb\nc\nd\n", "a\nx\nc\nd\n"), "  a\n- b\n+ x\n  c\n");
    assert_eq!(diff("", "a\n"), "+ a\n");
    assert_eq!(diff("a\n", ""), "- a\n");
}
