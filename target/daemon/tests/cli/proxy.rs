//! A door in front of the server that notes who goes through.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Requests that were seen: their method and path.
pub type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// Listens, passes everything on to `server`, and notes the requests.
pub fn watch(server: SocketAddr) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let noted = seen.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let noted = noted.clone();
            std::thread::spawn(move || pass(client, server, &noted));
        }
    });
    (address, seen)
}

fn pass(client: TcpStream, server: SocketAddr, seen: &Seen) {
    let mut upstream = TcpStream::connect(server).expect("the server is there");
    let mut answers = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers.0, &mut answers.1);
        let _ = answers.1.shutdown(std::net::Shutdown::Both);
    });
    let mut reader = BufReader::new(client);
    while let Some(head) = head(&mut reader) {
        let mut words = head.split_whitespace().map(str::to_owned);
        let request = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        seen.lock().unwrap().push(request);
        let mut body = vec![0; length(&head)];
        if reader.read_exact(&mut body).is_err() || upstream.write_all(head.as_bytes()).is_err() {
            break;
        }
        if upstream.write_all(&body).is_err() {
            break;
        }
    }
    let _ = upstream.shutdown(std::net::Shutdown::Write);
    let _ = back.join();
}

/// The head of the next request, with the empty line.
fn head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn length(head: &str) -> usize {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().map_or(0, |(_, value)| value.trim().parse().expect("a number"))
}
