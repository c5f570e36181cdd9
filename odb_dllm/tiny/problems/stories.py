"""The stories of one and two steps that arithmetic word problems are made from, and their words: plain data.

A story is (numbers, question, step, ...); `stories_more.py` has the longer ones.

- numbers: `a=2..20` draws uniformly; `a=2..9*b` draws a multiple of an earlier number.
- question: `{slot}` is a number, a name (`A`, `B`, `C`, with `he`, `him`, `his`, `He` for A), an object (`things`,
  `stuff`), a kind of plant (`plants`, `crops`), a container (`boxes`, `box`) or a place; `(x|y)` is a choice between
  wordings, may be nested, and a `|` outside of brackets separates whole wordings.
- step: `t=a+b UNIT: SENTENCE` computes t from two numbers and says so; `#` in the sentence is the equation. Sentences
  begin in lower case and have no full stop, since a connective may come first; sentences that say no more than what is
  done with the numbers, with the unit, are added by `gsm8k.py`. The last step is the answer.
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
BOXES = "boxes:box bags:bag baskets:basket jars:jar trays:tray packs:pack crates:crate tins:tin sacks:sack"
PLACES = "shop market school library farm museum bakery garden park station"
PLANTS = "roses tulips lilies daisies beans carrots onions cabbages pumpkins leeks peppers herbs melons turnips"

ONE_STEP: list[tuple[str, ...]] = [
    (
        "a=2..9 b=2..11",
        "{A} (has|fills|buys) {a} {boxes} with {b} {things} in each( {box}|). "
        "How many {things} (are there|does {A} have)( in all| altogether|)?",
        "t=a*b {things}: there are # {things}( in all| altogether|)|the {boxes} (hold|contain) # {things}"
        "|({A}|{he}) (has|gets) # {things}( in all|)",
    ),
    (
        "b=2..9 a=2..11*b",
        "{A} (puts|packs|sorts) {a} {things} equally into {b} {boxes}. How many {things} (are|go) in each {box}?",
        "t=a/b {things}: each {box} (holds|has|gets) # {things}|({A}|{he}) puts # {things} (in each|in every) {box}",
    ),
    (
        "b=2..9 a=2..11*b",
        "{A} shares {a} {things} equally (among|between) {b} (friends|children|neighbors). "
        "How many {things} does each (one|friend|child) get?",
        "t=a/b {things}: (each one|everyone|each) (gets|receives) # {things}|({A}|{he}) gives # {things} to each",
    ),
    (
        "a=2..50 b=2..49",
        "{A} is {a} years old. {B} is {b} years older( than {A}|). How old is {B}?",
        "t=a+b years: {B} is # years old|{B} (must be|is now) # years( old|)|the age of {B} is #( years|)",
    ),
    (
        "a=10..80 b=2..60",
        "{A} is {a} years old. {B} is {b} years younger( than {A}|). How old is {B}?",
        "t=a-b years: {B} is # years old|{B} (must be|is now) # years( old|)|the age of {B} is #( years|)",
    ),
    (
        "a=8..99 b=2..80",
        "{A} has {a} {things}(.| and) {B} has {b}( {things}|). How many more {things} does {A} have than {B}?",
        "t=a-b more {things}: {A} has # more {things}( than {B}|)|{A} has # {things} more"
        "|{B} has # (fewer {things}|{things} less)",
    ),
    (
        "a=2..60 b=2..39",
        "{A} has {a} {things}. {B} has {b} more( {things}|) than {A}. How many {things} does {B} have?",
        "t=a+b {things}: {B} (has|owns) # {things}( in all|)|(there are|we count) # {things} for {B}"
        "|# {things} (belong to {B}|are {B}'s)",
    ),
    (
        "a=10..90 b=2..60",
        "{A} has {a} {things}. {B} has {b} fewer( {things}|) than {A}. How many {things} does {B} have?",
        "t=a-b {things}: {B} (has|owns) # {things}|(there are|we count) # {things} for {B}"
        "|# {things} (belong to {B}|are {B}'s)",
    ),
    (
        "a=2..60 b=2..39",
        "{A} has {a} {things}(.| and) {B} has {b}( {things}|). How many {things} do they have (together|in all)?",
        "t=a+b {things}: (they|both) (have|own) # {things}( together|)|together(, | )they have # {things}"
        "|there are # {things}( in all|)",
    ),
    (
        "a=2..11 b=2..9",
        "{A} buys {a} {things} (for|at) {b} dollars each. How many dollars does {he} (pay|spend)( in all|)?",
        "t=a*b dollars: ({A}|{he}) (pays|spends) # dollars( in all|)|the {things} cost # dollars( in all|)"
        "|the price is # dollars",
    ),
    (
        "a=5..99 b=2..80",
        "{A} (buys {things} for {b} dollars|spends {b} dollars at the {place}) and pays with {a} dollars. "
        "How (much change|many dollars) does {he} get back?",
        "t=a-b dollars: ({A}|{he}) gets( back|) # dollars( as change|)|the change is # dollars"
        "|# dollars (are the change|are given back)",
    ),
    (
        "a=2..49*2",
        "{A} has {a} {things} and (uses|sells|loses) half of them. How many {things} (are left|does {he} still have)?",
        "t=a/2 {things}: ({A}|{he}) (keeps|still has) # {things}|half of them (is|are) # {things}|# {things} are left",
    ),
    (
        "a=20..99 b=2..90",
        "{A} reads a book of {a} pages. {He} has read {b} pages( so far|). How many pages are left( to read|)?",
        "t=a-b pages: (there are|that leaves) # pages( to read|)|({A}|{he}) must read # (more pages|pages more)"
        "|# pages (are left|remain)",
    ),
    (
        "a=10..99 b=2..90",
        "{A} has {a} {things}. {b} of them are red and the (rest|others) are (blue|green|white). "
        "How many {things} are not red?",
        "t=a-b {things}: # {things} are not red|(there are|{he} has) # {things} that are not red"
        "|the (rest|others) are #",
    ),
    (
        "a=2..60 b=2..39",
        "{A} (collects|counts|sells) {a} {things} on (Monday|Friday) and {b} {things} on (Tuesday|Saturday). "
        "How many {things} is that( in all| together|)?",
        "t=a+b {things}: that is # {things}( in all| together|)|the two days (give|make) # {things}"
        "|({A}|{he}) comes to # {things}",
    ),
    (
        "a=2..11 b=2..9",
        "{A} (runs|walks|rides) {a} miles (a|every|each) day. How many miles is that in {b} days?",
        "t=a*b miles: ({A}|{he}) (covers|goes) # miles( in all|)|that is # miles( in all|)"
        "|the {b} days (give|make) # miles",
    ),
    (
        "a=2..14",
        "{A} stays with {B} for {a} weeks. How many days is that?",
        "t=a*7 days: ({A}|{he}) stays( for|) # days|(that|this) is # days( in all|)|{a} weeks (are|have) # days",
    ),
    (
        "a=10..99 b=2..90",
        "{A} (needs|wants) {a} {things} for a (party|game|show) and has {b}( of them|). How many (more "
        "does {he} need|are missing)?",
        "t=a-b {things}: ({A}|{he}) (needs|lacks) # more( {things}|)|# (more {things} are needed|{things} are missing)",
    ),
    (
        "a=2..60 b=2..39",
        "It takes {A} {a} minutes to get to the {place} and {b} minutes to get (back|home). "
        "How many minutes does {he} (travel|need)( in all|)?",
        "t=a+b minutes: ({A}|{he}) (travels|needs) # minutes( in all|)|the (trip|way) takes # minutes"
        "|it takes # minutes",
    ),
]

TWO_STEPS: list[tuple[str, ...]] = [
    (
        "a=2..40 b=2..30 c=2..40",
        "{A} picks {a} {things} (in the morning and {b} {things} in the afternoon"
        "|on Monday and {b} {things} on Tuesday). {He} (gives|sells) {c} of them to {B}. "
        "How many {things} does {A} have left?",
        "t=a+b {things}: ({A}|{he}) (picks|has) # {things}( in all|)|there are # {things}( in all|)",
        "u=t-c {things}: ({A}|{he}) (keeps|is left with) # {things}|({A}|{he}) has # {things} left|# {things} are left",
    ),
    (
        "a=2..9 b=2..9 c=2..30",
        "{A} (buys|has|gets) {a} {boxes} of {things}. Each {box} (holds|contains|has) {b} {things}. "
        "{He} (gives away|uses|loses) {c} {things}. How many {things} (are left|does {he} have left)?",
        "t=a*b {things}: there are # {things}( in all|)|the {boxes} (hold|contain) # {things}",
        "u=t-c {things}: ({A}|{he}) (keeps|is left with) # {things}|({A}|{he}) has # {things} left|# {things} are left",
    ),
    (
        "a=2..9 b=2..9 c=2..30",
        "A {box} holds {a} {things}. {A} has {b} full {boxes} and {c} (more|extra|loose) {things}. "
        "How many {things} does {A} have (in all|altogether)?",
        "t=a*b {things}: the {boxes} (hold|contain) # {things}|(in the|from the) {boxes} {he} has # {things}",
        "u=t+c {things}: ({A}|{he}) (has|owns) # {things}( in all|)|there are # {things}( in all| altogether|)",
    ),
    (
        "a=2..40 b=2..40 c=2..9",
        "{A} has {a} {things} and {B} has {b} {things}. They put them together and share them equally among "
        "{c} (friends|children|people). How many {things} does each (one|of them) get?",
        "t=a+b {things}: (they|both) have # {things}( together|)|together(, | )they have # {things}",
        "u=t/c {things}: (each one|everyone|each) (gets|receives) # {things}|# {things} go to (each one|everyone)",
    ),
    (
        "a=2..24 b=2..6",
        "{A} has {a} {things}. {B} has {b} times as many( {things}|) as {A}. How many {things} do they have together?",
        "t=a*b {things}: {B} (has|owns) # {things}|# {things} (belong to|are with) {B}",
        "u=a+t {things}: (they|both) have # {things}( together|)|together(, | )they have # {things}"
        "|there are # {things}",
    ),
    (
        "a=2..30 b=2..30",
        "{A} has {a} {things}. {B} has {b} more( {things}|) than {A}. "
        "How many {things} do {A} and {B} have (together|in all)?",
        "t=a+b {things}: {B} (has|owns) # {things}|# {things} (belong to|are with) {B}",
        "u=a+t {things}: (they|both) have # {things}( together|)|together(, | )they have # {things}"
        "|there are # {things}",
    ),
    (
        "a=6..60 b=2..40",
        "{A} has {a} {things}. {B} has {b} fewer( {things}|) than {A}. How many {things} do they have "
        "(together|in all)?",
        "t=a-b {things}: {B} (has|owns) # {things}|# {things} (belong to|are with) {B}",
        "u=a+t {things}: (they|both) have # {things}( together|)|together(, | )they have # {things}"
        "|there are # {things}",
    ),
    (
        "a=2..9 b=2..9 c=20..99",
        "{A} buys {a} {things} that cost {b} dollars each. {He} pays with {c} dollars. "
        "How (much change|many dollars) does {he} get back?",
        "t=a*b dollars: the {things} cost # dollars( in all|)|({A}|{he}) (pays|spends) # dollars"
        "|the price is # dollars",
        "u=c-t dollars: ({A}|{he}) gets back # dollars|the change is # dollars"
        "|# dollars (are given back|are the change)",
    ),
    (
        "a=2..9 b=2..9 c=2..40",
        "{A} (earns|saves) {a} dollars (a|every) day for {b} days. {He} then spends {c} dollars at the {place}. "
        "How many dollars does {he} have left?",
        "t=a*b dollars: ({A}|{he}) (has|gets) # dollars|the {b} days (give|bring) # dollars",
        "u=t-c dollars: ({A}|{he}) has # dollars left|({A}|{he}) (keeps|is left with) # dollars|# dollars are left",
    ),
    (
        "b=2..9 a=2..9*b c=2..40",
        "{A} has {a} {things}, packed equally in {b} {boxes}. {He} adds {c} {things} to one {box}. "
        "How many {things} are in that {box} now?",
        "t=a/b {things}: each {box} (has|holds) # {things}|there are # {things} (in each|in every) {box}",
        "u=t+c {things}: that {box} (has|holds) # {things}|there are # {things} in (that|this) {box}",
    ),
    (
        "a=5..80 b=2..40 c=2..9",
        "{A} has {a} {things}. {He} keeps {b} and shares the rest equally between {c} (friends|children|neighbors). "
        "How many {things} does each get?",
        "t=a-b {things}: (there are|that leaves) # {things} (to share|to give)"
        "|({A}|{he}) (shares|gives away) # {things}",
        "u=t/c {things}: (each one|everyone|each) (gets|receives) # {things}|# {things} go to (each one|everyone)",
    ),
    (
        "a=2..20 b=2..20 c=2..4",
        "{A} reads {a} pages on (Monday|Friday) and {b} pages on (Tuesday|Saturday). "
        "{B} reads {c} times as many pages as {A}. How many pages does {B} read?",
        "t=a+b pages: {A} (reads|finishes) # pages( in all|)|the two days (give|make) # pages",
        "u=t*c pages: {B} (reads|finishes) # pages( in all|)|for {B}(, that makes| we get) # pages",
    ),
    (
        "a=20..99 b=2..9 c=2..9",
        "A book has {a} pages. {A} reads {b} pages (a|every) day for {c} days. How many pages are left( to read|)?",
        "t=b*c pages: ({A}|{he}) (reads|finishes) # pages( in all|)|the {c} days (give|make) # pages",
        "u=a-t pages: there are # pages (left|to read)|({A}|{he}) must read # (more pages|pages more)|# pages are left",
    ),
    (
        "a=2..30 b=2..30 c=20..90",
        "A (bus|train|boat) has {c} seats. {a} people get on at the {place} and {b} people get on at the next stop. "
        "How many seats are (empty|free) (now|then)?",
        "t=a+b people: there are # people( on board|)|# people (are on board|get on|take a seat)",
        "u=c-t seats: # seats are (empty|free|left)|there are # (empty|free) seats",
    ),
    (
        "a=2..9 b=2..9",
        "{A} walks {a} miles to the {place} and {a} miles back (each|every) day. "
        "How many miles does {he} walk in {b} days?",
        "t=a*2 miles: (each|one|every) day makes # miles|({A}|{he}) walks # miles (a|each|every) day",
        "u=t*b miles: ({A}|{he}) (walks|covers) # miles( in all|)|the {b} days (make|give) # miles",
    ),
    (
        "a=2..40*2 b=2..40",
        "{A} has {a} {things}. {He} gives half of them to {B} and then (finds|buys) {b} more. "
        "How many {things} does {A} have now?",
        "t=a/2 {things}: ({A}|{he}) (keeps|still has) # {things}|half of them is # {things}|{B} gets # {things}",
        "u=t+b {things}: ({A}|{he}) (has|owns) # {things}( in all|)|there are # {things}( in all|)",
    ),
    (
        "a=2..40 b=2..30 c=2..20",
        "{A} jumps {a} times, {B} jumps {b} times and {C} jumps {c} times. How many jumps do they make "
        "(in all|together)?",
        "t=a+b jumps: {A} and {B} (make|have) # jumps|the first two (make|have) # jumps",
        "u=t+c jumps: (they|all three) (make|have) # jumps( in all|)|there are # jumps( in all|)",
    ),
    (
        "a=30..99 b=2..40 c=2..40",
        "{A} has {a} dollars. {He} buys {things} for {b} dollars and {stuff} for {c} dollars. "
        "How many dollars (are left|does {he} still have)?",
        "t=b+c dollars: ({A}|{he}) (spends|pays) # dollars( in all|)|the {things} and {stuff} cost # dollars",
        "u=a-t dollars: ({A}|{he}) has # dollars left|({A}|{he}) (keeps|is left with) # dollars|# dollars are left",
    ),
]
