//! Videos that are right and unusual.
