// SPDX-License-Identifier: Apache-2.0
//! The cluster itself: a StatefulSet's pod gets its volume, and gets the same one after it was deleted.

use std::time::Duration;

use anyhow::{Result, ensure};
use odradek_e2e::cluster::Cluster;
use odradek_e2e::wait::until;

const PATIENCE: Duration = Duration::from_mins(1);

const MANIFEST: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: placeholder}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: placeholder}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, namespace: placeholder}
spec:
  serviceName: web
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: pause
        image: localhost/odradek-pause:1
        imagePullPolicy: Never
        resources: {requests: {cpu: 10m, memory: 8Mi}, limits: {cpu: 100m, memory: 16Mi}}
        securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10Mi}}}
";

pub(crate) async fn stateful_set_keeps_its_volume(cluster: &Cluster) -> Result<()> {
    cluster.apply(MANIFEST).await?;
    let ready = async || {
        let count = get(cluster, "statefulset/web", "{.status.readyReplicas}").await?;
        ensure!(count == "3", "{count:?} of 3 pods are ready");
        Ok(())
    };
    until("three pods run", PATIENCE, ready).await?;
    let nodes = get(cluster, "pods", "{.items[*].spec.nodeName}").await?;
    let mut nodes: Vec<&str> = nodes.split_whitespace().collect();
    nodes.sort_unstable();
    ensure!(nodes == ["node-1", "node-2", "node-3"], "one pod per zone, but they are on {nodes:?}");

    let volume = get(cluster, "pvc/data-web-1", "{.spec.volumeName}").await?;
    let uid = get(cluster, "pod/web-1", "{.metadata.uid}").await?;
    cluster.kubectl(["-n", "placeholder", "delete", "pod", "web-1", "--wait=false"]).await?;
    until("the pod is replaced", PATIENCE, async || {
        ensure!(get(cluster, "pod/web-1", "{.metadata.uid}").await? != uid, "it is still the old one");
        ready().await
    })
    .await?;
    ensure!(get(cluster, "pvc/data-web-1", "{.spec.volumeName}").await? == volume, "the volume is another one");

    let address = get(cluster, "pod/web-0", "{.status.podIP}").await?;
    until("the pod's name leads to its address", PATIENCE, async || {
        let mut look = cluster.client_command("getent")?;
        look.args(["hosts", "web-0.web.placeholder.svc"]);
        let found = odradek_e2e::command::output(look, PATIENCE).await?;
        ensure!(found.contains(&address), "the pod has {address}, its name {found:?}");
        Ok(())
    })
    .await?;
    cluster.kubectl(["delete", "namespace", "placeholder", "--wait=false"]).await?;
    Ok(())
}

async fn get(cluster: &Cluster, what: &str, path: &str) -> Result<String> {
    let path = format!("jsonpath={path}");
    cluster.kubectl(["-n", "placeholder", "get", what, "-o", &path]).await
}
