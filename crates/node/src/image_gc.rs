//! Images that no container uses go when the disk fills up, those that were used longest ago first, as with the kubelet.
//!
//! Looked at with each heartbeat of the node, which costs one question to the file system. What must stay true: an image that
//! a container of this node has (running, or ended and not yet forgotten) stays; so does one that came or was used in the
//! seconds that [`ImageGc`] names; nothing goes while less than its upper part of the disk is in use, and no more than leads
//! below its lower one.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use skiff_client::Regarding;
use skiff_reconcile::{EventType::Warning, KindRef, ObjectKey};
use skiff_runtime::{Image, Runtime};

use crate::{agent::Agent, config::ImageGc};

/// When each image was seen first, and in use last. Bounded by the images that the runtimes have.
#[derive(Debug, Default)]
pub struct Seen(Mutex<HashMap<String, Times>>);

#[derive(Clone, Copy, Debug)]
struct Times {
    first: Timestamp,
    used: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub capacity: u64,
    pub available: u64,
}

impl Disk {
    /// Of the file system that holds a directory.
    pub fn of(path: &Path) -> Option<Self> {
        let data = rustix::fs::statvfs(path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(data.f_frsize);
        Some(Self { capacity: bytes(data.f_blocks), available: bytes(data.f_bavail) })
    }

    /// How many bytes must go; none below the upper threshold.
    fn excess(self, gc: ImageGc) -> Option<u64> {
        // As the kubelet counts: what is not available to us is in use.
        let used = self.capacity.saturating_sub(self.available);
        if self.capacity == 0 || used.saturating_mul(100) < self.capacity.saturating_mul(gc.high_percent) {
            return None;
        }
        let target = self.capacity / 100 * gc.low_percent;
        Some(used.saturating_sub(target)).filter(|&bytes| bytes > 0)
    }
}

/// What the disk wants gone and could not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {found} bytes \
     eligible to free."
)]
pub struct TooLittle {
    pub wanted: u64,
    pub found: u64,
}

impl Seen {
    /// Notes what is there and in use now.
    fn note(&self, images: &[Image], in_use: &BTreeSet<String>, now: Timestamp) {
        let mut seen = self.0.lock();
        seen.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let times = seen.entry(image.id.clone()).or_insert(Times { first: now, used: Timestamp::MIN });
            if in_use.contains(&image.id) {
                times.used = now;
            }
        }
    }

    /// The images to remove, in order, and what is missing then.
    fn choose(
        &self,
        images: &[Image],
        in_use: &BTreeSet<String>,
        wanted: u64,
        min_age_s: i64,
        now: Timestamp,
    ) -> (Vec<Image>, Option<TooLittle>) {
        let seen = self.0.lock();
        let times = |image: &Image| seen.get(&image.id).copied().unwrap_or(Times { first: now, used: now });
        let old = |at: Timestamp| now.as_second().saturating_sub(at.as_second()) >= min_age_s;
        let free = |image: &&Image| !in_use.contains(&image.id) && old(times(image).first) && old(times(image).used);
        let mut candidates: Vec<&Image> = images.iter().filter(free).collect();
        candidates.sort_by_key(|image| (times(image).used, times(image).first));
        let mut found = 0;
        let mut chosen = vec![];
        for image in candidates {
            if found >= wanted {
                break;
            }
            found += image.size_bytes;
            chosen.push(image.clone());
        }
        (chosen, (found < wanted).then_some(TooLittle { wanted, found }))
    }
}

