"""The stories of three and four steps, the running quantities and the words between sentences; see `stories.py`."""

THREE_STEPS: list[tuple[str, ...]] = [
    (
        "a=2..9 b=2..6 c=2..9 d=2..6",
        "{A} buys {a} {things} for {b} dollars each and {c} {stuff} for {d} dollars each. "
        "How many dollars does {he} (spend|pay) in (all|total)?",
        "t=a*b dollars: the {things} (cost|come to) # dollars|for the {things}(,|) {he} pays # dollars",
        "u=c*d dollars: the {stuff} (cost|come to) # dollars|for the {stuff}(,|) {he} pays # dollars",
        "v=t+u dollars: ({A}|{he}) (spends|pays) # dollars( in all|)|all of it costs # dollars",
    ),
    (
        "a=2..40 b=2..40 c=2..30 d=2..30",
        "{A} has {a} {things} and {b} {stuff}. {B} has {c} {things} and {d} {stuff}. "
        "How many more items does {A} have than {B}?",
        "t=a+b items: {A} (has|owns) # items( in all|)|there are # items (with|for) {A}",
        "u=c+d items: {B} (has|owns) # items( in all|)|there are # items (with|for) {B}",
        "v=t-u items: {A} has # more items|{A} has # (items more|more than {B})|{B} has # (items less|fewer items)",
    ),
    (
        "a=2..9 b=2..9 c=2..30 d=2..9",
        "{A} (collects|gathers) {a} {things} (a|every) day for {b} days. {He} gives {c} of them to {B} and "
        "packs the rest into {boxes} of {d}. How many {boxes} does {he} fill?",
        "t=a*b {things}: ({A}|{he}) (has|gets) # {things}( in all|)|there are # {things}( in all|)",
        "u=t-c {things}: there are # {things} (left|to pack)|({A}|{he}) (keeps|packs) # {things}",
        "v=u/d {boxes}: ({A}|{he}) (fills|packs) # {boxes}|the {things} fill # {boxes}|# {boxes} are (filled|full)",
    ),
    (
        "a=2..15 b=2..15 c=2..15 d=2..4",
        "{A}, {B} and {C} have {a}, {b} and {c} {things}. {A}'s teacher has {d} times as many {things} as all of "
        "them together. How many {things} does the teacher have?",
        "t=a+b {things}: {A} and {B} have # {things}|the first two have # {things}",
        "u=t+c {things}: (all of them|all three|they) have # {things}|with {C}, there are # {things}",
        "v=u*d {things}: the teacher (has|owns) # {things}|# {things} are the teacher's",
    ),
    (
        "a=2..20 b=2..5 c=2..30",
        "{A} has {a} {things}. {B} has {b} times as many as {A}, and {C} has {c} more than {B}. "
        "How many {things} does {C} have more than {A}?",
        "t=a*b {things}: {B} (has|owns) # {things}|# {things} (belong to|are with) {B}",
        "u=t+c {things}: {C} (has|owns) # {things}|# {things} (belong to|are with) {C}",
        "v=u-a {things}: {C} has # more {things}|{C} has # (more than {A}|{things} more)|{A} has # fewer",
    ),
    (
        "a=2..9 b=2..9 c=2..6 d=2..9",
        "(A gardener|A farmer|{A}) plants {a} rows of {b} {plants} and {c} rows of {d} {crops}. "
        "How many plants are there in (all|total)?",
        "t=a*b {plants}: there are # {plants}|the {a} rows (have|make) # {plants}",
        "u=c*d {crops}: there are # {crops}|the {c} rows (have|make) # {crops}",
        "v=t+u plants: there are # plants( in all|)|(all rows have|that makes) # plants",
    ),
    (
        "a=2..9 b=2..9 c=2..6 d=2..12",
        "At the {place}, a ticket for a child costs {a} dollars and a ticket for an adult costs {d} dollars. "
        "How (much|many dollars) do {b} children and {c} adults pay?",
        "t=a*b dollars: the children (pay|spend) # dollars|tickets for (the|{b}) children cost # dollars",
        "u=c*d dollars: the adults (pay|spend) # dollars|tickets for (the|{c}) adults cost # dollars",
        "v=t+u dollars: (they|all) (pay|spend) # dollars( together|)|all tickets cost # dollars",
    ),
    (
        "a=20..90 b=2..30 c=2..30 d=2..9",
        "{A} had {a} dollars. {He} spent {b} dollars on {things} and {c} dollars on {stuff}. With the rest {he} bought "
        "hats for {d} dollars each. How many hats did {he} buy?",
        "t=b+c dollars: ({A}|{he}) spent # dollars|the {things} and {stuff} (cost|were) # dollars",
        "u=a-t dollars: ({A}|{he}) had # dollars left|# dollars were left|the rest was # dollars",
        "v=u/d hats: ({A}|{he}) (bought|got) # hats|the rest (bought|paid) # hats",
    ),
    (
        "b=2..9 a=2..9*b c=2..9 d=2..30",
        "{a} {things} fill {b} {boxes} equally. {A} has {c} such {boxes} and {d} loose {things}. "
        "How many {things} does {A} have( in all|)?",
        "t=a/b {things}: each {box} (has|holds) # {things}|there are # {things} in (a|each) {box}",
        "u=t*c {things}: the {c} {boxes} (have|hold) # {things}|there are # {things} in {c} {boxes}",
        "v=u+d {things}: ({A}|{he}) (has|owns) # {things}( in all|)|there are # {things}( in all|)",
    ),
    (
        "a=2..9 b=2..9 c=2..9 d=2..30",
        "{A} works {a} hours on Monday and {b} hours on Tuesday, and earns {c} dollars an hour. "
        "{He} pays {d} dollars for lunch. How many dollars does {he} have left?",
        "t=a+b hours: ({A}|{he}) works # hours( in all|)|the two days (make|have) # hours",
        "u=t*c dollars: ({A}|{he}) (earns|gets) # dollars|the (work|job) brings # dollars",
        "v=u-d dollars: ({A}|{he}) has # dollars left|({A}|{he}) (keeps|takes home) # dollars|# dollars are left",
    ),
    (
        "a=2..30 b=2..20 c=2..20",
        "{A} is {a} years old. {B} is {b} years older than {A}, and {C} is {c} years older than {B}. "
        "What is the sum of the ages of {A} and {C}?",
        "t=a+b years: {B} is # years( old|)|the age of {B} is #",
        "u=t+c years: {C} is # years( old|)|the age of {C} is #",
        "v=a+u years: the sum of (both|their) ages is #|{A} and {C} are # years( together|)",
    ),
    (
        "a=2..9 b=2..9 c=2..9 d=2..30",
        "A {box} of {things} weighs {a} pounds and a {box} of {stuff} weighs {b} pounds. "
        "{A} carries {c} {boxes} of each. {B} carries {d} pounds less. How many pounds does {B} carry?",
        "t=a+b pounds: one of each (weighs|is) # pounds|the two {boxes} (weigh|are) # pounds",
        "u=t*c pounds: {A} (carries|has) # pounds|the load of {A} is # pounds",
        "v=u-d pounds: {B} (carries|has) # pounds|the load of {B} is # pounds",
    ),
    (
        "a=10..50 b=2..20 c=2..20 d=2..5",
        "{A} has {a} {things}. {He} gives {b} to {B} and {c} to {C}, and puts the rest into {d} equal piles. "
        "How many {things} are in a pile?",
        "t=b+c {things}: ({A}|{he}) gives away # {things}|{B} and {C} (get|have) # {things}",
        "u=a-t {things}: ({A}|{he}) (keeps|has) # {things}|there are # {things} left|# {things} are left",
        "v=u/d {things}: (a|each|every) pile (has|gets) # {things}|there are # {things} in (a|each) pile",
    ),
    (
        "a=2..9 b=2..9 c=2..9 d=20..99",
        "{A} makes {a} {things} and {B} makes {b} {things} (a|every) day. They work for {c} days. "
        "They need {d} {things}. How many {things} are (still missing|still needed)?",
        "t=a+b {things}: (one|each|every) day (brings|gives) # {things}|they (make|have) # {things} a day",
        "u=t*c {things}: the {c} days (bring|give) # {things}|they (make|have) # {things}( in all|)",
        "v=d-u {things}: # {things} are (missing|needed)|they need # (more {things}|{things} more)"
        "|they lack # {things}",
    ),
    (
        "a=2..20 b=2..20 c=2..40 d=2..40",
        "A (class|school|team) has {a} girls and {b} boys. {c} of them (go home|leave) and then {d} new children come. "
        "How many children are there now?",
        "t=a+b children: there are # children( in all|)|the girls and boys are # children",
        "u=t-c children: (there are|they are) # children|# children (stay|are left)",
        "v=u+d children: (there are|they are) # children( in all|)|# children are there",
    ),
]

