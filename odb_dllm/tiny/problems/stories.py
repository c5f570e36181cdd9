"""The stories that arithmetic word problems are made from: plain data, rendered by `problems.py`.

A story is (numbers, question, answer).

- numbers: `a=2..20` draws uniformly; `a=2..9*b` draws a multiple of an earlier number.
- question: `{slot}` is a number, a name (`A`, `B`, `C`, with `he`, `his`, `He` for A), an object (`things`, `stuff`),
  a container (`boxes`, `box`) or a place; `(x|y)` is a choice between wordings.
- answer: one step per line; `[t=a+b]` computes t and is shown as `3+4=<<3+4=7>>7`. The last step is the answer.
"""

# Lists of words, separated by spaces; a container is its plural and its singular.
NAMES_HER = (
    "Anna Maria Emma Olivia Sophia Mia Lucy Grace Ella Chloe Lily Nora Ruby Clara Alice Julia Sarah Laura Kate Jane "
    "Zoe Ivy Rosa Helen Nina Tina Carla Diana Eva Fatima Priya Mei Aisha Yuki Elena Marta Paula Rita Wendy Hana"
)
NAMES_HIM = (
    "Tom Ben Sam Jack Leo Max Noah Liam Lucas Henry Oscar Peter Paul Mark James John David Adam Eric Frank George "
    "Ivan Karl Luis Marco Nick Omar Pedro Ravi Simon Tim Victor Will Ahmed Kenji Chen Dan Felix Hugo Jorge"
)
THINGS = (
    "apples oranges pears lemons peaches plums cookies muffins cakes candies stickers marbles cards coins stamps "
    "shells stones beads buttons pencils pens crayons markers erasers notebooks books comics magazines toys blocks "
    "balloons flowers roses tulips seeds eggs tickets badges bottles cups plates spoons candles ribbons photos"
)
BOXES = "boxes:box bags:bag baskets:basket jars:jar trays:tray packs:pack crates:crate shelves:shelf rows:row"
PLACES = "shop market school library farm museum bakery garden park station"

