//! The page in a browser: headless Chromium loads it while signatures are made, and sees the numbers move.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod looking;
mod running;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use looking::Looking;
use running::*;
use strongroom_protocol::v1::request::Op;
use strongroom_protocol::v1::*;

/// Runs Chromium with a profile of its own.
fn chromium(home: &Path, arguments: &[&str]) -> String {
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .arg(format!("--user-data-dir={}", home.join("profile").display()))
        .args(arguments)
        .env("HOME", home)
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .stdin(Stdio::null())
        .output()
        .expect("Debian's chromium ('demo/install tests' installs it)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The page after it has asked some ten times.
fn load(looking: &Looking, fragment: &str) -> String {
    let address = format!("http://{}/{fragment}", looking.address);
    chromium(looking.directory.path(), &["--virtual-time-budget=10000", "--dump-dom", &address])
}

/// The text of the element with this id.
fn text_of<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, from) = page.split_once(&format!("id=\"{id}\"")).expect(id);
    let (_, from) = from.split_once('>').unwrap();
    from.split_once('<').unwrap().0
}

fn pass(client: &mut Client) -> String {
    match client.connection.call(0, Op::ShowPage(ShowPage {})).unwrap() {
        response::Result::Page(reply) => {
            assert_eq!(reply.addresses.len(), 1);
            reply.pass
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_browser_sees_the_numbers_move() {
    let looking = Looking::start();
    let mut client = looking.process.client();
    client.make_partition("web <b>servers</b>");
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    let ecdsa = client.generate(KeyType::P256, "www.example.com").unwrap();
    let rsa = client.generate(KeyType::Rsa2048, "shop.example.com").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (key, mechanism, data) in
            [(&ecdsa[0], Mechanism::Ecdsa, &[1; 32][..]), (&rsa[0], Mechanism::RsaPkcs, &[1; 51])]
        {
            let (looking, done) = (&looking, &done);
            scope.spawn(move || {
                let mut client = looking.process.client();
                client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
                while !done.load(Ordering::Relaxed) {
                    client.sign(key, mechanism, None, data).unwrap();
                }
            });
        }
        let _done = Done(&done);
        let until = Instant::now() + Duration::from_secs(60);
        let page = loop {
            let page = load(&looking, "");
            let legend =
                page.split_once("id=\"rate-legend\"").unwrap().1.split_once("</figcaption>").unwrap().0;
            if legend.contains("P-256") && legend.contains("RSA-2048") {
                break page;
            }
            assert!(Instant::now() < until, "no rates:\n{page}");
        };
        assert_eq!(text_of(&page, "health"), "running");
        assert!(page.contains("<path"), "the charts have lines");
        assert!(page.contains("Latency, median now"));
        // What a partition is called is text, whatever it looks like.
        assert!(page.contains("web &lt;b&gt;servers&lt;/b&gt;") && !page.contains("<b>servers"));
        // Who has no pass sees no key; who has one sees those that they may list.
        assert!(!page.contains("www.example.com"));
        assert!(page.contains("id=\"keys-table\" hidden"));
        let with_pass = load(&looking, &format!("#pass={}", pass(&mut client)));
        for shown in ["www.example.com", "shop.example.com", "private key"] {
            assert!(with_pass.contains(shown), "{shown}:\n{with_pass}");
        }
        // A crypto user reads no partition's log; who runs the daemon reads the node's.
        let audit = |page: &str| {
            let section =
                page.split_once("id=\"audit-section\"").unwrap().1.split_once("</section>").unwrap().0;
            (section.starts_with(" hidden"), section.to_owned())
        };
        let (hidden, entries) = audit(&with_pass);
        assert!(
            !hidden && entries.contains("create_partition") && !entries.contains("generate_key_pair"),
            "{entries}"
        );
        assert!(audit(&page).0);
        let mut officer = looking.process.client();
        officer.login(Role::CryptoOfficer, OFFICER, PASSWORD).unwrap();
        let (_, entries) = audit(&load(&looking, &format!("#pass={}", pass(&mut officer))));
        assert!(entries.contains("sign www.example.com") && entries.contains("success"), "{entries}");
        let stranger = pass(&mut looking.process.client());
        assert!(!load(&looking, &format!("#pass={stranger}")).contains("www.example.com"));
    });
}

/// Ends the threads that sign, also when the test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The rights of a pass are those of its holder at the moment, and the page is for nobody but this machine.
#[test]
fn a_pass_shows_what_its_holder_may_see_now() {
    let looking = Looking::start();
    let mut client = looking.process.client();
    client.make_partition("tls");
    client.login(Role::CryptoUser, USER, PASSWORD).unwrap();
    client.generate(KeyType::P256, "www").unwrap();
    let pass = pass(&mut client);
    let ask = |authorization: &str| {
        let request = format!(
            "GET /state.json HTTP/1.1\r\nHost: localhost\r\n{authorization}Connection: close\r\n\r\n"
        );
        let answer = looking.send(&request).unwrap();
        assert_eq!(answer.status, 200);
        assert!(!answer.head.contains("access-control"), "no other page may read it");
        serde_json::from_str::<serde_json::Value>(&answer.body).unwrap()
    };
    let of = |pass: &str| ask(&format!("Authorization: Bearer {pass}\r\n"));
    assert_eq!(of(&pass)["partitions"][0]["keys"][0]["label"], "www");
    for state in
        [ask(""), of(""), of(&pass.to_uppercase()[1..]), of("0"), ask("Authorization: Basic eDp5\r\n")]
    {
        assert_eq!(state["has_pass"], false);
        assert!(state["partitions"][0]["keys"].is_null());
        assert_eq!(state["partitions"][0]["objects"], 2);
    }
    client.call(Op::Logout(Logout {})).unwrap();
    let after = of(&pass);
    assert!(after["has_pass"] == true && after["partitions"][0]["keys"].is_null(), "{after}");
}

#[test]
fn without_a_page_there_is_no_pass() {
    let running = Running::start();
    let refused = running.client().connection.call(0, Op::ShowPage(ShowPage {}));
    assert_eq!(code(refused), ErrorCode::Unavailable);
}
