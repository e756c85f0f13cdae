// SPDX-License-Identifier: Apache-2.0
//! What `odradek dev` prints once all brokers serve: a line for people, or one for scripts. Nothing else.
use std::io::Write as _;

use super::Output;
use super::cluster::Cluster;
use super::control::ControlSocket;
use super::plan::Plan;

pub(super) fn announce(
    output: Output,
    plan: &Plan,
    cluster: &Cluster,
    temporary: bool,
    control: Option<&ControlSocket>,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let bootstrap = plan.bootstrap();
    match output {
        Output::Json => {
            let line = serde_json::json!({
                "event": "ready",
                "bootstrapServers": bootstrap,
                "http": plan.brokers[0].config.http.map(|address| address.to_string()),
                "dataDir": plan.folder.to_string_lossy(),
                "temporary": temporary,
                "pid": std::process::id(),
                "control": control.map(|control| control.path().to_string_lossy()),
                "brokers": cluster.list(),
            });
            writeln!(out, "{line}")?;
        }
        Output::Text => {
            let fate = if temporary { "temporary" } else { "kept" };
            let folder = plan.folder.display();
            writeln!(out, "odradek dev is ready: BOOTSTRAP_SERVERS={bootstrap}  (data {fate}: {folder})")?;
            writeln!(out, "\nTry it from another terminal:")?;
            writeln!(out, "  echo hello | kcat -b {bootstrap} -t greetings -P")?;
            writeln!(out, "  kcat -b {bootstrap} -t greetings -C -e")?;
            if plan.brokers.len() > 1 && control.is_some() {
                writeln!(out, "\nSee how an application takes the loss of a broker:")?;
                writeln!(out, "  odradek dev broker list")?;
                writeln!(out, "  odradek dev broker kill 1")?;
                writeln!(out, "  odradek dev broker restart 1")?;
            }
            writeln!(out, "\nCtrl-C stops it.")?;
        }
    }
    out.flush()?;
    Ok(())
}