/// One look at one runtime's images.
///
/// # Errors
/// When too little could go.
async fn collect(
    runtime: &Arc<dyn Runtime>,
    seen: &Seen,
    disk: Option<Disk>,
    gc: ImageGc,
    now: Timestamp,
) -> Result<Vec<Image>, TooLittle> {
    let (Ok(images), Ok(containers)) = (runtime.list_images().await, runtime.list_containers(None).await) else {
        return Ok(vec![]);
    };
    let in_use: BTreeSet<String> = containers.into_iter().map(|container| container.image_id).collect();
    seen.note(&images, &in_use, now);
    let Some(wanted) = disk.and_then(|disk| disk.excess(gc)) else { return Ok(vec![]) };
    let (chosen, too_little) = seen.choose(&images, &in_use, wanted, gc.min_age_s, now);
    for image in &chosen {
        if let Err(error) = runtime.remove_image(&image.id).await {
            tracing::warn!(%error, image = image.id, "unused image not removed");
        }
    }
    too_little.map_or(Ok(chosen), Err)
}

/// Looks at the images of all runtimes, and says on the node's object when the disk stays full.
pub async fn look(agent: &Agent, seen: &[Seen], told: &mut bool) {
    let disk = Disk::of(agent.dirs.root());
    let mut failed = None;
    for (runtime, seen) in agent.config.runtimes.iter().zip(seen) {
        match collect(runtime, seen, disk, agent.config.limits.image_gc, agent.now()).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => {
                let bytes: u64 = removed.iter().map(|image| image.size_bytes).sum();
                tracing::info!(node = agent.config.name, images = removed.len(), bytes, "unused images removed");
                agent.status_changed.notify_one();
            }
            Err(too_little) => failed = Some(too_little),
        }
    }
    // Once, until there is room again.
    if let Some(too_little) = failed.as_ref().filter(|_| !*told) {
        let regarding = Regarding {
            kind: KindRef::of::<Node>(),
            key: ObjectKey::new("", agent.config.name.as_str()),
            // As the kubelet does, so that `kubectl describe node` finds it.
            uid: agent.config.name.clone(),
            resource_version: String::new(),
            field_path: String::new(),
        };
        agent.recorder.event(regarding, Warning, "ImageGCFailed", too_little.to_string());
    }
    *told = failed.is_some();
}

#[cfg(test)]
mod tests {
    use skiff_runtime::ImageKind;

    use super::*;

    fn image(id: &str, size_bytes: u64) -> Image {
        Image { id: id.to_owned(), tags: vec![], digests: vec![], size_bytes, kind: ImageKind::Wasm }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn a_full_disk_wants_bytes_gone() {
        let disk = |available| Disk { capacity: 1000, available };
        for (available, expected) in [(200, None), (151, None), (150, Some(50)), (0, Some(200))] {
            assert_eq!(disk(available).excess(ImageGc::default()), expected, "{available} available");
        }
        assert_eq!(Disk { capacity: 0, available: 0 }.excess(ImageGc::default()), None);
    }

    #[test]
    fn the_longest_unused_go_first_and_the_used_and_new_stay() {
        let seen = Seen::default();
        let images = [image("used", 10), image("old", 20), image("older", 30), image("never", 40)];
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let all = &images[..];
        seen.note(all, &set(&["used", "older", "old"]), at(1000));
        seen.note(all, &set(&["used", "old"]), at(1100));
        let in_use = set(&["used"]);
        let ids = |wanted, now| {
            let (chosen, missing) = seen.choose(all, &in_use, wanted, 120, at(now));
            (chosen.into_iter().map(|image| image.id).collect::<Vec<_>>().join(" "), missing)
        };
        assert_eq!(ids(50, 1300), ("never older".to_owned(), None));
        assert_eq!(ids(90, 1300), ("never older old".to_owned(), None));
        assert_eq!(ids(91, 1300), ("never older old".to_owned(), Some(TooLittle { wanted: 91, found: 90 })));
        // "old" was in use until a minute ago.
        assert_eq!(ids(71, 1160), ("never older".to_owned(), Some(TooLittle { wanted: 71, found: 70 })));
        assert_eq!(ids(1, 1060), (String::new(), Some(TooLittle { wanted: 1, found: 0 })), "nothing is old enough");
        seen.note(&images[..1], &in_use, at(1400));
        assert_eq!(seen.0.lock().len(), 1, "what is gone is forgotten");
    }
}
