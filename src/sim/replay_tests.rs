use super::choices::{Choice, MadeAt, Site};
use super::replay::{SavedList, Selection};

fn saved() -> SavedList {
    let choice = |host, site, nth, value| {
        let choice = Choice {
            host,
            site,
            nth,
            value,
        };
        let (at, nth) = (1_203_000_000, nth / 4);
        (choice, MadeAt { at, nth })
    };
    SavedList {
        version: "0.1.0".to_owned(),
        test: "tests::survives".to_owned(),
        seed: u64::MAX,
        explorer: "deviations 3".to_owned(),
        list: vec![
            choice(0, Site::Task, 15, 2),
            choice(u16::MAX, Site::Loss, u64::MAX, u32::MAX),
        ],
    }
}

#[test]
fn a_saved_list_is_read_back() {
    let meanings = ["1.203 s client: `a` # runs\nfirst".to_owned()];
    let text = saved().text(&meanings);
    let expected = "windlass simulation 1\nversion 0.1.0\ntest tests::survives\n\
        seed 18446744073709551615\nexplorer deviations 3\n\n\
        # host, site, count, value, time, count at that time\n\
        0 Task 15 2 1203000000 3  # 1.203 s client: `a` # runs first\n\
        65535 Loss 18446744073709551615 4294967295 1203000000 4611686018427387903\n";
    assert_eq!(text, expected);
    assert_eq!(text.parse(), Ok(saved()));
    assert_eq!(text.replace('\n', "\r\n").parse(), Ok(saved()));
}

#[test]
fn a_list_may_be_edited_by_hand() {
    let text = "windlass simulation 1\n# a comment\nseed 3\n\n  1   Event 2 1 0 0\n#0 Task 1 1\n";
    let saved: SavedList = text.parse().unwrap();
    assert_eq!((saved.seed, saved.list.len()), (3, 1));
}

#[test]
fn errors_name_their_line() {
    let error = |text: &str| text.parse::<SavedList>().unwrap_err().to_string();
    let start = "windlass simulation 1\nseed 3\n";
    assert_eq!(
        error(""),
        "line 1: the first line is not `windlass simulation 1`"
    );
    assert_eq!(
        error("windlass simulation 1\n"),
        "line 1: the seed is missing"
    );
    let no_seed = "line 2: the seed `x` is not a number in range: invalid digit found in string";
    assert_eq!(error("windlass simulation 1\nseed x"), no_seed);
    let no_choice = error(&format!("{start}0 Task 1"));
    assert!(
        no_choice.starts_with("line 3: `0 Task 1` is not a decision"),
        "{no_choice}"
    );
    assert_eq!(
        error(&format!("{start}0 Tusk 1 1 0 0")),
        "line 3: there is no site `Tusk`"
    );
    let large = error(&format!("{start}\n65536 Task 1 1 0 0"));
    assert!(
        large.starts_with("line 4: the host `65536` is not a number"),
        "{large}"
    );
}

#[test]
fn a_selection_is_a_seed_or_a_file() {
    assert_eq!(Selection::parse(" 17 "), Some(Selection::Seed(17)));
    assert_eq!(Selection::parse("0x11"), Some(Selection::Seed(17)));
    assert_eq!(Selection::parse(""), None);
    for path in ["target/sim/a-1.txt", "17.txt", "18446744073709551616"] {
        assert_eq!(Selection::parse(path), Some(Selection::File(path.into())));
    }
}
