// OpenAI's own Node client against a pool. Its address and key come from the client's own environment variables;
// CAII_OTHER_KEY is another requester's key, CAII_MODEL a model of the pool, CAII_QUICK leaves the batches out.
// CAII_NODE_MODULES is the directory in which the client is installed.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const modules = `${process.env.CAII_NODE_MODULES}/node_modules`;
const { OpenAI, toFile } = createRequire(pathToFileURL(`${modules}/`))("openai");
const { version } = JSON.parse(readFileSync(`${modules}/openai/package.json`, "utf8"));

const model = process.env.CAII_MODEL;
const endpoint = "/v1/embeddings";
const request = (custom_id, input, more = {}) =>
  ({ custom_id, method: "POST", url: endpoint, body: { model, input }, ...more });
const jsonl = (requests) => requests.map((line) => JSON.stringify(line) + "\n").join("");
const lines = (text) => text.trim().split("\n").map((line) => JSON.parse(line));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function refused(kind, call, ...words) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, `${error.constructor.name} instead of ${kind.name}: ${error.message}`);
    for (const word of words) assert.ok(error.message.includes(word), `"${word}" is not in "${error.message}"`);
    return error;
  }
  assert.fail(`${kind.name} was expected`);
}

async function poll(client, batch) {
  for (let tries = 0; ["validating", "in_progress", "finalizing", "cancelling"].includes(batch.status); tries++) {
    assert.ok(tries < 600, JSON.stringify(batch));
    await sleep(200);
    batch = await client.batches.retrieve(batch.id);
  }
  return batch;
}

async function files(client, other) {
  const content = jsonl([request("a", "some text")]);
  const file = await client.files.create({ file: await toFile(Buffer.from(content), "in.jsonl"), purpose: "batch" });
  assert.deepEqual([file.object, file.bytes, file.filename, file.purpose], ["file", content.length, "in.jsonl", "batch"]);
  assert.deepEqual(await client.files.retrieve(file.id), file);
  assert.equal(await (await client.files.content(file.id)).text(), content);
  const ids = [];
  for await (const found of client.files.list({ limit: 1 })) ids.push(found.id);
  assert.equal(ids[0], file.id);
  await refused(OpenAI.NotFoundError, () => other.files.retrieve(file.id), file.id);
  assert.equal((await client.files.delete(file.id)).deleted, true);
  await refused(OpenAI.NotFoundError, () => client.files.content(file.id), "No such File object");
}

async function batches(client, other) {
  const requests = Array.from({ length: 10 }, (_, n) => request(`id ${n}`, `sentence number ${n}`));
  requests.splice(3, 0, request("bad", ""));
  const source = await client.files.create({ file: await toFile(Buffer.from(jsonl(requests)), "r.jsonl"), purpose: "batch" });
  const made = await client.batches.create({ input_file_id: source.id, endpoint, completion_window: "24h" });
  await refused(OpenAI.NotFoundError, () => other.batches.retrieve(made.id), made.id);
  const batch = await poll(client, made);
  assert.equal(batch.status, "completed", JSON.stringify(batch));
  assert.deepEqual(batch.request_counts, { total: 11, completed: 10, failed: 1 });
  const output = lines(await (await client.files.content(batch.output_file_id)).text());
  assert.deepEqual(output.map((line) => line.custom_id), Array.from({ length: 10 }, (_, n) => `id ${n}`));
  assert.ok(output.every((line) => line.response.body.data[0].embedding.length === 384));
  const errors = lines(await (await client.files.content(batch.error_file_id)).text());
  assert.deepEqual(errors.map((line) => [line.custom_id, line.response.status_code]), [["bad", 400]]);
  const listed = [];
  for await (const found of client.batches.list({ limit: 2 })) listed.push(found.id);
  assert.equal(listed[0], batch.id);

  const bad = jsonl([request("a", "x"), request("a", "y")]);
  const broken = await client.files.create({ file: await toFile(Buffer.from(bad), "b.jsonl"), purpose: "batch" });
  const failed = await poll(client, await client.batches.create({ input_file_id: broken.id, endpoint, completion_window: "24h" }));
  assert.equal(failed.status, "failed");
  assert.deepEqual(failed.errors.data.map((error) => [error.line, error.code]), [[2, "duplicate_custom_id"]]);
  await refused(OpenAI.NotFoundError, () => client.batches.retrieve("batch_999999"));

  const many = Array.from({ length: 1000 }, (_, n) => request(`${n}`, "a longer sentence, so that it takes a while ".repeat(8)));
  const large = await client.files.create({ file: await toFile(Buffer.from(jsonl(many)), "m.jsonl"), purpose: "batch" });
  const begun = await client.batches.create({ input_file_id: large.id, endpoint, completion_window: "24h" });
  assert.ok(["cancelling", "cancelled"].includes((await client.batches.cancel(begun.id)).status));
  assert.equal((await poll(client, await client.batches.retrieve(begun.id))).status, "cancelled");
}

async function embeddings(client) {
  const text = "The river carries sand to the sea.";
  const packed = await client.embeddings.create({ model, input: text });
  const floats = await client.embeddings.create({ model, input: text, encoding_format: "float" });
  assert.equal(packed.data[0].embedding.length, 384);
  assert.deepEqual(Array.from(packed.data[0].embedding), floats.data[0].embedding.map(Math.fround));
  const several = await client.embeddings.create({ model, input: ["a cat", text], encoding_format: "float" });
  assert.deepEqual(several.data[1].embedding, floats.data[0].embedding);
  await refused(OpenAI.BadRequestError, () => client.embeddings.create({ model, input: text, dimensions: 64 }), "384");
  const error = await refused(OpenAI.NotFoundError, () => client.embeddings.create({ model: "gpt-x", input: text }), "gpt-x");
  assert.equal(error.code, "model_not_found");
}

async function models(client) {
  const ids = [];
  for await (const found of client.models.list()) ids.push(found.id);
  assert.ok(ids.includes(model));
  assert.equal((await client.models.retrieve(model)).id, model);
  await refused(OpenAI.NotFoundError, () => client.models.retrieve("gpt-x"), "gpt-x");
}

const client = new OpenAI();
const other = new OpenAI({ apiKey: process.env.CAII_OTHER_KEY });
const wrong = await refused(OpenAI.AuthenticationError, () => new OpenAI({ apiKey: "sk-wrong" }).models.list(), "Incorrect API key");
assert.equal(wrong.status, 401);
await models(client);
await embeddings(client);
if (!process.env.CAII_QUICK) {
  await files(client, other);
  await batches(client, other);
}
console.log(`openai ${version} for Node: all as expected`);
