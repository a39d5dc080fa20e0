//! The C library as an application sees it: loaded, called through the function list, forked, with the daemon
//! coming and going.

#![allow(clippy::macro_metavars_in_unsafe, reason = "the application's calls are what is unsafe")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod arguments;
mod authentication;
mod bad_input;
mod bad_templates;
mod basics;
mod built_in;
mod cost;
mod crowd;
mod derived;
mod dual;
mod encryption;
mod ends;
mod events;
mod fork;
mod hostile;
mod in_parts;
mod in_the_middle;
mod lost;
mod messages;
mod ml_dsa;
mod ml_kem;
mod nodes;
mod objects;
mod outage;
mod pins;
mod private_keys;
mod restrictions;
mod session_ends;
mod session_objects;
mod sessions;
mod signatures;
mod streams;
mod uses;
mod wrapping;

use cryptoki_sys::*;
use support::application::Application;
use support::{Daemon, USER, in_own_process, in_process_with};

/// Runs one of the scenarios below, in the process that [`in_own_process`] starts for it.
#[test]
#[ignore = "the other tests run it, each in a process of its own"]
fn scenario() {
    let Some((name, daemon)) = support::scenario() else { return };
    match name.as_str() {
        "null pointers" => arguments::null_pointers(&daemon),
        "basics" => basics::basics(&daemon),
        "bad input" => bad_input::table(&daemon),
        "bad templates" => bad_templates::table(&daemon),
        "sessions" => sessions::sessions(&daemon),
        "built in" => built_in::built_in(&daemon),
        "token" => built_in::token(&daemon),
        "uses" => uses::uses(&daemon),
        "pins" => pins::pins(&daemon),
        "initialized tokens" => pins::initialized(&daemon),
        "cancelled" => pins::cancelled(&daemon),
        "objects" => objects::objects(&daemon),
        "life of session objects" => session_objects::life(&daemon),
        "session objects after a restart" => session_objects::restart(daemon),
        "session objects in children" => session_ends::in_children(&daemon),
        "session objects of a sealed node" => session_ends::sealed(&daemon),
        "session objects of a deleted user" => session_ends::of_a_deleted_user(&daemon),
        "unapproved session objects" => session_ends::unapproved(&daemon),
        "in parts" => in_parts::in_parts(&daemon),
        "several operations" => authentication::several_operations(&daemon),
        "derived" => derived::derived(&daemon),
        "deleted partition" => sessions::deleted_partition(&daemon),
        "streams" => streams::streams(&daemon),
        "copies" => session_objects::copies(&daemon),
        "readable keys" => session_objects::readable(&daemon),
        "templates" => objects::templates(&daemon),
        "wrapping" => wrapping::wrapping(&daemon),
        "signatures" => signatures::signatures(&daemon),
        "vectors" => encryption::vectors(&daemon),
        "encryption" => encryption::encryption(&daemon),
        "dual" => dual::dual(&daemon),
        "saved digests" => dual::saved_digests(&daemon),
        "digested keys" => dual::digested_keys(&daemon),
        "known signatures" => dual::known_signatures(&daemon),
        "messages" => messages::messages(&daemon),
        "canceled in hand" => messages::canceled_in_hand(&daemon),
        "events" => events::events(daemon),
        "allowed mechanisms" => restrictions::allowed_mechanisms(&daemon),
        "always authenticate" => restrictions::always_authenticate(&daemon),
        "recovery" => restrictions::recovery(&daemon),
        "templates of other keys" => restrictions::templates(&daemon),
        "without log-in" => restrictions::without_log_in(&daemon),
        "ml-dsa" => ml_dsa::signatures(&daemon),
        "ml-kem" => ml_kem::secrets(&daemon),
        "derivation" => private_keys::derivation(&daemon),
        "decryption" => private_keys::decryption(&daemon),
        "closed while logging in" => sessions::closed_while_logging_in(&daemon),
        "initialized while finalized" => sessions::initialized_while_finalized(&daemon),
        "fork without module" => fork::fork_without_module(&daemon),
        "hung" => outage::hung(daemon),
        "hung signature" => outage::hung_signature(daemon),
        "allocations" => cost::allocations(&daemon),
        "system calls" => cost::system_calls(&daemon),
        "crowd" => crowd::crowd(daemon),
        "a thousand sessions" => crowd::sessions(&daemon),
        "another user" => ends::another_user(&daemon),
        "finalized while signing" => ends::finalized_while_signing(&daemon),
        "out of descriptors" => outage::out_of_descriptors(&daemon),
        "endless pages" => hostile::endless_pages(daemon),
        "broken log-in" => hostile::broken_log_in(daemon),
        "hung log-in" => hostile::hung_log_in(daemon),
        "fork" => fork::fork(&daemon),
        "fork while busy" => fork::fork_while_busy(&daemon),
        "two nodes" => nodes::two_nodes(daemon),
        "lost answers" => lost::lost_answers(daemon),
        "restart" => outage::restart(daemon),
        "restart in the middle" => in_the_middle::restart(daemon),
        "password changed" => outage::password_changed(daemon),
        "away" => outage::away(daemon),
        other => panic!("no scenario {other}"),
    }
}

macro_rules! scenarios {
    ($($test:ident: $name:literal;)*) => {$(
        #[test]
        fn $test() {
            in_own_process($name);
        }
    )*};
}

