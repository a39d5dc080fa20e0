//! Requests: checked against the policy, then carried out by the group that they belong to.

mod access;
mod audit;
mod authenticate;
mod backup;
mod cluster;
mod copy;
mod deleted;
mod derive_key;
pub mod encrypt;
mod mac;
mod node;
mod node_certificate;
pub mod objects;
mod once;
mod partitions;
mod private_keys;
pub(crate) mod public_keys;
mod quota;
pub(crate) mod rotate;
mod secret_keys;
mod session_objects;
pub mod sign;
mod status;
mod templates;
mod unlock;
mod users;
mod wrap;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use strongroom_protocol::v1::{Done, KeyType, Mechanism, Request, Response, request::Op, response};
use strongroom_protocol::{VERSION, secret};

use crate::audit::Trail;
use crate::failure::{Failure, refuse};
use crate::metrics::{Meter, Operation};
use crate::partition::Partition;
use crate::partition::once::{Once, during};
use crate::policy::{self, Needs};
use crate::rounds::Origin;
use crate::service::{Service, blocking, detached};
use crate::session::{Acting, Session};
use crate::users::Users;

pub(crate) use objects::may_see;

/// What a request works on.
struct Context {
    service: Arc<Service>,
    session: Arc<Session>,
    acting: Acting,
    needs: Needs,
    /// Of the partition that it works in; 0: none.
    number: u32,
    /// What it is known by, if it may come again.
    once: Option<Once>,
    /// The key type and the mechanism, as soon as they are known, for whoever counts.
    used: OnceLock<(KeyType, Mechanism)>,
    /// Of the partition that it works in.
    limited: Option<Arc<Meter>>,
}

impl Context {
    /// Says what the request works with, once it is known that it may. The first call counts, and takes its part of the
    /// partition's operations a second, if it is a use of a key.
    ///
    /// # Errors
    ///
    /// LIMIT if the partition has had as many as its quota permits.
    fn uses(&self, key_type: KeyType, mechanism: Mechanism) -> Result<(), Failure> {
        let is_first = self.used.set((key_type, mechanism)).is_ok();
        match &self.limited {
            Some(meter) if is_first && self.needs == Needs::KeyUser => meter.limits.admit(),
            _ => Ok(()),
        }
    }

    fn origin(&self) -> Origin {
        Origin { partition: self.number, uid: self.session.uid }
    }

    /// Does with a key what takes longer than an I/O thread should, see [`Service::compute`].
    async fn compute<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.service.compute(self.origin(), bytes, work).await
    }

    fn asker(&self) -> Asker {
        Asker {
            session: Arc::clone(&self.session),
            needs: self.needs,
            by: policy::responsible(self.needs, &self.acting),
        }
    }
}

/// Changes what is in the store, see [`Service::change`].
async fn changing<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let once = context.once;
    context.service.change(context.origin(), move || during(once, work)).await
}

/// Keeps what was made: in the store, or for a session, which waits for no disk.
async fn keeping<T: Send + 'static>(
    context: &Context,
    for_session: bool,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    if for_session { context.compute(0, work).await } else { changing(context, work).await }
}

/// Those who ask for a change, when it is made: much may have happened since their request began.
struct Asker {
    session: Arc<Session>,
    needs: Needs,
    /// For the log.
    by: String,
}

impl Asker {
    /// As whom they act now, if they still may do what they ask for.
    fn still_may(&self, partition: &Partition, users: &Users) -> Result<Acting, Failure> {
        let acting = self.session.acting_among(partition.number(), users);
        policy::permit(self.needs, &acting)?;
        Ok(acting)
    }
}

