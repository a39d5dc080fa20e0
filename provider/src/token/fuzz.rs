//! What the fuzz targets reach of the tokens.

use cryptoki_sys::CK_FUNCTION_LIST;

use super::module::Module;
use super::public::public_key;
use super::session::Sessions;
use crate::openssl::Context;

/// Reads the public half of an object of a token with these functions.
pub fn public_half(functions: &'static CK_FUNCTION_LIST, context: &Context) {
    let module = Module::of(functions);
    let sessions = Sessions::new(1);
    if let Ok(session) = sessions.take(&module, 0) {
        let _ = public_key(&module, &session, 1, context, None);
    }
}
