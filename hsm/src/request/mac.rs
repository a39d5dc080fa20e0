//! Mac: message authentication codes, made and checked.
//!
//! A message that is longer than a request comes in parts. What is kept between them goes to the client and comes back,
//! sealed with a key that this start of the daemon made: so no request depends on what a connection did before, and the client
//! learns nothing that would let it make another code.

use strongroom_protocol::v1::{self, MacReply, Mechanism, ObjectClass, Permission, response};

use super::{Context, objects, sign};
use crate::crypto::CryptoError;
use crate::crypto::symmetric::Mac;
use crate::failure::{Failure, refuse};
use crate::memory::SecretBytes;
use crate::object::Object;
use crate::partition::Partition;
use crate::restrictions::{self, Use};

/// The shortest code that is made or compared, in bytes (FIPS 198-1's successor, SP 800-224, has 4).
const SHORTEST: usize = 4;

/// Computed at once, as [`super::encrypt`] is.
pub(super) fn mac(
    context: &Context,
    partition: &Partition,
    request: &v1::Mac,
) -> Result<response::Result, Failure> {
    // Whoever is let sign with a key is let check what it signed.
    let object = objects::usable(&context.acting, partition, &request.key, &[Permission::Sign])?;
    let asked = Use::Mac(request.mechanism(), request.hash(), request.length as usize);
    restrictions::allow(&object.info, asked)?;
    context.uses(object.info.key_type(), request.mechanism())?;
    let policy = object.info.policy.unwrap_or_default();
    let (permitted, verb, attribute) = match request.verify {
        true => (policy.verify, "verify", "CKA_VERIFY"),
        false => (policy.sign, "sign", "CKA_SIGN"),
    };
    if object.info.class() != ObjectClass::SecretKey {
        return refuse!(KeyMayNot, "{} is not a secret key: it makes no such codes", object.title());
    }
    if !permitted {
        return refuse!(KeyMayNot, "{} may not {verb}: its policy ({attribute}) forbids it", object.title());
    }
    let way = way(request)?;
    let key = partition.secret_key(&object)?;
    if matches!(way, Mac::Hmac(_)) && !request.verify {
        let approved = partition.meter().limits.approve_hmac_key(key.value().len());
        approved.map_err(|failure| object.blame(failure))?;
    }
    let blame = |error: CryptoError| object.blame(error.into());
    let name = state_name(context, partition, &object, request);
    let before = match request.state.is_empty() {
        true => None,
        false => Some(opened(context, &name, &request.state)?),
    };
    if request.more {
        let state = way.part(&key, before.as_ref(), &request.data).map_err(blame)?;
        let state = context.service.states.seal(&name, 0, state)?;
        return Ok(response::Result::Mac(MacReply { mac: Vec::new(), state }));
    }
    let length = match request.length as usize {
        0 => way.length(),
        length => length,
    };
    if !(SHORTEST..=way.length()).contains(&length) {
        return refuse!(
            MechanismParameterWrong,
            "such a code has {SHORTEST} to {} bytes, not {length}",
            way.length()
        );
    }
    let code = way.finish(&key, before.as_ref(), &request.data).map_err(blame)?;
    let code = code.get(..length).unwrap_or_default();
    if !request.verify {
        return Ok(response::Result::Mac(MacReply { mac: code.to_vec(), state: Vec::new() }));
    }
    match aws_lc_rs::constant_time::verify_slices_are_equal(code, &request.mac) {
        Ok(()) => Ok(response::Result::Mac(MacReply::default())),
        Err(_) => Err(object.blame(CryptoError::SignatureWrong.into())),
    }
}

fn way(request: &v1::Mac) -> Result<Mac<'_>, Failure> {
    Ok(match request.mechanism() {
        Mechanism::Hmac => Mac::Hmac(sign::hash(request.hash())?),
        Mechanism::AesCmac => Mac::Cmac,
        Mechanism::AesGmac => Mac::Gmac(&request.iv),
        Mechanism::Unspecified => {
            return refuse!(Unsupported, "this strongroomd does not know the mechanism");
        }
        _ => return refuse!(MechanismDoesNotFit, "the mechanism makes no message authentication codes"),
    })
}

/// For what a state is good, and for nothing else: the key, the way, and whether a code is made or compared.
fn state_name(context: &Context, partition: &Partition, object: &Object, request: &v1::Mac) -> String {
    let (hash, verify) = (request.hash, request.verify);
    let identity = crate::records::hex(&object.id);
    let uid = context.session.uid;
    format!("mac/{}/{identity}/{}/{hash}/{verify}/{uid}", partition.number(), request.mechanism)
}

fn opened(context: &Context, name: &str, state: &[u8]) -> Result<SecretBytes, Failure> {
    match context.service.states.open(name, state) {
        Ok((_, state)) => Ok(state),
        Err(_) => refuse!(
            MechanismParameterWrong,
            "the state of the parts before was made by an earlier start of strongroomd, or for another key: begin the \
             message again"
        ),
    }
}