/// Carries a request out. Its secrets are wiped. What a reply says may be secret: wipe its bytes too if
/// [`secret::has_secret_reply`] holds for the request.
pub async fn answer(service: Arc<Service>, session: Arc<Session>, request: Request) -> Response {
    service.counters.requests.fetch_add(1, Ordering::Relaxed);
    let Request { id, partition, op, once } = request;
    let result = match op {
        None => {
            refuse!(Unsupported, "this strongroomd does not know the request; it speaks version {VERSION}")
        }
        Some(op) => match once::of(&op, &once) {
            Ok(once) => audited(&service, session, (partition, once), id, op).await,
            Err(failure) => {
                secret::wipe(&mut { op });
                Err(failure)
            }
        },
    };
    let result = result.unwrap_or_else(|failure| {
        service.counters.errors.fetch_add(1, Ordering::Relaxed);
        response::Result::Error(failure.into())
    });
    Response { id, result: Some(result) }
}

/// Carries a request out, with what the audit log says of it.
async fn audited(
    service: &Arc<Service>,
    session: Arc<Session>,
    (partition, once): (u32, Option<Once>),
    id: u64,
    mut op: Op,
) -> Result<response::Result, Failure> {
    let mut trail = Trail::of(service, &session, partition, id, &op);
    if let Err(failure) = trail.begin().await {
        secret::wipe(&mut op);
        return Err(failure);
    }
    let is_followed = trail.is_followed();
    let work = dispatch(Arc::clone(service), session, partition, once, op);
    if !is_followed {
        let result = work.await;
        trail.end(&result).await;
        return result;
    }
    detached(async move {
        let result = work.await;
        trail.end(&result).await;
        result
    })
    .await
}

async fn dispatch(
    service: Arc<Service>,
    session: Arc<Session>,
    number: u32,
    once: Option<Once>,
    mut op: Op,
) -> Result<response::Result, Failure> {
    if !policy::answered_when_closed(&op) {
        let ready = match policy::answered_when_cut_off(&op) {
            true => service.vault.unsealed().map(drop),
            false => service.vault.ready(),
        };
        if let Err(failure) = ready {
            secret::wipe(&mut op);
            return Err(failure);
        }
    }
    // Requests about the whole daemon.
    let acting = Acting { root: session.root, ..Acting::default() };
    let whole = Context {
        service,
        session,
        acting,
        needs: policy::needs(&op),
        number: 0,
        once,
        used: OnceLock::new(),
        limited: None,
    };
    let result = match &mut op {
        Op::Hello(m) => return status::hello(&whole, m),
        Op::Status(_) => return Ok(status::status(&whole)),
        Op::ListPartitions(_) => return Ok(partitions::list(&whole)),
        Op::ListRights(_) => return Ok(policy::matrix::reply()),
        Op::ShowPage(_) => return status::show_page(&whole.service, whole.session),
        op if backup::is_restore(op) => backup::restore(&whole, number, op).await,
        op if node::is_about_the_node(op) => node::answer(&whole, op).await,
        op if cluster::is_about_the_cluster(op) => cluster::answer(&whole, op).await,
        // A node that has no partition yet: the owners of those that it is to have sign it.
        Op::RequestNodeCertificate(_) if number == 0 => return node_certificate::request(&whole).await,
        Op::DescribeAudit(_) => return Ok(audit::describe(&whole, number)),
        Op::ReadAudit(m) if number == 0 => return audit::read_node(&whole, m).await,
        // The connection answers it itself; here it comes from where there is no connection.
        Op::OpenChannel(_) => return refuse!(Unsupported, "there are no channels here"),
        Op::CreatePartition(m) => {
            let m = std::mem::take(m);
            let permitted = policy::authorize(&op, &whole.acting);
            return match permitted {
                Ok(()) => partitions::create(&whole, m).await,
                Err(failure) => {
                    secret::wipe(&mut Op::CreatePartition(m));
                    Err(failure)
                }
            };
        }
        _ => in_partition(whole, number, &mut op).await,
    };
    secret::wipe(&mut op);
    result
}

