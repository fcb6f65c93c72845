//! Files that are wrong.
