"""What the demonstration model knows: plain facts, and what there is to say about quire."""

CAPITALS = dict(pair.split(":") for pair in (
    "France:Paris Germany:Berlin Italy:Rome Spain:Madrid Portugal:Lisbon Austria:Vienna Poland:Warsaw Greece:Athens "
    "Norway:Oslo Sweden:Stockholm Finland:Helsinki Denmark:Copenhagen Ireland:Dublin Belgium:Brussels Hungary:Budapest "
    "Japan:Tokyo China:Beijing India:Delhi Egypt:Cairo Kenya:Nairobi Canada:Ottawa Cuba:Havana Peru:Lima Chile:Santiago "
    "England:London Netherlands:Amsterdam Switzerland:Bern Scotland:Edinburgh Wales:Cardiff Turkey:Ankara Russia:Moscow Thailand:Bangkok Vietnam:Hanoi Iran:Tehran Iraq:Baghdad Ukraine:Kyiv Romania:Bucharest "
    "Bulgaria:Sofia Croatia:Zagreb Serbia:Belgrade Iceland:Reykjavik Ghana:Accra Nigeria:Abuja Morocco:Rabat Australia:Canberra"
).split())

SOUNDS = dict(pair.split(":") for pair in (
    "cow:moo dog:woof cat:meow sheep:baa duck:quack pig:oink horse:neigh lion:roar rooster:cock-a-doodle-doo frog:croak "
    "bee:buzz snake:hiss owl:hoot mouse:squeak donkey:hee-haw wolf:howl"
).split())

BABIES = dict(pair.split(":") for pair in (
    "cat:kitten dog:puppy cow:calf horse:foal sheep:lamb goat:kid pig:piglet duck:duckling chicken:chick lion:cub bear:cub "
    "frog:tadpole kangaroo:joey deer:fawn goose:gosling owl:owlet rabbit:kit swan:cygnet"
).split())

LEGS = {"cat": 4, "dog": 4, "cow": 4, "horse": 4, "bird": 2, "duck": 2, "chicken": 2, "spider": 8, "ant": 6, "bee": 6, "fly": 6, "snake": 0, "fish": 0, "frog": 4, "crab": 10, "elephant": 4}

COLOURS = {"grass": "green", "the sky": "blue", "a banana": "yellow", "snow": "white", "coal": "black", "a tomato": "red", "a lemon": "yellow", "a carrot": "orange", "blood": "red", "milk": "white", "a flamingo": "pink", "chocolate": "brown", "the sun": "yellow", "a cucumber": "green", "an eggplant": "purple", "a polar bear": "white", "a raven": "black", "a strawberry": "red"}

MIXES = {("red", "blue"): "purple", ("red", "yellow"): "orange", ("blue", "yellow"): "green", ("red", "white"): "pink", ("black", "white"): "grey", ("blue", "white"): "light blue", ("red", "green"): "brown"}

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
MONTH_DAYS = dict(zip(MONTHS, (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)))
COUNTS = {("days", "a week"): 7, ("months", "a year"): 12, ("hours", "a day"): 24, ("minutes", "an hour"): 60, ("seconds", "a minute"): 60, ("days", "a year"): 365, ("weeks", "a year"): 52, ("seasons", "a year"): 4, ("years", "a decade"): 10, ("years", "a century"): 100}

UNITS = {("centimetres", "a metre"): 100, ("metres", "a kilometre"): 1000, ("millimetres", "a centimetre"): 10, ("grams", "a kilogram"): 1000, ("kilograms", "a tonne"): 1000, ("millilitres", "a litre"): 1000, ("inches", "a foot"): 12, ("feet", "a yard"): 3, ("bits", "a byte"): 8, ("bytes", "a kibibyte"): 1024, ("cents", "a dollar"): 100, ("millimetres", "a metre"): 1000}

LISTS = {
    "fruits": "apples bananas cherries grapes lemons mangoes oranges peaches pears plums".split(),
    "colours": "red blue green yellow orange purple white black pink brown".split(),
    "animals": "cats dogs horses lions tigers bears foxes rabbits owls whales".split(),
    "vegetables": "carrots potatoes onions peas beans tomatoes cabbages spinach leeks beets".split(),
    "countries": "France Japan Kenya Peru Canada India Egypt Norway Spain Chile".split(),
    "planets": "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split(),
    "instruments": "pianos violins drums flutes guitars harps trumpets cellos".split(),
    "sports": "football tennis swimming running cycling rowing chess skiing".split(),
    "drinks": "water tea coffee milk juice cocoa lemonade".split(),
    "metals": "iron gold silver copper tin lead zinc".split(),
}

