//! Deployments and their like, Jobs and CronJobs.

use serde_json::{Value, json};

use crate::{added, created, errors, hooks_of, merge, row, update_errors, yaml};

fn workload(kind: &str, spec: Value) -> Value {
    let api = if matches!(kind, "Job" | "CronJob") { "batch/v1" } else { "apps/v1" };
    let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": "w", "namespace": "default", "uid": "u-1"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template("Always", json!({"a": "b"}))}});
    if kind == "Job" {
        object["spec"] = json!({"template": template("Never", json!({}))});
    }
    if kind == "CronJob" {
        object["spec"] =
            json!({"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": template("Never", json!({}))}}});
    }
    merge(&mut object["spec"], spec);
    object
}

fn template(restart: &str, labels: Value) -> Value {
    json!({"metadata": {"labels": labels}, "spec": {"restartPolicy": restart, "containers": [{"name": "c", "image": "i:1"}]}})
}

/// Defaults of the object itself, without those of its pods.
fn own_defaults(object: Value) -> Vec<String> {
    added(&object, &created(object.clone())).into_iter().filter(|line| !line.contains("emplate.spec.")).collect()
}

#[test]
fn a_deployment_gets_upstreams_defaults() {
    let manifest = yaml(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers: [{name: c, image: 'i:1'}]
",
    );
    assert_eq!(
        added(&manifest, &created(manifest.clone())),
        [
            "spec.progressDeadlineSeconds: 600",
            "spec.replicas: 1",
            "spec.revisionHistoryLimit: 10",
            r#"spec.strategy.rollingUpdate.maxSurge: "25%""#,
            r#"spec.strategy.rollingUpdate.maxUnavailable: "25%""#,
            r#"spec.strategy.type: "RollingUpdate""#,
            r#"spec.template.spec.containers[0].imagePullPolicy: "IfNotPresent""#,
            "spec.template.spec.containers[0].resources: {}",
            r#"spec.template.spec.containers[0].terminationMessagePath: "/dev/termination-log""#,
            r#"spec.template.spec.containers[0].terminationMessagePolicy: "File""#,
            r#"spec.template.spec.dnsPolicy: "ClusterFirst""#,
            r#"spec.template.spec.restartPolicy: "Always""#,
            r#"spec.template.spec.schedulerName: "default-scheduler""#,
            "spec.template.spec.securityContext: {}",
            "spec.template.spec.terminationGracePeriodSeconds: 30",
        ]
    );
}

#[test]
fn what_the_other_workloads_get() {
    assert_eq!(own_defaults(workload("ReplicaSet", json!({}))), ["spec.replicas: 1", "status.replicas: 0"]);
    assert_eq!(
        own_defaults(workload("StatefulSet", json!({}))),
        [
            r#"spec.persistentVolumeClaimRetentionPolicy.whenDeleted: "Retain""#,
            r#"spec.persistentVolumeClaimRetentionPolicy.whenScaled: "Retain""#,
            r#"spec.podManagementPolicy: "OrderedReady""#,
            "spec.replicas: 1",
            "spec.revisionHistoryLimit: 10",
            "spec.updateStrategy.rollingUpdate.maxUnavailable: 1",
            "spec.updateStrategy.rollingUpdate.partition: 0",
            r#"spec.updateStrategy.type: "RollingUpdate""#,
            "status.availableReplicas: 0",
            "status.replicas: 0",
        ]
    );
    assert_eq!(
        own_defaults(workload("CronJob", json!({}))),
        [
            r#"spec.concurrencyPolicy: "Allow""#,
            "spec.failedJobsHistoryLimit: 1",
            "spec.successfulJobsHistoryLimit: 3",
            "spec.suspend: false",
        ]
    );
    assert_eq!(
        own_defaults(workload("DaemonSet", json!({})))[..4],
        [
            "spec.revisionHistoryLimit: 10",
            "spec.updateStrategy.rollingUpdate.maxSurge: 0",
            "spec.updateStrategy.rollingUpdate.maxUnavailable: 1",
            r#"spec.updateStrategy.type: "RollingUpdate""#,
        ]
    );
}

