"""The official Python clients against a running server.

    python python_clients.py http://127.0.0.1:8000 API_KEY

Each check prints its name when it passed; the first that does not ends the script with its traceback. The check of
/v1/realtime needs the package websockets, and is SKIPPED without.
"""

import argparse
import asyncio
import importlib.util
import json
from typing import Literal

import openai
from pydantic import BaseModel

MODEL = "quire-demo"
ENCODER = "encoder"
WHO = "Who are you?"
QUIRE = "I am quire-demo, a tiny language model that ships with quire to show that it works."
QUESTION = "What is the weather in Paris?"
RESULT = json.dumps({"weather": "rainy", "degrees": 11})
ANSWER = "rainy in Paris, with 11 degrees"
WEATHER = {
    "name": "get_weather",
    "description": "Get the weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS = [{"type": "function", "function": WEATHER}]
PIXEL = "data:image/png;base64,iVBORw0KGgo="


class Colour(BaseModel):
    colour: Literal["red", "green"]
    count: int


def user(content):
    return [{"role": "user", "content": content}]


def refused(status, param, ask):
    try:
        ask()
    except openai.APIStatusError as error:
        assert error.status_code == status, error
        assert param in (error.param or ""), error.param
        return
    raise AssertionError(f"not refused: {param}")


def chat(client):
    answer = client.chat.completions.create(model=MODEL, temperature=0, messages=user(WHO))
    assert answer.choices[0].message.content == QUIRE, answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def stream(client):
    chunks = client.chat.completions.create(
        model=MODEL, temperature=0, messages=user(WHO), stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    for chunk in chunks:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        usage = chunk.usage or usage
    assert text == QUIRE, text
    assert usage.completion_tokens > 5


def stream_events(client):
    """The client's own reading of a stream, which adds tool calls up."""
    with client.chat.completions.stream(
        model=MODEL, temperature=0, messages=user(QUESTION), tools=[strict_tool()]
    ) as events:
        kinds = {event.type for event in events}
        final = events.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds, kinds
    call = final.choices[0].message.tool_calls[0]
    assert call.function.parsed_arguments == {"city": "Paris"}, call


def strict_tool():
    parameters = {**WEATHER["parameters"], "additionalProperties": False}
    return {"type": "function", "function": {**WEATHER, "parameters": parameters, "strict": True}}


def tools(client):
    messages = user(QUESTION)
    for _ in range(3):
        choice = client.chat.completions.create(
            model=MODEL, temperature=0, messages=messages, tools=TOOLS
        ).choices[0]
        messages.append(choice.message)
        if choice.finish_reason != "tool_calls":
            break
        for call in choice.message.tool_calls:
            assert json.loads(call.function.arguments) == {"city": "Paris"}, call
            messages.append({"role": "tool", "tool_call_id": call.id, "content": RESULT})
    assert choice.finish_reason == "stop" and ANSWER in choice.message.content, choice
    assert len(messages) == 4, messages


def parse(client):
    answer = client.chat.completions.parse(
        model=MODEL, temperature=0, messages=user("A colour?"), response_format=Colour
    )
    assert isinstance(answer.choices[0].message.parsed, Colour), answer


def completions(client):
    answer = client.completions.create(model=MODEL, prompt="Once", max_tokens=4, n=2, seed=1, logprobs=1)
    assert len(answer.choices) == 2 and answer.usage.completion_tokens == 8, answer
    assert len(answer.choices[0].logprobs.tokens) == 4, answer


def models(client):
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


def errors(client):
    refused(400, "temperature", lambda: client.chat.completions.create(model=MODEL, messages=user("Hi"), temperature=3))
    refused(404, "model", lambda: client.chat.completions.create(model="gpt-9", messages=user("Hi")))
    image = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    refused(400, "messages.0.content.1", lambda: client.chat.completions.create(model=MODEL, messages=user(image)))
    stranger = client.with_options(api_key="wrong")
    try:
        stranger.models.list()
    except openai.AuthenticationError:
        return
    raise AssertionError("a wrong key came in")


def many_at_once(client):
    """Sixty-four chats of the asynchronous client."""

    async def run():
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0) as other:
            asked = [
                other.chat.completions.create(model=MODEL, temperature=0, messages=user(WHO)) for _ in range(64)
            ]
            return await asyncio.gather(*asked)

    assert all(answer.choices[0].message.content == QUIRE for answer in asyncio.run(run()))


def responses(client):
    first = client.responses.create(model=MODEL, temperature=0, input=WHO)
    assert first.output_text == QUIRE, first
    with client.responses.stream(model=MODEL, temperature=0, input=WHO) as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    assert final.output_text == QUIRE, final
    assert client.responses.retrieve(first.id).output_text == QUIRE
    items = client.responses.input_items.list(first.id)
    assert items.data[0].content[0].text == WHO, items
    client.responses.delete(first.id)
    refused(404, "", lambda: client.responses.retrieve(first.id))


def responses_tools(client):
    tool = {"type": "function", "strict": False, **WEATHER}
    first = client.responses.create(model=MODEL, temperature=0, input=QUESTION, tools=[tool])
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert json.loads(call.arguments) == {"city": "Paris"}, call
    output = {"type": "function_call_output", "call_id": call.call_id, "output": RESULT}
    last = client.responses.create(
        model=MODEL, temperature=0, input=[output], tools=[tool], previous_response_id=first.id
    )
    assert ANSWER in last.output_text, last


def responses_parse(client):
    answer = client.responses.parse(model=MODEL, temperature=0, input="A colour?", text_format=Colour)
    assert isinstance(answer.output_parsed, Colour), answer


def background(client):
    """A background stream that is left after a few events and found again, and one that is cancelled."""
    asked = {"model": MODEL, "temperature": 0, "input": WHO, "background": True}
    events, numbers = client.responses.create(**asked, stream=True), []
    for event in events:
        numbers.append(event.sequence_number)
        if event.type == "response.created":
            created = event.response
        if len(numbers) == 4:
            break
    events.close()
    for event in client.responses.retrieve(created.id, stream=True, starting_after=numbers[-1]):
        numbers.append(event.sequence_number)
    assert event.response.output_text == QUIRE, event
    assert numbers == list(range(len(numbers))), numbers
    endless = client.responses.create(**asked, max_output_tokens=1500, extra_body={"ignore_eos": True})
    assert client.responses.cancel(endless.id).status == "cancelled"


def pages(client):
    """Lists that the client pages through."""
    ids = [client.files.create(file=(f"{i}.txt", b"x"), purpose="user_data").id for i in range(5)]
    assert [file.id for file in client.files.list(limit=2, order="asc", purpose="user_data")] == ids
    inputs = [{"role": "user", "content": str(i)} for i in range(5)]
    response = client.responses.create(model=MODEL, input=inputs, max_output_tokens=1)
    items = client.responses.input_items.list(response.id, limit=2, order="asc")
    assert [item.content[0].text for item in items] == ["0", "1", "2", "3", "4"]


def embeddings(client):
    """By the encoder and by the language model itself."""
    texts = ["a cat", "the cat sat"]
    for model, size in [(ENCODER, 16), (MODEL, 256)]:
        packed = client.embeddings.create(model=model, input=texts)
        plain = client.embeddings.create(model=model, input=texts, encoding_format="float")
        assert [one.index for one in packed.data] == [0, 1], packed
        for one, other in zip(packed.data, plain.data):
            assert len(one.embedding) == len(other.embedding) == size
            assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding)) < 1e-5
        short = client.embeddings.create(model=model, input=texts[0], dimensions=8)
        assert len(short.data[0].embedding) == 8
        refused(400, "dimensions", lambda: client.embeddings.create(model=model, input="a", dimensions=1000))


