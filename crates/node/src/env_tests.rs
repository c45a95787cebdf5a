use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::json;

use super::*;

fn sources() -> Sources {
    let map: ConfigMap =
        serde_json::from_value(json!({ "data": { "k": "v", "two": "2", "a=b": "bad" } })).expect("a map");
    let secret: Secret = serde_json::from_value(json!({ "data": { "pw": "c2VjcmV0" } })).expect("a secret");
    let mut sources = Sources::default();
    sources.config_maps.insert("c".into(), Ok(Some(map)));
    sources.config_maps.insert("none".into(), Ok(None));
    sources.secrets.insert("s".into(), Ok(Some(secret)));
    sources.secrets.insert("none".into(), Ok(None));
    sources
}

fn check(container: serde_json::Value) -> Result<String, String> {
    let container: Container = serde_json::from_value(container).expect("a container");
    let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "p", "namespace": "n" } })).expect("a pod");
    let services = BTreeMap::from([("SVC".to_owned(), "10.0.0.1".to_owned())]);
    let (sources, facts) = (sources(), NodeFacts::default());
    let input = EnvInput { pod: &pod, container: &container, sources: &sources, facts: &facts, services: &services };
    let env = build(&input)?;
    Ok(env.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "))
}

#[test]
fn variables_come_from_everywhere_and_later_ones_win() {
    let key = |name: &str, key: &str, optional: bool| json!({ "name": name, "key": key, "optional": optional });
    for (sentence, container, expected) in [
        (
            "values may refer to earlier ones and to services",
            json!({ "name": "a", "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "$(A)$(SVC)$(C)" }] }),
            Ok("A=1 B=110.0.0.1$(C) SVC=10.0.0.1"),
        ),
        (
            "env wins over envFrom",
            json!({ "name": "a", "envFrom": [{ "configMapRef": { "name": "c" }, "prefix": "P_" }],
                "env": [{ "name": "P_k", "value": "x" }] }),
            Ok("P_k=x P_two=2 SVC=10.0.0.1"),
        ),
        (
            "keys of maps and secrets, fields",
            json!({ "name": "a", "env": [
                { "name": "K", "valueFrom": { "configMapKeyRef": key("c", "k", false) } },
                { "name": "S", "valueFrom": { "secretKeyRef": key("s", "pw", false) } },
                { "name": "N", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }] }),
            Ok("K=v S=secret N=p SVC=10.0.0.1"),
        ),
        (
            "what is optional may be missing",
            json!({ "name": "a", "envFrom": [{ "secretRef": { "name": "none", "optional": true } }],
                "env": [{ "name": "K", "valueFrom": { "configMapKeyRef": key("c", "x", true) } }] }),
            Ok("SVC=10.0.0.1"),
        ),
        (
            "a missing map is named",
            json!({ "name": "a", "env": [{ "name": "K", "valueFrom": { "configMapKeyRef": key("none", "x", false) } }] }),
            Err("configmap \"none\" not found"),
        ),
        (
            "a missing key is named",
            json!({ "name": "a", "env": [{ "name": "K", "valueFrom": { "secretKeyRef": key("s", "x", false) } }] }),
            Err("couldn't find key x in Secret n/s"),
        ),
        (
            "envFrom of a missing secret is named",
            json!({ "name": "a", "envFrom": [{ "secretRef": { "name": "none" } }] }),
            Err("secret \"none\" not found"),
        ),
    ] {
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(check(container), expected, "{sentence}");
    }
}

#[test]
fn services_of_the_namespace_are_told_if_links_are_wanted() {
    let service = |namespace: &str, name: &str, ip: &str| -> Service {
        serde_json::from_value(json!({ "metadata": { "namespace": namespace, "name": name },
            "spec": { "clusterIP": ip, "ports": [{ "name": "web-ui", "port": 80 }, { "port": 53, "protocol": "UDP" }] } }))
        .expect("a service")
    };
    let all = [
        service("default", "kubernetes", "10.0.0.1"),
        service("n", "my-db", "10.0.0.2"),
        service("other", "x", "10.0.0.3"),
        service("n", "headless", "None"),
    ];
    let vars = services(all.iter(), "n", true);
    assert_eq!(vars["KUBERNETES_SERVICE_HOST"], "10.0.0.1");
    assert_eq!(vars["MY_DB_SERVICE_PORT_WEB_UI"], "80");
    assert_eq!(vars["MY_DB_PORT"], "tcp://10.0.0.2:80");
    assert_eq!(vars["MY_DB_PORT_53_UDP_ADDR"], "10.0.0.2");
    assert!(!vars.keys().any(|k| k.starts_with('X') || k.starts_with("HEADLESS")), "{vars:?}");
    let bare = services(all.iter(), "n", false);
    assert!(bare.contains_key("KUBERNETES_SERVICE_PORT") && !bare.contains_key("MY_DB_PORT"));
}
