//! What is answered to whom.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use strongroom_protocol::v1::NodeState;

use super::Peer;
use super::state::{State, state_name};
use crate::metrics;
use crate::service::Service;
use crate::vault::Slot;

const PAGE: &str = include_str!("page/index.html");
const SCRIPT: &str = include_str!("page/page.js");
const STYLE: &str = include_str!("page/page.css");

type Answer = Response<Full<Bytes>>;

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything comes from here, nothing is embedded elsewhere, and nothing is sent anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn answer(service: &Arc<Service>, request: &Request<Incoming>, peer: Peer) -> Answer {
    let host = request.headers().get(header::HOST).map(HeaderValue::to_str);
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut answer = match request.uri().path() {
        _ if !is_read => {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Nothing can be changed here.\n");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            answer
        }
        // A page of somewhere else whose name was made to mean this machine (DNS rebinding) says that name.
        _ if peer.is_local && peer.is_network && !matches!(host, Some(Ok(host)) if is_loopback(host)) => {
            text(
                StatusCode::FORBIDDEN,
                "Ask for 127.0.0.1, [::1] or localhost: under another name this is not answered.\n",
            )
        }
        "/metrics" => match metrics::text(service) {
            Ok(metrics) => with_type(StatusCode::OK, OPEN_METRICS, metrics),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "The metrics could not be written.\n"),
        },
        "/" if peer.is_local => with_type(StatusCode::OK, "text/html; charset=utf-8", PAGE),
        "/page.js" if peer.is_local => with_type(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT),
        "/page.css" if peer.is_local => with_type(StatusCode::OK, "text/css; charset=utf-8", STYLE),
        "/state.json" if peer.is_local => state(service, request),
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => ready(service),
        _ => text(StatusCode::NOT_FOUND, "There are /, /metrics, /healthz and /readyz here.\n"),
    };
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    answer
}

/// What the page asks for, with the keys that the holder of its pass may see.
fn state(service: &Service, request: &Request<Incoming>) -> Answer {
    let authorization = request.headers().get(header::AUTHORIZATION);
    let pass = authorization.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let holder = pass.and_then(|pass| service.passes.holder(pass, Instant::now()));
    match serde_json::to_vec(&State::of(service, holder.as_ref())) {
        Ok(json) => with_type(StatusCode::OK, "application/json", json),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "The state could not be written.\n"),
    }
}

/// Whether a Host header names this machine as a person at it would.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || literal.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn text(status: StatusCode, what: &str) -> Answer {
    with_type(status, TEXT, what.to_owned())
}

fn with_type(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Whether there are keys to sign with. What is wrong otherwise is said, and has metrics.
fn ready(service: &Service) -> Answer {
    let state = service.vault.node_state();
    // One that waits for etcd says why below.
    if !matches!(state, NodeState::Open | NodeState::Waiting) {
        let said = format!("the node is {}\n", state_name(state));
        return text(StatusCode::SERVICE_UNAVAILABLE, &said);
    }
    if let Err(closed) = service.vault.ready() {
        return text(StatusCode::SERVICE_UNAVAILABLE, &format!("{closed}\n"));
    }
    let slots = service.vault.slots();
    let damaged = slots.iter().filter(|slot| matches!(slot, Slot::Damaged { .. })).count();
    let mut lines = String::new();
    if damaged > 0 {
        lines.push_str(&format!("{damaged} of {} partitions are damaged and not used\n", slots.len()));
    }
    if service.vault.commits().is_failing() {
        lines.push_str("the store cannot be written: changes are refused, signatures are made\n");
    }
    if let Ok(standing) = service.vault.standing()
        && !standing.cluster.is_empty()
        && !standing.majority
    {
        let left = standing.lease_left_millis / 1000;
        lines.push_str(&format!(
            "no majority of etcd's members answers: changes are refused, keys are used for {left} s more\n"
        ));
    }
    match damaged > 0 && damaged == slots.len() {
        true => text(StatusCode::SERVICE_UNAVAILABLE, &lines),
        false => text(StatusCode::OK, &format!("ready\n{lines}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_this_machine_are_answered() {
        for own in
            ["127.0.0.1", "127.0.0.1:9823", "localhost:80", "LOCALHOST", "[::1]:9823", "[::1]", "127.1.2.3:1"]
        {
            assert!(is_loopback(own), "{own}");
        }
        for other in [
            "",
            "evil.example",
            "evil.example:9823",
            "localhost.evil.example",
            "192.0.2.1:9823",
            "127.0.0.1.evil.example",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
