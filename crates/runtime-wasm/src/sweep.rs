//! What an earlier process left in the runtime's directory and nobody will ask for: artefacts of another version of the engine
//! or of images that are gone, module bytes that no image names, files that were being written when the process died.

use std::{collections::HashSet, path::Path};

/// Says which version made the artefacts beside it.
const VERSION_FILE: &str = "version";
/// The digits of a SHA-256 digest, which file names begin with.
const DIGITS: usize = 64;

/// Before anything is written there. `modules` are the digests that images name. What cannot be removed stays.
pub fn sweep(root: &Path, version: &str, modules: &HashSet<String>) {
    let compiled = root.join("compiled");
    let same = std::fs::read_to_string(compiled.join(VERSION_FILE)).is_ok_and(|found| found == version);
    let named = |name: &str| {
        let digest = name.get(..DIGITS).unwrap_or(name);
        modules.contains(&format!("sha256:{digest}")) && !name.ends_with(".tmp")
    };
    let artefact = |name: &str| name.len() >= DIGITS;
    let gone = remove(&compiled, |name| artefact(name) && !(same && named(name)))
        + remove(&root.join("images/modules"), |name| !named(name));
    if gone > 0 {
        tracing::info!(files = gone, "left-over modules and artefacts removed");
    }
    if !same && let Err(error) = std::fs::write(compiled.join(VERSION_FILE), version) {
        tracing::warn!(error = %error, "version of the compiled modules not noted");
    }
}

fn remove(directory: &Path, unwanted: impl Fn(&str) -> bool) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let names = entries.flatten().filter(|entry| unwanted(&entry.file_name().to_string_lossy()));
    names.filter(|entry| std::fs::remove_file(entry.path()).is_ok()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_names_goes() {
        let root = tempfile::tempdir().unwrap();
        let (compiled, modules) = (root.path().join("compiled"), root.path().join("images/modules"));
        std::fs::create_dir_all(&compiled).unwrap();
        std::fs::create_dir_all(&modules).unwrap();
        let (kept, gone) = ("a".repeat(DIGITS), "b".repeat(DIGITS));
        let artefact = |digest: &str| compiled.join(format!("{digest}-0123.cwasm"));
        for digest in [&kept, &gone] {
            std::fs::write(artefact(digest), "x").unwrap();
            std::fs::write(modules.join(digest), "x").unwrap();
        }
        std::fs::write(modules.join(format!("{kept}.1-2.tmp")), "x").unwrap();
        std::fs::write(compiled.join("key"), "secret").unwrap();
        let names = HashSet::from([format!("sha256:{kept}")]);
        std::fs::write(compiled.join(VERSION_FILE), "1").unwrap();
        sweep(root.path(), "1", &names);
        assert!(artefact(&kept).exists() && !artefact(&gone).exists());
        assert_eq!(std::fs::read_dir(&modules).unwrap().count(), 1);
        assert!(compiled.join("key").exists());
        // Another version of the engine: its artefacts cannot be loaded.
        sweep(root.path(), "2", &names);
        assert!(!artefact(&kept).exists() && modules.join(&kept).exists() && compiled.join("key").exists());
    }
}
