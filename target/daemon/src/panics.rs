//! What a panic ends.

/// From now on a panic ends the process at once, where it is: before anything that is half done is
/// taken apart. Only one at a request of the API ends that request ([`webui_api::handles_request`]).
pub fn end_the_process() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        if !webui_api::handles_request() {
            std::process::abort();
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    /// Set by a test for its own child.
    const CHILD: &str = "FOREBAY_TEST_DEVICE";

    /// The child's part of the next test.
    #[test]
    fn a_thread_that_panics() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        super::end_the_process();
        let ended = std::thread::spawn(|| panic!("planted")).join();
        println!("it went on: {ended:?}");
    }

    #[test]
    fn a_panic_of_any_thread_ends_the_process() {
        let out = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "panics::tests::a_thread_that_panics", "--nocapture"])
            .env(CHILD, "none")
            .output()
            .unwrap();
        assert_eq!(out.status.signal(), Some(6), "SIGABRT: {out:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("planted"), "{out:?}");
    }
}
