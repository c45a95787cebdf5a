//! What a user does with the stock kubectl.

use skiff_testing::{Cluster, eventually};

use crate::tool::{Kubectl, wat};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      runtimeClassName: wasm
      containers:
      - {name: main, image: localhost/sleep:latest, imagePullPolicy: IfNotPresent}
"#;

fn pod(name: &str, image: &str, args: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  runtimeClassName: wasm\n  \
         restartPolicy: Never\n  containers:\n  - {{name: main, image: \"{image}\", imagePullPolicy: IfNotPresent, args: {args}}}\n"
    )
}

async fn start() -> Option<(Cluster, Kubectl)> {
    let cluster = Cluster::start().await.unwrap();
    let kubectl = Kubectl::of(&cluster)?;
    cluster.load("localhost/sleep:latest", wat("sleep.wat")).await.unwrap();
    cluster.load("localhost/hello:latest", wat("hello.wat")).await.unwrap();
    Some((cluster, kubectl))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_applied_scaled_rolled_out_and_undone() {
    let Some((cluster, k)) = start().await else { return };
    assert_eq!(k.ok_with(&["apply", "-f", "-"], WEB).await, "deployment.apps/web created\n");
    assert_eq!(k.ok_with(&["apply", "-f", "-"], WEB).await, "deployment.apps/web unchanged\n");
    k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]).await;
    k.ok(&["wait", "--for=condition=Available", "deploy/web", "--timeout=60s"]).await;
    assert_eq!(k.ok(&["get", "deploy", "web", "-o", "jsonpath={.status.readyReplicas}"]).await, "2");

    k.ok(&["scale", "deploy/web", "--replicas=3"]).await;
    k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]).await;
    eventually!(k.ok(&["get", "pods", "-l", "app=web", "-o", "name"]).await.lines().count() == 3);

    k.ok(&["set", "env", "deploy/web", "COLOR=blue"]).await;
    k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]).await;
    let history = k.ok(&["rollout", "history", "deployment/web"]).await;
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    k.ok(&["rollout", "undo", "deployment/web"]).await;
    k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]).await;
    let env = k.ok(&["get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].env}"]).await;
    assert_eq!(env, "");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_read_in_every_form() {
    let Some((cluster, k)) = start().await else { return };
    for name in ["a", "b", "c"] {
        k.ok_with(&["apply", "-f", "-"], &pod(name, "localhost/hello:latest", "[]")).await;
    }
    for name in ["a", "b", "c"] {
        k.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", &format!("pod/{name}"), "--timeout=60s"]).await;
    }
    let table = k.ok(&["get", "pods"]).await;
    assert!(table.starts_with("NAME   READY   STATUS      RESTARTS   AGE\na      0/1     Completed   0 "), "{table}");
    let wide = k.ok(&["get", "pods", "-o", "wide"]).await;
    assert!(wide.contains("NODE") && wide.contains("NOMINATED NODE"), "{wide}");
    assert!(k.ok(&["get", "pod", "a", "-o", "yaml"]).await.contains("phase: Succeeded"));
    assert!(k.ok(&["get", "pod", "a", "-o", "json"]).await.contains("\"phase\": \"Succeeded\""));
    let columns = ["get", "pods", "-o", "custom-columns=N:.metadata.name,P:.status.phase"];
    assert_eq!(k.ok(&columns).await, "N     P\na     Succeeded\nb     Succeeded\nc     Succeeded\n");
    assert_eq!(k.ok(&["get", "pods", "-l", "app in (a,c)", "-o", "name"]).await, "pod/a\npod/c\n");
    assert_eq!(k.ok(&["get", "pods", "--field-selector", "metadata.name=b", "-o", "name"]).await, "pod/b\n");
    assert_eq!(k.ok(&["get", "pods", "--field-selector", "status.phase=Running", "-o", "name"]).await, "");
    assert_eq!(k.ok(&["get", "pods", "--chunk-size=1", "-o", "name"]).await, "pod/a\npod/b\npod/c\n");
    assert!(k.ok(&["get", "ns,sa", "-A"]).await.contains("kube-system"));
    assert!(k.ok(&["get", "all"]).await.contains("pod/a"));
    let described = k.ok(&["describe", "pod", "a"]).await;
    for part in ["Status:", "Succeeded", "Reason:       Completed", "Exit Code:    0", "Scheduled", "Started"] {
        assert!(described.contains(part), "no {part:?} in\n{described}");
    }
    assert!(k.ok(&["events", "--for", "pod/a"]).await.contains("Scheduled"));
    assert!(k.ok(&["api-resources"]).await.contains("deployments"));
    assert!(k.ok(&["api-versions"]).await.contains("apps/v1"));
    assert!(k.ok(&["explain", "pod.spec.containers.image"]).await.contains("FIELD: image <string>"));
    assert!(k.ok(&["explain", "deployment.spec", "--recursive"]).await.contains("maxSurge"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_created_and_changed() {
    let Some((cluster, k)) = start().await else { return };
    k.ok(&["create", "namespace", "shop"]).await;
    k.ok(&["create", "configmap", "c", "-n", "shop", "--from-literal=a=1"]).await;
    k.ok(&["create", "secret", "generic", "s", "-n", "shop", "--from-literal=p=w"]).await;
    k.ok(&["create", "deployment", "d", "-n", "shop", "--image=localhost/sleep:latest", "--replicas=0"]).await;
    k.ok(&["create", "job", "j", "-n", "shop", "--image=localhost/hello:latest"]).await;
    k.ok(&["create", "serviceaccount", "robot", "-n", "shop"]).await;
    let get = |path: &'static str| {
        let k = &k;
        async move { k.ok(&["get", "cm", "c", "-n", "shop", "-o", path]).await }
    };
    k.ok(&["patch", "cm", "c", "-n", "shop", "--type=merge", "-p", r#"{"data":{"b":"2"}}"#]).await;
    k.ok(&["patch", "cm", "c", "-n", "shop", "--type=json", "-p", r#"[{"op":"remove","path":"/data/a"}]"#]).await;
    k.ok(&["patch", "cm", "c", "-n", "shop", "-p", r#"{"data":{"c":"3"}}"#]).await;
    assert_eq!(get("jsonpath={.data}").await, r#"{"b":"2","c":"3"}"#);
    k.ok(&["label", "cm", "c", "-n", "shop", "tier=back"]).await;
    k.ok(&["annotate", "cm", "c", "-n", "shop", "note=x"]).await;
    assert_eq!(get("jsonpath={.metadata.labels.tier}{.metadata.annotations.note}").await, "backx");
    let applied = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\ndata: {b: \"9\"}\n";
    let conflict = k.fails(&["apply", "--server-side", "-f", "-"], applied).await;
    assert!(conflict.contains("conflict"), "{conflict}");
    k.ok_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], applied).await;
    assert_eq!(get("jsonpath={.data}").await, r#"{"b":"9","c":"3"}"#);
    let mut edit = k.command(&["edit", "cm", "c", "-n", "shop"]);
    edit.env("KUBE_EDITOR", "sed -i s/back/front/");
    let done = crate::tool::finish(edit, "").await;
    assert!(done.ok, "{}", done.stderr);
    assert_eq!(get("jsonpath={.metadata.labels.tier}").await, "front");
    k.ok(&["delete", "namespace", "shop", "--timeout=60s"]).await;
    assert!(k.fails(&["get", "ns", "shop"], "").await.contains("NotFound"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_cascades_as_asked() {
    let Some((cluster, k)) = start().await else { return };
    for (mode, left) in [("background", 0), ("foreground", 0), ("orphan", 2)] {
        k.ok_with(&["apply", "-f", "-"], WEB).await;
        k.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]).await;
        k.ok(&["delete", "deploy", "web", &format!("--cascade={mode}"), "--timeout=60s"]).await;
        let sets = usize::from(left > 0);
        eventually!(k.ok(&["get", "rs", "-o", "name"]).await.lines().count() == sets, "replica sets after {mode}");
        eventually!(k.ok(&["get", "pods", "-o", "name"]).await.lines().count() == left, "pods after {mode}");
    }
    k.ok(&["delete", "rs,pods", "--all", "--grace-period=0", "--force", "--timeout=60s"]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_in_every_way() {
    let Some((cluster, k)) = start().await else { return };
    cluster.load("localhost/ticker:latest", crate::tool::wasm("ticker.wasm")).await.unwrap();
    let ticker = pod("t", "localhost/ticker:latest", "[]")
        .replace("args: []", "env: [{name: COUNT, value: '5'}, {name: INTERVAL_MS, value: '20'}]");
    k.ok_with(&["apply", "-f", "-"], &ticker).await;
    eventually!(k.run(&["logs", "t"], "").await.ok);
    let all = "tick 1\ntick 2\ntick 3\ntick 4\ntick 5\n";
    assert_eq!(k.ok(&["logs", "-f", "t"]).await, all);
    assert_eq!(k.ok(&["logs", "t", "-c", "main"]).await, all);
    assert_eq!(k.ok(&["logs", "t", "--tail=2"]).await, "tick 4\ntick 5\n");
    assert_eq!(k.ok(&["logs", "t", "--since=1h"]).await, all);
    let stamped = k.ok(&["logs", "t", "--timestamps", "--tail=1"]).await;
    assert!(stamped.starts_with("20") && stamped.ends_with("Z tick 5\n"), "{stamped}");
    assert!(k.fails(&["logs", "t", "-c", "nope"], "").await.contains("container nope is not valid for pod t"));
    assert!(k.fails(&["logs", "absent"], "").await.contains("NotFound"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_a_clear_answer() {
    let Some((cluster, k)) = start().await else { return };
    let unknown = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nspecc: {}\n";
    assert!(k.fails(&["apply", "-f", "-"], unknown).await.contains("unknown field \"specc\""));
    let warned = k.run(&["apply", "--validate=warn", "-f", "-"], unknown).await;
    assert!(warned.ok && warned.stderr.contains("Warning: unknown field \"specc\""), "{}", warned.stderr);
    let invalid = k.fails(&["apply", "-f", "-"], &pod("Not_A_Name", "localhost/hello:latest", "[]")).await;
    assert!(invalid.contains("is invalid: metadata.name: Invalid value: \"Not_A_Name\""), "{invalid}");
    let kind = k.fails(&["apply", "-f", "-"], "apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}\n").await;
    assert!(kind.contains("no matches for kind \"Nonsense\""), "{kind}");
    assert!(k.fails(&["get", "nonsense"], "").await.contains("the server doesn't have a resource type \"nonsense\""));
    assert!(k.fails(&["get", "pods", "--field-selector", "spec.x=1"], "").await.contains("field label not supported"));
    cluster.stop().await;
}
