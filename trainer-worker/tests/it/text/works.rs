//! Passages about invented lighthouses, composers, machines, treaties and games.

use super::{Article, article, capitalised};

/// Adds them to `all`.
pub(super) fn add(all: &mut Vec<Article>) {
    let lighthouses = [
        (
            "Corran Point",
            "granite",
            "1834",
            "41",
            "Ailsa Munro",
            "herring boats struck the reef",
            "Skerry Bay",
        ),
        (
            "Velden Head",
            "brick",
            "1871",
            "28",
            "Pieter Roos",
            "timber ships ran aground in fog",
            "the Velden dunes",
        ),
        (
            "Ostra Rock",
            "cast iron",
            "1902",
            "19",
            "Ingrid Dahl",
            "the ferry sank on a winter night",
            "the Ostra narrows",
        ),
        (
            "Marrow Ness",
            "sandstone",
            "1790",
            "33",
            "Thomas Gale",
            "whalers lost three crews",
            "Marrow Sound",
        ),
        (
            "Cape Lindal",
            "concrete",
            "1958",
            "52",
            "Rosa Lindal",
            "oil tankers needed a safe channel",
            "the southern cape",
        ),
        (
            "Tern Island",
            "limestone",
            "1815",
            "24",
            "Hugh Penrose",
            "mail packets missed the harbour",
            "Tern Harbour",
        ),
        (
            "Bray Shoal",
            "steel",
            "1931",
            "37",
            "Oona Bray",
            "dredgers could not find the bank",
            "the Bray estuary",
        ),
    ];
    for (name, stone, year, height, keeper, cause, place) in lighthouses {
        all.push(article(name, &[
            format!("{name} Lighthouse is a {stone} tower above {place}."),
            format!("It was built in {year} because {cause}."),
            format!("The tower is {height} metres high, which is taller than the older beacon beside it."),
            format!("Its first keeper, {keeper}, trimmed the oil lamp every four hours through the night."),
            "Today the lamp is electric and a sensor switches it on at dusk.".to_owned(),
        ]));
    }
    let composers = [
        (
            "Elio Marchetti",
            "1712",
            "harpsichord suites",
            "Bergamo",
            "a duke dismissed him",
            "violin",
        ),
        (
            "Hanna Brandt",
            "1844",
            "choral masses",
            "Lubeck",
            "cholera closed the opera",
            "organ",
        ),
        (
            "Joris van Aalst",
            "1901",
            "film scores",
            "Antwerp",
            "the war destroyed his archive",
            "saxophone",
        ),
        (
            "Mirela Dobre",
            "1889",
            "string quartets",
            "Brasov",
            "her teacher moved abroad",
            "cello",
        ),
        (
            "Samuel Okoro",
            "1936",
            "highlife symphonies",
            "Enugu",
            "records were cheap",
            "trumpet",
        ),
        (
            "Aiko Tanabe",
            "1920",
            "flute sonatas",
            "Nagano",
            "a temple asked for new music",
            "koto",
        ),
        (
            "Lucia Ferrante",
            "1660",
            "church cantatas",
            "Naples",
            "convents needed singers",
            "lute",
        ),
    ];
    for (name, born, works, town, cause, instrument) in composers {
        let last = name.rsplit(' ').next().unwrap_or(name);
        all.push(article(name, &[
            format!("{name} was a composer from {town}, born in {born}."),
            format!("{last} wrote 27 {works}, more than any rival of the time."),
            format!("The career changed suddenly because {cause}."),
            format!("As a child {last} learned the {instrument} from a neighbour who repaired clocks."),
            format!("Most manuscripts lie in the city library of {town}, where readers must wear gloves."),
        ]));
    }
    let machines = [
        (
            "tide mill",
            "grinding grain",
            "a sluice gate",
            "6",
            "silt blocked the wheel",
            "oak",
        ),
        (
            "rope ferry",
            "crossing rivers",
            "a guide cable",
            "12",
            "spring floods snapped the rope",
            "hemp",
        ),
        (
            "peat press",
            "drying fuel",
            "a long lever",
            "2",
            "wet bricks crumble",
            "larch",
        ),
        (
            "wind pump",
            "draining polders",
            "a spiral screw",
            "18",
            "storms tore the sails",
            "canvas",
        ),
        (
            "ice house",
            "storing ice",
            "a double wall",
            "9",
            "warm winters left no ice",
            "straw",
        ),
        (
            "kelp kiln",
            "burning seaweed",
            "a stone trench",
            "4",
            "soda became cheap",
            "basalt",
        ),
        (
            "bell loom",
            "weaving ribbon",
            "a row of small bells",
            "7",
            "steam looms were faster",
            "brass",
        ),
    ];
    for (name, purpose, part, men, cause, material) in machines {
        all.push(article(
            name,
            &[
                format!("A {name} is a device for {purpose} that was common in coastal villages."),
                format!("First the crew of {men} opens {part}, then they set the speed by hand."),
                format!(
                    "The frame was made of {material} and should be greased with tallow every week."
                ),
                format!("Its use declined after 1880 because {cause}."),
                format!("Compared with an engine, the {name} needs no fuel but much patience."),
            ],
        ));
    }
    let treaties = [
        (
            "Treaty of Arden",
            "1488",
            "two river kingdoms",
            "fishing rights",
            "salt",
            "Queen Maud",
        ),
        (
            "Peace of Kolvar",
            "1629",
            "the eastern leagues",
            "a disputed pass",
            "silver",
            "Chancellor Brod",
        ),
        (
            "Lisk Accord",
            "1907",
            "three railway companies",
            "track width",
            "coal",
            "Minister Hale",
        ),
        (
            "Sable Convention",
            "1974",
            "polar states",
            "seal hunting",
            "quotas",
            "Doctor Nilsen",
        ),
        (
            "Pact of Two Towers",
            "1251",
            "rival bishops",
            "a bridge toll",
            "wool",
            "Abbot Severin",
        ),
        (
            "Dunmore Charter",
            "1763",
            "the harbour guilds",
            "wharf fees",
            "tea",
            "Governor Pike",
        ),
        (
            "Halden Protocol",
            "1996",
            "lake districts",
            "phosphate limits",
            "detergent",
            "Senator Ruiz",
        ),
    ];
    for (name, year, parties, issue, good, author) in treaties {
        all.push(article(name, &[
            format!("The {name} was an agreement between {parties}, signed in {year}."),
            format!("{author} wrote its first draft in eleven days."),
            format!("It settled a quarrel over {issue}, due to which trade in {good} had stopped."),
            "Both sides agreed to pay 400 crowns to the widows, whereas earlier pacts paid nothing.".to_owned(),
            format!("The {name} remained in force for 52 years until a new council replaced it."),
        ]));
    }
    let games = [
        (
            "three ring",
            "clay discs",
            "a chalk circle",
            "6",
            "harbour towns",
            "1702",
        ),
        (
            "long stile",
            "a leather ball",
            "two hedges",
            "22",
            "hill farms",
            "1540",
        ),
        (
            "night draughts",
            "glowing pieces",
            "a dark board",
            "2",
            "mining camps",
            "1911",
        ),
        (
            "barrel tilt",
            "empty barrels",
            "a sloping street",
            "8",
            "brewery yards",
            "1829",
        ),
        (
            "goose chase",
            "wooden geese",
            "a frozen pond",
            "12",
            "monastery schools",
            "1475",
        ),
        (
            "wire tennis",
            "feather balls",
            "a low wire",
            "4",
            "garden squares",
            "1888",
        ),
        (
            "salt dice",
            "bone dice",
            "a bowl of salt",
            "5",
            "trading posts",
            "1633",
        ),
    ];
    for (name, kit, field, players, place, year) in games {
        all.push(article(
            name,
            &[
                format!(
                    "{} is a game for {players} players from {place}.",
                    capitalised(name)
                ),
                format!("It is played with {kit} on or around {field}."),
                "To win, a side must score 15 points before the bell rings.".to_owned(),
                format!(
                    "The rules were first written down in {year} after a quarrel about cheating."
                ),
                format!("Beginners find {name} harder than chess, although both need planning."),
            ],
        ));
    }
}
