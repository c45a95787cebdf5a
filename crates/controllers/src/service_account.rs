//! Every active namespace has a ServiceAccount `default` and a ConfigMap `kube-root-ca.crt` with the cluster's CA.
//!
//! What must stay true: both come back when somebody deletes them, and the CA when somebody changes it; nothing is
//! created in a namespace that is going away.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use serde_json::json;
use skiff_reconcile::{Action, Controller, Entropy, KindRef, ObjectKey, Plan, Preconditions, View, ViewExt, Watch};

pub const ACCOUNT: &str = "default";
pub const ROOT_CA: &str = "kube-root-ca.crt";
const CA_KEY: &str = "ca.crt";
const DESCRIPTION_KEY: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                           endpoints such as the internal service IP or kubernetes.default.svc.";

pub struct ServiceAccountController {
    pub root_ca_pem: String,
}

#[derive(Debug)]
pub struct Observed {
    namespace: String,
    has_account: bool,
    root_ca: Option<Arc<ConfigMap>>,
}

impl Controller for ServiceAccountController {
    type Observed = Observed;
    const NAME: &'static str = "service-account-controller";

    fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::itself::<Namespace>(),
            Watch::by::<ServiceAccount>(|_, account| {
                let name = account.metadata.name.as_deref();
                to_namespace(account.metadata.namespace.as_deref(), name == Some(ACCOUNT))
            }),
            Watch::by::<ConfigMap>(|_, map| {
                to_namespace(map.metadata.namespace.as_deref(), map.metadata.name.as_deref() == Some(ROOT_CA))
            }),
        ]
    }

    fn observe(&self, view: &dyn View, key: &ObjectKey) -> Option<Observed> {
        let namespace = view.get::<Namespace>(key)?;
        let terminating = namespace.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Terminating");
        if terminating || namespace.metadata.deletion_timestamp.is_some() {
            return None;
        }
        Some(Observed {
            namespace: key.name.clone(),
            has_account: view.get::<ServiceAccount>(&ObjectKey::new(&key.name, ACCOUNT)).is_some(),
            root_ca: view.get::<ConfigMap>(&ObjectKey::new(&key.name, ROOT_CA)),
        })
    }

    fn reconcile(&self, observed: &Observed, _now: Timestamp, _entropy: &mut dyn Entropy) -> Plan {
        let mut plan = Plan::default();
        if !observed.has_account {
            plan.actions.push(Action::Create {
                kind: KindRef::of::<ServiceAccount>(),
                namespace: observed.namespace.clone(),
                body: json!({
                    "apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": { "name": ACCOUNT, "namespace": observed.namespace },
                }),
            });
        }
        if !self.root_ca_pem.is_empty() {
            plan.actions.extend(self.root_ca(observed));
        }
        plan
    }
}

impl ServiceAccountController {
    fn root_ca(&self, observed: &Observed) -> Option<Action> {
        let kind = KindRef::of::<ConfigMap>();
        let Some(map) = &observed.root_ca else {
            return Some(Action::Create {
                kind,
                namespace: observed.namespace.clone(),
                body: json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {
                        "name": ROOT_CA, "namespace": observed.namespace,
                        "annotations": { DESCRIPTION_KEY: DESCRIPTION },
                    },
                    "data": { CA_KEY: self.root_ca_pem },
                }),
            });
        };
        let wanted = BTreeMap::from([(CA_KEY.to_owned(), self.root_ca_pem.clone())]);
        let data = map.data.as_ref();
        if data == Some(&wanted) {
            return None;
        }
        // A merge patch: what is not ours must be named to go.
        let mut patch = json!({ "data": { CA_KEY: self.root_ca_pem } });
        for other in data.into_iter().flat_map(BTreeMap::keys).filter(|k| *k != CA_KEY) {
            patch["data"][other] = json!(null);
        }
        Some(Action::Patch {
            kind,
            key: ObjectKey::of(&map.metadata),
            subresource: None,
            patch,
            preconditions: Preconditions { uid: map.metadata.uid.clone(), resource_version: None },
        })
    }
}

fn to_namespace(namespace: Option<&str>, ours: bool) -> Vec<ObjectKey> {
    namespace.filter(|_| ours).map(|n| ObjectKey::new("", n)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use skiff_reconcile::fixpoint::{Model, settle};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn with_namespace(phase: &str) -> (Model, ObjectKey) {
        let mut model = Model::new();
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("shop".into());
        namespace.status.get_or_insert_default().phase = Some(phase.into());
        model.insert(namespace, NOW);
        (model, ObjectKey::new("", "shop"))
    }
    fn plans(model: &mut Model, key: &ObjectKey) -> String {
        let controller = ServiceAccountController { root_ca_pem: "PEM".into() };
        settle(&controller, model, key, NOW).expect("settles").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_namespace_gets_both() {
        let (mut model, key) = with_namespace("Active");
        assert_eq!(
            plans(&mut model, &key),
            "create ServiceAccount shop/default\ncreate ConfigMap shop/kube-root-ca.crt\n"
        );
        assert_eq!(plans(&mut model, &key), "", "and nothing more");
    }

    #[test]
    fn what_is_deleted_or_changed_comes_back() {
        let (mut model, key) = with_namespace("Active");
        plans(&mut model, &key);
        model.remove::<ServiceAccount>(&ObjectKey::new("shop", "default"));
        model.change::<ConfigMap>(&ObjectKey::new("shop", ROOT_CA), |map| {
            map.data = Some(BTreeMap::from([("ca.crt".into(), "forged".into()), ("more".into(), "x".into())]));
        });
        assert_eq!(
            plans(&mut model, &key),
            "create ServiceAccount shop/default\npatch ConfigMap shop/kube-root-ca.crt \
             {\"data\":{\"ca.crt\":\"PEM\",\"more\":null}}\n"
        );
    }

    #[test]
    fn a_namespace_that_goes_gets_nothing() {
        let (mut model, key) = with_namespace("Terminating");
        assert_eq!(plans(&mut model, &key), "");
        assert_eq!(plans(&mut model, &ObjectKey::new("", "none")), "");
    }
}
