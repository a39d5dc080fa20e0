//! Random bytes from the token.
