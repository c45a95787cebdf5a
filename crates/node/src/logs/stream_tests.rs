use std::io::Write;

use k8s_openapi::api::core::v1::PodStatus;

use super::*;

struct Log {
    dir: tempfile::TempDir,
    file: File,
    second: u32,
}

impl Log {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = File::create(dir.path().join("0.log")).expect("made");
        Self { dir, file, second: 0 }
    }
    fn path(&self) -> PathBuf {
        self.dir.path().join("0.log")
    }
    fn write(&mut self, tag: &str, text: &str) {
        self.second += 1;
        writeln!(self.file, "2026-01-01T00:00:{:02}Z stdout {tag} {text}", self.second).expect("written");
    }
    fn rotate(&mut self) {
        let old = self.dir.path().join(format!("0.log.2026010{}-000000", self.second));
        std::fs::rename(self.path(), old).expect("renamed");
        self.file = File::create(self.path()).expect("made");
    }
    async fn read(&self, options: LogOptions) -> String {
        let mut stream = LogStream::open(self.path(), options, None).expect("opened");
        let mut all = vec![];
        while let Some(bytes) = stream.next().await.expect("read") {
            all.extend_from_slice(&bytes);
        }
        String::from_utf8(all).expect("text")
    }
}

#[tokio::test]
async fn a_log_is_read_as_it_is_asked_for() {
    let mut log = Log::new();
    log.write("F", "one");
    log.write("P", "two-");
    log.rotate();
    log.write("F", "two");
    log.write("F", "three");
    let all = LogOptions::default();
    let since: Timestamp = "2026-01-01T00:00:04Z".parse().expect("a time");
    for (sentence, options, expected) in [
        ("everything, across parts", all.clone(), "one\ntwo-two\nthree\n"),
        ("the last line", LogOptions { tail_lines: Some(1), ..all.clone() }, "three\n"),
        ("no line", LogOptions { tail_lines: Some(0), ..all.clone() }, ""),
        ("since a time", LogOptions { since: Some(since), ..all.clone() }, "three\n"),
        ("so many bytes", LogOptions { limit_bytes: Some(5), ..all.clone() }, "one\nt"),
        ("one stream", LogOptions { stream: Some(Stream::Stderr), ..all.clone() }, ""),
        (
            "with times, once per line",
            LogOptions { timestamps: true, ..all.clone() },
            "2026-01-01T00:00:01Z one\n2026-01-01T00:00:02Z two-two\n2026-01-01T00:00:04Z three\n",
        ),
    ] {
        assert_eq!(log.read(options).await, expected, "{sentence}");
    }
}

#[tokio::test]
async fn following_sees_what_comes_across_rotations_and_ends_with_the_container() {
    let mut log = Log::new();
    log.write("F", "one");
    let snapshot = |phase: &str| Snapshot {
        pod: Arc::default(),
        status: Arc::new(PodStatus { phase: Some(phase.into()), ..PodStatus::default() }),
        running: vec![],
    };
    let (sender, receiver) = watch::channel(snapshot("Running"));
    let running: Running = Arc::new(|s| s.status.phase.as_deref() == Some("Running"));
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut stream = LogStream::open(log.path(), options, Some((receiver, running))).expect("opened");
    assert_eq!(stream.next().await.expect("read").as_deref(), Some(b"one\n".as_slice()));
    log.write("F", "two");
    assert_eq!(stream.next().await.expect("read").as_deref(), Some(b"two\n".as_slice()));
    log.write("F", "three");
    log.rotate();
    log.write("F", "four");
    assert_eq!(stream.next().await.expect("read").as_deref(), Some(b"three\n".as_slice()));
    assert_eq!(stream.next().await.expect("read").as_deref(), Some(b"four\n".as_slice()));
    log.write("F", "last");
    sender.send(snapshot("Succeeded")).expect("sent");
    assert_eq!(stream.next().await.expect("read").as_deref(), Some(b"last\n".as_slice()), "nothing is lost");
    assert_eq!(stream.next().await.expect("read"), None);
}
