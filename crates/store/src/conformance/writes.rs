//! Transactions: preconditions, atomicity, revisions and limits.

use super::*;
use crate::{FIRST_REVISION, OPS_MAX};

pub(super) async fn a_put_is_read_back_with_its_revision(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let text = r#"{"resourceVersion":""}"#;
    let draft = Draft { bytes: text.into(), revision_at: Some(text.len() - 2) };
    let committed = commit(&*store, vec![Op::Put(key("core/pods/a"), draft)]).await;
    let entry = store.get(&key("core/pods/a")).expect("it is there");
    assert_eq!(entry.revision, committed.revision);
    assert_eq!(entry.value, format!(r#"{{"resourceVersion":"{}"}}"#, committed.revision));
    assert!(Arc::ptr_eq(&entry, &committed.entries[0]), "one entry, shared");
}

pub(super) async fn every_transaction_takes_the_next_revision(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    assert_eq!(store.revision(), FIRST_REVISION);
    for n in 1..=5 {
        let committed = commit(&*store, vec![put("core/pods/a", "1"), put("core/pods/b", "1")]).await;
        assert_eq!(committed.revision, FIRST_REVISION + n);
        assert!(committed.entries.iter().all(|e| e.revision == committed.revision));
        assert_eq!(store.revision(), committed.revision);
    }
}

pub(super) async fn expectations_are_checked(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let at = commit(&*store, vec![put("core/pods/there", "1")]).await.revision;
    let table = [
        ("core/pods/there", Expect::Absent, false),
        ("core/pods/there", Expect::Present, true),
        ("core/pods/there", Expect::At(at), true),
        ("core/pods/there", Expect::At(at + 1), false),
        ("core/pods/gone", Expect::Absent, true),
        ("core/pods/gone", Expect::Present, false),
        ("core/pods/gone", Expect::At(at), false),
    ];
    for (path, expect, holds) in table {
        let result = expecting(&*store, path, expect, vec![put("core/pods/other", "1")]).await;
        assert_eq!(result.is_ok(), holds, "{path} {expect:?}: {result:?}");
    }
}

pub(super) async fn a_conflict_changes_nothing_and_shows_what_is(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let at = commit(&*store, vec![put("core/pods/a", "1")]).await.revision;
    let expect = vec![
        (key("core/pods/a"), Expect::Present),
        (key("core/pods/a"), Expect::At(at + 7)),
        (key("core/pods/a"), Expect::Absent),
    ];
    let ops = vec![put("core/pods/a", "2"), put("core/pods/b", "2")];
    match store.transact(Transaction { expect, ops }).await {
        Err(Error::Conflict { key: conflicting, expected, actual: Some(actual) }) => {
            assert_eq!((conflicting, expected), (key("core/pods/a"), Expect::At(at + 7)), "the first that fails");
            assert_eq!((actual.revision, &actual.value[..]), (at, &b"1"[..]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(show(&list(&*store, "core/pods/").await), "a=1");
    assert_eq!(store.revision(), at);
}

pub(super) async fn a_transaction_commits_wholly(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    commit(&*store, vec![put("core/pods/a", "1"), put("core/pods/b", "1")]).await;
    let ops = vec![put("core/pods/a", "2"), delete("core/pods/b"), put("core/pods/c", "2")];
    let committed = commit(&*store, ops).await;
    let listing = list(&*store, "core/pods/").await;
    assert_eq!((show(&listing).as_str(), listing.revision), ("a=2 c=2", committed.revision));
    let order: Vec<_> = committed.entries.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(order, ["core/pods/a", "core/pods/b", "core/pods/c"]);
}

pub(super) async fn a_delete_returns_the_final_object(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    commit(&*store, vec![put("core/pods/a", "1"), put("core/pods/b", "1")]).await;
    let last = Op::Delete(key("core/pods/a"), Some(Draft { bytes: "rv=".into(), revision_at: Some(3) }));
    let committed = commit(&*store, vec![last, delete("core/pods/b")]).await;
    assert_eq!(committed.entries[0].value, format!("rv={}", committed.revision));
    assert_eq!(committed.entries[0].revision, committed.revision);
    assert_eq!((&committed.entries[1].value[..], committed.entries[1].revision), (&b"1"[..], committed.revision));
    assert!(store.get(&key("core/pods/a")).is_none());
}

pub(super) async fn deleting_what_is_absent_conflicts(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let ops = vec![put("core/pods/b", "1"), delete("core/pods/a")];
    let result = store.transact(Transaction { expect: vec![], ops }).await;
    assert!(matches!(result, Err(Error::Conflict { expected: Expect::Present, actual: None, .. })), "{result:?}");
    assert_eq!(list(&*store, "").await.entries.len(), 0, "the put before it did not happen either");
    // Nor does it count for whoever comes next.
    expecting(&*store, "core/pods/b", Expect::Absent, vec![put("core/pods/b", "2")]).await.expect("b is absent");
}

pub(super) async fn a_check_takes_no_revision(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let at = commit(&*store, vec![put("core/pods/a", "1")]).await.revision;
    let checked = expecting(&*store, "core/pods/a", Expect::At(at), vec![]).await.expect("it holds");
    assert_eq!((checked.revision, checked.entries.len(), store.revision()), (at, 0, at));
    expecting(&*store, "core/pods/a", Expect::Absent, vec![]).await.expect_err("it does not hold");
}

pub(super) async fn oversized_and_repeated_writes_are_refused(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let many = |n: usize| (0..n).map(|n| put(&format!("core/pods/{n}"), "1")).collect::<Vec<_>>();
    let too_large = store.transact(Transaction { expect: vec![], ops: many(OPS_MAX + 1) }).await;
    assert!(matches!(too_large, Err(Error::TooLarge { ops }) if ops == OPS_MAX + 1));
    let twice = vec![put("core/pods/a", "1"), put("core/pods/b", "1"), delete("core/pods/a")];
    let twice = store.transact(Transaction { expect: vec![], ops: twice }).await;
    assert!(matches!(twice, Err(Error::WrittenTwice { key: ref k }) if *k == key("core/pods/a")), "{twice:?}");
    assert_eq!(store.revision(), FIRST_REVISION);
    assert_eq!(commit(&*store, many(OPS_MAX)).await.entries.len(), OPS_MAX);
}

pub(super) async fn of_concurrent_writers_one_wins(factory: &dyn Factory) {
    const WRITERS: usize = 16;
    const EACH: usize = 8;
    let store = factory.open(Options::default()).await;
    commit(&*store, vec![put("core/configmaps/counter", "0")]).await;
    // Each adds one by compare and swap until it was the winner EACH times: no update is lost.
    let writer = || {
        let store = store.clone();
        async move {
            let mut won = 0;
            while won < EACH {
                let entry = store.get(&key("core/configmaps/counter")).expect("it is there");
                let n: usize = String::from_utf8_lossy(&entry.value).parse().expect("a number");
                let ops = vec![put("core/configmaps/counter", &(n + 1).to_string())];
                match expecting(&*store, "core/configmaps/counter", Expect::At(entry.revision), ops).await {
                    Ok(_) => won += 1,
                    Err(Error::Conflict { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(writer())).collect();
    for writer in writers {
        writer.await.expect("no writer fails");
    }
    assert_eq!(show(&list(&*store, "").await), format!("counter={}", WRITERS * EACH));
}

pub(super) async fn a_closed_store_refuses_writes(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    commit(&*store, vec![put("core/pods/a", "1")]).await;
    store.close().await;
    let result = store.transact(Transaction { expect: vec![], ops: vec![put("core/pods/b", "1")] }).await;
    assert!(matches!(result, Err(Error::Closed)), "{result:?}");
    assert_eq!(show(&list(&*store, "core/pods/").await), "a=1", "reads go on");
    store.close().await;
}
