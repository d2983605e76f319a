//! A server.

fn main() {}
