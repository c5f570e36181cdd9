"""The sentences of the miniature of MATH: plain data, rendered by `minerva_math_say.py`.

`<name>` is a slot, `[x|y]` an equally likely choice between wordings (it may hold others), `@name` a choice of MACROS.
`<x>` is the sign of multiplication, the same in all of a solution; `<r>` is the final answer.
"""

MACROS = {
    "get": "we get|we find|this gives|we have",
    "see": "we get|we find|we have|we obtain",
    "so": "so|thus|hence",
    "So": "So|Thus|Hence|Therefore",
    "then": "Then|Next|Now|After that",
    "first": "First|To start|To begin|At first",
    "last": "Finally|In the end|Lastly|At last",
    "done": r"\boxed{<r>}$.|\boxed{<r>}$.|<r>$, @so the [answer|result] is $\boxed{<r>}$.|"
    r"<r>$. @So [the answer is|the result is|we answer] $\boxed{<r>}$.",
    "both": "both sides|each side|the two sides",
    "add": "Adding|Summing|Combining",
    "together": "[Adding|Summing] these|Together",
}

TEXTS = {
    # Steps that many kinds share
    "first": "@first, @see $<e>=<v>$.",
    "next": "@then, @see $<e>=<v>$.",
    "last": "@last, @see $<e>=@done",
    "answer": r"[@So [the answer|the result] is|This makes the [answer|result]] $\boxed{<r>}$.",
    "solve": "[Solve for $<v>$: $<e>$.|Find $<v>$ if $<e>$.|What is $<v>$ if $<e>$?|If $<e>$, what is $<v>$?]",
    "value": "[Find $<w>$ if $<e>$.|What is $<w>$ if $<e>$?|If $<e>$, what is the value of $<w>$?|"
    "Given that $<e>$, determine $<w>$.]",
    # Both sides of an equation
    "take": "[Subtracting $<a>$ from @both|Taking $<a>$ away from @both|Moving the $<a>$ over], @get $<l>=<e>=<v>$.",
    "put": "[Adding $<a>$ to @both|Putting $<a>$ on top of @both|Moving the $<a>$ over], @get $<l>=<e>=<v>$.",
    "take_last": "[Subtracting $<a>$ from @both|Taking $<a>$ away from @both|Moving the $<a>$ over], "
    "@get $<l>=<e>=@done",
    "put_last": "[Adding $<a>$ to @both|Putting $<a>$ on top of @both|Moving the $<a>$ over], @get $<l>=<e>=@done",
    "part": "[@then, dividing|Dividing] @both by $<a>$, @get $<l>=<e>=<v>$.",
    "part_last": "[[@then, dividing|Dividing] @both by $<a>$, @get|We divide @both by $<a>$, @so] $<l>=<e>=@done",
    "multiply": "[Multiplying @both by $<a>$|Taking $<a>$ times @both], @get $<l>=<e>=<v>$.",
    "drop": "[Subtracting|Taking away|Removing] $<a>$ [from|on] @both, @get $<e>$.",
    "insert": "[@then|With this|From this], $<w>=<e>=@done",
    "insert_two": "[@then|With this|From this], $<w>=<e>$. [This is|It equals|That makes] $<f>=@done",
    # Values of expressions
    "at_two": "[What is|Find] $<e>$ [when|if|for] $<p>=<a>$ and $<q>=<b>$<end>",
    "at_one": "[Let $f(<p>)=<e>$. [Find|Compute|What is] $f(<a>)$<end>|"
    "[Evaluate|Find|Compute] $<e>$ [when|if|for] $<p>=<a>$.|What is [the value of |]$<e>$ at $<p>=<a>$?]",
    "term_first": "[The [first|leading] term [is|equals]|[We start|It begins] with] $<e>=<v>$.",
    "term_next": "[The next term [is|equals]|@then, there is|The one after is|@then, we need] $<e>=<v>$.",
    "square": "[The square is|Squaring gives|@first, the square is|We square:] $<e>=<v>$.",
    "sum_next": "[@together, [we get|we have]|@add these, @get|The sum so far is|So far, this is] $<e>=<v>$.",
    "sum_last": "[@together, [we get|we have]|@add these, @get|In total, this is|@So, in total,] $<e>=@done",
    "nested": "[We [can write|rewrite] the [polynomial|expression] as|Nested, the [polynomial|expression] is|"
    "It is the same as] $<e>$.",
    "inside": "[Inside|From the inside|[Starting|Beginning] inside|@first], @get $<e>=<f>=<v>$.",
    "outward": "[@then|Going on|Outwards|One step out], @get $<e>=<f>=<v>$.",
    "outward_last": "[@last|Going on|Outside|One step out], @get $<e>=<f>=@done",
    # Systems
    "system": "[If $<e>$ and $<f>$, [what is|find] $<w>$<end>|[Find|Determine|Compute] $<w>$ given $<e>$ and $<f>$.|"
    "Let $<e>$ and $<f>$. What is $<w>$?]",
    "plug": "[Substituting|Putting in|Inserting|Plugging in] $<e>$, @get $<f>$.",
    "plug_out": "[Expanding|Multiplying out|Without the brackets], @get $<e>$.",
    "plug_like": "[Collecting|Gathering] [terms|like terms], @get $<e>$.",
    "add_both": "[Adding the [two |]equations|The sum of the equations|Adding them] [gives|yields|shows] "
    "$2<p>=<e>=<v>$.",
    "half": "[Halving this|Dividing by $2$|Taking half], @get $<p>=<e>=<v>$.",
    "half_last": "[Halving this|Dividing by $2$|Taking half], @get $<p>=<e>=@done",
    # Expressions
    "expand": "[Expand|Multiply out|Expand the product] $<e>$.|[What is|Write] $<e>$ in expanded form<end>",
    "expand_square": "[The leading terms|The first terms|The terms in $<p>$] [give|make|yield] $<e>=<v>$.",
    "expand_outer": "[The outer terms|The outer pair|The outer two] [give|make|yield] $<e>=<v>$.",
    "expand_inner": "[The inner terms|The inner pair|The inner two] [give|make|yield] $<e>=<v>$.",
    "expand_last": "[The last terms|The numbers|The constants] [give|make|yield] $<e>=<v>$.",
    "expand_middle": "[The middle terms [add|sum] to|@together, the middle is|In the middle, we have] $<e>=<v>$.",
    "collect": "[Simplify|Collect like terms in|Simplify the expression] $<e>$.|[What is|Write] $<e>$ "
    "in simplest form<end>",
    "collect_terms": "[The terms [in|with] $<p>$ [give|make]|Those [in|with] $<p>$ [give|make]|"
    "Collecting the terms [in|with] $<p>$, @get] $<e>=<v>$.",
    "collect_numbers": "[The [numbers|constants] [give|make]|[@then, the|The] plain numbers [give|make]] $<e>=<v>$.",
    # Sequences
    "arithmetic": "[An arithmetic sequence [begins|starts with]|The [first|opening] terms of an arithmetic sequence "
    "are] $<e>$. [What is|Find] [its <n> term|the <n> term]<end>",
    "difference": "[The common difference is|Each step adds|The terms [grow|go up] by] $<e>=<v>$.",
    "steps": "[To reach the <n> term|From the first term on|To get there], [we take|we need|there are] "
    "$<e>=<v>$ steps.",
    "rise": "[Those steps add|These add up to|Together they add|In all they add] $<e>=<v>$.",
    "series": "[What is|Find] the sum of the first $<n>$ terms of the arithmetic sequence $<e>, \\ldots$<end>|"
    "[The arithmetic sequence $<e>, \\ldots$ is given|An arithmetic sequence [begins|starts with] $<e>$]. "
    "[Add up|Sum] its first $<n>$ terms.",
    "list": "[The terms are|We [add|sum] the terms|These terms are|The [numbers|values] to add are] $<e>$.",
    "running": "[@then, @see|The [sum|total] so far is|This makes|Adding on,] $<e>=<v>$.",
    "running_last": "[@last, @see|The [sum|total] is|This makes|Adding on,] $<e>=@done",
    "geometric": "[A geometric sequence [begins|starts with]|The [first|opening] terms of a geometric sequence are] "
    "$<e>$. By how much [is its <n> term larger than|does its <n> term exceed] $<k>$?",
    "ratio": "[The common ratio is|Each term is multiplied by|The ratio of two terms is] $<e>=<v>$.",
    "grow": "[The <n> term is|[@then, the|The] new term is|As <n> term, @see] $<e>=<v>$.",
    "exceed": "[The difference is|It is larger by|Taking $<k>$ away leaves|@last, @see] $<e>=@done",
    "recurrence": "[A sequence [begins|starts] with $<a>$|The first term of a sequence is $<a>$]. "
    "[Each [later|next] term is $<m>$ times the one before, plus $<s>$|To get the next term, multiply by $<m>$ "
    "and add $<s>$]. [What is|Find] the <n> term<end>",
    "recur_second": "[The second term is|@first, the second term is|For the second term, @see] $<e>=<f>=<v>$.",
    "recur": "[The <n> term is|[@then, the|The] new term is|For the <n> term, @see] $<e>=<f>=<v>$.",
    "recur_last": "[The <n> term is|@last, the <n> term is|For the <n> term, @see] $<e>=<f>=@done",
    "mean": "[What is|Find|Compute] the [mean|average] of [the numbers |]$<e>$<end>",
    "mean_start": "[@first, we add|We [start|begin] by adding|Adding the first two]: $<e>=<v>$.",
    "mean_last": "[There are $<n>$ numbers|We have $<n>$ numbers|The list has $<n>$ numbers], @so "
    "[the [mean|average] is|we divide:] $<e>=@done",
    # Number theory
    "gcd": "[What is|Find|Compute] the greatest common [divisor|factor] of $<a>$ and $<b>$<end>|"
    "[Find|Compute] $\\gcd(<a>,<b>)$.",
    "gcd_first": "[@first, [divide|we divide] $<a>$ by $<b>$|Dividing $<a>$ by $<b>$|By Euclid's method]: $<e>=<v>$.",
    "gcd_next": "[@then, [divide|we divide] $<a>$ by $<b>$|Dividing $<a>$ by $<b>$|With $<a>$ and $<b>$]: $<e>=<v>$.",
    "gcd_last": r"[The [remainder|rest] is now $0$|Nothing is left over|It divides evenly], @so the "
    r"[gcd|answer|greatest common <c>] is $\boxed{<r>}$.",
    "lights": "Two [lights blink|bells ring] together at <u> $<s>$. [One|The first] does so every $<a>$ <u>s, "
    "the other every $<b>$ <u>s. At which <u> [do they|will they] next do so together?",
    "lcm": "[What is|Find|Compute] the least common multiple of $<a>$ and $<b>$<end>|"
    "[What is|Find] the smallest positive [number|integer] divisible by [both |]$<a>$ and $<b>$<end>",
    "lcm_goal": "[We need|We look for|We want] the least common multiple of $<a>$ and $<b>$.",
    "lcm_no": "[$<m>$ [is not a multiple of|is not divisible by] $<a>$|$<a>$ does not divide $<m>$].",
    "lcm_next": "[@then|Going on|One more], $<e>=<m>$.",
    "lcm_times": "[But|Now|And] $<i><x><b>=<m>$[, and| fits:| works, as] $<m>=<j><x><a>$.",
    "remainder": "[What is|Find|Compute] the remainder when $<a>$ is divided by $<b>$<end>|"
    "[What remainder does $<a>$ leave on division by $<b>$?|Divide $<a>$ by $<b>$. What is the remainder?]",
    "fit": "[The largest multiple of $<b>$ that fits [in|into] $<a>$ is|$<b>$ goes into $<a>$ [up to|as far as]|"
    "[We take|Take] out] $<e>=<v>$.",
    "left": "[What is left is|The remainder is|That leaves|There remains] $<e>=@done",
    "rest": "[$<a>$ leaves [the remainder|a rest of]|Modulo $<b>$, $<a>$ is|Dividing $<a>$ by $<b>$ leaves] $<e>=<v>$.",
    "rest_last": "[$<a>$ leaves [the remainder|a rest of]|Modulo $<b>$, $<a>$ is|Dividing $<a>$ by $<b>$ leaves] "
    "$<e>=@done",
    "product_rest": "[What is|Find|Compute] the remainder when $<a><x><c>$ is divided by $<b>$<end>|"
    "[What remainder does $<a><x><c>$ leave on division by $<b>$?|[Find|Compute] $<a><x><c>$ modulo $<b>$.]",
    "rests": "[The product of the [remainders|rests] is|Multiplying the [remainders|rests] gives] $<e>=<v>$.",
    "factorise": "[What is|Find|Write down] the prime factorization of $<a>$<end>|Factor $<a>$ into primes.",
    "split": "[We can divide $<a>$ by $<p>$|$<a>$ is divisible by $<p>$|$<p>$ divides $<a>$|Taking out $<p>$]: "
    "$<a>=<e>$.",
    "prime": "[$<a>$ is prime|The number $<a>$ is prime|We stop at the prime $<a>$].",
    "prime_sums": "Let $s(n)$ be the sum of the prime factors of $n$, [counted with repetition|with repeats counted]. "
    "[Find|Compute|What is] $s(<a>)+s(<b>)$<end>",
    "s_of": "[@So|This means|This shows] $s(<a>)=<e>=<v>$.",
    "s_prime": "[@So|This means|This shows] $s(<a>)=<a>$.",
    "d_sums": "Let $d(n)$ be the number of [positive |]divisors of $n$. [Find|Compute|What is] $d(<a>)+d(<b>)$<end>",
    "powers": "[As a product of powers|With exponents|In short|Written shorter], $<a>=<e>$.",
    "d_of": "[Adding one to each exponent|Raising each exponent by one|With all exponents one higher], "
    "@get $d(<a>)=<e>=<v>$.",
    "d_power": "[Adding one to the exponent|Raising the exponent by one|One more for it], @get $d(<a>)=<e>=<v>$.",
    "d_prime": "[A prime has|As a prime, it has] [two|just two] divisors, @so $d(<a>)=2$.",
    "divisors": "[How many [positive |]divisors does $<e>$ have?|[Find|Determine] the number of [positive |]divisors "
    "of $<e>$.]",
    "exponents": "[The exponents are|As exponents, we have|We read off the exponents] $<e>$.",
    "raised": "[Adding one to each|Raising each by one|One more for each], @get $<e>$.",
    "count_last": "[Their product is|The number of divisors is|We multiply:] $<e>=@done",
    "units_product": "[What is|Find|Determine] the [units|last|ones] digit of $<e>$<end>",
    "units_start": "[The last digit of $<a>$ is|The number $<a>$ ends in|Only the last digit counts, here] $<d>$.",
    "ends": "[@then|Multiplying by $<d>$|Times $<d>$|Next], $<e>=<v>$ [ends in|has the last digit] $<u>$.",
    "nines": "[What is|Find] the remainder when $<a>$ is divided by $9$<end>|"
    "[What remainder does $<a>$ leave on division by $9$?|[Find|Compute] $<a>$ modulo $9$.]",
    "nines_why": "[A number and its digit sum leave the same [remainder|rest]|We [may|can] take the sum of the digits|"
    "The digit sum has the same [remainder|rest]].",
    "digits": "[What is|Find|Compute] the sum of the digits of $<a>$<end>|Add up the digits of $<a>$.",
    "to_base": "[Write|Express] $<a>$ in base $<b>$.|[What is $<a>$ in base $<b>$?|Convert $<a>$ to base $<b>$.]",
    "divide": "[Dividing $<a>$ by $<b>$|For $<a>$, we [find|have]|$<a>$ divided by $<b>$]: $<e>=<v>$.",
    "below": "[The last digit is|There remains|What is left is] $<a>$.",
    "upwards": r"[Read from the end|Backwards|From last to first], [these|they|the digits] [are|make|give] "
    r"$\boxed{<r>}$.",
    "from_base": "[Write|Express] $<a>_<b>$ in base $10$.|[What is $<a>_<b>$ in base $10$?|"
    "Convert $<a>_<b>$ to base $10$.]",
    "leading": "[We start with|The leading digit is|We begin with|The first digit is] $<v>$.",
    "digit": "[@then, @see|With the digit $<d>$,|The digit $<d>$ gives|Adding the digit $<d>$,] $<e>=<f>=<v>$.",
    "digit_last": "[@last, @see|With the digit $<d>$,|The digit $<d>$ gives|Adding the digit $<d>$,] $<e>=<f>=@done",
    # Fractions
    "reduce": "[Reduce|Simplify|Write] $<e>$ [to lowest terms|in lowest terms].|"
    "What is $<e>$ in [lowest terms|simplest form]?",
    "cancel": "[Dividing [top and bottom|both parts] by $<p>$|Cancelling a factor $<p>$|Taking out $<p>$], @get $<e>$.",
    "lowest": r"[This is in lowest terms|It cannot be reduced|This is fully reduced], @so [the answer|the result] is "
    r"$\boxed{<r>}$.",
    "fraction": "[Compute|Find|Evaluate|Work out] $<e>$.|What is $<e>$?|Write $<e>$ as a [single |]fraction.",
    "numerators": "[The [numerators|tops] [add up to|give|make]|On top, @see|The new [numerator|top] is] $<e>=<v>$.",
    "bottoms": "[The [denominators|bottoms] give|Below, @see|The new [denominator|bottom] is] $<e>=<v>$.",
    "fraction_is": "[@So [the fraction is|we have|the result is]|This makes|Altogether, this is] $<e>$.",
    "common": "[The common denominator is|We can use the denominator|A common denominator is|Both fit over] $<v>$.",
    "widen": "[We write|We have|We use|Note that] $<e>=<f>=<v>$.",
    "flip": "[Dividing by $<a>$ is the same as multiplying by|Instead of dividing by $<a>$, multiply by|"
    "We flip $<a>$ and multiply by] $<e>$.",
    "of": "[What is|Find|Compute] $<k>$ more than $<e>$ of $<a>$<end>|"
    "[Take|Find] $<e>$ of $<a>$ and add $<k>$. [What is the result?|What do you get?]",
    "of_one": "[@first, $<e>$|One part, $<e>$,|A share of $<e>$] [of $<a>$ is|is] $<f>=<v>$.",
    "of_many": "[Taking it $<m>$ times|With $<m>$ of them|For $<m>$ parts], @get $<e>=<v>$.",
    # Arithmetic
    "missing": "[What [number|integer] must be added to $<a>$ to get $<c>$?|Find the [number|integer] that is $<a>$ "
    "less than $<c>$.|$<a>$ plus [a|some] number is $<c>$. What is the number?]",
    "short": "[[The answer|It|The number] is|We [get|have|find|compute]|[This|That] is] $<e>=\\boxed{<r>}$.",
    "insert_short": "[Substituting|Putting in|Inserting|Plugging in] $<p>=<a>$, @get $<e>=\\boxed{<r>}$.|"
    "[It|The value|This|The result] [is|equals] $<e>=\\boxed{<r>}$.",
    "at": "[What is|Find|Compute] $<e>$ [when|if|for] $<p>=<a>$<end>|[If|For] $<p>=<a>$, what is $<e>$?",
    "evaluate": "[Compute|Evaluate|Find|Work out] [the value of |]$<e>$.|What is [the value of |]$<e>$?",
    "bracket": "[The bracket is|Inside the brackets, @see|@first, the bracket is] $<e>=<v>$.",
    "product": "[The product is|We multiply first:|@first, the product is|Multiplying, @get] $<e>=<v>$.",
    "other": "[The other product is|@then, multiply:|The second product is|Multiplying again, @get] $<e>=<v>$.",
}
