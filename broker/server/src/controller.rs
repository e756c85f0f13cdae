// SPDX-License-Identifier: Apache-2.0
//! The controller in this process: one thread that carries out commands in order, as each waits for the disk. Other
//! brokers will forward their commands to it. It must not know requests.
use std::sync::Arc;

use odradek_metadata::{Command, Controller, ControllerError, Image, Reply};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;

/// Commands that wait. Each is one client's request, and its fsync takes a few ms: 256 is a second's work.
const WAITING_COMMANDS: usize = 256;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControllerUnavailable {
    /// The controller's log refused it, or it does not lead.
    #[error(transparent)]
    Refused(#[from] ControllerError),
    /// It has stopped.
    #[error("the controller has stopped")]
    Stopped,
}

#[derive(Debug)]
enum Ask {
    Command(Command, oneshot::Sender<Result<Reply, ControllerError>>),
    Stop(oneshot::Sender<()>),
}

/// The way to the controller. Clones lead to the same one.
#[derive(Debug, Clone)]
pub struct ControllerHandle {
    commands: mpsc::Sender<Ask>,
}

/// What the thread needs.
#[derive(Debug)]
pub struct ControllerInbox {
    commands: mpsc::Receiver<Ask>,
}

/// A way to a controller that is yet to be run.
pub fn channel() -> (ControllerHandle, ControllerInbox) {
    let (sender, receiver) = mpsc::channel(WAITING_COMMANDS);
    (ControllerHandle { commands: sender }, ControllerInbox { commands: receiver })
}

impl ControllerHandle {
    /// Has a command carried out; the reply comes when it is committed and this broker has applied it.
    pub async fn ask(&self, command: Command) -> Result<Reply, ControllerUnavailable> {
        let (sender, receiver) = oneshot::channel();
        self.commands.send(Ask::Command(command, sender)).await.map_err(|_| ControllerUnavailable::Stopped)?;
        Ok(receiver.await.map_err(|_| ControllerUnavailable::Stopped)??)
    }

    /// Ends the controller after the commands that wait; returns when its files are closed.
    pub async fn stop(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.commands.send(Ask::Stop(sender)).await.is_ok() {
            let _ = receiver.await;
        }
    }
}

impl ControllerInbox {
    /// Carries out commands until every handle is gone or the log fails. `publish` gets each new image before the
    /// reply is sent; `failed` a fatal error. Blocks.
    pub fn run(
        mut self,
        mut controller: Controller,
        clock: &dyn Clock,
        publish: impl Fn(Arc<Image>),
        failed: impl Fn(String),
    ) {
        while let Some(ask) = self.commands.blocking_recv() {
            let (command, reply) = match ask {
                Ask::Command(command, reply) => (command, reply),
                Ask::Stop(done) => {
                    drop(controller);
                    let _ = done.send(());
                    return;
                }
            };
            let before = controller.image().end_offset();
            let outcome = controller.execute(&command, clock.now_ms());
            let image = controller.image();
            if image.end_offset() != before {
                publish(image);
            }
            if let Err(ControllerError::Log(error)) = &outcome
                && error.is_fatal()
            {
                failed(format!("metadata log: {error}"));
                return;
            }
            // Nobody listens any more if the client has gone.
            let _ = reply.send(outcome);
        }
    }
}
