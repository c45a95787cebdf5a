//! Lists: whole, in chunks, and at an older revision.

use super::*;
use crate::FIRST_REVISION;

pub(super) async fn an_empty_list_has_a_revision(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let empty = list(&*store, "core/pods/").await;
    assert_eq!((empty.revision, empty.entries.len(), empty.remaining), (FIRST_REVISION, 0, 0));
    let elsewhere = commit(&*store, vec![put("core/secrets/a", "1")]).await.revision;
    assert_eq!(list(&*store, "core/pods/").await.revision, elsewhere, "the store's, though nothing matches");
}

pub(super) async fn a_list_is_in_key_order_and_in_scope(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    for path in ["core/pods/b/z", "core/pods/a/b", "core/podtemplates/a/a", "core/pods/a/a", "core/pods/a-b/c"] {
        commit(&*store, vec![put(path, "1")]).await;
    }
    let table = [
        ("core/pods/", "c=1 a=1 b=1 z=1"),
        ("core/pods/a/", "a=1 b=1"),
        ("core/pods/a/a", "a=1"),
        ("core/pods/a", ""),
        ("core/pods/none/", ""),
        ("", "c=1 a=1 b=1 z=1 a=1"),
    ];
    for (prefix, expected) in table {
        let listing = list(&*store, prefix).await;
        assert_eq!(show(&listing), expected, "{prefix}");
        assert_eq!(store.count(&key(prefix)), listing.entries.len(), "{prefix}");
    }
}

pub(super) async fn a_start_outside_of_the_scope_is_harmless(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    commit(&*store, vec![put("b/b/a", "1"), put("b/b/b", "1"), put("a/a/a", "1"), put("c/c/c", "1")]).await;
    let start = |bound: Bound<Key>| ListRequest { start: bound, ..request("b/b/") };
    let table = [
        (Bound::Included(key("a/a/a")), "a=1 b=1"),
        (Bound::Excluded(key("a/a/a")), "a=1 b=1"),
        (Bound::Included(key("b/b/a")), "a=1 b=1"),
        (Bound::Excluded(key("b/b/a")), "b=1"),
        (Bound::Excluded(key("b/b/aa")), "b=1"),
        (Bound::Included(key("c/c/c")), ""),
        (Bound::Excluded(key("b/b/b")), ""),
        (Bound::Included(key("b/b0")), ""),
        (Bound::Excluded(key("b/b0")), ""),
    ];
    for (bound, expected) in table {
        let listing = store.list(start(bound.clone())).await.expect("any start will do");
        assert_eq!(show(&listing), expected, "{bound:?}");
        let single = ListRequest { start: bound.clone(), ..request("b/b/a") };
        let expected = if expected.starts_with("a=1") { "a=1" } else { "" };
        assert_eq!(show(&store.list(single).await.expect("any start will do")), expected, "{bound:?}");
    }
}

/// Reads page by page, as the continue tokens of the API do; `between` runs after each page.
async fn pages(
    store: &dyn Store,
    prefix: &str,
    limit: usize,
    mut between: impl AsyncFnMut(usize),
) -> Result<Vec<Listing>, Error> {
    let mut pages: Vec<Listing> = Vec::new();
    loop {
        let (start, at) = match pages.last() {
            None => (Bound::Unbounded, None),
            Some(page) => match page.entries.last() {
                Some(last) if page.remaining > 0 => (Bound::Excluded(last.key.clone()), Some(page.revision)),
                _ => return Ok(pages),
            },
        };
        pages.push(store.list(ListRequest { prefix: key(prefix), start, limit, at }).await?);
        between(pages.len()).await;
    }
}

pub(super) async fn pages_add_up(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    let all: Vec<_> = (0..10).map(|n| put(&format!("core/pods/{n}"), "1")).collect();
    commit(&*store, all).await;
    for limit in [1, 3, 5, 9, 10, 11] {
        let pages = pages(&*store, "core/pods/", limit, async |_| {}).await.expect("nothing was compacted");
        assert_eq!(pages.len(), 10usize.div_ceil(limit), "limit {limit}");
        let whole: Vec<_> = pages.iter().flat_map(|p| p.entries.clone()).collect();
        assert_eq!(whole.iter().map(|e| &e.key).collect::<Vec<_>>(), list_keys(&list(&*store, "").await));
        let mut left = 10;
        for page in &pages {
            left -= page.entries.len();
            assert_eq!(page.remaining, left);
        }
    }
}

