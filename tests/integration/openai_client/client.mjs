// Talks to a server with the stock OpenAI client and checks what the client makes of the answers.
//
//   node client.mjs http://127.0.0.1:8080        a running server
//   node client.mjs path/to/fake_openai_server   starts the program, which prints its URL first
//   node client.mjs path/to/thermocline MODEL    starts a coordinator and a worker beside it
//
// Nothing here depends on the model but that it is deterministic at temperature 0.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import OpenAI from "openai";

const messages = [{ role: "user", content: "Tell me a story." }];
const greedy = { temperature: 0, seed: 1 };

async function startServer(program) {
  const child = spawn(program, { stdio: ["pipe", "pipe", "inherit"] });
  const url = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", resolve);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`server ended with ${code}`)));
  });
  return { url, stop: () => child.stdin.end() };
}

async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  return port;
}

// Says what it has to say on stderr, and is ready when it says so over HTTP.
async function startCluster(program, model) {
  const url = `http://127.0.0.1:${await freePort()}`;
  const child = spawn(program, ["serve", "--model", model, "--port", new URL(url).port],
                      { stdio: ["ignore", "inherit", "inherit"] });
  const exited = once(child, "exit");
  const isReady = () => fetch(`${url}/health/ready`).then((answer) => answer.ok, () => false);
  while (!(await isReady())) {
    assert.equal(child.exitCode, null, "the service ended before it was ready");
    await setTimeout(50);
  }
  const stop = async () => {
    child.kill("SIGTERM");
    assert.deepEqual(await exited, [0, null]);
  };
  return { url, stop };
}

function startTarget(target, model) {
  if (target.startsWith("http")) return { url: target, stop() {} };
  return model ? startCluster(target, model) : startServer(target);
}

function checkUsage(usage) {
  assert.ok(usage.prompt_tokens > 0);
  assert.ok(usage.completion_tokens > 0);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
}

async function listsModels(client) {
  const models = [];
  for await (const model of client.models.list()) models.push(model);
  assert.ok(models.length > 0);
  const one = await client.models.retrieve(models[0].id);
  assert.equal(one.id, models[0].id);
  return models[0].id;
}

async function chats(client, model) {
  const whole = await client.chat.completions.create({ model, messages, max_tokens: 24, ...greedy });
  assert.match(whole.id, /^chatcmpl-/);
  assert.equal(whole.object, "chat.completion");
  assert.equal(whole.choices[0].message.role, "assistant");
  assert.ok(whole.choices[0].message.content.length > 0);
  assert.ok(["stop", "length"].includes(whole.choices[0].finish_reason));
  checkUsage(whole.usage);

  const stream = await client.chat.completions.create({
    model, messages, max_tokens: 24, ...greedy, stream: true, stream_options: { include_usage: true },
  });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  assert.deepEqual(chunks[0].choices[0].delta, { role: "assistant", content: "" });
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
  const last = chunks.at(-1);
  assert.deepEqual(last.choices, []);
  assert.deepEqual(last.usage, whole.usage);
  const withChoices = chunks.slice(0, -1);
  assert.ok(withChoices.every((chunk) => chunk.usage === null));
  assert.ok(withChoices.slice(0, -1).every((chunk) => chunk.choices[0].finish_reason === null));
  assert.equal(withChoices.at(-1).choices[0].finish_reason, whole.choices[0].finish_reason);
  const text = withChoices.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
  assert.equal(text, whole.choices[0].message.content);
  return text;
}

async function streamsWithTheHelper(client, model, expected) {
  const runner = client.chat.completions.stream({ model, messages, max_tokens: 24, ...greedy });
  assert.equal(await runner.finalContent(), expected);
}

async function completes(client, model) {
  const options = { model, prompt: "Once upon a time", max_tokens: 16, ...greedy };
  const whole = await client.completions.create(options);
  assert.equal(whole.object, "text_completion");
  assert.ok(whole.choices[0].text.length > 0);
  checkUsage(whole.usage);
  let text = "";
  for await (const chunk of await client.completions.create({ ...options, stream: true })) {
    text += chunk.choices[0].text;
  }
  assert.equal(text, whole.choices[0].text);

  const stop = text.slice(3, 5);
  const stopped = await client.completions.create({ ...options, stop });
  assert.equal(stopped.choices[0].text, text.slice(0, text.indexOf(stop)));
  assert.equal(stopped.choices[0].finish_reason, "stop");

  const echoed = await client.completions.create({ ...options, echo: true, max_tokens: 1, logprobs: 1 });
  assert.ok(echoed.choices[0].text.startsWith(options.prompt));
  const logprobs = echoed.choices[0].logprobs;
  assert.equal(logprobs.tokens.length, logprobs.token_logprobs.length);
  assert.equal(logprobs.token_logprobs[0], null);

  const several = await client.completions.create({ ...options, prompt: ["a", "b"], n: 2, max_tokens: 2 });
  assert.deepEqual(several.choices.map((choice) => choice.index), [0, 1, 2, 3]);
  const ids = await client.completions.create({ ...options, prompt: [5, 6, 7], max_tokens: 2 });
  assert.equal(ids.usage.prompt_tokens, 3);
}

async function givesLogprobs(client, model) {
  const chat = await client.chat.completions.create({
    model, messages, max_tokens: 3, ...greedy, logprobs: true, top_logprobs: 2,
  });
  const content = chat.choices[0].logprobs.content;
  assert.ok(content.length > 0 && content.length <= 3);
  for (const token of content) {
    assert.ok(token.logprob <= 0);
    assert.equal(token.top_logprobs.length, 2);
    assert.equal(Buffer.from(token.bytes).toString("utf8"), token.token);
  }
}

async function reportsErrors(client, model) {
  await assert.rejects(client.chat.completions.create({ model: "no-such-model", messages }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    assert.equal(error.param, "model");
    assert.ok(error.requestID);
    return true;
  });
  await assert.rejects(client.chat.completions.create({ model, messages, temperature: -1 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "temperature");
    return true;
  });
  const tools = [{ type: "function", function: { name: "f", parameters: {} } }];
  await assert.rejects(client.chat.completions.create({ model, messages, tools }), (error) => {
    assert.equal(error.code, "unsupported_parameter");
    return true;
  });
}

async function survivesAnAbortedStream(client, model) {
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  for await (const chunk of stream) {
    assert.equal(chunk.object, "chat.completion.chunk");
    break;  // leaves the loop, which aborts the request
  }
  const after = await client.chat.completions.create({ model, messages, max_tokens: 2 });
  assert.equal(after.usage.completion_tokens <= 2, true);
}

async function main(target, modelFile) {
  const server = await startTarget(target, modelFile);
  try {
    const client = new OpenAI({
      baseURL: `${server.url.replace(/\/$/, "")}/v1`,
      apiKey: process.env.OPENAI_API_KEY ?? "none",
      maxRetries: 0,
      timeout: 60_000,
    });
    const model = await listsModels(client);
    const text = await chats(client, model);
    await streamsWithTheHelper(client, model, text);
    await completes(client, model);
    await givesLogprobs(client, model);
    await reportsErrors(client, model);
    await survivesAnAbortedStream(client, model);
    console.log(`the openai client is content with ${server.url}: ${JSON.stringify(text)}`);
  } finally {
    await server.stop();
  }
}

const target = process.argv[2] ?? process.env.TC_OPENAI_TARGET;
if (!target) {
  console.error("usage: node client.mjs (URL | SERVER_PROGRAM | THERMOCLINE MODEL)");
  process.exit(2);
}
await main(target, process.argv[3]);
