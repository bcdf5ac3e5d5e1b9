// A client of this API: commands, queries, live streams. It keeps the token of whoever reads the page, for as
// long as the tab is open, and sends it with every request.

const ROOT = new URL('../', import.meta.url);
const TOKEN = 'headwater.token';
const ATTEMPTS = 4;
// A stream says something every 15 seconds; one that is silent for longer is lost.
const SILENCE_MS = 40_000;
const LONGEST_PAUSE_MS = 15_000;
// A browser has six connections to a host, for all its tabs together: a tab that nobody looks at gives its own back.
const HIDDEN_MS = 10_000;
// A list that is read to its end, in pages; what is longer is for a search.
const MOST_PAGES = 10;

/** Why something was refused, or did not get there. */
export class Problem extends Error {
  constructor({ status = 0, code = 'unreachable', detail = '', title = '', ...rest }) {
    super(detail || title || code);
    Object.assign(this, { status, code, detail, title, rest });
  }

  /** Whether the same request may succeed later. */
  get passes() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

const forToken = new Set();
export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? '',
  set(value) {
    if (value) sessionStorage.setItem(TOKEN, value);
    else sessionStorage.removeItem(TOKEN);
    for (const told of forToken) told();
  },
  /** Calls back when another token is used; returns how to stop that. */
  watch(told) {
    forToken.add(told);
    return () => forToken.delete(told);
  },
  /** What the token says of its bearer. The server checks it; a page only shows it. */
  claims() {
    try {
      const part = token.get().split('.')[1].replace(/-/g, '+').replace(/_/g, '/');
      return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (c) => c.charCodeAt(0))));
    } catch {
      return null;
    }
  },
};

/** An address below the API's root, wherever a proxy serves that. */
export const address = (path) => new URL(path.replace(/^\//, ''), ROOT);

/** An id that nobody else makes. */
export function newId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(10));
  return prefix + Array.from(bytes, (byte) => byte.toString(36).padStart(2, '0')).join('');
}

async function send(path, { headers = {}, ...options } = {}) {
  const bearer = token.get();
  if (bearer) headers = { ...headers, Authorization: `Bearer ${bearer}` };
  let response;
  try {
    response = await fetch(address(path), { ...options, headers, credentials: 'omit' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem({ detail: String(error.message ?? error) });
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const after = Number(response.headers.get('Retry-After'));
  throw new Problem({ ...body, status: response.status, after: after > 0 ? after * 1000 : undefined });
}

/** Whole numbers beyond those that a number of JavaScript holds stay as they were written, where the browser can. */
const exact = (_, value, context) => (typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? '') && JSON.rawJSON
  ? JSON.rawJSON(context.source) : value);
const parse = (text) => JSON.parse(text, exact);

/** Reads JSON. `since` is a position that the answer must be at least as new as. */
export async function read(path, { since, signal } = {}) {
  const headers = since ? { 'Headwater-Min-Position': since } : {};
  return parse(await (await send(path, { headers, signal })).text());
}

/** Reads a list to its end, or to a bound. */
export async function readAll(path, options) {
  const items = [];
  const join = path.includes('?') ? '&' : '?';
  let cursor = '';
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const at = cursor && `&cursor=${encodeURIComponent(cursor)}`;
    const answer = await read(`${path}${join}limit=200${at}`, options);
    items.push(...answer.items);
    if (!answer.next) return items;
    cursor = answer.next;
  }
  return items;
}

/** Sends a change, as JSON. */
export async function change(method, path, body, headers = {}) {
  const response = await send(path, {
    method,
    headers: { 'Content-Type': 'application/json', ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  return { answer: text ? parse(text) : null, response };
}

/**
 * Gives a command. What may pass by itself is tried again with the same key: it is carried out once, however
 * often it arrives. Returns the outcome and the position to read it at.
 */
export async function command(aggregate, id, name, body, key = newId('k-')) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const path = `commands/${aggregate}/${encodeURIComponent(id)}/${name}`;
      const { answer, response } = await change('POST', path, body, { 'Idempotency-Key': key });
      return { outcome: answer, position: response.headers.get('Headwater-Position') };
    } catch (problem) {
      if (!problem.passes || attempt === ATTEMPTS) throw problem;
      await pause(problem.rest?.after ?? 250 * 2 ** attempt);
    }
  }
}

const pause = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, Math.min(ms, LONGEST_PAUSE_MS));
  signal?.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
});

