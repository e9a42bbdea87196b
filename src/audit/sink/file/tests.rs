use super::*;
use crate::audit::sink::Ending;
use crate::audit::{Action, Draft, Linked, Origin};
use crate::key::{Algorithm, Kid};
use tempfile::TempDir;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn records(seconds: std::ops::Range<i64>) -> Vec<Record> {
    let made = |second| Record::new(at(second), &Origin::service("r"), Action::Sign);
    seconds.map(made).collect()
}

fn settings(dir: &TempDir) -> Settings {
    Settings {
        path: dir.path().join("audit.jsonl"),
        rotate_size: 1 << 20,
        rotate_age: Duration::from_secs(3600),
        keep: 100,
        sync: Sync::Never,
    }
}

async fn opened(settings: &Settings) -> (FileSink, Opened) {
    let mut sink = FileSink::new(settings.clone());
    let opened = sink.open().await.unwrap();
    (sink, opened)
}

/// Every entry of the chain, which holds together.
fn chain(settings: &Settings) -> Vec<Entry> {
    let mut files = full_files(&settings.path).unwrap();
    files.push(settings.path.clone());
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap_or_default());
    let entries: Vec<_> =
        texts.flat_map(|text| text.lines().map(Entry::from_json).collect::<Vec<_>>()).collect();
    let entries: Vec<Entry> = entries.into_iter().map(Result::unwrap).collect();
    let mut head: Option<Head> = None;
    for linked in linked(&entries) {
        assert_eq!(linked.content_hash(), linked.hash);
        if let Some(head) = head {
            assert_eq!((linked.number, linked.previous), (head.number + 1, head.hash));
        }
        head = Some(linked.head());
    }
    entries
}

fn linked(entries: &[Entry]) -> Vec<&Linked> {
    let records = entries.iter().filter_map(|entry| match entry {
        Entry::Record(linked) => Some(linked),
        Entry::Checkpoint(_) => None,
    });
    records.collect()
}

/// A checkpoint as it would be, with a signature that nobody checks here.
async fn seal(sink: &mut FileSink) -> Checkpoint {
    let unsealed = sink.unsealed().await.unwrap();
    let key = (Algorithm::Es256, Kid::from_thumbprint([7; 32]));
    let draft = Draft::new(unsealed.before.as_ref(), &unsealed.span, at(0), key).unwrap();
    draft.finish(&[1; 64])
}

#[tokio::test]
async fn the_chain_and_its_checkpoints_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let (mut sink, first) = opened(&settings).await;
    assert_eq!((first.ending, first.checkpoint), (Ending::Empty, None));
    sink.append(&records(0..3)).await.unwrap();
    let early = seal(&mut sink).await;
    // More comes while the checkpoint is being signed.
    sink.append(&records(3..5)).await.unwrap();
    sink.append_checkpoint(&early).await.unwrap();
    drop(sink);

    let (mut sink, second) = opened(&settings).await;
    assert_eq!((second.ending, second.cut), (Ending::CutShort, 0));
    assert_eq!(second.checkpoint, Some(at(0)));
    let stop = Record::new(at(6), &Origin::service(""), Action::Stop);
    sink.append(&[stop]).await.unwrap();
    let late = seal(&mut sink).await;
    assert_eq!((late.statement.number, late.statement.first), (2, 4));
    assert_eq!((late.statement.head.number, late.statement.previous), (6, early.hash()));
    sink.append_checkpoint(&late).await.unwrap();
    drop(sink);
    assert_eq!(opened(&settings).await.1.ending, Ending::Stopped);
    assert_eq!(linked(&chain(&settings)).len(), 6);
    let mode = fs::metadata(&settings.path).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
}

#[tokio::test]
async fn a_line_that_a_crash_cut_short_is_cut_off_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let (mut sink, _) = opened(&settings).await;
    sink.append(&records(0..3)).await.unwrap();
    drop(sink);
    let whole = fs::read(&settings.path).unwrap();
    for torn in [1, 100, whole.len() / 3 - 1] {
        fs::write(&settings.path, [&whole[..], &whole[..torn]].concat()).unwrap();
        let (mut sink, opened) = opened(&settings).await;
        assert_eq!(opened.cut, u64::try_from(torn).unwrap());
        assert_eq!((opened.ending, opened.flaws.len()), (Ending::CutShort, 0));
        sink.append(&records(3..4)).await.unwrap();
        assert_eq!(linked(&chain(&settings)).len(), 4);
    }
}

