//! The tokens: partitions as the daemon lists them, with the process's log-in to each.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use cryptoki_sys::*;
use strongroom_protocol::client::ClientError;
use strongroom_protocol::v1::{
    ErrorCode, ListPartitions, PartitionInfo, PartitionList, Role, request::Op, response,
};

use crate::call::{Access, Repeat};
use crate::error::{Outcome, read, write};
use crate::line::Door;
use crate::login::Login;
use crate::pool::ANONYMOUS;
use crate::state::Process;

/// A partition. Its slot has the partition's number.
#[derive(Debug)]
pub struct Token {
    /// The partition's number.
    pub partition: u32,
    info: RwLock<PartitionInfo>,
    /// The process's log-in.
    pub login: Login,
    /// The channel of that log-in.
    pub door: Door,
}

impl Token {
    /// What the daemon said of it last.
    pub fn info(&self) -> PartitionInfo {
        read(&self.info).clone()
    }

    /// The partition's FIPS state, which never changes.
    pub fn fips_state(&self) -> u32 {
        read(&self.info).fips_state
    }

    /// Whether this process acts as a crypto user without a log-in, because its user id is admitted.
    pub fn is_admitted(&self) -> bool {
        read(&self.info).acting_role() == Role::CryptoUser
    }

    /// Whether this process acts as a crypto user, by a log-in or without.
    pub fn has_user(&self) -> bool {
        self.login.role().map_or_else(|| self.is_admitted(), |role| role == Role::CryptoUser)
    }
}

/// The tokens that were seen.
pub type Tokens = RwLock<BTreeMap<u32, Arc<Token>>>;

impl Process {
    /// Asks the daemon for its partitions.
    ///
    /// # Errors
    ///
    /// What [`Process::call`] says.
    pub fn list_tokens(&'static self) -> Outcome<Vec<Arc<Token>>> {
        let asked = self.on_connection(Access::anonymous(), Repeat::Safe, |pooled| {
            let reply = pooled.connection.call(0, Op::ListPartitions(ListPartitions {}))?;
            match &reply {
                // One that has left its cluster, or was expelled, has none: another node may.
                response::Result::Partitions(list) if list.partitions.is_empty() => {
                    let (code, message) = (ErrorCode::NoSuchPartition, "no partition".to_owned());
                    Err(ClientError::Refused { code, message })
                }
                _ => Ok(reply),
            }
        });
        let list = match asked {
            Ok(response::Result::Partitions(list)) => list,
            Err(CKR_TOKEN_NOT_PRESENT) => PartitionList::default(),
            Ok(_) => return Err(CKR_DEVICE_ERROR),
            Err(code) => return Err(code),
        };
        let mut tokens = write(&self.tokens);
        let mut listed = BTreeMap::new();
        // The number 0 stands for the whole daemon.
        for info in list.partitions.into_iter().filter(|info| info.number != 0) {
            let token = match tokens.get(&info.number) {
                Some(token) => {
                    *write(&token.info) = info;
                    Arc::clone(token)
                }
                None => Arc::new(Token {
                    partition: info.number,
                    info: RwLock::new(info),
                    login: Login::default(),
                    door: Door::default(),
                }),
            };
            listed.insert(token.partition, token);
        }
        let found = listed.values().cloned().collect();
        // One that is gone, but in use, is remembered for its sessions and its log-in to be ended.
        let is_used = |token: &Token| token.login.epoch() != ANONYMOUS || self.sessions.count(token).0 > 0;
        let used = tokens.iter().filter(|(number, token)| !listed.contains_key(number) && is_used(token));
        let used: Vec<_> = used.map(|(number, token)| (*number, Arc::clone(token))).collect();
        listed.extend(used);
        *tokens = listed;
        Ok(found)
    }

    /// The tokens that were seen last, without asking.
    pub fn remembered_tokens(&self) -> Vec<Arc<Token>> {
        read(&self.tokens).values().cloned().collect()
    }

    /// The token in a slot. The daemon is asked only if it was not seen yet.
    ///
    /// # Errors
    ///
    /// `CKR_SLOT_ID_INVALID` if there is none.
    pub fn token(&'static self, slot: CK_SLOT_ID) -> Outcome<Arc<Token>> {
        let number = u32::try_from(slot).map_err(|_| CKR_SLOT_ID_INVALID)?;
        let known = read(&self.tokens).get(&number).cloned();
        match known {
            Some(token) => Ok(token),
            None => self
                .list_tokens()?
                .into_iter()
                .find(|token| token.partition == number)
                .ok_or(CKR_SLOT_ID_INVALID),
        }
    }
}
