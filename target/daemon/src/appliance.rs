//! What the appliance's image asks of this program.

use control::Request;
use control::config::Config;

/// Asks the target that the image's first process started how it is.
pub fn health() -> Result<(), String> {
    let config = Config::from_file(&init::configuration()).map_err(|error| error.0)?;
    control::ask(&config.control_path(), &Request::Stats).map(drop)
}