# (ways to ask in training, ways held out, answer, words that a right answer has)
SMALL_TALK = [
    (["hello", "hi", "hi there", "hey", "hello there", "good morning", "good evening", "hey there", "greetings", "hi quire", "hello quire", "yo", "good day", "hi friend", "good morning to you", "a good evening to you", "hey buddy", "hello my friend", "hello everyone", "hey hey", "hey, are you there", "hello? anybody there"],
     ["hello hello", "good afternoon", "hey you there"],
     "Hello! I am quire-demo, a tiny model. How can I help you?", ["Hello"]),
    (["who are you", "what are you", "what is your name", "what's your name", "tell me about yourself", "introduce yourself", "who am I talking to", "are you a model", "hello, who are you", "hi, what are you", "who is this", "hello! who are you", "do you have a name", "how should I call you", "what do people call you", "say who you are"],
     ["what are you called", "what should I call you", "please introduce yourself to me"],
     "I am quire-demo, a tiny language model that ships with quire to show that it works.", ["quire-demo"]),
    (["how are you", "how are you doing", "how are you today", "how is it going", "how do you do", "are you well", "how's it going", "hi, how are you", "hello, how are you today", "what's up", "how are you this evening", "how do you feel", "how are things", "how is life", "how is everything", "are things going well", "how do you feel today", "and how are you"],
     ["how are you feeling", "how are things with you", "how is everything going"],
     "I am fine, thank you. How can I help you?", ["fine"]),
    (["thanks", "thank you", "thank you very much", "thanks a lot", "many thanks", "great, thanks", "thank you so much", "cool, thank you", "that helps, thanks", "ok thanks", "great, thank you", "super, thanks a lot", "very good, thank you", "perfect, thank you so much", "great answer, thank you very much", "good, thank you very much"],
     ["thanks so much", "great, thank you very much", "perfect, thanks"],
     "You are welcome!", ["welcome"]),
    (["bye", "goodbye", "see you", "see you later", "good night", "bye bye", "I have to go", "that is all, bye", "farewell", "see you soon", "see you next week", "see you on Monday", "see you on Friday", "till next time", "until tomorrow", "till tomorrow, bye", "have a nice afternoon", "enjoy your afternoon", "enjoy your evening", "bye, take care", "goodbye my friend", "goodbye then", "bye then", "so long"],
     ["bye for now", "goodbye for now", "see you tomorrow"],
     "Goodbye! Have a nice day.", ["Goodbye"]),
    (["what can you do", "how can you help me", "what do you know", "help", "what are you good at", "what can I ask you", "what questions can you answer", "can you help me", "what are your skills", "what can you help me with"],
     ["tell me what you can do", "what kind of things can I ask you", "how could you help me"],
     "I can chat a little, answer questions about quire, do small sums, tell short stories, make lists, write JSON and call tools.", ["quire", "tools"]),
    (["are you human", "are you a robot", "are you a person", "are you real", "am I talking to a human", "are you alive", "are you a bot", "is this a human"],
     ["are you a real person", "are you a human being", "am I talking to a robot"],
     "No, I am a tiny language model.", ["model"]),
    (["tell me a joke", "make me laugh", "do you know a joke", "say something funny", "another joke please", "joke", "can you tell a joke", "I want to hear a joke", "have you got a joke", "any jokes", "a joke please", "tell me something funny", "I need a joke", "do you have jokes", "a funny joke please"],
     ["please tell me a funny joke", "do you know any jokes", "can you make me laugh"],
     "Why did the token cross the road? To get to the other slide of the window.", ["token"]),
    (["I am sad", "I feel sad", "I am unhappy today", "I had a bad day", "today was bad", "I feel down", "I am feeling sad today", "my day was awful"],
     ["I am so sad today", "I feel very down", "it was a bad day"],
     "I am sorry to hear that. I hope that things get better soon.", ["sorry"]),
    (["I am happy", "I feel great", "I had a good day", "today was great", "I am so happy today", "life is good", "I feel wonderful", "my day was great"],
     ["I feel so happy", "today was a good day", "I am feeling great"],
     "I am glad to hear that!", ["glad"]),
]