/**
 * Follows a live stream until the function that it returns is called. It comes again by itself, from where it
 * was. `on.state` hears 'live' and 'waiting', `on.problem` why nothing follows, and `on.<event>` its data.
 */
export function follow(path, on, { since } = {}) {
  const stop = new AbortController();
  const place = { last: '', retry: 1000, since };
  (async () => {
    let failed = 0;
    while (!stop.signal.aborted) {
      if (document.hidden) await shown(stop.signal);
      if (stop.signal.aborted) return;
      try {
        await streamOnce(path, on, place, stop.signal, () => { failed = 0; });
      } catch (problem) {
        if (stop.signal.aborted) return;
        if (document.hidden) continue;
        if (problem instanceof Problem) {
          on.problem?.(problem);
          if (!problem.passes && problem.code !== 'invalid_token') return;
        }
        failed += 1;
      }
      if (stop.signal.aborted) return;
      on.state?.('waiting');
      await pause(place.retry * 2 ** Math.min(failed, 4) * (0.5 + Math.random() / 2), stop.signal);
    }
  })();
  return () => stop.abort();
}

/** Waits until somebody looks at the page. */
const shown = (signal) => new Promise((resolve) => {
  const look = () => { if (!document.hidden || signal.aborted) { document.removeEventListener('visibilitychange', look); resolve(); } };
  document.addEventListener('visibilitychange', look);
  signal.addEventListener('abort', look, { once: true });
});

async function streamOnce(path, on, place, signal, began) {
  const ended = new AbortController();
  const end = () => ended.abort();
  signal.addEventListener('abort', end, { once: true });
  let watch = setTimeout(end, SILENCE_MS);
  let leave = 0;
  const look = () => {
    clearTimeout(leave);
    if (document.hidden) leave = setTimeout(end, HIDDEN_MS);
  };
  document.addEventListener('visibilitychange', look);
  try {
    const headers = { Accept: 'text/event-stream' };
    if (place.last) headers['Last-Event-ID'] = place.last;
    if (place.since) headers['Headwater-Min-Position'] = place.since;
    const response = await send(path, { headers, signal: ended.signal });
    began();
    on.state?.('live');
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watch);
      watch = setTimeout(end, SILENCE_MS);
      text += value;
      const frames = text.split('\n\n');
      text = frames.pop();
      for (const frame of frames) {
        if (signal.aborted) return;
        deliver(frame, on, place);
      }
    }
  } finally {
    clearTimeout(watch);
    clearTimeout(leave);
    document.removeEventListener('visibilitychange', look);
    signal.removeEventListener('abort', end);
  }
}

function deliver(frame, on, place) {
  let kind = 'message';
  let marked = false;
  const data = [];
  for (const line of frame.split('\n')) {
    const colon = line.indexOf(':');
    if (colon <= 0) continue;
    const field = line.slice(0, colon);
    const value = line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') kind = value;
    else if (field === 'data') data.push(value);
    else if (field === 'id') { place.last = value; marked = true; }
    else if (field === 'retry' && Number(value)) place.retry = Number(value);
  }
  if (!data.length) {
    // All that was there has been sent; the place to go on from stands alone.
    if (marked) on.mark?.();
    return;
  }
  const parsed = parse(data.join('\n'));
  if (kind === 'problem') throw new Problem(parsed);
  on[kind]?.(parsed, place.last);
}