scenarios! {
    null_pointers_are_errors: "null pointers";
    what_every_application_asks_first: "basics";
    bad_input_gets_what_the_standard_names: "bad input";
    wrong_templates_get_what_the_standard_names_in_every_function: "bad templates";
    sessions_and_log_in_follow_the_standard: "sessions";
    what_the_module_is_stands_in_objects: "built in";
    a_token_says_what_is_so: "token";
    each_use_of_each_mechanism_is_as_its_flags_say: "uses";
    pins_are_set_by_those_whose_they_are: "pins";
    a_token_is_initialized_and_nothing_destroyed: "initialized tokens";
    what_is_cancelled_ends_and_nothing_else: "cancelled";
    objects_are_found_and_read_attribute_by_attribute: "objects";
    wrong_templates_are_refused: "templates";
    session_objects_live_as_long_as_their_session: "life of session objects";
    session_objects_survive_the_daemon: "session objects after a restart";
    session_objects_are_not_a_childs: "session objects in children";
    session_objects_are_back_after_the_node_was_sealed: "session objects of a sealed node";
    session_objects_end_with_their_user: "session objects of a deleted user";
    session_objects_are_approved_in_fips_state_2: "unapproved session objects";
    objects_are_copied: "copies";
    keys_are_read_by_those_who_made_them_for_that: "readable keys";
    signatures_are_made_in_parts_and_verified: "signatures";
    keys_leave_and_enter_wrapped: "wrapping";
    nist_vectors_come_out: "vectors";
    messages_are_encrypted_and_decrypted: "encryption";
    two_operations_take_the_same_part: "dual";
    keys_say_what_is_derived_of_them: "derived";
    a_deleted_partition_is_not_present: "deleted partition";
    who_asks_for_a_size_goes_on_and_a_message_has_one_end: "in parts";
    a_password_is_for_the_operation_that_waits_for_it: "several operations";
    a_digest_is_saved_and_goes_on_elsewhere: "saved digests";
    keys_are_digested_if_they_can_be_read: "digested keys";
    a_signature_may_be_known_before_the_data: "known signatures";
    messages_have_ivs_and_tags_beside_them: "messages";
    messages_end_while_a_call_has_them: "canceled in hand";
    who_waits_for_slots_is_told_of_partitions: "events";
    a_key_is_used_with_the_mechanisms_that_it_allows: "allowed mechanisms";
    a_key_asks_for_the_password_each_time: "always authenticate";
    what_was_signed_is_recovered: "recovery";
    a_key_is_for_keys_that_fit_its_template: "templates of other keys";
    public_keys_are_used_without_a_log_in: "without log-in";
    rsa_keys_decrypt_if_they_may: "decryption";
    secrets_are_derived_and_end_with_their_session: "derivation";
    ml_dsa_signs_what_others_verify: "ml-dsa";
    ml_kem_shares_secrets_with_others: "ml-kem";
    a_child_starts_anew_and_leaves_its_parent_alone: "fork";
    a_log_in_ends_with_the_last_session_even_if_it_comes_later: "closed while logging in";
    a_process_initializes_while_another_thread_finalizes: "initialized while finalized";
    what_is_closed_is_closed_in_children_too: "fork without module";
    nobody_waits_long_to_log_out: "hung";
    a_signature_of_a_hung_daemon_has_a_deadline: "hung signature";
    many_threads_sign_while_the_daemon_restarts: "crowd";
    a_thousand_sessions_of_two_hundred_threads: "a thousand sessions";
    nobody_signs_as_who_has_logged_out: "another user";
    a_process_finalizes_while_other_threads_sign: "finalized while signing";
    calls_share_connections_when_descriptors_are_scarce: "out of descriptors";
    a_search_ends_whatever_the_daemon_says: "endless pages";
    a_password_is_sent_once_for_each_log_in: "broken log-in";
    a_hung_log_in_holds_up_all_threads_once: "hung log-in";
    a_fork_while_other_threads_sign_blocks_nobody: "fork while busy";
    what_was_made_and_not_answered_is_made_once: "lost answers";
    a_restart_of_the_daemon_is_not_noticed: "restart";
    a_restart_in_the_middle_of_operations_is_not_noticed: "restart in the middle";
    a_password_that_no_longer_fits_is_tried_once: "password changed";
    a_daemon_that_is_away_is_an_error_until_it_is_back: "away";
}

#[test]
fn what_one_node_has_is_asked_of_it() {
    support::with_two_nodes("two nodes");
}

#[test]
fn a_signature_allocates_nothing() {
    for channel in ["on", "off"] {
        cost::counting_allocations(|preload| {
            in_process_with("allocations", &[("LD_PRELOAD", preload), ("STRONGROOM_CHANNEL", channel)]);
        });
    }
}

#[test]
fn long_data_are_kept_nowhere() {
    in_process_with("streams", &[(streams::SIZE, "16")]);
}

#[test]
#[ignore = "a GiB through each function takes minutes; 16 MiB go through by default"]
fn a_gibibyte_is_kept_nowhere() {
    in_process_with("streams", &[(streams::SIZE, "1024")]);
}

#[test]
fn a_signature_takes_two_system_calls() {
    for channel in ["on", "off"] {
        in_process_with("system calls", &[("STRONGROOM_CHANNEL", channel)]);
    }
}

/// A partition and an application with a writable session on it, logged in.
fn logged_in(daemon: &Daemon) -> (Application, u32, CK_SESSION_HANDLE) {
    let slot = daemon.create_partition("tls");
    let application = Application::load();
    application.initialize();
    let session = application.open_writable(slot);
    assert_eq!(application.login(session, CKU_USER, USER.1), CKR_OK);
    (application, slot, session)
}
