// What a client of Headwater needs beside the types of its description: command keys, positions, retries and
// live streams.
import createClient, { type Client, type Middleware } from "openapi-fetch";
import type { paths } from "./api.js";

/** The most times that a request is sent, and the longest pause between two of them, in milliseconds. */
const ATTEMPTS = 6;
const LONGEST_PAUSE = 5_000;

export type Headwater = Client<paths>;

/**
 * A client that reads what it has written: it gives each command a key, so that a retry has no effect twice, and
 * reads at the position of the last command of each aggregate.
 */
export function connect(baseUrl: string, token?: string): Headwater {
  const positions = new Map<string, string>();
  const own: Middleware = {
    onRequest({ request, schemaPath }) {
      if (token) request.headers.set("Authorization", `Bearer ${token}`);
      if (schemaPath.startsWith("/commands/") && !request.headers.has("Idempotency-Key")) {
        request.headers.set("Idempotency-Key", crypto.randomUUID());
      }
      // The server takes at most 32 positions; the latest ones matter most.
      const latest = [...positions].slice(-32).map(([aggregate, at]) => `${aggregate}@${at}`);
      if (schemaPath.startsWith("/views/") && latest.length > 0) {
        request.headers.set("Headwater-Min-Position", latest.join(", "));
      }
      return request;
    },
    onResponse({ response }) {
      const [aggregate, at] = response.headers.get("Headwater-Position")?.split("@") ?? [];
      if (aggregate && at) {
        positions.delete(aggregate);
        positions.set(aggregate, at);
      }
      return undefined;
    },
  };
  const client = createClient<paths>({ baseUrl, fetch: retrying });
  client.use(own);
  return client;
}

/** Sends a request again while it is not known what became of it: a command keeps its key, so that is safe. */
async function retrying(request: Request): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    const last = attempt === ATTEMPTS;
    let pause = 100 * 2 ** attempt;
    try {
      const response = await fetch(request.clone());
      if (last || ![429, 503, 504].includes(response.status)) return response;
      pause = Number(response.headers.get("Retry-After") ?? 0) * 1_000 || pause;
    } catch (error) {
      if (last) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(pause, LONGEST_PAUSE)));
  }
}

/** An event of a live stream. */
export interface Live {
  event: string;
  data: unknown;
}

/**
 * Follows a live stream, such as `/views/order/o-1/live`: what there is, then each change. It comes again where
 * it was when the connection breaks, and ends with `signal`.
 */
export async function* follow(url: string, signal: AbortSignal, token?: string): AsyncGenerator<Live> {
  let lastId: string | undefined;
  let pause = 1_000;
  while (!signal.aborted) {
    const headers = new Headers({ Accept: "text/event-stream" });
    if (token) headers.set("Authorization", `Bearer ${token}`);
    if (lastId) headers.set("Last-Event-ID", lastId);
    try {
      const response = await fetch(url, { headers, signal });
      if (!response.ok || !response.body) throw new Error(`${url}: ${response.status}`);
      for await (const { id, retry, ...live } of events(response.body)) {
        lastId = id ?? lastId;
        pause = retry ?? pause;
        if (live.data !== undefined) yield live;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof TypeError)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

interface Sent extends Live {
  id?: string;
  retry?: number;
}

/** Takes server-sent events apart. */
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<Sent> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of body) {
    text += decoder.decode(chunk, { stream: true });
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const sent: Sent = { event: "message", data: undefined };
      for (const line of text.slice(0, end).split("\n")) {
        const [, field, value = ""] = /^(\w+): ?(.*)$/.exec(line) ?? [];
        if (field === "id") sent.id = value;
        else if (field === "event") sent.event = value;
        else if (field === "data") sent.data = JSON.parse(value);
        else if (field === "retry") sent.retry = Number(value);
      }
      text = text.slice(end + 2);
      yield sent;
    }
  }
}
