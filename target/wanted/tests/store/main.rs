//! The store of one node: power cuts, failures and kills at each of its writes; growth; what earlier
//! versions have left.

mod cuts;
mod disk;
mod earlier;
mod growth;
mod kills;
mod program;