fn list_keys(listing: &Listing) -> Vec<&Key> {
    listing.entries.iter().map(|e| &e.key).collect()
}

pub(super) async fn pages_at_one_revision_ignore_later_writes(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    for n in 0..6 {
        commit(&*store, vec![put(&format!("core/pods/{n}"), "old")]).await;
    }
    let before = list(&*store, "core/pods/").await;
    let disturb = async |page: usize| {
        // Changes, deletions, creations, before and behind the place where the reader is.
        let ops = match page {
            1 => vec![delete("core/pods/3"), put("core/pods/4", "new"), put("core/pods/35", "new")],
            2 => vec![put("core/pods/3", "again"), delete("core/pods/0"), put("core/pods/7", "new")],
            _ => vec![put("core/pods/4", "newer"), put("core/pods/0", "new")],
        };
        commit(&*store, ops).await;
    };
    let pages = pages(&*store, "core/pods/", 2, disturb).await.expect("nothing was compacted");
    let read = pages.iter().map(show).collect::<Vec<_>>().join(" ");
    assert_eq!(read, show(&before));
    assert!(pages.iter().all(|p| p.revision == before.revision));
    assert_eq!(pages.iter().map(|p| p.remaining).collect::<Vec<_>>(), [4, 2, 0]);
    assert_eq!(
        show(&list(&*store, "core/pods/").await),
        "0=new 1=old 2=old 3=again 35=new 4=newer 5=old 7=new",
        "and now it is otherwise"
    );
}

pub(super) async fn a_list_at_a_compacted_or_future_revision_fails(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    for n in 2..=10 {
        commit(&*store, vec![put("core/pods/a", &n.to_string())]).await;
    }
    assert_eq!(show(&list_at(&*store, "core/pods/", 4).await.expect("it is kept")), "a=4");
    store.compact(6).await.expect("6 has happened");
    store.compact(3).await.expect("it was compacted already");
    assert_eq!(show(&list_at(&*store, "core/pods/", 6).await.expect("6 itself can be read")), "a=6");
    let gone = list_at(&*store, "core/pods/", 5).await;
    assert!(matches!(gone, Err(Error::Compacted { requested: 5, oldest: 6 })), "{gone:?}");
    let future = list_at(&*store, "core/pods/", 11).await;
    assert!(matches!(future, Err(Error::Future { requested: 11, current: 10 })), "{future:?}");
    let compact_future = store.compact(11).await;
    assert!(matches!(compact_future, Err(Error::Future { requested: 11, current: 10 })), "{compact_future:?}");
    assert_eq!(show(&list(&*store, "core/pods/").await), "a=10", "current objects stay");
}

pub(super) async fn history_limits_forget_the_oldest(factory: &dyn Factory) {
    let by_count = Options { history_transactions_max: 3, ..Options::default() };
    // Four values of 100 bytes with their keys do not fit, three do.
    let by_bytes = Options { history_bytes_max: 350, ..Options::default() };
    let options = if factory.durable() { vec![by_count] } else { vec![by_count, by_bytes] };
    for options in options {
        let store = factory.open(options.clone()).await;
        for _ in 2..=10 {
            commit(&*store, vec![put("p/a", &"x".repeat(100))]).await;
        }
        list_at(&*store, "p/", 7).await.expect("three transactions are kept");
        let gone = list_at(&*store, "p/", 6).await;
        assert!(matches!(gone, Err(Error::Compacted { requested: 6, oldest: 7 })), "{options:?}: {gone:?}");
        let gone = store.watch(key("p/"), 6).map(|_| ());
        assert!(matches!(gone, Err(Error::Compacted { requested: 6, oldest: 7 })), "{options:?}: {gone:?}");
        store.close().await;
    }
}

pub(super) async fn count_follows(factory: &dyn Factory) {
    let store = factory.open(Options::default()).await;
    commit(&*store, vec![put("a/1", "1"), put("a/2", "1"), put("b/1", "1")]).await;
    assert_eq!((store.count(&key("a/")), store.count(&key("b/")), store.count(&key(""))), (2, 1, 3));
    commit(&*store, vec![delete("a/1"), put("a/2", "2")]).await;
    assert_eq!((store.count(&key("a/")), store.count(&key(""))), (1, 2));
}