FOUR_STEPS: list[tuple[str, ...]] = [
    (
        "a=2..9 b=2..6 c=2..9 d=2..6 e=20..99",
        "{A} buys {a} {things} for {b} dollars each and {c} {stuff} for {d} dollars each. {He} pays with {e} dollars. "
        "How (much change|many dollars) does {he} get back?",
        "t=a*b dollars: the {things} (cost|come to) # dollars|for the {things}(,|) {he} pays # dollars",
        "u=c*d dollars: the {stuff} (cost|come to) # dollars|for the {stuff}(,|) {he} pays # dollars",
        "v=t+u dollars: ({A}|{he}) (spends|pays) # dollars( in all|)|all of it costs # dollars",
        "w=e-v dollars: ({A}|{he}) gets back # dollars|the change is # dollars|# dollars are given back",
    ),
    (
        "a=2..9 b=2..9 c=2..6 d=2..9 e=2..30",
        "{A} plants {a} rows of {b} {plants} and {c} rows of {d} {crops}. Then {e} of the plants (die|are sold). "
        "How many plants are left?",
        "t=a*b {plants}: there are # {plants}|the {a} rows (have|make) # {plants}",
        "u=c*d {crops}: there are # {crops}|the {c} rows (have|make) # {crops}",
        "v=t+u plants: there are # plants( in all|)|all rows have # plants",
        "w=v-e plants: there are # plants left|# plants are left|({A}|{he}) (keeps|still has) # plants",
    ),
    (
        "a=2..20 b=2..20 c=2..20 d=2..20 e=2..9",
        "{A} has {a} {things}, {B} has {b}, and {C} has {c}. They lose {d} of them and share the rest equally among "
        "{e} (children|friends|people). How many {things} does each (one|of them) get?",
        "t=a+b {things}: {A} and {B} have # {things}|the first two have # {things}",
        "u=t+c {things}: (all of them|all three|they) have # {things}|with {C}, there are # {things}",
        "v=u-d {things}: there are # {things} left|(they|all three) (keep|share) # {things}|# {things} are left",
        "w=v/e {things}: (each one|everyone|each) (gets|receives) # {things}|# {things} go to (each one|everyone)",
    ),
    (
        "a=2..9 b=2..9 c=2..9 d=2..20 e=2..20",
        "{A} works {a} hours on Monday and {b} hours on Tuesday, and earns {c} dollars an hour. {He} pays {d} dollars "
        "for lunch and {e} dollars for the bus. How many dollars does {he} have left?",
        "t=a+b hours: ({A}|{he}) works # hours( in all|)|the two days (make|have) # hours",
        "u=t*c dollars: ({A}|{he}) (earns|gets) # dollars|the (work|job) brings # dollars",
        "v=u-d dollars: after lunch(,|) {he} has # dollars|lunch leaves {him} # dollars",
        "w=v-e dollars: ({A}|{he}) has # dollars left|({A}|{he}) (keeps|takes home) # dollars|# dollars are left",
    ),
]