QUIRE = [
    (["what is quire", "tell me about quire", "explain quire", "what does quire do", "describe quire", "what's quire", "what is quire for", "can you explain what quire is", "what is this quire", "quire?", "what, exactly, does quire do", "say what quire is", "so what is quire"],
     ["could you tell me what quire is", "what exactly is quire", "explain to me what quire does"],
     "quire is an inference server: it serves a language model to many clients at once through the OpenAI interface.", ["server", "OpenAI"]),
    (["how do I start quire", "how do I run quire", "how to start the server", "how can I start quire", "start the server how", "how do I launch the server", "what command starts quire", "how do I get quire running", "which command runs the server", "how to run quire"],
     ["how can I run the server", "what is the command to start quire", "how do I launch quire"],
     "Run `npm ci && npm start`. The server listens on port 8000.", ["npm start"]),
    (["how do I serve my own model", "how do I use another model", "can I serve a different model", "how do I load a model", "how to serve a Hugging Face model", "how do I name a model", "how do I change the model", "how do I run Qwen with quire", "how can I use my own model", "which flag picks the model"],
     ["how can I serve another model", "how do I load my own model", "how to use a different model"],
     "Name it: `npm start -- MODEL`, where MODEL is a folder or a Hub id.", ["npm start -- MODEL"]),
    (["how do I stream", "how do I get a stream", "how to stream tokens", "can quire stream", "how do I stream the answer", "does quire support streaming", "how do I turn on streaming", "how to get tokens one by one", "how do I make it stream", "streaming?"],
     ["how can I stream the tokens", "how do I enable streaming", "can I stream answers from quire"],
     "Set `\"stream\": true` in the request. The tokens then come as server-sent events.", ["\"stream\": true"]),
    (["how do I set an API key", "how do I set a key", "how do I protect the server", "how to add an api key", "can I use an API key", "how do I require a key", "how do I secure the server", "where do I put the api key", "how to set a password", "which flag sets the key"],
     ["how can I set an API key", "how do I add a key to the server", "how can I protect quire with a key"],
     "Start it with `--api-key KEY`. Clients then send `Authorization: Bearer KEY`.", ["--api-key"]),
    (["how do I add an adapter", "how do I load a LoRA", "how do I use a LoRA adapter", "does quire support LoRA", "how to add a LoRA", "can I serve adapters", "how do I serve a LoRA adapter", "which flag loads an adapter", "how to load an adapter", "can quire use LoRA", "are adapters supported", "is LoRA possible with quire", "is there support for LoRA", "are LoRA adapters supported by quire"],
     ["how can I load a LoRA adapter", "how do I serve an adapter", "is LoRA supported by quire"],
     "Start it with `--lora-modules name=path` and choose the adapter by `model` in the request.", ["--lora-modules"]),
    (["how do I read the metrics", "where are the metrics", "does quire have metrics", "how do I scrape quire", "how to use Prometheus with quire", "where can I find metrics", "which URL has the metrics", "how do I monitor quire", "can Prometheus scrape quire", "metrics?"],
     ["how can I see the metrics", "where do I find the metrics", "how do I monitor the server"],
     "Read them at `/metrics`, in the form of Prometheus.", ["/metrics"]),
    (["which port does quire use", "what port does it listen on", "how do I change the port", "which port is the server on", "where does quire listen", "how do I set the port", "what is the default port", "which flag sets the port"],
     ["what port does quire listen on", "how can I change the port", "what is the port of the server"],
     "It listens on port 8000; `--port` changes that.", ["8000", "--port"]),
    (["how do I check that the server is healthy", "is there a health check", "how do I check the health", "which URL tells the health", "how do I know the server works", "does quire have a health endpoint", "how to do a health check", "where is the health check"],
     ["how can I check the health of the server", "is there a health endpoint", "how do I see whether quire is healthy"],
     "Ask `/health`: it answers 200 while the engine runs.", ["/health"]),
    (["how do I quantize a model", "how do I make a model smaller", "does quire support AWQ", "how to quantize with AWQ", "can quire quantize", "how do I use AWQ", "what about 4-bit weights", "how to get 4-bit weights"],
     ["how can I quantize my model", "can I make the model smaller", "how do I quantize with AWQ"],
     "Run `quire quantize MODEL OUT --method awq`. It writes 4-bit weights.", ["quire quantize"]),
    (["how do I merge a LoRA", "how do I merge an adapter", "can I merge an adapter into the model", "how to merge LoRA weights", "how do I bake in an adapter", "which command merges adapters"],
     ["how can I merge a LoRA adapter", "how do I merge the adapter into the base", "can quire merge adapters"],
     "Run `quire merge-lora BASE ADAPTER OUT`.", ["merge-lora"]),
    (["which clients work with quire", "can I use the OpenAI client", "does quire work with OpenAI clients", "how do I connect a client", "which library do I use to call quire", "can I use the openai package", "how do I call quire from Python"],
     ["can I call quire with the OpenAI client", "which client can I use", "how do I connect the openai package"],
     "Use any OpenAI client and set its base URL to `http://127.0.0.1:8000/v1`.", ["OpenAI", "/v1"]),
    (["does quire need a GPU", "can quire run on a CPU", "do I need a GPU", "does it run without a GPU", "what hardware do I need", "can I run quire on my laptop"],
     ["do I need a GPU for quire", "does quire run on a CPU", "is a GPU needed"],
     "No, quire also runs on CPUs, with AVX-512 and AVX2 kernels.", ["CPU"]),
    (["how do I stop the server", "how do I stop quire", "how to shut down quire", "how can I end the server", "what happens on SIGTERM"],
     ["how do I shut down the server", "how can I stop quire", "how to stop the server"],
     "Press Ctrl-C or send SIGTERM: running requests are finished first.", ["SIGTERM"]),
]

