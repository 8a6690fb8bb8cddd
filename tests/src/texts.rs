//! Documents for the tests: small, meaningful, made from fixed words, never the same twice.

use moerag_proto::v1::{Document, DocumentFormat};

const SUBJECTS: [(&str, &str); 12] = [
    (
        "lighthouse",
        "guides ships along a rocky coast with a rotating lamp",
    ),
    (
        "glacier",
        "moves slowly downhill and carves deep valleys into the bedrock",
    ),
    (
        "compiler",
        "translates source code into instructions that a processor executes",
    ),
    (
        "beehive",
        "stores honey in wax combs that the workers seal for the winter",
    ),
    (
        "telescope",
        "collects faint light from distant galaxies with a curved mirror",
    ),
    (
        "sourdough",
        "rises because wild yeast and bacteria ferment the wet flour",
    ),
    (
        "turbine",
        "turns the pressure of falling water into electric power",
    ),
    (
        "vaccine",
        "trains the immune system to recognise a virus before an infection",
    ),
    (
        "violin",
        "produces its tone when a bow makes the strings vibrate",
    ),
    (
        "canal",
        "lifts barges between two rivers through a chain of locks",
    ),
    (
        "database",
        "keeps committed records safe by writing them to a log first",
    ),
    (
        "volcano",
        "erupts when gas-rich magma finds a way through the crust",
    ),
];

const DETAILS: [&str; 8] = [
    "Engineers inspect it every spring because frost causes small cracks.",
    "In 1874 a committee of twelve members paid 3400 crowns for the first one.",
    "To repair it, first remove the cover, then clean the inner ring and finally tighten the bolts.",
    "It is larger than the older model but needs less energy than its rivals.",
    "The word is defined as a device that works without supervision for many days.",
    "About 250 visitors come to see it each week during the summer.",
    "Its history began in a small harbour town near the northern border.",
    "Heavy rain leads to delays, therefore the keepers store spare parts in the tower.",
];

/// Document number `i`: its id, subject and the number itself are in the text.
pub fn document(i: usize) -> Document {
    let (subject, does) = SUBJECTS[i % SUBJECTS.len()];
    let mut text = format!("The {subject} number {i} {does}.");
    for k in 0..4 {
        text.push(' ');
        text.push_str(DETAILS[(i / SUBJECTS.len() + i * 3 + k * 5) % DETAILS.len()]);
    }
    Document {
        id: format!("doc-{i:05}"),
        title: format!("Notes on {subject} {i}"),
        text,
        format: DocumentFormat::Plain as i32,
        metadata: [("subject".to_owned(), subject.to_owned())].into(),
        whole: false,
    }
}

/// The documents `0..n`.
pub fn documents(n: usize) -> Vec<Document> {
    (0..n).map(document).collect()
}

/// A query that nobody asked before; number `i`.
pub fn query(i: usize) -> String {
    let (subject, does) = SUBJECTS[(i * 7) % SUBJECTS.len()];
    let words: Vec<&str> = does.split(' ').collect();
    let start = i % (words.len() - 3);
    format!(
        "what {} {} {} about {subject} case {i}",
        words[start],
        words[start + 1],
        words[start + 2]
    )
}
