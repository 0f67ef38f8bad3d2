//! Reactors: one pinned thread per core, turn(), mailboxes between cores, idle policy.