STORIES: list[tuple[str, str, str]] = [
    # One operation
    (
        "a=2..30 b=2..30",
        "{A} (has|owns|keeps) {a} {things}. {B} gives {him} {b} more {things}. "
        "How many {things} does {A} have (now|in all|altogether)?",
        "{A} has [t=a+b] {things}.",
    ),
    (
        "a=4..40 b=2..30",
        "{A} (has|had) {a} {things} and (gives {b} of them to {B}|loses {b} of them|sells {b} of them at the {place}). "
        "How many {things} (are left|does {A} have left)?",
        "{A} has [t=a-b] {things} left.",
    ),
    (
        "a=2..9 b=2..10",
        "{A} (has|fills|buys) {a} {boxes} with {b} {things} (in each|in each {box}). "
        "(How many {things} are there in all|How many {things} does {A} have)?",
        "There are [t=a*b] {things} in all.",
    ),
    (
        "b=2..9 a=2..9*b",
        "{A} (puts|packs|sorts) {a} {things} equally into {b} {boxes}. How many {things} (are|go) in each {box}?",
        "Each {box} holds [t=a/b] {things}.",
    ),
    (
        "a=2..30 b=2..30",
        "{A} is {a} years old. {B} is {b} years older than {A}. How old is {B}?",
        "{B} is [t=a+b] years old.",
    ),
    # Two operations
    (
        "a=2..20 b=2..20 c=2..20",
        "{A} picks {a} {things} (in the morning|on Monday) and {b} {things} (in the afternoon|on Tuesday). "
        "{He} (gives|sells) {c} of them to {B}. How many {things} does {A} have left?",
        "{A} picks [t=a+b] {things}.\n{He} has [u=t-c] {things} left.",
    ),
    (
        "a=2..9 b=2..9 c=2..20",
        "{A} (buys|has|gets) {a} {boxes} of {things}. Each {box} (holds|contains|has) {b} {things}. "
        "{He} (gives away|uses|loses) {c} {things}. How many {things} (are left|does {he} have left)?",
        "There are [t=a*b] {things}.\n{A} has [u=t-c] {things} left.",
    ),
    (
        "a=2..9 b=2..9 c=2..20",
        "A {box} holds {a} {things}. {A} has {b} full {boxes} and {c} (more|extra|loose) {things}. "
        "How many {things} does {A} have (in all|altogether)?",
        "The {boxes} hold [t=a*b] {things}.\n{A} has [u=t+c] {things}.",
    ),
    (
        "a=2..20 b=2..20 c=2..9",
        "{A} has {a} {things} and {B} has {b} {things}. They put them together and share them equally among "
        "{c} (friends|children|people). How many {things} does each (one|of them) get?",
        "Together they have [t=a+b] {things}.\nEach one gets [u=t/c] {things}.",
    ),
    (
        "a=2..20 b=2..4",
        "{A} has {a} {things}. {B} has {b} times as many {things} as {A}. How many {things} do they have together?",
        "{B} has [t=a*b] {things}.\nTogether they have [u=a+t] {things}.",
    ),
    (
        "a=2..30 b=2..20",
        "{A} has {a} {things}. {B} has {b} more {things} than {A}. "
        "How many {things} do {A} and {B} have (together|in all)?",
        "{B} has [t=a+b] {things}.\nTogether they have [u=a+t] {things}.",
    ),
    (
        "a=4..40 b=2..20",
        "{A} has {a} {things}. {B} has {b} fewer {things} than {A}. How many {things} do they have (together|in all)?",
        "{B} has [t=a-b] {things}.\nTogether they have [u=a+t] {things}.",
    ),
    (
        "a=2..9 b=2..9 c=20..99",
        "{A} buys {a} {things} that cost {b} dollars each. {He} pays with {c} dollars. "
        "How (much change|many dollars) does {he} get back?",
        "The {things} cost [t=a*b] dollars.\n{A} gets back [u=c-t] dollars.",
    ),
    (
        "a=2..9 b=2..9 c=2..15",
        "{A} (earns|saves) {a} dollars (a|every) day for {b} days. {He} then spends {c} dollars at the {place}. "
        "How many dollars does {he} have left?",
        "{A} has [t=a*b] dollars.\n{He} has [u=t-c] dollars left.",
    ),
    (
        "b=2..9 a=2..9*b c=2..15",
        "{A} has {a} {things}, packed equally in {b} {boxes}. {He} adds {c} {things} to one {box}. "
        "How many {things} are in that {box} now?",
        "Each {box} has [t=a/b] {things}.\nThat {box} now has [u=t+c] {things}.",
    ),
    (
        "a=5..40 b=2..20 c=2..9",
        "{A} makes {a} {things}. {He} keeps {b} and shares the rest equally between {c} (friends|plates|neighbors). "
        "How many {things} does each get?",
        "There are [t=a-b] {things} left.\nEach gets [u=t/c] {things}.",
    ),
    (
        "a=2..15 b=2..15 c=2..3",
        "{A} reads {a} pages on (Monday|Friday) and {b} pages on (Tuesday|Saturday). "
        "{B} reads {c} times as many pages as {A}. How many pages does {B} read?",
        "{A} reads [t=a+b] pages.\n{B} reads [u=t*c] pages.",
    ),
    (
        "a=20..90 b=2..9 c=2..9",
        "A book has {a} pages. {A} reads {b} pages (a|every) day for {c} days. How many pages are left to read?",
        "{A} reads [t=b*c] pages.\nThere are [u=a-t] pages left.",
    ),
    (
        "a=2..20 b=2..20 c=20..60",
        "A (bus|train|boat) has {c} seats. {a} people get on at the {place} and {b} people get on at the next stop. "
        "How many seats are (empty|free) (now|then)?",
        "There are [t=a+b] people.\n[u=c-t] seats are empty.",
    ),
    (
        "a=2..9 b=2..9",
        "{A} walks {a} miles to the {place} and {a} miles back (each|every) day. "
        "How many miles does {he} walk in {b} days?",
        "{A} walks [t=a*2] miles a day.\n{He} walks [u=t*b] miles.",
    ),
    (
        "a=2..30*2 b=2..20",
        "{A} has {a} {things}. {He} gives half of them to {B} and then (finds|buys) {b} more. "
        "How many {things} does {A} have now?",
        "{A} keeps [t=a/2] {things}.\n{He} has [u=t+b] {things} now.",
    ),
    # Three operations
    (
        "a=2..9 b=2..6 c=2..9 d=2..6",
        "{A} buys {a} {things} for {b} dollars each and {c} {stuff} for {d} dollars each. "
        "How many dollars does {he} (spend|pay) in (all|total)?",
        "The {things} cost [t=a*b] dollars.\nThe {stuff} cost [u=c*d] dollars.\n{A} spends [v=t+u] dollars.",
    ),
    (
        "a=2..20 b=2..20 c=2..20 d=2..20",
        "{A} has {a} {things} and {b} {stuff}. {B} has {c} {things} and {d} {stuff}. "
        "How many more items does {A} have than {B}?",
        "{A} has [t=a+b] items.\n{B} has [u=c+d] items.\n{A} has [v=t-u] more items.",
    ),
    (
        "a=2..9 b=2..9 c=2..15 d=2..9",
        "{A} (collects|makes) {a} {things} (a|every) day for {b} days. {He} gives {c} of them to {B} and "
        "packs the rest into {boxes} of {d}. How many {boxes} does {he} fill?",
        "{A} has [t=a*b] {things}.\nThere are [u=t-c] {things} left.\n{He} fills [v=u/d] {boxes}.",
    ),
    (
        "a=2..15 b=2..15 c=2..15 d=2..4",
        "{A}, {B} and {C} have {a}, {b} and {c} {things}. {A}'s teacher has {d} times as many {things} as all of "
        "them together. How many {things} does the teacher have?",
        "{A} and {B} have [t=a+b] {things}.\nAll of them have [u=t+c] {things}.\nThe teacher has [v=u*d] {things}.",
    ),
    (
        "a=2..15 b=2..4 c=2..15",
        "{A} has {a} {things}. {B} has {b} times as many as {A}, and {C} has {c} more than {B}. "
        "How many {things} does {C} have more than {A}?",
        "{B} has [t=a*b] {things}.\n{C} has [u=t+c] {things}.\nThe difference is [v=u-a] {things}.",
    ),
    (
        "a=2..9 b=2..9 c=2..4 d=2..9",
        "(A gardener|A farmer|{A}) plants {a} rows of {b} {things} and {c} rows of {d} {stuff}. "
        "How many plants are there in (all|total)?",
        "There are [t=a*b] {things}.\nThere are [u=c*d] {stuff}.\nThere are [v=t+u] plants.",
    ),
    (
        "a=2..9 b=2..9 c=2..9 d=2..20",
        "At the {place}, a ticket for a child costs {a} dollars and a ticket for an adult costs {d} dollars. "
        "How much do {b} children and {c} adults pay?",
        "The children pay [t=a*b] dollars.\nThe adults pay [u=c*d] dollars.\nThey pay [v=t+u] dollars.",
    ),
    (
        "a=10..40 b=2..15 c=2..15 d=2..9",
        "{A} had {a} dollars. {He} spent {b} dollars on {things} and {c} dollars on {stuff}. With the rest {he} bought "
        "tickets for {d} dollars each. How many tickets did {he} buy?",
        "{A} spent [t=b+c] dollars.\n{He} had [u=a-t] dollars left.\n{He} bought [v=u/d] tickets.",
    ),
    (
        "b=2..9 a=2..9*b c=2..9 d=2..20",
        "{a} {things} fill {b} {boxes} equally. {A} has {c} such {boxes} and {d} loose {things}. "
        "How many {things} does {A} have?",
        "Each {box} holds [t=a/b] {things}.\n{c} {boxes} hold [u=t*c] {things}.\n{A} has [v=u+d] {things}.",
    ),
    (
        "a=2..9 b=2..9 c=2..9 d=2..9",
        "{A} works {a} hours on Monday and {b} hours on Tuesday, and earns {c} dollars an hour. "
        "{He} pays {d} dollars for lunch. How many dollars does {he} have left?",
        "{A} works [t=a+b] hours.\n{He} earns [u=t*c] dollars.\n{He} has [v=u-d] dollars left.",
    ),
    (
        "a=2..20 b=2..20 c=2..20",
        "{A} is {a} years old. {B} is {b} years older than {A}, and {C} is {c} years older than {B}. "
        "What is the sum of the ages of {A} and {C}?",
        "{B} is [t=a+b] years old.\n{C} is [u=t+c] years old.\nThe sum is [v=a+u].",
    ),
    (
        "a=2..9 b=2..9 c=2..9 d=2..9",
        "A {box} of {things} weighs {a} pounds and a {box} of {stuff} weighs {b} pounds. "
        "{A} carries {c} {boxes} of each. {B} carries {d} pounds less. How many pounds does {B} carry?",
        "One of each weighs [t=a+b] pounds.\n{A} carries [u=t*c] pounds.\n{B} carries [v=u-d] pounds.",
    ),
]

