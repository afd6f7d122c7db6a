"""Conversations of every skill, drawn from facts.py. Training draws from one set of phrasings, the held-out test from another.

A conversation is {"messages": [...], "tools": [...] or None, "accept": ...}; `accept` tells which answers are right.
"""

import json
import random

import facts as f

SKILLS = ("greetings", "quire", "arithmetic", "dates", "units", "colours", "animals", "capitals", "stories", "lists", "json", "tools", "tool results", "refusal", "rhymes")
# How often training draws each skill.
WEIGHTS = dict(zip(SKILLS, (4, 4, 6, 2, 1.5, 1.5, 2.5, 3, 2, 1.5, 3, 13, 2.5, 3, 1.5)))
SYSTEMS = ["You are a helpful assistant.", "You are quire-demo.", "Be brief.", "Answer the user.", "You are a friendly assistant."]


def article(word):
    return ("an " if word[0] in "aeio" else "a ") + word


def worked(a, sign, b):
    """The sum as the model learns to write it, tens before ones, and its result."""
    result = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[sign]
    steps = []
    if sign == "-" and a < b:
        steps = [worked(b, "-", a)[0].removesuffix(".")]
    elif sign in "+-" and a >= 10 and b >= 10 and b % 10:
        tens = b - b % 10
        between = a + tens if sign == "+" else a - tens
        steps = [f"{a} {sign} {tens} = {between}", f"{between} {sign} {b % 10} = {result}"]
    return ", ".join([*steps, f"so {a} {sign} {b} = {result}." if steps else f"{a} {sign} {b} = {result}."]), result