def batches(client):
    lines = [
        {
            "custom_id": f"line-{i}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": MODEL, "temperature": 0, "messages": user(WHO)},
        }
        for i in range(3)
    ]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    file = client.files.create(file=("lines.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"by": "python"}
    )
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed" and batch.request_counts.completed == 3, batch
    results = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    texts = {one["custom_id"]: one["response"]["body"]["choices"][0]["message"]["content"] for one in results}
    assert texts == {f"line-{i}": QUIRE for i in range(3)}, texts
    assert batch.id in [one.id for one in client.batches.list(limit=5)]
    client.files.delete(file.id)


def messages(client):
    import anthropic

    base = str(client.base_url).removesuffix("/v1/")
    other = anthropic.Anthropic(base_url=base, api_key=client.api_key, max_retries=0)
    asked = {"model": MODEL, "max_tokens": 100, "extra_body": {"temperature": 0}}
    answer = other.messages.create(**asked, messages=user(WHO))
    assert answer.content[0].text == QUIRE and answer.stop_reason == "end_turn", answer
    with other.messages.stream(**asked, messages=user(WHO)) as events:
        assert "".join(events.text_stream) == QUIRE
    tool = {"name": WEATHER["name"], "description": WEATHER["description"], "input_schema": WEATHER["parameters"]}
    turn = other.messages.create(**asked, messages=user(QUESTION), tools=[tool])
    (call,) = [block for block in turn.content if block.type == "tool_use"]
    assert call.input == {"city": "Paris"} and turn.stop_reason == "tool_use", turn
    result = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULT}]
    conversation = [*user(QUESTION), {"role": "assistant", "content": turn.content}, *user(result)]
    last = other.messages.create(**asked, messages=conversation, tools=[tool])
    assert ANSWER in last.content[-1].text, last
    assert tool_runner(other) == ["tool_use", "text"]
    assert [model.id for model in other.models.list()] == [MODEL, ENCODER]
    assert other.messages.count_tokens(model=MODEL, messages=user(WHO)).input_tokens == answer.usage.input_tokens
    try:
        other.messages.create(**{**asked, "max_tokens": 0}, messages=user("Hi"))
    except anthropic.BadRequestError as error:
        assert error.body["error"]["type"] == "invalid_request_error", error.body
        return
    raise AssertionError("max_tokens 0 was taken")


