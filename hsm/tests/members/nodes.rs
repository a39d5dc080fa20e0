//! Nodes of a cluster, each with a state directory of its own, and the owner who signs their certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::Arc;

use strongroom_hsm::partition::Settings;
use strongroom_hsm::users::User;
use strongroom_hsm::vault::Vault;
use strongroom_owner::{Certificate, OwnerCertificate};
use strongroom_protocol::v1::Role;
use tempfile::TempDir;

use super::{Members, SOON, openssl, until};

/// The certificate that an owner signs for a node.
pub fn signed(folder: &Path, owner: &str, vault: &Vault) -> Certificate {
    fs::write(folder.join("node.csr"), vault.identity().unwrap().request().unwrap()).unwrap();
    let ca = format!("-CA {owner}.crt -CAkey {owner}.key -CAcreateserial");
    openssl(folder, &format!("x509 -req -inform DER -in node.csr {ca} -days 2 -outform DER -out node.der"));
    Certificate::parse(&fs::read(folder.join("node.der")).unwrap()).unwrap()
}

/// An owner of this name, whose key and certificate lie in `folder`.
pub fn owner(folder: &Path, name: &str) -> OwnerCertificate {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc";
    openssl(
        folder,
        &format!("req -x509 {key} -days 2 -keyout {name}.key -outform PEM -out {name}.crt -subj /CN={name}"),
    );
    openssl(folder, &format!("x509 -in {name}.crt -outform DER -out {name}.der"));
    OwnerCertificate::parse(&fs::read(folder.join(format!("{name}.der"))).unwrap()).unwrap()
}

/// Starts a node. A thread of the one before may have its store for a moment.
pub fn start(directory: &Path, members: &Members) -> Arc<Vault> {
    fs::create_dir_all(directory).unwrap();
    let mut started = None;
    until("the store is let go of", || {
        started = Vault::start(directory, None, Some(members.cluster(SOON))).ok();
        started.is_some()
    });
    let vault = Arc::new(started.unwrap());
    vault.keep_up().unwrap();
    vault
}

/// Nodes of one cluster, with the partition 1 "tls".
pub struct Nodes {
    pub folder: TempDir,
    pub owner: OwnerCertificate,
    pub nodes: Vec<Arc<Vault>>,
}

impl Nodes {
    pub fn start(members: &Members, number: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let owner = owner(folder.path(), "owner");
        let all = (0..number).map(|number| start(&directory(folder.path(), number), members)).collect();
        let nodes = Nodes { folder, owner, nodes: all };
        let admin = User::new("admin", Role::CryptoOfficer, None, Vec::new(), 0);
        let settings = Settings { owner: Some(Arc::new(nodes.owner.clone())), ..Settings::default() };
        let first = &nodes.nodes[0];
        let partition = first.create("tls", vec![admin], settings).unwrap();
        let own = signed(nodes.folder.path(), "owner", first);
        first.set_node_certificate(&partition, |_| Ok(()), own.der().to_vec()).unwrap();
        first.found_cluster().unwrap();
        (1..number).for_each(|number| nodes.join(number));
        nodes
    }

    /// Lets a node join, on the word of the first.
    pub fn join(&self, number: usize) {
        let certificate = signed(self.folder.path(), "owner", &self.nodes[number]);
        self.nodes[0].admit(from_ref(&certificate)).unwrap();
        self.nodes[number].join_cluster(from_ref(&self.owner)).unwrap();
    }

    pub fn directory(&self, number: usize) -> PathBuf {
        directory(self.folder.path(), number)
    }

    /// Ends a node and starts it again.
    pub fn restart(&mut self, number: usize, members: &Members) {
        drop(self.nodes.remove(number));
        self.nodes.insert(number, start(&self.directory(number), members));
    }
}

fn directory(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("node{number}"))
}
