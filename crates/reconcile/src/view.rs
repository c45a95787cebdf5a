//! A read-only, in-memory picture of the cluster: what a controller may look at.

use std::sync::Arc;

use k8s_openapi::{
    ClusterResourceScope, Metadata, NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;

use crate::{AnyObject, KindRef, ObjectKey};

/// A k8s-openapi top-level type: `Pod`, `Deployment`, ….
pub trait Object: k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static {
    const NAMESPACED: bool;
}
impl<K> Object for K
where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
    K::Scope: ScopeName,
{
    const NAMESPACED: bool = <K::Scope as ScopeName>::NAMESPACED;
}

pub trait ScopeName {
    const NAMESPACED: bool;
}
impl ScopeName for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}
impl ScopeName for ClusterResourceScope {
    const NAMESPACED: bool = false;
}

/// Object-safe core; use [`ViewExt`] for typed access. Objects are shared, decoded once.
///
/// A kind that nobody declared in [`Controller::watches`](crate::Controller::watches) is empty.
pub trait View: Send + Sync {
    /// The decoded object (`Arc<K>` for the kind's k8s-openapi type).
    fn get_any(&self, kind: &KindRef, key: &ObjectKey) -> Option<AnyObject>;
    /// Of one namespace, or of all with `None`. Sorted by key.
    fn list_any(&self, kind: &KindRef, namespace: Option<&str>) -> Vec<AnyObject>;
    /// The objects of a kind that have an owner reference with this UID (an index, not a scan).
    fn owned_any(&self, kind: &KindRef, owner_uid: &str) -> Vec<AnyObject>;
    /// The metadata of the objects of a kind, whether they are held whole or not. Sorted by key.
    fn list_metadata(&self, kind: &KindRef, namespace: Option<&str>) -> Vec<ObjectMeta>;
}

pub trait ViewExt: View {
    fn get<K: Object>(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.get_any(&KindRef::of::<K>(), key)?.downcast().ok()
    }
    fn list<K: Object>(&self, namespace: Option<&str>) -> Vec<Arc<K>> {
        self.list_any(&KindRef::of::<K>(), namespace).into_iter().filter_map(|o| o.downcast().ok()).collect()
    }
    fn owned<K: Object>(&self, owner_uid: &str) -> Vec<Arc<K>> {
        self.owned_any(&KindRef::of::<K>(), owner_uid).into_iter().filter_map(|o| o.downcast().ok()).collect()
    }
}
impl<V: View + ?Sized> ViewExt for V {}
