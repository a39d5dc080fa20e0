//! Shamir's secret sharing (1979) over GF(2^8) with AES's polynomial, each byte by itself.
//!
//! Written here because secrets lie in protected memory only, and crates return vectors. Without tables: what
//! is read from memory does not depend on a secret.

use crate::crypto::aws_lc;
use crate::memory::SecretBytes;

/// Splits a secret into `count` shares, of which any `needed` give it back. A share is its number (from 1) and
/// as many bytes as the secret has.
pub(super) fn split(secret: &[u8], needed: u8, count: u8) -> Vec<SecretBytes> {
    let degree = usize::from(needed.saturating_sub(1));
    let mut coefficients = SecretBytes::zeroed(degree * secret.len());
    aws_lc::random(&mut coefficients);
    let share = |x: u8| {
        let mut share = SecretBytes::zeroed(1 + secret.len());
        if let Some((number, ys)) = share.split_first_mut() {
            *number = x;
            for (at, (y, constant)) in ys.iter_mut().zip(secret).enumerate() {
                // Horner's rule, from the highest coefficient.
                let own = coefficients.iter().skip(at * degree).take(degree);
                *y = own.fold(0, |sum, coefficient| multiply(sum ^ coefficient, x)) ^ constant;
            }
        }
        share
    };
    (1..=count).map(share).collect()
}

/// Puts the secret together from as many shares as were needed, all of the same length and with different
/// numbers. From others something else comes out: it has to be checked.
pub(super) fn combine(shares: &[&SecretBytes]) -> SecretBytes {
    let numbers: Vec<u8> = shares.iter().filter_map(|share| share.first().copied()).collect();
    let length = shares.first().map_or(0, |share| share.len().saturating_sub(1));
    let mut secret = SecretBytes::zeroed(length);
    for (share, own) in shares.iter().zip(&numbers) {
        // Lagrange's polynomial of this share, at 0.
        let others = numbers.iter().filter(|other| *other != own);
        let weight =
            others.fold(1, |product, other| multiply(product, multiply(*other, invert(other ^ own))));
        for (sum, y) in secret.iter_mut().zip(share.iter().skip(1)) {
            *sum ^= multiply(*y, weight);
        }
    }
    secret
}

/// In GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197, 4.2).
fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    for _ in 0..8 {
        product ^= a & (b & 1).wrapping_neg();
        a = (a << 1) ^ (0x1b & (a >> 7).wrapping_neg());
        b >>= 1;
    }
    product
}

/// a^254; 0 for 0.
fn invert(a: u8) -> u8 {
    (0..6).fold(multiply(a, a), |power, _| multiply(multiply(power, power), multiply(a, a)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_that_of_aes() {
        // FIPS 197, 4.2 and 4.2.1.
        assert_eq!((multiply(0x57, 0x83), multiply(0x57, 0x13)), (0xc1, 0xfe));
        // FIPS 197, 5.1.1: the inverse behind the S-box, {53} and {ca}.
        assert_eq!(invert(0x53), 0xca);
        assert!((1..=255).all(|a| multiply(a, invert(a)) == 1));
    }

    /// A polynomial by hand: secret 0x2a, 0x2a + 0x0f x + 0x99 x^2.
    #[test]
    fn shares_of_a_known_polynomial() {
        let share = |x: u8| {
            SecretBytes::from([x, 0x2a ^ multiply(0x0f, x) ^ multiply(0x99, multiply(x, x))].as_slice())
        };
        let (one, three, seven) = (share(1), share(3), share(7));
        assert_eq!(&*combine(&[&seven, &one, &three]), [0x2a]);
    }

    #[test]
    fn any_quorum_gives_the_secret_and_fewer_do_not() {
        let secret: Vec<u8> = (0..32).collect();
        for (needed, count) in [(1, 1), (2, 3), (3, 3), (3, 5)] {
            let shares = split(&secret, needed, count);
            for chosen in 0u32..1 << count {
                let some: Vec<_> = shares
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| chosen >> at & 1 == 1)
                    .map(|(_, s)| s)
                    .collect();
                if some.is_empty() {
                    continue;
                }
                let enough = some.len() >= usize::from(needed);
                assert_eq!(*combine(&some) == *secret, enough, "{chosen:b} of {needed} of {count}");
            }
        }
    }
}
