// What /openapi.json says in words, beside what the schemas say themselves. One table for all dialects: a
// field means the same wherever it has the same name; where it does not, its parent's name goes before it.

import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import { realtimeMessages } from './websocket/realtime-schemas.ts';
import { responseMessages } from './websocket/response-schemas.ts';

const operations: Record<string, string> = {
  'POST /v1/chat/completions': 'Answers a conversation; whole, or as server-sent events with stream.',
  'POST /v1/completions': 'Continues a text.',
  'POST /v1/messages': 'Answers a conversation, in Anthropic’s dialect.',
  'POST /v1/messages/count_tokens': 'Counts the tokens of a conversation, in Anthropic’s dialect.',
  'POST /v1/responses': 'Answers a conversation whose turns the server keeps.',
  'POST /v1/responses/input_tokens': 'Counts the tokens that a response would be given.',
  'GET /v1/responses': 'The same over a WebSocket: each message is a request.',
  'GET /v1/responses/{response_id}': 'A response that runs or is stored, or its events with stream.',
  'DELETE /v1/responses/{response_id}': 'Forgets a response, and ends it when it runs.',
  'POST /v1/responses/{response_id}/cancel': 'Ends a background response.',
  'GET /v1/responses/{response_id}/input_items': 'The items that a response was given.',
  'GET /v1/realtime': 'The text part of OpenAI’s Realtime API, over a WebSocket.',
  'POST /v1/embeddings': 'Vectors of texts, by an encoder or by the language model itself.',
  'POST /v1/rerank': 'Orders documents by how well they answer a query.',
  'POST /rerank': 'The same as /v1/rerank.',
  'POST /v2/rerank': 'The same as /v1/rerank.',
  'POST /v1/score': 'How well pairs of texts go together.',
  'POST /score': 'The same as /v1/score.',
  'POST /v1/classify': 'Classes of texts, and their probabilities.',
  'POST /classify': 'The same as /v1/classify.',
  'POST /v1/moderations': 'Classes of texts in the shape of OpenAI’s moderations.',
  'POST /v1/files': 'Stores a file, sent as a form.',
  'GET /v1/files': 'The files that are stored.',
  'GET /v1/files/{id}': 'What is known of a file.',
  'DELETE /v1/files/{id}': 'Forgets a file.',
  'GET /v1/files/{id}/content': 'What is in a file.',
  'POST /v1/batches': 'Runs the requests of a file, one a line, when there is room.',
  'GET /v1/batches': 'The batches that there are.',
  'GET /v1/batches/{id}': 'How far a batch is.',
  'POST /v1/batches/{id}/cancel': 'Ends a batch; what is done is kept.',
  'GET /': 'Ollama’s word that a server is there.',
  'GET /api/version': 'The version of quire, in Ollama’s dialect.',
  'GET /api/tags': 'The names that requests may use, in Ollama’s dialect.',
  'GET /api/ps': 'The same, as models in memory.',
  'POST /api/show': 'What is known of a model, in Ollama’s dialect.',
  'POST /api/chat': 'Answers a conversation, in Ollama’s dialect.',
  'POST /api/generate': 'Continues a text, in Ollama’s dialect.',
  'POST /api/embed': 'Vectors of texts, in Ollama’s dialect.',
  'POST /api/embeddings': 'The vector of one text, in Ollama’s dialect; older than /api/embed.',
  'GET /v1/models': 'The names that requests may use.',
  'GET /v1/models/{*}': 'One of them.',
  'POST /tokenize': 'The tokens of a text or of a conversation.',
  'POST /detokenize': 'The text of tokens.',
  'POST /v1/load_lora_adapter': 'Loads a LoRA adapter from a folder of the server’s machine.',
  'POST /v1/unload_lora_adapter': 'Forgets an adapter; requests that use it run to their end.',
  'POST /abort': 'Ends requests.',
  'POST /pause': 'Starts no step from now on; requests wait.',
  'POST /resume': 'Goes on after a pause.',
  'GET /is_paused': 'Whether the engine is paused.',
  'POST /sleep': 'Gives the memory of the KV cache back; requests wait.',
  'POST /wake_up': 'Takes the memory again, and goes on.',
  'GET /is_sleeping': 'Whether the engine is asleep.',
  'POST /reset_prefix_cache': 'Forgets every cached prefix.',
  'GET /health': 'Whether the engine works: 200, or 503 with the reason.',
  'GET /ping': 'Whether HTTP works.',
  'GET /version': 'The version of quire.',
  'GET /metrics': 'Metrics in Prometheus’ text format.',
  'GET /openapi.json': 'This document.',
};

