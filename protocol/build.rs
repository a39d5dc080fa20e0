//! Generates the messages from strongroom.proto.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=strongroom.proto");
    let files = protox::compile(["strongroom.proto"], ["."])?;
    prost_build::Config::new()
        // These carry passwords, tickets, keys or plaintexts: Debug is written by hand in secret.rs.
        .skip_debug([
            "strongroom.v1.Login",
            "strongroom.v1.LoginReply",
            "strongroom.v1.CreatePartition",
            "strongroom.v1.CreateUser",
            "strongroom.v1.ChangePassword",
            "strongroom.v1.ImportKeyPair",
            "strongroom.v1.ImportKey",
            "strongroom.v1.Encrypt",
            "strongroom.v1.DeriveKey",
            "strongroom.v1.Pbkdf2Parameters",
            "strongroom.v1.Mac",
            "strongroom.v1.MacReply",
            "strongroom.v1.Plaintext",
            "strongroom.v1.SharedSecret",
            "strongroom.v1.Encapsulated",
            "strongroom.v1.Unseal",
            "strongroom.v1.SealWith",
            "strongroom.v1.BeginRestore",
            "strongroom.v1.RenewSecurityDomain",
            "strongroom.v1.AuthenticateUse",
            "strongroom.v1.UseTicket",
        ])
        .compile_fds(files)?;
    Ok(())
}
