//! The fence around every function that libcrypto calls: what panics in it is that call's failure, and what happens in it
//! can be traced.

use std::any::type_name;
use std::borrow::Cow;
use std::ffi::{c_char, c_int, c_void};

use openssl_sys as ffi;
use strongroom_ffi::fence::guarded;

use crate::bindings::{OSSL_ALGORITHM, OSSL_ITEM, OSSL_PARAM};
use crate::trace;

/// What the functions that libcrypto calls return.
pub trait Outcome {
    /// For the trace: `1`, `0`, `null`, `ok`.
    fn words(&self) -> &'static str;
}

/// Runs the body of a function that libcrypto calls. A panic in it becomes `failure` and an entry on the error queue, and the
/// process lives.
pub fn fence<T: Outcome, F: FnOnce() -> T>(failure: T, body: F) -> T {
    fence_as::<F, T>(failure, body)
}

/// As [`fence`], in the name of the function that the closure `Named` is in: where one function runs the bodies of others.
pub fn fence_as<Named, T: Outcome>(failure: T, body: impl FnOnce() -> T) -> T {
    let call = trace::enter();
    let result = guarded(|| {
        #[cfg(debug_assertions)]
        crate::inject::at_entry();
        body()
    })
    .unwrap_or_else(|| {
        raise(&function(type_name::<Named>()));
        failure
    });
    if let Some(call) = call {
        call.leave(&function(type_name::<Named>()), result.words());
    }
    result
}

/// Where the functions are that work for the contexts of other files.
const OPERATION: &str = "::dispatch::operation::";

/// The function that a closure is in, of the closure's type name: for `a::dispatch::b::sign::{{closure}}`, `b::sign`, and for
/// `a::dispatch::b::c::with<a::dispatch::b::c::sign::{{closure}}>::{{closure}}` too: what `b` is made of is nobody else's concern.
/// What `dispatch::operation` does for a context is that context's:
/// `a::dispatch::operation::free<a::dispatch::b::Context>::{{closure}}` is `b::free`.
fn function(closure: &str) -> Cow<'_, str> {
    let path = closure.split("::{{closure}}").next().unwrap_or(closure);
    if let Some((function, context)) = path.split_once(OPERATION).and_then(|(_, path)| path.split_once('<')) {
        let context = context.split_once("::dispatch::").map_or(context, |(_, context)| context);
        let module = context.split_once("::").map_or(context, |(module, _)| module);
        return format!("{module}::{function}").into();
    }
    // Its own type parameters: `new<a::Rsa>`.
    let path = without_parameters(path);
    let path = path.rsplit('<').next().unwrap_or(path);
    let path = path.split_once("::dispatch::").map_or(path, |(_, path)| path);
    match (path.split_once("::"), path.rsplit_once("::")) {
        (Some((module, rest)), Some((_, name))) if rest != name => format!("{module}::{name}").into(),
        _ => path.into(),
    }
}

/// A path without the type parameters at its end, which may have some of their own.
fn without_parameters(path: &str) -> &str {
    let mut depth = 0usize;
    for (at, letter) in path.char_indices().rev() {
        match letter {
            '>' => depth += 1,
            '<' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return if letter == '<' { path.get(..at).unwrap_or(path) } else { path };
        }
    }
    path
}

/// Puts a panic on the calling thread's error queue. It goes there directly: what panicked may be the way to the provider.
fn raise(name: &str) {
    trace::error(format_args!("panic in {name}"));
    let Ok(name) = std::ffi::CString::new(name) else { return };
    // SAFETY: the strings are NUL-terminated, and the format takes the one string that follows it. The queue copies the text.
    unsafe {
        ffi::ERR_new();
        ffi::ERR_set_debug(c"strongroom".as_ptr(), 0, c"".as_ptr());
        ffi::ERR_set_error(
            ERR_LIB_PROV,
            ERR_R_INTERNAL_ERROR,
            c"strongroom: internal error in %s; the call failed, nothing else is affected. Please report it"
                .as_ptr(),
            name.as_ptr(),
        );
    }
}

/// openssl/err.h
const ERR_LIB_PROV: c_int = 57;
/// openssl/err.h: 259, with the flags of all reasons that every library has, ERR_RFLAG_FATAL and ERR_RFLAG_COMMON.
const ERR_R_INTERNAL_ERROR: c_int = 259 | (0x1 << 18) | (0x2 << 18);

impl Outcome for c_int {
    fn words(&self) -> &'static str {
        match self {
            0 => "0",
            1 => "1",
            _ => "another number",
        }
    }
}

impl Outcome for () {
    fn words(&self) -> &'static str {
        "done"
    }
}

macro_rules! pointers {
    ($($kind:ty),*) => {
        $(impl Outcome for $kind {
            fn words(&self) -> &'static str {
                if self.is_null() { "null" } else { "an object" }
            }
        })*
    };
}

pointers!(*mut c_void, *const c_char, *mut *const c_char);

impl<T: Listed> Outcome for *const T {
    fn words(&self) -> &'static str {
        if self.is_null() { "null" } else { "a list" }
    }
}

/// What libcrypto gets lists of.
pub trait Listed {}
impl Listed for OSSL_ALGORITHM {}
impl Listed for OSSL_ITEM {}
impl Listed for OSSL_PARAM {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_named() {
        fn named<F: FnOnce()>(_: F) -> Cow<'static, str> {
            function(type_name::<F>())
        }
        assert_eq!(named(|| ()), "strongroom_provider::functions_are_named");
        for (closure, name) in [
            ("a::dispatch::b::sign::{{closure}}", "b::sign"),
            ("a::dispatch::b::new<a::dispatch::Rsa>::{{closure}}", "b::new"),
            ("a::dispatch::b::with<a::dispatch::b::sign::{{closure}}>::{{closure}}", "b::sign"),
            ("a::dispatch::b::derive<a::dispatch::b::Context<false>>::{{closure}}", "b::derive"),
            ("a::dispatch::operation::free<a::dispatch::b::Context<false>>::{{closure}}", "b::free"),
            ("a::dispatch::operation::free<a::dispatch::b::Context>::{{closure}}", "b::free"),
            ("a::dispatch::operation::free<a::dispatch::b::c::Context>::{{closure}}", "b::free"),
            ("a::dispatch::b::c::with<a::dispatch::b::d::sign::{{closure}}>::{{closure}}", "b::sign"),
        ] {
            assert_eq!(function(closure), name);
        }
    }
}