#[tokio::test]
async fn what_is_damaged_in_the_middle_is_told_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let (mut sink, _) = opened(&settings).await;
    sink.append(&records(0..4)).await.unwrap();
    drop(sink);
    let text = fs::read_to_string(&settings.path).unwrap();
    let without_the_second: String =
        text.split_inclusive('\n').enumerate().filter(|(n, _)| *n != 1).map(|(_, l)| l).collect();
    fs::write(&settings.path, without_the_second).unwrap();
    let (mut sink, opened) = opened(&settings).await;
    assert_eq!(opened.flaws, ["record 3 does not follow record 1"]);
    sink.append(&records(4..5)).await.unwrap();
    let text = fs::read_to_string(&settings.path).unwrap();
    assert_eq!(Linked::from_json(text.lines().last().unwrap()).unwrap().number, 5);
}

#[tokio::test]
async fn full_files_are_renamed_in_order_and_the_oldest_removed() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { rotate_size: 2000, keep: 3, ..settings(&dir) };
    let (mut sink, _) = opened(&settings).await;
    for second in 0..60 {
        sink.append(&records(second..second + 1)).await.unwrap();
    }
    let full = full_files(&settings.path).unwrap();
    assert_eq!(full.len(), 3);
    let kept = chain(&settings);
    let first = linked(&kept)[0].number;
    assert!(full[0].to_string_lossy().ends_with(&format!("{first:020}")), "{full:?}");
    assert_eq!(linked(&kept).last().unwrap().number, 60);
    // After a restart it goes on, also from a file that has only just been begun.
    drop(sink);
    fs::remove_file(&settings.path).unwrap();
    let (mut sink, _) = opened(&settings).await;
    let last = linked(&chain(&settings)).last().unwrap().number;
    sink.append(&records(60..61)).await.unwrap();
    assert_eq!(linked(&chain(&settings)).last().unwrap().number, last + 1);
}

#[tokio::test]
async fn an_old_file_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let (mut sink, _) = opened(&settings).await;
    sink.append(&records(0..1)).await.unwrap();
    sink.append(&records(3599..3600)).await.unwrap();
    assert!(full_files(&settings.path).unwrap().is_empty());
    sink.append(&records(3600..3601)).await.unwrap();
    assert_eq!(full_files(&settings.path).unwrap().len(), 1);
    assert_eq!(linked(&chain(&settings)).len(), 3);
}

#[tokio::test]
async fn a_directory_that_goes_away_breaks_it_and_one_that_comes_back_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("records");
    fs::create_dir(&folder).unwrap();
    let settings = Settings { path: folder.join("audit.jsonl"), ..settings(&dir) };
    let (mut sink, _) = opened(&settings).await;
    sink.append(&records(0..2)).await.unwrap();
    let away = dir.path().join("away");
    fs::rename(&folder, &away).unwrap();
    let failure = sink.append(&records(2..4)).await.unwrap_err();
    assert!(failure.0.contains("audit.jsonl"), "{failure}");
    // The same once more, as its worker does.
    sink.append(&records(2..4)).await.unwrap_err();
    fs::rename(&away, &folder).unwrap();
    sink.append(&records(2..4)).await.unwrap();
    assert_eq!(linked(&chain(&settings)).len(), 4);
}

#[tokio::test]
async fn what_a_failed_write_leaves_behind_is_cut_off_before_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let (mut sink, _) = opened(&settings).await;
    sink.append(&records(0..2)).await.unwrap();
    // As a disk that is full leaves it: half of what was to be written, and an error.
    let mut half = OpenOptions::new().append(true).open(&settings.path).unwrap();
    half.write_all(b"{\"action\":\"sign\",\"cal").unwrap();
    sink.0.as_mut().unwrap().file = None;
    sink.append(&records(2..3)).await.unwrap();
    assert_eq!(linked(&chain(&settings)).len(), 3);
}

#[tokio::test]
async fn something_else_than_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("audit.jsonl");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    let failure = FileSink::new(settings(&dir)).open().await.unwrap_err();
    assert!(failure.0.contains("regular file"), "{failure}");
}
