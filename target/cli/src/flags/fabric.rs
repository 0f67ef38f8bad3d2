//! The fabric that a command speaks of.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use webui_model::Fabric;

/// Takes `tcp` and `rdma`; what else is typed is refused with both of them.
pub fn fabric() -> impl TypedValueParser<Value = Fabric> {
    let values = [Fabric::Tcp, Fabric::Rdma].map(|fabric| {
        PossibleValue::new(fabric.as_str()).help(match fabric {
            Fabric::Tcp => "NVMe/TCP",
            Fabric::Rdma => "NVMe/RDMA, by the RDMA devices of the machine",
        })
    });
    PossibleValuesParser::new(values).try_map(|text| text.parse())
}
