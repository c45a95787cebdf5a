//! An OCI image layout directory as a tar archive (`skiff image load DIR`, `docker buildx --output type=oci`).

use std::{collections::HashMap, io::Read};

use crate::{
    artefact::{Descriptor, Document},
    config::IMAGE_BYTES_MAX,
    images::{Content, digest},
};

/// The largest archive that is read.
const ARCHIVE_BYTES_MAX: usize = 2 * IMAGE_BYTES_MAX as usize;
/// Files in an archive: a layout has some three for each image.
const FILES_MAX: usize = 4096;
/// Indexes within indexes that are followed.
const DEPTH_MAX: usize = 4;

pub async fn read(archive: &[u8]) -> Result<Content, String> {
    if archive.len() > ARCHIVE_BYTES_MAX {
        return Err(format!("the archive has {} bytes; the limit is {ARCHIVE_BYTES_MAX}", archive.len()));
    }
    let files = unpack(archive)?;
    let Some(index) = files.get("index.json") else {
        return Err("it is not an OCI image layout: there is no index.json".to_owned());
    };
    let blob = |descriptor: &Descriptor| -> Result<Vec<u8>, String> {
        let path = format!("blobs/{}", descriptor.digest.replacen(':', "/", 1));
        let bytes = files.get(&path).ok_or_else(|| format!("the layout lacks {path}"))?;
        if digest(bytes) != descriptor.digest {
            return Err(format!("{path} does not have the digest that its name says"));
        }
        Ok(bytes.clone())
    };
    let mut document = Document::parse(index)?;
    let mut digests = Vec::new();
    for _ in 0..DEPTH_MAX {
        let Some(next) = document.choose()?.cloned() else { break };
        document = Document::parse(&blob(&next)?)?;
        digests.push(next.digest);
    }
    let Some(id) = digests.pop() else { return Err("the layout's index.json names no manifest".to_owned()) };
    let mut content = document.content(id, |descriptor| std::future::ready(blob(&descriptor))).await?;
    content.digests.extend(digests);
    Ok(content)
}

fn unpack(archive: &[u8]) -> Result<HashMap<String, Vec<u8>>, String> {
    let wrong = |error: std::io::Error| format!("it is not a correct tar archive: {error}");
    let mut files = HashMap::new();
    for entry in tar::Archive::new(archive).entries().map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(wrong)?.to_string_lossy().trim_start_matches("./").to_owned();
        if files.len() >= FILES_MAX {
            return Err(format!("the archive has more than {FILES_MAX} files"));
        }
        // A header may promise anything; what is read is never more than the archive holds.
        let mut content = Vec::new();
        entry.take(archive.len() as u64).read_to_end(&mut content).map_err(wrong)?;
        files.insert(path, content);
    }
    Ok(files)
}
