//! How long it takes to find a key by its label.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::load;
use crate::options::{Load, Operation, Place};
use crate::report::Report;
use crate::token;

/// Looks keys up again and again. The first look-up of the process, with its log-in and connection, is reported apart.
///
/// # Errors
///
/// When the token cannot be opened.
pub fn run(place: &Place, operation: Operation, keys: u32, load: &Load) -> Result<Report> {
    let (module, tokens) = token::open(place)?;
    let first = tokens.first().context("no token")?;
    let before = Instant::now();
    token::find(&module, first.session, operation, &place.label, keys.saturating_sub(1))?;
    let first_us = before.elapsed().as_secs_f64() * 1e6;
    let mut report = load::run(load, |number| {
        let session = first.open_session(&module)?;
        let module = &module;
        let mut next = number;
        Ok(move || {
            next = next.wrapping_add(1) % keys;
            token::find(module, session, operation, &place.label, next).map(drop)
        })
    })?;
    report.first_us = Some(first_us);
    module.finalize();
    Ok(report)
}