# A running quantity: (opening, [gains], [losses], question, subject of a step).  Events are chained one to three times.
CHAINS: list[tuple[str, list[str], list[str], str, str]] = [
    (
        "{A} has {n} {things}.",
        [
            "{B} gives {him} {k} {things}.",
            "{He} buys {k} more {things}.",
            "{He} finds {k} {things} at the {place}.",
        ],
        ["{He} gives {k} {things} to {C}.", "{He} loses {k} {things}.", "{He} sells {k} {things}."],
        "How many {things} does {A} have now?",
        "{A} has {sum} {things}.",
    ),
    (
        "There are {n} people on a bus.",
        ["At the {place}, {k} people get on.", "Then {k} more people get on."],
        ["At the next stop, {k} people get off.", "Then {k} people get off."],
        "How many people are on the bus now?",
        "There are {sum} people on the bus.",
    ),
    (
        "A {place} has {n} books on a shelf.",
        ["{A} brings back {k} books.", "{k} new books arrive."],
        ["{B} borrows {k} books.", "{k} old books are thrown away."],
        "How many books are on the shelf?",
        "There are {sum} books on the shelf.",
    ),
    (
        "A farm has {n} sheep.",
        ["{k} lambs are born.", "The farmer buys {k} sheep."],
        ["{k} sheep run away.", "The farmer sells {k} sheep."],
        "How many sheep does the farm have then?",
        "The farm has {sum} sheep.",
    ),
    (
        "{A} has {n} dollars.",
        ["{He} earns {k} dollars.", "{B} pays {him} {k} dollars."],
        ["{He} spends {k} dollars on {things}.", "{He} pays {k} dollars for {stuff}."],
        "How many dollars does {A} have in the end?",
        "{A} has {sum} dollars.",
    ),
    (
        "It is {n} degrees in the morning.",
        ["Then it gets {k} degrees warmer.", "The temperature rises by {k} degrees."],
        ["Then it gets {k} degrees colder.", "The temperature drops by {k} degrees."],
        "How many degrees is it in the end?",
        "It is {sum} degrees.",
    ),
]
