//! Networking, policy, storage, RBAC, autoscaling, quotas.

use serde_json::{Value, json};

use crate::{added, created, errors, hooks_of, merge, row, update_errors};

fn object(api: &str, kind: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}});
    merge(&mut object, rest);
    object
}

fn ingress(spec: Value) -> Value {
    object("networking.k8s.io/v1", "Ingress", json!({ "spec": spec }))
}

#[test]
fn ingresses() {
    let path = |path: Value| json!({"rules": [{"host": "a.example.com", "http": {"paths": [path]}}]});
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    for (spec, expected) in [
        (path(json!({"path": "/", "pathType": "Prefix", "backend": backend})), vec![]),
        (json!({}), vec!["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]),
        (
            path(json!({"path": "/", "backend": backend})),
            vec!["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
        ),
        (
            path(json!({"path": "a//b", "pathType": "Exact", "backend": {"service": {"name": "web"}}})),
            vec![
                r#"spec.rules[0].http.paths[0].path: Invalid value: "a//b": must be an absolute path"#,
                r#"spec.rules[0].http.paths[0].path: Invalid value: "a//b": must not contain '//'"#,
                "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
            ],
        ),
        (
            json!({"defaultBackend": backend, "rules": [{"host": "10.0.0.1"}]}),
            vec![r#"spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#],
        ),
    ] {
        assert_eq!(errors(ingress(spec.clone())), expected, "{spec}");
    }
    let mut shown = ingress(
        json!({"ingressClassName": "nginx", "tls": [{}], "rules": [{"host": "a"}, {"host": "b"}, {"host": "c"}, {"host": "d"}]}),
    );
    shown["status"] = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}});
    assert_eq!(row(&shown), "x | nginx | a,b,c + 1 more... | 1.2.3.4 | 80, 443 | <unknown>");
}

#[test]
fn network_policies() {
    let policy = |spec| object("networking.k8s.io/v1", "NetworkPolicy", json!({ "spec": spec }));
    assert_eq!(created(policy(json!({"podSelector": {}})))["spec"]["policyTypes"], json!(["Ingress"]));
    assert_eq!(
        errors(policy(
            json!({"podSelector": {}, "ingress": [{"ports": [{"port": "http", "endPort": 3}], "from": [{}, {"podSelector": {}, "ipBlock": {"cidr": "x"}}]}]})
        )),
        [
            "spec.ingress[0].ports[0].endPort: Invalid value: 3: may not be specified when `port` is non-numeric",
            "spec.ingress[0].from[0]: Required value: must specify a peer",
            r#"spec.ingress[0].from[1].ipBlock.cidr: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
            "spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer",
        ]
    );
    assert_eq!(row(&policy(json!({"podSelector": {"matchLabels": {"a": "b"}}}))), "x | a=b | <unknown>");
}

#[test]
fn roles_and_bindings() {
    let role = |kind: &str, rules| object("rbac.authorization.k8s.io/v1", kind, json!({ "rules": rules }));
    let urls = json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]);
    assert_eq!(errors(role("ClusterRole", urls.clone())), Vec::<String>::new());
    assert_eq!(
        errors(role("Role", urls)),
        [
            r#"rules[0].nonResourceURLs: Invalid value: ["/healthz"]: namespaced rules cannot apply to non-resource URLs"#
        ]
    );
    assert_eq!(
        errors(role("Role", json!([{}]))),
        [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ]
    );
    let binding = |role: &str| {
        object(
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            json!({"roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
        )
    };
    assert_eq!(
        added(&binding("r"), &created(binding("r"))),
        [r#"roleRef.apiGroup: "rbac.authorization.k8s.io""#, r#"subjects[0].apiGroup: "rbac.authorization.k8s.io""#,]
    );
    assert_eq!(errors(binding("r")), Vec::<String>::new());
    let error = update_errors(binding("r"), binding("q"));
    assert!(
        error[0].starts_with("roleRef: Invalid value: {") && error[0].ends_with(": cannot change roleRef"),
        "{error:?}"
    );
    assert_eq!(row(&binding("r")), "x | ClusterRole/r | <unknown> | u |  | n/s");
}

#[test]
fn volumes_and_claims() {
    let claim = |size: &str| {
        object(
            "v1",
            "PersistentVolumeClaim",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}}),
        )
    };
    assert_eq!(errors(claim("1Gi")), Vec::<String>::new());
    assert_eq!(
        errors(claim("0")),
        [r#"spec.resources.requests[storage]: Invalid value: "0": must be greater than zero"#]
    );
    let bound = |size: &str| {
        let mut claim = created(claim(size));
        claim["spec"]["volumeName"] = json!("v");
        claim["status"] =
            json!({"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"]});
        claim
    };
    let update = |new: &str| (hooks_of(&bound("1Gi")).validate_update)(&bound(new), &bound("1Gi"));
    assert_eq!(update("2Gi"), Vec::new());
    assert_eq!(
        update("1Mi")[0].to_string(),
        "spec.resources.requests.storage: Forbidden: field can not be less than previous value"
    );
    assert_eq!(row(&bound("1Gi")), "x | Bound | v | 1Gi | RWO,ROX |  | <unset> | <unknown> | Filesystem");
    let volume = |rest| {
        let mut spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"]});
        merge(&mut spec, rest);
        object("v1", "PersistentVolume", json!({ "spec": spec }))
    };
    assert_eq!(errors(volume(json!({"hostPath": {"path": "/x"}}))), Vec::<String>::new());
    assert_eq!(errors(volume(json!({}))), ["spec: Required value: must specify a volume type"]);
    assert_eq!(
        errors(volume(json!({"local": {"path": "/x"}}))),
        ["spec.nodeAffinity: Required value: Local volume requires node affinity"]
    );
    assert_eq!(
        row(&created(volume(json!({"hostPath": {"path": "/x"}})))),
        "x | 1Gi | RWX | Retain | Pending |  |  | <unset> |  | <unknown> | Filesystem"
    );
}

