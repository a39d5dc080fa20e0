//! What the audit log keeps in the store: its key, and where the logs end.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use strongroom_audit::chain::{Head, hex};

use super::{Vault, VaultError};
use crate::audit::{self, AuditKey};
use crate::failure::Failure;
use crate::store::{Batch, Store};

impl Vault {
    /// The key that signs the audit log, made at the first call, and where the logs ended when that was last noted. Blocks.
    ///
    /// # Errors
    ///
    /// Those of [`Vault::ready`], and STORE: the key that the root names is not there, or a new one cannot be written.
    pub fn audit(&self) -> Result<(AuditKey, BTreeMap<u32, Head>), Failure> {
        let all = self.opened()?;
        let opened = all.own();
        let damaged = |what: String| VaultError::Damaged { location: self.location(), what };
        let mut root = opened.root();
        let mut records = opened.audit.lock().unwrap_or_else(PoisonError::into_inner);
        let key =
            records.key(&opened.node_key()).map_err(|e| damaged(format!("the audit log's key: {e}")))?;
        let heads =
            records.heads(&opened.node_key()).map_err(|e| damaged(format!("the audit log's ends: {e}")))?;
        match key {
            Some(key) if hex(&key.public().to_spki()) == root.audit_key => Ok((key, heads)),
            None if root.audit_key.is_empty() => {
                let key = AuditKey::generate()?;
                let mut changed = root.clone();
                changed.audit_key = hex(&key.public().to_spki());
                let (name, record) = audit::seal_key(&opened.node_key(), &key)?;
                let mut batch = Batch::default();
                batch.put(name.clone(), record.clone());
                opened.write_root(&mut root, changed, batch)?;
                records.note(&name, record);
                Ok((key, heads))
            }
            _ => {
                Err(damaged("the audit log's key is not the one that its root record names".to_owned())
                    .into())
            }
        }
    }

    /// Notes where the audit logs end. Blocks.
    ///
    /// # Errors
    ///
    /// Those of [`Vault::ready`], and STORE.
    pub fn note_audit_heads(&self, heads: &BTreeMap<u32, Head>) -> Result<(), Failure> {
        let all = self.opened()?;
        let opened = all.own();
        let (name, record) = audit::seal_heads(&opened.node_key(), heads)?;
        let mut batch = Batch::default();
        batch.put(name.clone(), record.clone());
        // One after the other, so that what is kept is what is in the store.
        let mut records = opened.audit.lock().unwrap_or_else(PoisonError::into_inner);
        opened.ledger.commit(&batch)?;
        records.note(&name, record);
        Ok(())
    }
}
