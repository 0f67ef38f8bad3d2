//! The two halves of the ceiling against each other, every payload verified; and each
//! check shown to catch a peer that answers with wrong data.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

const REGION: &str = "33554432";
const BENCH: &str = env!("CARGO_BIN_EXE_bench");

fn server(args: &[&str]) -> (Child, String) {
    let mut child = Command::new(BENCH)
        .args(["ceiling-server", "--check", "--core", "0", "--region", REGION])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("server");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("port");
    let hello: serde_json::Value = serde_json::from_str(&line).expect("one line of JSON");
    (child, hello["port"].to_string())
}

fn client(port: &str, args: &[&str]) -> Output {
    // Both halves poll: on one core each would wait for the other's time slice to end.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let core = (cores - 1).min(1).to_string();
    Command::new(BENCH)
        .args(["ceiling-client", "--check", "--core", &core, "--port", port])
        .args(["--ios", "200", "--region", REGION])
        .args(args)
        .output()
        .expect("client")
}

#[test]
fn every_shape_moves_right_data() {
    for op in ["read", "write"] {
        for gather in ["copy", "pieces"] {
            for (payload, depth, connections, batch, rxbuf) in [
                ("4096", "1", "1", "0", "262144"),
                ("4096", "32", "4", "3", "5000"),
                ("131072", "8", "2", "0", "65536"),
                ("520", "128", "1", "0", "100"),
            ] {
                let shape =
                    ["--op", op, "--gather", gather, "--payload", payload, "--depth", depth]
                        .into_iter()
                        .chain(["--connections", connections, "--batch", batch, "--rxbuf", rxbuf])
                        .collect::<Vec<_>>();
                let (server, port) = server(&shape);
                let asked = client(&port, &shape);
                let answered = server.wait_with_output().expect("server");
                assert!(asked.status.success(), "{shape:?}: {asked:?}");
                assert!(answered.status.success(), "{shape:?}: {answered:?}");
                let sample: serde_json::Value =
                    serde_json::from_slice(&asked.stdout).expect("one line of JSON");
                assert!(sample["ios"].as_u64().expect("a count") >= 200, "{shape:?}: {sample}");
                assert_eq!(sample["congestion"], "reno");
            }
        }
    }
}

#[test]
fn the_client_catches_wrong_data() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listener");
    let port = listener.local_addr().expect("address").port().to_string();
    let liar = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("client");
        peer.read_exact(&mut [0; 72]).expect("a command");
        let _ = peer.write_all(&[0; 24 + 4096]);
        let _ = peer.read(&mut [0; 72]);
    });
    let asked = client(&port, &["--depth", "1"]);
    liar.join().expect("liar");
    assert!(!asked.status.success());
    assert!(String::from_utf8_lossy(&asked.stderr).contains("wrong data"), "{asked:?}");
}

#[test]
fn the_server_catches_wrong_data_and_places_outside() {
    for (place, complaint) in [(0u64, "wrong data"), (32 << 20, "invalid data")] {
        let (server, port) = server(&["--op", "write", "--depth", "1"]);
        let port = port.parse().expect("port");
        let mut peer = std::net::TcpStream::connect(("127.0.0.1", port)).expect("server");
        let mut message = vec![0; 72 + 4096];
        message[48..56].copy_from_slice(&place.to_le_bytes());
        let _ = peer.write_all(&message);
        let answered = server.wait_with_output().expect("server");
        assert!(!answered.status.success());
        assert!(String::from_utf8_lossy(&answered.stderr).contains(complaint), "{answered:?}");
    }
}

#[test]
fn impossible_shapes_are_refused_with_a_sentence() {
    for (shape, sentence) in [
        (["--payload", "7"], "multiple of 8"),
        (["--depth", "0"], "depth"),
        (["--connections", "0"], "a connection"),
        (["--congestion", "nonesuch"], "os error 2"),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listener");
        let port = listener.local_addr().expect("address").port().to_string();
        let asked = client(&port, &shape);
        assert!(!asked.status.success());
        let said = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert!(said.contains(sentence), "{shape:?}: {said}");
    }
}
