//! PEM files that come from outside: the blocks of a file, each with its label and its bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};

/// The largest PEM file that is read, in bytes: certificates with a long chain are 20 KiB.
const MAX_FILE: u64 = 1 << 20;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// A block of a PEM file.
#[derive(Debug)]
pub struct Block {
    /// What stands after BEGIN.
    pub label: String,
    /// The content, wiped when dropped. An error is kept until somebody wants this block: what is wrong
    /// with a certificate does not concern who looks for a key.
    pub content: Result<Zeroizing<Vec<u8>>, String>,
}

/// Reads the file at `path`, or standard input if it is `-`.
///
/// # Errors
///
/// If the file cannot be read, or is larger than 1 MiB.
pub fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |e: io::Error| Failure::file("read", path, &e);
    // As large as the file may be, so that it is never moved and left behind unwiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    let source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    source.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        let message = format!("{} is larger than 1 MiB: not a PEM file", path.display());
        return Err(Failure::new(Exit::Failed, "pem", message));
    }
    Ok(bytes)
}

/// Reads the blocks of the PEM file at `path`, or of standard input if it is `-`.
///
/// # Errors
///
/// As [`bytes`], and if the file holds no PEM block.
pub fn read(path: &Path) -> Result<Vec<Block>, Failure> {
    read_from(path, &bytes(path)?)
}

/// Reads the blocks of a PEM file that is in memory already.
///
/// # Errors
///
/// If it holds no PEM block.
pub fn read_from(path: &Path, bytes: &[u8]) -> Result<Vec<Block>, Failure> {
    let unfit = |what: &str| Failure::new(Exit::Failed, "pem", format!("{} {what}", path.display()));
    let text = std::str::from_utf8(bytes).map_err(|_| {
        unfit("is not a PEM file: it is binary; if it is DER, convert it with 'openssl pkey' or 'openssl x509' and -inform DER")
    })?;
    let blocks = blocks(text);
    if blocks.is_empty() {
        return Err(unfit("is not a PEM file: it has no line that begins with '-----BEGIN'"));
    }
    Ok(blocks)
}

/// Splits a text into its PEM blocks. What stands between them is ignored.
fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let block = rest.get(start..).unwrap_or_default();
        let after = block.get(BEGIN.len()..).unwrap_or_default();
        rest = after;
        // The label ends where its line does: a stray BEGIN in a comment is skipped.
        let Some(label) = after.lines().next().and_then(|line| line.trim_end().strip_suffix(DASHES)) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let content = match block.find(&end) {
            Some(position) => {
                let length = position + end.len();
                rest = block.get(length..).unwrap_or_default();
                decode(block.get(..length).unwrap_or_default())
            }
            None => Err(format!("has no line '{end}': the file was cut short")),
        };
        found.push(Block { label: label.to_owned(), content });
    }
    found
}

fn decode(block: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    if block.contains("Proc-Type:") {
        return Err(
            "is encrypted in OpenSSL's old way; convert it with 'openssl pkcs8 -topk8 -in FILE -out NEWFILE'"
                .to_owned(),
        );
    }
    // RFC 7468 knows no white space at the end of a line; files that passed through mail or editors have it.
    let mut tidy = Zeroizing::new(String::with_capacity(block.len()));
    for line in block.lines().map(str::trim).filter(|line| !line.is_empty()) {
        tidy.push_str(line);
        tidy.push('\n');
    }
    let wrong = |e: pem_rfc7468::Error| format!("is damaged: {e}");
    let mut decoder = pem_rfc7468::Decoder::new_detect_wrap(tidy.as_bytes()).map_err(wrong)?;
    let mut bytes = Zeroizing::new(vec![0; decoder.remaining_len()]);
    decoder.decode(&mut bytes).map_err(wrong)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_between_other_text() {
        let text = "Bag Attributes\r\n-----BEGIN A B-----\r\nAAEC\r\n-----END A B-----\r\nsubject=x -----BEGIN \n\
                    -----BEGIN C-----  \nAw==  \n\n-----END C-----";
        let found = blocks(text);
        let labels: Vec<_> = found.iter().map(|b| b.label.as_str()).collect();
        assert_eq!(labels, ["A B", "C"]);
        assert_eq!(found[0].content.as_ref().unwrap().as_slice(), [0, 1, 2]);
        assert_eq!(found[1].content.as_ref().unwrap().as_slice(), [3]);
    }

    #[test]
    fn damage_is_told_apart() {
        let cut = blocks("-----BEGIN X-----\nAAEC\n");
        assert!(cut[0].content.as_ref().unwrap_err().contains("cut short"));
        let damaged = blocks("-----BEGIN X-----\nA*EC\n-----END X-----\n");
        assert!(damaged[0].content.as_ref().unwrap_err().contains("damaged"));
        let old = blocks(
            "-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAEC\n-----END X-----\n",
        );
        assert!(old[0].content.as_ref().unwrap_err().contains("openssl pkcs8 -topk8"));
        assert!(blocks("no PEM here").is_empty());
    }

    #[test]
    fn long_lines_are_read() {
        let text =
            format!("-----BEGIN X-----\n{}\n{}\n-----END X-----\n", "AAAA".repeat(19), "BBBB".repeat(3));
        assert_eq!(blocks(&text)[0].content.as_ref().unwrap().len(), 66);
    }
}