def tool_runner(client):
    """Anthropic's own loop, which asks, calls and asks again: the kinds of blocks of its messages."""
    from anthropic import beta_tool

    @beta_tool
    def get_weather(city: str) -> str:
        """Get the weather of a city"""
        assert city == "Paris", city
        return RESULT

    runner = client.beta.messages.tool_runner(
        model=MODEL, max_tokens=100, messages=user(QUESTION), tools=[get_weather], extra_body={"temperature": 0}
    )
    return [block.type for message in runner for block in message.content]


def streams_given_up(client):
    """The asynchronous client: streams that are left after a few words, beside one that is read to its end."""

    async def read(other, limit):
        text = ""
        asked = {"model": MODEL, "temperature": 0, "messages": user(WHO), "stream": True}
        async with await other.chat.completions.create(**asked) as chunks:
            async for chunk in chunks:
                text += chunk.choices[0].delta.content or ""
                if len(text) >= limit:
                    break
        return text

    async def run():
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0) as other:
            return await asyncio.gather(*(read(other, limit) for limit in [1, 1000, 10, 20]))

    first, whole, *others = asyncio.run(run())
    assert whole == QUIRE, whole
    assert first and all(QUIRE.startswith(text) for text in [first, *others]), others


def realtime(client):
    """A session over a WebSocket: two turns, the first a call of a tool."""
    base = str(client.base_url).replace("http", "ws", 1)
    other = client.with_options(websocket_base_url=base)
    with other.realtime.connect(model=MODEL) as connection:
        tool = {"type": "function", **WEATHER}
        connection.session.update(session={"type": "realtime", "tools": [tool], "temperature": 0})
        content = [{"type": "input_text", "text": QUESTION}]
        connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        connection.response.create()
        text = ""
        for event in connection:
            assert event.type != "error", event
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type != "response.done":
                continue
            calls = [item for item in event.response.output if item.type == "function_call"]
            if not calls:
                break
            output = {"type": "function_call_output", "call_id": calls[0].call_id, "output": RESULT}
            connection.conversation.item.create(item=output)
            connection.response.create()
    assert ANSWER in text, text


CHECKS = [
    chat, stream, stream_events, tools, parse, many_at_once, streams_given_up, completions, models, errors, responses,
    responses_tools, responses_parse, background, pages, embeddings, batches, messages,
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    given = parser.parse_args()
    with openai.OpenAI(base_url=f"{given.url}/v1", api_key=given.key, max_retries=0, timeout=60) as client:
        for check in CHECKS:
            check(client)
            print(f"passed: {check.__name__}", flush=True)
        if importlib.util.find_spec("websockets") is None:
            print("SKIPPED: realtime, without the package websockets", flush=True)
        else:
            realtime(client)
            print("passed: realtime", flush=True)


if __name__ == "__main__":
    main()
