//! The power button, as an input device of the kernel's (Documentation/input/input.rst).

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of an event on a machine of 64 bits: time, type, code, value.
const EVENT_BYTES: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// Calls `pressed` when a power button is pressed, from threads of its own.
pub fn watch(pressed: impl Fn() + Clone + Send + 'static) {
    let Ok(entries) = std::fs::read_dir("/sys/class/input") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let label = std::fs::read_to_string(entry.path().join("device/name")).unwrap_or_default();
        if !name.starts_with("event") || label.trim() != "Power Button" {
            continue;
        }
        let Ok(mut device) = File::open(Path::new("/dev/input").join(name)) else { continue };
        let pressed = pressed.clone();
        let listen = move || {
            let mut event = [0; EVENT_BYTES];
            while device.read_exact(&mut event).is_ok() {
                if is_press(&event) {
                    pressed();
                }
            }
        };
        // Without it the machine is switched off the hard way, or over the API.
        let _ = std::thread::Builder::new().name("button".into()).spawn(listen);
    }
}

fn is_press(event: &[u8; EVENT_BYTES]) -> bool {
    let kind = u16::from_ne_bytes([event[16], event[17]]);
    let code = u16::from_ne_bytes([event[18], event[19]]);
    let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
    (kind, code, value) == (EV_KEY, KEY_POWER, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_press_of_the_button_counts() {
        let mut event = [0; EVENT_BYTES];
        event[16..24].copy_from_slice(&[1, 0, 116, 0, 1, 0, 0, 0]);
        assert!(is_press(&event));
        event[20] = 0;
        assert!(!is_press(&event), "released");
        event[18..21].copy_from_slice(&[30, 0, 1]);
        assert!(!is_press(&event), "another key");
    }
}
