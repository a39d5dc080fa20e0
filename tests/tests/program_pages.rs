//! Other people's programs with our PKCS#11 module and provider: the commands on the pages in docs/programs/.
// A panic is a test's report.
#![allow(clippy::unwrap_used, clippy::panic)]

use strongroom_tests::bind;
use strongroom_tests::page::Page;
use strongroom_tests::python;
use strongroom_tests::servers::postgresql;

fn run(page: Page) {
    page.run().unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn pkcs11_tool() {
    run(Page::new("programs/pkcs11-tool.md"));
}

#[test]
fn p11_kit_and_gnutls() {
    run(Page::new("programs/gnutls.md").as_nobody());
}

#[test]
fn openssh() {
    run(Page::new("programs/openssh.md"));
}

#[test]
fn nss() {
    run(Page::new("programs/nss.md"));
}

#[test]
fn curl() {
    run(Page::new("programs/curl.md"));
}

#[test]
fn an_authority_of_openssl() {
    run(Page::new("programs/openssl-ca.md"));
}

#[test]
fn osslsigncode() {
    run(Page::new("programs/osslsigncode.md"));
}

#[test]
fn pyhanko() {
    let python = python::environment("pyhanko").unwrap();
    run(Page::new("programs/pyhanko.md").with_programs(python));
}

#[test]
fn python_pkcs11() {
    let python = python::environment("python-pkcs11").unwrap();
    run(Page::new("programs/python-pkcs11.md").with_programs(python));
}

/// PostgreSQL refuses to run as root.
#[test]
fn postgresql() {
    let programs = postgresql::programs().unwrap();
    run(Page::new("programs/postgresql.md").as_nobody().with_programs(programs));
}

#[test]
fn dnssec() {
    let programs = bind::programs().unwrap();
    run(Page::new("programs/dnssec.md").with_programs(programs));
}

#[test]
fn java() {
    run(Page::new("programs/java.md"));
}

#[test]
fn openvpn() {
    run(Page::new("programs/openvpn.md").as_nobody());
}

#[test]
fn strongswan() {
    run(Page::new("programs/strongswan.md"));
}

#[test]
fn systemd_cryptenroll() {
    run(Page::new("programs/systemd-cryptenroll.md").as_nobody());
}

#[test]
fn sbsign() {
    run(Page::new("programs/sbsign.md"));
}

#[test]
fn gnupg() {
    run(Page::new("programs/gnupg.md").as_nobody());
}
