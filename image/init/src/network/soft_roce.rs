//! RDMA without a card for it: the kernel's soft-RoCE on a network device (`rdma link add`, which is
//! RDMA_NLDEV_CMD_NEWLINK of `rdma/rdma_netlink.h`).

use netlink_sys::protocols::NETLINK_RDMA;
use netlink_sys::{Socket, SocketAddr};
use std::io;

/// RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, RDMA_NLDEV_CMD_NEWLINK).
const NEW_LINK: u16 = 5 << 10 | 3;
const DEVICE_NAME: u16 = 2;
const NETWORK_NAME: u16 = 51;
const LINK_TYPE: u16 = 65;
/// NLM_F_REQUEST and NLM_F_ACK.
const FLAGS: u16 = 1 | 4;
/// NLMSG_ERROR, which also says that there was none.
const ERROR: u16 = 2;
const HEADER: usize = 16;

/// Makes the RDMA device `rxe_NAME` of the network device NAME. The kernel loads the module itself.
///
/// # Errors
/// What the kernel said; that it is there already is no error.
pub fn add(network: &str) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_RDMA)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(network), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    match code(&answer) {
        Some(0) => Ok(()),
        Some(code) => match io::Error::from_raw_os_error(-code) {
            error if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            error => Err(error),
        },
        None => Err(io::Error::other("the kernel's answer is none")),
    }
}

fn request(network: &str) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    message[4..6].copy_from_slice(&NEW_LINK.to_ne_bytes());
    message[6..8].copy_from_slice(&FLAGS.to_ne_bytes());
    attribute(&mut message, DEVICE_NAME, &format!("rxe_{network}"));
    attribute(&mut message, NETWORK_NAME, network);
    attribute(&mut message, LINK_TYPE, "rxe");
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

/// A text with the zero that ends it, filled up to four bytes.
fn attribute(message: &mut Vec<u8>, kind: u16, text: &str) {
    let length = 4 + text.len() as u16 + 1;
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(text.as_bytes());
    message.resize((message.len() + 1).next_multiple_of(4), 0);
}

/// The error in an answer: 0, or less.
fn code(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(HEADER..HEADER + 4)?.try_into().ok()?);
    (kind == ERROR && code <= 0 && code != i32::MIN).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_that_of_the_rdma_tool() {
        let bytes = request("eth1");
        let (head, attributes) = bytes.split_at(HEADER);
        assert_eq!(head[..8], [52, 0, 0, 0, 3, 20, 5, 0]);
        let expected = b"\x0d\0\x02\0rxe_eth1\0\0\0\0\x09\0\x33\0eth1\0\0\0\0\x08\0\x41\0rxe\0";
        assert_eq!(attributes, expected);
    }

    #[test]
    fn answers_are_read() {
        let mut answer = vec![0; HEADER + 4];
        answer[4] = 2;
        assert_eq!(code(&answer), Some(0));
        answer[HEADER..].copy_from_slice(&(-17_i32).to_ne_bytes());
        assert_eq!(code(&answer), Some(-17));
        for length in 0..HEADER + 4 {
            assert_eq!(code(&answer[..length]), None);
        }
        answer[4] = 3;
        assert_eq!(code(&answer), None);
    }
}
