use super::*;

fn id(text: &str) -> InstanceId {
    InstanceId::new(text).unwrap()
}

async fn texts(logs: &Logs, name: &str, lines: usize) -> Vec<String> {
    let stream = logs.read(&id(name), Tail { lines, follow: false }).await.unwrap();
    stream.map(|line| line.text).collect().await
}

/// Lines are written to disk with a delay; a reader must see them before, from memory.
#[tokio::test]
async fn lines_are_readable_at_once_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path(), Limits::default());
    let log = logs.open(&id("default/web/0"));
    log.say(LogStream::Out, "one");
    log.say(LogStream::Err, "two");
    assert_eq!(texts(&logs, "default/web/0", 1).await, ["two"], "not yet on disk");
    log.close().await;

    let logs = Logs::new(folder.path(), Limits::default());
    let stream = logs.read(&id("default/web/0"), Tail { lines: 10, follow: true }).await.unwrap();
    let lines: Vec<_> = stream.collect().await;
    let seen: Vec<_> = lines.iter().map(|line| (line.stream, line.text.as_str())).collect();
    assert_eq!(seen, [(LogStream::Out, "one"), (LogStream::Err, "two")]);
}

/// Ids come from outside and name folders: `..` and `/` must not lead anywhere else.
#[tokio::test]
async fn id_cannot_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path().join("logs"), Limits::default());
    for name in ["../../escaped", "..", "/etc/passwd"] {
        let log = logs.open(&id(name));
        log.say(LogStream::Out, name);
        log.close().await;
        assert_eq!(texts(&logs, name, 9).await, [name]);
    }
    let outside: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(outside, ["logs"]);
    assert_eq!(std::fs::read_dir(folder.path().join("logs")).unwrap().count(), 3);
}

#[tokio::test]
async fn unknown_id_has_no_logs() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path(), Limits::default());
    let error = logs.read(&id("nobody"), Tail { lines: 1, follow: false }).await.err();
    assert!(matches!(error, Some(LogsError::Unknown(_))), "{error:?}");
}

/// A thousand lines, each written at once, go through two files of 2 KiB each.
#[tokio::test]
async fn disk_use_is_bounded_and_newest_lines_stay() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { bytes: 4096, memory: 0, ..Limits::default() };
    let logs = Logs::new(folder.path(), limits);
    let log = logs.open(&id("a"));
    for n in 0..1000 {
        log.say(LogStream::Out, &format!("line {n}"));
        log.flush().await;
    }
    let bytes: u64 = std::fs::read_dir(folder.path().join("a"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes <= 4096, "{bytes} bytes");
    assert_eq!(texts(&logs, "a", 2).await, ["line 998", "line 999"]);
    let all = texts(&logs, "a", usize::MAX).await;
    assert!(all.len() > 50 && all.len() < 1000, "{} lines", all.len());
}

/// A guest logs faster than flash may be written: the log says how many lines it lost.
#[tokio::test]
async fn flood_of_lines_is_counted_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { burst: 1024, memory: 0, ..Limits::default() };
    let logs = Logs::new(folder.path(), limits);
    let log = logs.open(&id("a"));
    for n in 0..10_000 {
        log.say(LogStream::Out, &format!("line {n}"));
    }
    log.flush().await;
    let all = texts(&logs, "a", usize::MAX).await;
    let kept = all.len() - 1;
    assert!(kept < 100);
    assert_eq!(
        *all.last().unwrap(),
        format!("{} lines were not kept: they came faster than they may be written", 10_000 - kept)
    );
}

/// Reads the last `lines` of five, then one that is added while following.
async fn follow_five(lines: usize) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path(), Limits::default());
    let log = logs.open(&id("a"));
    for n in 0..5 {
        log.say(LogStream::Out, &n.to_string());
    }
    let stream = logs.read(&id("a"), Tail { lines, follow: true }).await.unwrap();
    log.say(LogStream::Out, "new");
    log.close().await;
    stream.map(|line| line.text).collect().await
}