/** What clients may send once a route has become a WebSocket, by the name that the schemas have here. */
const socketMessages: Record<string, { name: string; messages: Record<string, object> }> = {
  'GET /v1/responses': { name: 'responses', messages: responseMessages },
  'GET /v1/realtime': { name: 'realtime', messages: realtimeMessages },
};

const fields: Record<string, string> = {
  model: 'A name that /v1/models lists; the served model by default.',
  top_p: 'Samples from the likeliest tokens that have this probability together; 1, the default, is all.',
  min_p: 'Samples from tokens at least this likely, as a share of the likeliest; 0, the default, is off.',
  n: 'Choices; 1 by default.',
  stop: 'Texts that end the output, and are left out of it.',
  stop_token_ids: 'Tokens that end the output.',
  include_stop_str_in_output: 'Leaves the stop string in the output; false by default.',
  ignore_eos: 'Goes on after the end-of-sequence token; false by default.',
  min_tokens: 'Output tokens before which nothing may end it; 0 by default.',
  skip_special_tokens: 'Leaves special tokens out of the text; true by default.',
  presence_penalty: 'Taken from the logit of every token that is in the output; 0 by default.',
  frequency_penalty: 'Taken from a token’s logit for each time that it is in the output; 0 by default.',
  repetition_penalty:
    'Divides the logits of tokens that were there, prompt included; 1, the default, is off.',
  logit_bias: 'Added to logits, by token id; -100 forbids a token.',
  prompt_logprobs: 'Alternatives for each token of the prompt; up to --max-logprobs.',
  truncation_side: 'The end of a long prompt that goes: left, the default, or right.',
  stream: 'Sends the answer as server-sent events while it is made; false by default.',
  stream_options: 'Of streams only.',
  include_usage: 'Ends the stream with a chunk that has usage; false by default.',
  continuous_usage_stats: 'Has usage in every chunk, with include_usage; false by default.',
  include_obfuscation: 'Taken, and changes nothing.',
  cache_salt: 'Requests share cached prefixes only under the same salt.',
  return_tokens_as_token_ids:
    'Log-probabilities call tokens token_id:ID instead of by their text; false by default.',
  return_token_ids: 'Adds the ids of prompt and output to the answer; false by default.',
  add_special_tokens: 'Puts the tokenizer’s own special tokens around the prompt.',
  response_format: 'What the answer must be; text by default.',
  'response_format.type': 'text, json_object, json_schema or structural_tag.',
  'text.format': 'What the answer must be; text by default.',
  'text.format.type': 'text, json_object or json_schema.',
  'format.type': 'text, json_object or json_schema.',
  format: 'What the answer must be.',
  output_format: 'What the answer must be; the older form of output_config.format.',
  output_config: 'What the answer must be, and how much effort goes into it.',
  type: 'Which kind of object this is.',
  json_schema: 'For the type json_schema.',
  name: 'Its name.',
  description: 'What it is for, in words for the model.',
  schema: 'A JSON schema, drafts 4 to 2020-12.',
  strict: 'Whether the schema must be kept; it is whenever it can be.',
  json: 'A JSON schema, as an object or as text.',
  regex: 'A regular expression that the whole answer matches.',
  choice: 'Texts, one of which is the answer.',
  grammar: 'An EBNF grammar with a rule root.',
  json_object: 'Any JSON object.',
  structural_tag: 'Text in which marks begin what a grammar holds.',
  user: 'Taken, and changes nothing.',
  store: 'Whether it may be asked for later; chat completions are not kept.',
  metadata: 'Names and texts that come back with the object.',
  service_tier: 'Taken; there is one tier.',
  prediction: 'Taken, and changes nothing.',
  safety_identifier: 'Taken, and changes nothing.',
  prompt_cache_key: 'Taken, and changes nothing.',
  messages: 'The conversation, oldest first.',
  role: 'Who says it.',
  content: 'What is said: a text, or a list of parts.',
  text: 'The text itself.',
  refusal: 'What a model said instead of an answer.',
  tool_calls: 'Calls that the model asked for in this turn.',
  id: 'What other objects refer to this one by.',
  function: 'The function.',
  arguments: 'Arguments of the call, as JSON text.',
  tool_call_id: 'The call that this is the result of.',
  function_call: 'The older form of tool_calls and of tool_choice.',
  reasoning: 'What was thought before the answer, or how to.',
  reasoning_content: 'The older name of reasoning.',
  max_completion_tokens: 'Output tokens at most, reasoning included; cut to what the context leaves.',
  max_output_tokens: 'Output tokens at most, reasoning included; cut to what the context leaves.',
  max_tool_calls: 'Taken, and changes nothing.',
  logprobs: 'Log-probabilities of the output’s tokens; of completions, how many alternatives.',
  top_logprobs: 'Alternatives for each token of the output; up to --max-logprobs.',
  add_generation_prompt: 'Ends the prompt where the assistant’s turn begins; true by default.',
  continue_final_message: 'Goes on with the last message instead of a new one; false by default.',
  chat_template_kwargs: 'Variables of the chat template.',
  documents: 'Texts for the chat template, or to be ordered.',
  tools: 'Functions that the model may call.',
  parameters: 'JSON schema of the arguments.',
  input_schema: 'JSON schema of the arguments.',
  tool_choice: 'Whether calls may, must or must not come; auto by default where there are tools.',
  parallel_tool_calls: 'Whether there may be several calls; true by default.',
  disable_parallel_tool_use: 'Allows one call only; false by default.',
  reasoning_effort: 'How much to think, for templates that know it; none turns thinking off.',
  effort: 'How much to think, for templates that know it.',
  verbosity: 'How long the answer should be, for templates that know it.',
  include_reasoning: 'Whether reasoning is in the answer; true by default.',
  echo: 'Puts what the answer continues in front of it; false by default.',
  prompt: 'A text or token ids, or a list of them.',
  input: 'What the model is given.',
  tool_use_id: 'The call that this is the result of.',
  ttl: 'Taken; prefixes are cached as long as there is room.',
  cache_control: 'Taken; prefixes are cached by themselves.',
  is_error: 'Whether the tool failed.',
  thinking: 'What was thought before the answer, or how to.',
  signature: 'Taken, and not looked at.',
  data: 'What the object holds, encoded.',
  display: 'Whether thinking is in the answer.',
  system: 'Instructions before the conversation.',
  speed: 'Taken, and changes nothing.',
  previous_message_id: 'Refused, as thread is.',
  thread: 'Refused: a request brings its whole conversation.',
  stop_sequences: 'Texts that end the output, and are left out of it.',
  user_id: 'Taken, and changes nothing.',
  return_token_strs: 'Adds the text of each token; false by default.',
  tokens: 'Token ids.',
  call_id: 'What a call and its result have in common.',
  output: 'The result of a call.',
  summary: 'A short form of the reasoning.',
  generate_summary: 'The older name of summary.',
  status: 'How far the item is.',
  instructions: 'Said to the model before the conversation; not kept for the next turn.',
  previous_response_id: 'The response that this one goes on from.',
  mode: 'Whether one of the tools must be called: auto or required.',
  include: 'What else the answer should have.',
  truncation:
    'auto leaves the oldest turns out when the prompt is too long; disabled, the default, refuses it.',
  background: 'Answers at once, and goes on alone; false by default.',
  purpose: 'What the file is for.',
  file: 'The file itself.',
  expires_after: 'When it is forgotten.',
  output_expires_after: 'When the files of its results are forgotten.',
  anchor: 'What the time counts from: created_at.',
  seconds: 'How long it is kept, in seconds.',
  input_file_id: 'The file with a request on each line.',
  endpoint: 'The route that the requests are for.',
  completion_window: 'How long it may take.',
  lora_name: 'The name that requests choose the adapter by.',
  limit: 'Objects on a page at most.',
  order: 'By when they were made: asc or desc.',
  after: 'The last object of the page before.',
  options: 'How to sample.',
  num_ctx: 'Taken, and changes nothing.',
  num_keep: 'Taken, and changes nothing.',
  num_batch: 'Taken, and changes nothing.',
  num_gpu: 'Taken, and changes nothing.',
  main_gpu: 'Taken, and changes nothing.',
  num_thread: 'Taken, and changes nothing.',
  repeat_last_n: 'Taken, and changes nothing: penalties are over all of the text.',
  mirostat_tau: 'Taken, and changes nothing.',
  mirostat_eta: 'Taken, and changes nothing.',
  penalize_newline: 'Taken, and changes nothing.',
  numa: 'Taken, and changes nothing.',
  low_vram: 'Taken, and changes nothing.',
  use_mmap: 'Taken, and changes nothing.',
  use_mlock: 'Taken, and changes nothing.',
  think: 'Whether to think, or how much.',
  keep_alive: 'Taken; the model stays in memory.',
  tool_name: 'The function that this is the result of.',
  verbose: 'Taken, and changes nothing.',
  suffix: 'Text after the answer; refused.',
  context: 'Refused: a conversation goes by /api/chat.',
  encoding_format: 'float, the default, or base64 of little-endian float32.',
  dimensions: 'Length of the vectors, for models that may be cut.',
  embed_dtype: 'Form of the numbers before they are encoded: float32.',
  endianness: 'Order of the bytes in base64: little, as native is here.',
  use_activation: 'Whether scores go through the model’s activation; true by default.',
  return_documents: 'Whether results bring their document; true by default.',
  queries: 'Another name of text_1.',
  items: 'Another name of text_2.',
  query: 'What the documents are to answer.',
  top_n: 'Documents in the answer; all by default.',
  text_1: 'One text, or a list of them.',
  text_2: 'The texts that it is compared with.',
  response_id: 'The id of a response.',
  event_id: 'Names the message in the error that it may be answered with.',
  stream_id: 'Comes back in every event of the response; the id of the response by default.',
  generate: 'Refused when it is false.',
  session: 'What holds for every response of the session.',
  response: 'What holds for this response alone.',
  item: 'What is added to the conversation.',
  item_id: 'The id of an item of the conversation.',
  previous_item_id: 'The item that this one comes after; root is the beginning, the end by default.',
  conversation: 'none answers beside the conversation; auto, the default, in it.',
  output_modalities: 'What answers are made of: text.',
  audio: 'Refused: answers are text.',
};

