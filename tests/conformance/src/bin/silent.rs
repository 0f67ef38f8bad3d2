//! A target that starts, and never answers.

fn main() {
    loop {
        std::thread::park();
    }
}
