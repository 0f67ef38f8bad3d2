//! Every input of the corpus through its target, without a fuzzer: what was once found stays
//! fixed.

use std::path::Path;

#[test]
fn the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in fuzz::TARGETS {
        let folder = std::fs::read_dir(corpus.join(name)).expect("each target has a corpus");
        let mut inputs = 0;
        for file in folder {
            target(&std::fs::read(file.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no input");
    }
}