interface Schema {
  description?: string;
  properties?: Record<string, Schema>;
  anyOf?: Schema[];
  items?: Schema;
}

/** A copy in which every field has a description: its own, or the table's. */
function described(schema: Schema, parent = ''): Schema {
  const { properties, anyOf, items } = schema;
  return {
    ...schema,
    ...(properties === undefined ? {} : { properties: describedFields(properties, parent) }),
    ...(anyOf === undefined ? {} : { anyOf: anyOf.map((branch) => described(branch, parent)) }),
    ...(items === undefined ? {} : { items: described(items, parent) }),
  };
}

function describedFields(properties: Record<string, Schema>, parent: string): Record<string, Schema> {
  return Object.fromEntries(
    Object.entries(properties).map(([name, field]) => {
      const own = field.description ?? field.anyOf?.find(({ description }) => description)?.description;
      const description = own ?? fields[`${parent}.${name}`] ?? fields[name];
      return [name, { ...described(field, name), ...(description === undefined ? {} : { description }) }];
    }),
  );
}

/** Where requests have their fields. */
const parts = ['body', 'querystring', 'params'] as const;

const componentOf = (name: string, type: string) => `${name}.${type}`;

const components = Object.fromEntries(
  Object.values(socketMessages).flatMap(({ name, messages }) =>
    Object.entries(messages).map(([type, schema]) => [componentOf(name, type), described(schema)]),
  ),
);

/** `x-` since OpenAPI has no words for WebSockets. */
function messagesOf(route: string): object {
  const socket = socketMessages[route];
  if (socket === undefined) return {};
  const refs = Object.keys(socket.messages).map((type) => ({
    $ref: `#/components/schemas/${componentOf(socket.name, type)}`,
  }));
  return { 'x-websocket-messages': { oneOf: refs } };
}

export const openApiOptions = (version: string): FastifyDynamicSwaggerOptions => ({
  openapi: {
    openapi: '3.1.0',
    info: { title: 'quire', version },
    components: { schemas: components as never },
  },
  transform: ({ schema = {}, url, route }) => {
    const path = url.replace('*', '{*}').replace(/:(\w+)/g, '{$1}');
    const name = `${[route.method].flat()[0]} ${path}`;
    const summary = operations[name];
    const changed: Record<string, unknown> = {
      ...schema,
      ...(summary === undefined ? {} : { summary }),
      ...messagesOf(name),
    };
    for (const part of parts)
      if (schema[part] !== undefined) changed[part] = described(schema[part] as Schema);
    return { schema: changed, url };
  },
});