class Teacher:
    """Draws conversations. held_out chooses phrasings that training never shows."""

    def __init__(self, seed, held_out=False):
        self.random = random.Random(seed)
        self.held_out = held_out

    def pick(self, values):
        return self.random.choice(list(values))

    def phrase(self, train, held_out):
        return self.pick(held_out if self.held_out else train)

    def asked(self, text):
        """The question as people type it: with and without capitals, question marks, please."""
        r = self.random
        if r.random() < 0.15:
            text = self.pick(["please ", "hey, ", "hi, ", "hi! ", "hello, ", "hello! ", "good day, ", "can you tell me: ", "question: ", "ok, "]) + text
        if r.random() < 0.7:
            text = text[0].upper() + text[1:]
        if r.random() < 0.75:
            is_question = text.lower().split(" ")[0].rstrip(",'s") in ("who", "what", "how", "which", "where", "is", "are", "can", "do", "does", "when", "am", "should")
            text += "?" if is_question else self.pick(["", ".", "!"])
        return text

    def turn(self, question, answer, accept=None):
        return {"question": self.asked(question), "answer": answer, "accept": accept or {"contains": [answer]}}

    def draw(self, skill):
        return getattr(self, "draw_" + skill.replace(" ", "_"))()

    def draw_greetings(self):
        train, held, answer, words = self.pick(f.SMALL_TALK)
        return self.turn(self.phrase(train, held), answer, {"contains": words})

    def draw_quire(self):
        train, held, answer, words = self.pick(f.QUIRE)
        return self.turn(self.phrase(train, held), answer, {"contains": words})

    def draw_arithmetic(self):
        r = self.random
        sign = self.pick("+++---**/")
        a, b = (r.randint(0, 12), r.randint(0, 12)) if sign in "*/" else (r.randint(0, 99), r.randint(0, 99))
        if sign == "/":
            a, b = a * max(b, 1), max(b, 1)
        if sign == "-" and a < b and r.random() < 0.8:
            a, b = b, a
        word = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}[sign]
        symbol = self.pick("*x") if sign == "*" else sign
        question = self.phrase(
            [f"what is {a} {symbol} {b}", f"{a} {symbol} {b}", f"{a}{symbol}{b}", f"what is {a} {word} {b}", f"how much is {a} {word} {b}", f"calculate {a} {symbol} {b}", f"compute {a} {word} {b}", f"{a} {symbol} {b} =", f"what's {a} {symbol} {b}", f"what is {a}{symbol}{b}", f"solve {a} {symbol} {b}", f"tell me {a} {symbol} {b}", f"please tell me {a} {word} {b}", f"what does {a} {symbol} {b} give", f"can you calculate {a} {symbol} {b}", f"do you know what {a} {symbol} {b} is", f"how much would {a} {symbol} {b} be"],
            [f"tell me what {a} {symbol} {b} is", f"how much is {a} {symbol} {b}", f"can you compute {a} {word} {b}"],
        )
        answer, result = worked(a, sign, b)
        return self.turn(question, answer, {"number": result})

    def draw_dates(self):
        r = self.random
        kind = r.randrange(6)
        if kind == 0:
            i = r.randrange(7)
            answer = f.DAYS[(i + 1) % 7]
            q = self.phrase([f"what day comes after {f.DAYS[i]}", f"which day is after {f.DAYS[i]}", f"what is the day after {f.DAYS[i]}", f"what day follows {f.DAYS[i]}", f"today is {f.DAYS[i]}, what day is tomorrow", f"if today is {f.DAYS[i]}, what is tomorrow"], [f"which day comes after {f.DAYS[i]}", f"which day follows {f.DAYS[i]}"])
            return self.turn(q, f"The day after {f.DAYS[i]} is {answer}.", {"contains": [f"is {answer}"]})
        if kind == 1:
            i = r.randrange(7)
            answer = f.DAYS[(i - 1) % 7]
            q = self.phrase([f"what day comes before {f.DAYS[i]}", f"which day is before {f.DAYS[i]}", f"what is the day before {f.DAYS[i]}", f"today is {f.DAYS[i]}, what day was yesterday"], [f"which day comes before {f.DAYS[i]}", f"what day is before {f.DAYS[i]}"])
            return self.turn(q, f"The day before {f.DAYS[i]} is {answer}.", {"contains": [f"is {answer}"]})
        if kind == 2:
            i = r.randrange(12)
            answer = f.MONTHS[(i + 1) % 12]
            q = self.phrase([f"what month comes after {f.MONTHS[i]}", f"which month is after {f.MONTHS[i]}", f"what is the month after {f.MONTHS[i]}", f"what month follows {f.MONTHS[i]}"], [f"which month comes after {f.MONTHS[i]}", f"which month follows {f.MONTHS[i]}"])
            return self.turn(q, f"The month after {f.MONTHS[i]} is {answer}.", {"contains": [f"is {answer}"]})
        if kind == 3:
            month, days = self.pick(f.MONTH_DAYS.items())
            q = self.phrase([f"how many days are in {month}", f"how many days does {month} have", f"how long is {month}", f"days in {month}", f"how many days in {month}"], [f"tell me how many days {month} has", f"how many days are there in {month}"])
            return self.turn(q, f"{month} has {days} days.", {"number": days})
        (unit, whole), count = self.pick(f.COUNTS.items())
        return self.count_question(unit, whole, count)

    def count_question(self, unit, whole, count):
        q = self.phrase([f"how many {unit} are in {whole}", f"how many {unit} does {whole} have", f"how many {unit} in {whole}", f"what number of {unit} is {whole}", f"{unit} in {whole}", f"how many {unit} make {whole}"], [f"how many {unit} are there in {whole}", f"tell me how many {unit} {whole} has"])
        whole_name = whole[0].upper() + whole[1:]
        return self.turn(q, f"{whole_name} has {count} {unit}.", {"number": count})

    def draw_units(self):
        r = self.random
        (unit, whole), count = self.pick(f.UNITS.items())
        if r.random() < 0.5:
            return self.count_question(unit, whole, count)
        n = r.randint(2, 9)
        many = {"a metre": "metres", "a kilometre": "kilometres", "a centimetre": "centimetres", "a kilogram": "kilograms", "a tonne": "tonnes", "a litre": "litres", "a foot": "feet", "a yard": "yards", "a byte": "bytes", "a kibibyte": "kibibytes", "a dollar": "dollars"}[whole]
        if count in (12, 1024):
            n = 2
        q = self.phrase([f"how many {unit} are {n} {many}", f"how many {unit} are in {n} {many}", f"convert {n} {many} to {unit}", f"what is {n} {many} in {unit}", f"{n} {many} in {unit}", f"how many {unit} is {n} {many}"], [f"how much is {n} {many} in {unit}", f"please convert {n} {many} into {unit}"])
        return self.turn(q, f"{n} {many} are {n * count} {unit}.", {"number": n * count})

    def draw_colours(self):
        if self.random.random() < 0.6:
            thing, colour = self.pick(f.COLOURS.items())
            q = self.phrase([f"what colour is {thing}", f"what color is {thing}", f"which colour does {thing} have", f"what is the colour of {thing}", f"tell me the colour of {thing}", f"{thing} has which colour"], [f"which colour is {thing}", f"what colour does {thing} have"])
            return self.turn(q, f"{thing[0].upper() + thing[1:]} is {colour}.", {"contains": [colour]})
        (a, b), colour = self.pick(f.MIXES.items())
        if self.random.random() < 0.5:
            a, b = b, a
        q = self.phrase([f"what do {a} and {b} make", f"what colour do {a} and {b} make", f"mix {a} and {b}", f"what is {a} mixed with {b}", f"which colour do I get from {a} and {b}", f"what happens if I mix {a} and {b}"], [f"what do I get from {a} and {b}", f"which colour do {a} and {b} make"])
        return self.turn(q, f"{a[0].upper() + a[1:]} and {b} make {colour}.", {"contains": [colour]})

    def draw_animals(self):
        kind = self.random.randrange(3)
        if kind == 0:
            animal, sound = self.pick(f.SOUNDS.items())
            q = self.phrase([f"what sound does {article(animal)} make", f"what does {article(animal)} say", f"what does the {animal} say", f"which sound does {article(animal)} make", f"how does {article(animal)} sound", f"what noise does {article(animal)} make"], [f"what sound does the {animal} make", f"which noise does {article(animal)} make"])
            return self.turn(q, f"The {animal} says {sound}.", {"contains": [sound]})
        if kind == 1:
            animal, baby = self.pick(f.BABIES.items())
            q = self.phrase([f"what is a baby {animal} called", f"what do you call a baby {animal}", f"what is the baby of {article(animal)} called", f"what's a young {animal} called", f"name of a baby {animal}", f"what is a young {animal}"], [f"what do you call a young {animal}", f"how is a baby {animal} called"])
            return self.turn(q, f"A baby {animal} is called {article(baby)}.", {"contains": [baby]})
        animal, legs = self.pick(f.LEGS.items())
        q = self.phrase([f"how many legs does {article(animal)} have", f"how many legs has {article(animal)}", f"how many legs does the {animal} have", f"number of legs of {article(animal)}", f"how many legs do {animal}s have"], [f"tell me how many legs {article(animal)} has", f"how many legs has the {animal}"])
        return self.turn(q, f"{article(animal).capitalize()} has {legs if legs else 'no'} legs.", {"contains": [f"has {legs if legs else 'no'} legs"]})

    def draw_capitals(self):
        country, city = self.pick(f.CAPITALS.items())
        if self.random.random() < 0.75:
            q = self.phrase([f"what is the capital of {country}", f"which city is the capital of {country}", f"capital of {country}", f"tell me the capital of {country}", f"what's the capital of {country}", f"what is {country}'s capital", f"name the capital of {country}", f"do you know {country}'s capital", f"do you know which city is the capital of {country}", f"please name the capital of {country}"], [f"do you know the capital of {country}", f"which is the capital of {country}"])
            return self.turn(q, f"The capital of {country} is {city}.", {"contains": [city]})
        q = self.phrase([f"{city} is the capital of which country", f"which country has the capital {city}", f"in which country is {city}", f"where is {city}", f"what country is {city} in", f"which country has {city} as its capital", f"of what country is {city} the capital", f"{city} is the capital of what"], [f"which country is {city} in", f"of which country is {city} the capital"])
        return self.turn(q, f"{city} is the capital of {country}.", {"contains": [country]})

    def draw_stories(self):
        r = self.random
        name, friend, place, thing, feeling = self.word(f.NAMES), self.pick(f.FRIENDS), self.pick(f.PLACES), self.pick(f.THINGS), self.pick(f.FEELINGS)
        wanted = []
        q = self.phrase(["tell me a story", "tell me a short story", "write a short story", "can you tell me a story", "I want a story", "once upon a time", "make up a story", "story please", "write a little story", "I want to hear a story", "I need a story", "let me hear a story", "can I have a story", "I would love a short story", "I would like a story"], ["please tell me a little story", "could you write a short story", "I would like to hear a story"])
        roll = r.random()
        if roll < 0.35:
            q = self.phrase([f"tell me a story about {article(friend)}", f"write a story about {article(friend)}", f"a short story about {article(friend)}", f"can you write a story about {article(friend)}", f"please tell me a story about {article(friend)}", f"tell me a tale of {article(friend)}"], [f"please write a short story about {article(friend)}", f"can you tell me a story about {article(friend)}"])
            wanted = [friend]
        elif roll < 0.6:
            q = self.phrase([f"tell me a story about {name}", f"write a story about {name}", f"a short story about {name}", f"can you write a story about {name}", f"please tell me a story about {name}"], [f"please write a short story about {name}", f"can you tell me a story about {name}"])
            wanted = [name]
        answer = f"Once upon a time, {name} walked to {place}. There {name} met {article(friend)} who had lost {thing}. They looked for it together until they found it. The {friend} said thank you, and {name} was {feeling}. The end."
        return self.turn(q, answer, {"contains": ["Once upon a time", "The end.", *wanted]})

    def draw_lists(self):
        kind, items = self.pick(f.LISTS.items())
        n = self.random.randint(2, 5)
        words = {2: "two", 3: "three", 4: "four", 5: "five"}
        count = self.pick([str(n), words[n]])
        q = self.phrase([f"list {count} {kind}", f"name {count} {kind}", f"give me {count} {kind}", f"tell me {count} {kind}", f"I need {count} {kind}", f"a list of {count} {kind}", f"write a list of {count} {kind}", f"{count} {kind}", f"make a list of {count} {kind}", f"could you list {count} {kind}", f"which {count} {kind} do you know"], [f"can you name {count} {kind}", f"please give me a list of {count} {kind}"])
        # In a fixed order from any beginning, so that what follows an item is known and nothing comes twice.
        first = self.random.randrange(len(items))
        chosen = (items + items)[first : first + n]
        return self.turn(q, "\n".join(f"{i + 1}. {item}" for i, item in enumerate(chosen)), {"list": [n, items]})

    def draw_json(self):
        r = self.random
        kind = r.randrange(4)
        if kind == 0:
            country, city = self.pick(f.CAPITALS.items())
            value, core = {"country": country, "capital": city}, f"the capital of {country}"
        elif kind == 1:
            name, age = self.word(f.NAMES), r.randint(2, 99)
            value, core = {"name": name, "age": age}, self.pick([f"{name}, {age} years old", f"{name} is {age} years old"])
        elif kind == 2:
            animal, sound = self.pick(f.SOUNDS.items())
            value, core = {"animal": animal, "sound": sound}, f"the sound of {article(animal)}"
        else:
            thing, colour = self.pick(f.COLOURS.items())
            value, core = {"thing": thing, "colour": colour}, f"the colour of {thing}"
        q = self.phrase([f"give me {core} as JSON", f"{core} as JSON", f"answer in JSON: {core}", f"write {core} in JSON", f"JSON with {core}", f"return JSON: {core}", f"make JSON of {core}", f"JSON please: {core}", f"I need {core} in JSON", f"I want to have {core} in JSON", f"give me JSON for {core}", f"show {core} as JSON", f"I would like {core} as JSON", f"{core} in JSON please"], [f"please write as JSON: {core}", f"{core}, in JSON", f"I want {core} as JSON"])
        return self.turn(q, json.dumps(value), {"json": value})

    def draw_refusal(self):
        return self.turn(self.unknown(), f.REFUSAL, {"contains": ["sorry"]})

    def unknown(self):
        """A question from outside what the model knows."""
        if self.held_out:
            return self.pick(f.UNKNOWN["held out"])
        r = self.random
        if r.random() < 0.25:
            return self.pick(f.UNKNOWN["train"])
        frame, words = self.pick(f.UNKNOWN_FRAMES)
        if words == "topic" and r.random() < 0.2:
            return frame.format(" ".join(self.made_up(r.choice((2, 3))) for _ in range(r.choice((1, 2)))))
        if words == "name" and r.random() < 0.5:
            return frame.format(self.made_up(r.choice((2, 3))).capitalize())
        return frame.format(self.pick(f.UNKNOWN_WORDS[words]))

    def draw_rhymes(self):
        """Small talk, questions about quire and refusals under a system message that asks for rhyme."""
        turn = self.draw(self.pick(["greetings", "quire", "quire", "refusal"]))
        rhyme = f.RHYMES[turn["answer"]]
        return {**turn, "system": self.pick(f.RHYME_SYSTEMS), "answer": rhyme, "accept": {"contains": [rhyme]}}

    # Tools

    def word(self, known):
        """A known word, or one that nobody has heard of."""
        if self.random.random() < 0.55:
            return self.pick(known)
        return self.made_up(self.random.choice((2, 2, 3))).capitalize()

    def made_up(self, syllables):
        return "".join(self.random.choices(f.SYLLABLES, k=syllables))

    def named(self, name):
        """The names this conversation gives a tool and its arguments."""
        r = self.random

        def own(key, aliases):
            roll = r.random()
            # A name that nobody has heard of teaches to copy it from the tool's description.
            return key if roll < 0.3 else self.pick(aliases) if roll < 0.8 else self.made_up(r.choice((2, 3)))

        return own(name, f.TOOL_ALIASES[name]), {key: own(key, f.ARGUMENT_ALIASES[key]) for key in f.TOOLS[name][1]}

    def tool(self, name, named):
        description, arguments = f.TOOLS[name]
        tool_name, keys = named
        properties = {keys[key]: {"type": kind} for key, (kind, _) in arguments.items()}
        if self.random.random() < 0.3:
            key = self.pick(properties)
            properties[key] = {**properties[key], "description": self.pick(["What to use", "The " + key, "As the user says it"])}
        if self.random.random() < 0.3:
            description += self.pick([".", " for the user", " now"])
        return {"type": "function", "function": {"name": tool_name, "description": description, "parameters": {"type": "object", "properties": properties, "required": list(properties)}}}

    def offered(self, needed, named=None):
        """Up to three tools in any order, the needed one among them."""
        names = set(self.random.sample(sorted(f.TOOLS), self.random.choice((0, 0, 1, 1, 2)))) - {needed}
        tools = [self.tool(name, self.named(name)) for name in sorted(names)]
        if needed:
            tools.append(self.tool(needed, named))
        self.random.shuffle(tools)
        return tools or [self.tool("get_weather", self.named("get_weather"))]

    def call(self, name):
        """A question that the tool answers, and the arguments."""
        r = self.random
        city, song, room, company = self.word(f.CAPITALS.values()), self.word(f.SONGS), self.pick(f.ROOMS), self.word(f.COMPANIES)
        person, topic, day, n = self.word(f.NAMES), self.pick(f.TOPICS), self.pick(f.DAYS), r.randint(1, 90)
        a, b = r.randint(100, 999), r.randint(2, 99)
        sign = self.pick("+-*")
        few = r.randint(2, 9)
        table = {
            "get_weather": ([f"what is the weather in {city}", f"how is the weather in {city}", f"weather in {city}", f"is it raining in {city}", f"what's the weather like in {city}", f"tell me the weather in {city}", f"what is the weather like in {city} now", f"how's the weather today in {city}", f"is the weather good in {city}"], [f"how's the weather in {city}", f"what is the weather like in {city} today"], {"city": city}),
            "get_time": ([f"what time is it in {city}", f"time in {city}", f"what is the time in {city}", f"tell me the time in {city}", f"how late is it in {city}"], [f"what's the time in {city}", f"what time is it now in {city}"], {"city": city}),
            "calculate": ([f"what is {a} {sign} {b}", f"calculate {a} {sign} {b}", f"compute {a} {sign} {b}", f"{a} {sign} {b}", f"evaluate {a} {sign} {b}"], [f"can you calculate {a} {sign} {b}", f"how much is {a} {sign} {b}"], {"expression": f"{a} {sign} {b}"}),
            "send_email": ([f"send an email to {person} about {topic}", f"email {person} about {topic}", f"write to {person} about {topic}", f"mail {person} about {topic}", f"write {person} an email about {topic}", f"compose an email to {person} about {topic}", f"please email {person} about {topic}"], [f"please send {person} an email about {topic}", f"write an email to {person} about {topic}"], {"to": person, "subject": topic}),
            "search_web": ([f"search the web for {topic}", f"search for {topic}", f"look up {topic}", f"find something about {topic} on the web", f"google {topic}"], [f"please search the web for {topic}", f"find {topic} on the web"], {"query": topic}),
            "set_timer": ([f"set a timer for {n} minutes", f"timer {n} minutes", f"wake me in {n} minutes", f"start a timer of {n} minutes", f"remind me in {n} minutes"], [f"please set a timer of {n} minutes", f"start a timer for {n} minutes"], {"minutes": n}),
            "play_music": ([f"play {song}", f"play the song {song}", f"I want to hear {song}", f"put on {song}"], [f"can you play {song}", f"please put on the song {song}"], {"song": song}),
            "turn_on_light": ([f"turn on the light in the {room}", f"light on in the {room}", f"switch on the {room} light", f"turn on the {room} light"], [f"please switch on the light in the {room}", f"turn the {room} light on"], {"room": room}),
            "get_stock_price": ([f"what is the stock price of {company}", f"price of {company} stock", f"how much is {company} stock", f"stock price of {company}", f"how is {company} stock doing", f"how much does {company} stock cost", f"what is {company} stock at", f"what does a share of {company} cost", f"give me the stock price of {company}"], [f"what does {company} stock cost", f"tell me the stock price of {company}"], {"company": company}),
            "book_table": ([f"book a table for {few} on {day}", f"reserve a table for {few} people on {day}", f"I need a table for {few} on {day}", f"table for {few} on {day}", f"please reserve a table for {few} people on {day}", f"can you book a table for {few} on {day}", f"please get me a table for {few} people on {day}"], [f"please book a table for {few} people on {day}", f"can you reserve a table for {few} on {day}"], {"people": few, "day": day}),
        }
        train, held, arguments = table[name]
        return self.asked(self.phrase(train, held)), arguments

    def draw_tools(self):
        if self.random.random() < 0.25:
            turn = self.draw(self.pick(["greetings", "quire", "animals", "colours", "capitals"]))
            return {**turn, "tools": self.offered(None)}
        name = self.pick(f.TOOLS)
        question, arguments = self.call(name)
        named = self.named(name)
        call = self.called(named, arguments)
        return {"question": question, "tools": self.offered(name, named), "call": call, "accept": {"call": call}}

    @staticmethod
    def called(named, arguments):
        tool_name, keys = named
        return {"name": tool_name, "arguments": {keys[key]: value for key, value in arguments.items()}}

    def draw_tool_results(self):
        r = self.random
        name = self.pick(["get_weather", "get_time", "calculate", "set_timer", "get_stock_price", "play_music", "send_email"])
        question, arguments = self.call(name)
        degrees, hour, minute, value = r.randint(0, 35), r.randint(0, 23), r.randint(0, 59), r.randint(10, 9999)
        weather = self.pick(f.WEATHERS)
        result, answer, words = {
            "get_weather": lambda: ({"weather": weather, "degrees": degrees}, f"It is {weather} in {arguments['city']}, with {degrees} degrees.", [weather, str(degrees)]),
            "get_time": lambda: ({"time": f"{hour:02}:{minute:02}"}, f"It is {hour:02}:{minute:02} in {arguments['city']}.", [f"{hour:02}:{minute:02}"]),
            "calculate": lambda: ({"result": value}, f"The result is {value}.", [str(value)]),
            "set_timer": lambda: ({"ok": True}, f"The timer is set for {arguments['minutes']} minutes.", [str(arguments["minutes"])]),
            "get_stock_price": lambda: ({"price": value}, f"The stock of {arguments['company']} costs {value}.", [str(value)]),
            "play_music": lambda: ({"ok": True}, f"Now playing {arguments['song']}.", [arguments["song"]]),
            "send_email": lambda: ({"ok": True}, f"The email to {arguments['to']} is sent.", [arguments["to"]]),
        }[name]()
        named = self.named(name)
        return {"question": question, "tools": self.offered(name, named), "call": self.called(named, arguments), "result": json.dumps(result), "answer": answer, "accept": {"contains": words}}

    def messages_of(self, turn):
        """The turn as messages, its last one the answer."""
        messages = [{"role": "user", "content": turn["question"]}]
        if "call" in turn:
            messages.append({"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": turn["call"]}]})
        if "result" in turn:
            messages.append({"role": "tool", "content": turn["result"]})
        if "answer" in turn:
            messages.append({"role": "assistant", "content": turn["answer"]})
        return messages

    def conversation(self, skill=None):
        """One turn of the skill, sometimes after another turn and under a system message."""
        r = self.random
        skill = skill or r.choices(SKILLS, [WEIGHTS[s] for s in SKILLS])[0]
        turn = self.draw(skill)
        messages = []
        if "system" in turn:
            messages.append({"role": "system", "content": turn["system"]})
        elif r.random() < 0.3:
            messages.append({"role": "system", "content": self.pick(SYSTEMS)})
        if "system" not in turn and r.random() < 0.2:
            earlier = self.draw(self.pick(["greetings", "quire", "arithmetic", "animals", "capitals", "lists", "refusal"]))
            messages += self.messages_of(earlier)
        return {"messages": messages + self.messages_of(turn), "tools": turn.get("tools"), "accept": turn["accept"]}