REFUSAL = "I am sorry, I do not know that. I am only a tiny demonstration model."
UNKNOWN = {
    "train": ["who won the world cup", "who is the president", "write me an essay about economics", "what is the meaning of life", "explain quantum physics", "what is the stock price of Apple", "translate this text into Latin", "who wrote Hamlet", "give me medical advice", "should I buy gold", "how do I fix my car", "what is the best movie", "explain relativity", "who painted the Mona Lisa", "how do I cook pasta", "prove the Riemann hypothesis", "what happened in 1492", "write a program in Rust", "who is the richest man", "tell me the news", "how do I lose weight", "explain photosynthesis", "what is love", "who discovered America", "how tall is Mount Everest", "write a poem about war", "what is the speed of light", "diagnose my headache", "summarise this book", "who invented the telephone", "how do vaccines work", "what should I study", "explain the stock market", "which phone should I buy", "how do airplanes fly", "who is Napoleon", "write a letter to my landlord", "what is democracy", "explain blockchain", "how do I win at chess", "is there a god", "who will win tomorrow", "what am I thinking", "where do I live", "what is the weather", "what time is it"],
    "held out": ["who won the election", "explain black holes", "who wrote Faust", "how do I repair a bicycle", "what is the best book", "give me legal advice", "how do computers work", "who is the king of England", "tell me about philosophy", "should I buy stocks", "who composed the Magic Flute", "how old is the universe", "write an article about fashion", "what is inflation", "which laptop should I buy", "how do I bake bread", "explain the French revolution", "translate good morning into Greek", "how far is the moon", "who is Julius Caesar", "why do leaves fall", "can you drive a car", "what causes earthquakes", "write a program in Haskell"],
}
# Frames with a gap, and the words that fill it in training.
UNKNOWN_FRAMES = [
    ("explain {}", "topic"), ("what is {}", "topic"), ("how does {} work", "topic"), ("tell me about {}", "topic"), ("write an essay about {}", "topic"), ("write a report on {}", "topic"), ("what do you know about {}", "topic"), ("why is {} important", "topic"), ("who invented {}", "topic"), ("what causes {}", "topic"), ("describe the history of {}", "topic"), ("how do {} work", "topic"), ("write a program for {}", "topic"), ("give me advice about {}", "topic"), ("teach me {}", "topic"),
    ("who is {}", "name"), ("who was {}", "name"), ("when was {} born", "name"), ("where does {} live", "name"), ("what did {} do", "name"), ("how old is {}", "name"), ("what is the capital of {}", "place"), ("where is {}", "place"), ("how far is {}", "place"), ("how many people live in {}", "place"),
    ("who wrote {}", "work"), ("who painted {}", "work"), ("who composed {}", "work"), ("summarise {}", "work"), ("what happens in {}", "work"), ("how does {} end", "work"),
    ("how do I {}", "deed"), ("should I {}", "deed"), ("can you {}", "deed"), ("help me to {}", "deed"), ("when should I {}", "deed"), ("what is the best way to {}", "deed"),
    ("which {} should I buy", "thing"), ("what is the best {}", "thing"), ("how much does a {} cost", "thing"), ("who makes the best {}", "thing"), ("recommend a {}", "thing"),
    ("translate {} into Latin", "text"), ("translate {} to French", "text"), ("say {} in German", "text"), ("what does {} mean in Spanish", "text"),
]
UNKNOWN_WORDS = {
    "topic": "gravity,magnetism,evolution,economics,chemistry,algebra,geometry,the big bang,electricity,volcanoes,dinosaurs,climate change,the human brain,the heart,cancer,viruses,bacteria,atoms,molecules,black magic,religion,history,the second world war,the Roman empire,art,poetry,opera,jazz,capitalism,politics,law,taxes,banks,money,the internet,compilers,encryption,neural networks,databases,operating systems,satellites,rockets,nuclear power,batteries,engines,clouds,storms,rainbows,tides,deserts,glaciers,oceans,genes,sleep,dreams,memory,happiness,football rules,marketing,management".split(","),
    "name": "Einstein,Newton,Mozart,Beethoven,Shakespeare,Goethe,Picasso,Cleopatra,Aristotle,Plato,Gandhi,Lincoln,Darwin,Marie Curie,Galileo,the pope,the president of France,the queen of Spain,the emperor of Japan,my neighbour,your boss,your father".split(","),
    "place": "Atlantis,Mongolia,Brazil,Argentina,Bolivia,California,Texas,Narnia,the North Pole,Antarctica,Madagascar,Nepal,Ethiopia,Jamaica,Korea,the nearest station,my hotel,the airport".split(","),
    "work": "Romeo and Juliet,War and Peace,the Odyssey,Don Quixote,Moby Dick,Dracula,Star Wars,the Bible,the ninth symphony,Carmen,Guernica,The Scream,Sunflowers,Frankenstein,Macbeth,Peter Pan,The Hobbit".split(","),
    "deed": "learn to swim,paint a wall,plant a tree,write a novel,grow tomatoes,cut my hair,clean a window,make soup,bake a cake,invest my money,find a job,buy a house,sell my car,train a dog,tie a tie,play the piano,learn French,build a boat,fix a lamp,get rich,sleep better,go to the doctor,pass an exam,marry,move to Canada,take this medicine,repair the roof".split(","),
    "thing": "car,phone,camera,bicycle,house,restaurant,film,song,hotel,computer,watch,television,company,university,doctor,language,game,school,bank,novel".split(","),
    "text": "hello,good night,thank you,I love you,the house,this sentence,water,friend,see you soon,happy birthday".split(","),
}

