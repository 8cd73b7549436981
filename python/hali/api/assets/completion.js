// A streamed reply of /v1/chat/completions, read as any client of that API does.

import { ApiError, post } from "./api.js";

// Yields `{content, thoughts, usage}` of each chunk; ApiError, also for an error in the middle; AbortError after `signal`.
export async function* completion(body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await post("/v1/chat/completions", asked, signal);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(200, chunk.error);
    const delta = chunk.choices?.[0]?.delta ?? {};
    yield { content: delta.content ?? "", thoughts: delta.reasoning_content ?? "", usage: chunk.usage ?? null };
  }
}

// The data of each server-sent event in a stream of bytes.
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n").filter((line) => line.startsWith("data:"));
      if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}
