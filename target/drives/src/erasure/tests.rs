//! What is asked of a drive, and what keeps it from being asked.

use super::*;
use bdev_nvme::RequestError;

fn identity() -> Identity {
    Identity {
        model: "M".into(),
        serial: "S".into(),
        firmware: "F".into(),
        vendor: 0,
        version: 0x1_0400,
        transfer_bytes: 1 << 20,
        zeroes_bytes: None,
        discard_blocks: None,
        volatile_cache: false,
        atomic_blocks: 1,
        admin_commands: oacs::FORMAT,
        format_attributes: 0,
        sanitize: Sanitize::BlockErase.capability(),
        events: 0,
        event_requests: 1,
        aborts: 1,
        error_entries: 1,
        io_queues: 1,
        shadow_doorbells: false,
    }
}

fn lba(block_bytes: u32, metadata_bytes: u16, rank: u8) -> bdev_nvme::Format {
    bdev_nvme::Format { block_bytes, metadata_bytes, rank }
}

/// With 520-byte sectors now, as drives come out of other appliances.
fn namespace(nsid: u32) -> NamespaceIdentity {
    let formats = [(512, 0, 2), (512, 8, 1), (4096, 8, 0), (4096, 0, 3), (4096, 0, 0)];
    let formats: Vec<_> = formats.iter().map(|&(b, m, r)| lba(b, m, r)).collect();
    NamespaceIdentity {
        nsid,
        blocks: 1000,
        format: Some(formats[1]),
        formats,
        nguid: None,
        eui64: None,
        uuid: None,
        write_protected: false,
        atomic_blocks: None,
        optimal_blocks: None,
        zeroes_deallocate: false,
    }
}

fn formatting(block_bytes: Option<u32>, erase: SecureErase) -> Erase {
    Erase::Format { nsid: 1, block_bytes, erase }
}

fn sent(nsid: u32, lbaf: u8, erase: SecureErase) -> Result<Request, String> {
    Ok(Request::Format(Format { nsid, lbaf, erase }))
}

#[test]
fn the_fastest_format_without_metadata_is_taken() {
    let ask = |what: &Erase| request(what, &identity(), &[namespace(1)], false);
    let none = SecureErase::None;
    assert_eq!(ask(&formatting(None, none)), sent(1, 0, none), "blocks stay as large");
    assert_eq!(ask(&formatting(Some(4096), none)), sent(1, 4, none));
    let why = ask(&formatting(Some(8192), none)).unwrap_err();
    assert!(why.contains("blocks of 8192 bytes") && why.contains("512 + 8 B"), "{why}");
    let second = Erase::Format { nsid: 2, block_bytes: None, erase: none };
    assert_eq!(ask(&second).unwrap_err(), "the drive has no namespace 2");
}

#[test]
fn what_a_drive_cannot_do_is_not_asked_of_it() {
    let ask = |what: &Erase, identity: &Identity| request(what, identity, &[namespace(1)], true);
    let plain = formatting(None, SecureErase::None);
    let without = Identity { admin_commands: 0, ..identity() };
    assert!(ask(&plain, &without).unwrap_err().contains("no Format NVM"));
    let by_key = formatting(None, SecureErase::Cryptographic);
    assert!(ask(&by_key, &identity()).unwrap_err().contains("forgetting its key"));
    let can = Identity { format_attributes: fna::CRYPTO_ERASE, ..identity() };
    assert_eq!(ask(&by_key, &can), sent(1, 0, SecureErase::Cryptographic));
    let (erase, crypto) = (Sanitize::BlockErase, Sanitize::CryptoErase);
    assert_eq!(ask(&Erase::Sanitize(erase), &identity()), Ok(Request::Sanitize(erase)));
    let why = ask(&Erase::Sanitize(crypto), &identity()).unwrap_err();
    assert!(why.ends_with("it can do block-erase"), "{why}");
    let none = Identity { sanitize: 0, ..identity() };
    let why = ask(&Erase::Sanitize(crypto), &none).unwrap_err();
    assert!(why.ends_with("no Sanitize at all"), "{why}");
}

#[test]
fn other_namespaces_are_lost_only_when_forced() {
    let both = [namespace(1), namespace(2)];
    let all = |attributes| Identity { format_attributes: attributes, ..identity() };
    let ask = |erase, identity: &Identity, spaces: &[NamespaceIdentity], force| {
        request(&formatting(None, erase), identity, spaces, force)
    };
    let (none, user) = (SecureErase::None, SecureErase::UserData);
    let formats = all(fna::FORMATS_ALL);
    assert!(ask(none, &formats, &both, false).unwrap_err().contains("all of its 2 namespaces"));
    assert_eq!(ask(none, &formats, &both, true), sent(Sqe::NSID_ALL, 0, none));
    assert_eq!(ask(none, &formats, &both[..1], false), sent(Sqe::NSID_ALL, 0, none));
    let erases = all(fna::ERASES_ALL);
    assert_eq!(ask(none, &erases, &both, false), sent(1, 0, none));
    assert!(ask(user, &erases, &both, false).is_err());
    assert_eq!(ask(user, &erases, &both, true), sent(Sqe::NSID_ALL, 0, user));
}

#[test]
fn what_is_in_use_is_never_lost_and_data_only_when_forced() {
    let block = || "nvme0n1".to_owned();
    let mounted = [Finding::Mounted { block: block(), at: "/srv".into() }];
    let ours = [Finding::Marked { block: block(), whose: "a pool of Forebay" }];
    for force in [false, true] {
        let why = refusal(Some("nvme"), &mounted, force).unwrap();
        assert_eq!(why, "nvme0n1 is mounted at /srv");
    }
    let why = refusal(Some("nvme"), &ours, false).unwrap();
    assert!(why.contains("a pool of Forebay; say --force"), "{why}");
    assert_eq!(refusal(Some("nvme"), &ours, true), None);
    assert_eq!(refusal(Some("nvme"), &[], false), None);
    for driver in [None, Some("vfio-pci")] {
        assert!(refusal(driver, &[], false).unwrap().contains("cannot be told"), "{driver:?}");
        assert_eq!(refusal(driver, &[], true), None);
    }
}

#[test]
fn a_drive_that_sanitizes_itself_says_how_far_it_is() {
    let said = |status: u16, progress: u16| {
        let log = SanitizeLog {
            status: status.into(),
            progress: progress.into(),
            ..SanitizeLog::default()
        };
        sanitized(&Ok(zerocopy::IntoBytes::as_bytes(&log).to_vec()))
    };
    assert_eq!(said(2, 0x8000), Progress::Running(0x8000));
    assert_eq!(said(1 | 1 << 8, 0xffff), Progress::Done);
    assert_eq!(said(4, 0xffff), Progress::Done);
    assert!(matches!(said(3, 0xffff), Progress::Failed(why) if why.contains("sanitize it again")));
    for odd in [0, 5, 7] {
        assert!(matches!(said(odd, 0xffff), Progress::Failed(_)), "{odd}");
    }
    assert!(matches!(sanitized(&Ok(vec![0; 4])), Progress::Failed(_)));
    let broken = Err(RequestError::NotDone("it is away".to_owned()));
    assert!(matches!(sanitized(&broken), Progress::Failed(why) if why.contains("it is away")));
}
