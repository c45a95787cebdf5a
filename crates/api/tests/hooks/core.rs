//! The core group.

use serde_json::json;

use crate::{added, created, errors, hooks_of, merge, pod, row, update_errors, yaml};

#[test]
fn a_pod_gets_upstreams_defaults() {
    let manifest = yaml(
        "
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  serviceAccount: robot
  containers:
  - name: a
    image: nginx
    ports: [{containerPort: 80}]
    resources: {limits: {cpu: 1000m, memory: 1024Mi}}
    livenessProbe: {httpGet: {port: 80}}
    env:
    - name: NODE
      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  volumes:
  - name: e
  - name: s
    secret: {secretName: x}
",
    );
    assert_eq!(
        added(&manifest, &created(manifest.clone())),
        [
            r#"spec.containers[0].env[0].valueFrom.fieldRef.apiVersion: "v1""#,
            r#"spec.containers[0].imagePullPolicy: "Always""#,
            "spec.containers[0].livenessProbe.failureThreshold: 3",
            r#"spec.containers[0].livenessProbe.httpGet.path: "/""#,
            r#"spec.containers[0].livenessProbe.httpGet.scheme: "HTTP""#,
            "spec.containers[0].livenessProbe.periodSeconds: 10",
            "spec.containers[0].livenessProbe.successThreshold: 1",
            "spec.containers[0].livenessProbe.timeoutSeconds: 1",
            r#"spec.containers[0].ports[0].protocol: "TCP""#,
            r#"spec.containers[0].resources.limits.cpu: "1""#,
            r#"spec.containers[0].resources.limits.memory: "1Gi""#,
            r#"spec.containers[0].resources.requests.cpu: "1""#,
            r#"spec.containers[0].resources.requests.memory: "1Gi""#,
            r#"spec.containers[0].terminationMessagePath: "/dev/termination-log""#,
            r#"spec.containers[0].terminationMessagePolicy: "File""#,
            r#"spec.dnsPolicy: "ClusterFirst""#,
            "spec.enableServiceLinks: true",
            r#"spec.restartPolicy: "Always""#,
            r#"spec.schedulerName: "default-scheduler""#,
            "spec.securityContext: {}",
            r#"spec.serviceAccountName: "robot""#,
            "spec.terminationGracePeriodSeconds: 30",
            "spec.volumes[0].emptyDir: {}",
            "spec.volumes[1].secret.defaultMode: 420",
            r#"status.phase: "Pending""#,
            r#"status.qosClass: "Guaranteed""#,
        ]
    );
}

