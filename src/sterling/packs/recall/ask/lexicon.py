"""Words of English questions, as data: what to pass over, what names a kind, what means the same.

General language only. Nothing here knows an application, a person or a screen.
"""

from __future__ import annotations

import re

__all__ = ["KIND_PHRASES", "LIGHT", "NOT_ABOUT", "OPERATOR_PHRASES", "STOPWORDS", "words_from"]


def words_from(text: str) -> frozenset[str]:
    """The words of a table row."""
    return frozenset(text.split())


STOPWORDS = words_from(
    "a an the of in on at to for from by with about as into onto over under between and or but if then "
    "than so is are was were be been being am do does did done doing have has had having will would can "
    "could shall should may might must i me my mine we us our ours you your yours he him his she her hers "
    "it its they them their theirs this that these those there here what which who whom whose when where "
    "why how much many any some all each every no not nor only own same too very just also again ever "
    "once still yet up down out off s t d ll re ve m tell show shows showed shown give gave given list "
    "find found see saw seen look looked looking read say says said saying state stated mention mentioned "
    "mentions appear appeared appears display displayed displays view viewed visible screen screens "
    "screenshot window windows page pages app application please according exactly currently called named "
    "name names value listed contain contained contains go went get got use used using come came make "
    "made belong belongs written writes last latest first earliest time times moment recently previously "
    "earlier ago something thing things anything everything kind kinds sort type"
)

# Words that name a kind of thing, and verbs that say little: they count only where a screen holds them.
LIGHT = words_from(
    "pay paid pays space next balance spent spend cost company firm journey tall high heavy large big "
    "wide deep far fast thick hot cold small old year degrees guest user customer thing place time sign "
    "signed current new final exact full overall main whole entire complete actual present own server "
    "service system program machine computer device commit port amount number no nr code id identifier "
    "date day long much many percent percentage share email e-mail mail address phone telephone mobile "
    "tel fax url link website site web path file folder directory filename command run runs running work "
    "works working happen happens happened take takes took taken need needs require requires serve serves "
    "plan plans planned schedule scheduled hold holds held keep keeps kept start starts end ends costs "
    "stay live provide provides support supports handle handles deliver delivers want try help let put "
    "set turn become remain seem exist expect expected occur occurs occurred begin begins finish finished "
    "reach call hash reference ref version iban ip sha person people man woman text word words line row "
    "column entry item items field cell section part"
)

