// SPDX-License-Identifier: Apache-2.0
//! What goes into a member and what comes out of it.

use std::collections::BTreeSet;

use odradek_model::{BrokerId, ControllerEpoch, DirectoryId, Offset};

use super::message::Message;
use crate::{LeaseChange, LeaseView, Voter, WriteOutcome};

/// A call of the Lease; its outcome carries the same number.
pub type LeaseCall = u64;

/// A broker of the cluster, by the static addresses or by its registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownBroker {
    /// Its id.
    pub broker_id: BrokerId,
    /// Its rack or zone.
    pub rack: Option<String>,
    /// The data folder of its newest committed registration; `None` if it never registered.
    pub registered_folder: Option<DirectoryId>,
}

/// What a member is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Time has come: at the latest at [`super::QuorumMember::wake_at`].
    Tick,
    /// The brokers of the cluster, all of them. At the start and with every change.
    Brokers(Vec<KnownBroker>),
    /// The image of the metadata is loaded; before, the member never takes the Lease (rule 1e).
    ImageLoaded,
    /// A view from a watch or a cache, perhaps an old one.
    LeaseSeen(LeaseView),
    /// The outcome of [`Effect::ReadLease`]: the Lease, `None` if there is none, or why it could not be read.
    LeaseRead(LeaseCall, Result<Option<LeaseView>, String>),
    /// The outcome of [`Effect::WriteLease`]; an error if it was not made, never if that is not certain.
    LeaseWritten(LeaseCall, Result<WriteOutcome, String>),
    /// A message from a peer.
    Received(Message),
    /// A connection to or from the broker was refused or reset.
    ConnectionLost(BrokerId),
    /// The outcome of [`Effect::Probe`].
    Probed(BrokerId, bool),
    /// A clean stop: hand the Lease over.
    Resign,
    /// An administrator's word that these voters are gone for good: recovery no longer waits for them (rule 10). What
    /// only they had may be lost. The empty set takes the word back.
    RecoverWithout(BTreeSet<Voter>),
}

/// What a member wants done. In the order given, except that messages and calls may overtake each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Read the Lease itself, not a cache (in Kubernetes a GET without resourceVersion). Within a deadline, and always
    /// answered by [`Input::LeaseRead`].
    ReadLease(LeaseCall),
    /// Change the Lease if it is still that of the view; without a view, create it if there is none. Within a
    /// deadline, and always answered by [`Input::LeaseWritten`].
    WriteLease {
        /// Number of the call.
        call: LeaseCall,
        /// What it is based on.
        base: Option<LeaseView>,
        /// What it makes of it.
        change: LeaseChange,
    },
    /// Send the message. It may be lost; a refused or reset connection is [`Input::ConnectionLost`].
    Send(BrokerId, Message),
    /// Try to open a connection to the broker, within a second, and tell by [`Input::Probed`].
    Probe(BrokerId),
    /// Records below this offset are committed and on this disk: apply them to the image.
    Committed(Offset),
    /// The broker is controller: its epoch record, and so all of its log, is committed. With `recovered_without` the
    /// record also raised leader epochs, broker epochs and producer ids, and every replica counts as unclean (rule 10).
    Leading {
        /// Since this epoch.
        epoch: ControllerEpoch,
        /// The voters that an administrator declared gone, if this epoch began without them.
        recovered_without: BTreeSet<Voter>,
    },
    /// The broker is not controller any more; what it decided beyond the committed end is void.
    SteppedDown(ControllerEpoch),
    /// A snapshot replaced the log: the image must be loaded anew from storage, up to the committed end.
    ReloadImage,
    /// A clean stop is through: the Lease is released or was another's.
    Resigned,
    /// Stop the process: what is on disk is no longer known, or contradicts what was committed. Nothing follows.
    Stop(String),
}
