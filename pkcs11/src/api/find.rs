//! Searching for objects (PKCS#11 3.0, 5.7).

use std::time::{Duration, Instant};

use cryptoki_sys::*;
use strongroom_ffi::output::Length;
use strongroom_ffi::pointer;
use strongroom_protocol::v1::{FindObjects, request::Op, response};

use super::place;
use crate::built_in::BuiltIn;
use crate::call::{Access, Repeat};
use crate::error::{Outcome, lock};
use crate::handles::MAX_HANDLES;
use crate::key::Family;
use crate::object::{self, Object};
use crate::state::Process;
use crate::template::Template;
use crate::token::Token;

/// The most answers that a search takes. The daemon's have up to about 64 KiB each.
const MAX_PAGES: usize = 1 << 14;

/// How long a search may take in all.
const DEADLINE: Duration = Duration::from_secs(60);

/// The results of a search that have not been handed out, the next one last.
#[derive(Debug)]
pub struct Find {
    rest: Vec<CK_OBJECT_HANDLE>,
}

/// `C_FindObjectsInit`: the daemon filters by what it knows (class, label, id), we by the rest. Session objects follow.
/// Profiles and mechanisms are found by their class (`CKO_PROFILE`, `CKO_MECHANISM`) only.
pub unsafe fn find_objects_init(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> Outcome {
    // SAFETY: by the module's contract.
    let template = unsafe { Template::read(template, count) }?;
    let session = process.sessions.get(session)?;
    if lock(&session.active).find.is_some() {
        return Err(CKR_OPERATION_ACTIVE);
    }
    let mut rest = match filter(&template) {
        Some(filter) => search(process, &session.token, &template, filter)?,
        None => Vec::new(),
    };
    rest.extend(process.session_objects.find(session.token.partition, &template));
    rest.extend(BuiltIn::find(&session.token, &template));
    rest.reverse();
    lock(&session.active).find = Some(Find { rest });
    Ok(())
}

/// The part of a template that the daemon understands. `None` if no object of a partition can fit.
fn filter(template: &Template<'_>) -> Option<FindObjects> {
    let mut filter = FindObjects::default();
    if let Some(class) = template.number(CKA_CLASS).ok()? {
        filter.class = object::class_from(class).ok()?.into();
    }
    if let Some(key_type) = template.number(CKA_KEY_TYPE).ok()? {
        Family::of_key_type(key_type)?;
    }
    if template.boolean(CKA_TOKEN).ok()? == Some(false) {
        return None;
    }
    if let Some(label) = template.text(CKA_LABEL).ok()? {
        filter.label = label.to_owned();
        filter.label_given = true;
    }
    if let Some(id) = template.bytes(CKA_ID) {
        filter.id = id.to_vec();
        filter.id_given = true;
    }
    Some(filter)
}

fn search(
    process: &'static Process,
    token: &Token,
    template: &Template<'_>,
    mut filter: FindObjects,
) -> Outcome<Vec<CK_OBJECT_HANDLE>> {
    let mut found = Vec::new();
    let until = Instant::now() + DEADLINE;
    // What the daemon lists is a partition, which is not endless.
    for _ in 0..MAX_PAGES {
        let find = || Op::FindObjects(filter.clone());
        let response::Result::Objects(page) = process.call(Access::of(token), Repeat::Safe, find)? else {
            return Err(CKR_DEVICE_ERROR);
        };
        let last = page.objects.last().map(|info| info.object.clone());
        for info in page.objects {
            let object = Object::new(info).ok_or(CKR_DEVICE_ERROR)?;
            if object.matches(template) {
                found.push(process.handles.remember(token.partition, object.into())?);
            }
        }
        match last {
            Some(last) if page.more && last != filter.after => filter.after = last,
            _ => return Ok(found),
        }
        if found.len() >= MAX_HANDLES || Instant::now() >= until {
            break;
        }
    }
    Err(CKR_DEVICE_ERROR)
}

/// `C_FindObjects`.
pub unsafe fn find_objects(
    process: &'static Process,
    session: CK_SESSION_HANDLE,
    list: *mut CK_OBJECT_HANDLE,
    max: CK_ULONG,
    count: *mut CK_ULONG,
) -> Outcome {
    let session = process.sessions.get(session)?;
    // SAFETY: by the module's contract.
    let count = unsafe { place(count) }?;
    let mut active = lock(&session.active);
    let find = active.find.as_mut().ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
    let number = find.rest.len().min(max.to_usize());
    // SAFETY: by the module's contract, for `max` items.
    let list = unsafe { pointer::slice_mut(list, number) }.ok_or(CKR_ARGUMENTS_BAD)?;
    for place in list {
        *place = find.rest.pop().unwrap_or(CK_INVALID_HANDLE);
    }
    *count = CK_ULONG::from_usize(number);
    Ok(())
}

/// `C_FindObjectsFinal`.
pub unsafe fn find_objects_final(process: &'static Process, session: CK_SESSION_HANDLE) -> Outcome {
    let session = process.sessions.get(session)?;
    match lock(&session.active).find.take() {
        Some(_) => Ok(()),
        None => Err(CKR_OPERATION_NOT_INITIALIZED),
    }
}
