//! The table of requests, read by role.

use strongroom_protocol::v1::{RightsRow, RightsTable, response};

use super::{Needs, Row, TABLE};

/// Those who may be permitted something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// Whoever can connect.
    Anyone,
    /// Root, or the user as whom the daemon runs.
    Root,
    /// Who holds the private key of the owner's certificate: PO.
    PartitionOwner,
    /// CO.
    CryptoOfficer,
    /// CU.
    CryptoUser,
    /// AU.
    ApplianceUser,
}

/// What the table says of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Permitted.
    Yes,
    /// Not permitted.
    No,
    /// Permitted for the own account, with its password.
    Own,
    /// Permitted to those whom the key names for it.
    Named,
    /// Permitted with a signed challenge.
    Challenge,
    /// Permitted if the partition has no owner's certificate.
    Ownerless,
}

impl Answer {
    /// As it stands in the table.
    pub fn word(self) -> &'static str {
        match self {
            Answer::Yes => "yes",
            Answer::No => "no",
            Answer::Own => "own",
            Answer::Named => "named",
            Answer::Challenge => "challenge",
            Answer::Ownerless => "ownerless",
        }
    }
}

impl Needs {
    /// What somebody in this one role may do. A connection that acts as several has all their rights.
    pub fn answer(self, party: Party) -> Answer {
        use Party::{ApplianceUser, CryptoOfficer, CryptoUser, Root};
        let permitted = match self {
            Needs::Anyone | Needs::Public => return Answer::Yes,
            Needs::Owner => party == Root,
            Needs::Officer => party == CryptoOfficer,
            Needs::OfficerOrAppliance => matches!(party, CryptoOfficer | ApplianceUser),
            Needs::OfficerOrOwner => matches!(party, CryptoOfficer | Root),
            Needs::OfficerOrOldPassword => match party {
                CryptoOfficer => true,
                CryptoUser | ApplianceUser => return Answer::Own,
                _ => false,
            },
            Needs::Unlocking => match party {
                Party::PartitionOwner => return Answer::Challenge,
                Root => return Answer::Ownerless,
                party => party == CryptoOfficer,
            },
            Needs::CryptoUser => party == CryptoUser,
            Needs::KeyUser if party == Party::Anyone => return Answer::Named,
            Needs::KeyUser => party == CryptoUser,
            Needs::OfficerOrCryptoUser => matches!(party, CryptoOfficer | CryptoUser),
        };
        if permitted { Answer::Yes } else { Answer::No }
    }
}

/// The answer to ListRights.
pub fn reply() -> response::Result {
    response::Result::Rights(RightsTable { rows: TABLE.iter().map(row).collect() })
}

fn row(row: &Row) -> RightsRow {
    let word = |party| row.needs.answer(party).word().to_owned();
    RightsRow {
        request: row.request.to_owned(),
        what: row.what.to_owned(),
        anyone: word(Party::Anyone),
        root: word(Party::Root),
        partition_owner: word(Party::PartitionOwner),
        crypto_officer: word(Party::CryptoOfficer),
        crypto_user: word(Party::CryptoUser),
        appliance_user: word(Party::ApplianceUser),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::{env, fs};

    use super::*;

    const BEGIN: &str = "<!-- The table of hsm/src/policy.rs; a test compares. -->\n";
    const END: &str = "<!-- End of the table. -->\n";

    fn markdown() -> String {
        let mut text = String::from(
            "\n| request | what | anyone | root | PO | CO | CU | AU |\n|---|---|---|---|---|---|---|---|\n",
        );
        for entry in TABLE {
            let RightsRow {
                request,
                what,
                anyone,
                root,
                partition_owner,
                crypto_officer,
                crypto_user,
                appliance_user,
            } = row(entry);
            let cells = [anyone, root, partition_owner, crypto_officer, crypto_user, appliance_user];
            let cells = cells.map(|cell| if cell == "no" { "–".to_owned() } else { cell });
            writeln!(text, "| {request} | {what} | {} |", cells.join(" | ")).unwrap();
        }
        text + "\n"
    }

    /// docs/roles.md has the same table. UPDATE_GUIDE=1 writes it there.
    #[test]
    fn the_document_shows_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/roles.md");
        let page = fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (shown, after) = rest.split_once(END).unwrap();
        if env::var_os("UPDATE_GUIDE").is_some() {
            fs::write(path, [before, BEGIN, &markdown(), END, after].concat()).unwrap();
        } else {
            let made = markdown();
            let differ = shown.lines().zip(made.lines()).find(|(shown, made)| shown != made);
            let how = "UPDATE_GUIDE=1 cargo test -p strongroom-hsm --lib policy";
            assert!(shown == made, "docs/roles.md has another table than policy.rs ({how}): {differ:?}");
        }
    }

    /// The table says the same of each role as what decides.
    #[test]
    fn the_table_is_what_is_decided() {
        use std::sync::Arc;

        use strongroom_protocol::v1::Role;

        use crate::access::Named;
        use crate::session::Acting;
        use crate::users::User;

        let user = |role| Some(Arc::new(User::new("one", role, None, Vec::new(), 1)));
        let anyone = Acting::default;
        let parties = [
            (Party::Anyone, anyone()),
            (Party::Root, Acting { root: true, ..anyone() }),
            // By the challenge alone: the daemon does not know this person.
            (Party::PartitionOwner, anyone()),
            (Party::CryptoOfficer, Acting { officer: user(Role::CryptoOfficer), ..anyone() }),
            (Party::CryptoUser, Acting { crypto_user: user(Role::CryptoUser), ..anyone() }),
            (Party::ApplianceUser, Acting { appliance_user: user(Role::ApplianceUser), ..anyone() }),
        ];
        for row in TABLE {
            for (party, acting) in &parties {
                let permitted = super::super::permit(row.needs, acting).is_ok();
                match row.needs.answer(*party) {
                    Answer::Yes => assert!(permitted, "{row:?} {party:?}"),
                    // The handler decides.
                    Answer::No if matches!(row.needs, Needs::OfficerOrOldPassword | Needs::Unlocking) => {}
                    Answer::No => assert!(!permitted, "{row:?} {party:?}"),
                    Answer::Own | Answer::Challenge | Answer::Ownerless => {
                        assert!(permitted, "{row:?} {party:?}");
                    }
                    // Further on the key is asked, of those whom one can name.
                    Answer::Named => {
                        let named = Named { uid: Some(33), ..Named::default() };
                        let acting = Acting { named, ..anyone() };
                        assert!(!permitted && super::super::permit(row.needs, &acting).is_ok(), "{row:?}");
                    }
                }
            }
        }
    }
}