/// Two of five lines are asked for, which memory has. None may be lost or doubled at the seam
/// between the tail and new lines.
#[tokio::test]
async fn follower_gets_tail_from_memory_then_new_lines() {
    assert_eq!(follow_five(2).await, ["3", "4", "new"]);
}

/// More lines are asked for than memory has, so the files are read. The seam must hold as well.
#[tokio::test]
async fn follower_gets_tail_from_files_then_new_lines() {
    assert_eq!(follow_five(100).await, ["0", "1", "2", "3", "4", "new"]);
}

/// Memory holds five lines and eight come before the follower reads.
#[tokio::test]
async fn slow_follower_is_told_how_many_lines_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { memory: 5 * (LINE_OVERHEAD + 1), ..Limits::default() };
    let logs = Logs::new(folder.path(), limits);
    let log = logs.open(&id("a"));
    let mut stream = logs.read(&id("a"), Tail { lines: 0, follow: true }).await.unwrap();
    for n in 0..8 {
        log.say(LogStream::Out, &n.to_string());
    }
    let first = stream.next().await.unwrap();
    assert_eq!(first.stream, LogStream::System);
    assert_eq!(first.text, "3 lines skipped: they came faster than they were read");
    assert_eq!(stream.next().await.unwrap().text, "3");
}

/// A guest writes parts of lines: they become one line. What exceeds 8 bytes is cut, and the line
/// says so; a last line without an end is kept.
#[tokio::test]
async fn long_lines_are_cut_and_split_writes_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path(), Limits { line: 8, ..Limits::default() });
    let log = logs.open(&id("a"));
    let mut lines = log.lines(LogStream::Out);
    lines.write(b"ab");
    lines.write(b"cd\n0123456789\n\nlast");
    drop(lines);
    assert_eq!(texts(&logs, "a", 4).await, ["abcd", "01234567 ... (2 more bytes cut)", "", "last"]);
}

/// Escape sequences must not reach a user's terminal, and a line break must not start a line that
/// looks like the runtime's.
#[tokio::test]
async fn control_characters_are_shown_as_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path(), Limits::default());
    let log = logs.open(&id("a"));
    log.say(LogStream::Out, "\x1b[2Jgone\r\n1 system forged\u{9b}");
    log.close().await;
    assert_eq!(
        texts(&logs, "a", 10).await,
        ["\u{241b}[2Jgone\u{240d}\u{240a}1 system forged\u{fffd}"]
    );
}

/// Thousands of instances that start together must not each list all folders, so old ones are
/// deleted only once in so many.
#[tokio::test]
async fn ended_logs_exceed_their_bound_by_a_quarter_at_most() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..30 {
        std::fs::create_dir(folder.path().join(format!("earlier-life-{n}"))).unwrap();
    }
    let count = || std::fs::read_dir(folder.path()).unwrap().count();
    let logs = Logs::new(folder.path(), Limits { instances: 8, ..Limits::default() });
    for n in 0..40 {
        let log = logs.open(&id(&format!("i{n}")));
        log.say(LogStream::Out, "x");
        log.close().await;
        assert!(count() <= 8 + 2 + 1, "{} folders after {n}", count());
    }
    assert_eq!(texts(&logs, "i39", 1).await, ["x"]);
}

/// Logs of ten ended instances come after one that still lives: the living one's stay.
#[tokio::test]
async fn logs_of_ended_instances_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path(), Limits { instances: 3, ..Limits::default() });
    let alive = logs.open(&id("alive"));
    alive.say(LogStream::Out, "here");
    alive.flush().await;
    for n in 0..10 {
        let log = logs.open(&id(&format!("i{n}")));
        log.say(LogStream::Out, "x");
        log.close().await;
    }
    assert!(std::fs::read_dir(folder.path()).unwrap().count() <= 5);
    assert_eq!(texts(&logs, "alive", 1).await, ["here"]);
    assert_eq!(texts(&logs, "i9", 1).await, ["x"]);
}