#[test]
fn what_is_wrong_with_a_pod() {
    let none = || json!({});
    let table = [
        (none(), none(), vec![]),
        (json!({"containers": []}), none(), vec!["spec.containers: Required value"]),
        (none(), json!({"image": ""}), vec!["spec.containers[0].image: Required value"]),
        (
            none(),
            json!({"image": null, "name": null}),
            vec!["spec.containers[0].name: Required value", "spec.containers[0].image: Required value"],
        ),
        (
            json!({"initContainers": [{"name": "c", "image": "i"}]}),
            none(),
            vec![r#"spec.initContainers[0].name: Duplicate value: "c""#],
        ),
        (
            json!({"restartPolicy": "Sometimes"}),
            none(),
            vec![
                r#"spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure""#,
            ],
        ),
        (
            none(),
            json!({"imagePullPolicy": "Often"}),
            vec![
                r#"spec.containers[0].imagePullPolicy: Unsupported value: "Often": supported values: "Always", "IfNotPresent", "Never""#,
            ],
        ),
        (
            none(),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}]}),
            vec![
                r#"spec.containers[0].volumeMounts[0].name: Not found: "v""#,
                r#"spec.containers[0].volumeMounts[1].name: Not found: "v""#,
                r#"spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/x": must be unique"#,
            ],
        ),
        (
            json!({"volumes": [{"name": "v"}, {"name": "v", "emptyDir": {}}, {"name": "w", "secret": {}, "configMap": {"name": "x"}}]}),
            none(),
            vec![
                r#"spec.volumes[1].name: Duplicate value: "v""#,
                "spec.volumes[2].secret: Forbidden: may not specify more than 1 volume type",
            ],
        ),
        (
            none(),
            json!({"resources": {"requests": {"cpu": "2", "example.com/gpu": "1"}, "limits": {"cpu": "1", "memory": "-1"}}}),
            vec![
                r#"spec.containers[0].resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0"#,
                r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#,
                "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
                r#"spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0"#,
            ],
        ),
        (
            none(),
            json!({"resources": {"limits": {"cpus": "1"}}}),
            vec![
                r#"spec.containers[0].resources.limits[cpus]: Invalid value: "cpus": must be a standard resource type or fully qualified"#,
                r#"spec.containers[0].resources.limits[cpus]: Invalid value: "cpus": must be a standard resource for containers"#,
                r#"spec.containers[0].resources.requests[cpus]: Invalid value: "cpus": must be a standard resource type or fully qualified"#,
                r#"spec.containers[0].resources.requests[cpus]: Invalid value: "cpus": must be a standard resource for containers"#,
            ],
        ),
        (
            none(),
            json!({"ports": [{"containerPort": 0}, {"containerPort": 70000}, {"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}),
            vec![
                "spec.containers[0].ports[0].containerPort: Required value",
                "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                r#"spec.containers[0].ports[3].name: Duplicate value: "a""#,
            ],
        ),
        (
            none(),
            json!({"env": [{"name": ""}, {"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "B", "valueFrom": {}}, {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s"}}},
                {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}),
            vec![
                "spec.containers[0].env[0].name: Required value",
                r#"spec.containers[0].env[1].valueFrom: Invalid value: "": may not be specified when `value` is not empty"#,
                r#"spec.containers[0].env[2].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"#,
                "spec.containers[0].env[3].valueFrom.secretKeyRef.key: Required value",
                r#"spec.containers[0].env[4].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field label not supported: spec.x"#,
            ],
        ),
        (
            none(),
            json!({"livenessProbe": {"exec": {}, "tcpSocket": {"port": "x"}, "successThreshold": 2}, "readinessProbe": {}}),
            vec![
                "spec.containers[0].livenessProbe.exec.command: Required value",
                "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
                "spec.containers[0].readinessProbe: Required value: must specify a handler type",
            ],
        ),
        (
            json!({"tolerations": [{"operator": "Equal"}, {"key": "a", "operator": "Exists", "value": "x"}, {"key": "a", "effect": "Never"}]}),
            none(),
            vec![
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                "spec.tolerations[1].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
                r#"spec.tolerations[2].effect: Unsupported value: "Never": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule""#,
            ],
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "a", "operator": "In"}, {"key": "a", "operator": "Like"}]}]}},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "podAffinityTerm": {"topologyKey": "a"}}]}}}),
            none(),
            vec![
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                r#"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].operator: Invalid value: "Like": not a valid selector operator"#,
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
            ],
        ),
        (
            json!({"terminationGracePeriodSeconds": 30, "activeDeadlineSeconds": 0, "dnsPolicy": "None", "nodeSelector": {"a": "b c"}}),
            none(),
            vec![
                "spec.nodeSelector: Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            ],
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "i", "lifecycle": {}}, {"name": "s", "image": "i", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}}]}),
            none(),
            vec![
                "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        ),
    ];
    for (spec, container, expected) in table {
        // Fields set to null are as if they were not there.
        assert_eq!(errors(pod(spec.clone(), container.clone())), expected, "{spec} {container}");
    }
}

