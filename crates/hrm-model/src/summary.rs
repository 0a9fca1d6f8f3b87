//! The parameter table.
