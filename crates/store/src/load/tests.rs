//! Loading from real files, good and bad.

use super::*;

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = dir.join(name);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, bytes).unwrap();
}

fn load(dir: &Path, options: LoadOptions) -> (Vec<Document>, Vec<LoadError>) {
    let (good, bad): (Vec<_>, Vec<_>) = walk(dir, options).unwrap().partition(Result::is_ok);
    (
        good.into_iter().map(Result::unwrap).collect(),
        bad.into_iter().map(Result::unwrap_err).collect(),
    )
}

#[test]
fn a_walk_reports_what_is_bad_and_loads_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write(root, "a.md", "# The A\n\nText of a.");
    write(root, "sub/b.html", "<title>The B</title><p>Text of b.</p>");
    write(root, "sub/c.txt", "\u{feff}Text of c.");
    write(root, "README", "no extension");
    write(root, "bm.txt", "BM25 and MZ and GIF8 are words.");
    write(root, "latin.txt", b"caf\xe9");
    write(root, "fake.txt", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n");
    write(root, "zip.md", b"PK\x03\x04rest of it");
    write(root, "nul.txt", b"text\0more");
    write(root, "wide.txt", b"\xff\xfeh\0i\0");
    write(root, "big.txt", vec![b'x'; 101]);
    write(root, "photo.jpg", "not looked at");
    write(root, ".hidden.md", "hidden");
    write(root, ".gitignore", "ignored/\n*.draft.md\n");
    write(root, "ignored/d.md", "ignored");
    write(root, "x.draft.md", "ignored");
    let options = LoadOptions {
        max_file_bytes: 100,
        ..LoadOptions::default()
    };
    let (good, bad) = load(root, options.clone());

    let ids: Vec<_> = good
        .iter()
        .map(|d| (d.id.as_str(), d.title.as_str()))
        .collect();
    assert_eq!(
        ids,
        [
            ("README", "README"),
            ("a.md", "The A"),
            ("bm.txt", "bm"),
            ("sub/b.html", "The B"),
            ("sub/c.txt", "c")
        ]
    );
    assert_eq!(good[4].text, "Text of c.");
    assert_eq!(good[3].metadata[PATH_KEY], "sub/b.html");
    let reasons: Vec<_> = bad.iter().map(ToString::to_string).collect();
    let expected = [
        ("big.txt", "larger than 100 bytes"),
        ("fake.txt", "application/pdf"),
        ("latin.txt", "not UTF-8 at byte 3"),
        ("nul.txt", "NUL"),
        ("wide.txt", "UTF-16"),
        ("zip.md", "application/zip"),
    ];
    assert_eq!(reasons.len(), expected.len(), "{reasons:#?}");
    for (reason, (name, part)) in reasons.iter().zip(expected) {
        assert!(reason.contains(name) && reason.contains(part), "{reason}");
    }
    let mut walked = walk(root, options).unwrap();
    walked.by_ref().for_each(drop);
    assert_eq!(walked.skipped().get("jpg"), Some(&1));
}

#[test]
fn a_file_that_goes_away_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.md", "first");
    write(dir.path(), "b.md", "second");
    write(dir.path(), "c.md", "third");
    let mut walked = walk(dir.path(), LoadOptions::default()).unwrap();
    assert_eq!(walked.next().unwrap().unwrap().id, "a.md");
    fs_err::remove_file(dir.path().join("b.md")).unwrap();
    let error = walked.next().unwrap().unwrap_err();
    assert!(
        error.to_string().contains("b.md: cannot be read"),
        "{error}"
    );
    assert_eq!(walked.next().unwrap().unwrap().id, "c.md");
    assert!(walked.next().is_none());
}

#[test]
fn jsonl_records_are_documents() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{{\"_id\":\"long\",\"text\":\"{}\"}}", "x".repeat(300));
    let lines = [
        r#"{"_id":"1","title":"T","text":"One.","metadata":{"lang":"en","year":2020}}"#,
        "",
        r#"{"id":2,"text":"Two."}"#,
        r#"{"text":"no id"}"#,
        r#"{"_id":"","text":"blank id"}"#,
        "not json",
        &long,
        r#"{"_id":"3","text":"Three."}"#,
    ];
    write(dir.path(), "corpus.jsonl", lines.join("\n"));
    let options = LoadOptions {
        max_record_bytes: 200,
        whole_records: true,
        ..LoadOptions::default()
    };
    let (good, bad) = load(dir.path(), options);
    assert_eq!(
        good.iter().map(|d| d.id.as_str()).collect::<Vec<_>>(),
        ["1", "2", "3"]
    );
    assert!(good.iter().all(|d| d.whole));
    assert_eq!(
        (good[0].title.as_str(), good[0].metadata["year"].as_str()),
        ("T", "2020")
    );
    assert_eq!(
        bad.iter().map(|e| e.line).collect::<Vec<_>>(),
        [4, 5, 6, 7].map(Some)
    );
}

#[test]
fn a_bad_root_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(walk(&dir.path().join("none"), LoadOptions::default()).is_err());
    write(dir.path(), "a.exe", "x");
    assert!(walk(&dir.path().join("a.exe"), LoadOptions::default()).is_err());
    write(dir.path(), "b.md", "# B");
    let (good, bad) = load(&dir.path().join("b.md"), LoadOptions::default());
    assert_eq!((good[0].id.as_str(), bad.len()), ("b.md", 0));
}
