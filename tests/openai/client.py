"""OpenAI's own Python client against a pool. Its address and key come from the client's own environment variables;
`CAII_OTHER_KEY` is another requester's key, `CAII_MODEL` a model of the pool, `CAII_QUICK` leaves the batches out."""

import base64
import io
import json
import os
import struct
import time

import openai
from openai import OpenAI

MODEL = os.environ["CAII_MODEL"]
URL = "/v1/embeddings"


def request(custom_id, text, model=MODEL, url=URL, **more):
    body = {"model": model, "input": text, **more}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def jsonl(requests):
    return "".join(json.dumps(line) + "\n" for line in requests).encode()


def refused(kind, call, *words):
    """The error that a call must end with."""
    try:
        call()
    except kind as error:
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"
        assert error.body["message"] and "type" in error.body and "code" in error.body, error.body
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def poll(client, batch, patience=120):
    end = time.monotonic() + patience
    while batch.status in ("validating", "in_progress", "finalizing", "cancelling"):
        assert time.monotonic() < end, batch
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    return batch


def files(client, other):
    content = jsonl([request("a", "some text")])
    made = client.files.create(file=("in.jsonl", content), purpose="batch")
    assert (made.object, made.bytes, made.filename, made.purpose) == ("file", len(content), "in.jsonl", "batch"), made
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == content
    second = client.files.create(file=io.BytesIO(content), purpose="user_data")
    ids = [file.id for file in client.files.list()]
    assert ids[:2] == [second.id, made.id], ids
    assert [file.id for file in client.files.list(purpose="batch", limit=1)][0] == made.id
    assert [file.id for file in client.files.list(limit=1, order="asc")] == sorted(ids, key=lambda id: int(id[5:]))

    for call in (other.files.retrieve, other.files.content, other.files.delete):
        refused(openai.NotFoundError, lambda call=call: call(made.id), made.id)
    assert other.files.list().data == []

    assert client.files.delete(made.id).deleted
    refused(openai.NotFoundError, lambda: client.files.retrieve(made.id), "No such File object")
    refused(openai.NotFoundError, lambda: client.files.retrieve("file-none"))
    refused(openai.BadRequestError, lambda: client.files.create(file=b"x", purpose="fine-tune"), "purpose")
    client.files.delete(second.id)


def batches(client, other):
    texts = [f"sentence number {n}" for n in range(20)]
    lines = [request(f"id {n}", text) for n, text in enumerate(texts)]
    lines.insert(7, request("too long", "word " * 400))
    source = client.files.create(file=("requests.jsonl", jsonl(lines)), purpose="batch")
    batch = client.batches.create(
        input_file_id=source.id, endpoint=URL, completion_window="24h", metadata={"run": "nightly"}
    )
    assert (batch.object, batch.endpoint, batch.input_file_id) == ("batch", URL, source.id), batch
    assert batch.status in ("validating", "in_progress", "finalizing", "completed"), batch
    assert batch.metadata == {"run": "nightly"} and batch.completion_window == "24h"
    refused(openai.NotFoundError, lambda: other.batches.retrieve(batch.id), batch.id)
    refused(openai.NotFoundError, lambda: other.batches.cancel(batch.id), batch.id)
    assert other.batches.list().data == []

    done = poll(client, batch)
    assert done.status == "completed", done
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (21, 20, 1), counts
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at, done
    output = [json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()]
    assert [line["custom_id"] for line in output] == [f"id {n}" for n in range(20)]
    for line in output:
        body = line["response"]["body"]
        assert line["response"]["status_code"] == 200 and line["error"] is None and line["response"]["request_id"]
        assert len(body["data"][0]["embedding"]) == 384 and body["object"] == "list"
    errors = [json.loads(line) for line in client.files.content(done.error_file_id).text.splitlines()]
    assert [line["custom_id"] for line in errors] == ["too long"]
    assert errors[0]["response"]["status_code"] == 400
    assert "tokens" in errors[0]["response"]["body"]["error"]["message"], errors
    assert client.files.retrieve(done.output_file_id).purpose == "batch_output"
    refused(openai.NotFoundError, lambda: other.files.content(done.output_file_id))
    # The same embedding as from a synchronous request.
    same = client.embeddings.create(model=MODEL, input=texts[3], encoding_format="float").data[0].embedding
    assert same == output[3]["response"]["body"]["data"][0]["embedding"]

    refused(openai.ConflictError, lambda: client.batches.cancel(batch.id), "completed")
    page = client.batches.list(limit=1)
    assert [found.id for found in page] == [batch.id] and page.data[0].status == "completed"


