//! Sessions and keys of one token or several.

use std::fs;

use anyhow::{Context, Result, ensure};
use cryptoki_sys::*;

use crate::module::Module;
use crate::operation;
use crate::options::{Operation, Place};

/// A token that this process is logged in to, if it has to be.
#[derive(Debug, Clone, Copy)]
pub struct Token {
    slot: CK_SLOT_ID,
    /// Keeps the log-in: it ends with the last session.
    pub session: CK_SESSION_HANDLE,
}

/// Loads the module and opens the tokens.
///
/// # Errors
///
/// When an option is missing, or the module or token refuses.
pub fn open(place: &Place) -> Result<(Module, Vec<Token>)> {
    let path = place.module.as_ref().context("--module is missing")?;
    ensure!(!place.token.is_empty(), "--token is missing");
    let pin = match &place.pin_file {
        Some(file) => {
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
        None => None,
    };
    let module = Module::load(path)?;
    let mut tokens = Vec::new();
    for label in &place.token {
        let slot = module.slot(label)?;
        let session = module.open_session(slot)?;
        if let Some(pin) = &pin {
            module.login(session, pin).with_context(|| format!("token {label:?}"))?;
        }
        tokens.push(Token { slot, session });
    }
    Ok((module, tokens))
}

impl Token {
    /// Opens one more session.
    ///
    /// # Errors
    ///
    /// What the module says.
    pub fn open_session(&self, module: &Module) -> Result<CK_SESSION_HANDLE> {
        module.open_session(self.slot)
    }

    /// Finds `count` keys for an operation: the one with the number 0, or any. A search for each by its label would
    /// take minutes where a token looks at all its objects each time.
    ///
    /// # Errors
    ///
    /// When there are fewer.
    pub fn keys(
        &self,
        module: &Module,
        operation: Operation,
        label: &str,
        count: u32,
    ) -> Result<Vec<CK_OBJECT_HANDLE>> {
        if count == 1 {
            return Ok(vec![find(module, self.session, operation, label, 0)?]);
        }
        let (class, kind) =
            (operation::class(operation).to_ne_bytes(), operation::key_type(operation).to_ne_bytes());
        let most = usize::try_from(count)?;
        let found = module.find(self.session, &[(CKA_CLASS, &class), (CKA_KEY_TYPE, &kind)], most)?;
        ensure!(
            found.len() == most,
            "the token has {} of the {count} keys: make them with 'generate {} --count {count}'",
            found.len(),
            operation.name()
        );
        Ok(found)
    }
}

/// Finds the key with the number `number` in a session's token.
///
/// # Errors
///
/// When it is not there.
pub fn find(
    module: &Module,
    session: CK_SESSION_HANDLE,
    operation: Operation,
    label: &str,
    number: u32,
) -> Result<CK_OBJECT_HANDLE> {
    let label = key_label(label, operation, number);
    let class = operation::class(operation).to_ne_bytes();
    let found = module.find(session, &[(CKA_CLASS, &class), (CKA_LABEL, label.as_bytes())], 1)?;
    found
        .first()
        .copied()
        .with_context(|| format!("no key {label:?}: make it with 'generate {} --count N'", operation.name()))
}

/// The label of the key with the number `number`.
pub fn key_label(label: &str, operation: Operation, number: u32) -> String {
    format!("{label}-{}-{number}", operation.name())
}