#[test]
fn autoscalers() {
    let hpa = |rest| {
        let mut spec =
            json!({"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}});
        merge(&mut spec, rest);
        object("autoscaling/v2", "HorizontalPodAutoscaler", json!({ "spec": spec }))
    };
    assert_eq!(row(&created(hpa(json!({})))), "x | Deployment/d | cpu: <unknown>/80% | 1 | 3 | 0 | <unknown>");
    assert_eq!(
        errors(hpa(json!({"minReplicas": 5, "metrics": [{"type": "Pods"}], "scaleTargetRef": {"kind": "Deployment"}}))),
        [
            "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
            "spec.scaleTargetRef.name: Required value",
            "spec.metrics[0].pods: Required value: must populate information for the given metric source",
        ]
    );
    let v1 = object(
        "autoscaling/v1",
        "HorizontalPodAutoscaler",
        json!({"spec": {"maxReplicas": 2, "targetCPUUtilizationPercentage": 60, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
    );
    assert_eq!(row(&created(v1)), "x | Deployment/d | cpu: <unknown>/60% | 1 | 2 | 0 | <unknown>");
}

#[test]
fn budgets_classes_and_quotas() {
    let budget = |spec| object("policy/v1", "PodDisruptionBudget", json!({ "spec": spec }));
    assert_eq!(errors(budget(json!({"minAvailable": "50%"}))), Vec::<String>::new());
    assert_eq!(errors(budget(json!({"minAvailable": "x"}))).len(), 1);
    assert_eq!(errors(budget(json!({"minAvailable": 1, "maxUnavailable": 1}))).len(), 1);
    assert_eq!(row(&budget(json!({"minAvailable": 2}))), "x | 2 | N/A | 0 | <unknown>");
    let class = |value: i64| object("scheduling.k8s.io/v1", "PriorityClass", json!({ "value": value }));
    assert_eq!(row(&created(class(7))), "x | 7 | false | <unknown> | PreemptLowerPriority");
    assert_eq!(
        errors(class(2_000_000_000)),
        ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
    );
    assert_eq!(update_errors(class(1), class(2)), ["value: Forbidden: may not be changed in an update."]);
    let mut quota = object("v1", "ResourceQuota", json!({"spec": {"hard": {"pods": "10"}}}));
    quota["status"] = json!({"hard": {"limits.cpu": "2", "pods": "10"}, "used": {"pods": "3"}});
    assert_eq!(row(&quota), "x | pods: 3/10 | limits.cpu: 0/2 | <unknown>");
    let range =
        object("v1", "LimitRange", json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1000m"}}]}}));
    assert_eq!(
        created(range)["spec"]["limits"][0],
        json!({"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}})
    );
    let range = object(
        "v1",
        "LimitRange",
        json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}}]}}),
    );
    assert_eq!(
        errors(range),
        [r#"spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1"#]
    );
}

#[test]
fn endpoints_and_slices() {
    let slice = |rest| {
        let mut slice = object(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        );
        merge(&mut slice, rest);
        slice
    };
    assert_eq!(created(slice(json!({})))["ports"], json!([{"port": 80, "name": "", "protocol": "TCP"}]));
    assert_eq!(errors(slice(json!({}))), Vec::<String>::new());
    assert_eq!(
        errors(slice(json!({"endpoints": [{"addresses": ["::1"]}, {}]}))),
        [
            r#"endpoints[0].addresses[0]: Invalid value: "::1": must be an IPv4 address"#,
            "endpoints[1].addresses: Required value: must contain at least 1 address",
        ]
    );
    assert_eq!(row(&slice(json!({}))), "x | IPv4 | 80 | 10.0.0.1 | <unknown>");
    assert_eq!(row(&slice(json!({"endpoints": [], "ports": []}))), "x | IPv4 | <unset> | <unset> | <unknown>");
    let four = json!([{"ip": "1.0.0.1"}, {"ip": "1.0.0.2"}, {"ip": "1.0.0.3"}, {"ip": "1.0.0.4"}]);
    let endpoints = object("v1", "Endpoints", json!({"subsets": [{"addresses": four, "ports": [{"port": 80}]}]}));
    assert_eq!(row(&endpoints), "x | 1.0.0.1:80,1.0.0.2:80,1.0.0.3:80 + 1 more... | <unknown>");
    assert_eq!(errors(endpoints), Vec::<String>::new());
}