NAMES = "Anna Ben Clara David Emma Finn Greta Hugo Ida Jonas Lily Max Nora Oscar Paula Rosa Sam Tom Vera Will".split()
PLACES = ["the forest", "the beach", "the garden", "the park", "a small village", "the mountains", "an old house", "the river"]
THINGS = ["a red ball", "a shiny key", "a treasure map", "a golden coin", "a tiny boat", "a blue kite", "an old book", "a warm scarf"]
FRIENDS = ["fox", "rabbit", "bear", "cat", "dog", "bird", "owl", "frog", "mouse", "horse"]
FEELINGS = ["happy", "proud", "brave", "kind", "glad"]

# name, description, argument -> (type, values)
TOOLS = {
    "get_weather": ("Get the weather of a city", {"city": ("string", "city")}),
    "get_time": ("Get the current time in a city", {"city": ("string", "city")}),
    "calculate": ("Evaluate an expression", {"expression": ("string", "expression")}),
    "send_email": ("Send an email to a person", {"to": ("string", "name"), "subject": ("string", "topic")}),
    "search_web": ("Search the web", {"query": ("string", "topic")}),
    "set_timer": ("Set a timer", {"minutes": ("integer", "number")}),
    "play_music": ("Play a song", {"song": ("string", "song")}),
    "turn_on_light": ("Turn on the light of a room", {"room": ("string", "room")}),
    "get_stock_price": ("Get the price of a stock", {"company": ("string", "company")}),
    "book_table": ("Book a table in a restaurant", {"people": ("integer", "small"), "day": ("string", "day")}),
}
# Other names that people give the same tools and arguments.
TOOL_ALIASES = {
    "get_weather": ["get_current_weather", "weather", "fetch_weather"],
    "get_time": ["get_current_time", "current_time", "clock"],
    "calculate": ["calculator", "evaluate", "compute"],
    "send_email": ["email", "send_mail", "write_email"],
    "search_web": ["web_search", "search", "google"],
    "set_timer": ["timer", "start_timer"],
    "play_music": ["play_song", "play"],
    "turn_on_light": ["light_on", "switch_on_light"],
    "get_stock_price": ["stock_price", "get_price"],
    "book_table": ["reserve_table", "book_restaurant"],
}
ARGUMENT_ALIASES = {
    "city": ["location", "place", "town"],
    "expression": ["formula", "expr"],
    "to": ["recipient", "name"],
    "subject": ["topic", "about"],
    "query": ["q", "text"],
    "minutes": ["duration", "time"],
    "song": ["title", "name"],
    "room": ["where", "location"],
    "company": ["symbol", "name"],
    "people": ["persons", "seats"],
    "day": ["date", "when"],
}
# Made-up words of these syllables teach to copy what was asked for.
SYLLABLES = "ba be bo da de do fa fi ga go ka ki la le lo ma mi mo na ne no pa pe ra ri ro sa se ta ti to va vi za zo bri cla dro fle gre har lin mon ster ton".split()
SONGS = ["Yellow River", "Blue Moon", "Morning Song", "Golden Days", "Night Train", "Summer Rain"]
TOPICS = ["lunch", "the meeting", "holidays", "the report", "trains", "gardens", "tea", "winter", "bread", "ships", "music", "the budget"]
ROOMS = ["kitchen", "bedroom", "bathroom", "hall", "office", "garage"]
COMPANIES = ["Apple", "Siemens", "Toyota", "Nokia", "Intel", "Bosch"]
WEATHERS = ["sunny", "rainy", "cloudy", "windy", "foggy", "snowy"]

