//! What a container is given: variables, arguments, files.

use super::{Harness, Program};
use crate::Mount;

pub async fn variables_arrive_and_the_later_one_wins(h: &Harness) {
    let Some(mut config) = h.config(Program::PrintsEnv).await else { return };
    let pairs = [("A", "1"), ("B", "with = and space"), ("A", "2"), ("EMPTY", ""), ("U", "\u{e9}")];
    config.env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut container = h.start_with(config).await;
    assert_eq!(container.exit().await.code, 0);
    let lines = container.stdout();
    for expected in ["A=2", "B=with = and space", "EMPTY=", "U=\u{e9}"] {
        assert!(lines.iter().any(|line| line == expected), "{expected} in {lines:?}");
    }
    assert!(!lines.iter().any(|line| line == "A=1"), "{lines:?}");
}

pub async fn arguments_arrive(h: &Harness) {
    let Some(mut config) = h.config(Program::PrintsArgs).await else { return };
    let given = ["--flag", "", "two words", "\u{e9}"];
    config.args.extend(given.map(str::to_owned));
    let mut container = h.start_with(config).await;
    assert_eq!(container.exit().await.code, 0);
    assert_eq!(container.stdout(), given);
}

pub async fn stdin_is_empty(h: &Harness) {
    let Some(mut container) = h.start(Program::EchoesStdin).await else { return };
    assert_eq!(container.exit().await.code, 0);
    assert!(container.log_lines().is_empty());
}

pub async fn a_mount_is_read(h: &Harness) {
    let Some(mut config) = h.config(Program::PrintsFile("/etc/app/greeting".to_owned())).await else { return };
    config.mounts = vec![h.mount("/etc/app", true, "greeting", "hello\n"), h.mount("/etc", true, "other", "")];
    let mut container = h.start_with(config).await;
    let exit = container.exit().await;
    assert_eq!(exit.code, 0, "{exit:?}");
    assert_eq!(container.stdout(), ["hello"]);
}

pub async fn a_read_only_mount_is_not_written(h: &Harness) {
    for path in ["/data/new", "/data/old"] {
        let Some(mut config) = h.config(Program::WritesFile(path.to_owned())).await else { return };
        let mount = h.mount("/data", true, "old", "kept");
        config.mounts = vec![mount.clone()];
        let mut container = h.start_with(config).await;
        assert_eq!(container.exit().await.code, 1);
        assert!(!mount.host_path.join("new").exists());
        assert_eq!(std::fs::read_to_string(mount.host_path.join("old")).expect("it is there"), "kept");
    }
}

pub async fn a_mount_is_written(h: &Harness) {
    let Some(mut config) = h.config(Program::WritesFile("/data/new".to_owned())).await else { return };
    let mount = h.mount("/data", false, "old", "");
    config.mounts = vec![mount.clone()];
    let mut container = h.start_with(config).await;
    let exit = container.exit().await;
    assert_eq!(exit.code, 0, "{exit:?}");
    assert_eq!(std::fs::read_to_string(mount.host_path.join("new")).expect("it was written"), "written");
}

/// As a `subPath` of a ConfigMap gives it.
pub async fn a_mounted_file_is_read(h: &Harness) {
    let Some(mut config) = h.config(Program::PrintsFile("/etc/app/app.conf".to_owned())).await else { return };
    let directory = h.mount("", true, "key", "level=debug\n");
    let host_path = directory.host_path.join("key");
    config.mounts =
        vec![Mount { host_path, container_path: "/etc/app/app.conf".to_owned(), read_only: true, volume: None }];
    let mut container = h.start_with(config).await;
    let exit = container.exit().await;
    assert_eq!(exit.code, 0, "{exit:?}");
    assert_eq!(container.stdout(), ["level=debug"]);
}

pub async fn the_root_is_private_and_writable(h: &Harness) {
    let Some(mut writer) = h.start(Program::WritesFile("/note".to_owned())).await else { return };
    let exit = writer.exit().await;
    assert_eq!(exit.code, 0, "{exit:?}");
    let Some(mut reader) = h.start(Program::PrintsFile("/note".to_owned())).await else { return };
    assert_eq!(reader.exit().await.code, 1, "another container does not see it");
}
