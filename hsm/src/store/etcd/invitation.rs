//! What lies in etcd for a node that is of no cluster yet: beside the clusters' records, for an hour.

use etcd_client::{Client, PutOptions};

use super::{EtcdStore, ROOT, kv};
use crate::store::StoreError;

/// So long it lies there, in seconds.
const LIFE: i64 = 3600;

fn key(node: &str) -> String {
    format!("{ROOT}join/{node}")
}

impl EtcdStore {
    /// Writes what a node is to find. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoMajority`]; [`StoreError::Failed`] if etcd refuses it.
    pub fn leave_for(&self, node: &str, content: &[u8]) -> Result<(), StoreError> {
        let (key, content) = (key(node), content.to_vec());
        let ask = move |client: Client| {
            let (key, content) = (key.clone(), content.clone());
            async move {
                // One that was granted and not used ends by itself.
                let lease = client.lease_client().grant(LIFE, None).await?.id();
                kv(&client).put(key, content, Some(PutOptions::new().with_lease(lease))).await
            }
        };
        let shared = &self.0;
        shared.link.ask(shared.patience, ask).map(drop).map_err(|trouble| shared.unchanged(trouble))
    }

    /// What lies there for a node. Blocks.
    ///
    /// # Errors
    ///
    /// As [`EtcdStore::leave_for`].
    pub fn left_for(&self, node: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let key = key(node);
        let ask = move |client: Client| {
            let key = key.clone();
            async move { kv(&client).get(key, None).await }
        };
        let shared = &self.0;
        let mut answer =
            shared.link.ask(shared.patience, ask).map_err(|trouble| shared.unchanged(trouble))?;
        Ok(answer.take_kvs().pop().map(|found| found.value().to_vec()))
    }

    /// Deletes what lies there for a node. Blocks.
    ///
    /// # Errors
    ///
    /// As [`EtcdStore::leave_for`].
    pub fn take_away(&self, node: &str) -> Result<(), StoreError> {
        let key = key(node);
        let ask = move |client: Client| {
            let key = key.clone();
            async move { kv(&client).delete(key, None).await }
        };
        let shared = &self.0;
        shared.link.ask(shared.patience, ask).map(drop).map_err(|trouble| shared.unchanged(trouble))
    }
}