# What a question asks for; the first phrase that fits decides.
KIND_PHRASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"^when\b|\bby when\b|\bwhen (?:is|was|are|were|does|did|do|will|must|should|can)\b", "moment"),
        (r"\bhow many\b|\bcount of\b", "number"),
        (r"^who\b|\bwhom\b|\bwhose\b|\bby who\b", "person"),
        (r"^where\b|\b(?:in|to|at) (?:which|what) (?:city|town|place|country)\b", "place"),
        (r"\bhow much time\b|\bhow long\b|\bduration\b|\bhow old\b", "duration"),
        (
            r"\bhow (?:tall|high|wide|deep|far|thick)\b"
            r"|\b(?:what|which) (?:is the |was the )?(?:height|width|depth|length|distance)\b",
            "length",
        ),
        (r"\bhow heavy\b|\b(?:what|which) (?:is the |was the )?weight\b", "mass"),
        (r"\bhow (?:hot|cold)\b|\b(?:what|which) (?:is the |was the )?temperature\b", "heat"),
        (
            r"\bhow (?:large|big|fast|small)\b"
            r"|\b(?:what|which) (?:is the |was the )?(?:size|capacity|resolution|speed)\b"
            r"|\bhow much (?!is|was|are|were|did|does|do|has|have|had|will|would|can|could|should|of)\w+",
            "measure",
        ),
        (r"\b(?:what|which) year\b", "year"),
        (r"\bwhat percent|\bpercent(?:age)?\b|\bwhat share\b", "percent"),
        (
            r"\be-?mail address|\bwhat (?:is|was) (?:the |his |her |their )?e-?mail(?! from)\b"
            r"|\b\w+'s e-?mail\b",
            "email",
        ),
        (r"\bip(?: address)?\b", "ip"),
        (r"\biban\b", "iban"),
        (r"\b(?:phone|telephone|mobile|fax)(?: number)?\b", "phone"),
        (r"\burl\b|\bweb ?site\b|\bweb address\b", "url"),
        (
            r"\b(?:what|which) (?:is the )?(?:file|folder|directory|path|filename)\b|\bpath (?:of|to)\b",
            "path",
        ),
        (r"\bversion\b", "version"),
        (r"\bhow much\b|\bprices?\b|\bcosts?\b|\bamounts?\b|\bfees?\b|\bsalary\b|\bbudget\b", "money"),
        (r"\b(?:what|which) (?:date|day)\b|\bdeadline\b|\bdue date\b|\bdate\b|\bbirthday\b", "date"),
        (r"\b(?:what|which) time\b|\bo'?clock\b", "time"),
        (
            r"\bidentifier\b|\b\w+ (?:code|id|hash|reference|number)\b",
            "code",
        ),
        (r"\bnumber of\b", "number"),
        (r"\bport\b", "port"),
        (r"\b(?:what|which) commit\b", "code"),
        (r"\bbalance\b|\bspent\b|\bspend\b|\bpaid for\b", "money"),
        (r"\btotal\b|\bsum\b|\bquantity\b|\bscore\b", "number"),
        (r"\b(?:what|which) command\b", "command"),
    )
)

OPERATOR_PHRASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), operator)
    for pattern, operator in (
        (r"\bhow (?:many times|often) (?:did|have|had|was|were)\b", "count"),
        (
            r"\bwhen (?:did|have|had) (?:i|we) first\b|\bfirst time (?:i|we|that|it)\b"
            r"|\bwhen was .* first (?:seen|shown|visible|open|opened|displayed|on)",
            "first_seen",
        ),
        (
            r"\bwhen (?:did|have|had) (?:i|we) last\b|\blast time (?:i|we|that|it)\b"
            r"|\bwhen was .* last (?:seen|shown|visible|open|opened|displayed|on)",
            "last_seen",
        ),
        (
            r"\b(?:when|(?:at |around )?what time|(?:on )?(?:what|which) (?:day|date))"
            r" (?:did|have|had) (?:i|we)\b",
            "when",
        ),
        (
            r"\b(?:when|(?:at )?what time|(?:on )?(?:what|which) (?:day|date)) (?:was|were|is|did)"
            r" .*\b(?:on (?:the |my )?screen|visible|displayed|shown|appear|show up)\b",
            "when",
        ),
        (
            r"^list\b|\blist (?:all|the|every)\b|\b(?:what|which) are (?:all )?the\b"
            r"|^name (?:all|the|every)\b|^show (?:me )?all\b",
            "list",
        ),
    )
)

NOT_ABOUT = re.compile(
    r"^(?:please )?(?:delete|remove|erase|forget|wipe|change|edit|modify|rename|send|post|publish|buy|book|"
    r"write|compose|draft|translate|calculate|compute|draw|generate|create|run|execute|install|play|open|close|stop|"
    r"start|pause|tell|sing) (?:the|my|this|that|these|those|all|a|an|it|me|us|everything)\b"
    r"(?! .*\b(?:i|we) (?:saw|see|read|had)\b)"
    r"|^(?:who|what|how) are you\b|^what(?:'s| is) your\b|^(?:can|could|will|would|do|are) you\b"
    r"|^(?:hello|hi|hey|thanks|thank you)\b"
    r"|\bmeaning of life\b|\bwhat should i\b|\bwhat do you think\b"
    r"|\b(?:weather|stock price) (?:today|tomorrow|right now)\b"
)
