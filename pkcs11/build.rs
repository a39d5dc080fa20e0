//! Linker options of the C library.

fn main() {
    // An application that unloads a PKCS#11 module at exit may still have threads inside it, or thread-local
    // destructors of the Rust runtime to run: the code stays mapped.
    println!("cargo:rustc-link-arg-cdylib=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