def failed_validation(client):
    bad = jsonl([request("a", "x"), request("a", "y"), request("b", "z", url="/v1/chat/completions")]) + b"{oops\n"
    source = client.files.create(file=("bad.jsonl", bad), purpose="batch")
    batch = poll(client, client.batches.create(input_file_id=source.id, endpoint=URL, completion_window="24h"))
    assert batch.status == "failed" and batch.failed_at, batch
    found = [(error.line, error.code) for error in batch.errors.data]
    assert found == [(2, "duplicate_custom_id"), (3, "mismatched_endpoint"), (4, "invalid_json_line")], batch.errors
    assert all(error.message for error in batch.errors.data) and batch.errors.object == "list"
    assert batch.output_file_id is None and batch.error_file_id is None

    create = client.batches.create
    bad_request, not_found = openai.BadRequestError, openai.NotFoundError
    refused(not_found, lambda: create(input_file_id="file-999999", endpoint=URL, completion_window="24h"), "file-999999")
    refused(bad_request, lambda: create(input_file_id=source.id, endpoint="/v1/responses", completion_window="24h"))
    refused(bad_request, lambda: create(input_file_id=source.id, endpoint=URL, completion_window="1h"), "24h")
    refused(not_found, lambda: client.batches.retrieve("batch_999999"), "batch_999999")
    refused(not_found, lambda: client.batches.cancel("nonsense"))
    unknown = client.files.create(file=("u.jsonl", jsonl([request("a", "x", model="gpt-x")])), purpose="batch")
    batch = poll(client, create(input_file_id=unknown.id, endpoint=URL, completion_window="24h"))
    assert batch.status == "failed" and batch.errors.data[0].code == "model_not_found", batch
    assert "gpt-x" in batch.errors.data[0].message


def cancelled(client):
    lines = [request(f"{n}", "a longer sentence, so that it takes a while " * 8) for n in range(2000)]
    source = client.files.create(file=("many.jsonl", jsonl(lines)), purpose="batch")
    batch = client.batches.create(input_file_id=source.id, endpoint=URL, completion_window="24h")
    while batch.status == "validating":
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "in_progress", batch
    batch = client.batches.cancel(batch.id)
    assert batch.status in ("cancelling", "cancelled") and batch.cancelling_at, batch
    batch = poll(client, batch)
    assert batch.status == "cancelled" and batch.cancelled_at, batch
    counts = batch.request_counts
    assert counts.total == 2000 and counts.completed < 2000, counts
    assert counts.completed + counts.failed == 2000, counts
    left = client.files.content(batch.error_file_id).text.splitlines()
    assert len(left) == counts.failed and json.loads(left[-1])["error"]["code"] == "batch_cancelled"


def embeddings(client):
    text = "The river carries sand to the sea."
    # The client asks for base64 by itself and decodes it.
    packed = client.embeddings.create(model=MODEL, input=text)
    floats = client.embeddings.create(model=MODEL, input=text, encoding_format="float")
    assert (packed.object, packed.model, packed.data[0].index) == ("list", MODEL, 0), packed
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 5
    narrow = [struct.unpack("<f", struct.pack("<f", value))[0] for value in floats.data[0].embedding]
    assert list(packed.data[0].embedding) == narrow and len(narrow) == 384
    raw = client.embeddings.create(model=MODEL, input=text, encoding_format="base64").data[0].embedding
    assert list(struct.unpack("<384f", base64.b64decode(raw))) == narrow

    several = client.embeddings.create(model=MODEL, input=["a cat", text, "a dog"], encoding_format="float")
    assert [entry.index for entry in several.data] == [0, 1, 2]
    assert several.data[1].embedding == floats.data[0].embedding, "an embedding does not depend on its neighbours"
    tokens = client.embeddings.create(model=MODEL, input=[1037, 4937], encoding_format="float")
    assert tokens.data[0].embedding == several.data[0].embedding, "`a cat` as tokens"

    create = client.embeddings.create
    error = refused(openai.BadRequestError, lambda: create(model=MODEL, input=text, dimensions=64), "384", "dimensions")
    assert error.param == "dimensions", error.body
    assert len(create(model=MODEL, input=text, dimensions=384).data[0].embedding) == 384
    refused(openai.BadRequestError, lambda: create(model=MODEL, input=""), "empty")
    refused(openai.BadRequestError, lambda: create(model=MODEL, input=[]))
    refused(openai.BadRequestError, lambda: create(model=MODEL, input="word " * 400), "tokens")
    refused(openai.BadRequestError, lambda: create(model=MODEL, input=["x"] * 65), "64", "batches")
    error = refused(openai.NotFoundError, lambda: create(model="gpt-x", input=text), "gpt-x")
    assert error.code == "model_not_found"


def models(client):
    assert MODEL in [model.id for model in client.models.list()]
    model = client.models.retrieve(MODEL)
    assert (model.id, model.object) == (MODEL, "model") and model.created > 0 and model.owned_by
    refused(openai.NotFoundError, lambda: client.models.retrieve("gpt-x"), "gpt-x")
    refused(openai.PermissionDeniedError, lambda: client.models.delete(MODEL), "admin key")


def main():
    client, other = OpenAI(), OpenAI(api_key=os.environ["CAII_OTHER_KEY"])
    stranger = OpenAI(api_key="sk-caii-wrong")
    error = refused(openai.AuthenticationError, lambda: stranger.models.list(), "Incorrect API key")
    assert error.status_code == 401 and error.code == "invalid_api_key", error.body
    models(client)
    embeddings(client)
    if "CAII_QUICK" not in os.environ:
        files(client, other)
        batches(client, other)
        failed_validation(client)
        cancelled(client)
    print(f"openai {openai.__version__} for Python: all as expected")


if __name__ == "__main__":
    main()