#[test]
fn what_a_pod_update_may_change() {
    let old = || pod(json!({"tolerations": [{"key": "a", "operator": "Exists"}]}), json!({}));
    for (change, expected) in [
        (json!({}), vec![]),
        (json!({"containers": [{"name": "c", "image": "i:2"}]}), vec![]),
        (
            json!({"tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 3}, {"key": "b", "operator": "Exists"}]}),
            vec![],
        ),
        (json!({"activeDeadlineSeconds": 5}), vec![]),
        (
            json!({"tolerations": []}),
            vec!["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"],
        ),
        (
            json!({"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "i:1"}]}),
            vec!["spec.containers: Forbidden: pod updates may not add or remove containers"],
        ),
        (
            json!({"containers": [{"name": "c", "image": "i:1", "command": ["x"]}], "nodeName": "n"}),
            vec![
                "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\nchanged: containers, nodeName",
            ],
        ),
    ] {
        let mut new = old();
        merge(&mut new["spec"], change.clone());
        assert_eq!(update_errors(old(), new), expected, "{change}");
    }
}

#[test]
fn how_long_a_pod_is_given_to_end() {
    let grace = |spec, status| {
        let mut pod = pod(spec, json!({}));
        pod["status"] = status;
        (hooks_of(&pod).grace_seconds.unwrap())(&pod)
    };
    let bound = |seconds: i64| json!({"nodeName": "n", "terminationGracePeriodSeconds": seconds});
    assert_eq!(grace(bound(30), json!({"phase": "Running"})), 30);
    assert_eq!(grace(bound(-5), json!({})), 1);
    assert_eq!(grace(bound(30), json!({"phase": "Succeeded"})), 0);
    assert_eq!(grace(json!({"terminationGracePeriodSeconds": 30}), json!({"phase": "Pending"})), 0);
}

#[test]
fn pods_in_a_table() {
    let mut pod = pod(json!({"nodeName": "n1"}), json!({}));
    merge(&mut pod["metadata"], json!({"creationTimestamp": "2026-01-01T00:05:00Z"}));
    pod["status"] = json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [{"name": "c",
        "restartCount": 2, "ready": true, "state": {"running": {}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:09:00Z"}}}]});
    assert_eq!(row(&pod), "p | 1/1 | Running | 2 (60s ago) | 5m | 10.0.0.1 | n1 | <none> | <none>");
}

#[test]
fn duplicate_variables_and_ports_are_warned_about() {
    let pod = pod(
        json!({}),
        json!({"env": [{"name": "A"}, {"name": "A"}], "ports": [{"containerPort": 1}, {"containerPort": 1}]}),
    );
    assert_eq!(
        (hooks_of(&pod).warnings)(&created(pod)),
        [
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ]
    );
}

fn object(kind: &str, rest: serde_json::Value) -> serde_json::Value {
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x", "namespace": "default"}});
    merge(&mut object, rest);
    object
}

#[test]
fn namespaces() {
    let namespace = created(object("Namespace", json!({})));
    assert_eq!(namespace["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "x"}));
    assert_eq!(namespace["spec"], json!({"finalizers": ["kubernetes"]}));
    assert_eq!(row(&namespace), "x | Active | <unknown>");
    let mut new = object("Namespace", json!({"spec": {"finalizers": []}, "status": {"phase": "Terminating"}}));
    (hooks_of(&new).prepare_update)(&mut new, &namespace);
    assert_eq!((&new["spec"], &new["status"]), (&namespace["spec"], &namespace["status"]));
}

#[test]
fn config_maps() {
    assert_eq!(
        errors(object("ConfigMap", json!({"data": {"a.b": "x"}, "binaryData": {"c": "eA=="}}))),
        Vec::<String>::new()
    );
    assert_eq!(
        errors(object("ConfigMap", json!({"data": {"a": "x", "..": ""}, "binaryData": {"a": "eA=="}}))),
        [
            "data[..]: Invalid value: \"..\": must not be '..'",
            "data[a]: Invalid value: \"a\": duplicate of key present in binaryData",
        ]
    );
    let big = "x".repeat(1024 * 1024);
    assert_eq!(errors(object("ConfigMap", json!({"data": {"a": big}}))), Vec::<String>::new());
    let error = errors(object("ConfigMap", json!({"data": {"a": big, "b": "y"}})));
    assert_eq!(error, [": Too long: may not be more than 1048576 bytes"]);
    let frozen = object("ConfigMap", json!({"data": {"a": "1"}, "immutable": true}));
    assert_eq!(
        update_errors(frozen, object("ConfigMap", json!({"data": {"a": "2"}}))),
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ]
    );
    assert_eq!(row(&object("ConfigMap", json!({"data": {"a": ""}, "binaryData": {"b": ""}}))), "x | 2 | <unknown>");
}

#[test]
fn secrets() {
    let secret = created(object("Secret", json!({"stringData": {"a": "hi"}, "data": {"a": "eA==", "b": "eA=="}})));
    assert_eq!(secret["data"], json!({"a": "aGk=", "b": "eA=="}));
    assert_eq!((&secret["type"], secret.get("stringData")), (&json!("Opaque"), None));
    assert_eq!(row(&secret), "x | Opaque | 2 | <unknown>");
    assert_eq!(
        errors(object("Secret", json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}))),
        ["data[tls.key]: Required value"]
    );
    assert_eq!(
        errors(object("Secret", json!({"type": "kubernetes.io/service-account-token"}))),
        ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]
    );
    assert_eq!(
        update_errors(object("Secret", json!({})), object("Secret", json!({"type": "x"}))),
        [r#"type: Invalid value: "x": field is immutable"#]
    );
}

#[test]
fn services() {
    let service = object("Service", json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}));
    assert_eq!(
        added(&service, &created(service.clone())),
        [
            r#"spec.internalTrafficPolicy: "Cluster""#,
            r#"spec.ports[0].protocol: "TCP""#,
            "spec.ports[0].targetPort: 80",
            r#"spec.sessionAffinity: "None""#,
            r#"spec.type: "ClusterIP""#,
            "status.loadBalancer: {}",
        ]
    );
    for (spec, expected) in [
        (json!({}), vec!["spec.ports: Required value"]),
        (json!({"clusterIP": "None"}), vec![]),
        (json!({"type": "ExternalName"}), vec!["spec.externalName: Required value"]),
        (json!({"type": "ExternalName", "externalName": "example.com"}), vec![]),
        (
            json!({"ports": [{"port": 1}, {"port": 1, "name": "a"}]}),
            vec![
                "spec.ports[0].name: Required value",
                r#"spec.ports[1]: Duplicate value: {"port":1,"protocol":"TCP"}"#,
            ],
        ),
        (
            json!({"ports": [{"port": 1, "nodePort": 30000}]}),
            vec!["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            json!({"ports": [{"port": 0, "protocol": "ICMP"}], "clusterIP": "1.2.3"}),
            vec![
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                r#"spec.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP""#,
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                r#"spec.clusterIPs[0]: Invalid value: "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            ],
        ),
    ] {
        assert_eq!(errors(object("Service", json!({ "spec": spec }))), expected, "{spec}");
    }
    // A service that is written without its address and node port keeps them.
    let given = json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "nodePort": 30080}]});
    let old = created(object("Service", json!({ "spec": given })));
    let mut new =
        object("Service", json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81, "name": "b"}]}}));
    let hooks = hooks_of(&new);
    (hooks.default)(&mut new);
    (hooks.prepare_update)(&mut new, &old);
    assert_eq!((&new["spec"]["clusterIP"], &new["spec"]["clusterIPs"]), (&json!("10.0.0.1"), &json!(["10.0.0.1"])));
    assert_eq!((&new["spec"]["ports"][0]["nodePort"], new["spec"]["ports"][1].get("nodePort")), (&json!(30080), None));
    let at = |ip| object("Service", json!({"spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80}]}}));
    assert_eq!(
        update_errors(at("10.0.0.1"), at("10.0.0.2")),
        [r#"spec.clusterIPs[0]: Invalid value: "10.0.0.2": may not change once set"#]
    );
    assert_eq!(row(&created(at("10.0.0.1"))), "x | ClusterIP | 10.0.0.1 | <none> | 80/TCP | <unknown> | <none>");
}

#[test]
fn nodes() {
    let node = object(
        "Node",
        json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/a": ""}},
        "spec": {"unschedulable": true}, "status": {"capacity": {"cpu": "2000m"},
        "conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        "nodeInfo": {"kubeletVersion": "v1", "osImage": "Linux", "kernelVersion": "6", "architecture": "amd64"}}}),
    );
    let node = created(node);
    assert_eq!(node["status"]["allocatable"], json!({"cpu": "2"}));
    assert_eq!(
        row(&node),
        "n | Ready,SchedulingDisabled | a,worker | <unknown> | v1 | 10.0.0.1 | <none> | Linux | 6 (amd64) | <unknown>"
    );
    assert_eq!(
        errors(object(
            "Node",
            json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}, {"key": "b"}]}})
        )),
        [
            r#"metadata.taints[1]: Duplicate value: {"effect":"NoSchedule","key":"a"}: taints must be unique by key and effect pair"#,
            "metadata.taints[2].effect: Required value",
        ]
    );
}

#[test]
fn events_and_leases() {
    let event = |namespace: &str, rest| {
        let mut e = object("Event", json!({"involvedObject": {"kind": "Pod", "name": "p", "namespace": namespace}}));
        merge(&mut e, rest);
        e
    };
    assert_eq!(errors(event("default", json!({}))), Vec::<String>::new());
    assert_eq!(
        errors(event("other", json!({}))),
        [r#"involvedObject.namespace: Invalid value: "other": does not match event.namespace"#]
    );
    assert_eq!(
        errors(event(
            "default",
            json!({"eventTime": "2026-01-01T00:00:00.000000Z", "reason": "R", "reportingComponent": "c"})
        )),
        ["reportingInstance: Required value", "action: Required value"]
    );
    let mut lease = object("Lease", json!({"spec": {"holderIdentity": "me", "leaseDurationSeconds": 0}}));
    lease["apiVersion"] = json!("coordination.k8s.io/v1");
    assert_eq!(row(&lease), "x | me | <unknown>");
    assert_eq!(errors(lease), ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]);
}
