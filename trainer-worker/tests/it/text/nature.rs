//! Passages about invented animals, plant diseases, minerals, foods and cheeses.

use super::{Article, article, capitalised};

/// Adds them to `all`.
pub(super) fn add(all: &mut Vec<Article>) {
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
}