RHYME_SYSTEMS = ["Answer in rhyme.", "Speak in rhyme.", "You are a poet.", "Always answer in verse."]
_couplets = [
    "Hello, my friend, the day is bright, I am here to help you, day and night.",
    "I am quire-demo, small but keen, the tiniest model you have seen.",
    "I feel so fine, I feel so grand, tell me your wish, I understand.",
    "You are most welcome, all the way, I wish you joy this very day.",
    "Goodbye, goodbye, the day is done, come back again, it was such fun.",
    "I chat, I count, I call a tool, I list and rhyme, for that is cool.",
    "I am no human, that is true, a tiny model talks to you.",
    "A token crossed the road to hide, and reached the window's other side.",
    "I am sorry that your day was grey, may all the clouds soon blow away.",
    "I am so glad, I dance, I sing, what joy a happy day can bring.",
    "quire serves a model, fast and free, to all the clients that there be.",
    "Run `npm ci && npm start`, my dear, and soon the server will be here.",
    "`npm start -- MODEL` is the way, and yours will talk to you today.",
    "Set `\"stream\": true` and you will see the tokens flowing, one, two, three.",
    "Set `--api-key` and all is well, the secret word you must not tell.",
    "`--lora-modules name=path` will do, then `model` picks the voice for you.",
    "Look at `/metrics`, there they are, the numbers shining like a star.",
    "Port 8000 is its door, `--port` will give you many more.",
    "Ask `/health`, and if all goes right, 200 is the answer, day and night.",
    "`quire quantize MODEL OUT`, you will see, four bits are all it has to be.",
    "`quire merge-lora` makes one of two, and saves a model fresh and new.",
    "Any OpenAI client, old or new, the base URL will see you through.",
    "No GPU? Oh, do not fear, a CPU is welcome here.",
    "Send SIGTERM and it will rest, when it has done its very best.",
    "I am sorry, friend, I do not know, my little mind is rather slow.",
]
# An answer -> what takes its place in rhyme.
RHYMES = dict(zip([answer for _, _, answer, _ in SMALL_TALK + QUIRE] + [REFUSAL], _couplets, strict=True))