#[test]
fn a_job_is_tied_to_its_pods() {
    assert_eq!(
        own_defaults(workload("Job", json!({}))),
        [
            "spec.backoffLimit: 6",
            r#"spec.completionMode: "NonIndexed""#,
            "spec.completions: 1",
            "spec.manualSelector: false",
            "spec.parallelism: 1",
            r#"spec.podReplacementPolicy: "TerminatingOrFailed""#,
            r#"spec.selector.matchLabels.batch.kubernetes.io/controller-uid: "u-1""#,
            "spec.suspend: false",
            r#"spec.template.metadata.labels.batch.kubernetes.io/controller-uid: "u-1""#,
            r#"spec.template.metadata.labels.batch.kubernetes.io/job-name: "w""#,
            r#"spec.template.metadata.labels.controller-uid: "u-1""#,
            r#"spec.template.metadata.labels.job-name: "w""#,
        ]
    );
    // With parallelism alone, completions stay open: a work queue.
    assert!(created(workload("Job", json!({"parallelism": 3})))["spec"].get("completions").is_none());
    let manual = json!({"manualSelector": true, "selector": {"matchLabels": {"x": "y"}}, "template": template("Never", json!({"x": "y"}))});
    assert_eq!(created(workload("Job", manual.clone()))["spec"]["selector"], manual["selector"]);
    assert_eq!(errors(workload("Job", manual)), Vec::<String>::new());
}

#[test]
fn what_is_wrong_with_a_workload() {
    for (kind, spec, expected) in [
        ("Deployment", json!({}), vec![]),
        ("ReplicaSet", json!({}), vec![]),
        ("StatefulSet", json!({}), vec![]),
        ("DaemonSet", json!({}), vec![]),
        ("Job", json!({}), vec![]),
        ("CronJob", json!({}), vec![]),
        (
            "Deployment",
            json!({"selector": null}),
            vec![
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            "Deployment",
            json!({"selector": {"matchLabels": {"a": "c"}}, "replicas": -1}),
            vec![
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            "Deployment",
            json!({"selector": {}}),
            vec!["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        ),
        (
            "Deployment",
            json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
            vec![
                r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0"#,
            ],
        ),
        (
            "Deployment",
            json!({"strategy": {"rollingUpdate": {"maxSurge": "150%", "maxUnavailable": "150%"}}}),
            vec![r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%"#],
        ),
        (
            "Deployment",
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}, "minReadySeconds": 600}),
            vec![
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
            ],
        ),
        (
            "ReplicaSet",
            json!({"template": template("Never", json!({"a": "b"}))}),
            vec![r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#],
        ),
        (
            "DaemonSet",
            json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}),
            vec![
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ],
        ),
        (
            "StatefulSet",
            json!({"podManagementPolicy": "Random", "volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": {}}]}),
            vec![
                r#"spec.podManagementPolicy: Invalid value: "Random": must be 'OrderedReady' or 'Parallel'"#,
                "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
                "spec.volumeClaimTemplates[0].spec.resources.requests[storage]: Required value",
            ],
        ),
        (
            "Job",
            json!({"template": template("Always", json!({})), "completionMode": "Indexed", "completions": null, "parallelism": 1}),
            vec![
                "spec.completions: Required value: when completion mode is Indexed",
                r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#,
            ],
        ),
        (
            "Job",
            json!({"backoffLimitPerIndex": 1, "template": template("Never", json!({"job-name": "other"}))}),
            vec![
                r#"spec.template.metadata.labels[job-name]: Invalid value: "other": must be 'w'"#,
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
            ],
        ),
        (
            "Job",
            json!({"podFailurePolicy": {"rules": [{"action": "FailJob"}, {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [0, 1], "containerName": "x"}}]}}),
            vec![
                "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
                r#"spec.podFailurePolicy.rules[1].onExitCodes.containerName: Invalid value: "x": must be one of the container or initContainer names in the pod template"#,
                "spec.podFailurePolicy.rules[1].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
            ],
        ),
        (
            "CronJob",
            json!({"schedule": "61 * * * *", "timeZone": "../etc"}),
            vec![
                r#"spec.schedule: Invalid value: "61 * * * *": end of range (61) above maximum (59): 61"#,
                r#"spec.timeZone: Invalid value: "../etc": unknown time zone ../etc"#,
            ],
        ),
    ] {
        assert_eq!(errors(workload(kind, spec.clone())), expected, "{kind} {spec}");
    }
}