# A running quantity: (opening, [gains], [losses], question, unit, sentence of a step). One to seven events are drawn.
CHAINS: list[tuple[str, list[str], list[str], str, str, str]] = [
    (
        "{A} (has|owns) {n} {things}.",
        [
            "{B} gives {him} {k}( more|) {things}.",
            "{He} (buys|gets) {k} more( {things}|).",
            "{He} finds {k} {things} at the {place}.",
            "{C} brings {him} {k}( more|).",
        ],
        [
            "{He} gives {k}( {things}|) to {C}.",
            "{He} (loses|breaks) {k}( of them| {things}|).",
            "{He} sells {k}( of them| {things}|).",
            "{B} takes {k}( of them|) away.",
        ],
        "How many {things} does {A} have (now|then|in the end)?",
        "{things}",
        "({A}|{he}) (has|owns) # {things}|there are # {things}",
    ),
    (
        "There are {n} people on a (bus|train|boat).",
        [
            "At the {place}, {k} people get on.",
            "(Then |){k} more( people|) get on.",
            "At a stop, {k} (people|more) get on.",
        ],
        ["At the next stop, {k} people get off.", "(Then |){k}( people|) get off.", "{k} people leave."],
        "How many people are on (board|it) (now|then|in the end)?",
        "people",
        "there are # people|# people are (there|on board)|we count # people",
    ),
    (
        "A (library|school|museum) has {n} books on a shelf.",
        ["{A} brings back {k} books.", "{k} new books (arrive|come).", "{B} gives it {k} (more|books)."],
        ["{B} borrows {k}( books|).", "{k} (old|torn) books are thrown away.", "{A} takes {k}( books|) home."],
        "How many books are on the shelf( now| then|)?",
        "books",
        "there are # books|the shelf (has|holds) # books",
    ),
    (
        "A (farm|farmer) has {n} (sheep|cows|goats).",
        ["{k} (young ones|babies) are born.", "The farm buys {k}( more|).", "{A} brings {k}( more|)."],
        ["{k}( of them|) run away.", "The farm sells {k}( of them|).", "{B} takes {k}( of them|) away."],
        "How many animals does the farm have (now|then|in the end)?",
        "animals",
        "the farm (has|keeps) # animals|there are # animals",
    ),
    (
        "{A} has {n} dollars.",
        ["{He} earns {k} dollars.", "{B} (pays|gives) {him} {k}( dollars|).", "{He} finds {k} dollars at the {place}."],
        [
            "{He} spends {k}( dollars|) on {things}.",
            "{He} pays {k} dollars for {stuff}.",
            "{He} lends {C} {k}( dollars|).",
        ],
        "How many dollars does {A} have (now|then|in the end)?",
        "dollars",
        "({A}|{he}) (has|holds) # dollars|there are # dollars",
    ),
    (
        "It is {n} degrees in the morning.",
        [
            "(Then it|It) gets {k} degrees warmer.",
            "The temperature (rises|goes up) by {k} degrees.",
            "It warms up by {k}.",
        ],
        ["(Then it|It) gets {k} degrees colder.", "The temperature (drops|goes down) by {k}.", "It cools down by {k}."],
        "How many degrees is it (now|then|in the end)?",
        "degrees",
        "it is # degrees|the temperature is #( degrees|)",
    ),
    (
        "A tank (holds|has) {n} gallons of water.",
        ["{A} pours in {k} gallons.", "Rain adds {k}( gallons|).", "{B} fills in {k} more( gallons|)."],
        ["{A} takes out {k}( gallons|).", "{B} uses {k} gallons.", "{k} gallons (leak|run) out."],
        "How many gallons are in the tank( now| then|)?",
        "gallons",
        "the tank (holds|has) # gallons|there are # gallons",
    ),
    (
        "{A} (starts|begins) a game with {n} points.",
        [
            "{He} (wins|scores) {k}( points|).",
            "A (card|star) gives {him} {k}( points|).",
            "{He} gets {k} more( points|).",
        ],
        [
            "{He} loses {k}( points|).",
            "{B} takes {k} points from {him}.",
            "A (trap|mistake) costs {him} {k}( points|).",
        ],
        "How many points does {A} have (now|then|in the end)?",
        "points",
        "({A}|{he}) (has|is at) # points|the score is #( points|)",
    ),
    (
        "A shop has {n} {things}( in stock|).",
        ["A truck brings {k}( more|).", "{A} delivers {k} {things}.", "The shop (orders|makes) {k} more."],
        ["{B} buys {k}( of them|).", "{k}( {things}|) are sold( to {C}|).", "The shop (sells|throws away) {k}."],
        "How many {things} does the shop have (now|then|in the end)?",
        "{things}",
        "the shop (has|keeps) # {things}|there are # {things}",
    ),
    (
        "There are {n} (birds|ducks) (on a lake|in a park).",
        ["{k} more (come|land|arrive).", "{k} (fly in|swim in).", "A group of {k} (joins them|comes)."],
        ["{k} (fly away|leave).", "{A} (scares|chases) away {k}( of them|).", "{k} of them (go|move) away."],
        "How many birds are there (now|then|in the end)?",
        "birds",
        "there are # birds|we (count|see) # birds|# birds (are there|stay)",
    ),
]

# Before a sentence, by where its step stands.
ONLY = "||So |Thus |Here, "
FIRST = "|First, |To start, |Here, "
MIDDLE = "|Then |Next, |Now |So "
LAST = "|So |Finally, |In the end, |Thus "

# Sentences that say what is done with the numbers; `@` is the unit.
PLAIN = {
    "+": "(adding|summing up) gives #( @|)|(we get|the sum is|the total is) #( @|)|this (makes|gives) # @",
    "-": "(subtracting|taking away) gives #( @|)|(we get|the result is) #( @|)|this (leaves|gives) # @",
    "*": "(multiplying gives|the product is) #( @|)|(we get|the result is) #( @|)|this (makes|gives) # @",
    "/": "(dividing|the division) gives #( @|)|(we get|the result is) #( @|)|this (makes|gives) # @",
}
