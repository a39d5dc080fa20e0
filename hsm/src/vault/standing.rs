//! How a node's cluster is, as the node sees it.

use std::sync::Arc;

use strongroom_protocol::v1::{ClusterInfo, ClusterMember};

use super::{Opened, State, Vault, join};
use crate::failure::Failure;

impl Vault {
    /// The cluster, its nodes, and whether it can be reached. Waits for nobody: also while a change waits for etcd.
    ///
    /// # Errors
    ///
    /// Those of [`Vault::ready`] of a node that is not open; not NO_QUORUM.
    pub fn standing(&self) -> Result<ClusterInfo, Failure> {
        let opened = match &*self.state() {
            State::Open(opened) => Arc::clone(opened),
            State::Waiting(waiting) => Arc::clone(&waiting.own),
            _ => {
                self.ready()?;
                return Ok(ClusterInfo::default());
            }
        };
        Ok(self.standing_of(&opened))
    }

    fn standing_of(&self, opened: &Opened) -> ClusterInfo {
        let identity = opened.own().known_identity();
        let public_key = identity.and_then(|identity| identity.public_key().ok());
        let mut info = ClusterInfo {
            node: public_key.map(|key| join::name_of(&key)).unwrap_or_default(),
            etcd: self.joins.iter().flat_map(|cluster| cluster.etcd.endpoints.clone()).collect(),
            ..ClusterInfo::default()
        };
        if let Some(expelled) = opened.own().expelled() {
            (info.expelled_from, info.expelled_by) = (expelled.cluster, expelled.by);
        }
        let Some((membership, cluster)) = opened.own().of_cluster().zip(self.joins.as_ref()) else {
            return info;
        };
        info.cluster = membership.name();
        // One that waits for etcd has nothing of the cluster but its name.
        let Some(store) = &opened.etcd else { return info };
        let members = opened.members().into_iter();
        info.members =
            members.map(|member| ClusterMember { name: member.name, since: member.since }).collect();
        let (alone, lease) = (store.alone_for(), cluster.lease);
        (info.revision, info.lag) = (store.revision(), store.lag());
        info.majority = alone.is_none();
        let alone = alone.unwrap_or_default();
        info.alone_millis = alone.as_millis() as u64;
        info.lease_millis = lease.as_millis() as u64;
        info.lease_left_millis = lease.saturating_sub(alone).as_millis() as u64;
        info
    }
}