#[test]
fn a_statefulset_mounts_its_claims() {
    let mut spec = json!({"volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]});
    spec["template"] = template("Always", json!({"a": "b"}));
    spec["template"]["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    assert_eq!(errors(workload("StatefulSet", spec)), Vec::<String>::new());
}

#[test]
fn what_may_not_change() {
    let other = json!({"selector": {"matchLabels": {"a": "b", "c": "d"}}});
    for kind in ["Deployment", "ReplicaSet", "DaemonSet", "StatefulSet"] {
        assert_eq!(
            update_errors(workload(kind, json!({})), workload(kind, other.clone())),
            [r#"spec.selector: Invalid value: {"matchLabels":{"a":"b","c":"d"}}: field is immutable"#],
            "{kind}"
        );
    }
    let job = |change: Value| {
        let mut new = created(workload("Job", json!({})));
        merge(&mut new["spec"], change);
        new
    };
    let old = || workload("Job", json!({}));
    assert_eq!(
        update_errors(old(), job(json!({"parallelism": 4, "suspend": true, "ttlSecondsAfterFinished": 3}))),
        Vec::<String>::new()
    );
    assert_eq!(
        update_errors(old(), job(json!({"completions": 2}))),
        ["spec.completions: Invalid value: 2: field is immutable"]
    );
    let mut changed = job(json!({}));
    changed["spec"]["template"]["spec"]["nodeSelector"] = json!({"x": "y"});
    let error = update_errors(old(), changed.clone());
    assert!(
        error.len() == 1
            && error[0].starts_with("spec.template: Invalid value: {")
            && error[0].ends_with(": field is immutable"),
        "{error:?}"
    );
    assert_eq!(update_errors(workload("Job", json!({"suspend": true})), changed), Vec::<String>::new());
}

#[test]
fn status_counts() {
    let status = |kind: &str, status: Value| {
        let (mut new, old) = (workload(kind, json!({})), workload(kind, json!({})));
        new["status"] = status;
        (hooks_of(&new).validate_status)(&new, &old).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        status("Deployment", json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 2})),
        [
            "status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
        ]
    );
    assert_eq!(
        status("Job", json!({"active": 1, "ready": 2, "conditions": [{"type": "Complete", "status": "True"}]})),
        [
            "status.completionTime: Required value: completionTime is required for Complete jobs",
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
            "status.ready: Invalid value: 2: cannot set more ready pods than active",
        ]
    );
}

#[test]
fn generations() {
    let generation = |object: &Value| (hooks_of(object).generation_of.unwrap())(object);
    let mut annotated = workload("Deployment", json!({}));
    let before = generation(&annotated);
    annotated["metadata"]["annotations"] = json!({"a": "b"});
    assert_ne!(before, generation(&annotated));
    let mut labelled = workload("ReplicaSet", json!({}));
    let before = generation(&labelled);
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(before, generation(&labelled));
}

#[test]
fn workloads_in_a_table() {
    let mut deployment = workload("Deployment", json!({"replicas": 3}));
    deployment["status"] = json!({"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1});
    assert_eq!(row(&deployment), "w | 1/3 | 2 | 1 | <unknown> | c | i:1 | a=b");
    assert_eq!(row(&workload("ReplicaSet", json!({"replicas": 2}))), "w | 2 | 0 | 0 | <unknown> | c | i:1 | a=b");
    assert_eq!(row(&workload("StatefulSet", json!({"replicas": 2}))), "w | 0/2 | <unknown> | c | i:1");
    assert_eq!(row(&workload("DaemonSet", json!({}))), "w | 0 | 0 | 0 | 0 | 0 | <none> | <unknown> | c | i:1 | a=b");
    let mut job = created(workload("Job", json!({"completions": 20})));
    job["status"] = json!({"succeeded": 7, "startTime": "2026-01-01T00:08:00Z"});
    assert_eq!(row(&job), "w | Running | 7/20 | 2m | <unknown> | c | i:1 | batch.kubernetes.io/controller-uid=u-1");
    job["status"] = json!({"succeeded": 20, "startTime": "2026-01-01T00:08:00Z", "completionTime": "2026-01-01T00:08:05Z",
        "conditions": [{"type": "Complete", "status": "True"}]});
    assert!(row(&job).starts_with("w | Complete | 20/20 | 5s | "));
    assert_eq!(
        row(&created(workload("CronJob", json!({})))),
        "w | */5 * * * * | <none> | false | 0 | <none> | <unknown> | c | i:1 | <none>"
    );
}
