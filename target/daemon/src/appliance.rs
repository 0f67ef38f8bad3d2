//! What the appliance's image asks of this program.

use node::config::Config;
use webui_client::Access;

/// Asks the target that the image's first process started how it is.
pub fn health() -> Result<(), String> {
    let config = Config::from_file(&init::configuration()).map_err(|error| error.0)?;
    let access = Access { data_dir: Some(config.data_dir), ..Access::default() };
    // Every reactor is asked.
    let asked = access.open().and_then(|appliance| appliance.look(&[&"counters"]));
    asked.map(drop).map_err(|failure| failure.sentence().to_owned())
}
