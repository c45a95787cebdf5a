//! Images are found by every name they have, and refused where they cannot be run.

use super::{Harness, Program};
use crate::Error;

pub async fn names_become_canonical(h: &Harness) {
    let Some((artefact, id)) = h.artefact(&Program::Sleeps).await else { return };
    let Some(source) = artefact.source else { return };
    let image = h.runtime.load_image("hello", source).await.expect("loaded");
    assert_eq!(image.id, id);
    assert!(image.tags.contains(&"docker.io/library/hello:latest".to_owned()), "{image:?}");
    for name in ["hello", "hello:latest", "docker.io/library/hello", &id] {
        let found = h.runtime.image_status(name).await.expect("looked up").map(|image| image.id);
        assert_eq!(found.as_deref(), Some(&*id), "{name}");
    }
}

pub async fn wrong_names_are_refused(h: &Harness) {
    for name in ["", "Upper/Case", "a:b:c", "a@sha256:12"] {
        let status = h.runtime.image_status(name).await;
        assert!(matches!(status, Err(Error::InvalidImageName { .. })), "{name:?}: {status:?}");
        let pull = h.runtime.pull_image(name, None).await;
        assert!(matches!(pull, Err(Error::InvalidImageName { .. })), "{name:?}: {pull:?}");
    }
}

pub async fn images_come_and_go(h: &Harness) {
    if !h.subject.keeps_images() {
        return;
    }
    let Some((artefact, id)) = h.artefact(&Program::ExitsWith(0)).await else { return };
    let absent = h.runtime.image_status("localhost/absent:latest").await.expect("looked up");
    assert_eq!(absent, None);
    let pull = h.runtime.pull_image("localhost/absent:latest", None).await;
    assert!(matches!(pull, Err(Error::ImagePull { .. })), "{pull:?}");
    let listed = h.runtime.list_images().await.expect("listed");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(listed[0].size_bytes > 0 && listed[0].id == id, "{listed:?}");

    let Some(mut sleeper) = h.start(Program::Sleeps).await else { return };
    let used = sleeper.status().await.image_id;
    h.runtime.remove_image(&used).await.expect("removed");
    h.runtime.remove_image(&artefact.reference).await.expect("removed");
    h.runtime.remove_image(&artefact.reference).await.expect("idempotent");
    assert!(h.runtime.list_images().await.expect("listed").is_empty());
    h.runtime.stop_container(&sleeper.id, std::time::Duration::from_secs(10)).await.expect("it ran on");
    assert_eq!(sleeper.exit().await.code, 143);
}

pub async fn one_content_has_one_id(h: &Harness) {
    let Some((artefact, id)) = h.artefact(&Program::ExitsWith(0)).await else { return };
    let Some(source) = artefact.source else { return };
    let other = h.runtime.load_image("localhost/other:v1", source).await.expect("loaded");
    assert_eq!(other.id, id);
    assert_eq!(h.runtime.list_images().await.expect("listed").len(), 1);
    h.runtime.remove_image("localhost/other:v1").await.expect("removed");
    let left = h.runtime.image_status(&artefact.reference).await.expect("looked up");
    assert_eq!(left.map(|image| image.id), Some(id), "removing one name leaves the other");
}

pub async fn a_container_needs_its_image(h: &Harness) {
    if !h.subject.keeps_images() {
        return;
    }
    let Some(mut config) = h.config(Program::ExitsWith(0)).await else { return };
    config.image_id = format!("sha256:{}", "0".repeat(64));
    let created = h.runtime.create_container(&h.sandbox, config).await;
    assert!(matches!(created, Err(Error::NotFound { .. })), "{created:?}");
}

pub async fn what_cannot_be_run_is_refused(h: &Harness) {
    let Some(source) = h.subject.unusable() else { return };
    let loaded = h.runtime.load_image("localhost/unusable:latest", source).await;
    assert!(matches!(loaded, Err(Error::ImageUnusable { .. })), "{loaded:?}");
    assert!(h.runtime.list_images().await.expect("listed").is_empty(), "nothing is kept of it");
}
