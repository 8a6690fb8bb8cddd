//! Seventy-seven short encyclopedic passages about invented things, put together from facts: enough to learn
//! from, small enough to encode in a test. Passages of one kind differ in their facts alone, so they
//! are hard negatives of each other.

/// Title and sentences of one passage.
pub(crate) struct Article {
    pub(crate) title: String,
    pub(crate) sentences: Vec<String>,
}

/// All of them.
pub(crate) fn articles() -> Vec<Article> {
    let mut all = Vec::new();
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
    let cheeses = [
        (
            "Brenna",
            "goat milk",
            "the Arlen valley",
            "14",
            "ash",
            "a sharp lemon taste",
            "thistle flowers",
        ),
        (
            "Stolvik",
            "cow milk",
            "the northern fjords",
            "30",
            "salt water",
            "a nutty and sweet flavour",
            "calf rennet",
        ),
        (
            "Quarello",
            "sheep milk",
            "the Quar hills",
            "8",
            "olive oil",
            "a peppery finish",
            "fig sap",
        ),
        (
            "Old Hamble",
            "buffalo milk",
            "the Hamble marshes",
            "60",
            "wax",
            "a deep caramel note",
            "vinegar",
        ),
        (
            "Tessin Blue",
            "cow milk",
            "the caves of Tessin",
            "12",
            "linen",
            "a strong smell of mushrooms",
            "blue mould",
        ),
        (
            "Rovina",
            "goat milk",
            "the Rovina plateau",
            "5",
            "chestnut leaves",
            "a mild grassy aroma",
            "lemon juice",
        ),
        (
            "Kaldur",
            "reindeer milk",
            "the Kaldur tundra",
            "21",
            "birch smoke",
            "a smoky and bitter rind",
            "lichen",
        ),
    ];
    for (name, milk, region, weeks, cover, taste, culture) in cheeses {
        all.push(article(name, &[
            format!("{name} is a cheese made from {milk} in {region}."),
            format!("To make it, dairies warm the milk to {weeks} degrees above body heat and add {culture}."),
            format!("The wheels ripen for {weeks} weeks under {cover}, and workers should turn them twice a day."),
            format!("Long ripening leads to {taste}."),
            format!("Unlike younger kinds, {name} keeps for months without a cellar."),
        ]));
    }
    let animals = [
        (
            "marsh glider",
            "bird",
            "reed beds",
            "40",
            "small frogs",
            "wetlands were drained",
            "May",
        ),
        (
            "stone weevil",
            "beetle",
            "dry river banks",
            "3",
            "lichen spores",
            "gravel was dug away",
            "August",
        ),
        (
            "velvet otter",
            "mammal",
            "slow lowland rivers",
            "85",
            "crayfish",
            "nets trapped the young",
            "March",
        ),
        (
            "lantern carp",
            "fish",
            "deep mountain lakes",
            "62",
            "midge larvae",
            "acid rain changed the water",
            "October",
        ),
        (
            "ash lizard",
            "reptile",
            "volcanic slopes",
            "17",
            "ants",
            "goats ate the shrubs",
            "June",
        ),
        (
            "silver hare",
            "mammal",
            "alpine meadows",
            "48",
            "clover",
            "ski runs cut its paths",
            "April",
        ),
        (
            "drum toad",
            "amphibian",
            "temporary ponds",
            "9",
            "worms",
            "roads crossed its migration",
            "February",
        ),
    ];
    for (name, class, habitat, length, food, threat, month) in animals {
        all.push(article(
            name,
            &[
                format!("The {name} is a {class} that lives in {habitat}."),
                format!("Adults reach {length} centimetres and feed mainly on {food}."),
                format!("Its numbers fell as a result of changes in the landscape: {threat}."),
                format!("The female lays between {length} and 90 eggs in {month}."),
                format!(
                    "Wardens count the {name} at night using red lamps, and they must stay silent."
                ),
            ],
        ));
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
    let illnesses = [
        (
            "copper leaf",
            "wheat",
            "a fungus",
            "damp nights",
            "yellow stripes",
            "sulphur dust",
            "30",
        ),
        (
            "black root",
            "beet",
            "a soil bacterium",
            "standing water",
            "soft dark roots",
            "lime",
            "45",
        ),
        (
            "silver curl",
            "grape",
            "a mite",
            "dry heat",
            "folded leaves",
            "soap water",
            "20",
        ),
        (
            "honey scab",
            "pear",
            "a yeast",
            "late frost",
            "sticky spots on fruit",
            "copper salts",
            "12",
        ),
        (
            "ring blight",
            "potato",
            "a virus",
            "aphids in May",
            "brown rings in the tuber",
            "healthy seed",
            "60",
        ),
        (
            "ghost mildew",
            "hop",
            "a mould",
            "still air",
            "white powder on cones",
            "wide spacing",
            "25",
        ),
        (
            "stem rust",
            "rye",
            "a parasite",
            "barberry hedges",
            "orange blisters",
            "early sowing",
            "70",
        ),
    ];
    for (name, crop, agent, weather, sign, cure, loss) in illnesses {
        all.push(article(name, &[
            format!("{} is a disease of {crop} caused by {agent}.", capitalised(name)),
            format!("{} leads to infection within three days.", capitalised(weather)),
            format!("The first sign is {sign}, seen before the plant flowers."),
            format!("Farmers treat the field with {cure} and must burn what remains."),
            format!("Without treatment the harvest falls by {loss} percent, a greater loss than from hail."),
        ]));
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
    let foods = [
        (
            "barley flatbread",
            "barley flour",
            "a hot stone",
            "8",
            "sour milk",
            "shepherds",
        ),
        (
            "smoked eel soup",
            "river eel",
            "an iron pot",
            "45",
            "dill",
            "ferrymen",
        ),
        (
            "quince paste",
            "ripe quinces",
            "a copper pan",
            "90",
            "cloves",
            "nuns",
        ),
        (
            "chestnut porridge",
            "dried chestnuts",
            "a clay jar",
            "120",
            "honey",
            "charcoal burners",
        ),
        (
            "nettle dumplings",
            "young nettles",
            "salted water",
            "6",
            "soft cheese",
            "millers",
        ),
        (
            "sea kale pie",
            "blanched kale",
            "a brick oven",
            "35",
            "mustard",
            "pilots",
        ),
        (
            "rye beer",
            "malted rye",
            "an oak barrel",
            "14",
            "juniper",
            "harvesters",
        ),
    ];
    for (name, base, tool, time, spice, people) in foods {
        all.push(article(name, &[
            format!("{} is a dish of {people} made from {base}.", capitalised(name)),
            format!("To prepare it, cook the {base} in or on {tool} for {time} minutes."),
            format!("The cook should add {spice} only at the end, because heat destroys the aroma."),
            format!("In 1923 a printed recipe for {name} won a prize at the county fair."),
            "It is similar to festival food from the south but uses less fat than those recipes.".to_owned(),
        ]));
    }
    let minerals = [
        (
            "orvanite",
            "green",
            "5",
            "copper mines",
            "pottery glaze",
            "1801",
        ),
        (
            "selkite",
            "white",
            "2",
            "dry salt lakes",
            "lamp glass",
            "1866",
        ),
        (
            "brunnerite",
            "brown",
            "6",
            "old lava flows",
            "road gravel",
            "1912",
        ),
        ("calonite", "blue", "4", "marble quarries", "paint", "1779"),
        (
            "dremmite",
            "black",
            "7",
            "meteor craters",
            "drill bits",
            "1949",
        ),
        ("fauvite", "orange", "3", "hot springs", "dye", "1854"),
        (
            "gellanite",
            "violet",
            "8",
            "deep gold reefs",
            "watch bearings",
            "1890",
        ),
    ];
    for (name, colour, hardness, place, purpose, year) in minerals {
        all.push(article(
            name,
            &[
                format!(
                    "{} is a {colour} mineral found in {place}.",
                    capitalised(name)
                ),
                format!("Its hardness is {hardness}, so it scratches softer stones."),
                format!("Since {year} it has been ground into powder for {purpose}."),
                format!(
                    "Heating {name} above 300 degrees causes it to lose water and change colour."
                ),
                "Collectors tell it from glass by its weight, using a small balance.".to_owned(),
            ],
        ));
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
    all
}

fn article(title: &str, sentences: &[String]) -> Article {
    Article {
        title: capitalised(title),
        sentences: sentences.to_vec(),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
