//! The interfaces as components call them. Disk is touched on threads for blocking calls, never on those of guests.

use wasmtime::{
    Result,
    component::{HasSelf, Linker, Resource},
};
use wasmtime_wasi::WasiView as _;

use super::{
    View,
    bucket::{self, Bucket, Failure},
};
use crate::guest::Host;

pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: "src/stores/stores.wit",
        world: "skiff:host/stores",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": crate::stores::bucket::Bucket,
            "fermyon:spin/key-value.store": crate::stores::bucket::Bucket,
        },
    });
}

use bindings::wasi::{
    config::store as config,
    keyvalue::{atomics, batch, store},
};

pub fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    config::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    store::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    atomics::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    batch::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)?;
    super::spin::add_to_linker(linker)
}

impl From<Failure> for store::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSuchStore => Self::NoSuchStore,
            Failure::AccessDenied => Self::AccessDenied,
            Failure::Other(message) => Self::Other(message),
        }
    }
}

type Answer<T> = Result<Result<T, store::Error>>;

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Answer<T> {
    Ok(tokio::task::spawn_blocking(work).await?.map_err(store::Error::from))
}

impl Host {
    pub(super) fn stores(&self) -> View {
        self.extras.stores.clone()
    }

    pub(super) fn bucket(&mut self, bucket: &Resource<Bucket>) -> Result<Bucket> {
        Ok(self.ctx().table.get(bucket)?.clone())
    }
}

impl config::Host for Host {
    async fn get(&mut self, key: String) -> Result<Result<Option<String>, config::Error>> {
        Ok(Ok(self.stores().value(&key)))
    }

    async fn get_all(&mut self) -> Result<Result<Vec<(String, String)>, config::Error>> {
        Ok(Ok(self.stores().values().into_iter().collect()))
    }
}

impl store::Host for Host {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        let view = self.stores();
        match blocking(move || view.open(&identifier)).await? {
            Ok(bucket) => Ok(Ok(self.ctx().table.push(bucket)?)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl store::HostBucket for Host {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let bucket = self.bucket(&bucket)?;
        blocking(move || bucket.get(&key)).await
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        blocking(move || bucket.set(&key, &value)).await
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        blocking(move || bucket.delete(&key)).await
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let bucket = self.bucket(&bucket)?;
        blocking(move || Ok(bucket.exists(&key))).await
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<store::KeyResponse> {
        let bucket = self.bucket(&bucket)?;
        let from = usize::try_from(cursor.unwrap_or(0)).unwrap_or(usize::MAX);
        blocking(move || {
            let (keys, next) = bucket.keys(from);
            Ok(store::KeyResponse { keys, cursor: next.map(|next| next as u64) })
        })
        .await
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> Result<()> {
        self.ctx().table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for Host {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        let bucket = self.bucket(&bucket)?;
        blocking(move || bucket.increment(&key, delta)).await
    }
}

impl batch::Host for Host {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let bucket = self.bucket(&bucket)?;
        blocking(move || bucket.get_many(keys)).await
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, key_values: Vec<(String, Vec<u8>)>) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        blocking(move || {
            bucket::batch(key_values.len())?;
            key_values.iter().try_for_each(|(key, value)| bucket.set(key, value))
        })
        .await
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        blocking(move || {
            bucket::batch(keys.len())?;
            keys.iter().try_for_each(|key| bucket.delete(key))
        })
        .await
    }
}
