//! The same values by Spin's own interfaces: `fermyon:spin/variables` reads what `wasi:config/store` reads, and
//! `fermyon:spin/key-value` opens the buckets of `wasi:keyvalue`.

use wasmtime::{
    Result,
    component::{HasSelf, Linker, Resource},
};
use wasmtime_wasi::WasiView as _;

use super::{
    bucket::{Bucket, Failure, KEYS_MAX},
    host::bindings::fermyon::spin::{key_value, variables},
};
use crate::guest::Host;

pub fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    variables::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    key_value::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)
}

impl From<Failure> for key_value::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            // One that the manifest does not name may be there, and is not for this component.
            Failure::NoSuchStore | Failure::AccessDenied => Self::AccessDenied,
            Failure::Other(message) => Self::Other(message),
        }
    }
}

type Answer<T> = Result<Result<T, key_value::Error>>;

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Answer<T> {
    Ok(tokio::task::spawn_blocking(work).await?.map_err(key_value::Error::from))
}

impl variables::Host for Host {
    async fn get(&mut self, name: String) -> Result<Result<String, variables::Error>> {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(word) {
            return Ok(Err(variables::Error::InvalidName(name)));
        }
        let value = self.stores().value(&name);
        Ok(value.ok_or(variables::Error::Undefined(name)))
    }
}

impl key_value::Host for Host {}

impl key_value::HostStore for Host {
    async fn open(&mut self, label: String) -> Answer<Resource<Bucket>> {
        let view = self.stores();
        match blocking(move || view.open(&label)).await? {
            Ok(bucket) => Ok(Ok(self.ctx().table.push(bucket)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn get(&mut self, store: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let bucket = self.bucket(&store)?;
        blocking(move || bucket.get(&key)).await
    }

    async fn set(&mut self, store: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let bucket = self.bucket(&store)?;
        blocking(move || bucket.set(&key, &value)).await
    }

    async fn delete(&mut self, store: Resource<Bucket>, key: String) -> Answer<()> {
        let bucket = self.bucket(&store)?;
        blocking(move || bucket.delete(&key)).await
    }

    async fn exists(&mut self, store: Resource<Bucket>, key: String) -> Answer<bool> {
        let bucket = self.bucket(&store)?;
        blocking(move || Ok(bucket.exists(&key))).await
    }

    /// All of them at once, as the interface wants it: at most [`KEYS_MAX`].
    async fn get_keys(&mut self, store: Resource<Bucket>) -> Answer<Vec<String>> {
        let bucket = self.bucket(&store)?;
        blocking(move || {
            let (mut all, mut from) = (Vec::new(), Some(0));
            while let Some(place) = from.filter(|_| all.len() < KEYS_MAX) {
                let (keys, next) = bucket.keys(place);
                all.extend(keys);
                from = next;
            }
            Ok(all)
        })
        .await
    }

    async fn drop(&mut self, store: Resource<Bucket>) -> Result<()> {
        self.ctx().table.delete(store)?;
        Ok(())
    }
}