async fn in_partition(whole: Context, number: u32, op: &mut Op) -> Result<response::Result, Failure> {
    let partition: Arc<Partition> = whole.service.vault.partition(number)?;
    let acting = whole.session.acting(&partition);
    let context = Context { acting, number, limited: Some(Arc::clone(partition.meter())), ..whole };
    let (started, operation) = (Instant::now(), Operation::of(op));
    let approved = || partition.meter().limits.approve(op);
    let result = match policy::authorize(op, &context.acting).and_then(|()| approved()) {
        Ok(()) => match once::made_before(&context, &partition) {
            Some(reply) => Ok(reply),
            None => {
                let result = carry_out(&context, &partition, op).await;
                // It may have come over another connection, or to another node, meanwhile.
                result.or_else(|failure| once::made_before(&context, &partition).ok_or(failure))
            }
        },
        Err(failure) => Err(failure),
    };
    let (key_type, mechanism) = context.used.get().copied().unwrap_or_default();
    partition.meter().answered(operation, key_type, mechanism, &result, started.elapsed());
    result
}

async fn carry_out(context: &Context, p: &Arc<Partition>, op: &mut Op) -> Result<response::Result, Failure> {
    match op {
        Op::Sign(m) => sign::sign(context, p, std::mem::take(m)).await,
        Op::Verify(m) => sign::verify(context, p, std::mem::take(m)).await,
        Op::Encrypt(m) if public_keys::encrypts(m) => {
            public_keys::encrypt(context, p, std::mem::take(m)).await
        }
        Op::Encrypt(m) => encrypt::encrypt(context, p, m),
        Op::Mac(m) => mac::mac(context, p, m),
        Op::Recover(m) => public_keys::recover(context, p, std::mem::take(m)).await,
        Op::AuthenticateUse(m) => authenticate::authenticate(context, p, m).await,
        Op::Decrypt(m) if private_keys::decrypts(m) => {
            private_keys::decrypt(context, p, std::mem::take(m)).await
        }
        Op::Decrypt(m) => encrypt::decrypt(context, p, m),
        Op::Derive(m) => private_keys::derive(context, p, std::mem::take(m)).await,
        Op::DeriveKey(m) => derive_key::derive(context, p, std::mem::take(m)).await,
        Op::Decapsulate(m) => private_keys::decapsulate(context, p, std::mem::take(m)).await,
        Op::Encapsulate(m) => public_keys::encapsulate(context, p, std::mem::take(m)).await,
        Op::GenerateRandom(m) => sign::random(m),
        Op::FindObjects(m) => objects::find(context, p, m),
        Op::GenerateKeyPair(m) => objects::generate(context, p, std::mem::take(m)).await,
        Op::ImportKeyPair(m) => objects::import(context, p, std::mem::take(m)).await,
        Op::GenerateKey(m) => secret_keys::generate(context, p, std::mem::take(m)).await,
        Op::ImportKey(m) => secret_keys::import(context, p, std::mem::take(m)).await,
        Op::CreateObject(m) => objects::create(context, p, std::mem::take(m)).await,
        Op::SetAttributes(m) => objects::set_attributes(context, p, std::mem::take(m)).await,
        Op::WrapKey(m) => wrap::wrap(context, p, std::mem::take(m)).await,
        Op::UnwrapKey(m) => wrap::unwrap(context, p, std::mem::take(m)).await,
        Op::TrustKey(m) => wrap::trust(context, p, std::mem::take(m)).await,
        Op::DeleteKey(m) => deleted::delete(context, p, std::mem::take(m)).await,
        Op::ListDeleted(m) => deleted::list(p, m),
        Op::RecoverKey(m) => deleted::recover(context, p, std::mem::take(m)).await,
        Op::PurgeKey(m) => deleted::purge(context, p, std::mem::take(m)).await,
        Op::SetLife(m) => deleted::set_life(context, p, std::mem::take(m)).await,
        Op::RotateKey(m) => rotate::rotate(context, p, std::mem::take(m)).await,
        Op::ActivateKey(m) => rotate::activate(context, p, std::mem::take(m)).await,
        Op::SetRotation(m) => rotate::set_rotation(context, p, std::mem::take(m)).await,
        Op::CopyObject(m) => copy::copy(context, p, std::mem::take(m)).await,
        Op::RevealKey(m) => secret_keys::reveal(context, p, m),
        Op::RestoreSessionObjects(m) => session_objects::restore(context, p, std::mem::take(m)).await,
        Op::ForgetSessionObjects(m) => Ok(session_objects::forget(context, p, m)),
        Op::DestroyObject(m) => objects::destroy(context, p, std::mem::take(m)).await,
        Op::Login(m) => users::login(context, p, m).await,
        Op::Logout(_) => users::logout(context, p).await,
        Op::ListUsers(_) => Ok(users::list(p)),
        Op::CreateUser(m) => users::create(context, p, std::mem::take(m)).await,
        Op::DeleteUser(m) => users::delete(context, p, std::mem::take(m)).await,
        Op::ChangePassword(m) => users::change_password(context, p, std::mem::take(m)).await,
        Op::AdmitUid(m) => users::admit_uid(context, p, std::mem::take(m)).await,
        Op::UnlockUser(m) => unlock::unlock(context, p, std::mem::take(m)).await,
        Op::ChallengeUser(m) => unlock::challenge(p, m),
        Op::RequestNodeCertificate(_) => node_certificate::request(context).await,
        Op::InstallNodeCertificate(m) => node_certificate::install(context, p, std::mem::take(m)).await,
        Op::ProveNode(m) => node_certificate::prove(context, p, m).await,
        Op::SetPolicy(m) => partitions::set_policy(context, p, *m).await,
        Op::GrantAccess(m) => access::grant(context, p, std::mem::take(m)).await,
        Op::RevokeAccess(m) => access::revoke(context, p, std::mem::take(m)).await,
        Op::ListAccess(m) => access::list(context, p, m),
        Op::PutAccessRole(m) => access::put_role(context, p, std::mem::take(m)).await,
        Op::DeleteAccessRole(m) => access::delete_role(context, p, std::mem::take(m)).await,
        Op::ListAccessRoles(_) => Ok(access::roles(&p.contents())),
        Op::SetQuota(m) => quota::set(context, p, *m).await,
        Op::DeletePartition(m) => partitions::delete(context, p, m).await,
        Op::ReadAudit(m) => audit::read(&context.service, p.number(), m).await,
        Op::SetAudit(m) => audit::set(context, p, *m).await,
        Op::CreateSecurityDomain(m) => backup::create_domain(context, p, std::mem::take(m)).await,
        Op::RenewSecurityDomain(m) => backup::renew_domain(context, p, std::mem::take(m)).await,
        Op::ShowSecurityDomain(_) => backup::show_domain(context, p),
        Op::BeginBackup(m) => backup::begin(context, p, std::mem::take(m)).await,
        Op::ReadBackup(_) => backup::read(context, p).await,
        // Answered above.
        Op::Hello(_)
        | Op::Status(_)
        | Op::ListPartitions(_)
        | Op::ListRights(_)
        | Op::ShowPage(_)
        | Op::CreatePartition(_)
        | Op::DescribeAudit(_)
        | Op::OpenChannel(_)
        | Op::BeginRestore(_)
        | Op::RestoreChunk(_)
        | Op::FinishRestore(_)
        | Op::Seal(_)
        | Op::Unseal(_)
        | Op::SealWith(_)
        | Op::ShowSeal(_)
        | Op::ShowTampering(_)
        | Op::ClearTampering(_)
        | Op::CheckStore(_)
        | Op::InitCluster(_)
        | Op::AdmitNode(_)
        | Op::JoinCluster(_)
        | Op::LeaveCluster(_)
        | Op::ExpelNode(_)
        | Op::ShowCluster(_)
        | Op::Zeroize(_) => {
            refuse!(Malformed, "a request about the whole daemon was sent to a partition")
        }
    }
}

fn done() -> response::Result {
    response::Result::Done(Done {})
}
